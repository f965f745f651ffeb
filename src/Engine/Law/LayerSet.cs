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

/// <summary>Some blocks of a model, at least one: ranges that neither overlap nor touch, in order. Written as 1-3,8-9.</summary>
public sealed class LayerSet : IEquatable<LayerSet>
{
    private readonly LayerRange[] _ranges;

    /// <summary>The blocks of one range.</summary>
    /// <param name="first">First block, at least 0.</param>
    /// <param name="last">Last block, at least <paramref name="first"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">The range is reversed or begins below 0.</exception>
    public LayerSet(int first, int last)
        : this([new LayerRange(first, last)])
    {
    }

    /// <summary>The blocks of several ranges, in any order; those that overlap or touch become one.</summary>
    /// <param name="ranges">At least one.</param>
    /// <exception cref="ArgumentOutOfRangeException">A range is reversed or begins below 0, or there is none.</exception>
    public LayerSet(params IReadOnlyList<LayerRange> ranges)
    {
        ArgumentNullException.ThrowIfNull(ranges);
        if (ranges.Count == 0 || ranges.Any(range => range.First < 0 || range.First > range.Last))
        {
            throw new ArgumentOutOfRangeException(
                nameof(ranges), string.Join(',', ranges), "Layers are ranges a-b with 0 ≤ a ≤ b, and at least one.");
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

    /// <summary>The ranges, in order, at least one block apart.</summary>
    public IReadOnlyList<LayerRange> Ranges => _ranges;

    /// <summary>The first block.</summary>
    public int First => _ranges[0].First;

    /// <summary>The last block.</summary>
    public int Last => _ranges[^1].Last;

    /// <summary>Number of blocks.</summary>
    public int Count => _ranges.Sum(range => range.Last - range.First + 1);

    /// <summary>The blocks, in order.</summary>
    public IEnumerable<int> Blocks => _ranges.SelectMany(range => Enumerable.Range(range.First, range.Last - range.First + 1));

    /// <summary>Whether block <paramref name="k"/> is one of them.</summary>
    public bool Contains(int k) => Array.Exists(_ranges, range => range.Contains(k));

    /// <summary>Reads what <see cref="ToString"/> writes.</summary>
    /// <param name="text">Ranges a-b with a ≤ b, counted from 0 and separated by commas: 4-9, or 1-3,8-9.</param>
    /// <param name="layers">The set, or null.</param>
    /// <returns>Whether the text is one.</returns>
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

    /// <summary>The ranges that a text names, reversed or not; null if it is none.</summary>
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

    /// <summary>The same blocks, counted from block <paramref name="first"/>.</summary>
    internal LayerSet From(int first) => new([.. _ranges.Select(range => new LayerRange(range.First - first, range.Last - first))]);

    private static bool Index(string text, out int value) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
}
