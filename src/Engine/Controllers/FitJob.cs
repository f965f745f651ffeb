using System.Diagnostics;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// The data of a fit, for a method: the states of the prompts, the feature, and gains over the horizon [First, Last] of the steered blocks. Block
/// First is layer 0 of the horizon.
/// </summary>
internal sealed class FitJob(
    LanguageModel model, BlockMaps maps, Feature feature, IReadOnlyList<PromptState> calibration, FitOptions options,
    IReadOnlyList<LqrWeights> weights, LayerSet layers, IProgress<FitProgress>? progress, CancellationToken cancellationToken)
{
    private readonly Stopwatch _linearising = new();
    private readonly double?[] _open = new double?[feature.L];
    private Matrix<double>[]? _jacobians;
    private IReadOnlyList<RiccatiSolution>? _swept;
    private FitProgress? _progress;
    private int _done;

    /// <summary>The plain model.</summary>
    public LanguageModel Model => model;

    /// <summary>The feature to steer along.</summary>
    public Feature Feature => feature;

    /// <summary>The positive prompts.</summary>
    public required IReadOnlyList<PromptState> Positive { get; init; }

    /// <summary>The negative prompts.</summary>
    public required IReadOnlyList<PromptState> Negative { get; init; }

    /// <summary>Tokens of the positive prompts.</summary>
    public required IReadOnlyList<int[]> PositiveIds { get; init; }

    /// <summary>Tokens of the negative prompts.</summary>
    public required IReadOnlyList<int[]> NegativeIds { get; init; }

    /// <summary>The alternative prompts; null where there are none.</summary>
    public IReadOnlyList<PromptState>? AlternativeStates { get; init; }

    /// <summary>Tokens of the alternative prompts; null where there are none.</summary>
    public IReadOnlyList<int[]>? AlternativeIds { get; init; }

    /// <summary>The second feature, for a method that needs one; null otherwise.</summary>
    public Feature? Alternative { get; init; }

    /// <summary>The run to follow, for a method that follows one; null otherwise.</summary>
    public PromptState? Nominal { get; init; }

    /// <summary>Whether the gains are needed after the fit, for a certificate.</summary>
    public bool KeepsGains => Options.HeldOut is not null;

    /// <summary>What was asked for, with the weights that are fitted at the moment.</summary>
    public FitOptions Options { get; private set; } = options;

    /// <summary>What the blocks that are linearised at the moment are for.</summary>
    public FitStage Stage { get; set; } = FitStage.Riccati;

    /// <summary>Steered blocks.</summary>
    public LayerSet Layers => layers;

    /// <summary>Time spent in linearisation, in milliseconds.</summary>
    public double LinearisationMs => _linearising.Elapsed.TotalMilliseconds;

    /// <summary>Checked between blocks.</summary>
    public CancellationToken CancellationToken => cancellationToken;

    private int First => layers.First;

    private int Horizon => layers.Last - First + 1;

    /// <summary>Computes K_k d of every block for one or more lists of directions; 0 outside the horizon. A dense gain is not kept.</summary>
    /// <param name="costed">Features whose projections the cost counts, if it does not count the whole state.</param>
    /// <param name="directions">Lists of d_0..d_{L-1} // (lists, L, D).</param>
    /// <returns>The products // (lists, L, D), and the report of the solver.</returns>
    public (float[][][] Products, RiccatiReport Report) Products(
        IReadOnlyList<Feature> costed, params IReadOnlyList<IReadOnlyList<float[]>> directions)
    {
        float[][][] products = [.. directions.Select(list => Enumerable.Range(0, feature.L).Select(_ => new float[feature.D]).ToArray())];
        var report = Solve(costed, (k, _, times) =>
        {
            for (int i = 0; i < products.Length; i++)
            {
                products[i][k] = Array.ConvertAll(times(Array.ConvertAll(directions[i][k], x => (double)x)), x => (float)x);
            }
        });
        return (products, report);
    }

    /// <summary>Fits the method with one of the weights.</summary>
    public FittedMethod Fit(LqrWeights one)
    {
        Options = Options with { Weights = one };
        return Options.Method.Fit(this);
    }

    /// <summary>Computes the gains of every block, 0 outside the horizon.</summary>
    public RiccatiSolution Gains(IReadOnlyList<Feature> costed)
    {
        Gain[] gains = [.. Enumerable.Range(0, feature.L).Select(_ => new ZeroGain(feature.D))];
        var report = Solve(costed, (k, gain, _) => gains[k] = gain());
        return new RiccatiSolution(gains, report);
    }

    /// <summary>Computes the Jacobians of the horizon // (horizon, D, D). They stay in memory, because a certificate needs them again.</summary>
    public Matrix<double>[] Jacobians()
    {
        if (_jacobians is not null)
        {
            return _jacobians;
        }

        var all = new Matrix<double>[Horizon];
        using var next = maps.Jacobians([.. Enumerable.Range(First, Horizon)], cancellationToken).GetEnumerator();
        for (int k = 0; k < all.Length; k++)
        {
            int block = First + k;
            all[k] = Linearised(next);
            _open[block] = Along(block, (all[k] * Column(feature.V[block])).Column(0).ToArray());
        }

        return _jacobians = all;
    }

    /// <summary>Computes the open-loop gain v_{k+1}·A_k v_k of every block // (L), from A_k itself where it was formed.</summary>
    public double[] OpenLoop(Feature along)
    {
        double[] open = new double[along.L];
        for (int k = 0; k < open.Length; k++)
        {
            if (ReferenceEquals(along, feature) && _open[k] is { } known)
            {
                open[k] = known;
                continue;
            }

            Matrix<double> pushed = Column(along.V[k]), next = Column(along.V[k + 1]);
            int block = k;
            Timed(() => pushed = maps.Push(block, pushed, cancellationToken));
            ReportAgain();
            open[k] = pushed.Column(0).DotProduct(next.Column(0));
            _open[k] = ReferenceEquals(along, feature) ? open[k] : null;
        }

        return open;
    }

    /// <summary>Reports the progress of a fit that runs the prompts through the blocks itself.</summary>
    public void Report(int done, int total) => progress?.Report(new FitProgress(FitStage.Activations, done, total));

    /// <summary>Computes A_k W of a block of the horizon.</summary>
    public Matrix<double> Push(int block, Matrix<double> basis) => Linearised(() => maps.Push(block, basis, cancellationToken));

    // Passes each gain to onGain in two forms: a function that returns the gain, and a function that multiplies it by a vector. A dense gain is
    // multiplied on the device.
    private RiccatiReport Solve(IReadOnlyList<Feature> costed, Action<int, Func<Gain>, Func<double[], double[]>> onGain)
    {
        Feature[] local =
            [.. costed.Select(f => new Feature([.. f.V.Skip(First).Take(Horizon + 1)], [.. f.Mu.Skip(First).Take(Horizon + 1)]))];
        var inputs = layers.From(First);
        QuadraticCost cost = Options.Cost == FitCost.State
            ? new IsotropicCost(Options.Weights) { Inputs = inputs }
            : new FactoredCost(FactoredCost.OfFeatures(Options.Weights, local).C, Options.Weights.R) { Inputs = inputs };
        if (Options.Order is { } order)
        {
            return Kept(SolveReduced(local, cost, order));
        }

        if (cost is FactoredCost factored)
        {
            Matrix<double> Pull(int k, Matrix<double> z) => Linearised(() => maps.Pull(First + k, z, cancellationToken));
            if (weights.Count == 1)
            {
                return Kept(FactoredRiccati.Solve(Horizon, Pull, factored, Options.MaxRank, cancellationToken: cancellationToken));
            }

            _swept ??= WeightSweep.Solve(Horizon, Pull, FactoredCost.Directions(local), weights, inputs, cancellationToken);
            return Kept(_swept[weights.TakeWhile(w => w != Options.Weights).Count()]);
        }

        var ops = model.Ops;
        int width = model.Config.D;
        using var memory = ops.Allocate(width, 2, out var vectors);
        var (v, w) = (vectors.Slice(0, 1), vectors.Slice(1, 1));
        using var backwards = maps.JacobiansOnDevice([.. Enumerable.Range(First, Horizon).Reverse()], cancellationToken).GetEnumerator();
        return DenseRiccati.Solve(
            ops,
            Horizon,
            width,
            k =>
            {
                var a = Linearised(backwards);
                _open[First + k] = Along(First + k, Times(a, Array.ConvertAll(feature.V[First + k], x => (double)x)));
                return a;
            },
            cost,
            (k, gain) => onGain(
                First + k,
                () =>
                {
                    double[] numbers = new double[gain.Length];
                    ops.Download(gain, numbers);
                    return new DenseGain(Matrix<double>.Build.Dense(width, width, numbers));
                },
                direction => Times(gain, direction)),
            cancellationToken);

        double[] Times(ColumnMajor matrix, double[] direction)
        {
            ops.Upload(direction, v);
            ops.Multiply(1, matrix, v, 0, w);
            double[] product = new double[width];
            ops.Download(w, product);
            return product;
        }

        RiccatiReport Kept(RiccatiSolution solution)
        {
            for (int k = 0; k < Horizon; k++)
            {
                var gain = solution.Gains[k];
                onGain(First + k, () => gain, direction => gain.Apply(direction));
            }

            return solution.Report;
        }
    }

    private RiccatiSolution SolveReduced(IReadOnlyList<Feature> local, QuadraticCost cost, int order)
    {
        Matrix<double>[] features = [.. Enumerable.Range(0, Horizon + 1)
            .Select(k => Matrix<double>.Build.Dense(feature.D, local.Count, (i, j) => local[j].V[k][i]))];
        var pushed = new Matrix<double>?[Horizon];
        var bases = ReducedBasis.Build(
            order, features,
            k => Matrix<double>.Build.Dense(model.Config.D, calibration.Count, (i, j) => calibration[j].X[First + k][i]),
            (k, basis) => pushed[k] = Linearised(() => maps.Push(First + k, basis, cancellationToken)),
            cancellationToken: cancellationToken);

        // Building the bases has computed A_k W_k, except for a basis that was full before its push.
        return ReducedRiccati.Solve(
            bases, (k, basis) => pushed[k] ?? Linearised(() => maps.Push(First + k, basis, cancellationToken)), cost, cancellationToken);
    }

    private T Linearised<T>(IEnumerator<T> blocks)
    {
        Linearise(() => blocks.MoveNext());
        return blocks.Current;
    }

    private Matrix<double> Linearised(Func<Matrix<double>> linearise)
    {
        Matrix<double>? result = null;
        Linearise(() => result = linearise());
        return result!;
    }

    // A solve linearises every layer once. A reduced fit goes forward through the layers, the others go backward.
    private void Linearise(Action layer)
    {
        Timed(layer);
        var at = new FitProgress(Stage, (_done++ % Horizon) + 1, Horizon);
        _progress = at;
        progress?.Report(at);
    }

    /// <summary>Reports between two passes of one block, where nothing more is done than before.</summary>
    public void ReportAgain() => progress?.Report(_progress ?? new FitProgress(Stage, 0, Horizon));

    /// <summary>Reports how far a solve is that begins when all blocks are linearised.</summary>
    public void ReportSolved(int blocks)
    {
        _progress = new FitProgress(Stage, blocks, Horizon);
        ReportAgain();
    }

    private void Timed(Action run)
    {
        _linearising.Start();
        run();
        _linearising.Stop();
    }

    // v_{k+1}·A_k v_k
    private double Along(int block, double[] pushed)
    {
        double sum = 0;
        for (int i = 0; i < pushed.Length; i++)
        {
            sum += feature.V[block + 1][i] * pushed[i];
        }

        return sum;
    }

    private static Matrix<double> Column(float[] v) => Matrix<double>.Build.Dense(v.Length, 1, (i, _) => v[i]);
}
