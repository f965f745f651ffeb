using Tiller.Checkpoint;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// Keys (after RoPE) and values of one sequence, float32. Layer k holds keys then values, each // (G, Capacity, E), so that one
/// head's keys are contiguous in time. Grows by doubling; positions are overwritten by writing them again.
/// </summary>
internal sealed class KvCache : IDisposable
{
    private readonly DeviceOps _ops;
    private readonly int _layers;
    private readonly int _heads;
    private readonly int _headSize;
    private readonly int _limit;
    private DeviceBuffer? _memory;

    internal KvCache(DeviceOps ops, ModelConfig config, int capacity = 0)
    {
        _ops = ops;
        (_layers, _heads, _headSize, _limit) = (config.L, config.G, config.E, config.MaxPositions);
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

    /// <summary>Makes room for <paramref name="positions"/>, keeping the first <paramref name="used"/>.</summary>
    public void Reserve(int positions, int used)
    {
        if (positions <= Capacity)
        {
            return;
        }

        int capacity = CapacityFor(positions, _limit, Capacity);
        var old = _memory;
        var memory = _ops.Allocate(4L * _layers * 2 * _heads * capacity * _headSize);
        if (old is not null && used > 0)
        {
            long from = 4L * Capacity * _headSize;
            long to = 4L * capacity * _headSize;
            for (int head = 0; head < _layers * 2 * _heads; head++)
            {
                _ops.Copy(old.Address + (nint)(head * from), memory.Address + (nint)(head * to), 4L * used * _headSize);
            }
        }

        old?.Dispose();
        _memory = memory;
        Capacity = capacity;
    }

    /// <summary>Positions there is room for once <paramref name="positions"/> have been asked for.</summary>
    internal static int CapacityFor(int positions, int limit, int capacity = 0) =>
        positions <= capacity ? capacity : Math.Max(positions, Math.Min(Math.Max(16, 2 * capacity), limit));

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        _memory?.Dispose();
    }

    private Floats View(int k, int slot)
    {
        nint offset = (nint)(4L * (((k * 2 * _heads) + slot) * (long)Capacity) * _headSize);
        return new Floats(_memory!.Address + offset, Capacity, _headSize);
    }
}
