using System.Numerics.Tensors;
using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>
/// Checks features and directions, which follow from the engine's own float32 states of the contrast texts. An error is relative to the states, which
/// are the largest quantities in the differences.
/// </summary>
internal static class StateChecks
{
    /// <summary>Checks features, directions and local linearity.</summary>
    /// <param name="path">The folder of golden values.</param>
    /// <param name="golden">golden.json of the checkpoint, with its texts.</param>
    /// <param name="model">The checkpoint.</param>
    /// <param name="tensor">The golden tensors of the folder.</param>
    /// <param name="mean">The golden A_k.</param>
    /// <param name="prompts">The two prompts for local linearity.</param>
    /// <param name="linearSizes">|δ|/|x| of the residuals of local linearity.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    public static IEnumerable<VerificationRow> Run(
        string path, JsonElement golden, LanguageModel model, Func<string, GoldenTensor?> tensor, IReadOnlyList<Matrix<double>> mean, int[][] prompts,
        double[] linearSizes, CancellationToken cancellationToken)
    {
        var encoder = PromptEncoder.Of(model);
        var positive = States("positive");
        var negative = States("negative");
        StatePair[] pairs = [.. Enumerable.Range(0, model.Config.L + 1).Select(k => StatePair.At(k, positive, negative))];
        double[] sizes = [.. pairs.Select(pair => pair.All.EnumerateRows().Max(row => row.L2Norm()))];

        // |ΔE_k| relative to the longest state.
        var feature = tensor("feature")!;
        yield return Row("feature", (k, pair) => TensorPrimitives.Distance<double>(pair.Difference, feature[k]) / sizes[k]);

        // If states move, a direction moves at most by that distance over the gap between its first two singular values.
        foreach (var (name, rule) in new[]
        {
            ("mean", DirectionRule.Mean), ("pca_diff", DirectionRule.Pca), ("pca_diff_centred", DirectionRule.CentredPca),
            ("pca_pool", DirectionRule.PooledPca), ("lda", DirectionRule.Discriminant),
        })
        {
            var expected = tensor("direction." + name)!;
            yield return Row("direction." + name, (k, pair) => Distance(rule.Of(pair), expected[k]) * Gap(pair, rule) / sizes[k]);
        }

        var weights = tensor("direction.logistic")!;
        yield return Row("direction.logistic", (k, pair) => TensorPrimitives.Norm(weights[k]) == 0
            ? 0
            : Distance(LogisticProbe.Fit(pair).Weights, weights[k]) / TensorPrimitives.Norm(weights[k]) * Gap(pair, DirectionRule.Mean) / sizes[k]);

        foreach (var row in Linearity())
        {
            yield return row;
        }

        IEnumerable<VerificationRow> Linearity()
        {
            var states = PromptState.Collect(model, prompts, keepCaches: true, done: null, cancellationToken);
            try
            {
                return LinearityChecks.Run(path, model, states, mean, tensor, linearSizes, cancellationToken);
            }
            finally
            {
                foreach (var state in states)
                {
                    state.Dispose();
                }
            }
        }

        VerificationRow Row(string name, Func<int, StatePair, double> error) => new(
            path, name, pairs.Length, pairs.Select((pair, k) => error(k, pair)).Aggregate(0.0, Verification.Worse), MethodChecks.FromOurs);

        IReadOnlyList<PromptState> States(string side) => PromptState.Collect(
            model,
            encoder.Encode(side, [.. golden.GetProperty(side).EnumerateArray().Select(t => new TextPrompt(t.GetString()!))], cancellationToken),
            keepCaches: false, done: null, cancellationToken);
    }

    private static double Distance(double[] ours, ReadOnlySpan<double> expected) => TensorPrimitives.Distance<double>(ours, expected);

    // The gap between the first two singular values; for the mean difference, its length.
    private static double Gap(StatePair pair, DirectionRule rule)
    {
        if (!rule.Name.StartsWith("pca", StringComparison.Ordinal))
        {
            return TensorPrimitives.Norm<double>(pair.Difference);
        }

        var rows = rule == DirectionRule.PooledPca ? pair.All : pair.Differences;
        if (rule != DirectionRule.Pca)
        {
            rows -= Vector<double>.Build.Dense(rows.RowCount, 1).OuterProduct(rows.ColumnSums() / rows.RowCount);
        }

        var values = rows.Svd(computeVectors: false).S;
        return values[0] - values[1];
    }
}
