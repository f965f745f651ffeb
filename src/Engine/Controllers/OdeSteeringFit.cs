using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>ODESteer (<see cref="OdeSteering"/>): a logistic probe on the sketched features of the contrast prompts' last tokens.</summary>
public sealed record OdeSteeringFit : FitMethod
{
    /// <summary>γ of the kernel whose features are sketched.</summary>
    public double Gamma { get; init; } = 0.1;

    /// <summary>c₀ of that kernel.</summary>
    public double Constant { get; init; } = 1;

    /// <summary>Features.</summary>
    public double Features { get; init; } = 64;

    /// <summary>Euler steps.</summary>
    public double Steps { get; init; } = 10;

    /// <inheritdoc/>
    public override string Name => "ode-steer";

    /// <inheritdoc/>
    public override string Summary => "follows the field of a probe on polynomial features at one block's output (the middle one, if none is named)";

    /// <inheritdoc/>
    public override string Source => "the code of ODESteer";

    /// <inheritdoc/>
    public override string Lambda => "the time, which is the length of the way";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => $"1 edit of {Steps:G} steps";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
    [
        new("gamma", "γ of the polynomial kernel", Gamma, x => this with { Gamma = x }),
        new("constant", "Constant of the polynomial kernel", Constant, x => this with { Constant = x }),
        new("features", "Features that the kernel is sketched in", Features, x => this with { Features = x }),
        new("steps", "Euler steps", Steps, x => this with { Steps = x }),
    ];

    internal override string? Contradiction =>
        !(Gamma > 0 && Gamma < double.PositiveInfinity) || !(Constant >= 0 && Constant < double.PositiveInfinity)
            ? $"OdeSteeringFit.Gamma must be positive and OdeSteeringFit.Constant at least 0, got {Gamma:G} and {Constant:G}."
        : Features is < 1 or > FlowEdit.MaxComponents || Features != Math.Floor(Features) || Steps is < 1 or > 10_000 || Steps != Math.Floor(Steps)
            ? $"OdeSteeringFit.Features must be a whole number from 1 to {FlowEdit.MaxComponents} and OdeSteeringFit.Steps one from 1 to 10000, got "
                + $"{Features:G} and {Steps:G}."
            : null;

    internal override LayerSet? StandardLayers(int layers) => new(layers / 2, layers / 2);

    internal override FittedMethod Fit(FitJob job)
    {
        int layers = job.Model.Config.L;
        var sketch = CountSketch.Random(job.Model.Config.D, (int)Features, Gamma, Constant, seed: 1);
        float[][] weights = [.. Enumerable.Range(0, layers).Select(_ => new float[sketch.Components])];
        foreach (int k in job.Layers.Blocks)
        {
            if (job.Feature.Mu[k + 1] > 0)
            {
                weights[k] = Weights(sketch, StatePair.At(k + 1, job.Positive, job.Negative));
            }
        }

        return new(new OdeSteering(job.Feature, sketch, weights, (int)Steps, job.Layers));
    }

    /// <summary>Weights of a probe on the features of two sets of states // (m).</summary>
    internal static float[] Weights(CountSketch sketch, StatePair pair)
    {
        var probe = LogisticProbe.Fit(new StatePair(Sketched(pair.Positive), Sketched(pair.Negative)));
        return Array.ConvertAll(probe.Weights, w => (float)w);

        Matrix<double> Sketched(Matrix<double> states) =>
            Matrix<double>.Build.DenseOfRowArrays(states.EnumerateRows().Select(x => sketch.Features(x.ToArray())));
    }
}
