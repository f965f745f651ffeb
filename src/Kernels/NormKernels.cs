using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>RMSNorm on the rows of a dual batch, and its transpose. Kernels in norm.cu.</summary>
internal sealed class NormKernels
{
    private readonly CudaKernel _norm;
    private readonly CudaKernel _pull;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public NormKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _norm = kernel("tillerNorm");
        _pull = kernel("tillerNormPull");
    }

    /// <summary>y = g ∘ h, h = s x, s = (mean x² + ε)^-1/2, of value rows; dy = s g ∘ (dx − (dx·h) h / D) of tangents.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="x">Rows // (values + tangents, D).</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="weight">g // (D).</param>
    /// <param name="y">Result // (values + tangents, D); must not overlap <paramref name="x"/>.</param>
    /// <param name="d">D.</param>
    /// <param name="eps">ε.</param>
    public void Forward(CudaStream stream, nint x, int values, nint owners, int tangents, nint weight, nint y, int d, float eps) =>
        AddNormed(stream, 0, x, values, owners, tangents, weight, y, d, eps);

    /// <summary>output = residual + norm(raw), value rows and tangents as in <see cref="Forward"/>.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="residual">Added // (values + tangents, D); 0 for none.</param>
    /// <param name="raw">Rows // (values + tangents, D).</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="weight">g // (D).</param>
    /// <param name="output">Result // (values + tangents, D); may be <paramref name="residual"/>, must not overlap <paramref name="raw"/>.</param>
    /// <param name="d">D.</param>
    /// <param name="eps">ε.</param>
    public void AddNormed(
        CudaStream stream, nint residual, nint raw, int values, nint owners, int tangents, nint weight, nint output, int d, float eps)
    {
        if (values + tangents == 0)
        {
            return;
        }

        var p = new NormParameters { X = raw, Residual = residual, Weight = weight, Y = output, Owners = owners, Values = values, D = d, Eps = eps };
        _norm.Launch(new CudaLaunch(values + tangents, 1, 1, RowLaunch.ThreadsPerRow(d), Programmatic: true), stream, p);
    }

    /// <summary>output = s (z − (z·h) h / D), or the same added to output; z = g ∘ bar, h = s x at the value row.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="bar">Cotangents of the norm's output // (rows, D).</param>
    /// <param name="at">What the value rows had // (values, D).</param>
    /// <param name="owners">Value row of each cotangent, int // (rows).</param>
    /// <param name="rows">Cotangent rows; 0 launches nothing.</param>
    /// <param name="weight">g // (D).</param>
    /// <param name="output">Result // (rows, D); may be <paramref name="bar"/> where nothing accumulates.</param>
    /// <param name="d">D.</param>
    /// <param name="eps">ε.</param>
    /// <param name="accumulate">Whether the result is added to <paramref name="output"/>.</param>
    public void Pull(CudaStream stream, nint bar, nint at, nint owners, int rows, nint weight, nint output, int d, float eps, bool accumulate)
    {
        if (rows == 0)
        {
            return;
        }

        var p = new PullParameters
        {
            Bar = bar,
            At = at,
            Owners = owners,
            Weight = weight,
            Output = output,
            D = d,
            Eps = eps,
            Accumulate = accumulate ? 1 : 0,
        };
        _pull.Launch(new CudaLaunch(rows, 1, 1, RowLaunch.ThreadsPerRow(d), Programmatic: true), stream, p);
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
}
