namespace Tiller.Evaluation.Scorers;

/// <summary>Of the words of a text that belong to either of two lexicons, the fraction that belongs to the first; 0 if there are none.</summary>
/// <param name="name">The name in results.</param>
/// <param name="words">The first lexicon. Case does not matter.</param>
/// <param name="among">The second lexicon; null for all words of the text.</param>
public sealed class LexiconScorer(string name, IEnumerable<string> words, IEnumerable<string>? among = null) : TextScorer
{
    private readonly HashSet<string> _words = Words.Lexicon(words);
    private readonly HashSet<string>? _among = among is null ? null : Words.Lexicon(among);

    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override string Identity => $"{name} lexicon {string.Join(',', _words)} / {string.Join(',', _among ?? [])}";

    /// <inheritdoc/>
    public override double Of(EvaluatedText text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var all = Words.Of(text.Text);
        int own = Words.Count(all, _words);
        int most = _among is null ? all.Count : all.Count(word => _words.Contains(word) || _among.Contains(word));
        return most == 0 ? 0 : (double)own / most;
    }

    internal static LexiconScorer Read(string name, TaskNode node)
    {
        node.CheckKeys("words", "among");
        return new LexiconScorer(name, node["words"].Texts(), node.Find("among")?.Texts());
    }
}

/// <summary>(a − b) / (a + b), where a and b count a text's words from two lexicons; from −1 to 1, and 0 if there are none.</summary>
/// <param name="name">The name in results.</param>
/// <param name="positive">The lexicon of a. Case does not matter.</param>
/// <param name="negative">The lexicon of b.</param>
public sealed class PolarityScorer(string name, IEnumerable<string> positive, IEnumerable<string> negative) : TextScorer
{
    private readonly HashSet<string> _positive = Words.Lexicon(positive);
    private readonly HashSet<string> _negative = Words.Lexicon(negative);

    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override string Identity => $"{name} polarity {string.Join(',', _positive)} / {string.Join(',', _negative)}";

    /// <inheritdoc/>
    public override double Of(EvaluatedText text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var all = Words.Of(text.Text);
        int a = Words.Count(all, _positive), b = Words.Count(all, _negative);
        return a + b == 0 ? 0 : (double)(a - b) / (a + b);
    }

    internal static PolarityScorer Read(string name, TaskNode node)
    {
        node.CheckKeys("positive", "negative");
        return new PolarityScorer(name, node["positive"].Texts(), node["negative"].Texts());
    }
}
