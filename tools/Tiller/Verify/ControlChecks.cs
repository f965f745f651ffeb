using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>Checks features, Jacobians, gains and steered continuations.</summary>
internal static class ControlChecks
{
    private const double FeatureBound = 1e-4;
    private static readonly string[] s_sides = ["positive", "negative", "alternative"];

    public static IEnumerable<VerificationRow> Run(
        GoldenFolder folder, JsonElement golden, LanguageModel model, List<TensorData>? values, int oneIn, CancellationToken cancellationToken)
    {
        var c = model.Config;
        for (int i = 0; folder.Tensor($"jacobian.{i}") is { } jacobian; i++)
        {
            int[] ids = TokenChecks.Ids(golden.GetProperty("prompts")[i], "ids");
            var ours = Jacobians(model, [ids], cancellationToken);
            values?.Add(ours.ToTensorData($"jacobian.{i}"));
            yield return new VerificationRow(folder.Path, $"jacobian of prompt {i}", c.L,
                Verification.WorstRow(ours.Values, jacobian.Values, jacobian.Stride), 1e-4);
        }

        if (!golden.TryGetProperty("positive", out _))
        {
            yield break;
        }

        var encoder = PromptEncoder.Of(model);

        int[][] Ids(string side) => encoder.Encode(side, Texts(golden, side), cancellationToken);
        var sides = s_sides.ToDictionary(
            name => name,
            name => PromptState.Collect(model, Ids(name), keepCaches: false, done: null, cancellationToken),
            StringComparer.Ordinal);
        var feature = FeatureMeasurement.FromStates(sides["positive"], sides["negative"]);
        var alternative = FeatureMeasurement.FromStates(sides["alternative"], sides["negative"]);
        foreach (var (name, measured, positive) in new[] { ("feature", feature, sides["positive"]),
            ("feature_alt", alternative, sides["alternative"]) })
        {
            if (folder.Tensor(name) is { } expected)
            {
                double worst = 0;
                for (int k = 0; k < c.L; k++)
                {
                    worst = Verification.Worse(worst, DifferenceError(measured, k, expected[k]));
                }

                yield return new VerificationRow(folder.Path, name, c.L, worst, FeatureBound);
                yield return LastRow(folder, name, measured, positive, sides["negative"], expected[c.L]);
            }
        }

        int[][] calibration = Ids("calibration");
        if ((folder.Tensor("A_exact") ?? folder.Tensor("A")) is { } meanJacobian)
        {
            double worst = Verification.WorstRow(Jacobians(model, calibration, cancellationToken).Values, meanJacobian.Values, meanJacobian.Stride);
            yield return new VerificationRow(folder.Path, "mean jacobian", c.L, worst, 1e-4);
        }

        var weights = new LqrWeights(golden.GetProperty("q").GetDouble(), golden.GetProperty("r").GetDouble(), golden.GetProperty("qf").GetDouble());
        if (folder.Tensor("A") is { } publishedA)
        {
            var fromGolden = DenseRiccati.Solve(c.L, k => ToMatrix(publishedA, k), new IsotropicCost(weights), cancellationToken);
            foreach (var (name, bound) in new[] { ("gain_exact", 1e-9), ("gain", 1e-5) })
            {
                if (folder.Tensor(name) is { } expected)
                {
                    double worst = 0;
                    for (int k = 0; k < c.L; k++)
                    {
                        var gain = ((DenseGain)fromGolden.Gains[k]).K;
                        worst = Verification.Worse(worst, Verification.RelativeError(gain.ToRowMajorArray(), expected[k]));
                    }

                    yield return new VerificationRow(folder.Path, name == "gain" ? "gain, published" : "gain, float64", c.L, worst, bound);
                }
            }
        }

        if (!golden.TryGetProperty("steered", out var steered) || steered.GetArrayLength() == 0)
        {
            yield break;
        }

        var states = PromptState.Collect(model, calibration, keepCaches: true, done: null, cancellationToken);
        try
        {
            using var linearization = new Linearization(model, states);
            var solution = DenseRiccati.Solve(c.L, k => linearization.Jacobian(k, cancellationToken), new IsotropicCost(weights), cancellationToken);
            var laws = new GoldenLaws(feature, alternative, solution.Gains);
            foreach (var row in Steered(folder, golden, steered, model, laws, feature, oneIn, cancellationToken))
            {
                yield return row;
            }
        }
        finally
        {
            foreach (var state in states)
            {
                state.Dispose();
            }
        }
    }

    private static IEnumerable<VerificationRow> Steered(
        GoldenFolder folder, JsonElement golden, JsonElement steered, LanguageModel model, GoldenLaws laws, Feature feature, int oneIn,
        CancellationToken cancellationToken)
    {
        var idsOf = golden.GetProperty("prompts").EnumerateArray()
            .ToDictionary(p => p.GetProperty("text").GetString()!, p => TokenChecks.Ids(p, "ids"), StringComparer.Ordinal);
        foreach (var kind in steered.EnumerateArray().GroupBy(s => s.GetProperty("kind").GetString()!, StringComparer.Ordinal))
        {
            var continuations = new Continuations();
            double worstProjection = 0;
            int projections = 0;
            foreach (var item in kind.Where((_, i) => i % oneIn == 0))
            {
                var law = laws.For(kind.Key, item);
                using var session = new Session(model, law, kind.Key == "all" ? SteeredTokens.All : SteeredTokens.Last);
                float[] errors = new float[law.Sensors.Count];
                continuations.Compare(session, idsOf[item.GetProperty("prompt").GetString()!], item, cancellationToken, step =>
                {
                    if (item.TryGetProperty("projections", out var rows) && step < rows.GetArrayLength())
                    {
                        session.Steering!.ReadErrors(session.Steering.Slots - 1, errors);
                        worstProjection = Verification.Worse(worstProjection, ProjectionError(law, feature, errors, rows[step]));
                        projections++;
                    }
                });
            }

            yield return continuations.ToRow(folder.Path, $"{kind.Key} continuations");
            if (projections > 0)
            {
                yield return new VerificationRow(folder.Path, $"{kind.Key} projections", projections, worstProjection, 1e-3);
            }
        }
    }

    /// <summary>Error of v_k·x_k = β_k − α_k of the first feature, relative to the largest value of the row.</summary>
    private static double ProjectionError(FeedbackLaw law, Feature feature, float[] errors, JsonElement expected)
    {
        double[] golden = [.. expected.EnumerateArray().Select(x => x.GetDouble())];
        double largest = golden.Max(Math.Abs);
        double worst = 0;
        foreach (int k in Enumerable.Range(0, golden.Length))
        {
            double ours = 0;
            foreach (int i in law.SensorsOf(k))
            {
                if (ReferenceEquals(law.Sensors[i].V, feature.V[k]))
                {
                    ours = law.Sensors[i].Projection(errors[i]);
                }
            }

            worst = Verification.Worse(worst, Math.Abs(ours - golden[k]) / largest);
        }

        return worst;
    }

    /// <summary>Relative error of E_k. If the golden E_k is so small that it is rounding noise, the engine's must also be that small.</summary>
    private static double DifferenceError(Feature measured, int k, ReadOnlySpan<double> expected)
    {
        double length = System.Numerics.Tensors.TensorPrimitives.Norm(expected);
        return length < Feature.Negligible
            ? measured.Mu[k] < Feature.Negligible ? 0 : double.PositiveInfinity
            : Verification.RelativeError(Array.ConvertAll(measured.Difference(k), x => (double)x), expected);
    }

    /// <summary>
    /// Checks E_L, the difference after the last block. The published collector reads a block's output as a tuple. If transformers returns a tensor
    /// instead, its index 0 is the first prompt of the batch, so that the golden row is the difference of one prompt of each side.
    /// </summary>
    private static VerificationRow LastRow(
        GoldenFolder folder, string name, Feature measured, IReadOnlyList<PromptState> positive, IReadOnlyList<PromptState> negative,
        ReadOnlySpan<double> expected)
    {
        int last = measured.L;
        double error = DifferenceError(measured, last, expected);
        string note = "";
        if (error > FeatureBound)
        {
            foreach (var p in positive)
            {
                foreach (var n in negative)
                {
                    double[] pair = [.. p.X[last].Zip(n.X[last], (x, y) => (double)x - y)];
                    double pairError = Verification.RelativeError(pair, expected);
                    if (pairError < error)
                    {
                        error = pairError;
                        note = "compared with one prompt of each side, which is what the published collector records";
                    }
                }
            }
        }

        return new VerificationRow(folder.Path, $"{name}, last row", 1, error, FeatureBound, note);
    }

    // The mean Jacobians over the prompts // (L, D, D).
    private static GoldenTensor Jacobians(LanguageModel model, IReadOnlyList<int[]> prompts, CancellationToken cancellationToken)
    {
        var c = model.Config;
        var states = PromptState.Collect(model, prompts, keepCaches: true, done: null, cancellationToken);
        try
        {
            using var linearization = new Linearization(model, states);
            var all = new double[(long)c.L * c.D * c.D];
            for (int k = 0; k < c.L; k++)
            {
                linearization.Jacobian(k, cancellationToken).ToRowMajorArray().CopyTo(all, (long)k * c.D * c.D);
            }

            return new GoldenTensor([c.L, c.D, c.D], all);
        }
        finally
        {
            foreach (var state in states)
            {
                state.Dispose();
            }
        }
    }

    private static Prompt[] Texts(JsonElement golden, string key) =>
        [.. golden.GetProperty(key).EnumerateArray().Select(t => new TextPrompt(t.GetString()!))];

    private static Matrix<double> ToMatrix(GoldenTensor tensor, int k) =>
        Matrix<double>.Build.DenseOfRowMajor(tensor.Shape[1], tensor.Shape[2], tensor[k].ToArray());
}

/// <summary>The laws that correspond to the published calls by which the golden continuations were made.</summary>
internal sealed class GoldenLaws(Feature feature, Feature alternative, IReadOnlyList<Gain> gains)
{
    public FeedbackLaw For(string kind, JsonElement item) => kind switch
    {
        "last" or "all" => LinearQuadratic.FromGains(feature, gains).Compile(Number(item, "lam")),
        "multi" => FeedbackLaw.Sum(
        [
            LinearQuadratic.FromGains(feature, gains).Compile(item.GetProperty("lam")[0].GetDouble()),
            LinearQuadratic.FromGains(alternative, gains).Compile(item.GetProperty("lam")[1].GetDouble()),
        ]),
        "s-pid" => new SPid(feature, Number(item, "kp"), Number(item, "ki"), Number(item, "kd")).Compile(Number(item, "lam")),
        "actadd-lfs" => FeedbackLaw.Sum([.. item.GetProperty("layers").EnumerateArray().Select(k =>
            new Proportional(feature, Number(item, "kp"), new LayerSet(k.GetInt32(), k.GetInt32())).Compile(Number(item, "lam")))]),
        _ => throw new FormatException($"steered continuation of unknown kind '{kind}'"),
    };

    private static double Number(JsonElement item, string key) => item.GetProperty(key).GetDouble();
}
