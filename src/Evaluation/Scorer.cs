namespace Tiller.Evaluation;

/// <summary>Scores the texts of a task. A scorer of a program's own derives from this, or from <see cref="TextScorer"/>.</summary>
public abstract class Scorer
{
    /// <summary>What results call it; no two scorers of a task have the same.</summary>
    public abstract string Name { get; }

    /// <summary>Everything that its score depends on but the texts: two with the same give the same. Default the name.</summary>
    public virtual string Identity => Name;

    /// <summary>Scores the texts.</summary>
    /// <param name="texts">At least one.</param>
    /// <param name="cancellationToken">Checked between texts.</param>
    public abstract Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken);
}

/// <summary>Scores texts one by one; the score of all is their mean.</summary>
public abstract class TextScorer : Scorer
{
    /// <summary>The score of a text; 0 for one that says nothing of what is scored.</summary>
    public abstract double Of(EvaluatedText text);

    /// <inheritdoc/>
    public sealed override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        return Score.OfQuotient(Name, [.. texts.Texts.Select(text => (Of(text), 1.0))]);
    }
}
