using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>RMSNorm on the rows of a dual batch, and its pullback. Kernels in norm.cu.</summary>
internal sealed class NormKernels
{
    private readonly CudaKernel _norm;
    private readonly CudaKernel _panels;
    private readonly CudaKernel _pull;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public NormKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _norm = kernel("tillerNorm");
        _panels = kernel("tillerNormPanels");
        _pull = kernel("tillerNormPull");
    }

    /// <summary>y = g ∘ h, h = s x, s = (mean x² + ε)^-1/2 for value rows; dy = s g ∘ (dx − (dx·h) h / D) for tangents.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="x">Rows // (values + tangents, D).</param>
    /// <param name="rows">Which rows are tangents, and the value row of each.</param>
    /// <param name="norm">g and ε.</param>
    /// <param name="y">Result // (values + tangents, D). It must not overlap <paramref name="x"/>.</param>
    public void Forward(CudaStream stream, Floats x, in DualRows rows, in RmsNorm norm, Floats y) => AddNormed(stream, default, x, rows, norm, y);

    /// <summary>output = residual + norm(raw), with value rows and tangents as in <see cref="Forward"/>.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="residual">Summand // (values + tangents, D), or absent.</param>
    /// <param name="raw">Rows // (values + tangents, D).</param>
    /// <param name="rows">Which rows are tangents, and the value row of each.</param>
    /// <param name="norm">g and ε.</param>
    /// <param name="output">
    /// Result // (values + tangents, D). It may be <paramref name="residual"/>, but must not overlap <paramref name="raw"/>.
    /// </param>
    public void AddNormed(CudaStream stream, Floats residual, Floats raw, in DualRows rows, in RmsNorm norm, Floats output)
    {
        if (rows.Total == 0)
        {
            return;
        }

        var p = NormParameters.Of(raw, rows, norm, output);
        Debug.Assert(residual.IsAbsent || residual.Holds(rows.Total, p.D), "residual // (values + tangents, D)");
        p.Residual = residual.Address;
        _norm.Launch(new CudaLaunch(rows.Total, 1, 1, RowLaunch.ThreadsPerRow(p.D), Programmatic: true), stream, p);
    }

    /// <summary>
    /// <see cref="Forward"/> between two linear maps on tensor cores: adds up the partial sums of the first, and writes the panels of the second.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="sums">Partial sums of x, if the first map left them; otherwise none.</param>
    /// <param name="x">Rows; if there are partial sums, they are written // (values + tangents, D).</param>
    /// <param name="rows">Which rows are tangents, and the value row of each.</param>
    /// <param name="norm">g and ε.</param>
    /// <param name="panels">The panels of the second map.</param>
    public void ToPanels(CudaStream stream, in LinearSums sums, Floats x, in DualRows rows, in RmsNorm norm, in LinearPanels panels)
    {
        Debug.Assert(sums.Parts == 0 || (sums.Rows == rows.Total && sums.Columns == norm.Weight.Columns && sums.Residual != x.Address),
            "sums of x // (values + tangents, D), its residual elsewhere");
        Debug.Assert(norm.Weight.Columns % 8 == 0, "panels are of multiples of 8");
        var p = new PanelsParameters
        {
            Norm = NormParameters.Of(x, rows, norm, y: x),
            Sums = sums,
            X = x.Address,
            Panels = panels.Address,
            Rows = rows.Total,
            Tiles = panels.Tiles,
            Exact = panels.Exact,
        };
        _panels.Launch(new CudaLaunch(8 * panels.Tiles, 1, 1, RowLaunch.ThreadsPerRow(p.Norm.D), Programmatic: true), stream, p);
    }

    /// <summary>output (+)= s (z − (z·h) h / D) with z = g ∘ bar, where h = s x is that of the value row.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="bar">Cotangents of the norm's output // (rows, D).</param>
    /// <param name="at">Inputs x of the norm at the value rows, from the forward pass // (values, D).</param>
    /// <param name="owners">Value row of each cotangent row // (rows); if there are none, nothing is launched.</param>
    /// <param name="norm">g and ε.</param>
    /// <param name="output">Result // (rows, D). It may be <paramref name="bar"/> if <paramref name="accumulate"/> is false.</param>
    /// <param name="accumulate">Whether the result is added to <paramref name="output"/>.</param>
    public void Pull(CudaStream stream, Floats bar, Floats at, DeviceSpan<int> owners, in RmsNorm norm, Floats output, bool accumulate)
    {
        int rows = (int)owners.Length, d = norm.Weight.Columns;
        if (rows == 0)
        {
            return;
        }

        Debug.Assert(norm.Weight.Holds(1, d) && at.Holds(1, d), "g // (1, D), at // (values, D)");
        Debug.Assert(bar.Holds(rows, d) && output.Holds(rows, d), "bar and output // (rows, D)");
        var p = new PullParameters
        {
            Bar = bar.Address,
            At = at.Address,
            Owners = owners.Address,
            Weight = norm.Weight.Address,
            Output = output.Address,
            D = d,
            Eps = norm.Epsilon,
            Accumulate = accumulate ? 1 : 0,
        };
        _pull.Launch(new CudaLaunch(rows, 1, 1, RowLaunch.ThreadsPerRow(d), Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PanelsParameters
    {
        public NormParameters Norm;
        public LinearSums Sums;
        public nint X;
        public nint Panels;
        public int Rows;
        public int Tiles;
        public int Exact;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PullParameters
    {
        public nint Bar;
        public nint At;
        public nint Owners;
        public nint Weight;
        public nint Output;
        public int D;
        public float Eps;
        public int Accumulate;
    }
}

/// <summary><c>TillerNormParameters</c> of norm.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NormParameters
{
    public nint X;
    public nint Residual;
    public nint Weight;
    public nint Y;
    public nint Owners;
    public int Values;
    public int D;
    public float Eps;

    /// <summary>y = norm(x), without a residual.</summary>
    public static NormParameters Of(Floats x, in DualRows rows, in RmsNorm norm, Floats y)
    {
        int d = norm.Weight.Columns;
        Debug.Assert(norm.Weight.Holds(1, d), "g // (1, D)");
        Debug.Assert(x.Holds(rows.Total, d) && y.Holds(rows.Total, d), "x and y // (values + tangents, D)");
        return new NormParameters
        {
            X = x.Address,
            Weight = norm.Weight.Address,
            Y = y.Address,
            Owners = rows.Owners.Address,
            Values = rows.Values,
            D = d,
            Eps = norm.Epsilon,
        };
    }
}
