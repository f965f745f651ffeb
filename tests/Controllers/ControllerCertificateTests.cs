using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tests.Model;
using Tiller.Tests.Tool;

namespace Tiller.Tests.Controllers;

/// <summary>Certificates of fitted gains: what is in them, that they are kept, and what is refused.</summary>
public sealed class ControllerCertificateTests
{
    private const string Family = "llama3-bf16";

    private static readonly ContrastSet s_contrast = new(
        TestModels.Texts(Family, "positive")[..3], TestModels.Texts(Family, "negative")[..3]);

    private static LanguageModel Tiny => TestModels.Load(Family);

    private static IEnumerable<FitMethod> Methods => FitMethod.All.Where(method => method.Takes(FitInputs.HeldOut));

    [TestCaseSource(nameof(Methods))]
    public void The_prompt_that_is_followed_has_no_error_and_calibration_prompts_are_inside(FitMethod method)
    {
        // The remainders are measured on the contrast prompts: each of those is inside by construction, as no two begin with the same state.
        var contrast = new ContrastSet(["A dog", "The sea", "One day"], ["I am", "We go", "You run"]);
        var fit = ControllerFit.Run(
            Tiny, contrast,
            new FitOptions
            {
                Method = method,
                HeldOut = [.. contrast.Positive, .. contrast.Negative],
                Nominal = method.Takes(FitInputs.Nominal) ? new TextPrompt("One") : null,
            });
        var certificate = fit.Controller.Source.Certificate!;
        using (Assert.EnterMultipleScope())
        {
            // Of the run that is followed there is rounding alone, where the bound is 0.
            Assert.That(certificate.Error.Zip(certificate.Bound).Skip(1).Select(run => new TrackingRun(run.First, run.Second, run.Second).Inside),
                Is.All.True);
            Assert.That(certificate.Inside, Is.AtLeast(5));
            Assert.That(certificate.Error[0], Is.All.LessThan(1e-3 * certificate.Error[3].Max()), "float32 alone");
            Assert.That(certificate.Error.Skip(1).Select(run => run[^1]), Has.All.Positive);
            Assert.That(certificate.Contraction, Has.All.LessThan(1));
            Assert.That(certificate.Propagation[0], Is.EqualTo(1));
            Assert.That(fit.Stages.Select(s => s.Stage), Does.Contain(FitStage.Certificate));
            Assert.That(fit.Stages.Select(s => s.ElapsedMs), Has.All.Not.Negative);
        }
    }

    [Test]
    public void The_gains_are_the_same_with_a_certificate_and_the_file_keeps_it()
    {
        var layers = new LayerSet([new LayerRange(1, 2), new LayerRange(4, 4)]);
        var options = new FitOptions { Layers = layers, Weights = new LqrWeights(0.3, 1, 2) };
        var plain = ControllerFit.Run(Tiny, s_contrast, options).Controller;
        var certified = ControllerFit.Run(Tiny, s_contrast, options with { HeldOut = ["Once upon a time", "The end."] }).Controller;
        Assert.That(certified.SteersAs(plain));
        using var scratch = new Scratch();
        certified.Save(scratch["c.tiller"]);
        var (made, kept) = (certified.Source.Certificate!, Controller.Load(scratch["c.tiller"]).Source.Certificate!);
        using (Assert.EnterMultipleScope())
        {
            Assert.That((kept.First, kept.HeldOut, kept.Inside), Is.EqualTo((1, made.HeldOut, made.Inside)));
            Assert.That(kept.Contraction, Is.EqualTo(made.Contraction).And.Exactly(4).Items);
            Assert.That(kept.Propagation, Is.EqualTo(made.Propagation).And.Exactly(5).Items);
            Assert.That(kept.Curvature, Is.EqualTo(made.Curvature));
            Assert.That(kept.Error, Is.EqualTo(made.Error).And.Exactly(2).Items);
            Assert.That(kept.Bound, Is.EqualTo(made.Bound));
            Assert.That(plain.Source.Certificate, Is.Null);
        }
    }

    [Test]
    public void A_certificate_of_other_lengths_or_numbers_is_refused()
    {
        var set = new PromptSet("00", 1);
        double[] one = [0.5], two = [1, 0.5];
        Assert.That(new ControllerCertificate(0, one, two, one, set, [two], [two]).Inside, Is.EqualTo(1));
        Action[] bad =
        [
            () => _ = new ControllerCertificate(-1, one, two, one, set, [two], [two]),
            () => _ = new ControllerCertificate(0, [], [1], [], set, [[1]], [[1]]),
            () => _ = new ControllerCertificate(0, one, one, one, set, [two], [two]),
            () => _ = new ControllerCertificate(0, one, two, two, set, [two], [two]),
            () => _ = new ControllerCertificate(0, one, two, one, set, [two, two], [two]),
            () => _ = new ControllerCertificate(0, one, two, one, set, [two], [one]),
            () => _ = new ControllerCertificate(0, [double.NaN], two, one, set, [two], [two]),
            () => _ = new ControllerCertificate(0, one, two, one, set, [[1, double.PositiveInfinity]], [two]),
            () => _ = new ControllerCertificate(0, one, two, [-1], set, [two], [two]),
        ];
        Assert.That(bad, Has.All.Matches<Action>(action => Throws(action!)));
        Assert.Throws<ArgumentException>(() => _ = new ControllerCertificate(0, one, two, one, new PromptSet("", 0), [], []));
        var feature = new Feature([[1, 0], [1, 0]], [1, 1]);
        var source = new ControllerSource
        {
            ModelName = "m",
            ModelFingerprint = "f",
            Positive = set,
            Negative = set,
            Certificate = new ControllerCertificate(1, one, two, one, set, [two], [two]),
        };
        Assert.Throws<ArgumentException>(() => _ = new Controller(new Ablation(feature), source));

        static bool Throws(Action action)
        {
            Assert.Throws<ArgumentException>(() => action());
            return true;
        }
    }

    [Test]
    public void The_share_inside_and_how_loose_the_bound_is_are_those_of_each_layer()
    {
        var certificate = new ControllerCertificate(
            0, [0.5, 0.5], [1, 0.5, 0.25], [1, 1], new PromptSet("", 4),
            [[1, 1, 1], [2, 2, 2], [4, 4, 4], [0, 8, 8]],
            [[1, 2, 0.5], [2, 8, 2], [4, 4, 12], [0, 80, 16]]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(Enumerable.Range(0, 3).Select(certificate.ShareInside), Is.EqualTo([1, 1, 0.75]));
            Assert.That(Enumerable.Range(1, 2).Select(certificate.LoosenessBefore), Is.EqualTo([(2 + 4) / 2.0, (1 + 2) / 2.0]));
            Assert.That(certificate.Looseness, Is.EqualTo(certificate.LoosenessBefore(2)));
            Assert.That(certificate.Inside, Is.EqualTo(3));
        }
    }

    [Test]
    public void No_held_out_prompt_is_refused() => Assert.That(
        () => ControllerFit.Run(Tiny, s_contrast, new FitOptions { HeldOut = [] }),
        Throws.InstanceOf<ContrastSetException>().With.Message.Contains("held-out prompts are empty"));
}
