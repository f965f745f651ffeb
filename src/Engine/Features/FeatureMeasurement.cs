using Tiller.Model;

namespace Tiller.Features;

/// <summary>Measures a feature from prompts (docs/math.md §2).</summary>
public static class FeatureMeasurement
{
    /// <summary>E_k = mean(x_k | positive) − mean(x_k | negative) at the last token, k = 0..L, means in float64.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="contrast">The two prompt sets; ids are made with the tokenizer's template.</param>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two passes.</exception>
    public static Feature Measure(LanguageModel model, ContrastSet contrast, CancellationToken cancellationToken = default)
    {
        var positive = PromptState.Collect(model, Tokenize(model, contrast.Positive, cancellationToken), keepCaches: false, done: null, cancellationToken);
        var negative = PromptState.Collect(model, Tokenize(model, contrast.Negative, cancellationToken), keepCaches: false, done: null, cancellationToken);
        return FromStates(positive, negative);
    }

    /// <summary>The feature between two groups of prompts already run.</summary>
    /// <exception cref="ContrastSetException">The means differ by more than float32 holds.</exception>
    internal static Feature FromStates(IReadOnlyList<PromptState> positive, IReadOnlyList<PromptState> negative)
    {
        double[][] above = Mean(positive);
        double[][] below = Mean(negative);
        for (int k = 0; k < above.Length; k++)
        {
            if (System.Numerics.Tensors.TensorPrimitives.Distance<double>(above[k], below[k]) > float.MaxValue)
            {
                throw new ContrastSetException(
                    $"The means of the two prompt sets at layer {k} are further apart than float32 can tell: the model's activations are about to overflow. Inspect its weights.");
            }
        }

        return Feature.FromDifference(
            [.. above.Zip(below, (p, n) => p.Zip(n, (x, y) => (float)(x - y)).ToArray())],
            [.. below.Select(row => Array.ConvertAll(row, x => (float)x))]);
    }

    /// <summary>Ids of every prompt, with the tokenizer's template; special tokens in the text are plain text.</summary>
    /// <exception cref="ContrastSetException">A prompt has no token.</exception>
    /// <exception cref="ContextLengthException">A prompt does not fit the context.</exception>
    internal static IReadOnlyList<int[]> Tokenize(LanguageModel model, IReadOnlyList<string> prompts, CancellationToken cancellationToken)
    {
        int[][] ids = [.. prompts.Select(p => model.Tokenizer.Encode(p, cancellationToken: cancellationToken))];
        for (int i = 0; i < ids.Length; i++)
        {
            if (ids[i].Length == 0)
            {
                throw new ContrastSetException($"Prompt {i + 1} has no token; give it some text.");
            }

            if (ids[i].Length > model.Config.MaxPositions)
            {
                throw new ContextLengthException(ids[i].Length, model.Config.MaxPositions);
            }
        }

        return ids;
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
