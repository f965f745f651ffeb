using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>The gated unit on the rows of a dual batch, and its pullback. Kernels in gate.cu.</summary>
internal sealed class GateKernels
{
    private const int TangentsPerThread = 4;
    private const int ColumnsPerBlock = 512;

    private readonly CudaKernel _gate;
    private readonly CudaKernel _pull;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public GateKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _gate = kernel("tillerGate");
        _pull = kernel("tillerGatePull");
    }

    /// <summary>act(a) ∘ u for value rows, and act'(a) ∘ u ∘ da + act(a) ∘ du for tangents.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="gateUp">Gates a, then ups u // (values + tangents, 2F).</param>
    /// <param name="rows">Which rows are tangents, and the value row of each.</param>
    /// <param name="gated">Result // (values + tangents, F).</param>
    /// <param name="activation">The activation act.</param>
    /// <param name="scale">Factor m on act; 1 for none.</param>
    /// <param name="sums">
    /// Partial sums of gateUp, if the map left them; their total is then written to the value rows of gateUp. They require that F is a multiple of
    /// four.
    /// </param>
    public void Forward(
        CudaStream stream, Floats gateUp, in DualRows rows, Floats gated, Activation activation, float scale = 1, in LinearSums sums = default)
    {
        Debug.Assert(sums.Parts == 0 || (sums.Rows == rows.Total && sums.Columns == 2 * gated.Columns && gated.Columns % 4 == 0), "sums of gateUp");
        int lines = rows.Values + RowLaunch.Blocks(rows.Tangents, TangentsPerThread), f = gated.Columns;
        if (lines == 0)
        {
            return;
        }

        Debug.Assert(gateUp.Holds(rows.Total, 2 * f) && gated.Holds(rows.Total, f),
            "gateUp // (values + tangents, 2F), gated // (values + tangents, F)");
        int blocks = RowLaunch.Blocks(f, ColumnsPerBlock);
        var p = new GateParameters
        {
            GateUp = gateUp.Address,
            Owners = rows.Owners.Address,
            Gated = gated.Address,
            Values = rows.Values,
            Tangents = rows.Tangents,
            F = f,
            Activation = (int)activation,
            BlocksPerLine = blocks,
            Scale = scale,
            Sums = sums,
        };
        _gate.Launch(new CudaLaunch(checked(blocks * lines), 1, 1, 128, Programmatic: true), stream, p);
    }

    /// <summary>ā = act'(a) ∘ u ∘ f̄ and ū = act(a) ∘ f̄, where a and u are those of the value row.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="gateUp">a and u of the value rows from the forward pass // (values, 2F).</param>
    /// <param name="owners">Value row of each cotangent row // (rows); if there are none, nothing is launched.</param>
    /// <param name="gatedBar">f̄ // (rows, F).</param>
    /// <param name="gateUpBar">Result: ā, then ū // (rows, 2F).</param>
    /// <param name="activation">The activation act.</param>
    /// <param name="scale">Factor m on act; 1 for none.</param>
    public void Pull(
        CudaStream stream, Floats gateUp, DeviceSpan<int> owners, Floats gatedBar, Floats gateUpBar, Activation activation, float scale = 1)
    {
        int rows = (int)owners.Length, f = gatedBar.Columns;
        if (rows == 0)
        {
            return;
        }

        Debug.Assert(gateUp.Holds(1, 2 * f), "gateUp // (values, 2F)");
        Debug.Assert(gatedBar.Holds(rows, f) && gateUpBar.Holds(rows, 2 * f), "gatedBar // (rows, F), gateUpBar // (rows, 2F)");
        int blocks = RowLaunch.Blocks(f, ColumnsPerBlock);
        var p = new PullParameters
        {
            GateUp = gateUp.Address,
            Owners = owners.Address,
            GatedBar = gatedBar.Address,
            GateUpBar = gateUpBar.Address,
            Rows = rows,
            F = f,
            Activation = (int)activation,
            BlocksPerLine = blocks,
            Scale = scale,
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
        public float Scale;
        public LinearSums Sums;
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
        public float Scale;
    }
}
