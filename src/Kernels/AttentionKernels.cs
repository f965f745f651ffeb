using System.Diagnostics;
using System.Numerics;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Shape of the attention of one block. Letters are those of the model's configuration.</summary>
/// <param name="Layer">Index k of the block, which determines its place in the cache.</param>
/// <param name="H">Number of query heads.</param>
/// <param name="G">Number of key/value heads. Query heads [g H/G, (g + 1) H/G) share key/value head g.</param>
/// <param name="E">Numbers in a head, at most 256.</param>
/// <param name="Scale">The factor a of the scores z = a q·k.</param>
/// <param name="SoftCap">If not 0, z is replaced by cap tanh(z/cap).</param>
/// <param name="Window">Number of positions that a row sees, of which its own is the last; 0 for all.</param>
public readonly record struct AttentionShape(int Layer, int H, int G, int E, float Scale, float SoftCap, int Window);

/// <summary>The sizes that a launch of attention depends on.</summary>
/// <param name="Longest">Upper bound for position + 1 of the rows.</param>
/// <param name="MaxTangents">The largest number of tangent or cotangent rows of a value row; 0 if there are none.</param>
/// <param name="OneSequence">Whether all rows share one cache. From 16 rows on, they are then computed in tiles.</param>
/// <param name="OwnCaches">Whether no two rows share a cache. Then a row's keys and values below its own position come from earlier steps.</param>
internal readonly record struct AttentionExtent(int Longest, int MaxTangents = 0, bool OneSequence = false, bool OwnCaches = false);

/// <summary>Values of the value rows from the forward pass of attention.</summary>
/// <param name="Qkv">Queries, keys and values after RoPE // (values, (H + 2 G) E).</param>
/// <param name="Heads">o // (values, H E).</param>
internal readonly record struct AttentionValues(Floats Qkv, Floats Heads);

/// <summary>The model's heads have a shape for which there are no attention kernels.</summary>
public sealed class AttentionShapeException : TillerException
{
    /// <summary>Creates the error for a shape.</summary>
    internal AttentionShapeException(AttentionShape shape)
        : base($"The CUDA attention kernels take heads of 1 to {AttentionKernels.MaxHeadSize} numbers and 1 to {AttentionKernels.MaxHeadsPerGroup} "
            + $"query heads per key/value head; the model has H = {shape.H}, G = {shape.G}, E = {shape.E}. "
            + "Run it on the CPU (LoadOptions.Device = Device.Cpu).") => Shape = shape;

    /// <summary>The unsupported shape.</summary>
    public AttentionShape Shape { get; }
}

/// <summary>
/// Attention over the cache, its pushforward and its pullback (docs/math.md §9; attention*.cu). The kernels read lengths, beginnings of windows, and
/// caches from the rows on the device; <c>longest</c> only determines the size of the launch. So a recorded launch stays valid while sequences grow
/// up to it. A row's bits depend neither on the other rows nor on <c>longest</c>. Scratch memory may have any content before a stage, and none of it
/// is used after the stage. All stages of one instance run in one stream.
/// </summary>
internal sealed class AttentionKernels
{
    /// <summary>Largest E.</summary>
    public const int MaxHeadSize = 256;

    /// <summary>Largest H/G.</summary>
    public const int MaxHeadsPerGroup = 16;

    private const int FewestTiledRows = 16;
    private const int MaxGridZ = 65535;

    private readonly CudaKernel[] _attend;
    private readonly CudaKernel _attendAny;
    private readonly CudaKernel _scores;
    private readonly CudaKernel _scoresAny;
    private readonly CudaKernel _jacobian;
    private readonly CudaKernel[] _rows;
    private readonly CudaKernel[] _push;
    private readonly CudaKernel[] _pull;
    private readonly CudaKernel _pushDense;
    private readonly CudaKernel _pullDense;
    private readonly CudaKernel _pullOwn;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Gives a kernel by its name.</param>
    public AttentionKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _attend = [kernel("tillerAttend1"), kernel("tillerAttend2"), kernel("tillerAttend4"), kernel("tillerAttend8")];
        _attendAny = kernel("tillerAttendAny");
        _scores = kernel("tillerAttentionScores");
        _scoresAny = kernel("tillerAttentionScoresAny");
        _jacobian = kernel("tillerAttentionJacobian");
        _rows = [kernel("tillerAttendRows64"), kernel("tillerAttendRows128"), kernel("tillerAttendRows256")];
        _push = [kernel("tillerPushAttention64"), kernel("tillerPushAttention128"), kernel("tillerPushAttention256")];
        _pull = [kernel("tillerPullAttention64"), kernel("tillerPullAttention128"), kernel("tillerPullAttention256")];
        _pushDense = kernel("tillerPushAttentionDense");
        _pullDense = kernel("tillerPullAttentionDense");
        _pullOwn = kernel("tillerPullAttentionOwn");
        for (int bucket = 0; bucket < 3; bucket++)
        {
            int largest = 64 << bucket;
            _rows[bucket].MaxDynamicSharedInBytes = RowsSharedInBytes(largest);
            _push[bucket].MaxDynamicSharedInBytes = StreamSharedInBytes(largest);
            _pull[bucket].MaxDynamicSharedInBytes = StreamSharedInBytes(largest);
        }
    }

    /// <summary>Optional parts of the launches, which a measurement can switch off.</summary>
    public KernelVariants Variants { get; set; } = KernelVariants.Default;

    /// <summary>Bytes of scratch memory that suffice for any stage and any window; never 0.</summary>
    /// <param name="shape">Shape of the heads; the window is ignored.</param>
    /// <param name="rows">Maximum numbers of value rows and of tangent or cotangent rows.</param>
    /// <param name="extent">Bounds of the rows.</param>
    /// <exception cref="AttentionShapeException">There are no kernels for this shape.</exception>
    public static long ScratchInBytes(AttentionShape shape, RowCounts rows, AttentionExtent extent)
    {
        if (shape.E is < 1 or > MaxHeadSize || shape.G < 1 || shape.H % shape.G != 0 || shape.H / shape.G is < 1 or > MaxHeadsPerGroup)
        {
            throw new AttentionShapeException(shape);
        }

        AttentionShape whole = shape with { Window = 0 };
        return Math.Max(
            AttentionPlan.Forward(whole, rows.Values, extent.Longest).End,
            AttentionPlan.Tangents(whole, rows.Values, rows.Tangents, extent.MaxTangents, extent.Longest).End);
    }

    /// <summary>o = Σ_j P_j v_j for every value row and head.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="shape">Heads and window of the block.</param>
    /// <param name="rows">The rows; tangents are ignored. Keys and values of the rows' own positions are in the caches already.</param>
    /// <param name="extent">Bounds of the rows. The result of a row that exceeds <c>Longest</c> is NaN.</param>
    /// <param name="qkv">Queries, keys and values after RoPE // (values + …, (H + 2 G) E).</param>
    /// <param name="heads">Result // (values + …, H E). Only the value rows are written.</param>
    /// <param name="scratch">Scratch memory of <see cref="ScratchInBytes"/>.</param>
    public void Forward(
        CudaStream stream, in AttentionShape shape, in RowTable rows, in AttentionExtent extent, Floats qkv, Floats heads, DeviceSpan<byte> scratch)
    {
        int values = rows.Values;
        Check(shape, new RowCounts(values, 0), extent, qkv, values, heads, scratch);
        AttentionPlan plan = AttentionPlan.Forward(shape, values, extent.Longest);
        var p = new AttentionParameters(shape, plan, rows.Rows, qkv, heads, scratch);
        if (extent.OneSequence && values >= FewestTiledRows)
        {
            int tile = shape.E > 128 ? 32 : 64;
            _rows[Bucket(shape.E)].Launch(new CudaLaunch((values + tile - 1) / tile, shape.H, 1, 256, 1, 1, RowsSharedInBytes(shape.E),
                Programmatic: true), stream, p);
            return;
        }

        int perGroup = shape.H / shape.G, most = shape.E % 4 != 0 || perGroup > 4 ? 8 : perGroup == 3 ? 4 : perGroup;
        CudaKernel kernel = shape.E % 4 != 0 ? _attendAny : _attend[BitOperations.Log2((uint)most)];
        int groups = shape.G * ((perGroup + most - 1) / most);
        p.Early = Variants.EarlyKeys && extent.OwnCaches ? 1 : 0;
        for (p.First = 0; p.First < values; p.First += plan.RowsPerLaunch)
        {
            kernel.Launch(new CudaLaunch(plan.Chunks, groups, Math.Min(plan.RowsPerLaunch, values - p.First), 256, Programmatic: true), stream, p);
        }
    }

    /// <summary>do = M dq + b (q·dk_t) + P_t dv_t for every tangent row and head. Requires the value rows of <paramref name="heads"/>.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="shape">Heads and window of the block.</param>
    /// <param name="rows">The rows, with their tangents.</param>
    /// <param name="extent">Bounds of the rows.</param>
    /// <param name="qkv">Value rows, then dq, dk, dv after RoPE // (values + tangents, (H + 2 G) E).</param>
    /// <param name="heads">Value rows, then the result // (values + tangents, H E).</param>
    /// <param name="scratch">Scratch memory of <see cref="ScratchInBytes"/>.</param>
    public void Push(
        CudaStream stream, in AttentionShape shape, in RowTable rows, in AttentionExtent extent, Floats qkv, Floats heads, DeviceSpan<byte> scratch)
    {
        Check(shape, rows.Counts, extent, qkv, rows.Total, heads, scratch);
        AttentionPlan plan = AttentionPlan.Tangents(shape, rows.Values, rows.Tangents, extent.MaxTangents, extent.Longest);
        var p = new AttentionParameters(shape, plan, rows.Rows, qkv, heads, scratch) { Owners = rows.Owners.Address, Tangents = rows.Tangents };
        Linearise(stream, shape, plan, p, extent.MaxTangents, _push, _pushDense);
    }

    /// <summary>q̄ = M'ō, k̄ = Σ_heads (b·ō) q and v̄ = Σ_heads P_t ō for every cotangent row.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="shape">Heads and window of the block.</param>
    /// <param name="rows">The value rows // (values).</param>
    /// <param name="groups">The cotangent rows of each value row.</param>
    /// <param name="longest">Upper bound for position + 1 of the rows.</param>
    /// <param name="forward">Values of the value rows from the forward pass.</param>
    /// <param name="headsBar">ō // (rows, H E).</param>
    /// <param name="qkvBar">Result // (rows, (H + 2 G) E).</param>
    /// <param name="scratch">Scratch memory of <see cref="ScratchInBytes"/>.</param>
    public void Pull(
        CudaStream stream, in AttentionShape shape, DeviceSpan<DeviceRow> rows, in CotangentGroups groups, int longest, in AttentionValues forward,
        Floats headsBar, Floats qkvBar, DeviceSpan<byte> scratch)
    {
        int values = (int)rows.Length, count = groups.Total;
        Debug.Assert(groups.Begin.Length == values + 1, "a group for each value row");
        Debug.Assert(headsBar.Holds(count, shape.H * shape.E) && qkvBar.Holds(count, forward.Qkv.Columns),
            "headsBar // (rows, H E), qkvBar // (rows, (H + 2 G) E)");
        var extent = new AttentionExtent(longest, groups.MaxRows);
        Check(shape, new RowCounts(values, count), extent, forward.Qkv, values, forward.Heads, scratch);
        AttentionPlan plan = AttentionPlan.Tangents(shape, values, count, groups.MaxRows, longest);
        var p = new AttentionParameters(shape, plan, rows, forward.Qkv, forward.Heads, scratch)
        {
            Owners = groups.Owners.Address,
            Tangents = count,
            GroupBegin = groups.Begin.Address,
            HeadsBar = headsBar.Address,
            QkvBar = qkvBar.Address,
            Pull = 1,
        };
        Linearise(stream, shape, plan, p, groups.MaxRows, _pull, _pullDense);
        if (count > 0)
        {
            _pullOwn.Launch(new CudaLaunch((count + 7) / 8, shape.G, 1, 128, Programmatic: true), stream, p);
        }
    }

    [Conditional("DEBUG")]
    private static void Check(
        in AttentionShape shape, RowCounts rows, in AttentionExtent extent, Floats qkv, int lines, Floats heads, DeviceSpan<byte> scratch)
    {
        Debug.Assert(qkv.Holds(lines, (shape.H + (2 * shape.G)) * shape.E), "qkv // (rows, (H + 2 G) E)");
        Debug.Assert(heads.Holds(lines, shape.H * shape.E), "heads // (rows, H E)");
        Debug.Assert(scratch.Length >= ScratchInBytes(shape, rows, extent), "scratch of ScratchInBytes");
    }

    // Computes scores. Then value rows with at least E/2 tangents use the matrix M; the others stream keys and values.
    private void Linearise(CudaStream stream, in AttentionShape shape, AttentionPlan plan, AttentionParameters p, int most, CudaKernel[] few,
        CudaKernel many)
    {
        int tangents = p.Tangents, dense = AttentionPlan.DenseFrom(shape);
        if (tangents == 0)
        {
            return;
        }

        int slots = Math.Min(p.Values, tangents), passes = ((shape.H / shape.G) + 7) / 8;
        CudaKernel scores = shape.E % 4 == 0 ? _scores : _scoresAny;
        for (p.First = 0; p.First < slots; p.First += MaxGridZ)
        {
            scores.Launch(new CudaLaunch(plan.Chunks, shape.G * passes, Math.Min(MaxGridZ, slots - p.First), 256, Programmatic: true), stream, p);
        }

        if (most >= dense)
        {
            int tiles = (shape.E + 63) / 64;
            _jacobian.Launch(new CudaLaunch(tiles * tiles, shape.H, tangents / dense, 256, Programmatic: true), stream, p);
            many.Launch(new CudaLaunch((tangents + 63) / 64, shape.H * tiles, 1, 256, Programmatic: true), stream, p);
        }

        if (most < dense || most < tangents)
        {
            for (p.First = 0; p.First < tangents; p.First += plan.RowsPerLaunch)
            {
                int here = Math.Min(plan.RowsPerLaunch, tangents - p.First);
                few[Bucket(shape.E)].Launch(
                    new CudaLaunch(plan.Chunks, shape.G, here, 128, 1, 1, StreamSharedInBytes(shape.E), Programmatic: true), stream, p);
            }
        }
    }

    private static int Bucket(int headSize) => headSize <= 64 ? 0 : headSize <= 128 ? 1 : 2;

    // Number of float4s from one line of a tile to the next. It is odd, which avoids bank conflicts.
    private static int TileStride(int headSize) => ((headSize + 3) / 4) | 1;

    private static int RowsSharedInBytes(int headSize)
    {
        int rows = headSize > 128 ? 32 : 64;
        return (16 * 2 * rows * TileStride(headSize)) + (4 * rows * (rows + 4));
    }

    private static int StreamSharedInBytes(int headSize)
    {
        int rows = headSize > 128 ? 16 : 32;
        return (16 * (rows + 64) * TileStride(headSize)) + (4 * rows * 36);
    }
}
