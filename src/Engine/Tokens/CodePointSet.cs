namespace Tiller.Tokens;

/// <summary>
/// A set of code points. Surrogates have no meaning in it, because valid text has none.
/// </summary>
internal sealed class CodePointSet : IEquatable<CodePointSet>
{
    private const int End = 0x110000;

    // Ascending. The set begins at the values of even index and ends before those of odd index.
    private readonly int[] _edges;

    private CodePointSet(int[] edges)
    {
        _edges = edges;
    }

    /// <summary>No code point.</summary>
    public static CodePointSet Empty { get; } = new([]);

    /// <summary>Every code point.</summary>
    public static CodePointSet All { get; } = new([0, End]);

    /// <summary>Where membership changes, in ascending order: the first code point of a range, the one after its last, and so on.</summary>
    public ReadOnlySpan<int> Edges => _edges;

    /// <summary>The code points from <paramref name="first"/> to <paramref name="last"/>.</summary>
    public static CodePointSet Of(int first, int last) => new([first, last + 1]);

    /// <summary>Ranges in ascending order that neither overlap nor touch: the first of each and the one after its last.</summary>
    public static CodePointSet OfEdges(IEnumerable<int> edges) => new([.. edges]);

    /// <summary>Any code points, in any order.</summary>
    public static CodePointSet Of(IEnumerable<int> codes)
    {
        var edges = new List<int>();
        foreach (int code in codes.Distinct().Order())
        {
            if (edges.Count > 0 && edges[^1] == code)
            {
                edges[^1] = code + 1;
            }
            else
            {
                edges.AddRange([code, code + 1]);
            }
        }

        return OfEdges(edges);
    }

    public static CodePointSet operator |(CodePointSet a, CodePointSet b) => Combined(a, b, either: true);

    public static CodePointSet operator &(CodePointSet a, CodePointSet b) => Combined(a, b, either: false);

    public static CodePointSet operator ~(CodePointSet a) =>
        a._edges is [0, ..] ? Ended(a._edges.AsSpan(1)) : Ended([0, .. a._edges]);

    public bool Contains(int code)
    {
        int at = Array.BinarySearch(_edges, code);
        return ((at >= 0 ? at : ~at - 1) & 1) == 0;
    }

    public bool Equals(CodePointSet? other) => other is not null && _edges.AsSpan().SequenceEqual(other._edges);

    public override bool Equals(object? obj) => Equals(obj as CodePointSet);

    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.Add(_edges.Length);
        foreach (int edge in _edges.AsSpan(0, Math.Min(_edges.Length, 16)))
        {
            hash.Add(edge);
        }

        return hash.ToHashCode();
    }

    // A complement ends with the last code point where the set does not.
    private static CodePointSet Ended(ReadOnlySpan<int> edges) => new(edges is [.., End] ? edges[..^1].ToArray() : [.. edges, End]);

    private static CodePointSet Combined(CodePointSet a, CodePointSet b, bool either)
    {
        var edges = new List<int>(a._edges.Length + b._edges.Length);
        int i = 0;
        int j = 0;
        bool inside = false;
        while (i < a._edges.Length || j < b._edges.Length)
        {
            int next = Math.Min(i < a._edges.Length ? a._edges[i] : int.MaxValue, j < b._edges.Length ? b._edges[j] : int.MaxValue);
            i += i < a._edges.Length && a._edges[i] == next ? 1 : 0;
            j += j < b._edges.Length && b._edges[j] == next ? 1 : 0;
            bool inA = (i & 1) == 1;
            bool inB = (j & 1) == 1;
            if ((either ? inA || inB : inA && inB) != inside)
            {
                inside = !inside;
                edges.Add(next);
            }
        }

        return OfEdges(edges);
    }
}
