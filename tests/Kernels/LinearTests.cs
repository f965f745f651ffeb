using Tiller.Kernels;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Kernels;

/// <summary>Linear maps on the host CUDA against sums in double.</summary>
public class LinearTests : CudaTest
{
    private static readonly int[] s_fewRows = [1, 2, 3, 5, 8], s_manyRows = [9, 31, 32, 33, 64, 127, 128, 129, 300];

    private static readonly (int N, int K)[] s_sizes = [(1, 1), (31, 33), (33, 31), (128, 127), (5, 4097), (300, 520)];

    // Columns that the tensor cores take: multiples of 8.
    private static readonly (int N, int K)[] s_splitSizes = [(1, 8), (31, 40), (300, 136), (33, 1032), (1030, 32)];

    [Test]
    public void FewRowsMatchSumsInDouble([Values] WeightType type, [ValueSource(nameof(s_fewRows))] int rows)
    {
        using var job = new LinearJob();
        foreach ((int n, int k) in s_sizes)
        {
            job.CheckForward(rows, n, k, type);
            job.CheckTransposed(rows, n, k, type);
        }
    }

    // 8 rows of 4097 columns are staged in three chunks, one row of 16700 in two; 9000 outputs need no two warps for one.
    [TestCase(WeightType.BF16, 8, 7, 4097)]
    [TestCase(WeightType.F32, 4, 6, 8200)]
    [TestCase(WeightType.F16, 1, 3, 16700)]
    [TestCase(WeightType.BF16, 1, 9000, 264)]
    [TestCase(WeightType.BF16, 2, 4500, 520)]
    public void LongRowsAreStagedInChunksAndManyOutputsShareNoWarps(WeightType type, int rows, int n, int k)
    {
        using var job = new LinearJob();
        job.CheckForward(rows, n, k, type);
        job.CheckTransposed(rows, n, k, type);
    }

    [Test]
    public void RowsOnTensorCoresMatchSumsInDouble([ValueSource(nameof(s_manyRows))] int rows)
    {
        using var job = new LinearJob();
        foreach ((int n, int k) in s_splitSizes)
        {
            job.CheckForward(rows, n, k, WeightType.BF16);
            job.CheckTransposed(rows, n, k, WeightType.BF16);
        }
    }

    // What tensor cores cut off of a sum makes it smaller, whatever the addends are; of numbers above zero the mean over many results shows nothing
    // else. The depth is that of Llama-3-8B's down projection; so few outputs get parts of 224 depths, the library none.
    [TestCase(9, true, false, 2e-7)]
    [TestCase(128, true, false, 2e-7)]
    [TestCase(65, false, false, 2e-7)]
    [TestCase(9, true, true, 2e-7)]
    [TestCase(256, true, false, 2e-6)]
    [TestCase(256, false, false, 2e-6)]
    [TestCase(256, true, true, 2e-6)]
    public void LongSumsDoNotShrinkOnTensorCores(int rows, bool values, bool transposed, double bound)
    {
        const int Outputs = 40, Depth = 14336;
        using var job = new LinearJob(withBlas: true);
        float[] w = [.. LinearJob.Weights(WeightType.BF16, Outputs, Depth).Select(Math.Abs)];
        float[] x = [.. LinearJob.Numbers(rows * Depth, 2).Select(Math.Abs)];
        var (n, k) = transposed ? (Depth, Outputs) : (Outputs, Depth);
        double flushed = Bias(KernelVariants.Default), left = Bias(new KernelVariants { FlushedSums = false });
        Assert.That(Math.Abs(flushed), Is.LessThan(bound), "relative, in the mean");
        Assert.That(Math.Abs(Bias(new KernelVariants { StackedPieces = true })), Is.LessThan(bound), "stacked");
        Assert.That(left, Is.LessThan(-2 * bound), "what sums that are left to the tensor cores lose: had it been lost, it had been seen");

        double Bias(KernelVariants variants)
        {
            job.Variants = variants;
            float[] y = job.Run(x, rows, w, WeightType.BF16, n, k, transposed, values ? rows : 0);
            double sum = 0;
            for (int m = 0; m < rows; m += Math.Max(1, rows / 8))
            {
                for (int j = 0; j < Outputs; j++)
                {
                    double expected = 0;
                    for (int l = 0; l < Depth; l++)
                    {
                        expected += (double)x[(m * Depth) + l] * w[transposed ? (l * Outputs) + j : (j * Depth) + l];
                    }

                    sum += (y[(m * Outputs) + j] - expected) / expected;
                }
            }

            return sum / (Outputs * Math.Ceiling(rows / (double)Math.Max(1, rows / 8)));
        }
    }

    [TestCase(WeightType.BF16, 1)]
    [TestCase(WeightType.F16, 8)]
    [TestCase(WeightType.F32, 4)]
    public void WeightsBroughtToTheCacheChangeNoBit(WeightType type, int rows)
    {
        using var job = new LinearJob();

        // Beyond what is in flight, of blocks that come later, all in flight, not aligned.
        foreach ((int n, int k) in ((int, int)[])[(5, 4104), (9000, 1032), (33, 520), (7, 33)])
        {
            float[] weights = LinearJob.Weights(type, n, k), x = LinearJob.Numbers(rows * k, 3);
            float[] all = job.Run(x, rows, weights, type, n, k, transposed: false);
            job.Variants = new KernelVariants { Prefetch = false };
            Assert.That(job.Run(x, rows, weights, type, n, k, transposed: false), Is.EqualTo(all), $"W ({n}, {k})");
            job.Variants = KernelVariants.Default;
        }
    }

    [TestCase(WeightType.BF16, 33, 31)] // K % 8 != 0
    [TestCase(WeightType.F16, 31, 40)]
    [TestCase(WeightType.F32, 40, 33)]
    public void OtherWeightsTakeManyRowsEightAtATime(WeightType type, int n, int k)
    {
        using var job = new LinearJob();
        foreach (int rows in (int[])[9, 33, 129])
        {
            job.CheckForward(rows, n, k, type);
            job.CheckTransposed(rows, n, k, type);
        }
    }

    [TestCase(300, 0)]
    [TestCase(256, 256)]
    [TestCase(257, 1)]
    public void StackedPiecesAreOneProductForEvery1024DepthsAndAsExact(int rows, int values)
    {
        HostCuda.Require(); // which counts the calls
        using var job = new LinearJob(withBlas: true) { Variants = new KernelVariants { StackedPieces = true } };
        foreach ((int n, int k, int products) in ((int, int, int)[])[(40, 136, 1), (24, 2056, 3)])
        {
            long before = HostCuda.CallsOf("cublasLtMatmul");
            job.CheckForward(rows, n, k, WeightType.BF16, values, biased: true, Residual.Apart);
            Assert.That(HostCuda.CallsOf("cublasLtMatmul") - before, Is.EqualTo(products), $"W ({n}, {k})");
            job.CheckForward(rows, n, k, WeightType.BF16, values, biased: false, Residual.InPlace);
            job.CheckForward(rows, n, k, WeightType.BF16, values);
        }

        job.CheckTransposed(rows, 40, 136, WeightType.BF16);
    }

    [TestCase(256, 40, 136)]
    [TestCase(300, 136, 40)]
    [TestCase(257, 31, 40)] // N % 8 != 0: not the library's
    public void TheLibraryMatchesSumsInDouble(int rows, int n, int k)
    {
        using var job = new LinearJob(withBlas: true);
        job.CheckForward(rows, n, k, WeightType.BF16);
        job.CheckTransposed(rows, n, k, WeightType.BF16);
        Assert.That(job.Plans, Is.EqualTo(n % 8 == 0 ? 2 : 0), "shapes that the library was asked for");
    }

    [TestCase(WeightType.BF16, 1, false)]
    [TestCase(WeightType.F32, 3, false)]
    [TestCase(WeightType.F16, 11, false)]
    [TestCase(WeightType.BF16, 9, false)]
    [TestCase(WeightType.BF16, 130, false)]
    [TestCase(WeightType.BF16, 260, true)]
    public void BiasGoesToValuesAndTheResidualToAll(WeightType type, int rows, bool library)
    {
        using var job = new LinearJob(library);
        foreach ((int n, int k) in ((int, int)[])[(40, 136), (40, 2056)]) // one part and several
        {
            foreach (int values in (int[])[0, 1, rows - 1, rows])
            {
                job.CheckForward(rows, n, k, type, values, biased: true);
            }

            job.CheckForward(rows, n, k, type, rows / 2, biased: true, Residual.Apart);
            job.CheckForward(rows, n, k, type, rows / 2, biased: false, Residual.Apart);
            job.CheckForward(rows, n, k, type, rows, biased: true, Residual.InPlace);
            job.CheckForward(rows, n, k, type, values: 0, biased: false, Residual.InPlace);
        }
    }

    [TestCase(WeightType.BF16, 8, 33, 1032, new[] { 1, 2, 3, 5 })]
    [TestCase(WeightType.F16, 8, 33, 600, new[] { 1, 3, 4, 6 })]
    [TestCase(WeightType.F32, 8, 17, 4100, new[] { 1, 2, 3, 7 })]
    [TestCase(WeightType.F16, 20, 33, 600, new[] { 1, 9 })]
    [TestCase(WeightType.BF16, 131, 33, 1032, new[] { 9, 17, 33, 65, 128 })]
    [TestCase(WeightType.BF16, 66, 520, 136, new[] { 9, 17, 33, 65 })]
    public void ARowsBitsDependNeitherOnItsNeighboursNorOnTheirNumber(WeightType type, int rows, int n, int k, int[] fewer)
    {
        using var job = new LinearJob();
        foreach (bool transposed in (bool[])[false, true])
        {
            int inputs = transposed ? n : k, outputs = transposed ? k : n;
            float[] weights = LinearJob.Weights(type, n, k), x = LinearJob.Numbers(rows * inputs, 3);
            float[] all = job.Run(x, rows, weights, type, n, k, transposed), tangents = job.Run(x, rows, weights, type, n, k, transposed, values: 0);
            Assert.That(job.Run(x, rows, weights, type, n, k, transposed), Is.EqualTo(all), "twice the same");
            foreach (int count in fewer)
            {
                // The last rows become the first; their neighbours are gone.
                float[] some = job.Run(x[((rows - count) * inputs)..], count, weights, type, n, k, transposed);
                Assert.That(some, Is.EqualTo(all[((rows - count) * outputs)..]), $"{count} rows, transposed {transposed}");

                // Values and tangents share tiles.
                float[] both = job.Run(x, rows, weights, type, n, k, transposed, values: count);
                Assert.That(both[..(count * outputs)], Is.EqualTo(all[..(count * outputs)]), $"{count} values");
                Assert.That(both[(count * outputs)..], Is.EqualTo(tangents[(count * outputs)..]), $"all but {count} tangents");
            }

            // Neighbours that are no numbers.
            int kept = rows / 2;
            float[] spoilt = [.. x.Select((v, i) => i / inputs == kept ? v : float.NaN)];
            float[] alone = job.Run(spoilt, rows, weights, type, n, k, transposed);
            Assert.That(alone[(kept * outputs)..((kept + 1) * outputs)], Is.EqualTo(all[(kept * outputs)..((kept + 1) * outputs)]));
        }
    }

    [Test]
    public void EveryHalfIsReadExactly()
    {
        using var job = new LinearJob();
        float[] halves = [.. Enumerable.Range(0, 0x7C01).Select(bits => (float)BitConverter.UInt16BitsToHalf((ushort)bits))]; // to infinity
        Assert.That(job.Run([-1], 1, halves, WeightType.F16, halves.Length, 1, transposed: false), Is.EqualTo(halves.Select(v => -v)));
    }

    [Test]
    public void TheSplitKeepsLargeSmallAndInfiniteNumbers()
    {
        const int N = 9, K = 8;
        using var job = new LinearJob();
        float[] identity = new float[K * K];
        for (int i = 0; i < K; i++)
        {
            identity[(i * K) + i] = 1;
        }

        float[] x = new float[N * K], values = [3.4e38f, -3.4e38f, 1.0039062f, -1e-30f, 1e-40f, 0, 7, 1 / 3f];
        values.CopyTo(x, 0);
        float[] y = job.Run(x, N, identity, WeightType.BF16, K, K, transposed: false);
        for (int i = 0; i < K; i++)
        {
            Assert.That(Math.Abs((double)y[i] - values[i]), Is.LessThanOrEqualTo(1e-40), $"{values[i]:R}: the pieces are all of it");
        }

        Assert.That(y[K..], Is.All.Zero);
        x[K] = float.PositiveInfinity;
        Assert.That(job.Run(x, N, [1, 0, 0, 0, 0, 0, 0, 0], WeightType.BF16, 1, K, transposed: false)[1], Is.EqualTo(float.PositiveInfinity));
    }

    [TestCase(WeightType.BF16, 2048, 8192)]
    [TestCase(WeightType.BF16, 31, 40)]
    [TestCase(WeightType.F16, 1030, 40)]
    public void ScratchForManyRowsServesFewer(WeightType type, int n, int k)
    {
        using var job = new LinearJob(withBlas: true);
        int[] rows = [0, 1, 2, 8, 9, 16, 17, 64, 65, 128, 129, 255, 256, 1000];
        foreach (int others in (int[])[0, 7, 300])
        {
            long[] byValues = [.. rows.Select(count => job.ScratchInBytes(count, others, new Matrix(0, type, n, k)))];
            long[] byTangents = [.. rows.Select(count => job.ScratchInBytes(others, count, new Matrix(0, type, n, k)))];
            Assert.That(byValues, Is.Ordered);
            Assert.That(byTangents, Is.Ordered);
            Assert.That(byValues[^1], Is.GreaterThan(0));
        }
    }

    // Shapes of Llama-3.2-1B and Llama-3-8B: what a part costs in idle multiprocessors and in sums written and read again.
    [TestCase(2048, 2048)]
    [TestCase(8192, 2048)]
    [TestCase(2048, 8192)]
    [TestCase(4096, 4096)]
    [TestCase(14336, 4096)]
    [TestCase(4096, 14336)]
    [TestCase(128256, 2048)]
    public void PartsKeepMostMultiprocessorsBusy(int outputs, int depth)
    {
        int blocks = LinearShape.RowsParts(outputs, depth) * LinearShape.Divide(outputs, LinearShape.RowsTile);
        int rounds = LinearShape.Divide(blocks, LinearShape.Multiprocessors);
        Assert.That((double)blocks / (rounds * LinearShape.Multiprocessors), Is.GreaterThan(0.9));
        int fewBlocks = LinearShape.Divide(outputs, 32 / LinearShape.FewParts(outputs, depth));
        Assert.That(fewBlocks, Is.GreaterThanOrEqualTo(1.9 * LinearShape.Multiprocessors));
    }

    [TestCase(3, false)]
    [TestCase(33, false)]
    [TestCase(256, true)]
    public void ACapturedMapRunsAgainWithoutAllocating(int rows, bool library)
    {
        const int N = 40, K = 1032;
        using var job = new LinearJob(library);
        float[] weights = LinearJob.Weights(WeightType.BF16, N, K), x = LinearJob.Numbers(rows * K, 5), y = LinearJob.Numbers(rows * N, 6);
        float[] forward = job.Run(x, rows, weights, WeightType.BF16, N, K, transposed: false);
        float[] transposed = job.Run(y, rows, weights, WeightType.BF16, N, K, transposed: true);
        Assert.That(job.RunCaptured(x, y, rows, weights, N, K), Is.EqualTo((forward, transposed)));
    }
}

/// <summary>Where the residual of a map lies.</summary>
internal enum Residual
{
    None,
    Apart,
    InPlace,
}
