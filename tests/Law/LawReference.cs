using Tiller.Law;

namespace Tiller.Tests.Law;

/// <summary>What a law does by its definition in docs/math.md §6, computed in float64, slot by slot and term by term.</summary>
internal static class LawReference
{
    /// <summary>The inputs u[t][k] of a law on block outputs, before its bound is applied.</summary>
    /// <param name="law">The law.</param>
    /// <param name="states">The state that enters each block // (tokens, L, D).</param>
    /// <param name="errorsAt">Called after each token, with its index and all errors.</param>
    public static double[][][] Inputs(FeedbackLaw law, float[][][] states, Action<int, double[]>? errorsAt = null)
    {
        double[] errors = new double[law.Sensors.Count];
        var u = new double[states.Length][][];
        for (int t = 0; t < states.Length; t++)
        {
            u[t] = new double[law.Layers][];
            for (int k = 0; k < law.Layers; k++)
            {
                Sense(law, k, states[t][k], errors);
                u[t][k] = new double[law.Width];
                foreach (int i in law.TermsOf(k))
                {
                    var term = law.Terms[i];
                    if (term.Gate >= 0 && errors[term.Gate] >= 0)
                    {
                        continue;
                    }

                    double Fed(Feed feed) => feed.Curve?.At((float)errors[feed.Sensor]) ?? errors[feed.Sensor];
                    double strength = term.C + term.Feeds.Sum(feed => feed.Gain * Fed(feed));
                    u[t][k] = [.. u[t][k].Zip(term.W, (sum, w) => sum + (strength * w))];
                }
            }

            errorsAt?.Invoke(t, errors);
        }

        return u;
    }

    private static void Sense(FeedbackLaw law, int k, float[] x, double[] errors)
    {
        double Projection(int i) => law.Sensors[i].V.Zip(x, (v, y) => (double)v * y).Sum();
        foreach (int i in law.SensorsOf(k))
        {
            double projection = Projection(i);
            errors[i] = Math.Clamp(projection, law.Sensors[i].Low, law.Sensors[i].High) - projection;
        }

        foreach (var plane in law.Planes.Where(plane => law.Sensors[plane.First].Layer == k))
        {
            double first = Projection(plane.First), second = Projection(plane.Second), length = Math.Sqrt((first * first) + (second * second));
            errors[plane.First] = (length * plane.T1) - first;
            errors[plane.Second] = (length * plane.T2) - second;
        }
    }
}
