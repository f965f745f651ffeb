using System.Globalization;

namespace Tiller.Law;

/// <summary>Blocks a..b, both included.</summary>
/// <param name="First">First block.</param>
/// <param name="Last">Last block.</param>
public readonly record struct LayerRange(int First, int Last)
{
    /// <summary>Whether block <paramref name="k"/> is in the range.</summary>
    public bool Contains(int k) => k >= First && k <= Last;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{First}-{Last}");
}

/// <summary>A non-empty set of blocks: ranges in ascending order that neither overlap nor touch. Written as 1-3,8-9.</summary>
public sealed class LayerSet : IEquatable<LayerSet>
{
    private readonly LayerRange[] _ranges;

    /// <summary>Makes the set of one range.</summary>
    /// <param name="first">First block, at least 0.</param>
    /// <param name="last">Last block, at least <paramref name="first"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">The range is reversed or begins below 0.</exception>
    public LayerSet(int first, int last)
        : this([new LayerRange(first, last)])
    {
    }

    /// <summary>Makes the set of several ranges in any order; ranges that overlap or touch are merged.</summary>
    /// <param name="ranges">The ranges, at least one.</param>
    /// <exception cref="ArgumentOutOfRangeException">A range is reversed or begins below 0, or there are none.</exception>
    public LayerSet(params IReadOnlyList<LayerRange> ranges)
    {
        ArgumentNullException.ThrowIfNull(ranges);
        if (ranges.Count == 0 || ranges.Any(range => range.First < 0 || range.First > range.Last))
        {
            throw new ArgumentOutOfRangeException(
                nameof(ranges), string.Join(',', ranges), "Layers need at least one range a-b, with 0 ≤ a ≤ b.");
        }

        var merged = new List<LayerRange>();
        foreach (var range in ranges.OrderBy(range => range.First))
        {
            if (merged.Count > 0 && range.First <= (long)merged[^1].Last + 1)
            {
                merged[^1] = merged[^1] with { Last = Math.Max(merged[^1].Last, range.Last) };
            }
            else
            {
                merged.Add(range);
            }
        }

        _ranges = [.. merged];
    }

    /// <summary>The ranges, in ascending order, with at least one block between them.</summary>
    public IReadOnlyList<LayerRange> Ranges => _ranges;

    /// <summary>The first block.</summary>
    public int First => _ranges[0].First;

    /// <summary>The last block.</summary>
    public int Last => _ranges[^1].Last;

    /// <summary>Number of blocks.</summary>
    public int Count => _ranges.Sum(range => range.Last - range.First + 1);

    /// <summary>The blocks, in ascending order.</summary>
    public IEnumerable<int> Blocks => _ranges.SelectMany(range => Enumerable.Range(range.First, range.Last - range.First + 1));

    /// <summary>Whether block <paramref name="k"/> belongs to the set.</summary>
    public bool Contains(int k) => Array.Exists(_ranges, range => range.Contains(k));

    /// <summary>Reads the text that <see cref="ToString"/> writes.</summary>
    /// <param name="text">Ranges a-b with a ≤ b, counted from 0 and separated by commas: 4-9, or 1-3,8-9.</param>
    /// <param name="layers">The set; null if the text is invalid.</param>
    /// <returns>Whether the text is valid.</returns>
    public static bool TryParse(string? text, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out LayerSet? layers)
    {
        layers = RangesOf(text) is { } ranges && Array.TrueForAll(ranges, range => range.First <= range.Last) ? new LayerSet(ranges) : null;
        return layers is not null;
    }

    /// <inheritdoc/>
    public bool Equals(LayerSet? other) => other is not null && _ranges.AsSpan().SequenceEqual(other._ranges);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as LayerSet);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_ranges.Length, First, Last);

    /// <inheritdoc/>
    public override string ToString() => string.Join(',', _ranges);

    /// <summary>Reads the ranges of a text, which may be reversed; null if the text is invalid.</summary>
    internal static LayerRange[]? RangesOf(string? text)
    {
        string[] parts = (text ?? "").Split(',');
        var ranges = new LayerRange[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            string[] ends = parts[i].Split('-');
            if (ends.Length != 2 || !Index(ends[0], out int first) || !Index(ends[1], out int last))
            {
                return null;
            }

            ranges[i] = new LayerRange(first, last);
        }

        return ranges;
    }

    /// <summary>Returns the same blocks, counted from block <paramref name="first"/>.</summary>
    internal LayerSet From(int first) => new([.. _ranges.Select(range => new LayerRange(range.First - first, range.Last - first))]);

    private static bool Index(string text, out int value) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
}
