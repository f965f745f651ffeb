using System.Text.Json;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class BenchTests
{
    [TestCase(BenchMode.Decode, "decode plain", "decode steered, 1 term", "decode steered, 16 terms", "decode with 31 tangents")]
    [TestCase(BenchMode.Prefill, "prefill 512 tokens")]
    [TestCase(BenchMode.Batch, "batch 8 plain", "batch 8, 8 different", "batch 64 plain")]
    [TestCase(BenchMode.Schedule, "1 text of 32 tokens, batch", "1 text of 32 tokens, scheduler", "8 texts of 32 tokens, batch",
        "8 texts of 32 tokens, scheduler")]
    [TestCase(BenchMode.Jacobian, "jacobian, one layer", "jacobian, all 10 layers")]
    [TestCase(BenchMode.Pullback, "pullback, 32 cotangents", "gains of a prompt, 27 (q, r, qf) in one sweep", "prefill of 127 tokens and the gains",
        "decode steered by fixed gains", "decode, gains anew at every token from 16 tangents")]
    [TestCase(BenchMode.Riccati, "riccati dense", "riccati factored")]
    [TestCase(BenchMode.Fit, "fit dense, 8", "fit dense: activations", "fit dense: linearisation", "fit dense: riccati", "fit factored, 8",
        "fit reduced to 16, 8")]
    [TestCase(BenchMode.Eval, "batch 8 plain, context 80", "eval of 16 prompts of 16 tokens, 128 new ones each, 8 at once")]
    [TestCase(BenchMode.Load, "load demo")]
    [TestCase(BenchMode.Tokenize, "tokenize prose", "tokenize one character", "nfc prose", "nfc after an arrow", "chat template, 20 messages")]
    [TestCase(BenchMode.Kernels, "norm + qkv, 1 row", "attention, 256 rows", "qkv backwards", "linear 704x128, W x, 1 rows",
        "linear 704x128, W' y, 256 rows")]
    public void Every_mode_prints_its_rows_with_finite_positive_numbers(BenchMode mode, params string[] expected)
    {
        var rows = Rows(Request(mode));
        Assert.That(rows, Has.Count.GreaterThanOrEqualTo(expected.Length));
        using (Assert.EnterMultipleScope())
        {
            foreach (string name in expected)
            {
                Assert.That(rows.Select(r => r.GetProperty("name").GetString()), Has.Some.StartsWith(name));
            }

            foreach (var row in rows)
            {
                string name = row.GetProperty("name").GetString()!;
                foreach (string number in new[] { "median", "p10", "p90", "percentOfCeiling", "ceiling", "rate", "bytes", "samples" })
                {
                    Assert.That(row.GetProperty(number).GetDouble(), Is.Positive.And.Not.EqualTo(double.PositiveInfinity), $"{number} of {name}");
                }

                Assert.That(row.GetProperty("p10").GetDouble(), Is.LessThanOrEqualTo(row.GetProperty("median").GetDouble()), name);
                Assert.That(row.GetProperty("p90").GetDouble(), Is.GreaterThanOrEqualTo(row.GetProperty("median").GetDouble()), name);
                Assert.That(row.GetProperty("unit").GetString(), Is.EqualTo("ms").Or.EqualTo("MiB"), name);
                Assert.That(row.GetProperty("ceilingName").GetString(), Is.Not.Empty, name);
                var ratio = row.GetProperty("ratio");
                Assert.That(ratio.ValueKind == JsonValueKind.Null || ratio.GetDouble() > 0, Is.True, name);
            }
        }
    }

    [Test]
    public void Laws_of_every_kind_are_timed_when_asked_for()
    {
        string[] names = [.. Rows(Request(BenchMode.Decode) with { Laws = true }).Select(r => r.GetProperty("name").GetString()!)];
        foreach (string kind in new[] { "decode sensing, 16 sensors", "gated intervals", "planes", "term an input", "terms with curves" })
        {
            Assert.That(names, Has.Exactly(1).Contains(kind));
        }
    }

    [TestCase(BenchMode.Decode, "decode plain, context", "decode steered", "decode with 31")]
    [TestCase(BenchMode.Batch, "batch 8 plain", "batch 8, 8 different")]
    [TestCase(BenchMode.Schedule, "8 texts of 32 tokens, batch", "8 texts of 32 tokens, scheduler")]
    public void Only_comparisons_have_a_ratio(BenchMode mode, string baseline, params string[] compared)
    {
        var rows = Rows(Request(mode));
        JsonElement Ratio(string name) => rows.Single(r => r.GetProperty("name").GetString()!.StartsWith(name, StringComparison.Ordinal))
            .GetProperty("ratio");
        Assert.That(Ratio(baseline).ValueKind, Is.EqualTo(JsonValueKind.Null));
        foreach (var row in rows.Where(r => compared.Any(c => r.GetProperty("name").GetString()!.StartsWith(c, StringComparison.Ordinal))))
        {
            Assert.That(row.GetProperty("ratio").GetDouble(), Is.InRange(0.01, 100));
        }
    }

    [TestCase("llama-3.2-1b", TensorType.BF16, 2.47e9, 1.236e9)]
    [TestCase("gemma-2-2b", TensorType.BF16, 5.23e9, 2.614e9)]
    [TestCase("qwen2.5-3b", TensorType.BF16, 6.17e9, 3.086e9)]
    [TestCase("llama-3-8b", TensorType.F32, 30.0e9, 8.03e9)]
    [TestCase("qwen2.5-14b", TensorType.BF16, 28.0e9, 14.77e9)]
    public void Named_shapes_have_the_sizes_of_their_models(string name, TensorType type, double bytesPerToken, double parameters)
    {
        var shape = BenchShape.Parse(name);
        var counts = new Counts(shape.Config, type);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(counts.DecodeBytes, Is.EqualTo(bytesPerToken).Within(0.3).Percent);
            Assert.That(counts.AllBytes / counts.WeightInBytes, Is.EqualTo(parameters).Within(0.3).Percent);
        }
    }

    [Test]
    public void The_demo_shape_is_that_of_the_demo_model()
    {
        var shape = BenchShape.Parse("demo").Config;
        var demo = ModelConfigReader.Read(Repository.Path("models", "demo"));
        Assert.That(shape.Rotary, Is.EqualTo(demo.Rotary));
        Assert.That(shape with { Windows = [], EosIds = [], Rotary = [] }, Is.EqualTo(demo with { Windows = [], EosIds = [], Rotary = [] }));
    }

    [TestCase(BenchMode.Decode)]
    [TestCase(BenchMode.Kernels)]
    [TestCase(BenchMode.Load)]
    [TestCase(BenchMode.Jacobian)]
    public void A_shape_that_does_not_fit_is_refused_before_anything_is_allocated(BenchMode mode)
    {
        var request = Request(mode) with { Shape = BenchShape.Parse("2000,16384,65536,128,8,128,256000") };
        long before = GC.GetTotalAllocatedBytes();
        var error = Assert.Throws<DeviceMemoryException>(() => Rows(request))!;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(error.NeedInBytes, Is.GreaterThan(1L << 40));
            Assert.That(error.HaveInBytes, Is.Positive.And.LessThan(error.NeedInBytes));
            Assert.That(GC.GetTotalAllocatedBytes() - before, Is.LessThan(64 << 20));
        }
    }

    [TestCase("demo", 1000)]
    public void A_context_longer_than_the_model_has_positions_is_refused(string shape, int context)
    {
        var request = Request(BenchMode.Decode) with { Shape = BenchShape.Parse(shape), Context = context };
        Assert.That(() => Rows(request), Throws.TypeOf<BenchException>().With.Message.Contains("1024 positions"));
    }

    [Test]
    public void What_is_refused_prints_nothing()
    {
        using var output = new StringWriter();
        var request = Request(BenchMode.Decode) with { Context = 1000, Json = false };
        Assert.That(() => BenchOutput.Write(request, Suite.Run(request, CancellationToken.None), output), Throws.TypeOf<BenchException>());
        Assert.That(output.ToString(), Is.Empty);
    }

    [TestCase(BenchMode.Fit)]
    [TestCase(BenchMode.Interrupt)]
    public void A_fit_needs_the_demo_model(BenchMode mode) =>
        Assert.That(
            () => Rows(Request(mode) with { Shape = BenchShape.Parse("2,64,128,4,2,16,256") }),
            Throws.TypeOf<BenchException>().With.Message.Contains("--shape demo"));

    [TestCase("3,64", "seven positive numbers")]
    [TestCase("llama-4", "seven positive numbers")]
    [TestCase("0,64,128,4,2,16,256", "seven positive numbers")]
    [TestCase("2,64,128,4,3,16,256", "num_key_value_heads")]
    public async Task A_wrong_shape_is_a_usage_error(string shape, string says)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        var terminal = new Terminal(Stream.Null, inputIsTerminal: false, output, outputIsLive: false, error, errorIsLive: false);
        int code = await CommandLine.RunAsync(Runs.Commands(terminal), ["bench", "decode", "--shape", shape], terminal, default);
        Assert.That((code, output.ToString()), Is.EqualTo((2, "")));
        Assert.That(error.ToString(), Does.Contain(says));
    }

    [TestCase(1, "GB/s", "GB/s", "GFLOP/s", "GFLOP/s")]
    [TestCase(2, "GB/s", "GB/s", "GFLOP/s", "GFLOP/s", "ns", Description = "the last: a line of the cache to another thread")]
    public void Ceilings_are_rows_of_their_own(int threads, params string[] units)
    {
        var rows = Rows(Request(BenchMode.Ceilings) with { Threads = threads });
        Assert.That(rows.Select(r => r.GetProperty("unit").GetString()), Is.EqualTo(units));
        Assert.That(rows.Select(r => r.GetProperty("median").GetDouble()), Is.All.Positive);
        Assert.That(rows.Select(r => r.GetProperty("device").GetString()), Is.All.StartsWith("cpu ("));
    }

    [Test]
    public void Sessions_at_once_are_compared_with_each_other_and_with_one_alone()
    {
        var rows = Rows(Request(BenchMode.Sharing));
        Assert.That(rows, Has.Count.EqualTo(2));
        Assert.That(rows[0].GetProperty("median").GetDouble(), Is.GreaterThan(0).And.LessThanOrEqualTo(1));
        Assert.That(rows[1].GetProperty("median").GetDouble(), Is.Positive);
    }

    [Test]
    public void Decoding_beside_busy_threads_is_compared_with_decoding_alone()
    {
        var rows = Rows(Request(BenchMode.Busy));
        Assert.That(rows.Select(r => r.GetProperty("name").GetString()), Is.EqualTo(new[]
        {
            "decode alone, context 128", "decode beside 1 busy thread",
            $"decode beside {Environment.ProcessorCount} busy threads, one on each processor",
        }));
        Assert.That(rows.Select(r => r.GetProperty("median").GetDouble()), Is.All.Positive);
        Assert.That(rows.Skip(1).Select(r => r.GetProperty("ratio").GetDouble()), Is.All.Positive);
    }

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(2)]
    public void Busy_threads_run_until_they_are_replaced(int count)
    {
        using var busy = new BusyThreads();
        busy.Set(count);
        Assert.That(busy.Count, Is.EqualTo(count));
        busy.Set(0);
        Assert.That(busy.Count, Is.Zero);
    }

    [Test]
    public void Interrupts_are_measured_in_every_phase_and_for_the_whole_program()
    {
        var rows = Rows(Request(BenchMode.Interrupt));
        string[] expected =
        [
            "load", "encode 1 MB of one character", "prefill 512 tokens", "decode 64 tokens, plain", "decode 64 tokens, steered",
            "fit dense, 8 prompts", "fit factored, 8 prompts", "the program while it decodes, to its end",
        ];
        Assert.That(rows.Select(r => r.GetProperty("name").GetString()!.Split(": at worst ")[0]), Is.EqualTo(expected));
        Assert.That(rows.Select(r => r.GetProperty("median").GetDouble()), Is.All.Positive);
        Assert.That(rows.Select(r => r.GetProperty("unit").GetString()), Is.All.EqualTo("ms"));
        Assert.That(
            () => Rows(Request(BenchMode.Interrupt) with { Context = 1000 }),
            Throws.TypeOf<BenchException>().With.Message.Contains("1064 positions"));
    }

    [Test]
    public async Task Bench_takes_every_option()
    {
        BenchRequest? taken = null;
        using var output = new StringWriter();
        using var error = new StringWriter();
        var terminal = new Terminal(Stream.Null, inputIsTerminal: false, output, outputIsLive: false, error, errorIsLive: false);
        var command = new BenchCommand((request, _) =>
        {
            taken = request;
            return Task.FromResult(0);
        });
        string[] args = ["bench", "pullback", "--shape", "2,64,128,4,2,16,256", "--dtype", "f16", "--context", "33", "--threads", "3", "--seconds",
            "0.5", "--markdown", "--kv", "bf16"];
        Assert.That(await CommandLine.RunAsync([command], args, terminal, default), Is.Zero, error.ToString());
        using (Assert.EnterMultipleScope())
        {
            Assert.That((taken!.Mode, taken.Type, taken.Context, taken.Threads, taken.Seconds, taken.Markdown),
                Is.EqualTo((BenchMode.Pullback, TensorType.F16, 33, 3, 0.5, true)));
            Assert.That((taken.Shape.Config.L, taken.Shape.Config.F, taken.Shape.Config.V), Is.EqualTo((2, 128, 256)));
            Assert.That(taken.LoadOptions.KvType, Is.EqualTo(KvType.BF16));
            Assert.That(taken.Counts.CacheBytes(33), Is.EqualTo((taken with { Kv = KvType.F32 }).Counts.CacheBytes(33) / 2));
        }

        string[] lists = ["bench", "decode", "--device", "cuda:1", "--terms", "1,4", "--tangents", "8", "--batch", "2,3", "--rows", "9", "--fits",
            "dense,reduced", "--prompts", "7", "--variants"];
        Assert.That(await CommandLine.RunAsync([command], lists, terminal, default), Is.Zero, error.ToString());
        using (Assert.EnterMultipleScope())
        {
            Assert.That(taken!.Device, Is.EqualTo(Device.Cuda(1)));
            Assert.That((taken.Variants, taken.Laws), Is.EqualTo((true, false)));
            Assert.That((taken.Terms, taken.Tangents, taken.Batches, taken.Rows),
                Is.EqualTo((new[] { 1, 4 }, new[] { 8 }, new[] { 2, 3 }, new[] { 9 })));
            Assert.That((taken.Fits, taken.FitPrompts), Is.EqualTo((new[] { "dense", "reduced" }, 7)));
        }

        foreach (string[] wrong in new string[][] { ["--terms", "1,x"], ["--batch", "0"], ["--fits", "sparse"], ["--device", "gpu"] })
        {
            Assert.That(await CommandLine.RunAsync([command], ["bench", "decode", .. wrong], terminal, default), Is.EqualTo(2), wrong[0]);
        }

        Assert.That(await CommandLine.RunAsync([command], ["bench", "fit"], terminal, default), Is.Zero, error.ToString());
        Assert.That((taken!.Type, taken.ContextLength, taken.Shape.Name, taken.Seconds), Is.EqualTo((TensorType.BF16, 128, "demo", 3)));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "fit", "--json", "--markdown"], terminal, default), Is.EqualTo(2));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "fit", "--dtype", "f64"], terminal, default), Is.EqualTo(2));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "fit", "--plan", "--markdown"], terminal, default), Is.EqualTo(2));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "decode", "--plan"], terminal, default), Is.EqualTo(2));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "kernels", "--variants"], terminal, default), Is.EqualTo(2));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "batch", "--laws"], terminal, default), Is.EqualTo(2));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "decode", "--laws", "--variants"], terminal, default), Is.EqualTo(2));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "decode", "--laws"], terminal, default), Is.Zero, error.ToString());
        Assert.That((taken!.Variants, taken.Laws), Is.EqualTo((false, true)));
        Assert.That(await CommandLine.RunAsync([command], ["bench", "decode", "--jsonl"], terminal, default), Is.Zero, error.ToString());
        Assert.That((taken!.JsonLines, taken.Json), Is.EqualTo((true, false)));
        foreach (string[] wrong in new string[][] { ["decode", "--json"], ["decode", "--markdown"], ["fit", "--plan"] })
        {
            Assert.That(await CommandLine.RunAsync([command], ["bench", .. wrong, "--jsonl"], terminal, default), Is.EqualTo(2), wrong[^1]);
        }
    }

    [Test]
    public void Lines_of_JSON_come_one_by_one_and_are_what_the_array_holds()
    {
        var request = Request(BenchMode.Pullback) with { Json = false, JsonLines = true };
        var rows = Suite.Run(request with { Mode = BenchMode.Ceilings }, CancellationToken.None).Take(2).ToArray();
        using var output = new FlushedWriter();
        Assert.That(() => BenchOutput.Write(request, Breaking(), output), Throws.InvalidOperationException);
        string[] lines = output.Flushed.TrimEnd('\n').Split('\n');
        Assert.That(lines, Has.Length.EqualTo(2));
        using var array = new StringWriter();
        BenchOutput.Write(request with { Json = true, JsonLines = false }, rows, array);
        using var all = JsonDocument.Parse(array.ToString());
        for (int i = 0; i < lines.Length; i++)
        {
            using var line = JsonDocument.Parse(lines[i]);
            Assert.That(JsonElement.DeepEquals(line.RootElement, all.RootElement[i]), Is.True, lines[i]);
        }

        IEnumerable<BenchRow> Breaking()
        {
            for (int i = 0; i < rows.Length; i++)
            {
                Assert.That(output.Flushed.Count(c => c == '\n'), Is.EqualTo(i), "a row is out before the next is measured");
                yield return rows[i];
            }

            throw new InvalidOperationException();
        }
    }

    [Test]
    public void Tables_have_a_line_for_every_row_and_name_the_hardware()
    {
        var request = Request(BenchMode.Pullback);
        string text = Write(request with { Json = false });
        string markdown = Write(request with { Json = false, Markdown = true });
        using (Assert.EnterMultipleScope())
        {
            Assert.That(text, Does.Contain("pullback, shape demo, bf16").And.Contains("pullback, 32 cotangents").And.Contains(".NET"));
            Assert.That(markdown, Does.Contain("| pullback, 32 cotangents").And.Contains("|---|").And.Contains("cores"));
        }
    }

    [Test]
    public void A_read_counts_what_was_read_and_a_quantile_interpolates()
    {
        using var ceilings = new Ceilings(1);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(ceilings.Read(Ceilings.BufferFor(1 << 20)) / ceilings.Copy(Ceilings.BufferFor(1 << 20)), Is.InRange(0.01, 100));
            Assert.That(
                Enumerable.Range(0, 20).Any(_ => ceilings.Peak(Precision.Single) > 1.2 * ceilings.Peak(Precision.Double)),
                "twice as many numbers in a vector, whatever else runs");
            Assert.That(Meter.Quantile([3, 1, 2], 0.5), Is.EqualTo(2));
            Assert.That(Meter.Quantile([0, 10], 0.9), Is.EqualTo(9).Within(1e-12));
        }
    }

    [TestCase(2)]
    [TestCase(3)]
    public void A_line_is_passed_between_two_threads_in_a_finite_time_and_the_others_stay_out(int threads)
    {
        using var ceilings = new Ceilings(threads);
        for (int i = 0; i < 3; i++)
        {
            Assert.That(ceilings.PassNs(), Is.Positive.And.LessThan(1e9));
        }
    }

    /// <summary>Keeps what was written at the last flush: what a killed program leaves.</summary>
    private sealed class FlushedWriter : StringWriter
    {
        public FlushedWriter() => NewLine = "\n";

        public string Flushed { get; private set; } = "";

        public override void Flush() => Flushed = ToString();
    }

    private static BenchRequest Request(BenchMode mode) => new()
    {
        Mode = mode,
        Device = mode == BenchMode.Tokenize ? null : Device.Cpu,
        Shape = BenchShape.Parse("demo"),
        Seconds = mode == BenchMode.Kernels ? 0.005 : 0.05,
        FitPrompts = 4,
        DemoFolder = Repository.Path("models", "demo"),
        Json = true,
    };

    private static List<JsonElement> Rows(BenchRequest request)
    {
        using var json = JsonDocument.Parse(Write(request));
        return [.. json.RootElement.EnumerateArray().Select(e => e.Clone())];
    }

    private static string Write(BenchRequest request)
    {
        using var output = new StringWriter { NewLine = "\n" };
        BenchOutput.Write(request, BenchRun.Rows(request, CancellationToken.None), output);
        return output.ToString();
    }
}
