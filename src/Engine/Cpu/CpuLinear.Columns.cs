using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>Products with unit vectors: columns of a weight as rows.</content>
internal static unsafe partial class CpuLinear
{
    // Columns of one part: one cache line of bf16 weights in every row.
    private const int ColumnsPerPart = 32;

    /// <summary>
    /// Computes y_ij = own_ij W_j + common_ij x_i for every row i of x and j below <paramref name="count"/>, where W_j is column first + j of W.
    /// </summary>
    /// <param name="pool">The threads.</param>
    /// <param name="w">Weights // (N, K).</param>
    /// <param name="first">First column.</param>
    /// <param name="count">Number of columns.</param>
    /// <param name="own">Factors of the columns // (x.Rows, count).</param>
    /// <param name="common">Factors of the rows of x // (x.Rows, count).</param>
    /// <param name="x">Rows // (M, N).</param>
    /// <param name="y">Result // (M · count, N).</param>
    /// <param name="cancellation">As <see cref="RowBatch.Cancellation"/>.</param>
    public static void Columns(
        WorkerPool pool, Matrix w, int first, int count, float* own, float* common, Floats x, Floats y, CancellationToken cancellation)
    {
        var job = new ColumnsJob
        {
            W = (byte*)w.Address,
            Inputs = w.Columns,
            Outputs = w.Rows,
            First = first,
            Count = count,
            Own = own,
            Common = common,
            X = x,
            Y = y,
        };
        int parts = (count + ColumnsPerPart - 1) / ColumnsPerPart;
        switch (w.Type)
        {
            case WeightType.BF16:
                pool.Run(parts, ref job, &ColumnsPart<Bf16Weight>, cancellation);
                break;
            case WeightType.F16:
                pool.Run(parts, ref job, &ColumnsPart<F16Weight>, cancellation);
                break;
            default:
                pool.Run(parts, ref job, &ColumnsPart<F32Weight>, cancellation);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ColumnsPart<T>(ref ColumnsJob job, int part)
        where T : struct, IStoredWeight
    {
        float* block = stackalloc float[8 * ColumnsPerPart];
        float* turned = stackalloc float[8 * ColumnsPerPart];
        int begin = part * ColumnsPerPart;
        int columns = Math.Min(ColumnsPerPart, job.Count - begin);
        for (int n = 0; n < job.Outputs; n += 8)
        {
            // Fewer than eight rows are filled up with copies of the last one.
            int outputs = Math.Min(8, job.Outputs - n);
            for (int i = 0; i < 8; i++)
            {
                nint row = n + Math.Min(i, outputs - 1);
                Convert<T>(job.W + (((row * job.Inputs) + job.First + begin) * T.SizeInBytes), block + (i * ColumnsPerPart), columns);
            }

            for (int j = 0; j < columns; j += 8)
            {
                VectorMath.Transpose8x8(block + j, ColumnsPerPart, turned + (8 * j), 8);
            }

            for (int m = 0; m < job.X.Rows; m++)
            {
                nint at = ((nint)m * job.Count) + begin;
                float* x = job.X.Row(m) + n;
                for (int j = 0; j < columns; j++)
                {
                    float* y = job.Y.Row((int)at + j) + n;
                    float own = job.Own[at + j], common = job.Common[at + j];
                    if (outputs == 8)
                    {
                        Vector256.MultiplyAddEstimate(Vector256.Create(own), Vector256.Load(turned + (8 * j)),
                            Vector256.Create(common) * Vector256.Load(x)).Store(y);
                        continue;
                    }

                    for (int i = 0; i < outputs; i++)
                    {
                        y[i] = float.MultiplyAddEstimate(own, turned[(8 * j) + i], common * x[i]);
                    }
                }
            }
        }
    }

    private struct ColumnsJob
    {
        public byte* W;
        public int Inputs;
        public int Outputs;
        public int First;
        public int Count;
        public float* Own;
        public float* Common;
        public Floats X;
        public Floats Y;
    }
}
