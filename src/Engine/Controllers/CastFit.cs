using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// CAST (<see cref="CastSteering"/> behind a <see cref="PromptCondition"/>). The behaviour's vectors are made of the contrast prompts, the
/// condition's of <see cref="FitOptions.Alternative"/> against the negative ones, if given, and else of the same; blocks, threshold and side are
/// those that tell these prompts apart best.
/// </summary>
public sealed record CastFit : FitMethod
{
    /// <summary>What is done about lengths, as a number: 0 for <see cref="NormRule.None"/>, 1 for a token, 2 for a pass.</summary>
    public double Norm { get; init; }

    /// <summary>Most blocks that the condition asks, one of which suffices: 1 or 2.</summary>
    public double Asks { get; init; } = 1;

    /// <inheritdoc/>
    public override string Name => "cast";

    /// <inheritdoc/>
    public override string Summary =>
        "adds a vector to the inputs of the blocks from the middle on, if the prompt meets a condition that is searched for";

    /// <inheritdoc/>
    public override string Source => "arXiv:2409.05907";

    /// <inheritdoc/>
    public override string Lambda => "the multiple of the unit vectors that is added";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers | FitInputs.Pairs | FitInputs.Condition | FitInputs.Tokens;

    /// <inheritdoc/>
    public override string PerBlock => $"1 {(Norm == 0 ? "term" : "edit")}; once a prompt, the plain blocks up to the condition's";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
    [
        new("norm", "What is done about lengths: 0 nothing, 1 a token that grew is scaled back, 2 all tokens of a pass are as soon as one grew", Norm,
            x => this with { Norm = x }),
        new("asks", "Most blocks that the condition asks, 1 or 2", Asks, x => this with { Asks = x }),
    ];

    internal override string? Contradiction =>
        Norm is not (0 or 1 or 2) ? $"CastFit.Norm must be 0, 1 or 2, got {Norm:G}."
        : Asks is 1 or 2 ? null : $"CastFit.Asks must be 1 or 2, got {Asks:G}.";

    internal override LayerSet? StandardLayers(int layers) => new(layers / 2, layers - 1);

    internal override FittedMethod Fit(FitJob job)
    {
        var asked = job.AlternativeStates ?? job.Positive;
        if (asked.Count != job.Negative.Count)
        {
            throw new ContrastSetException(
                $"The condition of {Name} is made of pairs, and FitOptions.Alternative has {asked.Count} prompts for {job.Negative.Count} negative "
                + "ones. Give as many of both, the i-th of each belonging together.");
        }

        int layers = job.Model.Config.L;
        float[][] behaviour = [.. Enumerable.Range(0, layers).Select(k => Vector(StatePair.At(k + 1, job.Positive, job.Negative)))];
        float[][] condition = job.AlternativeStates is null ? behaviour
            : [.. Enumerable.Range(0, layers).Select(k => Vector(StatePair.At(k + 1, asked, job.Negative)))];
        int[][] prompts = [.. job.AlternativeIds ?? job.PositiveIds, .. job.NegativeIds];
        double[][] similarities = [.. prompts.Select(_ => new double[layers])];
        using (var states = new TokenStates(job.Model, prompts, job.CancellationToken))
        {
            for (int k = 0; k < layers; k++)
            {
                // The vector of a block's output is held against its input, as published.
                float[][] means = states.Pooled(mean: true);
                for (int i = 0; i < prompts.Length; i++)
                {
                    similarities[i][k] = PromptCondition.Similarity(condition[k], means[i]);
                }

                if (k < layers - 1)
                {
                    states.Advance(job.CancellationToken);
                }

                job.Report(k + 1, layers);
            }
        }

        var found = ConditionSearch.Run(similarities, asked.Count, (int)Asks);
        var method = new CastSteering(job.Feature, behaviour, (NormRule)Norm, job.Layers);
        var probes = found.Layers.Select(k => new ConditionProbe(k, condition[k]));
        return new(
            new Conditional(method, new PromptCondition([.. probes], found.Threshold, found.Above)), new RiccatiReport([]),
            ("condition.f1", found.F1));
    }

    /// <summary>The first right singular vector of the paired differences, of the sign that most of them have // (D).</summary>
    internal static float[] Vector(StatePair pair)
    {
        double[] direction = DirectionRule.Pca.Of(pair);
        int along = (pair.Differences * MathNet.Numerics.LinearAlgebra.Vector<double>.Build.DenseOfArray(direction)).Count(x => x > 0);
        float sign = 2 * along < pair.Positive.RowCount ? -1 : 1;
        return Array.ConvertAll(direction, x => sign * (float)x);
    }
}

/// <summary>Where a condition asks, and what it is compared with, that tells two sets of prompts apart best.</summary>
/// <param name="Layers">Blocks, one of which suffices.</param>
/// <param name="Threshold">The threshold.</param>
/// <param name="Above">Whether it must be passed, or stayed below.</param>
/// <param name="F1">F1 of the prompts that shall meet it.</param>
internal sealed record ConditionSearch(int[] Layers, double Threshold, bool Above, double F1)
{
    /// <summary>
    /// Tries, as published, every block but the first, alone and in pairs, every threshold 0, 0.01 … 0.99 and both sides; the first that is better
    /// than all before counts. At the threshold itself the search lets the lower side hold, which the condition does not.
    /// </summary>
    /// <param name="similarities">Similarity of each prompt at each block, first of those that shall meet the condition // (prompts, L).</param>
    /// <param name="positive">How many shall meet it.</param>
    /// <param name="most">Most blocks at once, 1 or 2.</param>
    public static ConditionSearch Run(IReadOnlyList<double[]> similarities, int positive, int most)
    {
        int layers = similarities[0].Length;
        var best = new ConditionSearch([layers > 1 ? 1 : 0], 0, Above: true, F1: 0);
        foreach (int[] asked in Choices(layers, most))
        {
            for (int step = 0; step < 100; step++)
            {
                double threshold = step * 0.01;
                foreach (bool above in (ReadOnlySpan<bool>)[false, true])
                {
                    int hits = 0, falseAlarms = 0;
                    for (int i = 0; i < similarities.Count; i++)
                    {
                        double[] similarity = similarities[i];
                        bool holds = Array.Exists(asked, k => above ? similarity[k] > threshold : similarity[k] <= threshold);
                        (hits, falseAlarms) = (hits + (holds && i < positive ? 1 : 0), falseAlarms + (holds && i >= positive ? 1 : 0));
                    }

                    // F1 = 2 tp/(2 tp + fp + fn)
                    double f1 = hits == 0 ? 0 : 2.0 * hits / (hits + falseAlarms + positive);
                    best = f1 > best.F1 ? new ConditionSearch(asked, threshold, above, f1) : best;
                }
            }
        }

        return best;
    }

    private static IEnumerable<int[]> Choices(int layers, int most)
    {
        for (int k = 1; k < layers; k++)
        {
            yield return [k];
        }

        for (int k = 1; most > 1 && k < layers; k++)
        {
            for (int other = k + 1; other < layers; other++)
            {
                yield return [k, other];
            }
        }
    }
}
