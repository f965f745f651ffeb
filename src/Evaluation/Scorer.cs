namespace Tiller.Evaluation;

/// <summary>Scores the texts of a task. A program's own scorer derives from this class or from <see cref="TextScorer"/>.</summary>
public abstract class Scorer
{
    /// <summary>The scorer's name in results. Every scorer of a task has a different name.</summary>
    public abstract string Name { get; }

    /// <summary>Everything that the score depends on, except the texts: scorers of equal identity give equal scores. Default: the name.</summary>
    public virtual string Identity => Name;

    /// <summary>Scores the texts.</summary>
    /// <param name="texts">At least one text.</param>
    /// <param name="cancellationToken">Checked between texts.</param>
    public abstract Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken);

    /// <summary>The scorer for a task whose prompts ask for the behaviour in words; another one only if it asks something itself.</summary>
    internal virtual Scorer AskedFor(string words) => this;
}

/// <summary>Scores each text by itself. The score of all texts is their mean.</summary>
public abstract class TextScorer : Scorer
{
    /// <summary>The score of one text; 0 for a text that has nothing to score.</summary>
    public abstract double Of(EvaluatedText text);

    /// <inheritdoc/>
    public sealed override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        return Score.OfQuotient(Name, [.. texts.Texts.Select(text => (Of(text), 1.0))]);
    }
}
