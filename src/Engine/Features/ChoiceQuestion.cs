namespace Tiller.Features;

/// <summary>An answer to choose.</summary>
/// <param name="Text">The answer as it follows the question, with the space before it.</param>
/// <param name="IsTrue">Whether it is right.</param>
public sealed record ChoiceAnswer(string Text, bool IsTrue);

/// <summary>Which of the lists of answers that an item has (TruthfulQA) is read.</summary>
public enum ChoiceTargets
{
    /// <summary>The best answer and the best wrong one ("mc0").</summary>
    Pair,

    /// <summary>One right answer and all wrong ones ("mc1").</summary>
    One,

    /// <summary>All right answers and all wrong ones ("mc2").</summary>
    All,
}

/// <summary>A question of multiple choice.</summary>
/// <param name="Text">The question as the model reads it, up to where the answer goes, without a space at its end.</param>
/// <param name="Answers">At least one that is right and one that is wrong.</param>
public sealed record ChoiceQuestion(string Text, IReadOnlyList<ChoiceAnswer> Answers)
{
    /// <summary>How a question that has no form of its own is asked (TruthfulQA's own code).</summary>
    public const string StandardForm = "Q: {question}\nA:";

    /// <summary>
    /// Reads questions as they are published: TruthfulQA, MMLU with and without a header, behaviours with two answers, questions with a right and
    /// a wrong answer (docs/data.md).
    /// </summary>
    /// <param name="path">A table (.csv, .tsv, .parquet) or JSON (.json, .jsonl).</param>
    /// <param name="targets">Which answers, where an item has several lists of them.</param>
    /// <param name="form">How a question that has no form of its own is asked, with {question} in it.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>At least one question.</returns>
    /// <exception cref="PromptFileException">
    /// The file is missing or malformed, holds no item, or an item has no right and wrong answers.
    /// </exception>
    public static IReadOnlyList<ChoiceQuestion> Read(
        string path, ChoiceTargets targets = ChoiceTargets.One, string form = StandardForm, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(form);
        string list = targets switch
        {
            ChoiceTargets.Pair => "mc0_targets",
            ChoiceTargets.All => "mc2_targets",
            _ => "mc1_targets",
        };
        var questions = new List<ChoiceQuestion>();
        PromptFile.ReadRecords(
            path, PromptFile.ReadBytes(path, cancellationToken), "questions of multiple choice",
            (record, fail, got) => questions.Add(PromptRecipe.Choice(record, list, form)
                ?? throw fail($"expected a question with right and wrong answers: {PromptRecipe.Choosable}; got {got}.")),
            cancellationToken);
        return questions.Count > 0
            ? questions
            : throw new PromptFileException(path, 0, "a file of questions must hold at least one, but this one is empty.");
    }
}
