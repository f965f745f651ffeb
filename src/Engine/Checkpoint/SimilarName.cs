namespace Tiller.Checkpoint;

/// <summary>Finds the name that a misspelt name probably means, for messages.</summary>
internal static class SimilarName
{
    private const int MaxNames = 20_000;
    private const int LongestName = 256;

    /// <summary>" Did you mean …?", or an empty string if no name is similar.</summary>
    public static string Hint(string wanted, IEnumerable<string> names)
        => Nearest(wanted, names) is { } nearest ? $" Did you mean {Quoted.Text(nearest)}?" : "";

    /// <summary>The name with the smallest edit distance, if that is at most a third of the length (at least 1); otherwise null.</summary>
    public static string? Nearest(string wanted, IEnumerable<string> names)
    {
        if (wanted.Length > LongestName)
        {
            return null;
        }

        string? nearest = null;
        int best = Math.Max(1, wanted.Length / 3) + 1;
        foreach (string name in names.Take(MaxNames))
        {
            if (name.Length > LongestName || Math.Abs(name.Length - wanted.Length) >= best)
            {
                continue;
            }

            int distance = Distance(wanted, name);
            if (distance < best)
            {
                best = distance;
                nearest = name;
            }
        }

        return nearest;
    }

    // Levenshtein: d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i ≠ b_j]), one row at a time.
    private static int Distance(string a, string b)
    {
        Span<int> row = stackalloc int[LongestName + 1];
        for (int j = 0; j <= b.Length; j++)
        {
            row[j] = j;
        }

        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int substitution = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(substitution, Math.Min(row[j], row[j - 1]) + 1);
            }
        }

        return row[b.Length];
    }
}
