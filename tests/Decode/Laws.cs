using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>Feedback laws with random directions, strong enough to move any of the models.</summary>
internal static class Laws
{
    /// <summary>At every layer: feedback on its own sensor, on the sensor of the layer before, and an open-loop push.</summary>
    public static FeedbackLaw Random(LanguageModel model, int seed, float maxEffort = float.PositiveInfinity)
    {
        var (layers, width) = (model.Config.L, model.Config.D);
        var random = new Random(seed);
        var sensors = new List<Sensor>();
        var terms = new List<Term>();
        for (int k = 0; k < layers; k++)
        {
            sensors.Add(new Sensor(k, Numbers.Unit(random, width), 1 + (float)random.NextDouble()));
            terms.Add(new Term(k, Numbers.Unit(random, width), 0, 0.5f, k));
            terms.Add(new Term(k, Numbers.Unit(random, width), 0.1f, 0, -1));
            if (k > 0)
            {
                terms.Add(new Term(k, Numbers.Unit(random, width), 0.05f, -0.25f, k - 1));
            }
        }

        return new FeedbackLaw(layers, width, sensors, terms, maxEffort);
    }

    public static Feature RandomFeature(LanguageModel model, int seed)
    {
        var random = new Random(seed);
        return Feature.FromDifference([.. Enumerable.Range(0, model.Config.L + 1).Select(_ => Numbers.Gaussian(random, model.Config.D, 0.2))]);
    }

    /// <summary>Looks back at the token before.</summary>
    public static FeedbackLaw LooksBack(LanguageModel model, int seed, double lambda = 1)
        => new SPid(RandomFeature(model, seed), 0.3, 0.05, 0.2).Compile(lambda);
}
