using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Online;
using Tiller.Scheduling;
using Tiller.Synthesis;
using Tiller.Tests.Model;

namespace Tiller.Tests.Online;

/// <summary>Gains fitted to the text at hand: those of a fit on that text alone, used from its last token on.</summary>
public sealed class PromptFitTests
{
    private const string Family = "llama3-bf16";

    private static readonly ContrastSet s_contrast = new(TestModels.Texts(Family, "positive")[..3], TestModels.Texts(Family, "negative")[..3]);

    private static readonly FitOptions s_options = new() { Cost = FitCost.Feature, Weights = new LqrWeights(0.3, 1, 2) };

    private static LanguageModel Tiny => TestModels.Load(Family);

    [TestCase(null)]
    [TestCase(64)]
    public void The_gains_are_those_of_a_fit_on_the_text_alone(int? order)
    {
        var controller = ControllerFit.Run(Tiny, s_contrast, s_options).Controller;
        const string Text = "The captain looked at the sea and";
        int[] ids = Tiny.Tokenizer.Encode(Text);
        using var session = new Session(Tiny);
        session.Append(ids.AsSpan(..^1));
        var law = new PromptFit(controller, 1.5, order: order).Fit(session, ids[^1]);
        Assert.That(session.Length, Is.EqualTo(ids.Length - 1), "the text is left as it is");

        // The same feature, and the Jacobians of this text in place of the contrast prompts'.
        var expected = ControllerFit.Run(Tiny, s_contrast, s_options with { Calibration = [Text] }).Controller.ToLaw(1.5);
        Assert.That(law.Terms.Select(t => t.Layer), Is.EqualTo(expected.Terms.Select(t => t.Layer)));
        Assert.That(law.Sensors.Select(s => s.Beta), Is.EqualTo(expected.Sensors.Select(s => s.Beta)));
        foreach (var (actual, wanted) in law.Terms.Zip(expected.Terms))
        {
            Assert.That(Numbers.Error(actual.W, wanted.W), Is.LessThan(1e-4), $"block {actual.Layer}");
        }

        var mean = controller.ToLaw(1.5);
        Assert.That(law.Terms.Zip(mean.Terms).Max(pair => Numbers.Error(pair.First.W, pair.Second.W)), Is.GreaterThan(1e-3), "not the mean's");

        // What comes of the text afterwards is what would have come of it.
        session.Append(ids[^1]);
        using var untouched = new Session(Tiny);
        Assert.That(session.Logits.ToArray(), Is.EqualTo(untouched.Prefill(ids).ToArray()).Within(1e-4f));
    }

    [Test]
    public void A_generation_uses_the_gains_of_its_prompt_and_fits_again_as_often_as_it_is_asked()
    {
        var controller = ControllerFit.Run(Tiny, s_contrast, s_options).Controller;
        int[] ids = Tiny.Tokenizer.Encode("One day the captain");
        var fit = new PromptFit(controller, 2);
        var at = new List<int>();
        var options = new GenerationOptions
        {
            Law = fit.Law,
            MaxNewTokens = 12,
            StopIds = [],
            Refit = (session, next, cancellationToken) =>
            {
                at.Add(session.Length);
                return fit.Fit(session, next, cancellationToken);
            },
            RefitEvery = 5,
        };
        int[] Decode(GenerationOptions how)
        {
            using var generation = new Generation(Tiny, ids, how);
            while (generation.MoveNext())
            {
            }

            return generation.NewIds.ToArray();
        }

        int[] refitted = Decode(options);
        Assert.That(at, Is.EqualTo(new[] { ids.Length - 1, ids.Length + 4, ids.Length + 9 }));

        // By hand: at the prompt's last token, and for the others until the fifth.
        using var session = new Session(Tiny, fit.Law);
        session.Prefill(ids.AsSpan(..^1), afterPass: null, default, toCome: 1);
        session.Use(fit.Fit(session, ids[^1]));
        session.Append(ids.AsSpan(^1));
        var byHand = new List<int>();
        var sampler = new Sampler(new SamplingOptions(), Tiny.Config.V);
        for (int i = 0; i < 12; i++)
        {
            if (i > 0)
            {
                if (i % 5 == 0)
                {
                    session.Use(fit.Fit(session, byHand[^1]));
                }

                session.Append(byHand[^1]);
            }

            byHand.Add(session.Draw(sampler));
        }

        Assert.That(refitted, Is.EqualTo(byHand));
        Assert.That(Decode(options with { Refit = null, RefitEvery = 0, Law = null }), Is.Not.EqualTo(refitted), "steered at all");

        // A prompt of one token has nothing before it.
        ids = ids[..1];
        at.Clear();
        Decode(options with { RefitEvery = 0 });
        Assert.That(at, Is.EqualTo(new[] { 0 }));
    }

    [Test]
    public void What_cannot_be_fitted_to_a_text_is_refused()
    {
        var dense = ControllerFit.Run(Tiny, s_contrast, s_options with { Cost = FitCost.State }).Controller;
        Assert.That(
            () => new PromptFit(dense, 1), Throws.InstanceOf<ControllerException>().With.Message.Contains("FitOptions.Cost = FitCost.Feature"));
        var caa = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Method = FitMethod.Find("caa")! }).Controller;
        Assert.That(() => new PromptFit(caa, 1), Throws.InstanceOf<ControllerException>().With.Message.Contains("addition"));
        var controller = ControllerFit.Run(Tiny, s_contrast, s_options).Controller;
        foreach (int order in new[] { 0, Tiny.Config.D + 1 })
        {
            Assert.That(() => new PromptFit(controller, 1, order: order), Throws.InstanceOf<ArgumentOutOfRangeException>());
        }

        var fit = new PromptFit(controller, 1);
        var options = new GenerationOptions { Law = fit.Law, Refit = fit.Fit };
        foreach (var wrong in new[]
        {
            options with { Law = null }, options with { SteeredTokens = SteeredTokens.All }, options with { RefitEvery = -1 },
        })
        {
            Assert.That(() => new Generation(Tiny, [1, 2, 3], wrong), Throws.InstanceOf<ArgumentException>());
        }

        using var scheduler = new Scheduler(Tiny);
        Assert.That(() => scheduler.Submit([1, 2, 3], options), Throws.ArgumentException.With.Message.Contains("Generation"));
        using var session = new Session(TestModels.Demo);
        Assert.That(() => fit.Fit(session, 1), Throws.InstanceOf<ModelMismatchException>());
    }
}
