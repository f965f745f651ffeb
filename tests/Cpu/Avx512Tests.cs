using System.Runtime.InteropServices;
using Tiller.Cpu;
using Tiller.Kernels;
using Tiller.Tests.Interop;
using Tiller.Tests.Tool;

namespace Tiller.Tests.Cpu;

/// <summary>
/// The products in vectors of 512 bits as the just-in-time compiler makes them, and as C, which programs built ahead of time are linked with.
/// </summary>
[NonParallelizable]
public sealed class Avx512Tests
{
    private static readonly WeightType[] s_types = [WeightType.BF16, WeightType.F16, WeightType.F32];
    private static readonly TestCaseData[] s_panels =
        [.. from rows in new[] { 1, 5, 6, 11, 12, 13, 64, 80, 192 } from depth in new[] { 1, 33, 192 } select new TestCaseData(rows, depth)];


    private readonly Avx512Code _before = Avx512.Code;
    private Scratch? _scratch;

    [OneTimeSetUp]
    public void Link()
    {
        if (!Avx512.IsManaged)
        {
            Assert.Ignore("The processor has no AVX-512.");
        }

        if (HostCuda.Run("gcc", ["--version"]).ExitCode != 0)
        {
            Assert.Ignore("The test needs gcc, which is not installed: run tools/setup.sh.");
        }

        _scratch = new Scratch();
        string library = _scratch["avx512.so"];
        (int exitCode, string output) = HostCuda.Run(
            "gcc", ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", Repository.Path("src", "Engine", "Cpu", "Avx512.c"), "-o", library]);
        Assert.That(exitCode, Is.Zero, output);
        nint handle = NativeLibrary.Load(library);
        NativeLibrary.SetDllImportResolver(typeof(Avx512).Assembly, (name, _, _) => name == "tiller_avx512" ? handle : 0);
    }

    [OneTimeTearDown]
    public void Unlink() => _scratch?.Dispose();

    [TearDown]
    public void GiveBack() => Avx512.Code = _before;

    [Test]
    public void A_processor_with_AVX512_has_it_for_the_native_code_too() => Assert.That(Avx512.Supported(), Is.Not.Zero);

    [TestCaseSource(nameof(s_types))]
    public void The_bits_of_a_product_do_not_depend_on_who_compiled_it(WeightType type)
    {
        using var pool = new WorkerPool(2);
        foreach (var (inputs, outputs) in new[] { (1, 1), (15, 31), (16, 4), (31, 49), (64, 50), (128, 700), (513, 33), (1030, 49), (5500, 43) })
        {
            using var w = new StoredWeights(type, outputs, inputs, seed: inputs + outputs);
            using var bias = FloatRows.Random(1, outputs, seed: 3);
            foreach (int rows in new[] { 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 40, 65, 80, 257 })
            {
                using var x = FloatRows.Random(rows, inputs, seed: rows);
                using var y = FloatRows.Random(rows, outputs, seed: rows + 1);
                var got = new List<float[]>();
                foreach (var code in Enum.GetValues<Avx512Code>())
                {
                    Avx512.Code = code;
                    using var forward = new FloatRows(rows, outputs);
                    using var back = new FloatRows(rows, inputs);
                    CpuLinear.Forward(pool, x.View, rows / 2, w.View, bias.View, y.View, forward.View);
                    CpuLinear.Transposed(pool, y.View, w.View, back.View);
                    got.Add([.. forward.All(), .. back.All()]);
                }

                Assert.That(got[1], Is.EqualTo(got[0]), $"{rows} rows of {inputs} numbers, {outputs} outputs, by .NET");
                Assert.That(got[2], Is.EqualTo(got[0]), $"{rows} rows of {inputs} numbers, {outputs} outputs, in C");
            }
        }
    }

    // The products above would also agree if nobody called the C.
    [TestCaseSource(nameof(s_types))]
    public unsafe void The_native_dot_products_agree_with_float64(WeightType type)
    {
        const int Steps = 3, Inputs = 16 * Steps, Pairs = 4;
        using var w = new StoredWeights(type, 4, Inputs, seed: 1);
        using var x = FloatRows.Random(1, Inputs, seed: 2);
        using var paired = new FloatRows(1, 2 * Pairs * Inputs);
        using var sums = new FloatRows(1, 8 * Pairs);
        for (int k = 0; k < Inputs; k++)
        {
            // Of each step the numbers that IStoredWeight.Load calls a, of both rows, then those of b; all rows alike here.
            int at = type == WeightType.F32 ? k % 16 : (k % 2 * 8) + (k % 16 / 2);
            for (int row = 0; row < 2 * Pairs; row++)
            {
                int step = ((k / 16 * Pairs) + (row / 2)) * 32;
                paired.Line(0)[step + (at / 8 * 16) + (row % 2 * 8) + (at % 8)] = (row + 1) * x.Line(0)[k];
            }
        }

        nint stride = (nint)Inputs * w.View.ElementSizeInBytes;
        Avx512.Dots(type, Pairs, (byte*)w.View.Address, stride, 4, null, paired.View.Row(0), Steps, sums.View.Row(0));
        for (int row = 0; row < 2 * Pairs; row++)
        {
            for (int n = 0; n < 4; n++)
            {
                double expected = (row + 1) * Enumerable.Range(0, Inputs).Sum(k => w[n, k] * x.Line(0)[k]);
                Assert.That(sums.Line(0)[(4 * row) + n], Is.EqualTo(expected).Within(1e-4));
            }
        }
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(256)]
    public unsafe void Native_tiles_give_the_bits_of_256(int depth)
    {
        using var a = FloatRows.Random(24, depth, seed: 1);
        using var b = FloatRows.Random(depth, 16, seed: 2);
        using var wide = FloatRows.Random(24, 16, seed: 3);
        using var narrow = FloatRows.Random(24, 16, seed: 3);
        foreach (bool add in new[] { true, false, true })
        {
            Avx512.Tiles(a.View.Row(0), depth, 24, b.View.Row(0), depth, wide.View.Row(0), 16, add ? 1 : 0);
            for (int row = 0; row < 24; row += 6)
            {
                CpuLinear.Tile6x16(a.View.Row(row), depth, b.View.Row(0), depth, narrow.View.Row(row), 16, add);
            }

            Assert.That(wide.All(), Is.EqualTo(narrow.All()));
        }
    }

    [TestCase(16)]
    [TestCase(32)]
    [TestCase(64)]
    [TestCase(80)]
    public unsafe void A_matrix_in_panels_has_the_bits_of_one_in_rows(int size)
    {
        const int Terms = 67;
        using var x = FloatRows.Random(Terms, size, seed: 1);
        using var y = FloatRows.Random(Terms, size, seed: 2);
        using FloatRows rows = new(size, size), expected = new(Terms, size + 3);
        VectorMath.AddOuterProducts(x.View.Row(0), y.View.Row(0), Terms, size, rows.View.Row(0));
        for (int t = 0; t < Terms; t++)
        {
            VectorMath.WeightedSum(x.View.Row(t), rows.View.Row(0), size, size, expected.View.Row(t));
        }

        foreach (var code in Enum.GetValues<Avx512Code>())
        {
            using FloatRows panels = new(size, size), got = new(Terms, size + 3);
            PanelTiles.AddOuterProducts(code, x.View.Row(0), y.View.Row(0), Terms, size, panels.View.Row(0));
            for (int i = 0; i < size; i++)
            {
                for (int j = 0; j < size; j++)
                {
                    Assert.That(panels.All()[(j / 16 * 16 * size) + (i * 16) + (j % 16)], Is.EqualTo(rows.Line(i)[j]), $"{code}, ({i}, {j})");
                }
            }

            PanelTiles.Multiply(code, x.View.Row(0), size, Terms, panels.View.Row(0), size, got.View.Row(0), size + 3);
            Assert.That(got.All(), Is.EqualTo(expected.All()), $"{code}");
        }
    }

    [TestCaseSource(nameof(s_panels))]
    public unsafe void The_bits_of_a_panels_product_do_not_depend_on_who_compiled_it(int rows, int depth)
    {
        using var a = FloatRows.Random(rows, depth, seed: 1);
        using var across = FloatRows.Random(depth, rows, seed: 2);
        using var b = FloatRows.Random(depth, 16, seed: 3);
        var got = new List<float[]>();
        foreach (var code in Enum.GetValues<Avx512Code>())
        {
            using var product = FloatRows.Random(rows, 16, seed: 4);
            using var sum = FloatRows.Random(rows, 16, seed: 4);
            PanelTiles.Rows(code, a.View.Row(0), depth, rows, b.View.Row(0), depth, product.View.Row(0));
            PanelTiles.Columns(code, across.View.Row(0), rows, rows, b.View.Row(0), 16, depth, sum.View.Row(0));
            got.Add([.. product.All(), .. sum.All()]);
        }

        double[] expected = new double[2 * rows * 16];
        using var before = FloatRows.Random(rows, 16, seed: 4);
        for (int n = 0; n < rows; n++)
        {
            for (int column = 0; column < 16; column++)
            {
                double product = 0, sum = before.Line(n)[column];
                for (int k = 0; k < depth; k++)
                {
                    product += (double)a.Line(n)[k] * b.Line(k)[column];
                    sum += (double)across.Line(k)[n] * b.Line(k)[column];
                }

                expected[(n * 16) + column] = product;
                expected[((rows + n) * 16) + column] = sum;
            }
        }

        Assert.Multiple(() =>
        {
            Assert.That(got[0].Select(x => (double)x), Is.EqualTo(expected).Within(1e-4));
            Assert.That(got[1], Is.EqualTo(got[0]), "by .NET");
            Assert.That(got[2], Is.EqualTo(got[0]), "in C");
        });
    }
}
