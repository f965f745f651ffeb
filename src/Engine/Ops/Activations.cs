using Tiller.Checkpoint;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// The activations of a dual batch on its way through a block. Every buffer has one line for each row, value rows first, then tangent rows. The line
/// of a tangent row holds the tangent of the named quantity. A block's pullback reads what its forward pass leaves here.
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

    /// <summary>Number of rows that the buffers have room for.</summary>
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
    /// RoPE rotations of each value row, first all rows by the first table, then all by the next: E/2 cosines, then E/2 sines // (tables · capacity,
    /// E).
    /// </summary>
    public Floats Rotations { get; private set; }

    /// <summary>The model's shape.</summary>
    internal ModelConfig Config => _config;

    /// <summary>Data that the device keeps for batches with these activations, such as the table of rows; null if it needs none.</summary>
    internal IDisposable? OnDevice { get; set; }

    /// <summary>Makes room for <paramref name="rows"/> rows. The contents are lost if the buffers must grow.</summary>
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

    /// <summary>Rotation of each value row by one table (<see cref="BlockWeights.Rotation"/>) // (rows, E).</summary>
    public Floats Rotation(int table) => Rotations.Slice(table * Capacity, Capacity);

    /// <summary>The capacity after a <see cref="Reserve"/> of <paramref name="rows"/> on buffers of <paramref name="capacity"/> rows.</summary>
    internal static int CapacityFor(int rows, int capacity) => rows <= capacity ? capacity : Math.Max(rows, Math.Min(2 * capacity, capacity + 256));

    /// <summary>Makes the output of this block the input of the next by swapping buffers.</summary>
    public void Advance() => (X, Y) = (Y, X);

    /// <summary>Size of one row in bytes.</summary>
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

    /// <summary>Cuts one allocation into views // (rows, columns[i]), each aligned to a cache line. Zero columns give an absent view.</summary>
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

/// <summary>Cotangent rows on their way back through a block, grouped by value row like the tangent rows of a <see cref="RowBatch"/>.</summary>
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

    /// <summary>Number of rows that the buffers have room for.</summary>
    public int Capacity { get; private set; }

    /// <summary>
    /// Cotangents of the residual stream: those of the block's output before the pullback, those of its input after it // (rows, D).
    /// </summary>
    public Floats Stream { get; private set; }

    /// <summary>Scratch memory // (rows, D).</summary>
    public Floats Normed { get; private set; }

    /// <summary>Cotangents of act(gate) ∘ up // (rows, F).</summary>
    public Floats Gated { get; private set; }

    /// <summary>Cotangents of gate and up // (rows, 2F).</summary>
    public Floats GateUp { get; private set; }

    /// <summary>Cotangents of the heads' outputs // (rows, H E).</summary>
    public Floats Heads { get; private set; }

    /// <summary>Cotangents of each row's query, own key and own value // (rows, (H + 2G) E).</summary>
    public Floats Qkv { get; private set; }

    /// <summary>Data that the device keeps for row groups with these cotangents; null if it needs none.</summary>
    internal IDisposable? OnDevice { get; set; }

    /// <summary>Makes room for <paramref name="rows"/> rows. The contents are lost if the buffers must grow.</summary>
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

    /// <summary>Size of one row in bytes.</summary>
    public static long RowSizeInBytes(ModelConfig c) => 4L * ((2 * c.D) + (3 * c.F) + (c.H * c.E) + ((c.H + (2 * c.G)) * c.E));

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        OnDevice?.Dispose();
        _memory?.Dispose();
    }
}
