using Tiller.Checkpoint;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// The rows of a dual batch on their way through a block. Every buffer has one line per row, values first, then tangents; for a
/// tangent row each buffer holds the tangent of what the name says. What a block leaves here is what its pullback reads.
/// </summary>
internal sealed class Activations : IDisposable
{
    private readonly DeviceOps _ops;
    private readonly ModelConfig _config;
    private DeviceBuffer? _memory;
    private Floats[] _all = [];

    internal Activations(DeviceOps ops, ModelConfig config)
    {
        _ops = ops;
        _config = config;
    }

    /// <summary>Rows there is room for.</summary>
    public int Capacity { get; private set; }

    /// <summary>Residual stream entering the block // (rows, D).</summary>
    public Floats X { get; private set; }

    /// <summary>Residual stream after attention // (rows, D).</summary>
    public Floats R { get; private set; }

    /// <summary>Residual stream leaving the block // (rows, D).</summary>
    public Floats Y { get; private set; }

    /// <summary>Normed input of a linear map // (rows, D).</summary>
    public Floats Normed { get; private set; }

    /// <summary>Queries, keys, values after RoPE // (rows, (H + 2G) E).</summary>
    public Floats Qkv { get; private set; }

    /// <summary>Queries and keys before their norms // (rows, (H + G) E); absent without such norms.</summary>
    public Floats RawQk { get; private set; }

    /// <summary>Attention output, heads side by side // (rows, H E).</summary>
    public Floats Heads { get; private set; }

    /// <summary>Attention output before its post-norm // (rows, D); absent without post-norms.</summary>
    public Floats RawAttention { get; private set; }

    /// <summary>Gate and up pre-activations side by side // (rows, 2F).</summary>
    public Floats GateUp { get; private set; }

    /// <summary>act(gate) ∘ up // (rows, F).</summary>
    public Floats Gated { get; private set; }

    /// <summary>Feed-forward output before its post-norm // (rows, D); absent without post-norms.</summary>
    public Floats RawFeedForward { get; private set; }

    /// <summary>
    /// Rotations of each value row, all by one table and then all by the next: E/2 cosines, then E/2 sines // (tables · capacity, E).
    /// </summary>
    public Floats Rotations { get; private set; }

    /// <summary>Shape of the model.</summary>
    internal ModelConfig Config => _config;

    /// <summary>What the device keeps for the batches that go through here, such as their rows' table; null where it needs nothing.</summary>
    internal IDisposable? OnDevice { get; set; }

    /// <summary>Makes room for <paramref name="rows"/> rows; contents are lost when it has to grow.</summary>
    public void Reserve(int rows)
    {
        if (rows <= Capacity)
        {
            return;
        }

        int capacity = CapacityFor(rows, Capacity);
        var c = _config;
        int[] columns =
        [
            c.D, c.D, c.D, c.D, (c.H + (2 * c.G)) * c.E, c.QkNorm == QkNorm.None ? 0 : (c.H + c.G) * c.E, c.H * c.E,
            c.PostNorms ? c.D : 0, 2 * c.F, c.F, c.PostNorms ? c.D : 0, c.RotaryTables.Count * c.E,
        ];
        _memory?.Dispose();
        (_memory, Capacity) = (null, 0);
        _all = Carve(_ops, capacity, columns, out _memory);
        Capacity = capacity;
        (X, R, Y, Normed, Qkv, RawQk) = (_all[0], _all[1], _all[2], _all[3], _all[4], _all[5]);
        (Heads, RawAttention, GateUp, Gated, RawFeedForward) = (_all[6], _all[7], _all[8], _all[9], _all[10]);
        Rotations = new Floats(_all[11].Address, capacity * c.RotaryTables.Count, c.E);
    }

    /// <summary>Rotation of each value row by a table (<see cref="BlockWeights.Rotation"/>) // (rows, E).</summary>
    public Floats Rotation(int table) => Rotations.Slice(table * Capacity, Capacity);

    /// <summary>
    /// Rows there is room for once <paramref name="rows"/> have been asked for where there was room for <paramref name="capacity"/>.
    /// </summary>
    internal static int CapacityFor(int rows, int capacity) => rows <= capacity ? capacity : Math.Max(rows, Math.Min(2 * capacity, capacity + 256));

    /// <summary>The output of this block becomes the input of the next; no number moves.</summary>
    public void Advance() => (X, Y) = (Y, X);

    /// <summary>Bytes that one row takes.</summary>
    public static long RowSizeInBytes(ModelConfig c) =>
        4L * ((4 * c.D) + ((c.H + (2 * c.G)) * c.E) + (c.QkNorm == QkNorm.None ? 0 : (c.H + c.G) * c.E) + (c.H * c.E) + (c.PostNorms ? 2 * c.D : 0)
            + (3 * c.F) + (c.RotaryTables.Count * c.E));

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        OnDevice?.Dispose();
        _memory?.Dispose();
    }

    /// <summary>One allocation cut into views // (rows, columns[i]), each aligned to a cache line; zero columns give an absent view.</summary>
    internal static Floats[] Carve(DeviceOps ops, int rows, ReadOnlySpan<int> columns, out DeviceBuffer memory)
    {
        const int LineInBytes = 64;
        long size = 0;
        foreach (int n in columns)
        {
            size += Align(4L * rows * n);
        }

        memory = ops.Allocate(size);
        var views = new Floats[columns.Length];
        nint at = memory.Address;
        for (int i = 0; i < views.Length; i++)
        {
            views[i] = columns[i] == 0 ? default : new Floats(at, rows, columns[i]);
            at += (nint)Align(4L * rows * columns[i]);
        }

        return views;

        static long Align(long bytes) => (bytes + LineInBytes - 1) / LineInBytes * LineInBytes;
    }
}

/// <summary>Cotangent rows on their way back through a block, grouped by value row like the tangents of a <see cref="RowBatch"/>.</summary>
internal sealed class Cotangents : IDisposable
{
    private readonly DeviceOps _ops;
    private readonly ModelConfig _config;
    private DeviceBuffer? _memory;

    internal Cotangents(DeviceOps ops, ModelConfig config)
    {
        _ops = ops;
        _config = config;
    }

    /// <summary>Rows there is room for.</summary>
    public int Capacity { get; private set; }

    /// <summary>Cotangents of the residual stream: of the block's output on entry, of its input on return // (rows, D).</summary>
    public Floats Stream { get; private set; }

    /// <summary>Scratch of width D // (rows, D).</summary>
    public Floats Normed { get; private set; }

    /// <summary>Cotangents of act(gate) ∘ up // (rows, F).</summary>
    public Floats Gated { get; private set; }

    /// <summary>Cotangents of gate and up // (rows, 2F).</summary>
    public Floats GateUp { get; private set; }

    /// <summary>Cotangents of the heads' outputs // (rows, H E).</summary>
    public Floats Heads { get; private set; }

    /// <summary>Cotangents of queries, own key and own value // (rows, (H + 2G) E).</summary>
    public Floats Qkv { get; private set; }

    /// <summary>What the device keeps for the groups that go through here; null where it needs nothing.</summary>
    internal IDisposable? OnDevice { get; set; }

    /// <summary>Makes room for <paramref name="rows"/> rows; contents are lost when it has to grow.</summary>
    public void Reserve(int rows)
    {
        if (rows <= Capacity)
        {
            return;
        }

        var c = _config;
        _memory?.Dispose();
        (_memory, Capacity) = (null, 0);
        var all = Activations.Carve(_ops, rows, [c.D, c.D, c.F, 2 * c.F, c.H * c.E, (c.H + (2 * c.G)) * c.E], out _memory);
        Capacity = rows;
        (Stream, Normed, Gated, GateUp, Heads, Qkv) = (all[0], all[1], all[2], all[3], all[4], all[5]);
    }

    /// <summary>Bytes that one row takes.</summary>
    public static long RowSizeInBytes(ModelConfig c) => 4L * ((2 * c.D) + (3 * c.F) + (c.H * c.E) + ((c.H + (2 * c.G)) * c.E));

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        OnDevice?.Dispose();
        _memory?.Dispose();
    }
}
