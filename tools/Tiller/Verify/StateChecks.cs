using System.Numerics.Tensors;
using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>
/// What follows from the states of the contrast texts, which are the engine's own float32 ones: features and directions. An error counts relative to
/// the largest quantity that a value is a difference of: the states.
/// </summary>
internal static class StateChecks
{
    /// <summary>Checks them.</summary>
    /// <param name="path">Folder of the goldens.</param>
    /// <param name="golden">golden.json of the checkpoint, for its texts.</param>
    /// <param name="model">The checkpoint.</param>
    /// <param name="tensor">Golden tensors of the folder.</param>
    /// <param name="mean">A_k of the goldens.</param>
    /// <param name="prompts">The two prompts of linearity.</param>
    /// <param name="linearSizes">|δ|/|x| of its residuals.</param>
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

        // |ΔE_k| over the longest state.
        var feature = tensor("feature")!;
        yield return Row("feature", (k, pair) => TensorPrimitives.Distance<double>(pair.Difference, feature[k]) / sizes[k]);

        // A direction made of differences moves by no more than what the states do, over their first singular value's distance to the second.
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

    // How far apart the states are along what a direction is made of.
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
