using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>The rows of a fused stage.</summary>
/// <param name="Table"><see cref="DeviceRow"/> // (Values).</param>
/// <param name="Owners">Value row of each tangent row // (Tangents), int.</param>
/// <param name="Values">Value rows.</param>
/// <param name="Tangents">Tangent rows.</param>
/// <param name="Steered">Whether any row has a law.</param>
internal readonly record struct DecodeRows(nint Table, nint Owners, int Values, int Tangents, bool Steered)
{
    /// <summary>All rows.</summary>
    public int Total => Values + Tangents;
}

/// <summary>
/// The stages of decoding as one kernel each, for up to <see cref="LinearKernels.FewRows"/> rows (decode_qkv.cu, decode_gate.cu, decode_down.cu). A row's
/// result depends, bit for bit, on that row alone. Nothing is allocated: launches can be captured.
/// </summary>
internal sealed class DecodeKernels
{
    private const int Threads = 256;
    private const int StagedInBytes = 64 << 10;
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
            (qkv[i], gate[i], down[i]) = (kernel("tillerDecodeQkv" + instance), kernel("tillerDecodeGate" + instance), kernel("tillerDecodeDown" + instance));
            qkv[i].MaxDynamicSharedInBytes = gate[i].MaxDynamicSharedInBytes = down[i].MaxDynamicSharedInBytes = StagedInBytes;
        }
    }

    /// <summary>Norm, queries, keys and values with bias, RoPE, append; sensors of steered rows.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="x">Residual stream // (rows, D).</param>
    /// <param name="norm">Norm weights // (D).</param>
    /// <param name="eps">ε of the norm.</param>
    /// <param name="w">Wq, Wk, Wv under each other // ((H + 2G) E, D).</param>
    /// <param name="bias">((H + 2G) E), or 0.</param>
    /// <param name="rotation">Cosines and sines // (values, E); 0 leaves RoPE and the cache to <see cref="QkvKernels.Finish"/>, where heads have norms.</param>
    /// <param name="qkv">Result // (rows, (H + 2G) E).</param>
    /// <param name="H">Query heads.</param>
    /// <param name="G">Key/value heads.</param>
    /// <param name="E">Head size, even.</param>
    /// <param name="layer">k.</param>
    public void NormQkv(CudaStream stream, in DecodeRows rows, nint x, nint norm, float eps, in Matrix w, nint bias, nint rotation, nint qkv, int H, int G, int E, int layer)
    {
        int parts = LinearShape.FewParts(w.Rows, w.Columns), steered = rows.Steered ? rows.Total : 0;
        Launch(this.qkv, stream, rows.Total, w, steered + LinearShape.Divide(w.Rows / 2, 16 / parts), new QkvParameters
        {
            In = new NormedRows(x, norm, rows, w.Columns, eps),
            Rows = rows.Table,
            W = w.Address,
            Bias = bias,
            Rotation = rotation,
            Qkv = qkv,
            Queries = H,
            Groups = G,
            E = E,
            Layer = layer,
            Parts = parts,
            Wide = LinearKernels.IsWide(w) ? 1 : 0,
            Steered = steered,
        });
    }

    /// <summary>Norm, gate and up, activation; inputs u_k of steered rows.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="x">Residual stream // (rows, D).</param>
    /// <param name="norm">Norm weights // (D).</param>
    /// <param name="eps">ε of the norm.</param>
    /// <param name="w">Wgate over Wup // (2F, D).</param>
    /// <param name="gateUp">Pre-activations // (rows, 2F).</param>
    /// <param name="gated">Result // (rows, F).</param>
    /// <param name="inputs">u_k of steered rows // (rows, D); 0 leaves them to <see cref="SteerKernels.Act"/>.</param>
    /// <param name="activation">Activation of the gate.</param>
    /// <param name="layer">k.</param>
    public void NormGateUp(
        CudaStream stream, in DecodeRows rows, nint x, nint norm, float eps, in Matrix w, nint gateUp, nint gated, nint inputs, Activation activation, int layer)
    {
        int parts = LinearShape.FewParts(w.Rows, w.Columns), steered = rows.Steered && inputs != 0 ? rows.Total : 0;
        Launch(gate, stream, rows.Total, w, steered + LinearShape.Divide(w.Rows / 2, 16 / parts), new GateParameters
        {
            In = new NormedRows(x, norm, rows, w.Columns, eps),
            Rows = rows.Table,
            W = w.Address,
            GateUp = gateUp,
            Gated = gated,
            Inputs = inputs,
            Units = w.Rows / 2,
            Activation = (int)activation,
            Layer = layer,
            Parts = parts,
            Wide = LinearKernels.IsWide(w) ? 1 : 0,
            Steered = steered,
        });
    }

    /// <summary>y = residual + x W' (+ u of rows with a law).</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="x">Gated units // (rows, F).</param>
    /// <param name="w">Wdown // (D, F).</param>
    /// <param name="residual">(rows, D).</param>
    /// <param name="inputs">What <see cref="NormGateUp"/> left // (rows, D).</param>
    /// <param name="y">Result // (rows, D).</param>
    public void ProjectDown(CudaStream stream, in DecodeRows rows, nint x, in Matrix w, nint residual, nint inputs, nint y)
    {
        int parts = LinearShape.FewParts(w.Rows, w.Columns);
        Launch(down, stream, rows.Total, w, LinearShape.Divide(w.Rows, 32 / parts), new DownParameters
        {
            X = x,
            W = w.Address,
            Residual = residual,
            Inputs = inputs,
            Y = y,
            Rows = rows.Table,
            Owners = rows.Owners,
            Values = rows.Values,
            Tangents = rows.Tangents,
            Columns = w.Columns,
            Outputs = w.Rows,
            Parts = parts,
            Wide = LinearKernels.IsWide(w) ? 1 : 0,
        });
    }

    private static void Launch<TParameters>(CudaKernel[] kernels, CudaStream stream, int rows, in Matrix w, int blocks, in TParameters parameters)
        where TParameters : unmanaged
    {
        int instance = LinearKernels.Instance(w.Type, rows), group = 1 << instance % 4;
        var shape = new CudaLaunch(blocks, 1, 1, Threads, SharedInBytes: 4 * group * LinearShape.FewChunk(group, w.Columns), Programmatic: true);
        kernels[instance].Launch(shape, stream, parameters);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct NormedRows(nint x, nint norm, in DecodeRows rows, int columns, float eps)
    {
        public nint X = x, Norm = norm, Owners = rows.Owners;
        public int Values = rows.Values, Tangents = rows.Tangents, Columns = columns;
        public float Eps = eps;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct QkvParameters
    {
        public NormedRows In;
        public nint Rows, W, Bias, Rotation, Qkv;
        public int Queries, Groups, E, Layer, Parts, Wide, Steered;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GateParameters
    {
        public NormedRows In;
        public nint Rows, W, GateUp, Gated, Inputs;
        public int Units, Activation, Layer, Parts, Wide, Steered;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DownParameters
    {
        public nint X, W, Residual, Inputs, Y, Rows, Owners;
        public int Values, Tangents, Columns, Outputs, Parts, Wide;
    }
}
