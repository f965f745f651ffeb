using Tiller.Cpu;
using Tiller.Kernels;

namespace Tiller.Tests.Cpu;

/// <summary>y = W x + b and x̄ = W' ȳ on the CPU against a float64 loop, in every stored type and at awkward sizes.</summary>
public sealed class CpuLinearTests
{
    // A float32 sum of n products is off by at most about n ε Σ|w x|; the sums here are far better than that worst case.
    private const double Tolerance = 2e-6;

    private static readonly WeightType[] s_types = [WeightType.BF16, WeightType.F16, WeightType.F32];

    private static readonly (int Inputs, int Outputs)[] s_shapes =
    [
        (1, 1), (8, 7), (15, 31), (16, 33), (31, 49), (33, 127), (64, 700), (127, 1), (513, 33), (1016, 301), (1030, 49), (1030, 700), (5500, 43),
    ];

    private static IEnumerable<TestCaseData> Cases() =>
        from type in s_types from shape in s_shapes select new TestCaseData(type, shape.Inputs, shape.Outputs);

    [TestCaseSource(nameof(Cases))]
    public void Both_directions_agree_with_float64(WeightType type, int inputs, int outputs)
    {
        using var pool = new WorkerPool(2);
        using var w = new StoredWeights(type, outputs, inputs, seed: inputs + outputs);
        foreach (int rows in new[] { 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 24, 25, 33, 65 }.Concat(inputs * outputs < 20_000
            ? [257, 300]
            : Array.Empty<int>()))
        {
            using var x = FloatRows.Random(rows, inputs, seed: rows);
            using var y = FloatRows.Random(rows, outputs, seed: rows + 1);
            using var forward = new FloatRows(rows, outputs);
            using var back = new FloatRows(rows, inputs);
            CpuLinear.Forward(pool, x.View, 0, w.View, default, default, forward.View);
            CpuLinear.Transposed(pool, y.View, w.View, back.View);
            double worst = 0;
            for (int m = 0; m < rows; m++)
            {
                for (int n = 0; n < outputs; n++)
                {
                    worst = Math.Max(worst, Error(forward.Line(m)[n], inputs, k => (w[n, k], x.Line(m)[k])));
                }

                for (int k = 0; k < inputs; k++)
                {
                    worst = Math.Max(worst, Error(back.Line(m)[k], outputs, n => (w[n, k], y.Line(m)[n])));
                }
            }

            Assert.That(worst, Is.LessThan(Tolerance), $"{rows} rows");
        }
    }

    // A processor without 512-bit vectors computes them in halves, so that this runs anywhere.
    [TestCase(1)]
    [TestCase(33)]
    [TestCase(256)]
    public unsafe void Tiles_of_512_bits_give_the_bits_of_256(int depth)
    {
        using var a = FloatRows.Random(12, depth, seed: 1);
        using var b = FloatRows.Random(depth, 16, seed: 2);
        using var wide = FloatRows.Random(12, 16, seed: 3);
        using var narrow = FloatRows.Random(12, 16, seed: 3);
        foreach (bool add in new[] { true, false, true })
        {
            CpuLinear.Tile12x16(a.View.Row(0), depth, b.View.Row(0), depth, wide.View.Row(0), 16, add);
            CpuLinear.Tile6x16(a.View.Row(0), depth, b.View.Row(0), depth, narrow.View.Row(0), 16, add);
            CpuLinear.Tile6x16(a.View.Row(6), depth, b.View.Row(0), depth, narrow.View.Row(6), 16, add);
            Assert.That(wide.All(), Is.EqualTo(narrow.All()));
        }
    }

    [TestCaseSource(nameof(Cases))]
    public unsafe void Columns_are_what_unit_vectors_give(WeightType type, int inputs, int outputs)
    {
        using var pool = new WorkerPool(2);
        using var w = new StoredWeights(type, outputs, inputs, seed: inputs + outputs);
        foreach (var (first, count) in new[] { (0, inputs), (inputs / 3, inputs - (inputs / 3)), (inputs / 2, 1) })
        {
            const int Values = 3;
            using var x = FloatRows.Random(Values, outputs, seed: 5);
            using var own = FloatRows.Random(Values, count, seed: 6);
            using var common = FloatRows.Random(Values, count, seed: 7);
            using var y = new FloatRows(Values * count, outputs);
            CpuLinear.Columns(pool, w.View, first, count, own.View.Row(0), common.View.Row(0), x.View, y.View, default);
            double worst = 0;
            for (int m = 0; m < Values; m++)
            {
                for (int j = 0; j < count; j++)
                {
                    for (int n = 0; n < outputs; n++)
                    {
                        double a = own.Line(m)[j] * w[n, first + j], b = (double)common.Line(m)[j] * x.Line(m)[n];
                        worst = Math.Max(worst, Math.Abs(y.Line((m * count) + j)[n] - (a + b)) / (Math.Abs(a) + Math.Abs(b) + 1e-30));
                    }
                }
            }

            Assert.That(worst, Is.LessThan(2e-7), $"columns {first} to {first + count - 1}");
        }
    }

    [Test]
    public unsafe void Rows_that_each_thread_norms_have_the_bits_of_normed_rows(
        [ValueSource(nameof(s_types))] WeightType type, [Values(1, 3)] int threads)
    {
        const float Epsilon = 1e-5f;
        using var pool = new WorkerPool(threads);
        foreach (var (inputs, outputs) in s_shapes)
        {
            using var w = new StoredWeights(type, outputs, inputs, seed: inputs);
            using var norm = FloatRows.Random(1, inputs, seed: 3);
            for (int rows = 1; rows <= CpuLinear.DotRows; rows++)
            {
                using var x = FloatRows.Random(rows, inputs, seed: rows);
                using var normed = new FloatRows(rows, inputs);
                using var expected = new FloatRows(rows, outputs);
                using var y = new FloatRows(rows, outputs);
                for (int m = 0; m < rows; m++)
                {
                    CpuOps.NormRow(x.View.Row(m), norm.View.Row(0), normed.View.Row(m), inputs, Epsilon);
                }

                CpuLinear.Forward(pool, normed.View, rows, w.View, default, default, expected.View);
                CpuLinear.Forward(pool, x.View, rows, w.View, default, default, y.View, norm: new InputNorm(norm.View, Epsilon));
                Assert.That(y.All(), Is.EqualTo(expected.All()), $"{rows} rows, {outputs} x {inputs}");
            }
        }
    }

    // Each caller's maps are shared by all threads, whose last rows may be those of any other map of the same shape.
    [Test]
    public void Maps_of_many_callers_at_once_use_their_own_rows()
    {
        const int Callers = 12, Inputs = 256, Outputs = 4096;
        using var pool = new WorkerPool(3);
        using var w = new StoredWeights(WeightType.BF16, Outputs, Inputs, seed: 1);
        var failures = new string?[Callers];

        // New threads, because the runtime gives the number of a thread that has ended to another.
        for (int round = 0; round < 4; round++)
        {
            var threads = Enumerable.Range(0, Callers).Select(caller => new Thread(() => Run(caller))).ToList();
            threads.ForEach(thread => thread.Start());
            threads.ForEach(thread => thread.Join());
        }

        Assert.That(failures, Is.All.Null);

        void Run(int caller)
        {
            using var x = FloatRows.Random(1, Inputs, seed: caller);
            using var expected = new FloatRows(1, Outputs);
            using var y = new FloatRows(1, Outputs);
            using var alone = new WorkerPool(1);
            CpuLinear.Forward(alone, x.View, 1, w.View, default, default, expected.View);
            for (int i = 0; i < 20; i++)
            {
                CpuLinear.Forward(pool, x.View, 1, w.View, default, default, y.View);
                if (!y.All().SequenceEqual(expected.All()))
                {
                    failures[caller] = $"caller {caller} got the outputs of other rows";
                }
            }
        }
    }

    [TestCase(1)]
    [TestCase(5)]
    [TestCase(8)]
    [TestCase(9)]
    [TestCase(300)]
    public void Bias_goes_to_value_rows_only_and_the_residual_to_all(int rows)
    {
        const int Inputs = 48, Outputs = 50;
        using var pool = new WorkerPool(2);
        using var w = new StoredWeights(WeightType.BF16, Outputs, Inputs, seed: 1);
        using var x = FloatRows.Random(rows, Inputs, seed: 2);
        using var bias = FloatRows.Random(1, Outputs, seed: 3);
        using var residual = FloatRows.Random(rows, Outputs, seed: 4);
        using var plain = new FloatRows(rows, Outputs);
        using var y = new FloatRows(rows, Outputs);
        CpuLinear.Forward(pool, x.View, 0, w.View, default, default, plain.View);
        foreach (int biased in new[] { 0, 1, rows / 2, rows })
        {
            CpuLinear.Forward(pool, x.View, biased, w.View, bias.View, default, y.View);
            CheckEach((m, n) => plain.Line(m)[n] + (m < biased ? bias.Line(0)[n] : 0));

            CpuLinear.Forward(pool, x.View, biased, w.View, bias.View, residual.View, y.View);
            CheckEach((m, n) => residual.Line(m)[n] + (plain.Line(m)[n] + (m < biased ? bias.Line(0)[n] : 0)));
        }

        void CheckEach(Func<int, int, float> expected)
        {
            for (int m = 0; m < rows; m++)
            {
                for (int n = 0; n < Outputs; n++)
                {
                    Assert.That(y.Line(m)[n], Is.EqualTo(expected(m, n)).Within(1e-5f));
                }
            }
        }
    }

    [TestCaseSource(nameof(s_types))]
    public void A_rows_bits_do_not_depend_on_its_neighbours_or_their_number(WeightType type)
    {
        CheckBits(type, inputs: 1030, outputs: 49);
        CheckBits(type, inputs: CpuLinear.LongRow - 14, outputs: 49);
    }

    [TestCaseSource(nameof(s_types))]
    public void A_rows_bits_do_not_depend_on_whether_weights_are_read_in_blocks_of_four_rows(WeightType type)
    {
        // Both have a half step and a rest of inputs behind the whole steps; the rows of the second are too long for such blocks.
        CheckBits(type, inputs: 1016, outputs: 301);
        CheckBits(type, inputs: 4120, outputs: 71);
    }

    // As above, but parts of so many long rows are read in quarters. One has a row more than four quarters.
    [TestCaseSource(nameof(s_types))]
    public void A_rows_bits_do_not_depend_on_whether_weights_are_read_in_quarters(WeightType type) => CheckBits(type, inputs: 2072, outputs: 1021);

    private static void CheckBits(WeightType type, int inputs, int outputs)
    {
        int largest = CpuLinear.LargestDotRows(inputs);
        using var pool = new WorkerPool(2);
        using var w = new StoredWeights(type, outputs, inputs, seed: 5);
        using var probe = FloatRows.Random(1, inputs, seed: 6);

        // Dot products up to so many rows, a blocked product beyond: one answer each, and one backwards.
        Dictionary<bool, float[]> forward = [];
        float[]? backward = null;
        foreach (int rows in new[] { 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 23, 24, 25, 33, 64, 65, 256, 257, 300 })
        {
            foreach (int at in new[] { 0, rows / 2, rows - 1 }.Distinct())
            {
                using var x = FloatRows.Random(rows, inputs, seed: (31 * rows) + at);
                probe.Line(0).CopyTo(x.Line(at));
                using var y = new FloatRows(rows, outputs);
                CpuLinear.Forward(pool, x.View, 0, w.View, default, default, y.View);
                float[] got = y.Line(at).ToArray();
                if (!forward.TryAdd(rows <= largest, got))
                {
                    Assert.That(got, Is.EqualTo(forward[rows <= largest]), $"row {at} of {rows}");
                }

                using var cotangents = FloatRows.Random(rows, outputs, seed: (37 * rows) + at);
                probe.Line(0)[..outputs].CopyTo(cotangents.Line(at));
                using var back = new FloatRows(rows, inputs);
                CpuLinear.Transposed(pool, cotangents.View, w.View, back.View);
                backward ??= back.Line(at).ToArray();
                Assert.That(back.Line(at).ToArray(), Is.EqualTo(backward), $"cotangent {at} of {rows}");
            }
        }
    }

    [TestCaseSource(nameof(s_types))]
    public void A_value_rows_bits_do_not_depend_on_many_tangents_beside_it(WeightType type)
    {
        const int Inputs = 1030, Outputs = 49, Values = 3;
        using var pool = new WorkerPool(2);
        using var w = new StoredWeights(type, Outputs, Inputs, seed: 9);
        using var all = FloatRows.Random(Values + 300, Inputs, seed: 10);
        float[][]? alone = null;
        foreach (int tangents in new[] { 0, CpuLinear.TangentsAlone, 47, 300 })
        {
            using var y = new FloatRows(Values + tangents, Outputs);
            CpuLinear.Forward(pool, all.View.Slice(0, Values + tangents), Values, w.View, default, default, y.View);
            float[][] got = [.. Enumerable.Range(0, Values).Select(m => y.Line(m).ToArray())];
            alone ??= got;
            Assert.That(got, Is.EqualTo(alone), $"{tangents} tangents");
        }
    }

    [TestCaseSource(nameof(s_types))]
    public void A_gated_map_gives_the_bits_of_the_map_and_of_the_gated_unit_one_after_the_other(WeightType type)
    {
        using var pool = new WorkerPool(3);
        foreach (var (inputs, half) in new[] { (33, 1), (64, 37), (600, 701) })
        {
            using var w = new StoredWeights(type, 2 * half, inputs, seed: half);
            using var bias = FloatRows.Random(1, 2 * half, seed: 3);
            foreach (int rows in new[] { 1, 2, 3, 5, 8, 17, 64, 65, 300 })
            {
                using var x = FloatRows.Random(rows, inputs, seed: rows);
                using var plain = new FloatRows(rows, 2 * half);
                using var together = new FloatRows(rows, 2 * half);
                using var got = new FloatRows(rows, half);
                float[] expected = new float[half];
                CpuLinear.Forward(pool, x.View, rows, w.View, bias.View, default, plain.View);
                CpuLinear.Forward(
                    pool, x.View, rows, w.View, bias.View, default, together.View, new GatedOutput(Activation.Silu, 0.5f, got.View));
                for (int m = 0; m < rows; m++)
                {
                    Gate(plain.Line(m), expected);
                    Assert.That(together.Line(m).ToArray(), Is.EqualTo(plain.Line(m).ToArray()), $"outputs of row {m} of {rows}");
                    Assert.That(got.Line(m).ToArray(), Is.EqualTo(expected), $"row {m} of {rows}");
                }
            }
        }

        static unsafe void Gate(ReadOnlySpan<float> line, float[] y)
        {
            fixed (float* gates = line, to = y)
            {
                GatedUnit.Values(Activation.Silu, 0.5f, gates, gates + y.Length, to, y.Length);
            }
        }
    }

    [TestCaseSource(nameof(s_types))]
    public void The_number_of_threads_changes_no_bit(WeightType type)
    {
        const int Inputs = 513, Outputs = 700;
        using var w = new StoredWeights(type, Outputs, Inputs, seed: 7);
        foreach (int rows in new[] { 1, 3, 8, 17, 25, 63, 66, 257 })
        {
            using var x = FloatRows.Random(rows, Inputs, seed: rows);
            using var y = FloatRows.Random(rows, Outputs, seed: rows);
            float[][]? first = null;
            foreach (int threads in new[] { 1, 2, 3 })
            {
                using var pool = new WorkerPool(threads);
                using var forward = new FloatRows(rows, Outputs);
                using var back = new FloatRows(rows, Inputs);
                CpuLinear.Forward(pool, x.View, 0, w.View, default, default, forward.View);
                CpuLinear.Transposed(pool, y.View, w.View, back.View);
                float[][] got = [forward.All(), back.All()];
                first ??= got;
                Assert.That(got, Is.EqualTo(first), $"{rows} rows, {threads} threads");
            }
        }
    }

    [Test]
    public void Every_half_widens_exactly_wherever_it_stands()
    {
        // All 65536 bit patterns, 16 a row: a row of W times a unit vector is one weight.
        using var pool = new WorkerPool(1);
        ushort[] bits = [.. Enumerable.Range(0, 65536).Select(i => (ushort)i)];
        foreach (var type in new[] { WeightType.F16, WeightType.BF16 })
        {
            using var w = new StoredWeights(type, 4096, 16, bits);
            using var row = new FloatRows(1, 16);
            for (int n = 0; n < 4096; n++)
            {
                unsafe
                {
                    CpuLinear.Gather(w.View, n, 1, row.View.Row(0));
                }

                for (int k = 0; k < 16; k++)
                {
                    float expected = Widen(type, bits[(16 * n) + k]);
                    Assert.That(row.Line(0)[k], float.IsNaN(expected) ? Is.NaN : Is.EqualTo(expected));
                }
            }

            foreach (int rows in new[] { 1, 2, 4, 9, 25 })
            {
                for (int k = 0; k < 16; k++)
                {
                    using var unit = new FloatRows(rows, 16);
                    using var y = new FloatRows(rows, 4096);
                    for (int m = 0; m < rows; m++)
                    {
                        unit.Line(m)[k] = 1;
                    }

                    CpuLinear.Forward(pool, unit.View, 0, w.View, default, default, y.View);
                    for (int n = 0; n < 4096; n++)
                    {
                        // 0 times an infinity or NaN elsewhere in the row is NaN; only rows of finite numbers are told apart.
                        bool finite = Enumerable.Range(16 * n, 16).All(i => float.IsFinite(Widen(type, bits[i])));
                        if (finite)
                        {
                            Assert.That(y.Line(rows - 1)[n], Is.EqualTo(Widen(type, bits[(16 * n) + k])));
                        }
                    }
                }
            }
        }
    }

    [TestCaseSource(nameof(s_types))]
    public void Infinities_and_NaN_in_the_weights_pass_through(WeightType type)
    {
        using var pool = new WorkerPool(1);
        foreach (float odd in new[] { float.PositiveInfinity, float.NegativeInfinity, float.NaN })
        {
            foreach (int at in new[] { 0, 1, 17, 34 })
            {
                using var w = new StoredWeights(type, 3, 35, seed: 8);
                w.Set(1, at, odd);
                foreach (int rows in new[] { 1, 2, 4, 9, 25 })
                {
                    using var x = new FloatRows(rows, 35);
                    using var y = new FloatRows(rows, 3);
                    foreach (int m in Enumerable.Range(0, rows))
                    {
                        x.Line(m).Fill(0.5f);
                    }

                    CpuLinear.Forward(pool, x.View, 0, w.View, default, default, y.View);
                    Assert.That(y.Line(rows - 1)[1], float.IsNaN(odd) ? Is.NaN : Is.EqualTo(odd), $"column {at}, {rows} rows");
                    Assert.That(float.IsFinite(y.Line(rows - 1)[0]) && float.IsFinite(y.Line(rows - 1)[2]), $"column {at}, {rows} rows");
                }
            }
        }
    }

    // |actual − Σ a b| / Σ |a b|
    private static double Error(float actual, int n, Func<int, (double A, double B)> pair)
    {
        double sum = 0, size = 1e-30;
        for (int i = 0; i < n; i++)
        {
            var (a, b) = pair(i);
            sum += a * b;
            size += Math.Abs(a * b);
        }

        return Math.Abs(actual - sum) / size;
    }

    internal static float Widen(WeightType type, ushort bits) =>
        type == WeightType.F16 ? (float)BitConverter.UInt16BitsToHalf(bits) : BitConverter.UInt32BitsToSingle((uint)bits << 16);
}
