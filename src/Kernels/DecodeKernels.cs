using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>The rows of a fused stage.</summary>
/// <param name="Table">The rows on the device.</param>
/// <param name="Steered">Whether any row has a law.</param>
/// <param name="Inputs">u_k of steered rows, from stage 4 to stage 5 // (rows, D). If absent, <see cref="SteerKernels.Act"/> computes them.</param>
internal readonly record struct DecodeRows(RowTable Table, bool Steered, Floats Inputs)
{
    /// <summary>Number of rows.</summary>
    public int Total => Table.Total;
}

/// <summary>
/// The stages of decoding as one kernel each, for up to <see cref="LinearKernels.FewRows"/> rows (decode_qkv.cu, decode_gate.cu, decode_down.cu). The
/// bits of a row's result depend on that row only. Nothing is allocated, so launches can be captured.
/// </summary>
internal sealed class DecodeKernels
{
    private const int Threads = 256;
    private const int StagedInBytes = 64 << 10;
    private const int SensorBlocks = 4; // for each steered row; with four blocks, 16 sensors take as long as four
    private static readonly string[] s_types = ["F32", "F16", "BF16"];

    private readonly CudaKernel[] qkv = new CudaKernel[3 * 4], gate = new CudaKernel[3 * 4], down = new CudaKernel[3 * 4]; // [type, log2 rows]

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">A kernel by its name.</param>
    public DecodeKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        for (int i = 0; i < qkv.Length; i++)
        {
            string instance = $"{s_types[i / 4]}x{1 << i % 4}";
            (qkv[i], gate[i], down[i]) =
                (kernel("tillerDecodeQkv" + instance), kernel("tillerDecodeGate" + instance), kernel("tillerDecodeDown" + instance));
            qkv[i].MaxDynamicSharedInBytes = gate[i].MaxDynamicSharedInBytes = down[i].MaxDynamicSharedInBytes = StagedInBytes;
        }
    }

    /// <summary>Optional parts of the launches, which a measurement can switch off.</summary>
    public KernelVariants Variants { get; set; } = KernelVariants.Default;

    /// <summary>Norm; queries, keys and values with bias; RoPE; writing to the cache; sensors of steered rows.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="x">Residual stream // (rows, D).</param>
    /// <param name="norm">Weights g and ε.</param>
    /// <param name="w">Wq, Wk and Wv, one below the other // ((H + 2G) E, D).</param>
    /// <param name="bias">Bias // (1, (H + 2G) E), or absent.</param>
    /// <param name="rotation">
    /// Cosines and sines // (values, E). If absent, <see cref="QkvKernels.Finish"/> does RoPE and writes to the cache, as for heads with norms.
    /// </param>
    /// <param name="qkv">Result // (rows, (H + 2G) E).</param>
    /// <param name="heads">Shape of the heads.</param>
    /// <param name="layer">Index k of the block.</param>
    public void NormQkv(
        CudaStream stream, in DecodeRows rows, Floats x, in RmsNorm norm, in Matrix w, Floats bias, Floats rotation, Floats qkv,
        in HeadShape heads, int layer)
    {
        Debug.Assert(w.Rows == heads.QkvWidth && qkv.Holds(rows.Total, w.Rows), "w // ((H + 2G) E, D), qkv // (rows, (H + 2G) E)");
        Debug.Assert(bias.IsAbsent || bias.Holds(1, w.Rows), "bias // (1, (H + 2G) E)");
        Debug.Assert(rotation.IsAbsent || rotation.Holds(rows.Table.Values, heads.E), "rotation // (values, E)");
        int parts = LinearShape.FewParts(w.Rows, w.Columns), shares = TakesNormsLate(rows) ? SensorBlocks : 1;
        int steered = rows.Steered ? shares * rows.Total : 0;
        Launch(this.qkv, stream, rows.Total, w, steered + LinearShape.Divide(w.Rows / 2, 16 / parts), new QkvParameters
        {
            In = new NormedRows(x, norm, rows.Table, w.Columns, Variants),
            Rows = rows.Table.Rows.Address,
            W = w.Address,
            Bias = bias.Address,
            Rotation = rotation.Address,
            Qkv = qkv.Address,
            Queries = heads.H,
            Groups = heads.G,
            E = heads.E,
            Layer = layer,
            Parts = parts,
            Wide = LinearKernels.IsWide(w) ? 1 : 0,
            Prefetch = Variants.Prefetch ? LinearShape.FewPrefetchInBytes(parts) : 0,
            Steered = steered,
            Shares = shares,
        });
    }

    /// <summary>Norm; gate and up projections with bias; activation; inputs u_k of steered rows.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="x">Residual stream // (rows, D).</param>
    /// <param name="norm">Weights g and ε.</param>
    /// <param name="w">Wgate above Wup // (2F, D).</param>
    /// <param name="bias">Bias // (1, 2F), or absent.</param>
    /// <param name="gateUp">Result: pre-activations // (rows, 2F).</param>
    /// <param name="gated">Result: gated units // (rows, F).</param>
    /// <param name="activation">The activation of the gate.</param>
    /// <param name="scale">Factor m on the activation; 1 for none.</param>
    /// <param name="layer">Index k of the block.</param>
    public void NormGateUp(
        CudaStream stream, in DecodeRows rows, Floats x, in RmsNorm norm, in Matrix w, Floats bias, Floats gateUp, Floats gated,
        Activation activation, float scale, int layer)
    {
        Debug.Assert(bias.IsAbsent || bias.Holds(1, w.Rows), "bias // (1, 2F)");
        Debug.Assert(gateUp.Holds(rows.Total, w.Rows) && gated.Holds(rows.Total, w.Rows / 2), "gateUp // (rows, 2F), gated // (rows, F)");
        Debug.Assert(rows.Inputs.IsAbsent || rows.Inputs.Holds(rows.Total, w.Columns), "inputs // (rows, D)");
        int parts = LinearShape.FewParts(w.Rows, w.Columns), steered = rows.Steered && !rows.Inputs.IsAbsent ? rows.Total : 0;
        Launch(gate, stream, rows.Total, w, steered + LinearShape.Divide(w.Rows / 2, 16 / parts), new GateParameters
        {
            In = new NormedRows(x, norm, rows.Table, w.Columns, Variants),
            Rows = rows.Table.Rows.Address,
            W = w.Address,
            Bias = bias.Address,
            GateUp = gateUp.Address,
            Gated = gated.Address,
            Inputs = rows.Inputs.Address,
            Units = w.Rows / 2,
            Activation = (int)activation,
            Layer = layer,
            Parts = parts,
            Wide = LinearKernels.IsWide(w) ? 1 : 0,
            Prefetch = Variants.Prefetch ? LinearShape.FewPrefetchInBytes(parts) : 0,
            Steered = steered,
            Norms = TakesNormsLate(rows) ? 1 : 0,
            Scale = scale,
        });
    }

    /// <summary>y = residual + x W' + b, and + u_k for rows with a law.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="x">Gated units // (rows, F).</param>
    /// <param name="w">Wdown // (D, F).</param>
    /// <param name="bias">The bias b of value rows // (1, D), or absent.</param>
    /// <param name="residual">Residual stream // (rows, D).</param>
    /// <param name="y">Result // (rows, D).</param>
    public void ProjectDown(CudaStream stream, in DecodeRows rows, Floats x, in Matrix w, Floats bias, Floats residual, Floats y)
    {
        Debug.Assert(bias.IsAbsent || bias.Holds(1, w.Rows), "bias // (1, D)");
        Debug.Assert(x.Holds(rows.Total, w.Columns), "x // (rows, F)");
        Debug.Assert(residual.Holds(rows.Total, w.Rows) && rows.Inputs.Holds(rows.Total, w.Rows) && y.Holds(rows.Total, w.Rows),
            "residual, inputs and y // (rows, D)");
        int parts = LinearShape.FewParts(w.Rows, w.Columns);
        Launch(down, stream, rows.Total, w, LinearShape.Divide(w.Rows, 32 / parts), new DownParameters
        {
            X = x.Address,
            W = w.Address,
            Bias = bias.Address,
            Residual = residual.Address,
            Inputs = rows.Inputs.Address,
            Y = y.Address,
            Rows = rows.Table.Rows.Address,
            Owners = rows.Table.Owners.Address,
            Values = rows.Table.Values,
            Tangents = rows.Table.Tangents,
            Columns = w.Columns,
            Outputs = w.Rows,
            Parts = parts,
            Wide = LinearKernels.IsWide(w) ? 1 : 0,
            Prefetch = Variants.Prefetch ? LinearShape.FewPrefetchInBytes(parts) : 0,
        });
    }

    // If stage 4 forms u_k, it can also compute |u_k|. Stages 1 and 4 must make the same choice.
    private bool TakesNormsLate(in DecodeRows rows) => Variants.SpreadSteering && !rows.Inputs.IsAbsent;

    private static void Launch<TParameters>(CudaKernel[] kernels, CudaStream stream, int rows, in Matrix w, int blocks, in TParameters parameters)
        where TParameters : unmanaged
    {
        int instance = LinearKernels.Instance(w.Type, rows), group = 1 << instance % 4;
        var shape = new CudaLaunch(blocks, 1, 1, Threads, SharedInBytes: 4 * group * LinearShape.FewChunk(group, w.Columns), Programmatic: true);
        kernels[instance].Launch(shape, stream, parameters);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct NormedRows
    {
        public nint X, Norm, Owners;
        public int Values, Tangents, Columns;
        public float Eps;
        public int Turns;

        public NormedRows(Floats x, in RmsNorm norm, in RowTable rows, int columns, KernelVariants variants)
        {
            Debug.Assert(x.Holds(rows.Total, columns) && norm.Weight.Holds(1, columns), "x // (rows, D), g // (1, D)");
            (X, Norm, Owners) = (x.Address, norm.Weight.Address, rows.Owners.Address);
            (Values, Tangents, Columns, Eps, Turns) = (rows.Values, rows.Tangents, columns, norm.Epsilon, variants.NormBatch ? 4 : 1);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct QkvParameters
    {
        public NormedRows In;
        public nint Rows, W, Bias, Rotation, Qkv;
        public int Queries, Groups, E, Layer, Parts, Wide, Prefetch, Steered, Shares;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GateParameters
    {
        public NormedRows In;
        public nint Rows, W, Bias, GateUp, Gated, Inputs;
        public int Units, Activation, Layer, Parts, Wide, Prefetch, Steered, Norms;
        public float Scale;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DownParameters
    {
        public nint X, W, Bias, Residual, Inputs, Y, Rows, Owners;
        public int Values, Tangents, Columns, Outputs, Parts, Wide, Prefetch;
    }
}
