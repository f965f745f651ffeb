using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Cuda;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Tool;

/// <summary>The bench on CUDA: that every measurement runs there and says where it ran. What its figures are is a matter for a GPU.</summary>
public class CudaBenchTests : CudaTest
{
    private const string Shape = "2,64,96,4,2,16,128";

    [TestCase(BenchMode.Decode, "decode plain, context 8", "decode steered, 1 term a layer", "decode steered, 3 terms a layer",
        "decode plain, beside tangents", "decode with 9 tangents")]
    [TestCase(BenchMode.Prefill, "prefill 8 tokens")]
    [TestCase(BenchMode.Batch, "batch 1 plain", "batch 1, 1 different controller,", "batch 9 plain", "batch 9, 9 different controllers,")]
    [TestCase(BenchMode.Jacobian, "jacobian, one layer", "jacobian, all 2 layers")]
    [TestCase(BenchMode.Pullback, "pullback, 32 cotangents", "gains of a prompt, one (q, r, qf)", "gains of a prompt, 27 (q, r, qf) in one sweep",
        "prefill of 7 tokens", "prefill of 7 tokens and the gains of the text", "decode steered by fixed gains, context 8",
        "decode, gains anew at every token from 16 tangents", "decode, gains anew at every token in full")]
    [TestCase(
        BenchMode.Riccati, "riccati dense, one layer, D 32", "riccati reduced", "riccati factored, all", "riccati factored, 16 weights in one sweep")]
    [TestCase(BenchMode.Load, "load 2,64,96,4,2,16,1024,", "load: peak", "load 2,64,96,4,2,16,1024 to the first token")]
    [TestCase(
        BenchMode.Kernels, "norm + qkv, 1 row", "attention, 9 rows", "attention, 9 rows after ", "attention, 1 row and 32 tangents",
        "norm + head, 9 rows", "down backwards", "qkv backwards", "linear 192x64, W x, 1 rows", "linear 192x64, W' y, 9 rows")]
    [TestCase(
        BenchMode.Ceilings, "read ", "copy ", "upload 64 MiB", "FMA float32", "FMA float64", "bf16 GEMM", "float64 GEMM",
        "graph, node to node, plain", "graph, node to node, programmatic")]
    public void EveryModeRunsAndItsRowsNameTheDevice(BenchMode mode, params string[] expected)
    {
        var rows = Rows(Request(mode));
        string device = CudaDevices.List().Devices[0].Name;
        Assert.That(CudaTest.OnGpu || device == "Tiller host CUDA (not a GPU)", Is.True, device);
        Assert.That(rows.Select(r => r.Name), Has.Exactly(mode == BenchMode.Kernels ? 23 : expected.Length).Items);
        using (Assert.EnterMultipleScope())
        {
            foreach (string name in expected)
            {
                Assert.That(rows.Select(r => r.Name), Has.Some.StartsWith(name));
            }

            foreach (var row in rows)
            {
                Assert.That(row.Device, Is.EqualTo($"cuda:0 ({device})"), row.Name);
                Assert.That(row.CeilingName, Does.EndWith(device).Or.EqualTo("itself").Or.EqualTo("the weights"), row.Name);
                Assert.That(new[] { row.Median, row.PercentOfCeiling, row.Ceiling }, Is.All.Positive.And.All.LessThan(double.PositiveInfinity),
                    row.Name);
            }
        }
    }

    [TestCase(BenchMode.Decode, 8, "decode plain, context 8", "decode steered, 16 terms a layer", "decode with 9 tangents")]
    [TestCase(BenchMode.Prefill, 12, "prefill 12 tokens")]
    [TestCase(BenchMode.Jacobian, 8, "jacobian, one layer")]
    public void EveryVariantStandsBesideTheWholeWithItsPrediction(BenchMode mode, int context, params string[] works)
    {
        string[] rows = [.. Rows(Request(mode) with { Context = context, Variants = true }).Select(r => r.Name)];
        Assert.That(rows, Is.EqualTo(works.SelectMany(work => (string[])
        [
            $"{work}, as it is",
            .. KernelVariant.All.Where(v => v.SeenIn.HasFlag(Kind(work))).Select(v => $"{work}, {v.Name} (predicted {v.Predicted})"),
        ])));

        VariantWork Kind(string work) => work.Contains("plain", StringComparison.Ordinal) ? VariantWork.Steps
            : work.Contains("steered", StringComparison.Ordinal) ? VariantWork.Laws
            : mode switch { BenchMode.Prefill => VariantWork.Prompts, BenchMode.Jacobian => VariantWork.Jacobians, _ => VariantWork.Tangents };
    }

    [Test]
    public void TheCpuHasNoVariants() =>
        Assert.That(
            () => Rows(Request(BenchMode.Decode) with { Device = Device.Cpu, Variants = true }),
            Throws.TypeOf<BenchException>().With.Message.Contains("--device cuda"));

    [Test]
    public void AFitOfRandomWeightsTakesTheDemosTexts()
    {
        var rows = Rows(Request(BenchMode.Fit) with { Shape = BenchShape.Parse("2,64,96,4,2,16,1024"), FitPrompts = 1, Fits = ["reduced"] });
        Assert.That(rows.Select(r => r.Name), Is.EqualTo(new[]
        {
            "fit reduced to 16, 2 prompts", "fit reduced to 16: activations", "fit reduced to 16: linearisation", "fit reduced to 16: riccati",
        }));
    }

    [TestCase(256, 0)]
    [TestCase(0, 256)]
    [TestCase(64, 448)]
    public void A_ceiling_counts_the_products_that_are_made(int values, int tangents)
    {
        HostCuda.Require(); // which counts the calls
        using var machine = new CudaMachine(0, TensorType.BF16);
        var work = new Work
        {
            Name = "",
            Bytes = 0,
            Flops = 1,
            WorkingSet = 0,
            Rows = values + tangents,
            Tangents = tangents,
            Run = static () => { },
        };
        var ceiling = machine.ArithmeticOf(work);
        using var ops = (CudaOps)Devices.Open(Device.Cuda(), 1);
        using var weights = ModelWeights.Random(ops, BenchShape.Parse(Shape).Config, TensorType.BF16);
        var w = weights.Blocks[0].Output;
        int rows = values + tangents;
        using DeviceBuffer x = ops.Allocate(4L * rows * w.Columns), y = ops.Allocate(4L * rows * w.Rows);
        using var scratch = ops.Allocate(ops.Linears.ScratchInBytes(new RowCounts(values, tangents), w));
        long before = HostCuda.CallsOf("cublasLtMatmul");
        ops.Linears.Forward(
            ops.Stream, new Floats(x.Address, rows, w.Columns), new RowCounts(values, tangents), w, new Floats(y.Address, rows, w.Rows),
            new DeviceSpan<byte>(scratch.Address, scratch.SizeInBytes));

        // Two products of all rows, and a third of the values.
        Assert.That(HostCuda.CallsOf("cublasLtMatmul") - before, Is.EqualTo(values > 0 ? 3 : 2));
        Assert.That(ceiling, Is.EqualTo(new Ceiling(CeilingKind.Gemm16, 1, 0, 2 + ((double)values / rows))));
        ops.Stream.Synchronize();
    }

    [TestCase(9, 0, 3)]
    [TestCase(0, 31, 2)]
    [TestCase(1, 31, 2.5)] // the half of the rows that the value is in
    [TestCase(17, 100, 2.25)]
    public void Rows_of_sixteen_are_counted_as_the_panels_hold_them(int values, int tangents, double passes)
    {
        Assert.That(LinearKernels.PassesOf(new RowCounts(values, tangents)), Is.EqualTo(passes));
        double pieces = LinearShape.PanelBlockInBytes(values + tangents, values) / (512.0 * LinearShape.PanelTiles(values + tangents));
        Assert.That(pieces, Is.EqualTo(passes));
    }

    [Test]
    public void TokenizingIsTheCpusAlone() =>
        Assert.That(() => Rows(Request(BenchMode.Tokenize)),
            Throws.TypeOf<BenchException>().With.Message.Contains("runs on the CPU").And.Message.Contains("cuda"));

    [Test]
    public void TheDevicesFreeMemoryIsWhatCounts()
    {
        HostCuda.Require();
        HostCuda.SetMemory(1L << 30);
        Assert.That(
            () => Rows(Request(BenchMode.Decode) with { Shape = BenchShape.Parse("llama-3.2-1b"), Context = null }),
            Throws.TypeOf<DeviceMemoryException>().With.Property("HaveInBytes").InRange(1L << 29, 1L << 30).And.Message.Contains("cuda:0"));
        Assert.That(HostCuda.LiveAllocations, Is.Zero);
    }

    [Test]
    public void TheHeadingNamesTheDevice()
    {
        HostCuda.Require();
        using var output = new StringWriter();
        var request = Request(BenchMode.Pullback) with { Markdown = true };
        BenchOutput.Write(request, Suite.Run(request, CancellationToken.None), output);
        Assert.That(output.ToString(), Does.Contain("Tiller host CUDA (not a GPU), sm_90, 2 multiprocessors").And.Contains("driver for CUDA 13.0"));
    }

    private static BenchRequest Request(BenchMode mode) => new()
    {
        Mode = mode,
        Device = Device.Cuda(),
        Shape = BenchShape.Parse(mode switch
        {
            BenchMode.Load => "2,64,96,4,2,16,1024",
            BenchMode.Riccati => "2,32,48,2,1,16,64",
            _ => Shape,
        }),
        Context = 8,
        Seconds = 0.001,
        Terms = [1, 3],
        Tangents = [9],
        Batches = [1, 9],
        Rows = [1, 9],
        DemoFolder = Repository.Path("models", "demo"),
    };

    private static List<BenchRow> Rows(BenchRequest request) => [.. Suite.Run(request, CancellationToken.None)];
}
