using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tests.Model;

/// <summary>The same numbers however a text is cut into passes: whole, token by token, in chunks, beside other texts.</summary>
public sealed class PrefillTests(string device) : OnEveryDevice(device)
{
    protected override IReadOnlyList<string> OnHostCuda => [.. TestModels.Tiny];

    // Many rows and one are different products on CUDA: the first on tensor cores, whose rounding of sums is the hardware's own.
    private double Tolerance => IsCuda ? 2e-5 : 1e-5;

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Prefill_and_step_agree_far_beyond_the_window(string family)
    {
        var model = TestModels.Load(family);
        int[] ids = TestModels.LongPrompt(family, 60);
        float[][] whole = Logits(model, ids);
        using var stepped = new Session(model);
        stepped.Prefill(ids.AsSpan(0, 1));
        for (int t = 1; t < ids.Length; t++)
        {
            float[] logits = stepped.Step(ids[t]).ToArray();
            Assert.That(Numbers.Error(logits, whole[t]), Is.LessThan(Tolerance), $"token {t}");
        }

        // A prompt in two pieces, then steps.
        using var pieces = new Session(model);
        pieces.Prefill(ids.AsSpan(0, 23));
        float[] second = pieces.Prefill(ids.AsSpan(23, 20)).ToArray();
        Assert.That(Numbers.Error(second, whole[42]), Is.LessThan(Tolerance));
        Assert.That(Numbers.Error(pieces.Step(ids[43]), whole[43]), Is.LessThan(Tolerance));
        Assert.That(pieces.Length, Is.EqualTo(44));
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Prompts_of_different_lengths_in_one_batch_are_each_as_if_alone(string family)
    {
        var model = TestModels.Load(family);
        int[][] prompts = [.. TestModels.Prompts(family), TestModels.LongPrompt(family, 37), TestModels.LongPrompt(family, 1)];
        var together = TestModels.States(model, prompts);
        for (int i = 0; i < prompts.Length; i++)
        {
            using var alone = TestModels.States(model, prompts[i])[0];
            for (int k = 0; k <= model.Config.L; k++)
            {
                Assert.That(Numbers.Error(together[i].X[k], alone.X[k]), Is.LessThan(Tolerance), $"prompt {i}, layer {k}");
            }

            Assert.That(together[i].Position, Is.EqualTo(prompts[i].Length - 1));
            together[i].Dispose();
        }
    }

    [Test]
    [OnGpuOnly]
    public void Prompts_that_straddle_passes_are_whole()
    {
        // 150 + 150 + 400 tokens: every pass of 256 rows ends inside a prompt.
        var model = TestModels.Demo;
        int[][] prompts = [TestModels.LongPrompt("demo", 150), TestModels.LongPrompt("demo", 151), TestModels.LongPrompt("demo", 400)];
        foreach (bool keep in new[] { false, true })
        {
            var told = new Told<int>();
            var states = PromptState.Collect(model, prompts, keep, told, CancellationToken.None);
            Assert.That(told.Values, Is.Ordered);
            Assert.That(told.Values[^1], Is.EqualTo(3));
            for (int i = 0; i < prompts.Length; i++)
            {
                var probe = Probe.Run(model, prompts[i], CancellationToken.None);
                for (int k = 0; k <= model.Config.L; k++)
                {
                    int at = ((k * prompts[i].Length) + prompts[i].Length - 1) * model.Config.D;
                    Assert.That(Numbers.Error(states[i].X[k], Floats(probe.States, at, model.Config.D)), Is.LessThan(Tolerance),
                        $"prompt {i}, layer {k}");
                }

                Assert.That(states[i].Cache is not null, Is.EqualTo(keep));
                states[i].Dispose();
            }
        }
    }

    [Test]
    public void A_chunked_prefill_continues_like_one_pass()
    {
        // Passes have 256 rows.
        var model = AnyModel;
        int chunk = IsHostCuda ? 300 : 600;
        int[] ids = TestModels.LongPrompt(AnyFamily, chunk + 3);
        float[][] whole = Logits(model, ids);
        using var session = new Session(model);
        Assert.That(Numbers.Error(session.Prefill(ids.AsSpan(0, chunk)), whole[chunk - 1]), Is.LessThan(Tolerance));
        for (int t = chunk; t < ids.Length; t++)
        {
            Assert.That(Numbers.Error(session.Step(ids[t]), whole[t]), Is.LessThan(Tolerance), $"token {t}");
        }
    }

    [Test]
    public void One_thread_and_many_give_the_same_bits()
    {
        int[] ids = TestModels.LongPrompt("demo", 300);
        using var one = LanguageModel.Load(TestModels.Folder("demo"), new LoadOptions { Threads = 1 });
        using var three = LanguageModel.Load(TestModels.Folder("demo"), new LoadOptions { Threads = 3 });
        using var a = new Session(one);
        using var b = new Session(three);
        Assert.That(a.Prefill(ids).ToArray(), Is.EqualTo(b.Prefill(ids).ToArray()));
        Assert.That(a.Step(7).ToArray(), Is.EqualTo(b.Step(7).ToArray()));
    }

    [Test]
    public void Ids_outside_the_vocabulary_and_empty_prompts_are_refused_and_leave_the_session_usable()
    {
        var model = TestModels.Demo;
        using var session = new Session(model);
        Assert.That(() => session.Prefill([3, model.Config.V]), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => session.Prefill([-1]), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => session.Prefill([]), Throws.ArgumentException);
        Assert.That(session.Length, Is.Zero);
        float[] logits = session.Prefill([0, 5, 6]).ToArray();
        Assert.That(Numbers.Error(logits, Logits(model, [0, 5, 6])[2]), Is.LessThan(Tolerance));
    }

    private static float[][] Logits(LanguageModel model, int[] ids)
    {
        var probe = Probe.Run(model, ids, CancellationToken.None);
        return [.. Enumerable.Range(0, ids.Length).Select(t => Floats(probe.Logits, t * model.Config.V, model.Config.V))];
    }

    private static float[] Floats(double[] values, int at, int count) => Array.ConvertAll(values[at..(at + count)], x => (float)x);
}
