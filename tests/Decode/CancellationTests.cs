using MathNet.Numerics.LinearAlgebra;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Synthesis;
using Tiller.Tests.Model;
using Tiller.Tokens;

namespace Tiller.Tests.Decode;

/// <summary>
/// Long work that is cancelled at any place of it begins hardly any more work, and leaves nothing behind. Work is counted in parts of loops, or in
/// steps of the tokenizer, and cancelled at a chosen one; how long that takes is <c>bench interrupt</c>'s.
/// </summary>
public sealed class CancellationTests
{
    // Of all the work, what may still begin: the rest of a loop that does not look, such as one of attention or of a norm.
    private const double Most = 0.05;

    private static readonly double[] s_places = [0, 0.1, 0.3, 0.5, 0.7, 0.85];

    private LanguageModel _model = null!;

    private WorkerPool Pool => PoolOf(_model);

    [OneTimeSetUp]
    public void Draw() => _model = LanguageModel.WithRandomWeights(
        BenchShape.Parse("2,512,1536,8,4,64,1000").Config, TensorType.BF16, new LoadOptions { Device = Device.Cpu, Threads = 3 });

    [OneTimeTearDown]
    public void Drop() => _model.Dispose();

    [Test]
    public void A_prefill_ends_in_the_middle_of_a_block()
    {
        int[] ids = [.. Enumerable.Range(0, 600).Select(i => i % 1000)];
        Check(Pool, cancelled =>
        {
            using var session = new Session(_model);
            session.Prefill(ids, cancelled);
        });
    }

    [Test]
    public void Decoding_ends_between_two_tokens()
    {
        Check(Pool, cancelled =>
        {
            using var session = new Session(_model);
            session.Prefill([1, 2, 3], cancelled);
            while (session.Length < 40)
            {
                session.Step(4, cancelled);
            }
        });
    }

    [Test]
    public void Measuring_activations_ends_in_the_middle_of_a_block()
    {
        int[][] prompts = [.. Enumerable.Range(0, 8).Select(_ => Enumerable.Range(0, 70).ToArray())];
        Check(Pool, cancelled => Release(PromptState.Collect(_model, prompts, keepCaches: true, done: null, cancelled)));
    }

    [Test]
    public void Jacobians_end_in_the_middle_of_a_block()
    {
        var states = TestModels.States(_model, [1, 2, 3], [4, 5]);
        using var linearization = new Linearization(_model, states);
        Check(Pool, cancelled => linearization.Jacobian(0, cancelled));
        Release(states);
    }

    [Test]
    public void Pullbacks_end_in_the_middle_of_a_block()
    {
        var states = TestModels.States(_model, [.. Enumerable.Range(0, 24).Select(i => new[] { 1 + i, 2, 3 })]);
        using var linearization = new Linearization(_model, states);
        var z = Matrix<double>.Build.Dense(_model.Config.D, 60, (i, j) => (i * 7 % 13) - j);

        // A loop over the rows of 24 · 60 cotangents, eight a part, does not look.
        Check(Pool, cancelled => linearization.Pull(0, z, cancelled), most: 0.2);
        Release(states);
    }

    [Test]
    public void A_dense_step_ends_in_the_middle_of_its_products()
    {
        const int Width = 1024;
        var a = Matrix<double>.Build.Dense(Width, Width, (i, j) => i == j ? 1 : ((i * 31) + (j * 17)) % 101 * 1e-5);
        Check(CpuOps.Shared.Pool, cancelled => DenseRiccati.Solve(2, _ => a, new IsotropicCost(new LqrWeights(1, 1, 1)), cancelled));
    }

    [Test]
    public void A_reduced_basis_ends_in_the_middle_of_a_layer()
    {
        const int Width = 256, Order = 128;
        var x = Matrix<double>.Build.Dense(Width, 12, (i, j) => Math.Sin((i * 0.37) + j));
        Matrix<double>[] features = [.. Enumerable.Range(0, 3).Select(k => x.SubMatrix(0, Width, k, 1))];
        foreach (string place in new[] { "activations 0", "activations 1", "push 0", "push 1" })
        {
            using var source = new CancellationTokenSource();
            var asked = new List<string>();
            void Ask(string what)
            {
                asked.Add(what);
                if (what == place)
                {
                    source.Cancel();
                }
            }

            Assert.That(
                () => ReducedBasis.Build(
                    Order, features,
                    k =>
                    {
                        Ask($"activations {k}");
                        return x;
                    },
                    (k, w) =>
                    {
                        Ask($"push {k}");
                        return w;
                    },
                    cancellationToken: source.Token),
                Throws.InstanceOf<OperationCanceledException>(), place);
            Assert.That(asked[^1], Is.EqualTo(place), "nothing is asked for afterwards");
        }
    }

    // SentencePiece-style text is one word for the merges; the other splits first.
    [TestCase("llama2-f32", "ab ")]
    [TestCase("llama3-bf16", "ab ")]
    [TestCase("llama3-bf16", "a")]
    [TestCase("qwen2-bf16", "é中")]
    public void Encoding_a_large_text_ends(string family, string piece)
    {
        var tokenizer = Tokenizer.Load(TestModels.Folder(family));
        string text = string.Concat(Enumerable.Repeat(piece, 600_000 / piece.Length));
        int looks = 0;
        tokenizer.Watch = _ => looks++;
        tokenizer.Encode(text);
        int all = looks;
        Assert.That(all, Is.GreaterThan(text.Length / 16_384));
        foreach (double place in s_places)
        {
            using var source = new CancellationTokenSource();
            int at = 1 + (int)(place * all);
            looks = 0;
            tokenizer.Watch = _ =>
            {
                if (++looks == at)
                {
                    source.Cancel();
                }
            };
            Assert.That(
                () => tokenizer.Encode(text, cancellationToken: source.Token), Throws.InstanceOf<OperationCanceledException>(), $"at {at} of {all}");
            Assert.That(looks, Is.EqualTo(at), "at the very look");
        }

        tokenizer.Watch = null;
        Assert.That(tokenizer.Encode("a b"), Is.EqualTo(Tokenizer.Load(TestModels.Folder(family)).Encode("a b")), "as if nothing had been");
    }

    [Test]
    public void Reading_a_tokenizer_ends() =>
        Assert.That(() => Tokenizer.Load(TestModels.Folder("demo"), new CancellationToken(canceled: true)),
            Throws.InstanceOf<OperationCanceledException>());

    [Test]
    public void A_session_given_up_frees_its_keys_and_values()
    {
        const int Cycles = 12;
        int[] ids = [.. Enumerable.Range(0, 600).Select(i => i % 1000)];
        void Prefill(CancellationToken cancelled)
        {
            using var session = new Session(_model, Laws.Random(_model, 1));
            Assert.That(
                () => session.Prefill(ids, cancelled), cancelled.CanBeCanceled ? Throws.InstanceOf<OperationCanceledException>() : Throws.Nothing);
            Assert.That(session.Length, Is.EqualTo(cancelled.CanBeCanceled ? 0 : ids.Length));
        }

        long all = Count(Pool, () => Prefill(CancellationToken.None)), before = 0;
        for (int cycle = 0; cycle < Cycles; cycle++)
        {
            using var source = new CancellationTokenSource();
            CancelAt(Pool, 1 + (long)(0.85 * all * cycle / Cycles), source, () => Prefill(source.Token));

            // The first cycles grow what the threads keep as scratch.
            before = cycle == 5 ? HostBuffer.LiveInBytes : before;
        }

        Assert.That(HostBuffer.LiveInBytes, Is.EqualTo(before));
    }

    [Test]
    public void A_cancelled_call_can_be_made_again_and_gives_what_it_would_have()
    {
        using var model = LanguageModel.Load(TestModels.Folder("demo"), new LoadOptions { Device = Device.Cpu, Threads = 2 });
        int[] ids = [.. Enumerable.Range(0, 300).Select(i => 3 + (i % 900))];
        var random = new Random(1);
        int cancelled = 0;
        foreach (var law in new[] { null, Laws.Random(model, 1), Laws.LooksBack(model, 2) })
        {
            using var alone = new Session(model, law, SteeredTokens.All);
            using var disturbed = new Session(model, law, SteeredTokens.All);
            float[] expected = [];
            Again(Count(PoolOf(model), () => expected = [.. alone.Prefill(ids)]), expected, token => disturbed.Prefill(ids, token).ToArray());
            for (int step = 0; step < 20; step++)
            {
                Again(Count(PoolOf(model), () => expected = [.. alone.Step(step + 5)]), expected, token => disturbed.Step(step + 5, token).ToArray());
            }
        }

        Assert.That(cancelled, Is.GreaterThan(60), "of 126");

        // Gives up twice at random places.
        void Again(long parts, float[] expected, Func<CancellationToken, float[]> call)
        {
            float[]? given = null;
            for (int attempt = 0; attempt < 2 && given is null; attempt++)
            {
                using var source = new CancellationTokenSource();
                try
                {
                    CancelAt(PoolOf(model), 1 + random.NextInt64(parts), source, () => given = call(source.Token));
                }
                catch (OperationCanceledException)
                {
                    cancelled++;
                }
            }

            Assert.That(given ?? call(CancellationToken.None), Is.EqualTo(expected));
        }
    }

    private static WorkerPool PoolOf(LanguageModel model) => ((CpuOps)model.Ops).Pool;

    /// <summary>Cancels <paramref name="work"/> at several places; it must end with an exception, and hardly any further part may begin.</summary>
    private static void Check(WorkerPool pool, Action<CancellationToken> work, double most = Most)
    {
        long all = Count(pool, () => work(CancellationToken.None));
        foreach (double place in s_places)
        {
            using var source = new CancellationTokenSource();
            long at = 1 + (long)(place * all);
            long begun = CancelAt(
                pool, at, source, () => Assert.That(() => work(source.Token), Throws.InstanceOf<OperationCanceledException>(),
                    $"part {at} of {all}"));
            TestContext.Out.WriteLine($"cancelled at part {at} of {all}: {begun - at} more");
            Assert.That(begun - at, Is.AtMost(most * all), $"begun after part {at} of {all}");
        }
    }

    /// <summary>Parts that the work begins.</summary>
    private static long Count(WorkerPool pool, Action work) => CancelAt(pool, long.MaxValue, null, work);

    /// <summary>Cancels where part <paramref name="at"/>, from 1, begins.</summary>
    /// <returns>Parts that have begun by the end.</returns>
    private static long CancelAt(WorkerPool pool, long at, CancellationTokenSource? source, Action work)
    {
        long begun = 0;
        pool.PartBegins = () =>
        {
            if (Interlocked.Increment(ref begun) == at)
            {
                source!.Cancel();
            }
        };
        try
        {
            work();
        }
        finally
        {
            pool.PartBegins = null;
        }

        return Interlocked.Read(ref begun);
    }

    private static void Release(IReadOnlyList<PromptState> states)
    {
        foreach (var state in states)
        {
            state.Dispose();
        }
    }
}
