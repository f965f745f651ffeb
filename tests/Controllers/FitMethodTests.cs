using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tests.Model;
using Tiller.Tests.Tool;

namespace Tiller.Tests.Controllers;

/// <summary>The methods by name: every one fits, is kept and steers as it was fitted, and takes what it says and nothing else.</summary>
public sealed class FitMethodTests
{
    private const string Family = "llama3-bf16";

    private static readonly ContrastSet s_contrast = new(
        TestModels.Texts(Family, "positive")[..3], TestModels.Texts(Family, "negative")[..3]);

    private static IEnumerable<FitMethod> Methods => FitMethod.All;

    private static LanguageModel Tiny => TestModels.Load(Family);

    [Test]
    public void Names_are_lower_case_and_each_is_one_methods()
    {
        Assert.That(FitMethod.All.Select(m => m.Name), Is.Unique);
        Assert.That(FitMethod.All.Select(m => m.Name), Has.All.Matches("^[a-z]+(-[a-z]+)*$"));
        Assert.That(FitMethod.All.Select(m => FitMethod.Find(m.Name)), Is.EqualTo(FitMethod.All));
        Assert.That(FitMethod.Find("none"), Is.Null);
        Assert.That(FitMethod.All.SelectMany(m => m.Parameters).Select(p => p.Name), Has.All.Matches("^[a-z]+$"));
    }

    [TestCaseSource(nameof(Methods))]
    public void A_method_fits_and_its_file_steers_alike(FitMethod method)
    {
        var fit = ControllerFit.Run(Tiny, s_contrast, Options(method));
        using var scratch = new Scratch();
        fit.Controller.Save(scratch["c.tiller"]);
        var kept = Controller.Load(scratch["c.tiller"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(kept.SteersAs(fit.Controller));
            Assert.That(kept.Source.Settings[ControllerSource.MethodSetting], Is.EqualTo(method.Name));
            Assert.That(kept.ToLaw(1.5).Terms.Count + kept.ToLaw(1.5).Edits.Count, Is.Positive);
            Assert.That(
                fit.Loop.Layers,
                method.Takes(FitInputs.Gains) && fit.Controller.Method is LinearQuadratic or PredictiveSteering ? Is.Not.Empty : Is.Empty);
            Assert.That(kept.Source.Weights, method.Takes(FitInputs.Gains) ? Is.Not.Null : Is.Null);
            foreach (var parameter in method.Parameters.Where(p => p.Value is not null))
            {
                Assert.That(double.Parse(kept.Source.Settings[parameter.Name]), Is.EqualTo(parameter.Value));
            }
        }
    }

    [TestCaseSource(nameof(Methods))]
    public void A_number_of_a_method_is_its_own(FitMethod method)
    {
        foreach (var parameter in method.Parameters)
        {
            var changed = parameter.With(3.5);
            Assert.That(changed.Name, Is.EqualTo(method.Name));
            Assert.That(changed.Parameters.Single(p => p.Name == parameter.Name).Value, Is.EqualTo(3.5));
            Assert.That(changed.Parameters.Where(p => p.Name != parameter.Name).Select(p => p.Value),
                Is.EqualTo(method.Parameters.Where(p => p.Name != parameter.Name).Select(p => p.Value)));
        }
    }

    [TestCaseSource(nameof(Methods))]
    public void What_a_method_does_not_take_is_refused(FitMethod method)
    {
        var good = Options(method);
        var all = new (FitInputs Input, FitOptions Options)[]
        {
            (method.Takes(FitInputs.Condition) ? FitInputs.Condition : FitInputs.Alternative, good with { Alternative = ["One."] }),
            (FitInputs.Nominal, good with { Nominal = "One." }),
            (FitInputs.Gains, good with { Calibration = ["One."] }), (FitInputs.Cost, good with { Cost = FitCost.Feature }),
            (FitInputs.Order, good with { Order = 4 }), (FitInputs.Setpoint, good with { Setpoint = Setpoint.Affine }),
            (FitInputs.Layers, good with { Layers = new LayerSet(1, 2) }), (FitInputs.HeldOut, good with { HeldOut = ["One."] }),
        };
        foreach (var (input, options) in all)
        {
            Assert.That(() => options.For(Tiny.Config), method.Takes(input) ? Throws.Nothing : Throws.ArgumentException, $"{input}");
        }

        foreach (var (input, options) in new[]
        {
            (FitInputs.Alternative, good with { Alternative = null }), (FitInputs.Nominal, good with { Nominal = null }),
        })
        {
            Assert.That(() => options.For(Tiny.Config), method.Takes(input) ? Throws.ArgumentException : Throws.Nothing, $"{input}");
        }
    }

    [TestCaseSource(nameof(Methods))]
    public void A_plan_counts_jacobians_only_where_they_are_used(FitMethod method)
    {
        var plan = FitPlan.Of(Tiny.Config, 0, [5, 6, 7, 8], calibration: null, Options(method));
        double linearised = plan.Stages.Single(s => s.Stage == FitStage.Linearisation).SingleFlops;
        Assert.That(linearised, method.Takes(FitInputs.Gains) ? Is.Positive : Is.Zero);
        Assert.That(plan.PeakInBytes, Is.Positive);
    }

    [TestCase(false)]
    [TestCase(true)]
    public void A_latent_space_that_holds_everything_gives_the_dense_controller(bool calibrated)
    {
        var weights = new LqrWeights(0.3, 1, 2);
        var dense = (LinearQuadratic)ControllerFit.Run(Tiny, s_contrast, new FitOptions { Weights = weights }).Controller.Method;
        var latent = (LinearQuadratic)ControllerFit.Run(
            Tiny, s_contrast,
            new FitOptions { Method = new LatentFit { Calibrated = calibrated }, Weights = weights, Order = Tiny.Config.D }).Controller.Method;
        for (int k = 0; k < Tiny.Config.L; k++)
        {
            Assert.That(Numbers.Error(latent.W[k], dense.W[k]), Is.LessThan(1e-4), $"layer {k}");
            Assert.That(Numbers.Error(latent.Feature.V[k], dense.Feature.V[k]), Is.LessThan(1e-5), $"layer {k}");
            Assert.That(latent.Feature.Mu[k], Is.EqualTo(dense.Feature.Mu[k]).Within(1e-5 * dense.Feature.Mu[k]));
            Assert.That(latent.Feature.Origin?[k] ?? 0, Is.Zero.Within(1e-4), "nothing lies outside");
        }
    }

    [Test]
    public void A_calibrated_setpoint_puts_the_mean_states_projection_where_it_was_asked_for()
    {
        // v·x = √ρ v_z·x + v·(I − VV')x, since E's part in the space is |e_z| v_z; on average over the prompts the last part is η.
        var fit = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Method = new LatentFit { Calibrated = true }, Order = 2 });
        var (latent, feature) = (((LinearQuadratic)fit.Controller.Method).Feature, FeatureMeasurement.Measure(Tiny, s_contrast));
        var states = PromptState.Collect(
            Tiny, [.. s_contrast.Positive.Concat(s_contrast.Negative).Select(p => Tiny.Tokenizer.Encode(((TextPrompt)p).Text))], false, null,
            CancellationToken.None);
        for (int k = 0; k < feature.L; k++)
        {
            if (feature.Mu[k] == 0)
            {
                continue;
            }

            // Of the mean state: √ρ β_z + η = λ μ means that v·x̄ = λ μ and v_z·x̄ = β_z belong together.
            double whole = states.Average(s => Feature.Dot(feature.V[k], s.X[k])), inside = states.Average(s => Feature.Dot(latent.V[k], s.X[k]));
            double lambda = whole / feature.Mu[k], beta = latent.Origin![k] + (lambda * latent.Mu[k]);
            Assert.That(inside, Is.EqualTo(beta).Within(1e-3 * Math.Max(1, states.Max(s => Math.Sqrt(Feature.Dot(s.X[k], s.X[k]))))), $"layer {k}");
        }
    }

    [Test]
    public void A_large_margin_makes_h_infinity_the_lqr_and_no_margin_is_refused()
    {
        var lqr = (LinearQuadratic)ControllerFit.Run(Tiny, s_contrast, new FitOptions()).Controller.Method;
        var robust = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Method = new HInfinityFit { Margin = 1e6 } }).Controller;
        for (int k = 0; k < Tiny.Config.L; k++)
        {
            Assert.That(Numbers.Error(((LinearQuadratic)robust.Method).W[k], lqr.W[k]), Is.LessThan(1e-5), $"layer {k}");
        }

        Assert.That(double.Parse(robust.Source.Settings["gamma.least"]) * double.Parse(robust.Source.Settings["robustness"]),
            Is.EqualTo(1).Within(1e-12));
        Assert.That(() => ControllerFit.Run(Tiny, s_contrast, new FitOptions { Method = new HInfinityFit { Margin = 1 } }),
            Throws.InstanceOf<RiccatiException>().With.Message.Contains("HInfinityFit.Margin"));
    }

    [Test]
    public void A_direction_other_than_the_mean_difference_is_steered_along()
    {
        foreach (var rule in DirectionRule.All)
        {
            var fit = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Direction = rule, Cost = FitCost.Feature });
            var feature = fit.Controller.Method.Feature;
            var mean = FeatureMeasurement.Measure(Tiny, s_contrast);
            Assert.That(fit.Controller.Source.Settings["direction"], Is.EqualTo(rule.Name));
            for (int k = 0; k < feature.L; k++)
            {
                double along = Feature.Dot(feature.V[k], mean.Difference(k));
                Assert.That(feature.Mu[k], Is.EqualTo(along).Within(1e-4 * Math.Max(mean.Mu[k], 1e-3)), $"{rule.Name}, layer {k}");
            }
        }
    }

    [Test]
    public void Methods_of_pairs_refuse_lists_that_are_not_as_long()
    {
        var uneven = new ContrastSet(TestModels.Texts(Family, "positive")[..3], TestModels.Texts(Family, "negative")[..2]);
        foreach (var options in new[] { new FitOptions { Method = new LatentFit() }, new FitOptions { Direction = DirectionRule.Pca } })
        {
            Assert.That(() => ControllerFit.Run(Tiny, uneven, options),
                Throws.InstanceOf<ContrastSetException>().With.Message.Contains("3 positive and 2 negative"));
        }
    }

    private static FitOptions Options(FitMethod method) => new()
    {
        Method = method,
        Alternative = method.Takes(FitInputs.Alternative) ? [.. TestModels.Texts(Family, "alternative")[..3].Select(t => new TextPrompt(t))] : null,
        Nominal = method.Takes(FitInputs.Nominal) ? new TextPrompt("Once upon a time") : null,
        Order = method is LatentFit ? 5 : null,
    };
}
