using Tiller.Checkpoint;

namespace Tiller.Ops;

/// <summary>
/// Keys (after RoPE) and values of one sequence. Layer k holds the keys, then the values, each // (G, Capacity, E), so that one head's keys
/// are contiguous in time. The cache grows by doubling, and from <see cref="DoublesUpTo"/> positions on by a quarter. On the CPU the old memory goes
/// back to the system while it is copied, so that a growing cache never holds much more than its keys and values. Writing a position again overwrites
/// it.
/// </summary>
internal sealed class KvCache : IDisposable
{
    /// <summary>Capacity from which a full cache grows by a quarter.</summary>
    internal const int DoublesUpTo = 1024;

    private readonly DeviceOps _ops;
    private readonly int _layers;
    private readonly int _heads;
    private readonly int _headSize;
    private readonly int _limit;
    private readonly int _short;
    private readonly KvType _type;
    private DeviceBuffer? _memory;

    internal KvCache(DeviceOps ops, ModelConfig config, int capacity = 0, KvType type = KvType.F32)
    {
        (_ops, _type) = (ops, type);
        (_layers, _heads, _headSize, _limit, _short) = (config.L, config.G, config.E, config.MaxPositions, config.ShortPositions ?? int.MaxValue);
        if (capacity > 0)
        {
            Reserve(capacity, used: 0);
        }
    }

    /// <summary>Number of positions that the cache has room for.</summary>
    public int Capacity { get; private set; }

    /// <summary>Keys of key/value head <paramref name="g"/> at layer <paramref name="k"/> // (Capacity, E).</summary>
    public KvRows Keys(int k, int g) => View(k, g);

    /// <summary>Values of key/value head <paramref name="g"/> at layer <paramref name="k"/> // (Capacity, E).</summary>
    public KvRows Values(int k, int g) => View(k, _heads + g);

    /// <summary>Whether the keys were rotated as those of a long sequence: by the second half of the rotary tables.</summary>
    public bool IsLong { get; private set; }

    /// <summary>Whether the keys of a sequence of <paramref name="positions"/> tokens keep their rotation however long the sequence grows.</summary>
    public bool TurnsNoMore(int positions) => _short == int.MaxValue || positions > _short;

    /// <summary>
    /// Whether a sequence of <paramref name="positions"/> tokens needs another rotation than the stored keys have. If so, the stored keys are not
    /// valid for it.
    /// </summary>
    public bool TurnsOtherwise(int positions) => IsLong != positions > _short;

    /// <summary>
    /// Makes room for a sequence of <paramref name="positions"/> tokens, the longest so far, and keeps the first <paramref name="used"/> positions.
    /// </summary>
    public void Reserve(int positions, int used)
    {
        if (positions <= Capacity)
        {
            IsLong = positions > _short;
            return;
        }

        int capacity = CapacityFor(positions, _limit, Capacity);
        var old = _memory;
        var memory = _ops.Allocate((long)_layers * 2 * _heads * capacity * RowInBytes);
        if (old is not null && used > 0)
        {
            Copy(old, Capacity, memory, capacity, used, discards: true);
        }

        old?.Dispose();
        _memory = memory;
        (Capacity, IsLong) = (capacity, positions > _short);
    }

    /// <summary>Copies the first positions of another cache of the same shape. This cache must have room for them.</summary>
    public void CopyFrom(KvCache other, int positions)
    {
        Copy(other._memory!, other.Capacity, _memory!, Capacity, positions, discards: false);
        IsLong = other.IsLong;
    }

    /// <summary>Size in bytes of a new cache after one <see cref="Reserve"/> of <paramref name="positions"/>.</summary>
    internal static long SizeInBytesFor(ModelConfig c, int positions, KvType type = KvType.F32) =>
        (long)KvRows.SizeInBytes(type) * c.L * 2 * c.G * CapacityFor(positions, c.MaxPositions) * c.E;

    /// <summary>The capacity after a <see cref="Reserve"/> of <paramref name="positions"/> on a cache of <paramref name="capacity"/>.</summary>
    internal static int CapacityFor(int positions, int limit, int capacity = 0)
    {
        long larger = capacity < DoublesUpTo ? Math.Max(16, 2 * capacity) : capacity + (capacity / 4L);
        return positions <= capacity ? capacity : Math.Max(positions, (int)Math.Min(larger, limit));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        _memory?.Dispose();
    }

    private void Copy(DeviceBuffer source, int sourceCapacity, DeviceBuffer destination, int capacity, int positions, bool discards)
    {
        long from = (long)sourceCapacity * RowInBytes;
        long to = (long)capacity * RowInBytes;
        for (int head = 0; head < _layers * 2 * _heads; head++)
        {
            _ops.Copy(source.Address + (nint)(head * from), destination.Address + (nint)(head * to), (long)positions * RowInBytes);
            if (discards)
            {
                source.Discard((head + 1) * from);
            }
        }
    }

    private int RowInBytes => KvRows.SizeInBytes(_type) * _headSize;

    private KvRows View(int k, int slot) => new KvRows(_memory!.Address, _type, _headSize).From((nint)((k * 2 * _heads) + slot) * Capacity);
}
