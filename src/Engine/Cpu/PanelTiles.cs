using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <summary>
/// Products whose right factor has sixteen columns // (depth, 16), and matrices that are stored as such. Every sum follows the order of the depth.
/// </summary>
internal static unsafe class PanelTiles
{
    private const int Columns16 = 16;

    // Rows of a tile of Columns: enough sums to hide the latency, with registers left for the factors.
    private const int Rows512 = 8;
    private const int Rows256 = 4;

    /// <summary>Whether a matrix with so many columns can be stored in panels.</summary>
    public static bool Divide(int columns) => columns % Columns16 == 0;

    /// <summary>M += Σ_j x_j' y_j for n rows x_j, y_j // (n, size) and M in panels // (size / 16, size, 16).</summary>
    public static void AddOuterProducts(Avx512Code wide, float* x, float* y, int n, int size, float* m)
    {
        for (int column = 0; column < size; column += Columns16)
        {
            Columns(wide, x, size, size, y + column, size, n, m + (column * size));
        }
    }

    /// <summary>Y = X M for rows of X and Y // (rows, size), the given strides apart, and M in panels // (size / 16, size, 16).</summary>
    public static void Multiply(Avx512Code wide, float* x, nint xStride, int rows, float* m, int size, float* y, nint yStride)
    {
        for (int column = 0; column < size; column += Columns16)
        {
            Rows(wide, x, xStride, rows, m + (column * size), size, y + column, yStride);
        }
    }

    /// <summary>
    /// Computes C = A B: A // (rows, depth) with rows <paramref name="stride"/> apart, C // (rows, 16) with rows <paramref name="cStride"/> apart.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows(Avx512Code wide, float* a, nint stride, int rows, float* b, int depth, float* c, nint cStride = Columns16)
    {
        int whole = rows / CpuLinear.TileRows * CpuLinear.TileRows;
        CpuLinear.Tiles(wide, a, stride, whole, b, depth, c, cStride, add: false);
        for (int n = whole; n < rows; n++)
        {
            Vector256<float> lower = default, upper = default;
            float* x = b;
            for (int k = 0; k < depth; k++, x += Columns16)
            {
                var weight = Vector256.Create(a[(n * stride) + k]);
                lower = Vector256.MultiplyAddEstimate(weight, Vector256.Load(x), lower);
                upper = Vector256.MultiplyAddEstimate(weight, Vector256.Load(x + 8), upper);
            }

            lower.Store(c + (n * cStride));
            upper.Store(c + (n * cStride) + 8);
        }
    }

    /// <summary>
    /// Computes C += A' B: A // (depth, rows) and B // (depth, 16) with rows the given strides apart, C // (rows, 16).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Columns(Avx512Code wide, float* a, nint stride, int rows, float* b, nint bStride, int depth, float* c)
    {
        int n = 0;
        if (wide == Avx512Code.Native)
        {
            n = rows / Rows512 * Rows512;
            Avx512.Columns(a, stride, n, b, bStride, depth, c);
        }

        for (; wide == Avx512Code.Managed && n <= rows - Rows512; n += Rows512)
        {
            Tile8<F32Weight>(a + n, stride, (byte*)b, bStride * sizeof(float), depth, c + (n * Columns16), Columns16, add: true);
        }

        for (; n <= rows - Rows256; n += Rows256)
        {
            Tile4(a + n, stride, b, bStride, depth, c + (n * Columns16));
        }

        for (; n < rows; n++)
        {
            float* sums = c + (n * Columns16);
            var (lower, upper) = (Vector256.Load(sums), Vector256.Load(sums + 8));
            for (nint k = 0; k < depth; k++)
            {
                var weight = Vector256.Create(a[n + (k * stride)]);
                lower = Vector256.MultiplyAddEstimate(weight, Vector256.Load(b + (k * bStride)), lower);
                upper = Vector256.MultiplyAddEstimate(weight, Vector256.Load(b + (k * bStride) + 8), upper);
            }

            lower.Store(sums);
            upper.Store(sums + 8);
        }
    }

    /// <summary>
    /// Computes C (+)= A' B with A // (depth, 8), B // (depth, 16) of stored numbers and C // (8, 16), where there is AVX-512. The strides are
    /// those of rows.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Tile8<T>(float* a, nint aStride, byte* b, nint bStrideInBytes, int depth, float* c, nint cStride, bool add)
        where T : struct, IStoredWeight
    {
        Vector512<float> c0 = default, c1 = default, c2 = default, c3 = default, c4 = default, c5 = default, c6 = default, c7 = default;
        if (add)
        {
            (c0, c1) = (Vector512.Load(c), Vector512.Load(c + cStride));
            (c2, c3) = (Vector512.Load(c + (2 * cStride)), Vector512.Load(c + (3 * cStride)));
            (c4, c5) = (Vector512.Load(c + (4 * cStride)), Vector512.Load(c + (5 * cStride)));
            (c6, c7) = (Vector512.Load(c + (6 * cStride)), Vector512.Load(c + (7 * cStride)));
        }

        for (int k = 0; k < depth; k++, a += aStride, b += bStrideInBytes)
        {
            var x = T.LoadSixteen(b);
            c0 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[0]), x, c0);
            c1 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[1]), x, c1);
            c2 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[2]), x, c2);
            c3 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[3]), x, c3);
            c4 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[4]), x, c4);
            c5 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[5]), x, c5);
            c6 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[6]), x, c6);
            c7 = Avx512F.FusedMultiplyAdd(Vector512.Create(a[7]), x, c7);
        }

        c0.Store(c);
        c1.Store(c + cStride);
        c2.Store(c + (2 * cStride));
        c3.Store(c + (3 * cStride));
        c4.Store(c + (4 * cStride));
        c5.Store(c + (5 * cStride));
        c6.Store(c + (6 * cStride));
        c7.Store(c + (7 * cStride));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4(float* a, nint stride, float* b, nint bStride, int depth, float* c)
    {
        var (c00, c01, c10, c11) = (Vector256.Load(c), Vector256.Load(c + 8), Vector256.Load(c + 16), Vector256.Load(c + 24));
        var (c20, c21, c30, c31) = (Vector256.Load(c + 32), Vector256.Load(c + 40), Vector256.Load(c + 48), Vector256.Load(c + 56));
        for (int k = 0; k < depth; k++, a += stride, b += bStride)
        {
            var b0 = Vector256.Load(b);
            var b1 = Vector256.Load(b + 8);
            var x = Vector256.Create(a[0]);
            c00 = Vector256.MultiplyAddEstimate(x, b0, c00);
            c01 = Vector256.MultiplyAddEstimate(x, b1, c01);
            x = Vector256.Create(a[1]);
            c10 = Vector256.MultiplyAddEstimate(x, b0, c10);
            c11 = Vector256.MultiplyAddEstimate(x, b1, c11);
            x = Vector256.Create(a[2]);
            c20 = Vector256.MultiplyAddEstimate(x, b0, c20);
            c21 = Vector256.MultiplyAddEstimate(x, b1, c21);
            x = Vector256.Create(a[3]);
            c30 = Vector256.MultiplyAddEstimate(x, b0, c30);
            c31 = Vector256.MultiplyAddEstimate(x, b1, c31);
        }

        c00.Store(c);
        c01.Store(c + 8);
        c10.Store(c + 16);
        c11.Store(c + 24);
        c20.Store(c + 32);
        c21.Store(c + 40);
        c30.Store(c + 48);
        c31.Store(c + 56);
    }
}
