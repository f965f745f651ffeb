using System.Text.Json;
using System.Text.Json.Nodes;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Tests.Interop;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>CUDA against the goldens: what the CPU is held to, with some of the steered continuations where every token counts.</summary>
public sealed class CudaVerifyTests : CudaTest
{
    [TestCaseSource(typeof(Repository), nameof(Repository.Goldens))]
    public void The_engine_agrees_with_the_goldens(string folder)
    {
        string family = Path.GetFileName(folder);
        if (!OnGpu && (family == "demo" || (HostCuda.Checks.Length > 0 && family != "qwen2-bf16")))
        {
            Assert.Ignore("Too long for the host CUDA.");
        }

        Verify(folder);
    }

    [TestCaseSource(typeof(VerifyTests), nameof(VerifyTests.SharedFamilies))]
    public void The_engine_agrees_with_the_goldens_of_more_families(string family)
    {
        if (!OnGpu && HostCuda.Checks.Length > 0)
        {
            Assert.Ignore("Too long for the host CUDA.");
        }

        Verify(SharedFolder.Require(Path.Combine("goldens2", "families", family)));
    }

    [TestCase("llama3-bf16")]
    [TestCase("gemma2-bf16")]
    public void The_engine_agrees_with_the_goldens_of_predictive_control(string folder)
    {
        using var checks = new MethodChecks(Path.Combine(SharedFolder.Require("goldens2"), folder));
        var rows = checks.Predictive(new LoadOptions { Device = Device.Cuda() }, CancellationToken.None).ToList();
        Assert.That(rows.Where(r => !r.Passed), Is.Empty);
        Assert.That(rows.Select(r => r.Kind), Is.SupersetOf(["mpc.prompt.states", "mpc continuations", "mpc effort over state"]));
    }

    private static void Verify(string folder)
    {
        var rows = Verification.Run(folder, new LoadOptions { Device = Device.Cuda() }, null, CancellationToken.None, oneIn: OnGpu ? 1 : 6).ToList();
        string[] kinds = ["hidden states", "logits", "plain continuations", "mean jacobian", "last continuations", "all projections",
            "s-pid continuations"];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(rows.Where(r => !r.Passed), Is.Empty);
            Assert.That(rows.Select(r => r.Kind), Is.SupersetOf(kinds));
            Assert.That(rows.Where(r => r.Kind is "hidden states" or "logits" or "mean jacobian"),
                Has.All.Matches<VerificationRow>(r => r!.Worst < 1e-5));
        }
    }
}

public class VerifyTests
{
    /// <summary>Families that have goldens outside of the sources.</summary>
    public static IEnumerable<string> SharedFamilies =>
        ["gemma3-bf16", "granite-f32", "llama-linear-f16", "olmo2-f32", "phi3-bf16", "phi3-long-f32", "qwen2-yarn-bf16", "smollm3-bf16"];

    [TestCase("systems", 17)]
    [TestCase("llama3-bf16", 128)]
    [TestCase("gemma2-bf16", 128)]
    [TestCase("qwen3-f32", 128)]
    [TestCase("demo-model", 128)]
    public void The_engine_agrees_with_the_goldens_of_other_methods(string folder, int kinds)
    {
        var rows = Verification.Run(Path.Combine(SharedFolder.Require("goldens2"), folder), new LoadOptions(), null, CancellationToken.None).ToList();
        foreach (var row in rows.Where(r => r.Note.Length > 0))
        {
            TestContext.Out.WriteLine($"{row.Kind}: {row.Count}, {row.Note}");
        }

        Assert.That(rows.Where(r => !r.Passed), Is.Empty);
        Assert.That(rows, Has.Count.AtLeast(kinds));
        if (folder != "systems")
        {
            const int Runs = 107;
            Assert.That(rows.Where(r => r.Kind.EndsWith(" continuations", StringComparison.Ordinal)).Sum(r => r.Count), Is.EqualTo(Runs));
        }

        Assert.That(rows, Has.All.Matches<VerificationRow>(r => r!.Count > 0));
    }

    [TestCaseSource(typeof(Repository), nameof(Repository.Goldens))]
    public void The_engine_agrees_with_every_golden(string folder) => Verify(folder);

    [TestCaseSource(nameof(SharedFamilies))]
    public void The_engine_agrees_with_every_golden_of_more_families(string family) =>
        Verify(SharedFolder.Require(Path.Combine("goldens2", "families", family)));

    private static void Verify(string folder)
    {
        var rows = Verification.Run(folder, new LoadOptions(), null, CancellationToken.None).ToList();
        foreach (var row in rows.Where(r => r.Note.Contains("near tie", StringComparison.Ordinal)))
        {
            TestContext.Out.WriteLine($"{row.Kind}: {row.Note}");
        }

        string[] kinds = ["ids with template", "loose decoding", "logits", "plain continuations", "mean jacobian", "gain, float64", "all projections",
            "s-pid continuations"];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(rows.Where(r => !r.Passed), Is.Empty);
            Assert.That(rows.Select(r => r.Kind), Is.SupersetOf(kinds));
            Assert.That(rows, Has.All.Matches<VerificationRow>(r => r!.Count > 0));
        }
    }

    [Test]
    public async Task Json_is_an_array_of_rows()
    {
        var run = await ToolRun.Of("verify", "--json", Repository.Path("tests", "goldens", "qwen3-f32"));
        Assert.That(run.Code, Is.Zero);
        Assert.That(run.Json.GetArrayLength(), Is.GreaterThan(20));
        foreach (var row in run.Json.EnumerateArray())
        {
            Assert.That(row.EnumerateObject().Select(p => p.Name).Take(6), Is.EqualTo(["folder", "kind", "count", "worst", "bound", "passed"]));
            Assert.That(row.GetProperty("worst").GetDouble(), Is.LessThanOrEqualTo(row.GetProperty("bound").GetDouble()));
        }
    }

    [Test]
    public async Task One_changed_id_fails() => await ExpectFailure("ids with template", golden =>
        Edit(golden["tokens.json"], json => json["strings"]![3]!["prompt"]![0] = json["strings"]![3]!["prompt"]![0]!.GetValue<int>() + 1));

    [Test]
    public async Task One_changed_id_of_a_continuation_fails() => await ExpectFailure("plain continuations", golden =>
        Edit(golden["golden.json"], json => json["prompts"]![0]!["new_ids"]![0] = json["prompts"]![0]!["new_ids"]![0]!.GetValue<int>() ^ 1));

    [TestCase("logits.0", "logits")]
    [TestCase("states.1", "hidden states")]
    [TestCase("jacobian.1", "jacobian of prompt 1")]
    [TestCase("gain_exact", "gain, float64")]
    [TestCase("feature", "feature")]
    public async Task One_changed_number_fails(string tensor, string kind)
        => await ExpectFailure(kind, golden => Flip(golden["golden.safetensors"], tensor));

    [Test]
    public async Task An_infinite_error_is_null_in_json()
    {
        using var golden = Copy("qwen3-f32");
        Flip(golden["golden.safetensors"], "logits.0", toNaN: true);
        var run = await ToolRun.Of("verify", "--json", golden["."]);
        var row = run.Json.EnumerateArray().Single(r => r.GetProperty("kind").GetString() == "logits");
        Assert.That((run.Code, row.GetProperty("worst").ValueKind, row.GetProperty("passed").GetBoolean()),
            Is.EqualTo((ExitCode.VerificationFailed, JsonValueKind.Null, false)));
    }

    [Test]
    public async Task The_engines_own_values_are_written_under_the_golden_names()
    {
        using var scratch = new Scratch();
        string folder = Repository.Path("tests", "goldens", "llama2-f32");
        Assert.That((await ToolRun.Of("verify", folder, "--values", scratch["ours"])).Code, Is.Zero);
        using var golden = new GoldenFolder(folder);
        using var ours = SafetensorsFile.Open(scratch["ours"]);
        Assert.That(ours.Tensors.Select(t => t.Name), Is.SupersetOf(["states.0", "logits.0", "states.5", "logits.5", "jacobian.0", "jacobian.1"]));
        foreach (var tensor in ours.Tensors)
        {
            var expected = golden.Tensor(tensor.Name)!;
            Assert.That(tensor.Shape, Is.EqualTo(expected.Shape), tensor.Name);
            Assert.That(Verification.RelativeError(ours.ReadFloat64(tensor), expected.Values), Is.LessThan(3e-6), tensor.Name);
        }
    }

    [Test]
    public async Task Values_of_several_folders_have_no_one_file()
    {
        var run = await ToolRun.Of("verify", "a", "b", "--values", "x");
        Assert.That(run.Code, Is.EqualTo(ExitCode.Usage));
        Assert.That(run.Error, Does.Contain("Option '--values' is for a single folder, and 2 were given."));
    }

    [Test]
    public async Task A_folder_may_hold_tokens_only()
    {
        using var golden = Copy("qwen3-f32");
        File.Delete(golden["golden.json"]);
        File.Delete(golden["golden.safetensors"]);
        var run = await ToolRun.Of("verify", golden["."]);
        Assert.That((run.Code, run.Error), Is.EqualTo((0, "")));
        Assert.That(run.Output, Does.Contain("literal ids").And.Not.Contain("logits").And.Contain("All 5 kinds pass."));
    }

    [Test]
    public async Task Cases_of_templates_need_no_checkpoint_and_their_templates_may_lie_elsewhere()
    {
        string cases = Repository.Path("tests", "Jinja", "cases");
        using var scratch = new Scratch();
        foreach (string file in Directory.GetFiles(cases, "*.json"))
        {
            File.Copy(file, scratch[Path.GetFileName(file)]);
        }

        Assert.That((await ToolRun.Of("verify", cases)).Code, Is.Zero);
        Assert.That((await ToolRun.Of("verify", scratch["."], "--templates", cases)).Code, Is.Zero);
        var without = await ToolRun.Of("verify", scratch["."]);
        Assert.That((without.Code, without.Error.Contains(".jinja", StringComparison.Ordinal)), Is.EqualTo((ExitCode.BadInput, true)), without.Error);
        Edit(scratch["snippets.json"], static json =>
            json["snippets"]!.AsArray().First(static x => x!["expected"] is not null)!["expected"] = "\u0001");
        var run = await ToolRun.Of("verify", scratch["."], "--templates", cases);
        Assert.That(run.Code, Is.EqualTo(ExitCode.VerificationFailed), run.Error);
    }

    [Test]
    public async Task Folders_with_nothing_to_verify_are_bad_input()
    {
        using var scratch = new Scratch();
        Assert.That((await ToolRun.Of("verify", scratch["none"])).Code, Is.EqualTo(ExitCode.BadInput));
        Directory.CreateDirectory(scratch["checkpoint"]);
        Assert.That((await ToolRun.Of("verify", scratch["."])).Error, Does.Contain("nothing to verify"));
        await File.WriteAllTextAsync(scratch["golden.json"], "{}");
        var run = await ToolRun.Of("verify", scratch["."]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.BadInput));
        Assert.That(run.Error, Does.Contain("nothing was verified"));
    }

    private static async Task ExpectFailure(string kind, Action<Scratch> damage)
    {
        using var golden = Copy("qwen3-f32");
        damage(golden);
        var run = await ToolRun.Of("verify", "--json", golden["."]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.VerificationFailed), run.Error);
        Assert.That(run.Json.EnumerateArray().Where(r => !r.GetProperty("passed").GetBoolean()).Select(r => r.GetProperty("kind").GetString()),
            Does.Contain(kind));
    }

    private static Scratch Copy(string name)
    {
        string source = Repository.Path("tests", "goldens", name);
        var copy = new Scratch();
        foreach (string file in Directory.GetFiles(source, "*", SearchOption.AllDirectories))
        {
            string target = copy[Path.GetRelativePath(source, file)];
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }

        return copy;
    }

    private static void Edit(string path, Action<JsonNode> edit)
    {
        var json = JsonNode.Parse(File.ReadAllText(path))!;
        edit(json);
        File.WriteAllText(path, json.ToJsonString());
    }

    // Changes one number, the largest in the first half of the tensor, by half of itself or to NaN. (The last row of a feature has a kind of its
    // own.)
    private static void Flip(string path, string tensor, bool toNaN = false)
    {
        byte[] bytes = File.ReadAllBytes(path);
        int header = (int)BitConverter.ToUInt64(bytes);
        var info = JsonNode.Parse(bytes.AsSpan(8, header))![tensor]!;
        int begin = 8 + header + info["data_offsets"]![0]!.GetValue<int>();
        int end = 8 + header + info["data_offsets"]![1]!.GetValue<int>();
        int size = info["dtype"]!.GetValue<string>() == "F64" ? 8 : 4;
        int at = Enumerable.Range(0, (end - begin) / size / 2).Select(i => begin + (i * size)).MaxBy(i => Math.Abs(Read(i)));
        double changed = toNaN ? double.NaN : Read(at) * 1.5;
        (size == 8 ? BitConverter.GetBytes(changed) : BitConverter.GetBytes((float)changed)).CopyTo(bytes, at);
        File.WriteAllBytes(path, bytes);

        double Read(int i) => size == 8 ? BitConverter.ToDouble(bytes, i) : BitConverter.ToSingle(bytes, i);
    }
}
