using System.Runtime.InteropServices;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Cuda;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tests.Decode;
using Tiller.Tests.Interop;
using Tiller.Tests.Model;

namespace Tiller.Tests.Cuda;

/// <summary>The engine on CUDA against the engine on the CPU: the same ids, states and gains.</summary>
public sealed class CudaEngineTests : CudaTest
{
    [OneTimeSetUp]
    public void CompareWithTheCpu() => TestModels.Use(Device.Cpu);

    [OneTimeTearDown]
    public void BackToTheDefault() => TestModels.Use(null);

    [TestCase("gemma2-bf16")]
    [TestCase("llama3-bf16")]
    [TestCase("qwen3-f32")]
    public void States_and_logits_are_the_cpus(string family)
    {
        int[] ids = TestModels.LongPrompt(family, 37);
        var expected = Probe.Run(TestModels.Load(family), ids, CancellationToken.None);
        using var model = Open(family);
        var actual = Probe.Run(model, ids, CancellationToken.None);

        // Value rows are split exactly: what is left is the order of float32 sums, which a row may be unlucky in.
        foreach (var (typical, worst) in new[] { Errors(actual.States, expected.States, model.Config.D),
            Errors(actual.Logits, expected.Logits, model.Config.V) })
        {
            TestContext.Out.WriteLine($"typical {typical:E1}, worst {worst:E1}");
            Assert.That(typical, Is.LessThan(3e-6));
            Assert.That(worst, Is.LessThan(7e-6));
        }
    }

    [TestCase("gemma2-bf16")]
    [TestCase("llama2-f32")]
    [TestCase("mistral-f16")]
    [TestCase("qwen2-bf16")]
    public void Greedy_and_drawn_ids_are_the_cpus(string family)
    {
        using var model = Open(family);
        int[] prompt = TestModels.Prompts(family)[1];
        var law = Laws.Random(model, 3, maxEffort: 4);
        GenerationOptions[] kinds =
        [
            new() { MaxNewTokens = 8, StopIds = [] },
            new() { MaxNewTokens = 8, StopIds = [], Law = law },
            new() { MaxNewTokens = 6, StopIds = [], Law = Laws.LooksBack(model, 4), SteeredTokens = SteeredTokens.All },
            new() { MaxNewTokens = 8, StopIds = [], Sampling = new SamplingOptions { Temperature = 0.8f, TopK = 40, TopP = 0.9f, Seed = 5 } },
            new() { MaxNewTokens = 6, StopIds = [], Sampling = new SamplingOptions { Temperature = 1, RepetitionPenalty = 1.3f, Seed = 6 } },
        ];
        foreach (var options in kinds)
        {
            Assert.That(Ids(model, prompt, options), Is.EqualTo(Ids(TestModels.Load(family), prompt, options)));
        }
    }

    [TestCase(FitCost.State, null)]
    [TestCase(FitCost.Feature, null)]
    [TestCase(FitCost.State, 64)]
    public void A_fit_gives_the_cpus_gains(FitCost cost, int? order)
    {
        const string Family = "llama3-bf16";
        using var model = Open(Family);
        var contrast = new ContrastSet([TestModels.Texts(Family, "positive")[0]], [TestModels.Texts(Family, "negative")[0]]);
        var options = new FitOptions { Cost = cost, Order = order };
        var actual = ControllerFit.Run(model, contrast, options).Controller.ToLaw(1);
        var expected = ControllerFit.Run(TestModels.Load(Family), contrast, options).Controller.ToLaw(1);
        for (int i = 0; i < expected.Terms.Count; i++)
        {
            Assert.That(Numbers.Error(actual.Terms[i].W, expected.Terms[i].W), Is.LessThan(1e-4), $"term {i}");
        }
    }

    [TestCase("gemma2-bf16")]
    [TestCase("llama3-bf16")]
    public void A_step_without_a_variant_has_a_recording_of_its_own_and_the_same_logits(string family)
    {
        using var model = Open(family);
        var ops = (CudaOps)model.Ops;
        float[]? all = null;
        var law = RandomParts.Law(model.Config, termsPerLayer: 5, seed: 3);
        var steps = KernelVariant.All.Where(v => v.SeenIn is VariantWork.Steps or VariantWork.Laws);
        foreach (var variants in (KernelVariants[])[KernelVariants.Default, .. steps.Select(v => v.Choice)])
        {
            ops.Variants = variants;
            using var session = new Session(model, law);
            session.Prefill(TestModels.LongPrompt(family, 5));
            session.Step(6);
            session.Step(7);
            session.Step(8);
            float[] logits = session.Logits.ToArray();
            Assert.That(logits, Is.EqualTo(all ??= logits), $"{variants}");
            if (!OnGpu)
            {
                long recorded = HostCuda.CallsOf("cuGraphInstantiateWithFlags");
                ops.Variants = KernelVariants.Default;
                session.Step(9);
                session.Step(9);
                bool again = HostCuda.CallsOf("cuGraphInstantiateWithFlags") > recorded;
                Assert.That(again, Is.EqualTo(variants != KernelVariants.Default), $"{variants}: recorded anew");
            }
        }
    }

    // Of wide blocks every map's sums come in parts: six launches of each are saved, but for the last one's, which no norm is known to follow.
    [TestCase("3,256,512,4,2,64,96", QkNorm.None, 1, 31, 17)]
    [TestCase("3,256,512,4,2,64,96", QkNorm.Heads, 3, 40, 17)]
    [TestCase("3,256,512,4,2,64,96", QkNorm.Width, 9, 0, 14)]
    [TestCase("2,64,96,4,2,16,96", QkNorm.None, 2, 100, 4)]
    [TestCase("2,64,96,4,2,16,96", QkNorm.None, 8, 121, 0)]
    public void Folded_steps_save_launches_and_change_no_bit(string shape, QkNorm norm, int values, int tangents, int saved)
    {
        HostCuda.Require(); // which counts the calls
        var c = BenchShape.Parse(shape).Config with { QkvBias = true, OutputBias = true, FeedForwardBias = true, QkNorm = norm };
        using var model = LanguageModel.WithRandomWeights(c, TensorType.BF16, new LoadOptions { Device = Device.Cuda() });
        var ops = (CudaOps)model.Ops;
        var (folded, few) = Run(KernelVariants.Default);
        var (plain, many) = Run(new KernelVariants { FoldedSteps = false });
        Assert.That(many - few, Is.EqualTo(saved), "launches");
        Assert.That(folded, Has.None.NaN);
        Assert.That(folded, Is.EqualTo(plain));

        (float[] Left, long Launches) Run(KernelVariants variants)
        {
            ops.Variants = variants;
            using var a = model.NewActivations();
            using var cache = new KvCache(ops, c, values);
            var rows = new RowBatch();
            for (int i = 0; i < values; i++)
            {
                rows.Add(3 + i, i, cache, tangents: i + 1 < values ? 0 : tangents);
            }

            a.Reserve(rows.Total);
            var random = new Random(6);
            for (int row = values; row < rows.Total; row++)
            {
                ops.UploadRow(RandomParts.Unit(random, c.D), a.X, row);
            }

            long before = HostCuda.CallsOf("cuLaunchKernelEx");
            model.Embed(rows, a);
            for (int k = 0; k < c.L; k++)
            {
                model.Forward(k, rows, a, continues: true);
                a.Advance();
            }

            long launches = HostCuda.CallsOf("cuLaunchKernelEx") - before;

            // What a pullback reads of values, too.
            float[] Rows(Floats of, int count)
            {
                float[] numbers = new float[count * of.Columns];
                ops.Download(of.Address, MemoryMarshal.AsBytes(numbers.AsSpan()));
                return numbers;
            }

            return ([.. Rows(a.X, rows.Total), .. Rows(a.R, rows.Total), .. Rows(a.Qkv, rows.Total), .. Rows(a.Gated, rows.Total),
                .. Rows(a.GateUp, values)], launches);
        }
    }

    [Test]
    public void Keys_and_values_in_bfloat16_are_refused()
    {
        var options = new LoadOptions { Device = Device.Cuda(), KvType = KvType.BF16 };
        Assert.That(
            () => LanguageModel.Load(TestModels.Folder("qwen2-bf16"), options).Dispose(),
            Throws.InstanceOf<KvTypeException>().With.Property("Type").EqualTo(KvType.BF16)
                .And.Message.Contains("Device.Cpu").And.Message.Contains("LoadOptions.KvType"));
    }

    [Test]
    public void A_step_is_recorded_once_and_runs_again()
    {
        HostCuda.Require();
        using var model = Open("llama3-bf16");
        using var session = new Session(model);
        session.Prefill([3, 4, 5]);
        session.Step(6);
        session.Step(6);
        long before = HostCuda.Calls;
        session.Step(6);

        // A table, a graph, the logits: a step of 6 layers is 32 kernels and more where it is not recorded.
        Assert.That(HostCuda.Calls - before, Is.LessThan(20));
    }

    [Test]
    public void Another_strength_of_one_controller_sends_its_numbers_alone()
    {
        using var model = Open("qwen2-bf16");
        var method = new Proportional(Laws.RandomFeature(model, 10), 0.2);
        using var session = new Session(model, method.Compile(1));
        session.Prefill([3, 4, 5]);
        session.Use(method.Compile(-2));
        using var twin = new Session(TestModels.Load("qwen2-bf16"), method.Compile(1));
        twin.Prefill([3, 4, 5]);
        twin.Use(method.Compile(-2));
        Assert.That(Numbers.Error(session.Step(7), twin.Step(7)), Is.LessThan(2e-5));
    }

    private static LanguageModel Open(string family) => LanguageModel.Load(TestModels.Folder(family), new LoadOptions { Device = Device.Cuda() });

    private static int[] Ids(LanguageModel model, int[] prompt, GenerationOptions options)
    {
        using var generation = new Generation(model, prompt, options);
        while (generation.MoveNext())
        {
        }

        return generation.NewIds.ToArray();
    }

    private static (double Typical, double Worst) Errors(double[] actual, double[] expected, int width)
    {
        var errors = new List<double>();
        for (int at = 0; at < expected.Length; at += width)
        {
            errors.Add(Numbers.Error(Array.ConvertAll(actual[at..(at + width)], x => (float)x),
                Array.ConvertAll(expected[at..(at + width)], x => (float)x)));
        }

        return (Math.Sqrt(errors.Average(e => e * e)), errors.Max());
    }
}
