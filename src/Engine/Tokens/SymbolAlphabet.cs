using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// The smallest alphabet in which the sets of an expression can be told apart: code points that are in the same sets have the same symbol. An
/// expression over symbols needs no knowledge of Unicode, and a symbol is one UTF-16 unit for code points beyond U+FFFF too.
/// </summary>
internal sealed class SymbolAlphabet
{
    private const int PageBits = 8;
    private const int PageSize = 1 << PageBits;

    private readonly ushort[] _pages = new ushort[0x110000 >> PageBits]; // index of a page in _symbols
    private readonly char[] _symbols; // different pages, one after another
    private readonly string[] _classes; // of the sets

    /// <summary>Divides all code points by sets.</summary>
    public SymbolAlphabet(IReadOnlyList<CodePointSet> sets)
    {
        int[] starts = [.. sets.SelectMany(static x => x.Edges.ToArray()).Append(0).Where(static x => x <= 0x10FFFF).Distinct().Order()];
        int[] parts = new int[starts.Length]; // the part of each stretch of code points
        int count = 1;
        var outside = new HashSet<int>();
        var split = new Dictionary<int, int>();
        foreach (CodePointSet set in sets)
        {
            // A part that is partly in the set becomes two, and the one in the set gets another number.
            bool[] inside = Members(set, starts);
            outside.Clear();
            split.Clear();
            outside.UnionWith(parts.Where((_, i) => !inside[i]));
            for (int i = 0; i < starts.Length; i++)
            {
                if (inside[i] && outside.Contains(parts[i]))
                {
                    if (!split.TryGetValue(parts[i], out int part))
                    {
                        split[parts[i]] = part = count++;
                    }

                    parts[i] = part;
                }
            }
        }

        _symbols = Fill(starts, parts);
        _classes = [.. sets.Select(x => Class(x, starts, parts))];
    }

    /// <summary>The class of the symbols of a set, in .NET's syntax.</summary>
    public string Class(int set) => _classes[set];

    /// <summary>The symbol of a code point.</summary>
    public char Symbol(int code) => _symbols[(_pages[code >> PageBits] << PageBits) + (code & (PageSize - 1))];

    private char[] Fill(int[] starts, int[] parts)
    {
        var symbols = new List<char>();
        var known = new Dictionary<string, ushort>(StringComparer.Ordinal);
        Span<char> page = stackalloc char[PageSize];
        int at = 0;
        for (int i = 0; i < _pages.Length; i++)
        {
            for (int j = 0; j < PageSize; j++)
            {
                int code = (i << PageBits) + j;
                at += at + 1 < starts.Length && starts[at + 1] == code ? 1 : 0;
                page[j] = (char)parts[at];
            }

            string text = page.ToString();
            if (!known.TryGetValue(text, out _pages[i]))
            {
                known[text] = _pages[i] = (ushort)(symbols.Count >> PageBits);
                symbols.AddRange(page);
            }
        }

        return [.. symbols];
    }

    // Which stretches of code points a set has.
    private static bool[] Members(CodePointSet set, int[] starts)
    {
        var members = new bool[starts.Length];
        int passed = 0;
        for (int i = 0; i < starts.Length; i++)
        {
            while (passed < set.Edges.Length && set.Edges[passed] <= starts[i])
            {
                passed++;
            }

            members[i] = (passed & 1) == 1;
        }

        return members;
    }

    private static string Class(CodePointSet set, int[] starts, int[] parts)
    {
        bool[] members = Members(set, starts);
        int[] inside = [.. parts.Where((_, i) => members[i]).Distinct().Order()];
        switch (inside.Length)
        {
            case 0:
                return "(?!)";
            case 1:
                return Escaped(inside[0]);
        }

        var text = new StringBuilder("[");
        for (int i = 0; i < inside.Length;)
        {
            int last = i;
            while (last + 1 < inside.Length && inside[last + 1] == inside[last] + 1)
            {
                last++;
            }

            text.Append(Escaped(inside[i])).Append(last > i ? $"-{Escaped(inside[last])}" : "");
            i = last + 1;
        }

        return text.Append(']').ToString();
    }

    private static string Escaped(int symbol) => $"\\u{symbol:X4}";
}
