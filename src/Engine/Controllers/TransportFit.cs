using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Linear-AcT and Mean-AcT (<see cref="ActivationTransport"/>). Block by block, the maps of the blocks before at work on every token of both
/// sides, the values of each neuron are taken over the prompts, sorted, and fitted by least squares; Mean-AcT shifts by the difference of the means.
/// </summary>
public sealed record TransportFit : FitMethod
{
    // What Mean-AcT's code takes for no end.
    private const float Everywhere = 1e6f;

    /// <summary>Whether a neuron is only shifted, whatever its value.</summary>
    public bool Shifts { get; init; }

    /// <summary>1 takes a prompt's mean over its tokens, as published; 0 its last token.</summary>
    public double Pooling { get; init; } = 1;

    /// <inheritdoc/>
    public override string Name => Shifts ? "mean-act" : "linear-act";

    /// <inheritdoc/>
    public override string Summary => Shifts
        ? "shifts every neuron of a block's output by the difference of its means"
        : "maps every neuron of a block's output as it goes from negative to positive prompts, inside the range it was fitted on";

    /// <inheritdoc/>
    public override string Source => "arXiv:2410.23054";

    /// <inheritdoc/>
    public override string Lambda => "the share of the map that is done, 1 for all of it";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers | FitInputs.Tokens | (Shifts ? FitInputs.None : FitInputs.Pairs);

    /// <inheritdoc/>
    public override string PerBlock => "1 edit of 4 D numbers";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
        [new("pooling", "1 takes a prompt's mean over its tokens, 0 its last token", Pooling, x => this with { Pooling = x })];

    internal override string? Contradiction => Pooling is 0 or 1 ? null : $"TransportFit.Pooling must be 0 or 1, got {Pooling:G}.";

    internal override FittedMethod Fit(FitJob job)
    {
        int layers = job.Model.Config.L, count = job.NegativeIds.Count;
        float[][] slope = new float[layers][], offset = new float[layers][], low = new float[layers][], high = new float[layers][];
        using var states = new TokenStates(job.Model, [.. job.NegativeIds, .. job.PositiveIds], job.CancellationToken);
        for (int k = 0; k < layers; k++)
        {
            states.Advance(job.CancellationToken);
            float[][] pooled = states.Pooled(Pooling == 1);
            (slope[k], offset[k], low[k], high[k]) = Map(pooled[..count], pooled[count..], Shifts);
            if (job.Layers.Contains(k))
            {
                var edit = new AffineEdit(k, EditPoint.Output, 1, slope[k], offset[k], low[k], high[k]);
                states.Change(x => edit.Apply(x.Span));
            }

            job.Report(k + 1, layers);
        }

        return new(new ActivationTransport(job.Feature, slope, offset, low, high, job.Layers));
    }

    /// <summary>w, b and the range of every neuron.</summary>
    /// <param name="source">Values that are mapped // (n, D).</param>
    /// <param name="target">Values that they are mapped to, as many unless they are only shifted // (n, D).</param>
    /// <param name="shifts">Whether w is 1 and the range everywhere.</param>
    internal static (float[] Slope, float[] Offset, float[] Low, float[] High) Map(float[][] source, float[][] target, bool shifts)
    {
        int d = source[0].Length;
        float[] slope = new float[d], offset = new float[d], low = new float[d], high = new float[d];
        for (int i = 0; i < d; i++)
        {
            double[] x = Sorted(source, i), y = Sorted(target, i);
            double xMean = x.Average(), yMean = y.Average(), variance = x.Sum(value => (value - xMean) * (value - xMean));
            bool maps = !shifts && variance > 0;

            // w = Σ (x − x̄)(y − ȳ)/Σ (x − x̄)², b = ȳ − w x̄
            double w = maps ? x.Zip(y, (one, other) => (one - xMean) * (other - yMean)).Sum() / variance : 1;
            (slope[i], offset[i]) = ((float)w, (float)(yMean - (w * xMean)));
            (low[i], high[i]) = shifts ? (-Everywhere, Everywhere) : ((float)x[0], (float)x[^1]);
        }

        return (slope, offset, low, high);
    }

    private static double[] Sorted(float[][] rows, int column)
    {
        double[] values = Array.ConvertAll(rows, row => (double)row[column]);
        Array.Sort(values);
        return values;
    }
}
