using System.Numerics.Tensors;
using System.Text.Json;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>
/// What edits of activations and conditions on the prompt are made of: maps of neurons, sketched features and their flow, similarities.
/// </summary>
internal static class EditChecks
{
    /// <summary>What follows from stored numbers.</summary>
    public static IEnumerable<VerificationRow> FromStored(
        string path, JsonElement values, Func<string, GoldenTensor?> tensor, CountSketch sketch)
    {
        var sample = tensor("ode.sample")!;
        double[] weights = tensor("ode.coef")!.Values;
        yield return Sampled("ode.sample.features", x => sketch.Features(x));
        yield return Sampled("ode.sample.field", x =>
        {
            double[] field = new double[x.Length];
            sketch.Field(weights, x, field);
            return field;
        });
        int steps = values.GetProperty("ode").GetProperty("steps").GetInt32();
        foreach (var time in values.GetProperty("ode").GetProperty("flows").EnumerateArray())
        {
            yield return Sampled($"ode.sample.flow.{time.GetRawText()}", x =>
            {
                double[] state = [.. x];
                FlowEdit.Follow(sketch, weights, time.GetDouble(), steps, state, new double[x.Length]);
                return state;
            });
        }

        var similarities = tensor("cast.similarities")!;
        double[][] rows = [.. Enumerable.Range(0, similarities.Shape[0]).Select(i => similarities[i].ToArray())];
        int wrong = 0;
        foreach (var search in values.GetProperty("cast").GetProperty("search").EnumerateObject())
        {
            var found = ConditionSearch.Run(rows, rows.Length / 2, int.Parse(search.Name, System.Globalization.CultureInfo.InvariantCulture));
            bool same = found.Layers.SequenceEqual(search.Value.GetProperty("layers").EnumerateArray().Select(k => k.GetInt32()))
                && Math.Abs(found.Threshold - search.Value.GetProperty("threshold").GetDouble()) < 1e-9
                && found.Above == (search.Value.GetProperty("threshold_is").GetString() == "smaller")
                && Math.Abs(found.F1 - search.Value.GetProperty("f1").GetDouble()) < MethodChecks.FromStored;
            wrong += same ? 0 : 1;
        }

        yield return new VerificationRow(path, "cast.search", 2, wrong, 0);

        VerificationRow Sampled(string name, Func<double[], double[]> of)
        {
            double[] ours = [.. Enumerable.Range(0, sample.Shape[0]).SelectMany(i => of(sample[i].ToArray()))];
            var expected = tensor(name)!;
            return new VerificationRow(
                path, name, sample.Shape[0], Verification.WorstRow(ours, expected.Values, expected.Stride), MethodChecks.FromStored);
        }
    }

    /// <summary>What follows from the states of the contrast texts, which are the engine's own float32 ones.</summary>
    public static IEnumerable<VerificationRow> FromStates(
        string path, JsonElement golden, LanguageModel model, Func<string, GoldenTensor?> tensor, CountSketch sketch,
        CancellationToken cancellationToken)
    {
        var encoder = PromptEncoder.Of(model);
        int layers = model.Config.L;
        int[][] positive = Ids("positive"), negative = Ids("negative"), both = [.. negative, .. positive];
        (string, bool, bool)[] kinds = [("act.linear.mean", true, false), ("act.linear.last", false, false), ("act.mean.mean", true, true)];
        foreach (var (name, pooled, shifts) in kinds)
        {
            double worst = 0;
            using var states = new TokenStates(model, both, cancellationToken);
            for (int k = 0; k < layers; k++)
            {
                states.Advance(cancellationToken);
                float[][] pool = states.Pooled(pooled);
                var (slope, offset, low, high) = TransportFit.Map(pool[..negative.Length], pool[negative.Length..], shifts);
                worst = Verification.Worse(worst, MapError(name, k, pool[..negative.Length], slope, offset));
                var edit = new AffineEdit(k, EditPoint.Output, 1, slope, offset, low, high);
                states.Change(x => edit.Apply(x.Span));
            }

            yield return new VerificationRow(path, name + " maps", layers * model.Config.D, worst, MethodChecks.FromOurs);
        }

        var above = PromptState.Collect(model, positive, keepCaches: false, done: null, cancellationToken);
        var below = PromptState.Collect(model, negative, keepCaches: false, done: null, cancellationToken);
        var condition = tensor("cast.condition")!;
        StatePair[] pairs = [.. Enumerable.Range(0, layers).Select(k => StatePair.At(k + 1, above, below))];
        float[][] vectors = [.. pairs.Select(CastFit.Vector)];
        yield return new VerificationRow(
            path, "cast.condition", layers,
            vectors
                .Select((vector, k) => Difference(vector, condition[k], pairs[k]) * Gap(pairs[k])
                    / pairs[k].All.EnumerateRows().Max(row => row.L2Norm()))
                .Aggregate(0.0, Verification.Worse),
            MethodChecks.FromOurs);

        // With the golden vectors: a similarity is then a cosine of our mean states.
        var similarities = tensor("cast.similarities")!;
        double furthest = 0;
        using (var states = new TokenStates(model, [.. positive, .. negative], cancellationToken))
        {
            for (int k = 0; k < layers; k++)
            {
                float[][] means = states.Pooled(mean: true);
                float[] direction = Array.ConvertAll(condition[k].ToArray(), x => (float)x);
                for (int i = 0; i < means.Length; i++)
                {
                    furthest = Verification.Worse(furthest, Math.Abs(PromptCondition.Similarity(direction, means[i]) - similarities[i][k]));
                }

                if (k < layers - 1)
                {
                    states.Advance(cancellationToken);
                }
            }
        }

        yield return new VerificationRow(path, "cast.similarities", similarities.Values.Length, furthest, MethodChecks.FromOurs);

        int middle = layers / 2;
        var expected = tensor("ode.coef")!;
        float[] weights = OdeSteeringFit.Weights(sketch, StatePair.At(middle + 1, above, below));
        yield return new VerificationRow(
            path, "ode.coef", weights.Length, Distance(weights, expected.Values) / TensorPrimitives.Norm<double>(expected.Values),
            MethodChecks.FromOurs);

        int[][] Ids(string side) =>
            encoder.Encode(side, [.. golden.GetProperty(side).EnumerateArray().Select(t => new TextPrompt(t.GetString()!))], cancellationToken);

        // Both maps at the values they were fitted on, against the largest of these: a slope may be made of small differences of large states.
        double MapError(string name, int k, float[][] source, float[] slope, float[] offset)
        {
            var w = tensor(name + ".w");
            var b = tensor(name + ".b")!;
            double worst = 0, largest = source.Max(row => Math.Abs(TensorPrimitives.MaxMagnitude<float>(row)));
            for (int i = 0; i < slope.Length; i++)
            {
                foreach (float[] x in source)
                {
                    double ours = ((double)slope[i] * x[i]) + offset[i], theirs = ((w is null ? 1 : w[k][i]) * x[i]) + b[k][i];
                    worst = Verification.Worse(worst, Math.Abs(ours - theirs) / largest);
                }
            }

            return worst;
        }
    }

    private static double Distance(float[] ours, ReadOnlySpan<double> expected)
    {
        double square = 0;
        for (int i = 0; i < ours.Length; i++)
        {
            square += (ours[i] - expected[i]) * (ours[i] - expected[i]);
        }

        return Math.Sqrt(square);
    }

    // Where as many pairs point one way as the other, the published sign is whichever the decomposition gave.
    private static double Difference(float[] ours, ReadOnlySpan<double> expected, StatePair pair)
    {
        var direction = MathNet.Numerics.LinearAlgebra.Vector<double>.Build.Dense(ours.Length, i => ours[i]);
        bool undecided = 2 * (pair.Differences * direction).Count(x => x > 0) == pair.Positive.RowCount;
        double distance = Distance(ours, expected);
        return undecided ? Math.Min(distance, Distance(Array.ConvertAll(ours, x => -x), expected)) : distance;
    }

    private static double Gap(StatePair pair)
    {
        var values = pair.Differences.Svd(computeVectors: false).S;
        return values[0] - values[1];
    }
}
