using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using NUnit.Framework.Api;
using NUnit.Framework.Interfaces;
using NUnit.Framework.Internal;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Tool;

/// <summary>
/// tools/gpu/run.sh on the host CUDA, with programs of NVIDIA's that are none and with steps that hang, crash and print half a line: minutes on a
/// GPU's machine are not to be lost by the script.
/// </summary>
[Platform("Linux", Reason = "the script is for Linux")]
public sealed class GpuRunTests
{
    // Before the step's limit a shell has to print two lines; the limit is what is tried.
    private const int HangSeconds = 5;

    private const string OnHost = "gpu-tiller-host-cuda-not-a-gpu.md";

    private const string Row =
        """{"name":"NAME","device":"cuda:0 (Tiller host CUDA (not a GPU))","median":2.5,"p10":2,"p90":3,"unit":"ms","samples":3,"rate":400,""" +
        """ "rateUnit":"tok/s","bytes":1,"flops":1,"percentOfCeiling":50,"ceiling":10,"ceilingUnit":"GB/s","ceilingName":"read",""" +
        """ "ratio":null,"ratioOf":null}""";

    // The tool itself, but for measurements that take long on the host CUDA or go wrong: $1 is bench and $2 what is measured.
    private static readonly string s_tiller =
        $$"""
        #!/bin/sh
        row() { printf '%s\n' '{{Row}}' | sed "s/NAME/$1/"; }
        half() { printf '{"name":"half a row","median":1'; }
        case "$1 $2" in
            "bench ceilings") row ceiling-1; echo "no row at all"; row ceiling-2 ;;
            "bench decode")
                case "$*" in
                    *" --variants"*) row variants-1; row variants-2 ;;
                    *" --context 80 "*) row long-1; half; exit 5 ;;
                    *) dotnet "$TILLER_DLL" "$@" || exit; half; kill -SEGV $$ ;;
                esac ;;
            "bench prefill") case "$*" in *" --variants"*) row variants-3 ;; *) exec dotnet "$TILLER_DLL" "$@" ;; esac ;;
            "bench kernels") trap '' TERM; row kernel-1; row kernel-2; half; while :; do sleep 1; done ;;
            "bench riccati") row riccati-1; (trap '' TERM; sleep 1000) & ;;
            "bench batch") row batch-1; row batch-2; kill -KILL $$ ;;
            "bench jacobian")
                case "$*" in
                    *" --variants"*) row variants-4 ;;
                    *) printf '%s' '{{Row}}' | sed 's/NAME/without an end of line/' ;;
                esac ;;
            "verify "*) exit 1 ;;
            *) exec dotnet "$TILLER_DLL" "$@" ;;
        esac
        """;

    private const string Tests =
        """
        #!/bin/sh
        case "$*" in
            *Kernels.Embed*) echo "failed A_row_is_embedded(3) (12ms)"; printf '  total: 4\n  failed: 1\n  succeeded: 3\n  skipped: 0\n'; exit 2 ;;
            *Kernels.Ceiling*) kill -SEGV $$ ;;
            *) printf '  total: 7\n  failed: 0\n  succeeded: 5\n  skipped: 2\n' ;;
        esac
        """;

    private const string Nvcc =
        """
        #!/bin/sh
        [ "$1" != --version ] || { echo "Cuda compilation tools, release 13.0, V13.0.1"; exit; }
        while [ $# -gt 0 ]; do case $1 in -o) out=$2; shift ;; *.cu) source=${1##*/} ;; esac; shift; done
        printf 'TILLER HOST CUDA IMAGE %s' "$source" > "$out"
        """;

    // Writes a raw page as ncu does, half of its last line missing, and does not run what it should profile.
    private const string Ncu =
        """
        #!/bin/sh
        while [ $# -gt 0 ]; do case $1 in --log-file) page=$2 ;; esac; shift; done
        {
            echo '==PROF== Connected to process 7'
            stalled=smsp__average_warps_issue_stalled
            printf '"ID","Kernel Name","Block Size","Grid Size","dram__bytes_read.sum.per_second",'
            printf '"gpu__time_duration.sum","launch__registers_per_thread",'
            printf '"%s_per_issue_active.ratio",' ${stalled}_long_scoreboard ${stalled}_barrier
            echo "\"${stalled}_barrier_not_issued_per_issue_active.ratio\""
            echo '"","","","","byte/second","ns","register/thread","inst","inst","inst"'
            echo '"0","tillerDecodeQkvBF16x1","(256, 1, 1)","(96, 2, 1)","2,000,000,000,000","4,000","96","3.5","0.25","9"'
            echo '"1","tillerDecodeQkvBF16x1","(256, 1, 1)","(96, 2, 1)","2,200,000,000,000","6,000","96","4.5","0.25","9"'
            printf '"2","tillerDecodeGateBF16x1","(256, 1,'
        } > "$page"
        """;

    private const string Sanitizer =
        """
        #!/bin/sh
        while [ "${1#--}" != "$1" ]; do shift 2; done
        "$@" > /dev/null
        case "$*" in *Attention*) echo "========= Invalid __global__ read of size 4 bytes"; echo "========= ERROR SUMMARY: 1 error"; exit 99 ;; esac
        echo "========= ERROR SUMMARY: 0 errors"
        """;

    // As much of PyTorch and transformers as peers.py asks for: shapes differ in how they end.
    private const string Torch =
        """
        import contextlib, types
        class T:
            shape = (1,)
            device = dtype = None
            def __getattr__(self, name): return lambda *a, **k: self
            for op in "mul rmul truediv sub rsub matmul add getitem setitem".split():
                locals()[f"__{op}__"] = lambda self, *a: self
        class device:
            def __init__(self, name): self.type = str(name)
            def __enter__(self): return self
            def __exit__(self, *a): return None
        __version__, bfloat16, float32, bool = "stub", 1, 2, 3
        randn = randint = zeros = ones_like = lambda *a, **k: T()
        no_grad = contextlib.nullcontext
        manual_seed = set_default_dtype = lambda *a: None
        get_default_dtype = lambda: 2
        compiler = types.SimpleNamespace(reset=lambda: None)
        """;

    private const string Transformers =
        """
        import os, time, torch
        __version__ = "stub"
        class StoppingCriteria: pass
        StoppingCriteriaList = list
        LlamaConfig = Qwen2Config = Gemma2Config = lambda **sizes: type("Config", (), sizes)()
        class Layer:
            def parameters(self): return iter([torch.T()])
            def register_buffer(self, name, value): setattr(self, name, value)
            def register_forward_hook(self, hook, with_kwargs): assert self.gain and self.direction
        class Model:
            def __init__(self, config): self.config, self.model = config, type("Inner", (), {"layers": [Layer(), Layer()]})()
            def eval(self): return self
            def to(self, **_): return self
            def generate(self, prompt, max_new_tokens, stopping_criteria, disable_compile, **_):
                if not disable_compile: time.sleep(1000)
                for _ in range(max_new_tokens): stopping_criteria[0](torch.T(), None)
        class AutoModelForCausalLM:
            @staticmethod
            def from_config(config):
                if config.hidden_size == 4096: os.abort()
                return Model(config)
        """;

    [Test]
    public void Every_cuda_test_belongs_to_one_group_of_the_run()
    {
        string file = Repository.Path("tools", "gpu", "groups.txt");
        string[][] groups = [.. File.ReadLines(file).Where(line => line.Length > 0 && line[0] != '#').Select(line => line.Split(' '))];
        ITest suite = new DefaultTestAssemblyBuilder().Build(typeof(GpuRunTests).Assembly, new Dictionary<string, object>());
        string[] tests = [.. Cases(suite).Where(test => Marked(test, CudaTest.Category)).Select(test => test.FullName)];
        Assert.That(tests, Has.Length.GreaterThan(500));
        using (Assert.EnterMultipleScope())
        {
            var homeless = tests.Where(test => groups.Count(group => group.Any(fixture => Matches(fixture, test))) != 1);
            Assert.That(homeless.Select(test => test.Split('(')[0]).Distinct(), Is.Empty);
            var unknown = groups.SelectMany(group => group).Where(fixture => !tests.Any(test => Matches(fixture, test)));
            Assert.That(unknown, Is.Empty, "names that are no fixture's");

            // What device.py takes out of the groups and runs by itself.
            string script = File.ReadAllText(Repository.Path("tools", "gpu", "device.py"));
            Assert.That(script, Does.Contain($"[\"{CudaTest.TakesAllMemory}\", \"{CudaTest.EndsTheDevice}\"]"));
            foreach (string category in (string[])[CudaTest.TakesAllMemory, CudaTest.EndsTheDevice])
            {
                Assert.That(category, Does.Not.Contain(" "), "a filter of the test program takes one word");
                var marked = Cases(suite).Where(test => Marked(test, category)).ToArray();
                Assert.That(marked, Is.Not.Empty.And.All.Matches<ITest>(test => Marked(test, CudaTest.Category)), category);
            }
        }

        static bool Matches(string fixture, string test) => test.StartsWith($"Tiller.Tests.{fixture}", StringComparison.Ordinal);
        static IEnumerable<ITest> Cases(ITest test) => test.HasChildren ? test.Tests.SelectMany(Cases) : test.IsSuite ? [] : [test];
        static bool Marked(ITest? test, string category) =>
            test is not null && (test.Properties["Category"].Contains(category) || Marked(test.Parent, category));
    }

    [Test]
    public void Rows_are_on_disk_whatever_becomes_of_their_steps()
    {
        using var run = new Rehearsal();
        string output = run.Call("first", "--limit", "ncu=60");
        Assert.That(run.Outcomes, Is.SupersetOf(new[]
        {
            "nvcc: passed", "first tokens, kernels by nvcc: passed", "ceilings: passed", $"decode {Rehearsal.Shape}, context 8: signal 11",
            "greedy ids, qwen2-bf16: passed", "Interop.CudaMemory Interop.CudaGraph: passed", "Kernels.Embed: exit 2", "Kernels.Ceiling: signal 11",
            "TakesAllMemory: passed", "EndsTheDevice: passed", "memcheck Kernels.DecodeKernels: passed", "memcheck Kernels.Attention: exit 99",
            $"ncu {Rehearsal.Shape}, steps: passed",
        }), output);
        string[] decode = ["decode plain, context 8", "decode steered, 1 term a layer", "decode plain, beside tangents", "decode with 9 tangents"];
        string[] expected = ["ceiling-1", "ceiling-2", .. decode];
        Assert.That(run.Rows, Is.EqualTo(expected));
        string report = run.Report(OnHost);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(expected, Has.All.Matches<string>(row => report.Contains($"| {row} |", StringComparison.Ordinal)));
            Assert.That(report, Does.Contain("image for sm_90a from build/kernels, made by nvcc-13.0"), "the kernels that ran are nvcc's");
            Assert.That(report, Does.Contain("Stub GPU").And.Contain("| tests | Kernels.Embed | exit 2 |"));
            Assert.That(report, Does.Contain("3 succeeded, 1 failed, 0 skipped; A_row_is_embedded(3)"));
            Assert.That(report, Does.Contain("ERROR SUMMARY: 1 error; Invalid __global__ read"));
            Assert.That(report, Does.Match(
                @"\| tillerDecodeQkvBF16x1 \| \(96, 2, 1\) \| \(256, 1, 1\) \| 5\.000 \|.* 2100\.0 \|.* 96\.000 \| " +
                @"long_scoreboard 4\.00, barrier 0\.25 \|"));
            Assert.That(output.TrimEnd().Split('\n')[^5..], Has.Some.Contains("Kernels.Ceiling: signal 11"), "the reply ends with the table");
            Assert.That(File.ReadAllText(run["out", "log.txt"]), Does.Contain("half a row").And.Contain("no row at all"));
        }

        output = run.Call("second", "--limit", $"kernels={HangSeconds}");
        Assert.That(run.Outcomes, Is.SupersetOf(new[]
        {
            $"kernels {Rehearsal.Shape}, context 8: out of time", $"prefill {Rehearsal.Shape}, context 8: passed",
            $"jacobian {Rehearsal.Shape}, context 8: passed", $"riccati {Rehearsal.Shape}: passed", $"batch {Rehearsal.Shape}, context 8: signal 9",
            $"decode {Rehearsal.Shape}, context 80: exit 5", $"prefill {Rehearsal.Shape}, context 16, variants: passed",
            $"jacobian {Rehearsal.Shape}, context 8, variants: passed",
        }), output);
        string[] more = ["kernel-1", "kernel-2", "prefill 8 tokens", "without an end of line", "riccati-1", "batch-1", "batch-2", "long-1",
            "variants-1", "variants-2", "variants-3", "variants-4"];
        Assert.That(run.Rows, Is.EqualTo(more), "the folder of results is new for each call");
        report = run.Report(OnHost);
        var all = expected.Concat(more);
        Assert.That(all, Has.All.Matches<string>(row => report.Contains($"| {row} |", StringComparison.Ordinal)), "and the report has all of them");

        const string Runs = "tiny:eager,hooks llama-3-8b:eager tiny:compiled gemma-2-2b:hooks";
        output = run.Call("third", "--peers", Runs, "--limit", "peers=600", "--step-seconds", $"{HangSeconds}");
        string[] peers = [.. run.Rows.Select(row => row.Split(", transformers")[0])];
        Assert.That(peers, Is.EqualTo(new[]
        {
            "decode plain, tiny, context 128, static cache, eager", "decode steered by hooks with dense K, tiny, context 128, static cache, eager",
            "llama-3-8b:eager", "tiny:compiled", "decode steered by hooks with dense K, gemma-2-2b, context 128, static cache, eager",
            "tiny:compiled",
        }), output);
        report = run.Report(OnHost);
        Assert.That(report, Does.Contain("| llama-3-8b:eager | failed: exit -6 |"));
        Assert.That(report, Does.Contain($"| tiny:compiled | failed: out of time after {HangSeconds} s |"));
    }

    [Test]
    public void Without_nvcc_that_works_the_kernels_come_from_NVRTC_and_a_GPU_that_does_not_answer_holds_nothing_up()
    {
        using var run = new Rehearsal();
        run.Program("bin/nvcc", "#!/bin/sh\n[ \"$1\" != --version ] || { echo 'release 13.0'; exit; }\necho 'nvcc: internal error' >&2\nexit 1\n");
        string output = run.Call("build");
        string[] built = ["configure for sm_90a: passed", "nvcc: exit 1", "NVRTC: passed", "first tokens, kernels by NVRTC: passed"];
        Assert.That(run.Outcomes, Is.EqualTo(built), output);
        Assert.That(run.Report("gpu-stub-gpu.md"), Does.Contain("NVRTC 13"));

        // Where the machine is another, a call builds first; this one has lost its driver's tool.
        Directory.Delete(run["work"], recursive: true);
        run.Program("bin/nvidia-smi", "#!/bin/sh\ntrap '' TERM\nsleep 1000\n");
        output = run.Call("ceilings");
        Assert.That(run.Outcomes, Is.EqualTo(built.Append("ceilings: passed")), output);
        Assert.That(run.Report(OnHost), Does.Contain("nvidia-smi: no answer"));
    }

    [Test]
    public void A_call_that_is_ended_ends_its_steps_and_tells_what_there_is()
    {
        using var run = new Rehearsal();
        run.Call("build");
        using var call = run.Start("kernels");
        var output = call.StandardOutput.ReadToEndAsync();
        var errors = call.StandardError.ReadToEndAsync();
        for (var waited = Stopwatch.StartNew(); !File.Exists(run["out", "rows.jsonl"]) || run.Rows is not [.., "kernel-2"]; Thread.Sleep(20))
        {
            Assert.That(call.HasExited || waited.Elapsed > TimeSpan.FromMinutes(2), Is.False, "the step prints its rows");
        }

        HostCuda.Run("kill", ["-TERM", $"{call.Id}"]);
        call.WaitForExit();
        Assert.That(call.ExitCode, Is.EqualTo(143), errors.GetAwaiter().GetResult());
        Assert.That(output.GetAwaiter().GetResult(), Does.Contain("kernel-1").And.Contain("kernel-2"));
        Assert.That(run.Report(OnHost, "running-*.log"), Does.Contain("| kernel-2 |"));
    }

    [Test]
    public void The_check_of_a_pack_counts_the_checkout_and_the_archive()
    {
        if (!Path.Exists(Repository.Path(".git")))
        {
            Assert.Ignore("The script asks git for the files of the checkout, and this is none.");
        }

        using var scratch = new Scratch();
        File.WriteAllBytes(scratch["small"], new byte[10]);
        File.WriteAllBytes(scratch["large"], new byte[5_000_010]);
        long small = Travels("small"), large = Travels("large");
        long model = new FileInfo(Repository.Path("models", "demo", "model.safetensors")).Length;
        Assert.That(large - small, Is.EqualTo(5_000_000), "the archive");
        Assert.That(small, Is.GreaterThan(model), "the checkout");

        long Travels(string archive)
        {
            (int code, string output) = HostCuda.Run("bash", [Repository.Path("tools", "gpu", "run.sh"), "travels", scratch[archive]]);
            Assert.That(code, Is.Zero, output);
            return long.Parse(output, CultureInfo.InvariantCulture);
        }
    }

    [Test]
    public void Two_runs_are_put_together_and_the_later_row_counts()
    {
        using var scratch = new Scratch();
        const string Step = """{"kind":"step","phase":"p","step":"s","outcome":"passed","seconds":3,"says":""}""";
        File.WriteAllLines(scratch["a.jsonl"], [Line("one", "7.5"), Line("two", "8.5"), """{"kind":"row","ph"""]);
        File.WriteAllLines(scratch["b.jsonl"], [Line("one", "9.5"), Step]);
        string script = Repository.Path("tools", "gpu", "report.py"), folder = Path.GetDirectoryName(scratch["x"])!;
        (int code, string output) = HostCuda.Run(
            "python3", [script, "write", folder, scratch["a.jsonl"], scratch["b.jsonl"], "--before", scratch["a.jsonl"]]);
        Assert.That(code, Is.Zero, output);
        string report = File.ReadAllText(scratch[OnHost]);
        Assert.That(report, Does.Match(@"\| one \| 9\.500 ms \|.*\| 7\.500 \|").And.Match(@"\| two \| 8\.500 ms \|.*\| 8\.500 \|"));
        Assert.That(report, Does.Contain("| p | s | passed | 3.0 |"));

        static string Line(string name, string median) => Row
            .Replace("{\"name\":\"NAME\"", $$"""{"kind":"row","phase":"p","step":"s","name":"{{name}}" """, StringComparison.Ordinal)
            .Replace("2.5", median, StringComparison.Ordinal);
    }

    /// <summary>An archive as pack makes it, of programs that go wrong, and NVIDIA's programs, which are none.</summary>
    private sealed class Rehearsal : IDisposable
    {
        public const string Shape = "2,64,96,4,2,16,1024";

        private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("tiller-gpu-");

        public Rehearsal()
        {
            if (HostCuda.Run("python3", ["-c", "import tarfile; tarfile.data_filter"]).ExitCode != 0)
            {
                _folder.Delete(recursive: true);
                Assert.Ignore("The script needs python3 of 3.11.4 or later, which is not installed.");
            }

            Libraries = Path.Combine(HostCuda.BuildWith(""), "lib");
            Program("stage/tiller/tiller", s_tiller);
            Program("stage/tests/Tiller.Tests", Tests);
            File.WriteAllText(this["stage", "commit.txt"], "a commit\n");
            Program("bin/nvidia-smi", "#!/bin/sh\necho 'Stub GPU, 580.0, 81559 MiB, 9.0, 1980 MHz, 2619 MHz, 1980 MHz, 2619 MHz'\n");
            Program("bin/nvcc", Nvcc);
            Program("bin/ncu", Ncu);
            Program("bin/compute-sanitizer", Sanitizer);
            Program("python/torch.py", Torch);
            Program("python/transformers.py", Transformers);
            (int code, string output) = HostCuda.Run("tar", ["-C", this["stage"], "-czf", this["archive.tar"], "."]);
            Assert.That(code, Is.Zero, output);
        }

        private string Libraries { get; }

        public string this[params string[] parts] => Path.Combine([_folder.FullName, .. parts]);

        /// <summary>Names of the rows of the last call, as they came.</summary>
        public string[] Rows => [.. Lines("row").Select(line => line.GetProperty("name").GetString()!)];

        /// <summary>Steps of the last call.</summary>
        public string[] Outcomes =>
            [.. Lines("step").Select(line => $"{line.GetProperty("step").GetString()}: {line.GetProperty("outcome").GetString()}")];

        public void Program(string name, string text)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(this[name])!);
            File.WriteAllText(this[name], text);
            HostCuda.Run("chmod", ["+x", this[name]]);
        }

        /// <summary>One call into an empty folder of results; what it printed.</summary>
        public string Call(string call, params string[] options)
        {
            using var process = Start(call, options);
            var errors = process.StandardError.ReadToEndAsync();
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return output + errors.GetAwaiter().GetResult();
        }

        public Process Start(string call, params string[] options)
        {
            if (Directory.Exists(this["out"]))
            {
                Directory.Delete(this["out"], recursive: true);
            }

            string script = Repository.Path("tools", "gpu", "run.sh");
            var start = new ProcessStartInfo(script) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
            string[] arguments =
            [
                "device", "--rehearse", call, "--archive", this["archive.tar"], "--out", this["out"], "--work", this["work"],
                .. options.Contains("--step-seconds") ? Array.Empty<string>() : ["--step-seconds", "120"], "--seconds", "600", .. options,
            ];
            Array.ForEach(arguments, start.ArgumentList.Add);
            start.Environment["PATH"] = $"{this["bin"]}:{Path.GetDirectoryName(Environment.ProcessPath)}:{start.Environment["PATH"]}";
            start.Environment["PYTHONPATH"] = this["python"];
            start.Environment["TILLER_CUDA_LIBRARIES"] = Libraries;
            start.Environment["TILLER_DLL"] = Path.Combine(AppContext.BaseDirectory, "tiller.dll");
            start.Environment.Remove("LD_PRELOAD");
            return Process.Start(start)!;
        }

        /// <summary>The report, which is there beside the rows and the logs of what has run; or else of what was running.</summary>
        public string Report(string name, string logs = "log.txt")
        {
            string[] expected = ["rows.jsonl", name, .. Directory.GetFiles(this["out"], logs).Select(file => Path.GetFileName(file))];
            Assert.That(expected, Has.Length.EqualTo(3));
            Assert.That(Directory.GetFiles(this["out"]).Select(Path.GetFileName), Is.EquivalentTo(expected), "eight files at most come back");
            return File.ReadAllText(this["out", name]);
        }

        public void Dispose() => _folder.Delete(recursive: true);

        private IEnumerable<JsonElement> Lines(string kind)
        {
            foreach (string line in File.ReadLines(this["out", "rows.jsonl"]))
            {
                using var json = JsonDocument.Parse(line);
                if (json.RootElement.GetProperty("kind").GetString() == kind)
                {
                    yield return json.RootElement.Clone();
                }
            }
        }
    }
}
