using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Kernels;

public sealed class AttentionTests : CudaTest
{
    private const double Tolerance = 5e-6; // of a row's norm

    private readonly List<IDisposable> _owned = [];
    private PrimaryContext _context = null!;
    private CudaStream _stream = null!;
    private AttentionKernels _kernels = null!;

    // Head sizes with 16-byte rows and without, groups of 1, 2, 4, 5 and 16 heads, windows, a cap.
    private static readonly AttentionShape[] s_shapes =
    [
        Shape(4, 4, 20), Shape(4, 2, 24, window: 16), Shape(4, 1, 64, softCap: 1.5f), Shape(2, 2, 128, window: 1000), Shape(5, 1, 8, window: 1),
        Shape(32, 2, 4, softCap: 2), Shape(2, 1, 256, softCap: 1, window: 100), Shape(3, 1, 6), Shape(9, 1, 2, window: 40), Shape(2, 1, 72),
        Shape(1, 1, 160),
    ];

    [SetUp]
    public void OpenDevice()
    {
        _context = new PrimaryContext();
        _stream = new CudaStream(_context);
        var library = new KernelLibrary(_context);
        _owned.Add(library);
        _kernels = new AttentionKernels(library.Get);
    }

    [TearDown]
    public void CloseDevice()
    {
        _owned.ForEach(owned => owned.Dispose());
        _owned.Clear();
        _stream?.Dispose();
        _context?.Dispose();
    }

    [TestCaseSource(nameof(s_shapes))]
    public void RowsOfManyLengthsMatchTheEquations(AttentionShape shape)
    {
        var problem = new AttentionProblem(shape, [new(33), new(1), new(257), new(31), new(127), new(32)]);
        float[] heads = Forward(problem, problem.Longest);
        for (int r = 0; r < problem.Rows.Length; r++)
        {
            AssertClose(Line(heads, r, shape.H * shape.E), problem.Forward(r), $"row {r}");
        }

        Assert.That(Forward(problem, problem.Longest, ownCaches: true), Is.EqualTo(heads), "older keys, before the kernel ahead has ended");
        _kernels.Variants = new KernelVariants { EarlyKeys = false };
        Assert.That(Forward(problem, problem.Longest, ownCaches: true), Is.EqualTo(heads), "after it");
    }

    [TestCase(1100)]
    [TestCase(4097)]
    public void LongRowsAreCutIntoChunksOfManyTiles(int length)
    {
        var problem = new AttentionProblem(Shape(2, 1, 4), [new(length), new(5)]);
        float[] heads = Forward(problem, problem.Longest);
        AssertClose(Line(heads, 0, 8), problem.Forward(0), "long row");
        AssertClose(Line(heads, 1, 8), problem.Forward(1), "short row");
    }

    [Test]
    public void MoreRowsThanALaunchHolds()
    {
        var problem = new AttentionProblem(Shape(16, 16, 4), [.. Enumerable.Range(0, 260).Select(i => new AttentionRow(1 + (i % 3)))]);
        float[] heads = Forward(problem, problem.Longest);
        for (int r = 0; r < problem.Rows.Length; r++)
        {
            AssertClose(Line(heads, r, 64), problem.Forward(r), $"row {r}");
        }
    }

    [TestCase(64, 4, 1, 0)]
    [TestCase(20, 4, 2, 50)]
    [TestCase(6, 3, 1, 0)]
    public void ARowsBitsAreItsOwn(int e, int h, int g, int window)
    {
        AttentionShape shape = Shape(h, g, e, window: window);
        int[] tangents = [3, 0, (e / 2) + 1, 1];
        int[] lengths = [70, 257, 33, 129];
        var problem = new AttentionProblem(shape, [.. lengths.Zip(tangents, (n, t) => new AttentionRow(n, t))]);
        float[] heads = Push(problem, problem.Longest), again = Push(problem, 4 * problem.Longest);
        float[] bars = Pull(problem, problem.Longest, heads), barsAgain = Pull(problem, 4 * problem.Longest, heads);
        Assert.That(again, Is.EqualTo(heads), "sized for longer rows");
        Assert.That(barsAgain, Is.EqualTo(bars), "sized for longer rows");
        for (int r = 0; r < lengths.Length; r++)
        {
            AttentionProblem alone = Alone(problem, r);
            float[] own = Push(alone, alone.Longest), ownBars = Pull(alone, alone.Longest, own);
            int width = h * e;
            Assert.That(own[..width], Is.EqualTo(Line(heads, r, width)), $"row {r}");
            for (int t = 0; t < tangents[r]; t++)
            {
                Assert.That(Line(own, 1 + t, width), Is.EqualTo(Line(heads, lengths.Length + problem.Begin[r] + t, width)), $"row {r}, tangent {t}");
                Assert.That(Line(ownBars, t, problem.Width), Is.EqualTo(Line(bars, problem.Begin[r] + t, problem.Width)), $"row {r}, cotangent {t}");
            }
        }
    }

    [TestCase(64, 2, 1, 0, 0f, 0, 70)]
    [TestCase(20, 2, 2, 16, 0f, 5, 130)]
    [TestCase(128, 1, 1, 0, 1.5f, 40, 66)]
    [TestCase(256, 2, 1, 33, 2f, 30, 34)]
    [TestCase(6, 4, 2, 1, 0f, 3, 65)]
    [TestCase(72, 1, 1, 1000, 0f, 100, 16)]
    public void TiledRowsAgreeWithRowsOneByOne(int e, int h, int g, int window, float softCap, int before, int count)
    {
        AttentionShape shape = Shape(h, g, e, softCap, window);
        var problem = new AttentionProblem(shape, [.. Enumerable.Range(before + 1, count).Select(n => new AttentionRow(n))], oneSequence: true);
        float[] tiled = Forward(problem, problem.Longest, oneSequence: true), single = Forward(problem, problem.Longest);
        for (int r = 0; r < count; r++)
        {
            double[] expected = problem.Forward(r);
            AssertClose(Line(tiled, r, h * e), expected, $"row {r}, tiled");
            AssertClose(Line(single, r, h * e), expected, $"row {r}, alone");
            AssertClose(Line(tiled, r, h * e), [.. Line(single, r, h * e).Select(x => (double)x)], $"row {r}, both ways", 1e-6);
        }
    }

    [Test]
    public void ATiledRowsBitsAreItsOwn()
    {
        AttentionShape shape = Shape(2, 1, 24, window: 40);
        var problem = new AttentionProblem(shape, [.. Enumerable.Range(10, 90).Select(n => new AttentionRow(n))], oneSequence: true);
        float[] all = Forward(problem, problem.Longest, oneSequence: true), longer = Forward(problem, 2048, oneSequence: true);
        Assert.That(longer, Is.EqualTo(all));
        Assert.That(Forward(problem, problem.Longest, oneSequence: true, skip: 37), Is.EqualTo(all[(37 * 48)..]), "without the rows before");

        // A value that is not a number reaches the rows that see it, and no other.
        const int At = 50;
        problem.Caches[0][problem.ValueAt(0, 0, At) + 7] = float.NaN;
        float[] broken = Forward(problem, problem.Longest, oneSequence: true);
        for (int r = 0; r < problem.Rows.Length; r++)
        {
            bool sees = problem.Rows[r].Length > At && problem.Rows[r].Length - 40 <= At;
            Assert.That(Line(broken, r, 48).Any(float.IsNaN), Is.EqualTo(sees), $"row {r}");
            if (!sees)
            {
                Assert.That(Line(broken, r, 48), Is.EqualTo(Line(all, r, 48)), $"row {r}");
            }
        }
    }

    [Test]
    public void WhatBreaksALaunchsPromiseIsNaN()
    {
        var rows = new AttentionProblem(Shape(2, 1, 8), [new(100), new(20)]);
        float[] heads = Forward(rows, longest: 64);
        Assert.That(heads[..16], Is.All.NaN, "longer than the launch was sized for");
        Assert.That(Forward(rows, longest: 64, ownCaches: true)[..16], Is.All.NaN, "and read before the kernel ahead has ended");
        AssertClose(heads[16..], rows.Forward(1), "the other row");

        var sequences = new AttentionProblem(Shape(1, 1, 8), [.. Enumerable.Range(1, 17).Select(n => new AttentionRow(n))]);
        heads = Forward(sequences, 32, oneSequence: true);
        AssertClose(heads[..8], sequences.Forward(0), "the row that gives the cache");
        Assert.That(heads[8..], Is.All.NaN, "rows of other caches");
    }

    private static IEnumerable<TestCaseData> Tangents()
    {
        foreach (AttentionShape shape in s_shapes)
        {
            int e = shape.E;
            AttentionRow[] rows = e switch
            {
                // No cotangents, few, E/2 and E + 1, by windows' edges.
                <= 24 => [new(33, 1), new(1, 3), new(257, 0), new(31, e / 2), new(127, (e / 2) - 1), new(65, e + 1), new(70, 31)],
                <= 72 => [new(33, 31), new(1, 1), new(70, 0), new(40, (e / 2) + 1), new(127, 3)],
                _ => [new(33, 3), new(5, 1), new(140, 5)],
            };
            yield return new TestCaseData(shape, rows).SetArgDisplayNames($"{shape.H}, {shape.G}, {e}, {shape.SoftCap}, {shape.Window}");
        }

        yield return new TestCaseData(Shape(1, 1, 128), new AttentionRow[] { new(9), new(40, 129), new(3, 2) }).SetArgDisplayNames("M of four tiles");
        yield return new TestCaseData(Shape(1, 1, 64), Enumerable.Repeat(new AttentionRow(3, 31), 5).ToArray()).SetArgDisplayNames(
            "more than a launch streams");
        yield return new TestCaseData(Shape(1, 1, 6), new AttentionRow[] { new(1100, 2), new(1100, 3) }).SetArgDisplayNames("chunks of two tiles");
        yield return new TestCaseData(Shape(4, 2, 8), Enumerable.Repeat(new AttentionRow(7), 40).Append(new AttentionRow(50, 5)).ToArray())
            .SetArgDisplayNames("fewer tangents than rows");
    }

    [TestCaseSource(nameof(Tangents))]
    public void TangentsMatchCentralDifferencesAndCotangentsTheEquations(AttentionShape shape, AttentionRow[] rows)
    {
        var problem = new AttentionProblem(shape, rows);
        int width = shape.H * shape.E;
        float[] heads = Push(problem, problem.Longest), bars = Pull(problem, problem.Longest, heads);
        for (int t = 0; t < problem.Owners.Length; t++)
        {
            float[] pushed = Line(heads, rows.Length + t, width), pulled = Line(bars, t, problem.Width);
            AssertClose(pushed, problem.Push(t), $"tangent {t} of row {problem.Owners[t]}");
            AssertClose(pulled, problem.Pull(t), $"cotangent {t} of row {problem.Owners[t]}");

            // ⟨ō, J ẋ⟩ = ⟨J'ō, ẋ⟩
            float[] bar = Line(problem.HeadsBar, t, width), tangent = Line(problem.Qkv, rows.Length + t, problem.Width);
            double size = Math.Sqrt((Dot(bar, bar) * Dot(pushed, pushed)) + (Dot(pulled, pulled) * Dot(tangent, tangent)));
            Assert.That(Dot(bar, pushed), Is.EqualTo(Dot(pulled, tangent)).Within(Tolerance * size), $"adjoint {t}");
        }
    }

    [Test]
    public void TwoRunsGiveTheSameBits()
    {
        var problem = new AttentionProblem(Shape(4, 2, 20), [new(140, 3), new(90, 12)]);
        float[] heads = Push(problem, problem.Longest), bars = Pull(problem, problem.Longest, heads);
        Assert.That(Push(problem, problem.Longest), Is.EqualTo(heads));
        Assert.That(Pull(problem, problem.Longest, heads), Is.EqualTo(bars));
    }

    [Test]
    public void ARecordedLaunchFollowsGrowingSequences()
    {
        AttentionShape shape = Shape(4, 2, 8);
        AttentionProblem[] steps = [.. new[] { 30, 33, 70 }.Select(n => new AttentionProblem(shape, [new(n), new(n + 50)], seed: n))];
        using var device = new AttentionDevice(_context, steps[0]);
        var scratch = Scratch(steps[0], 128, out CudaDeviceVariable<byte> memory);
        using CudaGraph graph = _stream.Capture(() =>
            _kernels.Forward(_stream, shape, device.Table, new AttentionExtent(128), device.Qkv, device.Heads, scratch));
        using CudaGraphExec recorded = graph.Instantiate();
        foreach (AttentionProblem step in steps)
        {
            using var next = new AttentionDevice(_context, step);
            _stream.CopyWithinDevice(next.Rows.Address, device.Rows.Address, device.Rows.SizeInBytes);
            _stream.CopyWithinDevice(next.Qkv.Address, device.Qkv.Address, step.Qkv.Length * 4L);
            recorded.Launch(_stream);
            _stream.Synchronize();
            float[] heads = device.ReadHeads();
            AssertClose(heads[..32], step.Forward(0), $"length {step.Rows[0].Length}");
            AssertClose(heads[32..64], step.Forward(1), $"length {step.Rows[1].Length}");
        }

        memory.Dispose();
    }

    [Test]
    public void ShapesWithoutKernelsAreRefusedByName()
    {
        Assert.That(() => ScratchInBytes(Shape(8, 4, 264), 1, 0, 0, 32), Throws.TypeOf<AttentionShapeException>().With.Message.Contains("E = 264"));
        Assert.That(() => ScratchInBytes(Shape(17, 1, 64), 1, 0, 0, 32), Throws.TypeOf<AttentionShapeException>().With.Message.Contains("H = 17"));
        Assert.That(() => ScratchInBytes(Shape(6, 4, 64), 1, 0, 0, 32), Throws.TypeOf<AttentionShapeException>());
        Assert.That(ScratchInBytes(Shape(16, 1, 256), 1, 0, 0, 1), Is.Positive);
    }

    [Test]
    public void ScratchGrowsWithRowsAndLengths()
    {
        AttentionShape shape = Shape(8, 2, 64, window: 40);
        int[] sizes = [1, 2, 3, 31, 100, 127, 600, 1025, 5000];
        long[] byRows = [.. sizes.Select(n => ScratchInBytes(shape, n, 5, 5, 2048))];
        long[] byTangents = [.. sizes.Select(n => ScratchInBytes(shape, 3, n, n, 2048))];
        long[] byLength = [.. sizes.Select(n => ScratchInBytes(shape, 300, 40, 40, n))];
        Assert.That(byRows, Is.Ordered);
        Assert.That(byTangents, Is.Ordered);
        Assert.That(byLength, Is.Ordered);
        Assert.That(ScratchInBytes(shape, 3, 5, 5, 2048), Is.EqualTo(ScratchInBytes(shape with { Window = 0 }, 3, 5, 5, 2048)));
    }

    private static AttentionShape Shape(int h, int g, int e, float softCap = 0, int window = 0)
        => new(1, h, g, e, 1.7f / MathF.Sqrt(e), softCap, window);

    // Row r of a problem with its tangents, by itself.
    private static AttentionProblem Alone(AttentionProblem problem, int r)
    {
        var alone = new AttentionProblem(problem.Shape, [problem.Rows[r]]);
        problem.Caches[r].CopyTo(alone.Caches[0], 0);
        Line(problem.Qkv, r, problem.Width).CopyTo(alone.Qkv, 0);
        int from = problem.Begin[r], count = problem.Rows[r].Tangents, width = problem.Shape.H * problem.Shape.E;
        problem.Qkv.AsSpan((problem.Rows.Length + from) * problem.Width, count * problem.Width).CopyTo(alone.Qkv.AsSpan(problem.Width));
        problem.HeadsBar.AsSpan(from * width, count * width).CopyTo(alone.HeadsBar);
        return alone;
    }

    // Value rows alone; the first `skip` left out of the batch.
    private float[] Forward(AttentionProblem problem, int longest, bool oneSequence = false, int skip = 0, bool ownCaches = false)
    {
        using var device = new AttentionDevice(_context, problem);
        int values = problem.Rows.Length - skip, width = problem.Shape.H * problem.Shape.E;
        var scratch = Scratch(problem, longest, out CudaDeviceVariable<byte> memory);
        var rows = new RowTable(device.Rows.Slice(skip, values), default);
        var extent = new AttentionExtent(longest, OneSequence: oneSequence, OwnCaches: ownCaches);
        _kernels.Forward(_stream, problem.Shape, rows, extent, device.Qkv.Slice(skip, values), device.Heads.Slice(skip, values), scratch);
        _stream.Synchronize();
        memory.Dispose();
        return device.ReadHeads()[(skip * width)..(problem.Rows.Length * width)];
    }

    // Value rows, then tangents.
    private float[] Push(AttentionProblem problem, int longest)
    {
        using var device = new AttentionDevice(_context, problem);
        var scratch = Scratch(problem, longest, out CudaDeviceVariable<byte> memory);
        var extent = Extent(problem, longest);
        _kernels.Forward(_stream, problem.Shape, device.Table, extent, device.Qkv, device.Heads, scratch);
        _stream.Synchronize();
        float[] before = device.ReadHeads();
        _kernels.Push(_stream, problem.Shape, device.Table, extent, device.Qkv, device.Heads, scratch);
        _stream.Synchronize();
        memory.Dispose();
        float[] heads = device.ReadHeads();
        int count = problem.Rows.Length * problem.Shape.H * problem.Shape.E;
        Assert.That(heads[..count], Is.EqualTo(before[..count]), "the value rows stay");
        return heads;
    }

    private float[] Pull(AttentionProblem problem, int longest, float[] heads)
    {
        using var device = new AttentionDevice(_context, problem, heads);
        var scratch = Scratch(problem, longest, out CudaDeviceVariable<byte> memory);
        var groups = new CotangentGroups(device.Begin, device.Owners, Extent(problem, longest).MaxTangents);
        _kernels.Pull(
            _stream, problem.Shape, device.Rows, groups, longest, new AttentionValues(device.Qkv, device.Heads), device.HeadsBar,
            device.QkvBar, scratch);
        _stream.Synchronize();
        memory.Dispose();
        return device.ReadQkvBar();
    }

    // Exactly as much as is asked for, full of NaN.
    private DeviceSpan<byte> Scratch(AttentionProblem problem, int longest, out CudaDeviceVariable<byte> memory)
    {
        long size = ScratchInBytes(problem.Shape, problem.Rows.Length, problem.Owners.Length, Extent(problem, longest).MaxTangents, longest);
        memory = new CudaDeviceVariable<byte>(_context, size);
        byte[] ones = new byte[size];
        Array.Fill(ones, (byte)0xFF);
        memory.CopyToDevice(ones);
        return new(memory.DevicePointer, size);
    }

    private static AttentionExtent Extent(AttentionProblem problem, int longest) => new(longest, problem.Rows.Max(row => row.Tangents));

    private static long ScratchInBytes(AttentionShape shape, int values, int tangents, int maxTangents, int longest) =>
        AttentionKernels.ScratchInBytes(shape, new RowCounts(values, tangents), new AttentionExtent(longest, maxTangents));

    private static float[] Line(float[] lines, int line, int width) => lines[(line * width)..((line + 1) * width)];

    private static double Dot(float[] x, float[] y) => x.Zip(y, (a, b) => (double)a * b).Sum();

    private static void AssertClose(float[] actual, double[] expected, string what, double tolerance = Tolerance)
    {
        double error = Math.Sqrt(actual.Zip(expected, (x, y) => (x - y) * (x - y)).Sum()), norm = Math.Sqrt(expected.Sum(x => x * x));
        Assert.That(error, Is.LessThanOrEqualTo(tolerance * Math.Max(norm, 1e-3)), what);
    }
}
