using System.Buffers.Binary;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;
using Tiller.Tests.Synthesis;

namespace Tiller.Tests.Controllers;

public sealed class ControllerTests
{
    private const int Layers = 4;
    private const int Width = 6;
    private string _folder = string.Empty;

    private string File => Path.Combine(_folder, "a.tiller");

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-controller-").FullName;

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    private static float[][] Rows(int seed, int count)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => Enumerable.Range(0, Width).Select(_ => (float)Problem.Normal(random)).ToArray())];
    }

    private static Feature MakeFeature(bool origin = true) => Feature.FromDifference(Rows(1, Layers + 1), origin ? Rows(2, Layers + 1) : null);

    private static ControllerSource Source => new()
    {
        ModelName = "demo",
        ModelFingerprint = new string('a', 64),
        Positive = new PromptSet("0011", 8),
        Negative = new PromptSet("2233", 9),
        Calibration = new PromptSet("4455", 17),
        Form = new ChatForm { TemplateSha256 = new string('c', 64), System = "Be brief.\n\"x\" é" },
        Weights = new LqrWeights(0.03, 1, 0.1),
        Cost = FitCost.State,
        Order = 16,
        Residuals = [1e-15, 2e-15, 3e-15, 0],
        Ranks = [6, 6, 5, 4],
        OpenLoop = [1.1, -0.9, 1, 0.1 + 0.2],
        Settings = new Dictionary<string, string>(StringComparer.Ordinal) { ["seed"] = "7", ["path"] = "Zürich\n\"x\"" },
    };

    // Of three blocks, with two, no and one direction beside w; block 1 has no curve.
    private static InputCurve?[] Curves() =>
    [
        new(
            Rows(30, 1)[0], 0.5f, Rows(31, 2), [0, 0.25f, 1], [[1, 0.75f, 0.5f], [0.1f, 0.2f, 0], [-0.1f, 0.1f, 0]],
            [[-1, -1, 0], [0, 0, 0.5f], [1, 0, 2]]),
        null,
        new(Rows(32, 1)[0], 1.5f, Rows(33, 1), [0, 1], [[2, 1.5f], [0.5f, 0]], [[0, -1], [0, 0.25f]]),
        new(Rows(34, 1)[0], 0.1f, [], [0, 1], [[0.2f, 0.1f]], [[0, -0.1f]]),
    ];

    [TestCase("knee", 0, 0f)]
    [TestCase("knee", 0, -1f)]
    [TestCase("knee", 2, 1e-40f)]
    [TestCase("nodes", 0, 0.125f)]
    [TestCase("nodes", 1, 0f)]
    [TestCase("nodes", 1, 2f)]
    [TestCase("nodes", 2, 0.5f)]
    public void ACurveThatIsNoneIsRefused(string tensor, int index, float value)
    {
        Rewrite(Methods().Single(m => m is PredictiveSteering), (_, tensors) =>
        {
            int at = tensors.FindIndex(t => t.Name == tensor);
            byte[] data = tensors[at].Data.ToArray();
            BitConverter.TryWriteBytes(data.AsSpan(4 * index), value);
            tensors[at] = new TensorData(tensor, tensors[at].Type, tensors[at].Shape, data);
        });
        Assert.That(Assert.Throws<ControllerException>(() => Controller.Load(File))!.Fault, Is.EqualTo(ControllerFault.Range));
    }

    private static IEnumerable<SteeringMethod> Methods()
    {
        var feature = MakeFeature();
        yield return new LinearQuadratic(feature, Rows(3, Layers), Setpoint.Affine, new LayerSet(1, 2));
        yield return new LinearQuadratic(MakeFeature(origin: false), Rows(3, Layers));
        yield return new OpenLoopAddition(feature, new LayerSet(2, 2));
        yield return new Proportional(feature, 0.1, new LayerSet(0, 3));
        yield return new Ablation(feature);
        yield return new LinearQuadratic(feature, Rows(3, Layers), layers: new LayerSet(new LayerRange(0, 0), new LayerRange(2, 3)));
        yield return new Ablation(feature, new LayerSet(new LayerRange(1, 1), new LayerRange(3, 3)));
        yield return new SPid(feature, 0.7, 0.01, 1.0 / 3);
        float[][] second = [.. feature.V.Take(Layers).Zip(Rows(6, Layers), AngularSetpoint.SecondDirection)];
        yield return new AngularSetpoint(feature, second, Rows(3, Layers), Rows(4, Layers), new LayerSet(1, 3));
        yield return new AngularSteering(feature, second, adaptive: true, new LayerSet(0, 2));
        yield return new AngularSteering(feature, second);
        yield return new Ablation(feature, new LayerSet(1, 2), Hook.Input);
        yield return new Clamp(feature, 0.1, 1.0 / 3);
        yield return new Clamp(feature, null, -0.5, new LayerSet(1, 1));
        yield return new Clamp(feature, 2, null);
        float[][][] read = [Rows(7, 2), Rows(8, 1), [], Rows(9, 3)], push = [Rows(10, 2), Rows(11, 1), [], Rows(12, 3)];
        yield return new Trajectory(feature, Rows(13, Layers), read, push, new LayerSet(0, 3));
        yield return new PredictiveSteering(feature, Curves(), 1.0 / 3, Setpoint.Affine, new LayerSet(0, 2));
        yield return new Gated(new Proportional(feature, 0.1, new LayerSet(1, 3)), new TokenGate(2, Rows(14, 1)[0], 0.1f));
        yield return new DirectionalAblation(feature, 2, new LayerSet(1, 3));
        float[][] low = Rows(15, Layers);
        yield return new ActivationTransport(
            feature, Rows(16, Layers), Rows(17, Layers), low, [.. low.Select(row => Array.ConvertAll(row, x => x + 1))], new LayerSet(0, 2));
        var sketch = CountSketch.Random(Width, 7, 0.1, 1.0 / 3, seed: 18);
        float[][] weights = [.. Enumerable.Range(19, Layers).Select(seed => Rows(seed, 7).Select(row => row[0]).ToArray())];
        yield return new OdeSteering(feature, sketch, weights, 9);
        yield return new CastSteering(feature, Rows(23, Layers), NormRule.Token, new LayerSet(2, 3));
        yield return new Gated(new CastSteering(feature, Rows(24, Layers), NormRule.Pass), new TokenGate(0, Rows(14, 1)[0], 0.1f));
        yield return new Conditional(
            new CastSteering(feature, Rows(25, Layers)),
            new PromptCondition([new ConditionProbe(1, Rows(26, 1)[0]), new ConditionProbe(3, Rows(27, 1)[0])], 0.1, Above: false));
    }

    private static Controller Lqr() => new(new LinearQuadratic(MakeFeature(), Rows(3, Layers)), Source);

    [TestCaseSource(nameof(Methods))]
    public void ARoundTripGivesTheSameLawBitForBit(SteeringMethod method)
    {
        var written = new Controller(method, Source);
        written.Save(File);
        var read = Controller.Load(File);
        Assert.That((read.L, read.D, read.Method.Name, read.Method.Layers), Is.EqualTo((Layers, Width, method.Name, method.Layers)));
        bool edits = written.ToLaw(1.5).Edits.Count > 0;
        float bound = edits ? float.PositiveInfinity : 4;
        var (a, b) = (written.ToLaw(1.5, bound), read.ToLaw(1.5, bound));
        Assert.That(b.MaxEffort, Is.EqualTo(method is PredictiveSteering own ? MathF.Min(bound, (float)own.Bound) : bound));
        Assert.That(b.Terms, Has.Count.EqualTo(a.Terms.Count));
        Assert.That(b.Terms.Count + b.Edits.Count, Is.Positive);
        Assert.That(b.Edits.Select(Told), Is.EqualTo(a.Edits.Select(Told)));
        Assert.That(b.Edits.SelectMany(e => e.Vectors), Is.EqualTo(a.Edits.SelectMany(e => e.Vectors)));
        Assert.That(b.Conditions.Select(c => (c.Threshold, c.Above)), Is.EqualTo(a.Conditions.Select(c => (c.Threshold, c.Above))));
        Assert.That(b.Conditions.SelectMany(c => c.Probes, (_, p) => (p.Layer, string.Join(' ', p.Direction))),
            Is.EqualTo(a.Conditions.SelectMany(c => c.Probes, (_, p) => (p.Layer, string.Join(' ', p.Direction)))));
        Assert.That(b.Terms.Select(t => t.Condition), Is.EqualTo(a.Terms.Select(t => t.Condition)));
        if (edits)
        {
            Assert.That(() => read.ToLaw(1.5, 4), Throws.TypeOf<LawCombinationException>());
        }

        static (Type, int, EditPoint, float, int, int, string) Told(ActivationEdit e) => (
            e.GetType(), e.Layer, e.Point, e.Strength, e.Gate, e.Condition,
            e is FlowEdit { Sketch: var s } flow ? $"{flow.Steps} {s.Gamma:R} {s.Constant:R} {string.Join(' ', s.Places.ToArray())}"
                : $"{e.JoinsRows}");
        for (int i = 0; i < a.Terms.Count; i++)
        {
            Assert.That(
                (b.Terms[i].Layer, b.Terms[i].C, b.Terms[i].Gate, b.Terms[i].Hook),
                    Is.EqualTo((a.Terms[i].Layer, a.Terms[i].C, a.Terms[i].Gate, a.Terms[i].Hook)));
            Assert.That(b.Terms[i].Feeds.Select(FeedOf), Is.EqualTo(a.Terms[i].Feeds.Select(FeedOf)));
            Assert.That(b.Planes, Is.EqualTo(a.Planes));
            Assert.That(b.Terms[i].W, Is.EqualTo(a.Terms[i].W));
        }

        for (int i = 0; i < a.Sensors.Count; i++)
        {
            Assert.That((b.Sensors[i].Layer, b.Sensors[i].Low, b.Sensors[i].High),
                Is.EqualTo((a.Sensors[i].Layer, a.Sensors[i].Low, a.Sensors[i].High)));
            Assert.That(b.Sensors[i].V, Is.EqualTo(a.Sensors[i].V));
        }
    }

    [Test]
    public void ARoundTripKeepsTheSource()
    {
        Lqr().Save(File);
        var source = Controller.Load(File).Source;
        var settings = Source.Settings;
        ControllerSource Bare(ControllerSource x) => x with { Residuals = null, Ranks = null, OpenLoop = null, Settings = settings };
        Assert.That(Bare(source), Is.EqualTo(Bare(Source)));
        Assert.That(source.Residuals, Is.EqualTo(Source.Residuals));
        Assert.That(source.Ranks, Is.EqualTo(Source.Ranks));
        Assert.That(source.OpenLoop, Is.EqualTo(Source.OpenLoop));
        Assert.That(source.Settings, Is.EqualTo(Source.Settings));
    }

    [Test]
    public void ABareSourceStaysBare()
    {
        var bare = new ControllerSource
        {
            ModelName = "m",
            ModelFingerprint = "f",
            Positive = new PromptSet("a", 1),
            Negative = new PromptSet("b", 2),
        };
        new Controller(new Ablation(MakeFeature()), bare).Save(File);
        var source = Controller.Load(File).Source;
        Assert.That(source with { Settings = bare.Settings }, Is.EqualTo(bare));
        Assert.That(source.Settings, Is.Empty);
    }

    private static IEnumerable<PromptForm?> Forms =>
    [
        null, new RawForm(), new TokenForm(), new ChatForm { TemplateSha256 = "0" }, new ChatForm { TemplateSha256 = "0", System = "" },
        new ChatForm { TemplateSha256 = "0", System = new string('é', 100_000) }, new ChatForm { TemplateSha256 = "0", SystemVaries = true },
    ];

    [TestCaseSource(nameof(Forms))]
    public void A_round_trip_keeps_the_form_of_the_prompts(PromptForm? form)
    {
        new Controller(new Ablation(MakeFeature()), Source with { Form = form }).Save(File);
        Assert.That(Controller.Load(File).Source.Form, Is.EqualTo(form));
    }

    [Test]
    public void TheSameControllerGivesTheSameBytes()
    {
        Lqr().Save(File);
        byte[] one = System.IO.File.ReadAllBytes(File);
        Controller.Load(File).Save(File);
        Assert.That(System.IO.File.ReadAllBytes(File), Is.EqualTo(one));
        Assert.That(Directory.GetFiles(_folder), Has.Length.EqualTo(1));
    }

    [Test]
    public void AnotherModelIsRefusedByBothNames()
    {
        var controller = Lqr();
        string fingerprint = new('a', 64);
        Assert.That(() => controller.CheckModel("demo", fingerprint, Layers, Width), Throws.Nothing);
        foreach (var (f, l, d) in new[] { (new string('b', 64), Layers, Width), (fingerprint, Layers + 1, Width), (fingerprint, Layers, Width + 1) })
        {
            var e = Assert.Throws<ControllerException>(() => controller.CheckModel("llama", f, l, d));
            Assert.That(e!.Fault, Is.EqualTo(ControllerFault.ModelMismatch));
            Assert.That(e.Message, Does.Contain("demo").And.Contain("llama").And.Contain($"L {l}").And.Contain($"D {d}"));
        }
    }

    [Test]
    public void Controllers_are_the_same_by_what_they_do_not_by_where_they_came_from()
    {
        SteeringMethod[] methods = [.. Methods()];
        for (int i = 0; i < methods.Length; i++)
        {
            new Controller(methods[i], Source).Save(File);
            var other = new Controller(Controller.Load(File).Method, Source with
            {
                ModelName = "another",
                Positive = new PromptSet("77", 3),
                Residuals = null,
            });
            for (int j = 0; j < methods.Length; j++)
            {
                Assert.That(new Controller(methods[j], Source).SteersAs(other), Is.EqualTo(i == j), $"{i} and {j}");
            }
        }

        var feature = MakeFeature();
        float[][] w = Rows(3, Layers);
        SteeringMethod[] variants =
        [
            new LinearQuadratic(feature, w), new LinearQuadratic(feature, w, Setpoint.Affine),
            new LinearQuadratic(feature, w, layers: new LayerSet(0, 2)),
            new LinearQuadratic(feature, Rows(4, Layers)), new LinearQuadratic(Feature.FromDifference(Rows(5, Layers + 1)), w),
            new LinearQuadratic(new Feature(feature.V, [.. feature.Mu.Select(mu => 2 * mu)]), w),
            new LinearQuadratic(new Feature(feature.V, feature.Mu, [.. feature.Origin!.Select(o => o + 1)]), w, Setpoint.Affine),
            new Proportional(feature), new Proportional(feature, 2), new Ablation(feature), new OpenLoopAddition(feature), new SPid(feature, 1, 0, 0),
            new SPid(feature, 0, 1, 0),
        ];
        foreach (var a in variants)
        {
            Assert.That(variants.Count(b => new Controller(a, Source).SteersAs(new Controller(b, Source))), Is.EqualTo(1), a.Name);
        }

        // The origin is part of the affine setpoint alone.
        Assert.That(new Controller(variants[0], Source).SteersAs(new Controller(new LinearQuadratic(new Feature(feature.V, feature.Mu), w), Source)));
    }

    // Curves are equal by their arrays' identity, which a file does not keep.
    private static object FeedOf(Feed feed) =>
        (feed with { Curve = null }, feed.Curve?.Knee, feed.Curve?.Scale, string.Join(' ', feed.Curve?.Cubics() ?? []),
            string.Join(' ', feed.Curve is null ? [] : feed.Curve.Nodes().ToArray()));

    /// <summary>Rewrites a good file with one change and a fresh checksum.</summary>
    private void Rewrite(Action<Dictionary<string, string>, List<TensorData>> change) => Rewrite(Lqr().Method, change);

    private void Rewrite(SteeringMethod method, Action<Dictionary<string, string>, List<TensorData>> change)
    {
        new Controller(method, Source).Save(File);
        Dictionary<string, string> metadata;
        var tensors = new List<TensorData>();
        using (var file = SafetensorsFile.Open(File))
        {
            metadata = new Dictionary<string, string>(file.Metadata, StringComparer.Ordinal);
            foreach (var t in file.Tensors)
            {
                byte[] data = new byte[t.SizeInBytes];
                file.Read(t, 0, data);
                tensors.Add(new TensorData(t.Name, t.Type, [.. t.Shape], data));
            }
        }

        change(metadata, tensors);
        ControllerFile.Write(File, metadata, tensors);
    }

    [TestCase("trajectory", "columns", "2,1,0", ControllerFault.Schema)]
    [TestCase("trajectory", "columns", "2,1,0,-3", ControllerFault.Schema)]
    [TestCase("trajectory", "columns", "2,1,0,4", ControllerFault.Shape)]
    [TestCase("trajectory", "columns", "2147483647,1,0,0", ControllerFault.Schema)]
    [TestCase("trajectory", "columns", null, ControllerFault.Schema)]
    [TestCase("mpc", "bound", "0", ControllerFault.Range)]
    [TestCase("mpc", "bound", "-1", ControllerFault.Range)]
    [TestCase("mpc", "bound", "NaN", ControllerFault.Range)]
    [TestCase("mpc", "bound", "1e-60", ControllerFault.Range)]
    [TestCase("mpc", "bound", null, ControllerFault.Schema)]
    [TestCase("mpc", "setpoint", "else", ControllerFault.Schema)]
    [TestCase("mpc", "directions", "2,0,1", ControllerFault.Schema)]
    [TestCase("mpc", "directions", "2,0,2,0", ControllerFault.Shape)]
    [TestCase("mpc", "directions", "2147483647,0,1,0", ControllerFault.Schema)]
    [TestCase("mpc", "directions", "1,1,1,0", ControllerFault.Shape)]
    [TestCase("mpc", "nodes", "3,0,2,1", ControllerFault.Shape)]
    [TestCase("mpc", "nodes", "2,0,3,2", ControllerFault.Shape)]
    [TestCase("mpc", "nodes", "3,0,-2,2", ControllerFault.Schema)]
    [TestCase("mpc", "nodes", null, ControllerFault.Schema)]
    [TestCase("proportional", "gate.layer", "4", ControllerFault.Range)]
    [TestCase("proportional", "gate.layer", "-1", ControllerFault.Range)]
    [TestCase("proportional", "gate.threshold", "NaN", ControllerFault.Range)]
    [TestCase("proportional", "gate.threshold", null, ControllerFault.Schema)]
    [TestCase("angular-steering", "adaptive", "yes", ControllerFault.Schema)]
    [TestCase("clamp", "low", "9", ControllerFault.Range)]
    [TestCase("clamp", "high", "x", ControllerFault.Schema)]
    [TestCase("directional-ablation", "block", "4", ControllerFault.Range)]
    [TestCase("directional-ablation", "block", null, ControllerFault.Schema)]
    [TestCase("ode-steer", "components", "6", ControllerFault.Shape)]
    [TestCase("ode-steer", "components", "0", ControllerFault.Range)]
    [TestCase("ode-steer", "steps", "0", ControllerFault.Range)]
    [TestCase("ode-steer", "gamma", "0", ControllerFault.Range)]
    [TestCase("ode-steer", "constant", "-1", ControllerFault.Range)]
    [TestCase("cast", "norm", "all", ControllerFault.Schema)]
    [TestCase("cast", "condition.side", "left", ControllerFault.Schema)]
    [TestCase("cast", "condition.side", null, ControllerFault.Schema)]
    [TestCase("cast", "condition.blocks", "1,4", ControllerFault.Range)]
    [TestCase("cast", "condition.blocks", "1", ControllerFault.Shape)]
    [TestCase("cast", "condition.blocks", "1,-3", ControllerFault.Schema)]
    [TestCase("cast", "condition.threshold", "NaN", ControllerFault.Range)]
    public void BadPartsOfTheNewerMethodsAreRefused(string name, string key, string? value, ControllerFault fault)
    {
        // The clamp with both ends; of the proportional ones that behind a gate.
        var method = name == "clamp" ? Methods().First(m => m is Clamp) : Methods().Last(m => m.Name == name);
        Rewrite(method, (metadata, _) =>
        {
            if (value is null)
            {
                metadata.Remove(key);
            }
            else
            {
                metadata[key] = value;
            }
        });
        Assert.That(Refused().Fault, Is.EqualTo(fault));
    }

    [TestCase("places", 7.0)]
    [TestCase("places", -1.0)]
    [TestCase("places", 0.5)]
    [TestCase("signs", 0.0)]
    [TestCase("signs", 1e300)]
    public void A_sketch_that_is_none_is_refused(string name, double value)
    {
        Rewrite(Methods().First(m => m is OdeSteering), (_, tensors) =>
        {
            int at = tensors.FindIndex(t => t.Name == name);
            double[] numbers = [.. System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(tensors[at].Data.Span)];
            numbers[3] = value;
            tensors[at] = TensorData.FromFloat64(name, tensors[at].Shape, numbers);
        });
        Assert.That(Refused().Fault, Is.EqualTo(ControllerFault.Range));
    }

    private ControllerException Refused() => Assert.Throws<ControllerException>(() => Controller.Load(File))!;

    [TestCase("format", "other", ControllerFault.Schema)]
    [TestCase("format", null, ControllerFault.Schema)]
    [TestCase("version", "6", ControllerFault.UnsupportedVersion)]
    [TestCase("version", "0", ControllerFault.Schema)]
    [TestCase("version", "one", ControllerFault.Schema)]
    [TestCase("method", "magic", ControllerFault.Schema)]
    [TestCase("method", null, ControllerFault.Schema)]
    [TestCase("setpoint", "here", ControllerFault.Schema)]
    [TestCase("cost", "effort", ControllerFault.Schema)]
    [TestCase("layers", "all", ControllerFault.Schema)]
    [TestCase("layers", "-1-3", ControllerFault.Schema)]
    [TestCase("layers", "0-4", ControllerFault.Range)]
    [TestCase("layers", "3-2", ControllerFault.Range)]
    [TestCase("layers", "0-1,3-4", ControllerFault.Range)]
    [TestCase("layers", "0-1,", ControllerFault.Schema)]
    [TestCase("layers", "0-1,3", ControllerFault.Schema)]
    [TestCase("r", "0", ControllerFault.Range)]
    [TestCase("r", "-1", ControllerFault.Range)]
    [TestCase("r", "NaN", ControllerFault.Range)]
    [TestCase("q", "-1", ControllerFault.Range)]
    [TestCase("qf", "Infinity", ControllerFault.Range)]
    [TestCase("q", "much", ControllerFault.Schema)]
    [TestCase("q", null, ControllerFault.Schema)]
    [TestCase("order", "0", ControllerFault.Range)]
    [TestCase("model", null, ControllerFault.Schema)]
    [TestCase("fingerprint", null, ControllerFault.Schema)]
    [TestCase("positive.count", "0", ControllerFault.Range)]
    [TestCase("negative.sha256", null, ControllerFault.Schema)]
    [TestCase("form", "prose", ControllerFault.Schema)]
    [TestCase("template.sha256", null, ControllerFault.Schema)]
    [TestCase("system.varies", "yes", ControllerFault.Schema)]
    public void BadMetadataIsRefused(string key, string? value, ControllerFault fault)
    {
        Rewrite((metadata, _) =>
        {
            metadata.Remove(key);
            if (value is not null)
            {
                metadata[key] = value;
            }
        });
        Assert.That(Refused().Fault, Is.EqualTo(fault));
    }

    [Test]
    public void ANewerVersionSaysBothVersions()
    {
        Rewrite((metadata, _) => metadata["version"] = "7");
        Assert.That(Refused().Message, Does.Contain("version 7").And.Contain($"up to {ControllerFile.Version}"));
    }

    [TestCase("v")]
    [TestCase("mu")]
    [TestCase("w")]
    public void AMissingTensorIsRefused(string name)
    {
        Rewrite((_, tensors) => tensors.RemoveAll(t => t.Name == name));
        var e = Refused();
        Assert.That((e.Fault, e.Message), Is.EqualTo((ControllerFault.Schema, $"{File} lacks the tensor '{name}'.")));
    }

    [TestCase("v", 5, 5)]
    [TestCase("mu", 4)]
    [TestCase("mu", 5, 1)]
    [TestCase("origin", 6)]
    [TestCase("w", 5, 6)]
    [TestCase("w", 4, 5)]
    [TestCase("v", 1, 6)]
    [TestCase("v", 30)]
    [TestCase("v", 5, 0)]
    public void AWrongShapeIsRefused(string name, params int[] shape)
    {
        Rewrite((_, tensors) =>
        {
            tensors.RemoveAll(t => t.Name == name);
            long[] dimensions = Array.ConvertAll(shape, n => (long)n);
            tensors.Add(TensorData.FromFloat32(name, dimensions, new float[dimensions.Aggregate(1L, (a, b) => a * b)]));
        });
        Assert.That(Refused().Fault, Is.EqualTo(ControllerFault.Shape));
    }

    [TestCase("residual")]
    [TestCase("rank")]
    [TestCase("open")]
    public void ASeriesOfAnotherTypeIsRefused(string name)
    {
        Rewrite((_, tensors) =>
        {
            tensors.RemoveAll(t => t.Name == name);
            tensors.Add(TensorData.FromFloat32(name, [Layers], new float[Layers]));
        });
        Assert.That(Refused().Fault, Is.EqualTo(ControllerFault.Shape));
    }

    [TestCase("v", 2, 3, float.NaN)]
    [TestCase("w", 0, 0, float.PositiveInfinity)]
    [TestCase("w", 3, 5, float.NegativeInfinity)]
    public void ANonFiniteNumberIsNamed(string name, int layer, int index, float value)
    {
        Rewrite((_, tensors) => Poke(tensors, name, (layer * Width) + index, value));
        var e = Refused();
        Assert.That((e.Fault, e.Layer, e.Index), Is.EqualTo((ControllerFault.NonFinite, (int?)layer, (int?)index)));
    }

    [TestCase("mu", 4, float.NaN, ControllerFault.NonFinite)]
    [TestCase("origin", 1, float.NaN, ControllerFault.NonFinite)]
    [TestCase("mu", 2, -1, ControllerFault.Range)]
    [TestCase("v", 0, 2, ControllerFault.Range)]
    public void ABadFeatureIsRefused(string name, int at, float value, ControllerFault fault)
    {
        Rewrite((_, tensors) => Poke(tensors, name, at, value));
        Assert.That(Refused().Fault, Is.EqualTo(fault));
    }

    [Test]
    public void ARankOfZeroIsRefused()
    {
        Rewrite((_, tensors) =>
        {
            tensors.RemoveAll(t => t.Name == "rank");
            tensors.Add(TensorData.FromFloat64("rank", [Layers], [1, 2, 0, 1]));
        });
        var e = Refused();
        Assert.That((e.Fault, e.Layer), Is.EqualTo((ControllerFault.Range, (int?)2)));
    }

    [Test]
    public void AnAffineSetpointWithoutOriginIsRefused()
    {
        Rewrite((metadata, tensors) =>
        {
            metadata["setpoint"] = "affine";
            tensors.RemoveAll(t => t.Name == "origin");
        });
        Assert.That(Refused().Fault, Is.EqualTo(ControllerFault.Range));
    }

    [Test]
    public void EveryFlippedBitOfTheTensorsIsSeen()
    {
        Lqr().Save(File);
        byte[] bytes = System.IO.File.ReadAllBytes(File);
        int data = 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        for (int bit = data * 8; bit < bytes.Length * 8; bit += 7)
        {
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            System.IO.File.WriteAllBytes(File, bytes);
            Assert.That(Refused().Fault, Is.EqualTo(ControllerFault.Checksum), $"bit {bit}");
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
        }
    }

    [Test]
    public void EveryFlippedBitOfTheHeaderIsRefusedOrWithoutEffect()
    {
        Lqr().Save(File);
        byte[] bytes = System.IO.File.ReadAllBytes(File);
        int data = 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        int refused = 0;
        for (int bit = 0; bit < data * 8; bit += 11)
        {
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            System.IO.File.WriteAllBytes(File, bytes);
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            try
            {
                // White space may change into other white space; a changed value may not pass.
                Assert.That(Controller.Load(File).Source.ModelName, Is.EqualTo("demo"));
            }
            catch (TillerException)
            {
                refused++;
            }
        }

        Assert.That(refused, Is.GreaterThan(data * 8 / 11 * 9 / 10));
    }

    // docs/hostile-inputs.md §3d, row 56.
    [Test]
    public void TenThousandFlippedBitsAreAllSeen()
    {
        Lqr().Save(File);
        byte[] bytes = System.IO.File.ReadAllBytes(File);
        int data = 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        var random = new Random(56);
        for (int i = 0; i < 10_000; i++)
        {
            int bit = random.Next(data * 8, bytes.Length * 8);
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            System.IO.File.WriteAllBytes(File, bytes);
            Assert.That(Refused().Fault, Is.EqualTo(ControllerFault.Checksum), $"bit {bit}");
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
        }
    }

    [Test]
    public void AFileLargerThanAnyControllerIsRefusedUnread()
    {
        const long Size = 1L << 40;
        byte[] json = System.Text.Encoding.UTF8.GetBytes(
            $$$"""{"__metadata__":{"format":"tiller.controller","version":"1","sha256":"00"},"""
            + $$$""" "v":{"dtype":"F32","shape":[2,{{{Size / 8}}}],"data_offsets":[0,{{{Size}}}]}}""");
        using (var file = System.IO.File.Create(File))
        {
            file.Write(BitConverter.GetBytes((ulong)json.Length));
            file.Write(json);
            file.SetLength(8 + json.Length + Size);
        }

        // To read it would take a second for every few gigabytes.
        var (fault, allocated) = Patience.Returns(() =>
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            return (Refused().Fault, GC.GetAllocatedBytesForCurrentThread() - before);
        });
        Assert.That(fault, Is.EqualTo(ControllerFault.LimitExceeded));
        Assert.That(allocated, Is.LessThan(1 << 20));
    }

    [Test]
    public void AnUnreadablePathIsASafetensorsError()
    {
        Assert.Throws<SafetensorsException>(() => Controller.Load(File));
        System.IO.File.WriteAllText(File, "not a controller");
        Assert.Throws<SafetensorsException>(() => Controller.Load(File));
        Assert.Throws<SafetensorsException>(() => Lqr().Save(Path.Combine(_folder, "missing", "a.tiller")));
    }

    [Test]
    public void AModelFileIsNoController()
    {
        var e = Assert.Throws<ControllerException>(() => Controller.Load(Repository.Path("models", "demo", "model.safetensors")));
        Assert.That(e!.Fault, Is.EqualTo(ControllerFault.Schema));
        Assert.That(e.Message, Does.Contain("another kind"));
    }

    [Test]
    public void ASourceOfAnotherLengthIsRefused()
    {
        Assert.Throws<ArgumentException>(() => _ = new Controller(new Ablation(MakeFeature()), Source with { Ranks = [1] }));
        Assert.Throws<ArgumentException>(() => _ = new Controller(new Ablation(MakeFeature()), Source with { Residuals = [0, 0, 0, double.NaN] }));
    }

    private static void Poke(List<TensorData> tensors, string name, int at, float value)
    {
        int i = tensors.FindIndex(t => t.Name == name);
        byte[] data = tensors[i].Data.ToArray();
        BinaryPrimitives.WriteSingleLittleEndian(data.AsSpan(4 * at), value);
        tensors[i] = tensors[i] with { Data = data };
    }
}
