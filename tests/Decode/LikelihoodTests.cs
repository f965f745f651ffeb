using Tiller.Decode;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>The likelihood of a text against the logits of one pass over it.</summary>
public sealed class LikelihoodTests(string device) : OnEveryDevice(device)
{
    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void It_is_the_sum_of_log_probabilities(string family)
    {
        // Cuts before, at and after the borders of the 64-row passes.
        var model = TestModels.Load(family);
        int[] ids = TestModels.LongPrompt(family, 150);
        var probe = Probe.Run(model, ids, CancellationToken.None);
        int v = model.Config.V;
        double[] log = new double[ids.Length];
        for (int t = 1; t < ids.Length; t++)
        {
            double[] logits = probe.Logits[((t - 1) * v)..(t * v)];
            double largest = logits.Max();
            log[t] = logits[ids[t]] - largest - Math.Log(logits.Sum(z => Math.Exp(z - largest)));
        }

        int[] cuts = IsHostCuda ? [1, 64, 65, 150] : [1, 2, 63, 64, 65, 66, 128, 129, 149, 150];
        foreach (int cut in cuts)
        {
            double actual = Likelihood.LogProbability(model, ids.AsSpan(0, cut), ids.AsSpan(cut));
            Assert.That(actual, Is.EqualTo(log[cut..].Sum()).Within(1e-5 * (1 + log[cut..].Sum(Math.Abs))), $"cut at {cut}");
        }
    }

    [Test]
    public void What_has_no_likelihood_is_refused()
    {
        var model = TestModels.Demo;
        Assert.That(Likelihood.LogProbability(model, [3], []), Is.Zero);
        Assert.That(() => Likelihood.LogProbability(model, [], [3]), Throws.ArgumentException);
        Assert.That(() => Likelihood.LogProbability(model, new int[1000], new int[25]),
            Throws.InstanceOf<ContextLengthException>().With.Property("Tokens").EqualTo(1025));
        Assert.That(() => Likelihood.LogProbability(model, [3], [model.Config.V]), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => Likelihood.LogProbability(model, [-1], [3]), Throws.InstanceOf<ArgumentOutOfRangeException>());
        using var source = new CancellationTokenSource();
        source.Cancel();
        Assert.That(() => Likelihood.LogProbability(model, [3], [4], source.Token), Throws.InstanceOf<OperationCanceledException>());
    }
}
