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
    private const int End = 0x110000;

    // Bounds the time of the division: stretches of code points, counted in every set that has them.
    private const int MaxStretches = 1 << 20;

    private readonly ushort[] _pages; // index of a page in _symbols
    private readonly char[] _symbols; // different pages, one after another
    private readonly string[] _classes; // of the sets

    private SymbolAlphabet(ushort[] pages, char[] symbols, string[] classes)
    {
        _pages = pages;
        _symbols = symbols;
        _classes = classes;
    }

    /// <summary>Divides all code points by sets.</summary>
    /// <returns>Null if there are too many sets of too many ranges.</returns>
    public static SymbolAlphabet? Of(IReadOnlyList<CodePointSet> sets)
    {
        if (sets.Sum(static x => (long)x.Edges.Length) > MaxStretches)
        {
            return null;
        }

        // A stretch is what lies between two neighbouring edges of any sets: it is in a set or outside it as a whole.
        int[] starts = [.. sets.SelectMany(static x => x.Edges.ToArray()).Concat([0, End]).Distinct().Order()];
        var division = new Division(starts);
        long stretches = 0;
        foreach (CodePointSet set in sets)
        {
            stretches += division.CountOf(set);
            if (stretches > MaxStretches)
            {
                return null;
            }

            division.Split(set);
        }

        if (division.Count > char.MaxValue)
        {
            return null;
        }

        (ushort[] pages, char[] symbols) = Fill(starts, division.Parts);
        return new SymbolAlphabet(pages, symbols, [.. sets.Select(x => Class(division.PartsOf(x)))]);
    }

    /// <summary>The class of the symbols of a set, in .NET's syntax.</summary>
    public string Class(int set) => _classes[set];

    /// <summary>The symbol of a code point.</summary>
    public char Symbol(int code) => _symbols[(_pages[code >> PageBits] << PageBits) + (code & (PageSize - 1))];

    private static (ushort[] Pages, char[] Symbols) Fill(int[] starts, ReadOnlySpan<int> parts)
    {
        var pages = new ushort[End >> PageBits];
        var symbols = new List<char>();
        var known = new Dictionary<string, ushort>(StringComparer.Ordinal);
        var whole = new Dictionary<int, ushort>(); // pages within one part
        Span<char> page = stackalloc char[PageSize];
        int at = 0;
        for (int i = 0; i < pages.Length; i++)
        {
            int begin = i << PageBits, end = begin + PageSize;
            at += starts[at + 1] == begin ? 1 : 0;
            int first = at;
            if (starts[at + 1] >= end && whole.TryGetValue(parts[at], out pages[i]))
            {
                continue;
            }

            for (int code = begin; code < end; code = Math.Min(end, starts[at + 1]))
            {
                at += starts[at + 1] == code ? 1 : 0;
                page[(code - begin)..(Math.Min(end, starts[at + 1]) - begin)].Fill((char)parts[at]);
            }

            string text = page.ToString();
            if (!known.TryGetValue(text, out pages[i]))
            {
                known[text] = pages[i] = (ushort)(symbols.Count >> PageBits);
                symbols.AddRange(page);
            }

            if (first == at)
            {
                whole[parts[at]] = pages[i];
            }
        }

        return (pages, [.. symbols]);
    }

    private static string Class(int[] inside)
    {
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

    // The stretches between `starts` in parts: those of a part are in the same sets. A set costs as much as it has stretches.
    private sealed class Division
    {
        private readonly int[] _starts;
        private readonly int[] _parts; // of the stretches
        private readonly int[] _sizes; // stretches in each part
        private readonly int[] _inside; // of each part, the stretches in the set at hand; 0 between sets
        private readonly int[] _names; // of each part, the new number of its stretches in the set at hand
        private readonly List<int> _touched = []; // parts of the set at hand

        public Division(int[] starts)
        {
            int stretches = starts.Length - 1;
            _starts = starts;
            (_parts, _sizes, _inside, _names) = (new int[stretches], new int[stretches], new int[stretches], new int[stretches]);
            (_sizes[0], Count) = (stretches, 1);
        }

        /// <summary>Number of parts.</summary>
        public int Count { get; private set; }

        /// <summary>The part of each stretch.</summary>
        public ReadOnlySpan<int> Parts => _parts;

        /// <summary>Number of a set's stretches.</summary>
        public int CountOf(CodePointSet set)
        {
            int count = 0;
            for (int i = 0; i < set.Edges.Length; i += 2)
            {
                Range range = RangeOf(set, i);
                count += range.End.Value - range.Start.Value;
            }

            return count;
        }

        /// <summary>A part that is partly in the set becomes two, and the one in the set gets another number.</summary>
        public void Split(CodePointSet set)
        {
            Touch(set);
            foreach (int part in _touched)
            {
                _names[part] = part;
                if (_inside[part] < _sizes[part])
                {
                    _names[part] = Count++;
                    _sizes[_names[part]] = _inside[part];
                    _sizes[part] -= _inside[part];
                }
            }

            for (int i = 0; i < set.Edges.Length; i += 2)
            {
                foreach (ref int part in _parts.AsSpan(RangeOf(set, i)))
                {
                    part = _names[part];
                }
            }

            Forget();
        }

        /// <summary>The parts of one of the sets that were split by, in ascending order.</summary>
        public int[] PartsOf(CodePointSet set)
        {
            Touch(set);
            int[] parts = [.. _touched.Order()];
            Forget();
            return parts;
        }

        private void Touch(CodePointSet set)
        {
            for (int i = 0; i < set.Edges.Length; i += 2)
            {
                foreach (int part in _parts.AsSpan(RangeOf(set, i)))
                {
                    if (_inside[part]++ == 0)
                    {
                        _touched.Add(part);
                    }
                }
            }
        }

        private void Forget()
        {
            foreach (int part in _touched)
            {
                _inside[part] = 0;
            }

            _touched.Clear();
        }

        // The stretches of a set from an edge where it begins to the next, where it ends.
        private Range RangeOf(CodePointSet set, int edge) =>
            Array.BinarySearch(_starts, set.Edges[edge])..Array.BinarySearch(_starts, set.Edges[edge + 1]);
    }
}
