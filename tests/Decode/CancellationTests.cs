using System.Diagnostics;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Control;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;
using Tiller.Tensors;
using Tiller.Tests.Model;
using Tiller.Tokens;

namespace Tiller.Tests.Decode;

/// <summary>Long work ends soon after its cancellation, at whatever moment that comes, and leaves nothing behind.</summary>
public sealed class CancellationTests
{
    private const double MostMs = 200;

    // One block as wide as an 8B model's: a prefill pass through it takes seconds on a few cores.
    private LanguageModel _wide = null!;

    [OneTimeSetUp]
    public void Draw() => _wide = LanguageModel.WithRandomWeights(BenchShape.Parse("1,4096,14336,32,8,128,1024").Config, TensorType.BF16);

    [OneTimeTearDown]
    public void Drop() => _wide.Dispose();

    [Test]
    public void A_prefill_ends_in_the_middle_of_a_block()
    {
        int[] ids = [.. Enumerable.Range(0, 2000).Select(i => i % 1000)];
        Check(cancelled =>
        {
            using var session = new Session(_wide);
            session.Prefill(ids, cancelled);
        });
    }

    [Test]
    public void Decoding_ends_between_two_tokens()
    {
        Check(cancelled =>
        {
            using var session = new Session(_wide);
            session.Prefill([1, 2, 3], cancelled);
            while (session.Length < 4000)
            {
                session.Step(4, cancelled);
            }
        });
    }

    [Test]
    public void Measuring_activations_ends_in_the_middle_of_a_block()
    {
        int[][] prompts = [.. Enumerable.Range(0, 8).Select(_ => Enumerable.Range(0, 250).ToArray())];
        Check(cancelled => PromptState.Collect(_wide, prompts, keepCaches: true, done: null, cancelled));
    }

    [Test]
    public void Jacobians_end_in_the_middle_of_a_block()
    {
        var states = TestModels.States(_wide, [1, 2, 3], [4, 5]);
        using var linearization = new Linearization(_wide, states);
        Check(cancelled => linearization.Jacobian(0, cancelled));
        Release(states);
    }

    [Test]
    public void Pullbacks_end_in_the_middle_of_a_block()
    {
        var states = TestModels.States(_wide, [.. Enumerable.Range(0, 24).Select(i => new[] { 1 + i, 2, 3 })]);
        using var linearization = new Linearization(_wide, states);
        var z = Matrix<double>.Build.Dense(_wide.Config.D, 60, (i, j) => (i * 7 % 13) - j);
        Check(cancelled => linearization.Pull(0, z, cancelled));
        Release(states);
    }

    [Test]
    public void A_dense_step_ends_in_the_middle_of_its_products()
    {
        const int Width = 2048;
        var a = Matrix<double>.Build.Dense(Width, Width, (i, j) => i == j ? 1 : ((i * 31) + (j * 17)) % 101 * 1e-5);
        Check(cancelled => DenseRiccati.Solve(3, _ => a, new IsotropicCost(new LqrWeights(1, 1, 1)), cancelled));
    }

    [Test]
    public void A_reduced_basis_ends_in_the_middle_of_a_layer()
    {
        const int Width = 2048, Order = 1024;
        var x = Matrix<double>.Build.Dense(Width, 12, (i, j) => Math.Sin((i * 0.37) + j));
        Matrix<double>[] features = [.. Enumerable.Range(0, 3).Select(k => x.SubMatrix(0, Width, k, 1))];
        Check(cancelled => ReducedBasis.Build(Order, features, _ => x, null, cancellationToken: cancelled));
    }

    // SentencePiece-style text is one word for the merges; the other splits first.
    [TestCase("llama2-f32", "ab ")]
    [TestCase("llama3-bf16", "ab ")]
    [TestCase("llama3-bf16", "a")]
    [TestCase("qwen2-bf16", "é中")]
    public void Encoding_a_large_text_ends(string family, string piece)
    {
        var tokenizer = Tokenizer.Load(TestModels.Folder(family));
        string text = string.Concat(Enumerable.Repeat(piece, 24_000_000 / piece.Length));
        Check([20, 60, 120], cancelled => tokenizer.Encode(text, cancellationToken: cancelled));
        Assert.That(tokenizer.Encode("a b"), Is.EqualTo(Tokenizer.Load(TestModels.Folder(family)).Encode("a b")), "as if nothing had been");
    }

    [Test]
    public void Reading_a_tokenizer_ends() =>
        Assert.That(() => Tokenizer.Load(TestModels.Folder("demo"), new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>());

    [Test]
    public void A_session_given_up_frees_its_keys_and_values()
    {
        int[] ids = [.. Enumerable.Range(0, 600).Select(i => i % 1000)];
        long before = 0;
        for (int cycle = 0; cycle < 12; cycle++)
        {
            using var cancelled = new CancellationTokenSource();
            using (var session = new Session(_wide, Laws.Random(_wide, 1)))
            {
                cancelled.CancelAfter(TimeSpan.FromMilliseconds(5 * cycle));
                Assert.That(() => session.Prefill(ids, cancelled.Token), Throws.InstanceOf<OperationCanceledException>());
                Assert.That(session.Length, Is.Zero);
            }

            // The first cycles grow what the threads keep as scratch.
            before = cycle == 5 ? HostBuffer.LiveInBytes : before;
        }

        Assert.That(HostBuffer.LiveInBytes, Is.EqualTo(before));
    }

    [Test]
    public void A_cancelled_call_can_be_made_again_and_gives_what_it_would_have()
    {
        var model = TestModels.Demo;
        int[] ids = [.. Enumerable.Range(0, 300).Select(i => 3 + (i % 900))];
        var random = new Random(1);
        foreach (var law in new[] { null, Laws.Random(model, 1), Laws.LooksBack(model, 2) })
        {
            using var alone = new Session(model, law, SteeredTokens.All);
            using var disturbed = new Session(model, law, SteeredTokens.All);
            float[] expected = [.. alone.Prefill(ids)];
            Assert.That(Again(cancelled => disturbed.Prefill(ids, cancelled).ToArray()), Is.EqualTo(expected));
            for (int step = 0; step < 20; step++)
            {
                expected = [.. alone.Step(step + 5)];
                Assert.That(Again(cancelled => disturbed.Step(step + 5, cancelled).ToArray()), Is.EqualTo(expected));
            }
        }

        // Gives up twice at random moments, if the call has not ended by then.
        float[] Again(Func<CancellationToken, float[]> call)
        {
            for (int attempt = 0; attempt < 2; attempt++)
            {
                using var source = new CancellationTokenSource(TimeSpan.FromMicroseconds(random.Next(0, 4000)));
                try
                {
                    return call(source.Token);
                }
                catch (OperationCanceledException)
                {
                }
            }

            return call(CancellationToken.None);
        }
    }

    /// <summary>
    /// Cancels <paramref name="work"/> at several moments, and measures from the cancellation to the exception. A moment has three tries, and of the
    /// wall time and the thread's own time on a core the lesser counts, as other processes may hold the cores; work that does not look is late by both,
    /// at every try.
    /// </summary>
    private static void Check(Action<CancellationToken> work) => Check([20, 90, 170, 260, 370], work);

    private static void Check(int[] moments, Action<CancellationToken> work)
    {
        foreach (int moment in moments)
        {
            double best = double.PositiveInfinity;
            for (int attempt = 0; attempt < 10 && best > MostMs; attempt++)
            {
                best = Math.Min(best, Reaction(work, moment));
            }

            TestContext.Out.WriteLine($"after {moment} ms: {best:F1} ms");
            Assert.That(best, Is.LessThan(MostMs), $"cancelled after {moment} ms");
        }
    }

    private static double Reaction(Action<CancellationToken> work, int afterMs)
    {
        using var source = new CancellationTokenSource();
        string? self = File.ResolveLinkTarget("/proc/thread-self", returnFinalTarget: false)?.Name;
        long at = 0;
        double onCore = 0;
        var canceller = new Thread(() =>
        {
            Thread.Sleep(afterMs);
            onCore = OnCoreMs(self);
            Interlocked.Exchange(ref at, Stopwatch.GetTimestamp());
            source.Cancel();
        });
        canceller.Start();
        bool ended = false;
        try
        {
            work(source.Token);
        }
        catch (OperationCanceledException)
        {
            ended = true;
        }

        double elapsed = Stopwatch.GetElapsedTime(Interlocked.Read(ref at)).TotalMilliseconds;
        double after = OnCoreMs(self);
        canceller.Join();
        Assert.That(ended, $"the work takes longer than {afterMs} ms");
        return after > 0 ? Math.Min(elapsed, after - onCore) : elapsed;
    }

    // proc(5): the first number is the time spent on a core, in nanoseconds; 0 where the system does not tell.
    private static double OnCoreMs(string? thread)
    {
        string path = $"/proc/self/task/{thread}/schedstat";
        return thread is not null && File.Exists(path) ? double.Parse(File.ReadAllText(path).Split(' ')[0]) / 1e6 : 0;
    }

    private static void Release(IReadOnlyList<PromptState> states)
    {
        foreach (var state in states)
        {
            state.Dispose();
        }
    }
}
