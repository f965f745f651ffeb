using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>A norm and the linear map after it, pushed forward along unit vectors without a product. Kernel in unit.cu.</summary>
internal sealed class UnitKernels
{
    private const int Columns = 32;
    private const int Outputs = 256;

    private readonly CudaKernel _units;

    /// <summary>Takes the kernel.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public UnitKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _units = kernel("tillerUnits");
    }

    /// <summary>
    /// Tangents of W (g ∘ h) + b, h = s x, s = (mean x² + ε)^-1/2, along the unit vectors from <paramref name="first"/> on, beside every value row.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="x">What the norm reads // (values, D).</param>
    /// <param name="values">Value rows, 1 to 65,535.</param>
    /// <param name="weight">g // (D).</param>
    /// <param name="eps">ε.</param>
    /// <param name="w">W // (N, D).</param>
    /// <param name="z">W (g ∘ h) + b of the value rows // (values, N).</param>
    /// <param name="bias">b // (N); 0 for none.</param>
    /// <param name="first">First coordinate.</param>
    /// <param name="count">Unit vectors beside each value row.</param>
    /// <param name="y">Result, the vectors of one value row after those of another // (values · count, N).</param>
    public void Push(CudaStream stream, nint x, int values, nint weight, float eps, in Matrix w, nint z, nint bias, int first, int count, nint y)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + count, w.Columns);
        var p = new Parameters
        {
            X = x,
            Weight = weight,
            W = w.Address,
            Z = z,
            Bias = bias,
            Y = y,
            D = w.Columns,
            Outputs = w.Rows,
            First = first,
            Count = count,
            Type = (int)w.Type,
            Eps = eps,
        };
        _units.Launch(new CudaLaunch(RowLaunch.Blocks(count, Columns), RowLaunch.Blocks(w.Rows, Outputs), values, 256, Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Parameters
    {
        public nint X;
        public nint Weight;
        public nint W;
        public nint Z;
        public nint Bias;
        public nint Y;
        public int D;
        public int Outputs;
        public int First;
        public int Count;
        public int Type;
        public float Eps;
    }
}
