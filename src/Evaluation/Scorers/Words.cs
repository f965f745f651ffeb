namespace Tiller.Evaluation.Scorers;

/// <summary>The words of a text, which are runs of letters and straight apostrophes, in lower case.</summary>
internal static class Words
{
    /// <summary>The words of a text, in order.</summary>
    public static List<string> Of(string text)
    {
        var words = new List<string>();
        string lower = text.ToLowerInvariant();
        for (int begin = 0; begin < lower.Length;)
        {
            int end = begin;
            while (end < lower.Length && (char.IsLetter(lower[end]) || lower[end] == '\''))
            {
                end++;
            }

            if (end > begin)
            {
                words.Add(lower[begin..end]);
            }

            begin = end + 1;
        }

        return words;
    }

    /// <summary>The number of words that are in a lexicon.</summary>
    public static int Count(List<string> words, IReadOnlySet<string> lexicon) => words.Count(lexicon.Contains);

    /// <summary>Makes a lexicon, in lower case.</summary>
    public static HashSet<string> Lexicon(IEnumerable<string> words) =>
        words.Select(static x => x.ToLowerInvariant()).ToHashSet(StringComparer.Ordinal);
}
