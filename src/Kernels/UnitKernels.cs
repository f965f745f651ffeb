using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>A norm and the linear map after it, pushed forward along unit vectors without a product. Kernel in unit.cu.</summary>
internal sealed class UnitKernels
{
    private const int Columns = 32;
    private const int Outputs = 256;

    private readonly CudaKernel _units;

    /// <summary>Finds the kernel.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public UnitKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _units = kernel("tillerUnits");
    }

    /// <summary>
    /// Tangents of W (g ∘ h) + b, h = s x, s = (mean x² + ε)^-1/2, in the directions of unit vectors from coordinate <paramref name="first"/> on, for
    /// every value row.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="x">Inputs of the norm at the value rows, 1 to 65,535 of them // (values, D).</param>
    /// <param name="norm">g and ε. If g is absent, there is no norm, and the tangents are those of W x + b.</param>
    /// <param name="w">W // (N, D).</param>
    /// <param name="z">W (g ∘ h) + b of the value rows // (values, N).</param>
    /// <param name="bias">b // (1, N), or absent.</param>
    /// <param name="first">Coordinate of the first unit vector.</param>
    /// <param name="y">Result: the same number of vectors for each value row, grouped by value row // (values · vectors, N).</param>
    public void Push(CudaStream stream, Floats x, in RmsNorm norm, in Matrix w, Floats z, Floats bias, int first, Floats y)
    {
        int values = x.Rows, count = y.Rows / values;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + count, w.Columns);
        Debug.Assert(count * values == y.Rows && y.Holds(y.Rows, w.Rows), "y // (values · vectors, N)");
        Debug.Assert(x.Holds(values, w.Columns) && (norm.Weight.IsAbsent || norm.Weight.Holds(1, w.Columns)), "x // (values, D), g // (1, D)");
        Debug.Assert(z.Holds(values, w.Rows) && (bias.IsAbsent || bias.Holds(1, w.Rows)), "z // (values, N), b // (1, N)");
        var p = new Parameters
        {
            X = x.Address,
            Weight = norm.Weight.Address,
            W = w.Address,
            Z = z.Address,
            Bias = bias.Address,
            Y = y.Address,
            D = w.Columns,
            Outputs = w.Rows,
            First = first,
            Count = count,
            Type = (int)w.Type,
            Eps = norm.Epsilon,
        };
        _units.Launch(new CudaLaunch(RowLaunch.Blocks(count, Columns), RowLaunch.Blocks(w.Rows, Outputs), values, 256, Programmatic: true), stream,
            p);
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
