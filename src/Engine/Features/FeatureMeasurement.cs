using System.Numerics.Tensors;
using Tiller.Model;

namespace Tiller.Features;

/// <summary>Measures a feature from prompts (docs/math.md §2).</summary>
public static class FeatureMeasurement
{
    /// <summary>
    /// Measures E_k = mean(x_k | positive) − mean(x_k | negative) at the last token, k = 0..L, and the direction of each layer. Means are float64.
    /// </summary>
    /// <param name="model">The plain model.</param>
    /// <param name="contrast">The two prompt sets.</param>
    /// <param name="direction">
    /// The rule that gives v_k; null for the difference of the means. With another rule, μ_k = v_k·E_k, the distance of the means along v_k.
    /// </param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two passes.</exception>
    /// <exception cref="TillerException">
    /// The prompts are not all of one form, a prompt cannot be encoded or does not fit the context, or the direction needs pairs and the sets differ
    /// in size.
    /// </exception>
    public static Feature Measure(
        LanguageModel model, ContrastSet contrast, DirectionRule? direction = null, CancellationToken cancellationToken = default)
    {
        var encoder = PromptEncoder.Of(model);
        encoder.FormOf(("Positive", contrast.Positive), ("Negative", contrast.Negative));
        int[][] positive = encoder.Encode("Positive", contrast.Positive, cancellationToken);
        int[][] negative = encoder.Encode("Negative", contrast.Negative, cancellationToken);
        return FromStates(
            PromptState.Collect(model, positive, keepCaches: false, done: null, cancellationToken),
            PromptState.Collect(model, negative, keepCaches: false, done: null, cancellationToken),
            direction);
    }

    /// <summary>Computes the feature of two prompt sets from the states of their prompts.</summary>
    /// <exception cref="ContrastSetException">
    /// The difference of the means is too large for float32, or the direction needs pairs or does not converge.
    /// </exception>
    internal static Feature FromStates(
        IReadOnlyList<PromptState> positive, IReadOnlyList<PromptState> negative, DirectionRule? direction = null)
    {
        double[][] above = Mean(positive);
        double[][] below = Mean(negative);
        for (int k = 0; k < above.Length; k++)
        {
            if (TensorPrimitives.Distance<double>(above[k], below[k]) > float.MaxValue)
            {
                throw new ContrastSetException(
                    $"The means of the two prompt sets at layer {k} are so far apart that float32 cannot hold their difference: the activations "
                    + "are about to overflow. Inspect the model's weights.");
            }
        }

        if (direction is not null && direction != DirectionRule.Mean)
        {
            return Along(direction, positive, negative, below);
        }

        return Feature.FromDifference(
            [.. above.Zip(below, (p, n) => p.Zip(n, (x, y) => (float)(x - y)).ToArray())],
            [.. below.Select(row => Array.ConvertAll(row, x => (float)x))]);
    }

    // v_k by the rule, μ_k = v_k·E_k, origin v_k·mean(x_k | negative).
    private static Feature Along(
        DirectionRule direction, IReadOnlyList<PromptState> positive, IReadOnlyList<PromptState> negative, double[][] below)
    {
        var v = new float[below.Length][];
        float[] mu = new float[v.Length], origin = new float[v.Length];
        for (int k = 0; k < v.Length; k++)
        {
            var pair = StatePair.At(k, positive, negative);
            double[] d = direction.Of(pair);
            double along = TensorPrimitives.Dot<double>(d, pair.Difference);
            (mu[k], origin[k]) = along < Feature.Negligible ? (0, 0) : ((float)along, (float)TensorPrimitives.Dot<double>(d, below[k]));
            v[k] = mu[k] == 0 ? new float[d.Length] : Array.ConvertAll(d, x => (float)x);
        }

        return new Feature(v, mu, origin);
    }

    private static double[][] Mean(IReadOnlyList<PromptState> states)
    {
        double[][] mean = [.. states[0].X.Select(x => new double[x.Length])];
        foreach (var state in states)
        {
            for (int k = 0; k < mean.Length; k++)
            {
                for (int i = 0; i < mean[k].Length; i++)
                {
                    mean[k][i] += state.X[k][i] / (double)states.Count;
                }
            }
        }

        return mean;
    }
}
