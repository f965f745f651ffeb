using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tests.Checkpoint;
using Tiller.Tests.Model;

namespace Tiller.Tests.Controllers;

/// <summary>Fits whose passes are divided among processes: bit for bit what one process gives; interrupted, mixed, missing, damaged.</summary>
public sealed class FitShardTests
{
    private const string Family = "llama3-bf16";

    // Blocks that are not full in both lists: 8 + 5 and 8 + 3.
    private static readonly ContrastSet s_contrast = Contrast(Family, 13, 11);

    private static LanguageModel Tiny => TestModels.Load(Family);

    private static IEnumerable<(FitOptions Options, string Name)> Fits =>
    [
        (new(), "dense"),
        (new() { Layers = new LayerSet(new LayerRange(1, 1), new LayerRange(3, 3)), Setpoint = Setpoint.Affine }, "blocks 1 to 3"),
        (new() { Calibration = Texts(Family, "positive", 10) }, "its own calibration"),
        (new() { Method = FitMethod.Find("h-infinity")! }, "all Jacobians"),
        (new() { Method = FitMethod.Find("angular")!, Alternative = Texts(Family, "negative", 3) }, "two features"),
        (new() { Method = FitMethod.Find("trajectory")!, Nominal = "the sea" }, "a run that is followed"),
        (new() { Method = FitMethod.Find("caa")!, Direction = DirectionRule.CentredPca }, "no Jacobians"),
        (new() { Method = FitMethod.Find("mean-act")! }, "every token"),
        (new() { HeldOut = Texts(Family, "positive", 2) }, "a certificate"),
    ];

    [TestCase(1)]
    [TestCase(2)]
    [TestCase(3)]
    [TestCase(5)]
    [TestCase(9)]
    public void Any_number_of_parts_gives_bit_for_bit_the_fit_of_one_process(int count)
    {
        foreach (var (options, name) in Fits)
        {
            using var folder = new TemporaryFolder();
            var contrast = options.Method.Takes(FitInputs.Pairs) || options.Direction != DirectionRule.Mean ? Contrast(Family, 11, 11) : s_contrast;
            string[] parts = Measure(folder, Tiny, contrast, options, count, shared: count != 3);
            Assert.That(
                Saved(Tiny, contrast, options with { Shards = parts }), Is.EqualTo(Saved(Tiny, contrast, options)), $"{name}, {count} parts");
        }
    }

    [Test]
    public void A_file_of_Jacobians_is_made_of_parts_too([Values(1, 2, 3, 5)] int count, [Values] FitCost cost)
    {
        using var folder = new TemporaryFolder();
        var options = new FitOptions { Cost = cost, Layers = new LayerSet(1, 2), Jacobians = folder["whole.jacobians"] };
        byte[] whole = Saved(Tiny, s_contrast, options);
        var divided = options with { Jacobians = folder["merged.jacobians"] };
        string[] parts = Measure(folder, Tiny, s_contrast, divided, count, shared: true);
        Assert.That(File.Exists(folder["merged.jacobians"]), Is.False, "a part has a part");
        Assert.That(Saved(Tiny, s_contrast, divided with { Shards = parts }), Is.EqualTo(whole));
        Assert.That(File.ReadAllBytes(folder["merged.jacobians"]), Is.EqualTo(File.ReadAllBytes(folder["whole.jacobians"])));
        Assert.That(Saved(Tiny, s_contrast, divided with { Shards = parts }), Is.EqualTo(whole), "put together once more");
    }

    [Test]
    public void Several_weights_are_solved_from_parts()
    {
        using var folder = new TemporaryFolder();
        string[] parts = Measure(folder, Tiny, s_contrast, new FitOptions(), 2, shared: true);
        LqrWeights[] weights = [new(0.1, 1, 1), new(0.7, 2, 0.1)];
        var swept = ControllerFit.Sweep(Tiny, s_contrast, weights, new FitOptions { Shards = parts });
        foreach (var (one, fit) in weights.Zip(swept))
        {
            Assert.That(Bytes(fit), Is.EqualTo(Saved(Tiny, s_contrast, new FitOptions { Weights = one })));
        }
    }

    [Test]
    public void A_part_that_ended_early_goes_on_and_what_is_there_is_not_measured_again()
    {
        using var folder = new TemporaryFolder();
        string parts = folder["parts"];
        using (var source = new CancellationTokenSource())
        {
            var until = new Told<FitProgress>(p =>
            {
                if (p is { Stage: FitStage.Linearisation, Done: 2 })
                {
                    source.Cancel();
                }
            });
            Assert.That(() => Part(1, 2).Measure(parts, until, source.Token), Throws.InstanceOf<OperationCanceledException>());
        }

        string[] before = Directory.GetFiles(parts);
        Assert.That(before, Has.Length.EqualTo(3), "the states and two blocks");
        var times = before.ToDictionary(path => path, File.GetLastWriteTimeUtc);
        Assert.That(
            () => Saved(Tiny, s_contrast, new FitOptions { Shards = [parts] }),
            Throws.TypeOf<ShardException>().With.Message.Contains("Of 2 shards, 1 has not ended: 0."));
        Part(0, 2).Measure(parts);
        Assert.That(
            () => Saved(Tiny, s_contrast, new FitOptions { Shards = [parts] }),
            Throws.TypeOf<ShardException>().With.Message.Contains("Of 2 shards, 1 has not ended: 1."), "its blocks are missing");
        var told = new Told<FitProgress>();
        Part(1, 2).Measure(parts, told);
        Assert.That(told.Values.Count(p => p.Stage == FitStage.Linearisation), Is.AtLeast(Tiny.Config.L - 2));
        Assert.That(told.Values.Where(p => p.Stage == FitStage.Linearisation).Select(p => p.Total), Is.All.EqualTo(Tiny.Config.L - 2));
        Assert.That(times.Keys.Select(File.GetLastWriteTimeUtc), Is.EqualTo(times.Values));
        var nothing = new Told<FitProgress>();
        Part(1, 2).Measure(parts, nothing);
        Assert.That(nothing.Values, Is.Empty, "a part that has ended");
        Assert.That(Saved(Tiny, s_contrast, new FitOptions { Shards = [parts] }), Is.EqualTo(Saved(Tiny, s_contrast, new FitOptions())));
    }

    [Test]
    public void Its_size_is_known_before_it_starts()
    {
        using var folder = new TemporaryFolder();
        for (int i = 0; i < 3; i++)
        {
            var part = Part(i, 3);
            Assert.That(part.AllPrompts, Is.EqualTo(24));
            part.Measure(folder[$"{i}"]);
            long kept = Directory.GetFiles(folder[$"{i}"]).Sum(path =>
            {
                using var file = SafetensorsFile.Open(path);
                return file.Tensors.Sum(tensor => tensor.SizeInBytes);
            });
            Assert.That(part.SizeInBytes, Is.EqualTo(kept), $"part {i}");
        }
    }

    [Test]
    public void Parts_that_do_not_belong_together_are_refused()
    {
        using var folder = new TemporaryFolder();
        string two = folder["two"], three = folder["three"], other = folder["other"], foreign = folder["foreign"], asked = folder["asked"];
        Measure(folder, Tiny, s_contrast, new FitOptions(), 2, shared: true, two);
        Part(2, 3).Measure(three);
        FitShard.Of(Tiny, Contrast(Family, 13, 10), null, new Shard(1, 2)).Measure(other);
        var another = TestModels.Load("qwen2-bf16");
        FitShard.Of(another, s_contrast, null, new Shard(1, 2)).Measure(foreign);
        FitShard.Of(Tiny, s_contrast, null, new Shard(1, 2), "another command").Measure(asked);
        var alone = Directory.CreateDirectory(folder["alone"]);
        foreach (string path in Directory.GetFiles(two, "fit-0-of-2.*"))
        {
            File.Copy(path, Path.Combine(alone.FullName, Path.GetFileName(path)));
        }

        (string[] Folders, string Problem)[] wrong =
        [
            ([two, three], "put together the shards of one command"),
            ([two, two], "is there twice"),
            ([two, alone.FullName], "Shard 0/2 is there twice"),
            ([alone.FullName], "Of 2 shards, 1 has not ended: 1."),
            ([alone.FullName, other], "of other prompts or settings"),
            ([alone.FullName, foreign], "of another checkpoint"),
            ([alone.FullName, asked], "of another command"),
            ([folder["nowhere"]], "has no files of shards"),
        ];
        foreach (var (folders, problem) in wrong)
        {
            Assert.That(
                () => Saved(Tiny, s_contrast, new FitOptions { Shards = folders }),
                Throws.TypeOf<ShardException>().With.Message.Contains(problem), string.Join(' ', folders));
        }

        // A name can say anything.
        string many = folder["many"];
        Directory.CreateDirectory(many);
        File.Copy(Path.Combine(two, "fit-0-of-2.states.safetensors"), Path.Combine(many, "fit-0-of-2000000000.states.safetensors"));
        Assert.That(
            () => Saved(Tiny, s_contrast, new FitOptions { Shards = [many] }),
            Throws.TypeOf<ShardException>().With.Message.Contains("one of 2000000000 shards"));

        // What is put together is what is asked for now.
        Assert.That(
            () => Saved(Tiny, Contrast(Family, 12, 11), new FitOptions { Shards = [two] }),
            Throws.TypeOf<ShardException>().With.Message.Contains("other prompts or settings than those given now"));
        Assert.That(
            () => Saved(Tiny, s_contrast, new FitOptions { Shards = [two], Layers = new LayerSet(1, 2) }),
            Throws.TypeOf<ShardException>().With.Message.Contains("other prompts or settings than those given now"));
        Assert.That(
            () => Saved(another, s_contrast, new FitOptions { Shards = [two] }),
            Throws.TypeOf<ShardException>().With.Message.Contains("another checkpoint"));

        // A folder is one fit's.
        Assert.That(() => Part(1, 3).Measure(two), Throws.TypeOf<ShardException>().With.Message.Contains("the folder has shards of 2"));
        Assert.That(
            () => FitShard.Of(Tiny, Contrast(Family, 13, 10), null, new Shard(1, 2)).Measure(two),
            Throws.TypeOf<ShardException>().With.Message.Contains("name another folder"));
    }

    [TestCase("states")]
    [TestCase("block-2")]
    public void Damage_is_noticed(string part)
    {
        using var folder = new TemporaryFolder();
        string parts = folder["parts"], file = Path.Combine(parts, $"fit-0-of-2.{part}.safetensors");
        Measure(folder, Tiny, s_contrast, new FitOptions(), 2, shared: true, parts);
        byte[] whole = File.ReadAllBytes(file);
        var options = new FitOptions { Shards = [parts] };

        byte[] flipped = [.. whole];
        flipped[^5] ^= 1;
        File.WriteAllBytes(file, flipped);
        Assert.That(() => Saved(Tiny, s_contrast, options), Throws.TypeOf<ShardException>().With.Message.Contains("do not match their SHA-256"));
        using (var kept = SafetensorsFile.Open(file))
        {
            byte[] numbers = part == "states" ? BitConverter.GetBytes(float.NaN) : BitConverter.GetBytes(double.NaN);
            var tensor = kept.Tensors[0];
            byte[] bytes = new byte[tensor.SizeInBytes];
            kept.Read(tensor, 0, bytes);
            numbers.CopyTo(bytes, 0);
            var metadata = kept.Metadata.ToDictionary(StringComparer.Ordinal);
            metadata[tensor.Name] = Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(bytes));
            TensorData[] others = [.. kept.Tensors.Skip(1).Select(other =>
            {
                byte[] same = new byte[other.SizeInBytes];
                kept.Read(other, 0, same);
                return new TensorData(other.Name, other.Type, [.. other.Shape], same);
            })];
            kept.Dispose();
            SafetensorsWriter.Write(file, metadata, [new TensorData(tensor.Name, tensor.Type, [.. tensor.Shape], bytes), .. others]);
        }

        Assert.That(() => Saved(Tiny, s_contrast, options), Throws.TypeOf<ShardException>().With.Message.Contains("holds NaN or an infinity"));
        File.WriteAllBytes(file, whole[..^7]);
        Assert.That(
            () => Saved(Tiny, s_contrast, options),
            Throws.TypeOf<ShardException>().With.Message.Contains("Delete the file, and run shard 0/2 again"));
        Assert.That(() => Part(0, 2).Measure(parts), Throws.TypeOf<ShardException>());
        File.Copy(Path.Combine(parts, $"fit-1-of-2.{part}.safetensors"), file, overwrite: true);
        Assert.That(() => Saved(Tiny, s_contrast, options), Throws.TypeOf<ShardException>().With.Message.Contains("which its name does not say"));
        SafetensorsWriter.Write(file, new Dictionary<string, string>(), []);
        Assert.That(() => Saved(Tiny, s_contrast, options), Throws.TypeOf<ShardException>().With.Message.Contains("no file of a shard"));

        File.Delete(file);
        Part(0, 2).Measure(parts);
        Assert.That(File.ReadAllBytes(file), Is.EqualTo(whole), "measured again, it is the same");
    }

    [Test]
    public void Where_one_process_forms_no_Jacobian_parts_are_refused_unless_a_file_asks_for_them()
    {
        FitOptions[] all = [new() { Cost = FitCost.Feature }, new() { Order = 4 }, new() { Method = FitMethod.Find("la-lqr")! }];
        foreach (var options in all)
        {
            Assert.That(
                () => FitShard.Of(Tiny, Contrast(Family, 3, 3), options, new Shard(0, 2)),
                Throws.TypeOf<ShardException>().With.Message.Contains("set FitOptions.Jacobians"));
        }
    }

    [Test]
    public void What_a_fit_would_refuse_a_part_refuses_before_it_starts()
    {
        Assert.That(
            () => FitShard.Of(Tiny, s_contrast, new FitOptions { Weights = new LqrWeights(0, 1, 0) }, new Shard(0, 2)),
            Throws.TypeOf<ControllerException>());
        Assert.That(
            () => FitShard.Of(Tiny, s_contrast, new FitOptions { Method = FitMethod.Find("actadd")!, Calibration = ["a"] }, new Shard(0, 2)),
            Throws.TypeOf<ArgumentException>());
        Assert.That(() => FitShard.Of(Tiny, s_contrast, null, new Shard(2, 2)), Throws.TypeOf<InvalidOperationException>());
    }

    private static FitShard Part(int i, int count) => FitShard.Of(Tiny, s_contrast, null, new Shard(i, count));

    private static string[] Measure(
        TemporaryFolder folder, LanguageModel model, ContrastSet contrast, FitOptions options, int count, bool shared, string? into = null)
    {
        string[] parts = [.. Enumerable.Range(0, count).Select(i => into ?? folder[shared ? "parts" : $"part-{i}"])];
        foreach (int i in Enumerable.Range(0, count).Reverse())
        {
            FitShard.Of(model, contrast, options, new Shard(i, count)).Measure(parts[i]);
        }

        return [.. parts.Distinct()];
    }

    // Texts of the goldens, as many as are wanted.
    private static Prompt[] Texts(string family, string side, int count)
    {
        string[] texts = TestModels.Texts(family, side);
        return
        [
            .. Enumerable.Range(0, count)
                .Select(i => new TextPrompt(texts[i % texts.Length] + string.Concat(Enumerable.Repeat(" so", i / texts.Length)))),
        ];
    }

    private static ContrastSet Contrast(string family, int positive, int negative) =>
        new(Texts(family, "positive", positive), Texts(family, "negative", negative));

    private static byte[] Saved(LanguageModel model, ContrastSet contrast, FitOptions options) => Bytes(ControllerFit.Run(model, contrast, options));

    private static byte[] Bytes(FitResult fit)
    {
        using var stream = new MemoryStream();
        fit.Controller.Save(stream);
        return stream.ToArray();
    }
}
