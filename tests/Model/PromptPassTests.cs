using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Decode;

namespace Tiller.Tests.Model;

public sealed class PromptPassTests
{
    private static readonly int[] s_ids = [.. Enumerable.Range(0, 9).Select(i => 5 + i)];

    [TestCase(1)]
    [TestCase(4)]
    [TestCase(9)]
    [TestCase(256)]
    public void Every_row_is_run_once_whatever_a_pass_holds(int maxRows)
    {
        var model = TestModels.Load("llama3-bf16");
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        cache.Reserve(s_ids.Length, used: 0);
        var pass = new PromptPass(model, a, maxRows);
        var seen = new List<(int Position, int K)>();
        float[] states = new float[s_ids.Length * model.Config.D];
        float[] line = new float[model.Config.D];
        for (int begin = 0; begin < s_ids.Length; begin += pass.Rows.Values)
        {
            pass.Fill(s_ids, begin, position: 0, cache);
            Assert.That(pass.Rows.Values, Is.InRange(1, maxRows));
            Assert.That(pass.Run(Visit, CancellationToken.None), Is.True);
        }

        Assert.That(seen, Is.EquivalentTo(
            from t in Enumerable.Range(0, s_ids.Length) from k in Enumerable.Range(0, model.Config.L + 1) select (t, k)));
        double[] whole = Probe.Run(model, s_ids, CancellationToken.None).States[^states.Length..];
        Assert.That(Numbers.Error(states, [.. whole.Select(x => (float)x)]), Is.LessThan(1e-5));

        bool Visit(PromptPass visited, int k)
        {
            for (int row = 0; row < visited.Rows.Values; row++)
            {
                int position = visited.Rows[row].Position;
                seen.Add((position, k));
                model.Ops.DownloadRow(visited.A.X, row, line);
                for (int e = 0; e < line.Length; e++)
                {
                    states[(position * line.Length) + e] = line[e];
                }
            }

            return true;
        }
    }

    [Test]
    public void A_visitor_that_has_seen_enough_ends_the_pass()
    {
        var model = TestModels.Load("llama3-bf16");
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        cache.Reserve(s_ids.Length, used: 0);
        var pass = new PromptPass(model, a);
        pass.Fill(s_ids, begin: 0, position: 0, cache);
        var seen = new List<int>();
        bool whole = pass.Run(Visit, CancellationToken.None);
        Assert.That(whole, Is.False);
        Assert.That(seen, Is.EqualTo(new[] { 0, 1 }));

        bool Visit(PromptPass _, int k)
        {
            seen.Add(k);
            return k < 1;
        }
    }

    [Test]
    public void Only_rows_that_look_back_at_each_other_are_passes_of_their_own()
    {
        var model = TestModels.Load("llama3-bf16");
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        cache.Reserve(s_ids.Length, used: 0);
        var pass = new PromptPass(model, a);
        var back = model.NewSteering(Laws.LooksBack(model, 3));
        var plain = model.NewSteering(Laws.Random(model, 3));
        Assert.That(Rows(null, steersAll: true), Is.EqualTo((s_ids.Length, 0)));
        Assert.That(Rows(plain, steersAll: false), Is.EqualTo((s_ids.Length, 1)));
        Assert.That(Rows(plain, steersAll: true), Is.EqualTo((s_ids.Length, s_ids.Length)));
        Assert.That(Rows(back, steersAll: false), Is.EqualTo((s_ids.Length, 1)));
        Assert.That(Rows(back, steersAll: true), Is.EqualTo((1, 1)));
        back.Release();
        plain.Release();

        (int All, int Steered) Rows(SteeringState? steering, bool steersAll)
        {
            var tokens = steersAll ? SteeredTokens.All : SteeredTokens.Last;
            pass.Fill(s_ids, begin: 0, position: 0, cache, new SteeredSequence(steering, tokens, s_ids.Length - 1));
            return (pass.Rows.Values, Enumerable.Range(0, pass.Rows.Values).Count(i => pass.Rows[i].Steering is not null));
        }
    }

    [Test]
    public void A_pass_that_is_cancelled_shows_no_further_state()
    {
        var model = TestModels.Load("llama3-bf16");
        using var cancellation = new CancellationTokenSource();
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        cache.Reserve(s_ids.Length, used: 0);
        var pass = new PromptPass(model, a);
        pass.Fill(s_ids, begin: 0, position: 0, cache);
        var seen = new List<int>();
        Assert.That(() => pass.Run(Visit, cancellation.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(seen, Is.EqualTo(new[] { 0, 1 }));
        Assert.That(() => pass.Run(Visit, cancellation.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(seen, Has.Count.EqualTo(2), "cancelled before it began");

        bool Visit(PromptPass _, int k)
        {
            seen.Add(k);
            if (k == 1)
            {
                cancellation.Cancel();
            }

            return true;
        }
    }
}
