using System.Globalization;
using System.Text;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Tests.Model;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>Vectors of other programs become controllers, and controllers control vectors.</summary>
public sealed class ConvertTests
{
    private static int D => TestModels.Demo.Config.D;

    private static int L => TestModels.Demo.Config.L;

    [TestCase("caa", "--layers", "3-5")]
    [TestCase("pid-steering", null, null)]
    [TestCase("ablation", "--layers", "1-9")]
    [TestCase("ablation-input", "--layers", "4-4")]
    public async Task A_control_vector_of_ours_comes_back_without_questions(string method, string? option, string? layers)
    {
        using var scratch = new Scratch();
        string[] fit =
        [
            "fit", "--model", ToolRun.Model, "--positive", scratch.Few("topic.positive", 3), "--negative", scratch.Few("topic.negative", 3), "--out",
            scratch["a.tiller"], "--method", method, .. option is null ? [] : new[] { option, layers! },
        ];
        Assert.That((await ToolRun.Of(fit)).Code, Is.Zero);
        var export = await ToolRun.Of("convert", scratch["a.tiller"], "--out", scratch["a.gguf"], "--json");
        Assert.That(export.Code, Is.Zero, export.Error);
        var import = await ToolRun.Of("convert", scratch["a.gguf"], "--model", ToolRun.Model, "--out", scratch["b.tiller"]);
        Assert.That(import.Code, Is.Zero, import.Error);

        // The same law: terms at the same places with the same numbers, but for the rounding of unit vectors.
        FeedbackLaw before = Controller.Load(scratch["a.tiller"]).ToLaw(1.5), after = Controller.Load(scratch["b.tiller"]).ToLaw(1.5);
        Assert.That(
            after.Terms.Select(t => (t.Layer, t.Hook, t.Feeds.Count)), Is.EqualTo(before.Terms.Select(t => (t.Layer, t.Hook, t.Feeds.Count))));
        Assert.That(before.Terms, Is.Not.Empty);
        foreach (var (a, b) in before.Terms.Zip(after.Terms))
        {
            Assert.That(Numbers.Error(Scaled(b), Scaled(a)), Is.LessThan(1e-6));
        }

        foreach (var (a, b) in before.Sensors.Zip(after.Sensors))
        {
            Assert.That(Numbers.Error(b.V, a.V), Is.LessThan(1e-6));
        }

        // Another use than the file's own is a contradiction.
        var other = await ToolRun.Of(
            "convert", scratch["a.gguf"], "--model", ToolRun.Model, "--out", scratch["c.tiller"], "--operation", "add", "--layer-offset", "1");
        Assert.That((other.Code, other.Error.Contains("says what is done", StringComparison.Ordinal)), Is.EqualTo((ExitCode.BadInput, true)));

        static float[] Scaled(Term term) => [.. term.W.Select(x => x * (term.Feeds.Count == 0 ? term.C : term.Feeds[0].Gain))];
    }

    [TestCase("add", null, null, 3, "output")]
    [TestCase("add", "output", "2", 5, "output")]
    [TestCase("add", "input", null, 2, "output")]
    [TestCase("ablate", null, null, 3, "output")]
    [TestCase("ablate", "input", "-1", 2, "input")]
    public async Task A_steering_vector_is_used_as_it_is_asked_for(string operation, string? hook, string? offset, int block, string where)
    {
        using var scratch = new Scratch();
        float[] direction = [.. Enumerable.Range(0, D).Select(i => (i % 5) - 1.5f)];
        await File.WriteAllTextAsync(scratch["a.svec"], Vector(3, direction));
        var run = await ToolRun.Of([
            "convert", scratch["a.svec"], "--model", ToolRun.Model, "--out", scratch["a.tiller"], "--operation", operation,
            .. hook is null ? [] : new[] { "--hook", hook }, .. offset is null ? [] : new[] { "--layer-offset", offset },
        ]);
        Assert.That(run.Code, Is.Zero, run.Error);
        var term = Controller.Load(scratch["a.tiller"]).ToLaw(2).Terms.Single();
        Assert.That((term.Layer, term.Hook.ToString().ToLowerInvariant()), Is.EqualTo((block, where)));
        float length = operation == "add" ? 1 : (float)Numbers.Norm(direction);
        Assert.That(Numbers.Error(term.W, [.. direction.Select(x => x / length)]), Is.LessThan(1e-6));
    }

    [Test]
    public async Task What_a_file_does_not_say_is_asked_for()
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["a.svec"], Vector(3, [.. Enumerable.Repeat(1f, D)]));
        await Refused(ExitCode.Usage, "add --model DIR", scratch["a.svec"], "--operation", "add");
        await Refused(ExitCode.Usage, "does not say what is done", scratch["a.svec"], "--model", ToolRun.Model);
        await Refused(ExitCode.Usage, "belong to --operation", scratch["a.svec"], "--model", ToolRun.Model, "--hook", "input");
        await Refused(ExitCode.BadInput, "none.svec", scratch["none.svec"], "--model", ToolRun.Model, "--operation", "add");

        string[] add = ["--model", ToolRun.Model, "--operation", "add"];
        (string Text, string Says)[] wrong =
        [
            ("{", "is no JSON"), ("{}", "no object 'directions'"), ("{\"directions\": []}", "no object 'directions'"),
            ("{\"directions\": {\"3\": [NaN]}}", "is no JSON"), ("{\"directions\": {\"3\": [1, 2]}}", $"no list of {D} numbers"),
            ("{\"directions\": {\"three\": [1]}}", "no block of the model"), ("{\"directions\": {\"10\": [1]}}", "no block of the model"),
            ("{\"directions\": {}}", "do nothing"), (Vector(3, new float[D]), "do nothing"),
            (Vector(3, [.. Enumerable.Repeat(1f, D)]).Replace("1,", "1e39,", StringComparison.Ordinal), "too large for float32"),
            (Vector(3, [.. Enumerable.Repeat(1f, D)]).Replace("1,", "\"1\",", StringComparison.Ordinal), "other than a number"),
            (Vector(3, [.. Enumerable.Repeat(3e38f, D)]), "does not fit in float32"), ("{\"directions\": {\"\\ud800\": [1]}}", "is no JSON"),
            (string.Concat(Enumerable.Repeat("{\"directions\":", 100)), "is no JSON"),
        ];
        foreach (var (text, says) in wrong)
        {
            await File.WriteAllTextAsync(scratch["b.svec"], text);
            await Refused(ExitCode.BadInput, says, [scratch["b.svec"], .. add]);
        }

        await Refused(ExitCode.BadInput, "the embedding", [scratch["a.svec"], .. add, "--hook", "input", "--layer-offset", "-3"]);
        await Refused(ExitCode.BadInput, "which is of block 13", [scratch["a.svec"], .. add, "--layer-offset", "10"]);
        await Refused(ExitCode.BadInput, "do nothing", [scratch["a.svec"], .. add, "--layers", "5-7"]);
        Assert.That(scratch.Files, Is.EquivalentTo(new[] { "a.svec", "b.svec" }));

        async Task Refused(int code, string says, params string[] args)
        {
            var run = await ToolRun.Of(["convert", .. args, "--out", scratch["c.tiller"]]);
            Assert.That(run.Code, Is.EqualTo(code), run.Error);
            Assert.That(run.Error, Does.Contain(says));
        }
    }

    [Test]
    public void A_controller_that_is_more_than_directions_is_not_written()
    {
        var feature = new Feature([.. Enumerable.Range(0, L + 1).Select(_ => Unit())], [.. Enumerable.Repeat(1f, L + 1)]);
        Assert.That(() => Written(new Proportional(feature)), Throws.InstanceOf<ControllerException>().With.Message.Contains("proportional"));
        Assert.That(() => Written(new OpenLoopAddition(feature)), Throws.InstanceOf<ControllerException>().With.Message.Contains("block 0"));

        // Another model's file.
        byte[] file = Written(new OpenLoopAddition(feature, new LayerSet(1, 2)));
        Assert.That(
            () => ControlVectorFile.Read(file, null, "another", new string('0', 64), L, D),
            Throws.InstanceOf<ControllerException>().With.Property("Fault").EqualTo(ControllerFault.ModelMismatch));
        for (int length = 0; length < file.Length; length += length < 600 ? 1 : 97)
        {
            byte[] cut = file[..length];
            Assert.That(() => ControlVectorFile.Read(cut, TestModels.Demo), Throws.TypeOf<ControllerException>(), $"{length} bytes");
        }

        byte[] Written(SteeringMethod method)
        {
            using var stream = new MemoryStream();
            ControlVectorFile.Write(stream, new Controller(method, new ControllerSource
            {
                ModelName = TestModels.Demo.Name,
                ModelFingerprint = TestModels.Demo.Fingerprint,
                Positive = new PromptSet(new string('0', 64), 1),
                Negative = new PromptSet(new string('0', 64), 1),
            }));
            return stream.ToArray();
        }

        float[] Unit() => [1, .. new float[D - 1]];
    }

    private static string Vector(int block, float[] direction)
    {
        var text = new StringBuilder("{\"model_type\": \"llama\", \"directions\": {\"").Append(block).Append("\": [");
        text.AppendJoin(", ", direction.Select(x => x.ToString("R", CultureInfo.InvariantCulture)));
        return text.Append("]}, \"explained_variances\": {\"").Append(block).Append("\": 0.5}}").ToString();
    }
}
