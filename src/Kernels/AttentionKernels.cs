using System.Diagnostics;
using System.Numerics;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Attention of one block (letters as in the model's configuration).</summary>
/// <param name="Layer">Index k of the block, for its place in the cache.</param>
/// <param name="H">Query heads.</param>
/// <param name="G">Key/value heads; query heads [g H/G, (g + 1) H/G) share head g.</param>
/// <param name="E">Head size, up to 256.</param>
/// <param name="Scale">a of z = a q·k.</param>
/// <param name="SoftCap">z becomes cap tanh(z/cap); 0 for none.</param>
/// <param name="Window">A row sees so many positions, its own the last; 0 for all.</param>
public readonly record struct AttentionShape(int Layer, int H, int G, int E, float Scale, float SoftCap, int Window);

/// <summary>What a launch of attention is sized for.</summary>
/// <param name="Longest">Bound on position + 1 over the rows.</param>
/// <param name="MaxTangents">Tangent or cotangent rows of one value row at most; 0 where there are none.</param>
/// <param name="OneSequence">Whether all rows share one cache: 16 and more of them are worked through in tiles.</param>
/// <param name="OwnCaches">Whether no two rows share one: what lies below a row's position is from earlier steps then.</param>
internal readonly record struct AttentionExtent(int Longest, int MaxTangents = 0, bool OneSequence = false, bool OwnCaches = false);

/// <summary>What the value rows had when attention went forward.</summary>
/// <param name="Qkv">Queries, keys and values after RoPE // (values, (H + 2 G) E).</param>
/// <param name="Heads">o // (values, H E).</param>
internal readonly record struct AttentionValues(Floats Qkv, Floats Heads);

/// <summary>A model's heads are of a shape that the attention kernels do not have.</summary>
public sealed class AttentionShapeException : TillerException
{
    /// <summary>Creates the error for a shape.</summary>
    internal AttentionShapeException(AttentionShape shape)
        : base($"The CUDA attention kernels have heads of 1 to {AttentionKernels.MaxHeadSize} numbers and 1 to {AttentionKernels.MaxHeadsPerGroup} "
            + $"query heads per key/value head; the model has H = {shape.H}, G = {shape.G}, E = {shape.E}. "
            + "Run it on the CPU (LoadOptions.Device = Device.Cpu).") => Shape = shape;

    /// <summary>The shape that was asked for.</summary>
    public AttentionShape Shape { get; }
}

/// <summary>
/// Attention over the cache, its pushforward and its pullback (docs/math.md §9; attention*.cu). Lengths, windows' beginnings and caches come
/// from the rows on the device, <c>longest</c> only sizes the launch, so a recorded launch holds while sequences grow up to it. A row's bits
/// depend neither on the other rows nor on <c>longest</c>. Scratch may hold anything and is free again when the stage is done. The stages of
/// one instance run in one stream.
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

    /// <summary>What the launches do that a measurement can leave out.</summary>
    public KernelVariants Variants { get; set; } = KernelVariants.Default;

    /// <summary>Scratch that any stage needs, in bytes, whatever the block's window; never 0.</summary>
    /// <param name="shape">Heads; the window plays no part.</param>
    /// <param name="rows">Value rows, and tangent or cotangent rows, at most.</param>
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
    /// <param name="stream">Where it runs.</param>
    /// <param name="shape">Heads and window of the block.</param>
    /// <param name="rows">The rows, of which the tangents play no part. Keys and values of their own positions are in the caches.</param>
    /// <param name="extent">Bounds of the rows; a row beyond the longest gets NaN.</param>
    /// <param name="qkv">Queries, keys and values after RoPE // (values + …, (H + 2 G) E).</param>
    /// <param name="heads">Result // (values + …, H E); the value rows are written.</param>
    /// <param name="scratch"><see cref="ScratchInBytes"/>.</param>
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

    /// <summary>do = M dq + b (q·dk_t) + P_t dv_t for every tangent row and head; the value rows of <paramref name="heads"/> are there.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="shape">Heads and window of the block.</param>
    /// <param name="rows">The rows, with their tangents.</param>
    /// <param name="extent">Bounds of the rows.</param>
    /// <param name="qkv">Value rows, then dq, dk, dv after RoPE // (values + tangents, (H + 2 G) E).</param>
    /// <param name="heads">Value rows, then the result // (values + tangents, H E).</param>
    /// <param name="scratch"><see cref="ScratchInBytes"/>.</param>
    public void Push(
        CudaStream stream, in AttentionShape shape, in RowTable rows, in AttentionExtent extent, Floats qkv, Floats heads, DeviceSpan<byte> scratch)
    {
        Check(shape, rows.Counts, extent, qkv, rows.Total, heads, scratch);
        AttentionPlan plan = AttentionPlan.Tangents(shape, rows.Values, rows.Tangents, extent.MaxTangents, extent.Longest);
        var p = new AttentionParameters(shape, plan, rows.Rows, qkv, heads, scratch) { Owners = rows.Owners.Address, Tangents = rows.Tangents };
        Linearise(stream, shape, plan, p, extent.MaxTangents, _push, _pushDense);
    }

    /// <summary>q̄ = M'ō, k̄ = Σ_heads (b·ō) q and v̄ = Σ_heads P_t ō for every cotangent row.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="shape">Heads and window of the block.</param>
    /// <param name="rows">The value rows // (values).</param>
    /// <param name="groups">Cotangent rows of each value row.</param>
    /// <param name="longest">Bound on position + 1 over the rows.</param>
    /// <param name="forward">What the value rows had.</param>
    /// <param name="headsBar">ō // (rows, H E).</param>
    /// <param name="qkvBar">Result // (rows, (H + 2 G) E).</param>
    /// <param name="scratch"><see cref="ScratchInBytes"/>.</param>
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

    // Scores, then M and its rows for value rows with E/2 tangents or more, and streamed keys and values for the others.
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

    // float4s from one line of a tile to the next.
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
