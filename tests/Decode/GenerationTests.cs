using Tiller.Controllers;
using Tiller.Cuda;
using Tiller.Decode;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>When and how a text ends, and that nothing but the prompt, the options and the seed decides what it says.</summary>
public sealed class GenerationTests(string device) : OnEveryDevice(device)
{
    private static readonly int[] s_prompt = TestModels.Prompts("demo")[2];

    private static LanguageModel Demo => TestModels.Demo;

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Pieces_join_to_the_decoded_text(string family)
    {
        var model = TestModels.Load(family);
        int tokens = IsHostCuda ? 8 : 40;
        foreach (int[] prompt in TestModels.Prompts(family))
        {
            var options = new GenerationOptions { MaxNewTokens = tokens, Sampling = new SamplingOptions { Temperature = 2, Seed = 3 }, StopIds = [] };
            var (ids, text, reason) = Run(model, prompt, options);
            Assert.That(text, Is.EqualTo(model.Tokenizer.Decode(ids, skipSpecial: true)));
            Assert.That(ids, Has.Length.EqualTo(tokens));
            Assert.That(reason, Is.EqualTo(StopReason.MaxTokens));
        }
    }

    [Test]
    public void A_stop_id_ends_the_text_and_is_not_part_of_it()
    {
        var free = Run(Demo, s_prompt, new GenerationOptions { MaxNewTokens = 12, StopIds = [] });
        int stop = free.Ids[6];
        int first = Array.IndexOf(free.Ids, stop);
        var stopped = Run(Demo, s_prompt, new GenerationOptions { MaxNewTokens = 12, StopIds = [stop, 1] });
        Assert.That(stopped.Reason, Is.EqualTo(StopReason.EndToken));
        Assert.That(stopped.Ids, Is.EqualTo(free.Ids[..(first + 1)]));
        Assert.That(stopped.Text, Is.EqualTo(Demo.Tokenizer.Decode(free.Ids.AsSpan(0, first), skipSpecial: true)));

        // By default the checkpoint's own: id 1 ends a document of the demo's world.
        var whole = Run(Demo, s_prompt, new GenerationOptions { MaxNewTokens = 200 });
        Assert.That(whole.Reason, Is.EqualTo(StopReason.EndToken));
        Assert.That(whole.Ids[^1], Is.EqualTo(1).And.EqualTo(Demo.Config.EosIds[0]));
        Assert.That(whole.Ids[..^1], Has.None.EqualTo(1));
    }

    [Test]
    [OnGpuOnly]
    public void A_stop_string_is_found_across_token_borders_and_is_never_shown()
    {
        string text = Run(Demo, s_prompt, new GenerationOptions { MaxNewTokens = 30, StopIds = [] }).Text;
        for (int at = 1; at + 9 < text.Length; at += 3)
        {
            string stop = text.Substring(at, 9);
            var (_, shown, reason) = Run(
                Demo, s_prompt, new GenerationOptions { MaxNewTokens = 30, StopIds = [], StopStrings = new StopStrings([stop, "never in there"]) });
            Assert.That(reason, Is.EqualTo(StopReason.StopString));
            Assert.That(shown, Is.EqualTo(text[..text.IndexOf(stop, StringComparison.Ordinal)]), stop);
        }

        // A beginning of a stop string that stays one is shown in the end.
        string tail = text[^3..] + "\u0001";
        Assert.That(Run(Demo, s_prompt, new GenerationOptions { MaxNewTokens = 30, StopIds = [], StopStrings = new StopStrings([tail]) }).Text,
            Is.EqualTo(text));
    }

    [Test]
    public void Room_for_the_whole_text_is_made_before_its_prompt_is_read()
    {
        Assert.That(Capacities(maxTokens: 8, drawn: 8), Is.EqualTo(new[] { s_prompt.Length + 7 }), "its keys and values are never copied");
        Assert.That(Capacities(maxTokens: 900, drawn: 1), Is.EqualTo(new[] { 2 * s_prompt.Length }), "no more than the first growth would make");

        static IEnumerable<int> Capacities(int maxTokens, int drawn)
        {
            var capacities = new List<int>();
            var law = new Proportional(Laws.RandomFeature(Demo, 10), 0.2).Compile(1);
            var options = new GenerationOptions
            {
                MaxNewTokens = maxTokens,
                StopIds = [],
                Law = law,
                Refit = (session, _, _) =>
                {
                    capacities.Add(session.Cache.Capacity);
                    return law;
                },
                RefitEvery = 1,
            };
            using var generation = new Generation(Demo, s_prompt, options);
            for (int i = 0; i < drawn; i++)
            {
                Assert.That(generation.MoveNext());
            }

            Assert.That(capacities, Has.Count.EqualTo(drawn));
            return capacities.Distinct();
        }
    }

    [Test]
    public void The_text_ends_where_the_context_does()
    {
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        checkpoint.Config["max_position_embeddings"] = 16;
        using var model = LanguageModel.Load(checkpoint.Save());
        int[] prompt = TestModels.LongPrompt("llama2-f32", 16);

        // 16 positions hold 10 tokens of prompt and 6 new ones; the 7th is drawn but cannot be continued.
        var (ids, _, reason) = Run(model, prompt[..10], new GenerationOptions { MaxNewTokens = 100, StopIds = [] });
        Assert.That(ids, Has.Length.EqualTo(7));
        Assert.That(reason, Is.EqualTo(StopReason.ContextFull));
        Assert.That(Run(model, prompt[..10], new GenerationOptions { MaxNewTokens = 7, StopIds = [] }).Reason, Is.EqualTo(StopReason.MaxTokens));
        Assert.That(Run(model, prompt[..10], new GenerationOptions { MaxNewTokens = 7, StopIds = [] }).Ids, Is.EqualTo(ids));

        // A prompt of context − 1, context, context + 1 and 100 × context tokens.
        Assert.That(Run(model, prompt[..15], new GenerationOptions { StopIds = [] }).Ids, Has.Length.EqualTo(2));
        Assert.That(Run(model, prompt, new GenerationOptions { StopIds = [] }).Ids, Has.Length.EqualTo(1));
        foreach (int length in new[] { 17, 1600 })
        {
            int[] tooLong = new int[length];
            Assert.That(
                () => new Generation(model, tooLong),
                Throws.InstanceOf<ContextLengthException>().With.Property("Tokens").EqualTo(length).And.Property("Context").EqualTo(16)
                    .And.Message.Contains($"{length}").And.Message.Contains("16"));
            using var session = new Session(model);
            Assert.That(() => session.Prefill(tooLong), Throws.InstanceOf<ContextLengthException>());
            Assert.That(session.Length, Is.Zero);
        }

        using var full = new Session(model);
        full.Prefill(prompt);
        Assert.That(() => full.Step(3), Throws.InstanceOf<ContextLengthException>().With.Property("Tokens").EqualTo(17));
    }

    [Test]
    public void Options_out_of_range_are_refused()
    {
        Assert.That(() => new Generation(Demo, []), Throws.ArgumentException);
        Assert.That(() => new Generation(Demo, [3], new GenerationOptions { MaxNewTokens = 0 }), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => new Generation(Demo, [3], new GenerationOptions { Trace = new SteeringTrace(Laws.Random(Demo, 1)) }),
            Throws.ArgumentException);
        Assert.That(
            () => new Generation(Demo, [3], new GenerationOptions { Law = new FeedbackLaw(1, 1, [], []) }),
            Throws.InstanceOf<ModelMismatchException>());
    }

    [Test]
    public void The_seed_decides_the_text()
    {
        GenerationOptions Seeded(ulong seed) => new() { MaxNewTokens = 25, Sampling = new SamplingOptions { Temperature = 1, Seed = seed } };
        var first = Run(Demo, s_prompt, Seeded(7));
        Assert.That(Run(Demo, s_prompt, Seeded(7)).Ids, Is.EqualTo(first.Ids));
        Assert.That(Enumerable.Range(8, 5).Select(seed => Run(Demo, s_prompt, Seeded((ulong)seed)).Text), Has.Some.Not.EqualTo(first.Text));
    }

    [Test]
    public void Without_a_seed_each_generation_draws_one_that_gives_its_text_again()
    {
        // So hot that every token is as likely: two texts are never the same by chance.
        var sampling = new SamplingOptions { Temperature = SamplingOptions.MaxTemperature };
        var options = new GenerationOptions { MaxNewTokens = IsHostCuda ? 8 : 25, Sampling = sampling, StopIds = [] };
        int[] prompt = TestModels.Prompts(AnyFamily)[0];
        var texts = new List<string>();
        var seeds = new List<ulong>();
        for (int i = 0; i < 4; i++)
        {
            using var generation = new Generation(AnyModel, prompt, options);
            texts.Add(Ids(generation));
            seeds.Add(generation.Seed);
            using var again = new Generation(AnyModel, prompt, options with { Sampling = options.Sampling with { Seed = generation.Seed } });
            Assert.That((Ids(again), again.Seed), Is.EqualTo((texts[i], seeds[i])));
        }

        Assert.That(texts, Is.Unique);
        Assert.That(seeds, Is.Unique);

        static string Ids(Generation generation)
        {
            while (generation.MoveNext())
            {
            }

            return string.Join(' ', generation.NewIds.ToArray());
        }
    }

    [Test]
    public void Many_sessions_at_once_say_what_each_says_alone()
    {
        const int Sessions = 12;
        int tokens = IsHostCuda ? 6 : 20;
        string[] expected = [.. Enumerable.Range(0, Sessions).Select(i => Run(AnyModel, Prompt(i), Options(i)).Text)];
        string[] actual = new string[Sessions];
        Parallel.For(0, Sessions, new ParallelOptions { MaxDegreeOfParallelism = 6 }, i => actual[i] = Run(AnyModel, Prompt(i), Options(i)).Text);
        Assert.That(actual, Is.EqualTo(expected));

        int[] Prompt(int i) => TestModels.Prompts(AnyFamily)[i % 6];

        GenerationOptions Options(int i) => new()
        {
            MaxNewTokens = tokens,
            Sampling = new SamplingOptions { Temperature = 1, Seed = (ulong)i },
            Law = i % 3 == 0 ? null : i % 3 == 1 ? Laws.Random(AnyModel, i, 0.5f) : Laws.LooksBack(AnyModel, i, 0.5),
            SteeredTokens = i % 2 == 0 ? SteeredTokens.Last : SteeredTokens.All,
        };
    }

    [Test]
    public async Task GenerateAsync_streams_the_same_text()
    {
        var options = new GenerationOptions { MaxNewTokens = 15, StopIds = [] };
        var expected = Run(Demo, s_prompt, options);
        var ids = new List<int>();
        string text = "";
        StopReason? last = null;
        await foreach (var token in Demo.GenerateAsync(s_prompt, options))
        {
            Assert.That(last, Is.Null, "only the last token has a reason");
            ids.Add(token.Id);
            text += token.Text;
            last = token.StopReason;
        }

        Assert.That(ids, Is.EqualTo(expected.Ids));
        Assert.That(text, Is.EqualTo(expected.Text));
        Assert.That(last, Is.EqualTo(StopReason.MaxTokens));
    }

    [Test]
    public async Task GenerateAsync_ends_when_it_is_cancelled()
    {
        using var source = new CancellationTokenSource();
        int count = 0;
        try
        {
            await foreach (var token in Demo.GenerateAsync(s_prompt, new GenerationOptions { MaxNewTokens = 500, StopIds = [] }, source.Token))
            {
                if (++count == 5)
                {
                    await source.CancelAsync();
                }
            }

            Assert.Fail("the stream went on");
        }
        catch (OperationCanceledException)
        {
            Assert.That(count, Is.EqualTo(5));
        }

        Assert.That(
            async () =>
            {
                await foreach (var token in Demo.GenerateAsync(new int[2000]))
                {
                    Assert.Fail($"a token came: {token}");
                }
            },
            Throws.InstanceOf<ContextLengthException>());
    }

    [Test]
    public void A_cancelled_prefill_leaves_no_half_token([Values] bool steersAll)
    {
        var tokens = steersAll ? SteeredTokens.All : SteeredTokens.Last;
        using var narrow = new NarrowPasses(AnyModel);
        // With a law that looks back, what it remembers of the token before must survive too.
        var law = Laws.LooksBack(AnyModel, 1);
        int[] prompt = TestModels.LongPrompt(AnyFamily, IsHostCuda ? 300 : 900);
        using var expected = new Session(AnyModel, law, tokens);
        using var cancelled = new Session(AnyModel, law, tokens);
        expected.Prefill([3, 4, 5]);
        cancelled.Prefill([3, 4, 5]);
        using var source = new CancellationTokenSource();
        var ends = new List<int>();
        Assert.That(
            () => cancelled.Prefill(prompt, end =>
            {
                ends.Add(end);
                if (end >= 100)
                {
                    source.Cancel();
                }
            }, source.Token),
            Throws.InstanceOf<OperationCanceledException>());
        Assert.That(ends[^1], Is.InRange(100, prompt.Length), "after some passes and before others");
        Assert.That(cancelled.Length, Is.EqualTo(3));
        Assert.That(() => cancelled.Step(9, source.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(cancelled.Length, Is.EqualTo(3));
        Assert.That(cancelled.Step(9).ToArray(), Is.EqualTo(expected.Step(9).ToArray()));
        Assert.That(cancelled.Prefill([10, 11]).ToArray(), Is.EqualTo(expected.Prefill([10, 11]).ToArray()));
    }

    [Test]
    public void A_cancelled_generation_goes_on_as_if_it_had_not_been()
    {
        var law = Laws.LooksBack(AnyModel, 2);
        int[] prompt = TestModels.LongPrompt(AnyFamily, IsHostCuda ? 60 : 700);
        GenerationOptions Options() => new()
        {
            Law = law,
            SteeredTokens = SteeredTokens.All,
            MaxNewTokens = 4,
            StopIds = [],
            Trace = new SteeringTrace(law),
        };
        var (plainOptions, options) = (Options(), Options());
        using var source = new CancellationTokenSource();
        using var expected = new Generation(AnyModel, prompt, plainOptions);
        using var cancelled = new Generation(AnyModel, prompt, options)
        {
            AfterPass = end =>
            {
                if (end == prompt.Length / 2)
                {
                    source.Cancel();
                }
            },
        };
        Assert.That(() => cancelled.MoveNext(source.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(cancelled.NewIds.Length, Is.Zero);
        while (expected.MoveNext())
        {
            Assert.That(cancelled.MoveNext(), Is.True);
            Assert.That(cancelled.Current, Is.EqualTo(expected.Current));
        }

        Assert.That(cancelled.LogitsHash, Is.EqualTo(expected.LogitsHash));
        Assert.That(options.Trace!.Count, Is.EqualTo(plainOptions.Trace!.Count).And.EqualTo(prompt.Length + 3));
        Assert.That(cancelled.Steering!.TrackingError, Is.EqualTo(expected.Steering!.TrackingError));
    }

    private static (int[] Ids, string Text, StopReason? Reason) Run(LanguageModel model, int[] prompt, GenerationOptions options)
    {
        using var generation = new Generation(model, prompt, options);
        string text = "";
        while (generation.MoveNext())
        {
            text += generation.Current.Text;
        }

        return (generation.NewIds.ToArray(), text, generation.Current.StopReason);
    }

    /// <summary>Passes of a prompt that are short enough for the test models' contexts to have several, on CUDA too, where they are wide.</summary>
    private sealed class NarrowPasses : IDisposable
    {
        private readonly CudaOps? _ops;

        public NarrowPasses(LanguageModel model)
        {
            _ops = model.Ops as CudaOps;
            if (_ops is not null)
            {
                _ops.Variants = KernelVariants.Default with { WidePasses = false };
            }
        }

        public void Dispose()
        {
            if (_ops is not null)
            {
                _ops.Variants = KernelVariants.Default;
            }
        }
    }
}
