using Tiller.Checkpoint;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// Keys (after RoPE) and values of one sequence, float32. Layer k holds keys then values, each // (G, Capacity, E), so that one
/// head's keys are contiguous in time. Grows by doubling; positions are overwritten by writing them again.
/// </summary>
public sealed class KvCache : IDisposable
{
    private readonly DeviceOps _ops;
    private readonly int _layers;
    private readonly int _heads;
    private readonly int _headSize;
    private readonly int _limit;
    private readonly int _short;
    private DeviceBuffer? _memory;

    internal KvCache(DeviceOps ops, ModelConfig config, int capacity = 0)
    {
        _ops = ops;
        (_layers, _heads, _headSize, _limit, _short) = (config.L, config.G, config.E, config.MaxPositions, config.ShortPositions ?? int.MaxValue);
        if (capacity > 0)
        {
            Reserve(capacity, used: 0);
        }
    }

    /// <summary>Positions there is room for.</summary>
    public int Capacity { get; private set; }

    /// <summary>Keys of key/value head <paramref name="g"/> at layer <paramref name="k"/> // (Capacity, E).</summary>
    public Floats Keys(int k, int g) => View(k, g);

    /// <summary>Values of key/value head <paramref name="g"/> at layer <paramref name="k"/> // (Capacity, E).</summary>
    public Floats Values(int k, int g) => View(k, _heads + g);

    /// <summary>Whether keys are turned as those of a long sequence: by the second half of the rotary tables.</summary>
    public bool IsLong { get; private set; }

    /// <summary>Whether a sequence of so many positions is as it will be turned however long it grows.</summary>
    public bool TurnsNoMore(int positions) => _short == int.MaxValue || positions > _short;

    /// <summary>Whether keys of a sequence of so many positions are turned otherwise than those that are here, which then mean nothing.</summary>
    public bool TurnsOtherwise(int positions) => IsLong != positions > _short;

    /// <summary>
    /// Makes room for a sequence of <paramref name="positions"/>, the longest it has been, keeping the first <paramref name="used"/>.
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
        var memory = _ops.Allocate(4L * _layers * 2 * _heads * capacity * _headSize);
        if (old is not null && used > 0)
        {
            Copy(old, Capacity, memory, capacity, used);
        }

        old?.Dispose();
        _memory = memory;
        (Capacity, IsLong) = (capacity, positions > _short);
    }

    /// <summary>Takes over the first positions of another cache of the same shape; there is room for them.</summary>
    public void CopyFrom(KvCache other, int positions)
    {
        Copy(other._memory!, other.Capacity, _memory!, Capacity, positions);
        IsLong = other.IsLong;
    }

    /// <summary>Bytes of a cache that was asked for so many positions and never for fewer.</summary>
    internal static long SizeInBytesFor(ModelConfig c, int positions) => 4L * c.L * 2 * c.G * CapacityFor(positions, c.MaxPositions) * c.E;

    /// <summary>Positions there is room for once <paramref name="positions"/> have been asked for.</summary>
    internal static int CapacityFor(int positions, int limit, int capacity = 0) =>
        positions <= capacity ? capacity : Math.Max(positions, Math.Min(Math.Max(16, 2 * capacity), limit));

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        _memory?.Dispose();
    }

    private void Copy(DeviceBuffer source, int sourceCapacity, DeviceBuffer destination, int capacity, int positions)
    {
        long from = 4L * sourceCapacity * _headSize;
        long to = 4L * capacity * _headSize;
        for (int head = 0; head < _layers * 2 * _heads; head++)
        {
            _ops.Copy(source.Address + (nint)(head * from), destination.Address + (nint)(head * to), 4L * positions * _headSize);
        }
    }

    private Floats View(int k, int slot)
    {
        nint offset = (nint)(4L * (((k * 2 * _heads) + slot) * (long)Capacity) * _headSize);
        return new Floats(_memory!.Address + offset, Capacity, _headSize);
    }
}
