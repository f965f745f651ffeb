using System.Globalization;

namespace Tiller.Features;

/// <summary>An item of a data set: fields that are found by name, ignoring case.</summary>
internal abstract class DataRecord
{
    /// <summary>The text of a field; null if there is no text of this name.</summary>
    public abstract string? Text(string name);

    /// <summary>The text of a field, or a number or Boolean as it is written; null if there is none of this name.</summary>
    public abstract string? Scalar(string name);

    /// <summary>The answers of a field in their order, each with whether it is true; null if there are none of this name.</summary>
    public virtual IReadOnlyList<(string Answer, bool IsTrue)>? Targets(string name) => null;

    /// <summary>The choices of a question: a list "choices", or choice0, choice1 and so on, or A, B and so on.</summary>
    public virtual IReadOnlyList<string> Choices => Numbered(static i => $"choice{i}") is { Count: > 0 } numbered
        ? numbered
        : Numbered(static i => $"{(char)('A' + i)}");

    private List<string> Numbered(Func<int, string> nameOf)
    {
        var choices = new List<string>();
        while (choices.Count < PromptRecipe.MostChoices && Text(nameOf(choices.Count)) is { } choice)
        {
            choices.Add(choice);
        }

        return choices;
    }
}

/// <summary>Turns an item of a data set into a prompt, or into the two sides of a contrast (docs/data.md).</summary>
internal static class PromptRecipe
{
    /// <summary>Maximum number of choices: each has a letter.</summary>
    public const int MostChoices = 26;

    /// <summary>The items that <see cref="Choice"/> knows, for messages.</summary>
    public const string Choosable = "question with answer_matching_behavior and answer_not_matching_behavior; prompt with correct and incorrect; "
        + "question with the targets asked for (or Best Answer, Correct Answers and Incorrect Answers); question with choices (or choice0, choice1 "
        + "…; A, B …) and answer";

    /// <summary>The items that <see cref="Sides"/> knows, for messages.</summary>
    public const string Pairs = "question with answer_matching_behavior and answer_not_matching_behavior; prompt with correct and incorrect; "
        + "question with mc1_targets or mc0_targets; question with choices (or choice0, choice1 …) and answer; positive with negative; "
        + "statement with label";

    // Names of prompts; the first one that an item has is used.
    private static readonly string[] s_prompts =
    [
        "prompt", "text", "question", "instruction", "goal", "forbidden_prompt", "behavior", "statement", "sentence", "input", "query", "concept",
        "examples",
    ];

    private static readonly string[] s_sides = ["answer_matching_behavior", "positive", "negative", "correct", "incorrect"];

    /// <summary>Whether a field of a prompt or of a contrast has this name.</summary>
    public static bool IsUsual(string name) => s_prompts.Concat(s_sides).Contains(name, StringComparer.OrdinalIgnoreCase);

    /// <summary>The prompt of an item; null if the item has no field with a usual name.</summary>
    public static string? Text(DataRecord item)
    {
        foreach (string name in s_prompts)
        {
            if (item.Text(name) is { } text)
            {
                return name switch
                {
                    // The input follows the instruction (Self-Instruct, Alpaca).
                    "instruction" => Joined(text, "\n\n", item.Text("input") ?? item.Text("instances.0.input")),

                    // The context precedes the behaviour (HarmBench's own code).
                    "behavior" when item.Text("ContextString") is { Length: > 0 } context => Joined(context, "\n\n---\n\n", text),
                    _ => text,
                };
            }
        }

        return null;
    }

    /// <summary>The texts that an item adds to the two sides of a contrast.</summary>
    /// <returns>A text for each side or for one side; null if the item is of no known kind.</returns>
    public static (string? Positive, string? Negative)? Sides(DataRecord item)
    {
        if (item.Text("positive") is { } positive && item.Text("negative") is { } negative)
        {
            return (positive, negative);
        }

        if (item.Text("question") is { } question)
        {
            if (item.Text("answer_matching_behavior") is { } matching && item.Text("answer_not_matching_behavior") is { } other)
            {
                return (Answered(question, matching), Answered(question, other));
            }

            if ((item.Targets("mc1_targets") ?? item.Targets("mc0_targets")) is { } targets
                && First(targets, isTrue: true) is { } truth && First(targets, isTrue: false) is { } error)
            {
                return ($"Q: {question}\nA: {truth}", $"Q: {question}\nA: {error}");
            }

            if (Lettered(item, question) is var (asked, choices, right))
            {
                return (asked + " " + Letter(right), asked + " " + Letter((right + 1) % choices));
            }
        }

        if (item.Text("prompt") is { } prompt && item.Text("correct") is { } correct && item.Text("incorrect") is { } incorrect)
        {
            return (Answered(prompt, correct), Answered(prompt, incorrect));
        }

        // "examples" is what the claims of geometry-of-truth are called; a claim that is neither true nor false is on no side.
        return (item.Text("statement") ?? item.Text("examples")) is { } statement ? item.Scalar("label") switch
        {
            "1" or "1.0" or "true" or "True" => (statement, null),
            "0" or "0.0" or "false" or "False" => (null, statement),
            "Neither" => (null, null),
            _ => null,
        }
        : null;
    }

    /// <summary>What an item asks, with the answers that there are.</summary>
    /// <param name="item">The item.</param>
    /// <param name="targets">Which answers, of an item that has several lists: mc0_targets, mc1_targets or mc2_targets.</param>
    /// <param name="form">How a question without a form of its own is asked, with {question} in it.</param>
    /// <returns>Null if the item is of no known kind, or has no right or no wrong answer.</returns>
    public static ChoiceQuestion? Choice(DataRecord item, string targets, string form)
    {
        if (item.Text("question") is { } question)
        {
            if (item.Text("answer_matching_behavior") is { } matching && item.Text("answer_not_matching_behavior") is { } other)
            {
                return Two(question, matching, other);
            }

            if (item.Targets(targets)?.Where(static x => !string.IsNullOrWhiteSpace(x.Answer)).ToArray() is { } all)
            {
                return all.Any(static x => x.IsTrue) && all.Any(static x => !x.IsTrue)
                    ? new ChoiceQuestion(
                        form.Replace("{question}", question, StringComparison.Ordinal),
                        [.. all.Select(static x => new ChoiceAnswer(Spaced(x.Answer), x.IsTrue))])
                    : null;
            }

            if (Lettered(item, question) is var (asked, choices, right))
            {
                return new ChoiceQuestion(
                    asked, [.. Enumerable.Range(0, choices).Select(i => new ChoiceAnswer(" " + Letter(i), i == right))]);
            }
        }

        return item.Text("prompt") is { } prompt && item.Text("correct") is { } correct && item.Text("incorrect") is { } incorrect
            ? Two(prompt, correct, incorrect)
            : null;
    }

    private static ChoiceQuestion Two(string question, string right, string wrong) => new(
        $"{question}\n\nAnswer:", [new ChoiceAnswer(WithoutBracket(Spaced(right)), true), new ChoiceAnswer(WithoutBracket(Spaced(wrong)), false)]);

    // MMLU's form: the question, a lettered line for each choice, and where the letter goes.
    private static (string Asked, int Choices, int Right)? Lettered(DataRecord item, string question) =>
        item.Choices is { Count: > 1 and <= MostChoices } choices && Index(item.Scalar("answer"), choices.Count) is { } right
            ? ($"{question}\n{string.Join('\n', choices.Select(static (x, i) => $"{Letter(i)}. {x}"))}\nAnswer:", choices.Count, right)
            : null;

    private static string? First(IReadOnlyList<(string Answer, bool IsTrue)> targets, bool isTrue) =>
        targets.Where(x => x.IsTrue == isTrue).Select(static x => x.Answer).FirstOrDefault();

    private static char Letter(int index) => (char)('A' + index);

    // A letter, or an index counted from 0.
    private static int? Index(string? answer, int count)
    {
        answer = answer?.Trim();
        int index = answer is [>= 'A' and <= 'Z'] ? answer[0] - 'A' : int.TryParse(answer, NumberStyles.None, null, out int number) ? number : -1;
        return index >= 0 && index < count ? index : null;
    }

    private static string Answered(string question, string answer) => $"{question}\n\nAnswer:{WithoutBracket(Spaced(answer))}";

    private static string Spaced(string answer) => answer.StartsWith(' ') ? answer : " " + answer;

    // The feature is measured at the last token. Of "(A)", this must be the letter, so the closing bracket is left out.
    private static string WithoutBracket(string answer) => answer.EndsWith(')') ? answer[..^1] : answer;

    private static string Joined(string first, string between, string? second) => string.IsNullOrEmpty(second) ? first : first + between + second;
}
