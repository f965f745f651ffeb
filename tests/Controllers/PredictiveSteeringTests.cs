using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tests.Model;

namespace Tiller.Tests.Controllers;

/// <summary>Predictive control as a method that decodes: A-LQR while no bound is met, and never above its bound.</summary>
public sealed class PredictiveSteeringTests
{
    private const string Family = "llama3-bf16";

    private static readonly ContrastSet s_contrast = new(
        TestModels.Texts(Family, "positive")[..3], TestModels.Texts(Family, "negative")[..3]);

    private static readonly Lazy<PredictiveSteering> s_fitted = new(() => Fit(1));

    private static LanguageModel Tiny => TestModels.Load(Family);

    [Test]
    public void With_a_bound_that_is_never_met_it_is_a_lqr()
    {
        var lqr = (LinearQuadratic)ControllerFit.Run(Tiny, s_contrast, new FitOptions { Weights = Weights }).Controller.Method;
        var free = new PredictiveSteering(s_fitted.Value.Feature, s_fitted.Value.Curves, 1e12);
        using Session one = new(Tiny, lqr.Compile(1.5)), two = new(Tiny, free.Compile(1.5));
        int[] ids = Tiny.Tokenizer.Encode("Once upon a time");
        foreach (var session in new[] { one, two })
        {
            session.Append(ids);
            session.Append(7);
        }

        Assert.That(Numbers.Error(two.Logits.ToArray(), one.Logits.ToArray()), Is.LessThan(2e-6));
        foreach (int k in Enumerable.Range(0, Tiny.Config.L).Where(k => free.Curves[k] is not null))
        {
            Assert.That(Numbers.Error(free.Curves[k]!.W, lqr.W[k]), Is.LessThan(1e-6), $"block {k}");
        }
    }

    [TestCase(1e-6)]
    [TestCase(0.02)]
    [TestCase(0.7)]
    [TestCase(30)]
    public void No_input_is_longer_than_the_bound_at_any_strength(double bound)
    {
        var method = new PredictiveSteering(s_fitted.Value.Feature, s_fitted.Value.Curves, bound);
        int[] ids = Tiny.Tokenizer.Encode("A dog");
        bool met = false;
        foreach (double lambda in new[] { -1e6, -3, -0.1, 0, 0.4, 1, 2, 50, 1e6 })
        {
            using var session = new Session(Tiny, method.Compile(lambda), SteeredTokens.All);
            session.Append(ids);
            float[] inputs = new float[Tiny.Config.L], states = new float[inputs.Length];
            for (int slot = 0; slot < session.Steering!.Slots; slot++)
            {
                session.Steering.ReadEffort(slot, inputs, states);
                Assert.That(inputs, Has.All.LessThanOrEqualTo((float)bound), $"λ {lambda}");
                met |= inputs.Max() >= (float)bound * (1 - 1e-4f);
            }
        }

        Assert.That(met, "some are as long");
    }

    [Test]
    public void The_bound_is_free_after_the_fit_and_a_smaller_one_of_the_caller_holds()
    {
        var law = s_fitted.Value.Compile(1);
        Assert.That(law.MaxEffort, Is.EqualTo((float)s_fitted.Value.Bound));
        Assert.That(s_fitted.Value.Compile(1, 0.25f * law.MaxEffort).MaxEffort, Is.EqualTo(0.25f * law.MaxEffort));
        Assert.That(FeedbackLaw.Sum([law, law]).Terms.Select(t => t.Feeds[0].Curve), Has.All.Not.Null, "a sum of laws keeps the curves");
        Assert.That(law.Within(new LayerSet(2, 3)).Terms.Select(t => t.Feeds[0].Curve), Has.All.Not.Null);
        var other = Fit(8 * s_fitted.Value.Bound);
        foreach (var (one, eight) in s_fitted.Value.Curves.Zip(other.Curves))
        {
            Assert.That(eight?.Nodes, Is.EqualTo(one?.Nodes), "the curves do not depend on the bound");
        }
    }

    [Test]
    public void Without_a_bound_in_the_options_it_is_what_a_lqr_adds_at_an_error_of_one_mu()
    {
        var controller = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Method = new PredictiveFit(), Weights = Weights }).Controller;
        var method = (PredictiveSteering)controller.Method;
        var lqr = (LinearQuadratic)ControllerFit.Run(Tiny, s_contrast, new FitOptions { Weights = Weights }).Controller.Method;
        Assert.That(
            ControllerDescription.LayersOf(controller).Select(layer => (layer.Effort, layer.Closed)),
            Is.EqualTo(ClosedLoop.Of(lqr, controller.Source.OpenLoop!).Layers.Select(gain => ((double?)gain.Effort, (double?)gain.Closed)))
                .Using<(double? Effort, double? Closed)>((a, b) => Math.Abs(a.Effort!.Value - b.Effort!.Value) < 1e-5
                    && Math.Abs(a.Closed!.Value - b.Closed!.Value) < 1e-5), "while no bound is met");
        double[] lengths = [.. lqr.W.Select((w, k) => lqr.Feature.Mu[k] * Math.Sqrt(w.Sum(x => (double)x * x))).Where(x => x > 0).Order()];
        Assert.That(method.Bound, Is.EqualTo(lengths[lengths.Length / 2]).Within(1e-5 * method.Bound));
        Assert.That(double.Parse(controller.Source.Settings["bound"]), Is.EqualTo(method.Bound));
    }

    [TestCase(0)]
    [TestCase(-1)]
    [TestCase(double.NaN)]
    [TestCase(1e300)]
    public void A_bound_that_is_none_is_refused(double bound)
    {
        Assert.That(() => Fit(bound), Throws.InstanceOf<RiccatiException>().With.Message.Contains("PredictiveFit.Bound"));
        Assert.That(() => new PredictiveSteering(s_fitted.Value.Feature, s_fitted.Value.Curves, bound), Throws.InstanceOf<ArgumentException>());
    }

    [Test]
    public void Several_ranges_of_blocks_are_refused() => Assert.That(
        () => ControllerFit.Run(
            Tiny, s_contrast, new FitOptions { Method = new PredictiveFit(), Layers = new LayerSet([new LayerRange(0, 1), new LayerRange(3, 4)]) }),
        Throws.InstanceOf<RiccatiException>().With.Message.Contains("one range of layers"));

    private static LqrWeights Weights => new(1, 2, 1);

    private static PredictiveSteering Fit(double bound) => (PredictiveSteering)ControllerFit.Run(
        Tiny, s_contrast, new FitOptions { Method = new PredictiveFit { Bound = bound }, Weights = Weights }).Controller.Method;
}
