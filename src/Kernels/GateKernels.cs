using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>The gated unit on the rows of a dual batch, and its transpose. Kernels in gate.cu.</summary>
internal sealed class GateKernels
{
    private const int TangentsPerThread = 4;
    private const int ColumnsPerBlock = 512;

    private readonly CudaKernel _gate;
    private readonly CudaKernel _pull;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public GateKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _gate = kernel("tillerGate");
        _pull = kernel("tillerGatePull");
    }

    /// <summary>act(a) ∘ u of value rows, act'(a) ∘ u ∘ da + act(a) ∘ du of tangents.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="gateUp">Gates a, then ups u // (values + tangents, 2F).</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="gated">Result // (values + tangents, F).</param>
    /// <param name="F">Feed-forward width.</param>
    /// <param name="activation">act.</param>
    public void Forward(CudaStream stream, nint gateUp, int values, nint owners, int tangents, nint gated, int F, Activation activation)
    {
        int lines = values + RowLaunch.Blocks(tangents, TangentsPerThread);
        if (lines == 0)
        {
            return;
        }

        int blocks = RowLaunch.Blocks(F, ColumnsPerBlock);
        var p = new GateParameters
        {
            GateUp = gateUp,
            Owners = owners,
            Gated = gated,
            Values = values,
            Tangents = tangents,
            F = F,
            Activation = (int)activation,
            BlocksPerLine = blocks,
        };
        _gate.Launch(new CudaLaunch(checked(blocks * lines), 1, 1, 128, Programmatic: true), stream, p);
    }

    /// <summary>ā = act'(a) ∘ u ∘ f̄ and ū = act(a) ∘ f̄ at the value row's a and u.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="gateUp">What the value rows had // (values, 2F).</param>
    /// <param name="owners">Value row of each cotangent, int // (rows).</param>
    /// <param name="rows">Cotangent rows; 0 launches nothing.</param>
    /// <param name="gatedBar">f̄ // (rows, F).</param>
    /// <param name="gateUpBar">Result: ā, then ū // (rows, 2F).</param>
    /// <param name="F">Feed-forward width.</param>
    /// <param name="activation">act.</param>
    public void Pull(CudaStream stream, nint gateUp, nint owners, int rows, nint gatedBar, nint gateUpBar, int F, Activation activation)
    {
        if (rows == 0)
        {
            return;
        }

        int blocks = RowLaunch.Blocks(F, ColumnsPerBlock);
        var p = new PullParameters
        {
            GateUp = gateUp,
            Owners = owners,
            GatedBar = gatedBar,
            GateUpBar = gateUpBar,
            Rows = rows,
            F = F,
            Activation = (int)activation,
            BlocksPerLine = blocks,
        };
        _pull.Launch(new CudaLaunch(checked(blocks * RowLaunch.Blocks(rows, TangentsPerThread)), 1, 1, 128, Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GateParameters
    {
        public nint GateUp;
        public nint Owners;
        public nint Gated;
        public int Values;
        public int Tangents;
        public int F;
        public int Activation;
        public int BlocksPerLine;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PullParameters
    {
        public nint GateUp;
        public nint Owners;
        public nint GatedBar;
        public nint GateUpBar;
        public int Rows;
        public int F;
        public int Activation;
        public int BlocksPerLine;
    }
}
