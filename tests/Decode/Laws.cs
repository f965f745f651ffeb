using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>Feedback laws with random directions, strong enough to move any of the models.</summary>
internal static class Laws
{
    /// <summary>A law with three terms at every layer: feedback on its own sensor and on that of the layer before, and an open-loop term.</summary>
    public static FeedbackLaw Random(LanguageModel model, int seed, float maxEffort = float.PositiveInfinity)
    {
        var (layers, width) = (model.Config.L, model.Config.D);
        var random = new Random(seed);
        var sensors = new List<Sensor>();
        var terms = new List<Term>();
        for (int k = 0; k < layers; k++)
        {
            sensors.Add(new Sensor(k, Numbers.Unit(random, width), 1 + (float)random.NextDouble()));
            terms.Add(new Term(k, Numbers.Unit(random, width), 0, new Feed(k, 0.5f)));
            terms.Add(new Term(k, Numbers.Unit(random, width), 0.1f));
            if (k > 0)
            {
                terms.Add(new Term(k, Numbers.Unit(random, width), 0.05f, new Feed(k - 1, -0.25f)));
            }
        }

        return new FeedbackLaw(layers, width, sensors, terms, maxEffort);
    }

    /// <summary>A curve of two cubics whose knee is among errors of about 1.</summary>
    public static ErrorCurve Curve(Random random)
    {
        float Near(float x) => x * (1 + (0.2f * random.NextSingle()));
        return new ErrorCurve([0, 0.5f, 1], [Near(1.5f), Near(1), Near(0.5f)], [Near(-1), -1, Near(-1)], Near(0.5f), Near(1));
    }

    /// <summary>
    /// A law with every kind of error, on sensors of any layer; with a term that reads several sensors; with gates in all three places; and with
    /// terms on block inputs if <paramref name="inputs"/> is set. It expects states with coordinates of about <paramref name="scale"/>.
    /// </summary>
    public static FeedbackLaw Every(int layers, int width, Random random, double scale, float maxEffort = float.PositiveInfinity, bool inputs = false)
    {
        var sensors = new List<Sensor>();
        var terms = new List<Term>();
        var planes = new List<Plane>();
        var bent = new Random(layers + width);
        float[] Unit() => Numbers.Unit(random, width);
        float Near() => (float)(scale * ((2 * random.NextDouble()) - 1));
        for (int k = 0; k < layers; k++)
        {
            float end = Near();
            sensors.Add(new Sensor(k, Unit(), Near()));
            if (inputs)
            {
                var (up, along) = Math.SinCos(6 * random.NextDouble());
                planes.Add(new Plane(sensors.Count, sensors.Count + 1, (float)along, (float)up));
                terms.Add(new Term(k, Unit(), 0.1f, new Feed(sensors.Count, 0.5f), new Feed(random.Next(sensors.Count), 0.2f)) { Hook = Hook.Input });
                sensors.AddRange([new Sensor(k, Unit(), 0f) { Hook = Hook.Input }, new Sensor(k, Unit(), 0f) { Hook = Hook.Input }]);
            }

            sensors.Add(new Sensor(k, Unit(), end, end + (float)(0.5 * scale)));
            sensors.Add(random.Next(2) == 0 ? new Sensor(k, Unit(), Near(), float.PositiveInfinity)
                : new Sensor(k, Unit(), float.NegativeInfinity, Near()));
            var (sine, cosine) = Math.SinCos(6 * random.NextDouble());
            planes.Add(new Plane(sensors.Count + 1, sensors.Count, (float)cosine, (float)sine));
            sensors.AddRange([new Sensor(k, Unit(), 0f), new Sensor(k, Unit(), 0f)]);
        }

        for (int k = 0; k < layers; k++)
        {
            for (int i = 0; i < 4; i++)
            {
                Feed[] feeds = [.. Enumerable.Range(0, random.Next(5))
                    .Select(j => new Feed(random.Next(sensors.Count), (float)(random.NextDouble() - 0.5))
                    {
                        Curve = (i + j) % 3 == 1 ? Curve(bent) : null,
                    })];
                terms.Add(new Term(k, Unit(), 0.2f * Near(), feeds) { Gate = random.Next(3) > 0 ? -1 : random.Next(sensors.Count) });
            }
        }

        return new FeedbackLaw(layers, width, sensors, terms, maxEffort, planes);
    }

    public static Feature RandomFeature(LanguageModel model, int seed)
    {
        var random = new Random(seed);
        return Feature.FromDifference([.. Enumerable.Range(0, model.Config.L + 1).Select(_ => Numbers.Gaussian(random, model.Config.D, 0.2))]);
    }

    /// <summary>A law that depends on the token before.</summary>
    public static FeedbackLaw LooksBack(LanguageModel model, int seed, double lambda = 1)
        => new SPid(RandomFeature(model, seed), 0.3, 0.05, 0.2).Compile(lambda);
}
