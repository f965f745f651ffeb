using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tests.Checkpoint;
using Tiller.Tests.Model;

namespace Tiller.Tests.Controllers;

/// <summary>Fits with a file of Jacobians: the same controllers without a pass over the model; interrupted, of something else, damaged.</summary>
public sealed class JacobianFileTests
{
    private const string Family = "llama3-bf16";

    private static readonly ContrastSet s_contrast = new(TestModels.Texts(Family, "positive")[..3], TestModels.Texts(Family, "negative")[..3]);

    private static LanguageModel Tiny => TestModels.Load(Family);

    [Test]
    public void A_fit_with_a_file_is_bit_for_bit_the_fit_without_one()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"];
        byte[] without = Saved(ControllerFit.Run(Tiny, s_contrast));
        Assert.That(Saved(Fit(file, new FitOptions())), Is.EqualTo(without), "the fit that makes the file");
        byte[] made = File.ReadAllBytes(file);
        Assert.That(Saved(Fit(file, new FitOptions())), Is.EqualTo(without), "a fit that reads it");
        Assert.That(File.ReadAllBytes(file), Is.EqualTo(made), "reading changes nothing");

        // What is kept is the mean Jacobian, the gradient of output i in row i.
        using var kept = SafetensorsFile.Open(file);
        float[] numbers = kept.ReadFloat32(kept.Find("A.2"));
        var states = TestModels.States(Tiny, PromptEncoder.Of(Tiny).Encode("Any", [.. s_contrast.Positive, .. s_contrast.Negative], default));
        using var linear = new Linearization(Tiny, states);
        var expected = linear.Jacobian(2, default);
        Assert.That(numbers, Is.EqualTo(expected.ToRowMajorArray().Select(x => (float)x)).Within(1e-5f));
        foreach (var state in states)
        {
            state.Dispose();
        }
    }

    [Test]
    public void Other_settings_are_solved_without_a_pass_over_the_model()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"];
        Fit(file, new FitOptions());
        (FitOptions Options, bool SameBits)[] all =
        [
            (new() { Weights = new LqrWeights(0.7, 2, 0.1) }, true),
            (new() { Layers = new LayerSet(new LayerRange(1, 1), new LayerRange(3, 4)), Setpoint = Setpoint.Affine }, true),
            (new() { Direction = DirectionRule.CentredPca }, true),
            (new() { Method = FitMethod.Find("h-infinity")! }, true),
            (new() { Method = FitMethod.Find("caa")! }, true),
            (new() { Cost = FitCost.Feature }, false),
            (new() { Order = 8 }, false),
            (new() { Method = FitMethod.Find("la-lqr")!, Order = 2 }, false),
        ];
        foreach (var (options, sameBits) in all)
        {
            var told = new Told<FitProgress>();
            var kept = ControllerFit.Run(Tiny, s_contrast, options with { Jacobians = file }, told).Controller;
            var without = ControllerFit.Run(Tiny, s_contrast, options).Controller;
            Assert.That(told.Values.Select(p => p.Stage).Distinct(), Is.SubsetOf(new[] { FitStage.Riccati }), $"{options}");
            Assert.That(kept.SteersAs(without), Is.EqualTo(sameBits), $"{options}");
            if (!sameBits)
            {
                var (a, b) = ((LinearQuadratic)kept.Method, (LinearQuadratic)without.Method);
                for (int k = 0; k < Tiny.Config.L; k++)
                {
                    Assert.That(
                        Numbers.Norm(b.W[k]) == 0 ? Numbers.Norm(a.W[k]) : Numbers.Error(a.W[k], b.W[k]), Is.LessThan(1e-4), $"{options}, block {k}");
                }

                Assert.That(b.W.Count(w => Numbers.Norm(w) > 0), Is.AtLeast(Tiny.Config.L - 1));
            }
        }
    }

    [Test]
    public void A_sweep_over_weights_solves_from_the_file()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"];
        LqrWeights[] weights = [new(0.1, 1, 1), new(0.7, 2, 0.1)];
        var swept = ControllerFit.Sweep(Tiny, s_contrast, weights, new FitOptions { Jacobians = file });
        foreach (var (one, fit) in weights.Zip(swept))
        {
            Assert.That(Saved(fit), Is.EqualTo(Saved(ControllerFit.Run(Tiny, s_contrast, new FitOptions { Weights = one }))));
        }
    }

    [Test]
    public void Row4_a_fit_that_was_cancelled_goes_on_after_its_last_block()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"];
        int blocks = Tiny.Config.L, done = 2;
        using (var source = new CancellationTokenSource())
        {
            var until = new Told<FitProgress>(p =>
            {
                if (p is { Stage: FitStage.Linearisation } && p.Done == done)
                {
                    source.Cancel();
                }
            });
            Assert.That(
                () => ControllerFit.Run(Tiny, s_contrast, new FitOptions { Jacobians = file }, until, source.Token),
                Throws.InstanceOf<OperationCanceledException>());
        }

        // A process that is killed may leave a block half written; its digest is not there then.
        using (var kept = SafetensorsFile.Open(file))
        {
            Assert.That(Digests(kept).Select(d => d.Any(b => b != 0)).Count(there => there), Is.EqualTo(done));
            var half = kept.Find("A.0");
            long at = kept.Header.LengthInBytes + half.Begin;
            kept.Dispose();
            using var stream = File.OpenWrite(file);
            stream.Position = at;
            stream.Write([.. Enumerable.Repeat((byte)0x55, (int)half.SizeInBytes / 2)]);
        }

        var told = new Told<FitProgress>();
        byte[] resumed = Saved(ControllerFit.Run(Tiny, s_contrast, new FitOptions { Jacobians = file }, told));
        Assert.That(resumed, Is.EqualTo(Saved(ControllerFit.Run(Tiny, s_contrast))));
        var measured = told.Values.Where(p => p.Stage == FitStage.Linearisation).ToList();
        Assert.That(measured.Select(p => p.Done).Where(n => n > 0).Distinct(), Is.EqualTo(Enumerable.Range(1, blocks - done)));
        Assert.That(measured.Select(p => p.Total), Is.All.EqualTo(blocks - done));

        string whole = folder["whole.jacobians"];
        Fit(whole, new FitOptions());
        Assert.That(File.ReadAllBytes(file), Is.EqualTo(File.ReadAllBytes(whole)), "the file of a fit that was never cancelled");
    }

    [Test]
    public void Another_feature_adds_its_states_and_measures_no_block_again()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"];
        var options = new FitOptions { Calibration = [.. TestModels.Texts(Family, "calibration")[..2]], Jacobians = file };
        ControllerFit.Run(Tiny, s_contrast, options);
        var other = new ContrastSet(["The sea is calm.", "A gull."], ["A dog barked at me.", "The car stood."]);
        var told = new Told<FitProgress>();
        var fit = ControllerFit.Run(Tiny, other, options, told).Controller;
        Assert.That(fit.SteersAs(ControllerFit.Run(Tiny, other, options with { Jacobians = null }).Controller), Is.True);
        Assert.That(told.Values.Select(p => p.Stage).Distinct(), Is.EqualTo(new[] { FitStage.Activations, FitStage.Riccati }));
        foreach (var contrast in new[] { s_contrast, other })
        {
            told = new Told<FitProgress>();
            ControllerFit.Run(Tiny, contrast, options, told);
            Assert.That(told.Values.Select(p => p.Stage).Distinct(), Is.EqualTo(new[] { FitStage.Riccati }));
        }
    }

    [Test]
    public void Row3_a_file_of_something_else_is_refused_with_what_differs()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"];
        Fit(file, new FitOptions());
        Assert.That(
            () => ControllerFit.Run(Tiny, new ContrastSet(["One sea."], ["Two dogs, three."]), new FitOptions { Jacobians = file }),
            Throws.InstanceOf<JacobianFileException>().With.Message.Contains("another calibration prompts").And.Message.Contains("\"6, SHA-256")
                .And.Message.Contains("\"2, SHA-256").And.Message.Contains("FitOptions.Calibration"));
        var demo = TestModels.Demo;
        Assert.That(
            () => ControllerFit.Run(demo, s_contrast, new FitOptions { Jacobians = file }),
            Throws.InstanceOf<JacobianFileException>().With.Message.Contains("another model").And.Message.Contains("config.json"));

        // The same shape, names and tokenizer, and other weights: as a fine-tuned model has.
        string tuned = folder["tuned"];
        Directory.CreateDirectory(tuned);
        foreach (string from in Directory.GetFiles(TestModels.Folder(Family)))
        {
            File.Copy(from, Path.Combine(tuned, Path.GetFileName(from)));
        }

        string shard = Directory.GetFiles(tuned, "*.safetensors")[0];
        using (var weights = SafetensorsFile.Open(shard))
        {
            var tensor = weights.Tensors[^1];
            long middle = weights.Header.LengthInBytes + ((tensor.Begin + tensor.End) / 2);
            weights.Dispose();
            using var stream = new FileStream(shard, FileMode.Open);
            stream.Position = middle / 2 * 2;
            stream.Write([0, 0x3c]);
        }

        using (var model = TestModels.LoadFrom(tuned))
        {
            Assert.That(model.Fingerprint, Is.EqualTo(Tiny.Fingerprint));
            Assert.That(
                () => ControllerFit.Run(model, s_contrast, new FitOptions { Jacobians = file }),
                Throws.InstanceOf<JacobianFileException>().With.Message.Contains("the values of its weights"));
        }

        using var random = LanguageModel.WithRandomWeights(Tiny.Config, TensorType.F32);
        var ids = new ContrastSet([[1, 2, 3]], [[3, 2, 4]]);
        Assert.That(() => ControllerFit.Run(random, ids, new FitOptions { Jacobians = file }), Throws.ArgumentException);

        // Nothing was measured that a method without gains could use, and it measures nothing itself.
        Assert.That(
            () => ControllerFit.Run(Tiny, s_contrast, new FitOptions { Method = FitMethod.Find("caa")!, Jacobians = folder["none"] }),
            Throws.InstanceOf<JacobianFileException>().With.Message.Contains("no such file"));
        Assert.That(Directory.GetFiles(folder.Path), Is.EqualTo(new[] { file }));
    }

    [Test]
    public void Row1_a_file_that_is_cut_short_or_no_file_of_Jacobians_is_refused()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"], broken = folder["broken"];
        Fit(file, new FitOptions());
        byte[] whole = File.ReadAllBytes(file);
        foreach (int length in new[] { 0, 7, 100, 5000, whole.Length / 2, whole.Length - 1 })
        {
            File.WriteAllBytes(broken, whole[..length]);
            Assert.That(() => Fit(broken, new FitOptions()), Throws.InstanceOf<SafetensorsException>(), $"{length} bytes");
            Assert.That(File.ReadAllBytes(broken), Is.EqualTo(whole[..length]));
        }

        var (metadata, tensors) = Content(file);
        Dictionary<string, string> With(string key, string value) => new(metadata, StringComparer.Ordinal) { [key] = value };
        (IReadOnlyDictionary<string, string> Metadata, IReadOnlyList<TensorData> Tensors, string Says)[] cases =
        [
            (new Dictionary<string, string>(), tensors, "no file of Jacobians"),
            (With("format", "tiller.controller"), tensors, "no file of Jacobians"),
            (With("version", "2\u001b[2J"), tensors, "has version \"2\\u001b[2J\""),
            (metadata, [.. tensors.Where(t => t.Name != "A.3")], "A.3 is not there; expected F32 (64, 64)"),
            (metadata, [.. tensors.Where(t => t.Name != "digests")], "digests is not there"),
            (metadata, Replaced("A.1", TensorData.FromFloat32("A.1", [32, 128], new float[64 * 64])), "A.1 is F32 (32, 128)"),
            (metadata, Replaced("digests", new TensorData("digests", TensorType.U8, [6, 31], new byte[6 * 31])), "digests is U8 (6, 31)"),
        ];
        foreach (var (changed, kept, says) in cases)
        {
            SafetensorsWriter.Write(broken, changed, kept);
            Assert.That(() => Fit(broken, new FitOptions()), Throws.InstanceOf<JacobianFileException>().With.Message.Contains(says));
        }

        TensorData[] Replaced(string name, TensorData other) => [.. tensors.Select(t => t.Name == name ? other : t)];
    }

    [Test]
    public void Row2_a_bit_that_flipped_in_a_block_or_a_state_is_noticed()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"], broken = folder["broken"];
        Fit(file, new FitOptions());
        var (metadata, tensors) = Content(file);
        string states = tensors.First(t => t.Name.StartsWith("states.", StringComparison.Ordinal)).Name;
        foreach (string name in new[] { "A.0", "A.5", "digests", states })
        {
            TensorData[] flipped = [.. tensors.Select(t => t.Name == name ? t with { Data = Flipped(t.Data) } : t)];
            SafetensorsWriter.Write(broken, metadata, flipped);
            Assert.That(() => Fit(broken, new FitOptions()), Throws.InstanceOf<JacobianFileException>().With.Message.Contains("SHA-256"), name);
        }

        // NaN with a digest that is right.
        float[] nan = [.. Enumerable.Repeat(float.NaN, 3 * 7 * 64)];
        var poisoned = TensorData.FromFloat32(states, [3, 7, 64], nan);
        var known = new Dictionary<string, string>(metadata, StringComparer.Ordinal)
        {
            [states] = Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(poisoned.Data.Span)),
        };
        SafetensorsWriter.Write(broken, known, [.. tensors.Select(t => t.Name == states ? poisoned : t)]);
        Assert.That(() => Fit(broken, new FitOptions()), Throws.InstanceOf<JacobianFileException>().With.Message.Contains("NaN"));

        static byte[] Flipped(ReadOnlyMemory<byte> data)
        {
            byte[] bytes = data.ToArray();
            bytes[bytes.Length / 2] ^= 1;
            return bytes;
        }
    }

    [Test]
    public void Row5_a_file_that_another_fit_fills_is_refused_and_a_complete_one_is_read_by_many()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"];
        var identity = JacobianIdentity.Of(Tiny, PromptEncoder.Of(Tiny).Encode("Any", [.. s_contrast.Positive, .. s_contrast.Negative], default));
        using (JacobianFile.Claim(file))
        using (JacobianFile.Write(file, identity, old: null, new Dictionary<string, IReadOnlyList<PromptState>>()))
        {
            Assert.That(() => Fit(file, new FitOptions()), Throws.InstanceOf<JacobianFileException>().With.Message.Contains("another fit"));
        }

        // Who only looks at what is there keeps nobody from filling it.
        byte[] first;
        using (JacobianFile.Open(file, identity, fills: false))
        {
            first = Saved(Fit(file, new FitOptions()));
        }

        using (JacobianFile.Open(file, identity, fills: true))
        {
            Assert.That(Saved(Fit(file, new FitOptions())), Is.EqualTo(first));
        }
    }

    [Test]
    public void Row6_of_two_fits_that_start_without_a_file_one_is_refused_and_the_other_loses_nothing()
    {
        using var folder = new TemporaryFolder();
        string file = folder["a.jacobians"], alone = folder["b.jacobians"];
        var refusals = new List<JacobianFileException>();
        void Second() => refusals.Add(Assert.Throws<JacobianFileException>(() => Fit(file, new FitOptions()))!);
        var told = new List<FitStage>();
        var first = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Jacobians = file }, new Relay<FitProgress>(p =>
        {
            // In front of the file, while it is filled, and not for its readers.
            if (p.Stage != FitStage.Riccati && !told.Contains(p.Stage))
            {
                told.Add(p.Stage);
                Second();
            }
        }));
        Assert.That(told, Is.EqualTo(new[] { FitStage.Activations, FitStage.Linearisation }));
        Assert.That(refusals.Select(e => e.Message), Has.All.Contains("another fit"));
        Fit(alone, new FitOptions());
        Assert.That(File.ReadAllBytes(file), Is.EqualTo(File.ReadAllBytes(alone)), "the file of a fit that nobody disturbed");
        Assert.That(Saved(Fit(file, new FitOptions())), Is.EqualTo(Saved(first)));

        // Nor do two features that are added to a complete file at once.
        var other = new ContrastSet([.. s_contrast.Positive.Skip(1)], [.. s_contrast.Negative.Skip(1)]);
        var options = new FitOptions { Jacobians = file, Calibration = [.. s_contrast.Positive, .. s_contrast.Negative] };
        using (JacobianFile.Claim(file))
        {
            Assert.That(
                () => ControllerFit.Run(Tiny, other, options), Throws.InstanceOf<JacobianFileException>().With.Message.Contains("another fit"));
            Assert.That(() => Fit(file, new FitOptions()), Throws.Nothing, "what is complete is read");
        }

        Assert.That(Directory.GetFiles(folder.Path), Is.EquivalentTo(new[] { file, alone }), "no lock stays");
    }

    private static FitResult Fit(string file, FitOptions options) => ControllerFit.Run(Tiny, s_contrast, options with { Jacobians = file });

    private static byte[] Saved(FitResult fit)
    {
        using var stream = new MemoryStream();
        fit.Controller.Save(stream);
        return stream.ToArray();
    }

    private static byte[][] Digests(SafetensorsFile file)
    {
        var tensor = file.Find("digests");
        byte[] bytes = new byte[tensor.SizeInBytes];
        file.Read(tensor, 0, bytes);
        return [.. bytes.Chunk(32)];
    }

    private static (IReadOnlyDictionary<string, string> Metadata, TensorData[] Tensors) Content(string path)
    {
        using var file = SafetensorsFile.Open(path);
        return (file.Metadata, [.. file.Tensors.Select(t =>
        {
            byte[] bytes = new byte[t.SizeInBytes];
            file.Read(t, 0, bytes);
            return new TensorData(t.Name, t.Type, [.. t.Shape], bytes);
        })]);
    }
}
