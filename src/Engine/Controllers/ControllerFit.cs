using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>What the controller's cost counts.</summary>
public enum FitCost
{
    /// <summary>Q = q I, as published: the whole state may not stray.</summary>
    State,

    /// <summary>Q = q v v': only the projection on the feature counts. Solved without forming a Jacobian.</summary>
    Feature,
}

/// <summary>How to fit an A-LQR controller.</summary>
public sealed record FitOptions
{
    /// <summary>Published settings with q, r, q_f = 0.1, 1, 1.</summary>
    public static LqrWeights StandardWeights { get; } = new(0.1, 1, 1);

    /// <summary>q, r, q_f.</summary>
    public LqrWeights Weights { get; init; } = StandardWeights;

    /// <summary>What the cost counts; default the whole state.</summary>
    public FitCost Cost { get; init; } = FitCost.State;

    /// <summary>
    /// p of the reduced recursion, 1..D, from p Jacobian-vector products a layer; null (default) solves in full: dense for
    /// <see cref="FitCost.State"/>, factored for <see cref="FitCost.Feature"/>.
    /// </summary>
    public int? Order { get; init; }

    /// <summary>Where β lies; default as published.</summary>
    public Setpoint Setpoint { get; init; } = Setpoint.Published;

    /// <summary>
    /// Blocks that are steered; null for all. The horizon goes from the first of them to the last, with the terminal cost after it; blocks between
    /// that are not steered carry the state on and pay for it, without an input of their own.
    /// </summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Prompts whose Jacobians are averaged, of the same form as the contrast prompts; null for the contrast prompts.</summary>
    public IReadOnlyList<Prompt>? Calibration { get; init; }

    /// <summary>Most columns of the factored solution before it is compressed.</summary>
    public int MaxRank { get; init; } = 512;
}

/// <summary>A part of a fit.</summary>
public enum FitStage
{
    /// <summary>The prompts are run, and the feature is measured.</summary>
    Activations,

    /// <summary>Tangents are pushed forward or cotangents pulled back through the blocks.</summary>
    Linearisation,

    /// <summary>The Riccati recursion is solved.</summary>
    Riccati,
}

/// <summary>How far a fit is.</summary>
/// <param name="Stage"><see cref="FitStage.Activations"/>, or <see cref="FitStage.Riccati"/>, which linearises as it goes.</param>
/// <param name="Done">Units done: prompts, or layers.</param>
/// <param name="Total">Units in all.</param>
public readonly record struct FitProgress(FitStage Stage, int Done, int Total);

/// <summary>How long a part of a fit took.</summary>
/// <param name="Stage">The part.</param>
/// <param name="ElapsedMs">Wall time.</param>
public readonly record struct FitTime(FitStage Stage, double ElapsedMs);

/// <summary>A fitted controller and how well it was fitted.</summary>
/// <param name="Controller">Ready to save or compile.</param>
/// <param name="Report">Residuals, symmetry and ranks of the recursion.</param>
/// <param name="Loop">Open- and closed-loop gain along the feature.</param>
/// <param name="Stages">Times.</param>
public sealed record FitResult(Controller Controller, RiccatiReport Report, ClosedLoop Loop, IReadOnlyList<FitTime> Stages);

/// <summary>
/// Fits an A-LQR controller (arXiv:2604.19018): measures the feature, linearises the blocks at the calibration prompts' last tokens,
/// solves the Riccati recursion backwards. A Jacobian lives only while its layer is solved.
/// </summary>
public static class ControllerFit
{
    /// <summary>Runs the fit.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="contrast">Prompts that show the feature and prompts that do not.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="progress">Told after every pass and layer.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two passes.</exception>
    /// <exception cref="TillerException">
    /// The prompts are not all of one form, one of them is empty, too long or cannot be encoded, the feature vanishes, the weights leave nothing
    /// to do, or the recursion fails numerically.
    /// </exception>
    public static FitResult Run(
        LanguageModel model, ContrastSet contrast, FitOptions? options = null, IProgress<FitProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        options ??= new FitOptions();
        if (options.Calibration is { Count: 0 })
        {
            throw new ContrastSetException("The calibration prompts are empty; give at least one, or none at all to average over the "
                + "contrast prompts.");
        }

        if (options.Weights is { Q: 0, Qf: 0 })
        {
            throw new ControllerException(
                ControllerFault.Idle,
                "FitOptions.Weights has q = qf = 0: being off the setpoint costs nothing, so the best controller does nothing. Raise one of them.");
        }

        if (options.Layers is { } given && given.Last >= model.Config.L)
        {
            throw RiccatiException.Shape("The horizon", given.First, $"layers within 0-{model.Config.L - 1}", $"{given}");
        }

        var layers = options.Layers ?? new LayerSet(0, model.Config.L - 1);
        using var use = model.Enter();
        var clock = Stopwatch.StartNew();
        bool own = options.Calibration is null;
        var encoder = PromptEncoder.Of(model);
        var form = encoder.FormOf(("Positive", contrast.Positive), ("Negative", contrast.Negative), ("Calibration", options.Calibration ?? []));
        int[][] positiveIds = encoder.Encode("Positive", contrast.Positive, cancellationToken);
        int[][] negativeIds = encoder.Encode("Negative", contrast.Negative, cancellationToken);
        int[][] calibrationIds = encoder.Encode("Calibration", options.Calibration ?? [], cancellationToken);
        int total = positiveIds.Length + negativeIds.Length + calibrationIds.Length;
        var states = new List<PromptState>();
        try
        {
            var positive = Collect(positiveIds, own);
            var negative = Collect(negativeIds, own);
            IReadOnlyList<PromptState> calibration = own ? [.. positive, .. negative] : Collect(calibrationIds, true);
            var feature = FeatureMeasurement.FromStates(positive, negative);
            if (feature.Mu.All(mu => mu == 0))
            {
                throw new ContrastSetException("The positive and the negative prompts leave the model in the same state at every layer; "
                    + "give prompts that differ.");
            }

            if (layers.Blocks.All(k => feature.Mu[k] == 0))
            {
                int first = feature.Mu.TakeWhile(mu => mu == 0).Count();
                throw new ContrastSetException(
                    $"The positive and the negative prompts leave the model in the same state before every block of {layers}, where it should "
                    + $"be steered; they differ {(first < feature.L ? $"before block {first}" : "after the last block only")}. " +
                    "Steer blocks where they differ, or give prompts whose last tokens do.");
            }

            double activationsMs = clock.Elapsed.TotalMilliseconds;
            var solver = new Solver(model, feature, calibration, options, layers, progress, cancellationToken);
            var (method, report, loop) = solver.Run();
            if (method.Idle is { } reason)
            {
                throw new ControllerException(
                    ControllerFault.Idle,
                    $"The fit gives a controller that does nothing: {reason}. With q = {options.Weights.Q:G}, qf = {options.Weights.Qf:G} and " +
                    $"r = {options.Weights.R:G} no effort pays; raise q or qf, lower r, or steer more blocks.");
            }

            double solveMs = clock.Elapsed.TotalMilliseconds - activationsMs;
            FitTime[] stages =
            [
                new(FitStage.Activations, activationsMs), new(FitStage.Linearisation, solver.LinearisationMs),
                new(FitStage.Riccati, solveMs - solver.LinearisationMs),
            ];
            var source = new ControllerSource
            {
                ModelName = model.Name,
                ModelFingerprint = model.Fingerprint,
                Positive = Describe(contrast.Positive),
                Negative = Describe(contrast.Negative),
                Calibration = options.Calibration is null ? null : Describe(options.Calibration),
                Form = form,
                Weights = options.Weights,
                Cost = options.Cost,
                Order = options.Order,
                Residuals = PerLayer(s => s.Residual),
                Ranks = PerLayer(s => s.Rank),
                OpenLoop = [.. loop.Layers.Select(g => g.Open)],
            };
            return new FitResult(new Controller(method, source), report, loop, stages);

            // Nothing is solved outside the horizon.
            T[] PerLayer<T>(Func<RiccatiStep, T> value)
                where T : struct
            {
                var all = new T[feature.L];
                for (int i = 0; i < report.Steps.Count; i++)
                {
                    all[method.Layers.First + i] = value(report.Steps[i]);
                }

                return all;
            }
        }
        finally
        {
            foreach (var state in states)
            {
                state.Dispose();
            }
        }

        IReadOnlyList<PromptState> Collect(int[][] prompts, bool keepCaches)
        {
            int before = states.Count;
            var done = new Relay<int>(n => progress?.Report(new FitProgress(FitStage.Activations, before + n, total)));
            var collected = PromptState.Collect(model, prompts, keepCaches, done, cancellationToken);
            states.AddRange(collected);
            return collected;
        }
    }

    private static PromptSet Describe(IReadOnlyList<Prompt> prompts)
    {
        byte[] all = Encoding.UTF8.GetBytes(string.Join('\n', prompts.Select(prompt => prompt.Identity)));
        return new PromptSet(Convert.ToHexStringLower(SHA256.HashData(all)), prompts.Count);
    }

    /// <summary>One solve over the horizon [First, Last], whose layer 0 is block First.</summary>
    private sealed class Solver(
        LanguageModel model, Feature feature, IReadOnlyList<PromptState> calibration, FitOptions options, LayerSet layers,
        IProgress<FitProgress>? progress, CancellationToken cancellationToken)
    {
        private readonly Stopwatch _linearising = new();
        private int _done;

        public double LinearisationMs => _linearising.Elapsed.TotalMilliseconds;

        private int First => layers.First;

        private int Horizon => layers.Last - First + 1;

        public (LinearQuadratic Method, RiccatiReport Report, ClosedLoop Loop) Run()
        {
            using var linearization = new Linearization(model, calibration);
            var local = new Feature([.. feature.V.Skip(First).Take(Horizon + 1)], [.. feature.Mu.Skip(First).Take(Horizon + 1)]);
            float[][] w = [.. feature.V.Take(feature.L).Select(v => new float[v.Length])];
            var report = Solve(linearization, local, (k, wk) => w[First + k] = Array.ConvertAll(wk, x => (float)x));
            double[] open = new double[feature.L];
            for (int k = 0; k < feature.L; k++)
            {
                Matrix<double> pushed = Column(feature.V[k]), next = Column(feature.V[k + 1]);
                int layer = k;
                Timed(() => pushed = linearization.Push(layer, pushed, cancellationToken));
                open[k] = pushed.Column(0).DotProduct(next.Column(0));
            }

            var method = new LinearQuadratic(feature, w, options.Setpoint, layers);
            return (method, report, ClosedLoop.Of(method, open));
        }

        // Hands w_k = K_k v_k on.
        private RiccatiReport Solve(Linearization linearization, Feature local, Action<int, double[]> onW)
        {
            var inputs = layers.From(First);
            QuadraticCost cost = options.Cost == FitCost.State
                ? new IsotropicCost(options.Weights) { Inputs = inputs }
                : new FactoredCost(FactoredCost.OfFeatures(options.Weights, local).C, options.Weights.R) { Inputs = inputs };
            if (options.Order is { } order)
            {
                var solution = SolveReduced(linearization, local, cost, order);
                Apply(solution);
                return solution.Report;
            }

            if (cost is FactoredCost factored)
            {
                var solution = FactoredRiccati.Solve(
                    Horizon, (k, z) => Layer(() => linearization.Pull(First + k, z, cancellationToken)), factored, options.MaxRank,
                    cancellationToken: cancellationToken);
                Apply(solution);
                return solution.Report;
            }

            var ops = model.Ops;
            using var memory = ops.Allocate(model.Config.D, 2, out var vectors);
            var (v, w) = (vectors.Slice(0, 1), vectors.Slice(1, 1));
            return DenseRiccati.Solve(
                ops,
                Horizon,
                model.Config.D,
                (k, a) => Linearise(() => linearization.Jacobian(First + k, a, cancellationToken)),
                cost,
                (k, gain) =>
                {
                    double[] wk = Array.ConvertAll(local.V[k], x => (double)x);
                    ops.Upload(wk, v);
                    ops.Multiply(1, gain, v, 0, w);
                    ops.Download(w, wk);
                    onW(k, wk);
                },
                cancellationToken);

            void Apply(RiccatiSolution solution)
            {
                for (int k = 0; k < Horizon; k++)
                {
                    onW(k, solution.Gains[k].Apply(local.V[k]));
                }
            }
        }

        private RiccatiSolution SolveReduced(Linearization linearization, Feature local, QuadraticCost cost, int order)
        {
            Matrix<double>[] features = [.. local.V.Select(Column)];
            var pushed = new Matrix<double>?[Horizon];
            var bases = ReducedBasis.Build(
                order, features,
                k => Matrix<double>.Build.Dense(model.Config.D, calibration.Count, (i, j) => calibration[j].X[First + k][i]),
                (k, basis) => pushed[k] = Layer(() => linearization.Push(First + k, basis, cancellationToken)),
                cancellationToken: cancellationToken);

            // A_k W_k was formed while the bases were; a basis that was full before its push has not been pushed yet.
            return ReducedRiccati.Solve(
                bases, (k, basis) => pushed[k] ?? Layer(() => linearization.Push(First + k, basis, cancellationToken)), cost, cancellationToken);
        }

        private Matrix<double> Layer(Func<Matrix<double>> linearise)
        {
            Matrix<double>? result = null;
            Linearise(() => result = linearise());
            return result!;
        }

        // Every layer is linearised once; a reduced fit goes forward through them, the others backward.
        private void Linearise(Action layer)
        {
            Timed(layer);
            progress?.Report(new FitProgress(FitStage.Riccati, ++_done, Horizon));
        }

        private void Timed(Action run)
        {
            _linearising.Start();
            run();
            _linearising.Stop();
        }

        private static Matrix<double> Column(float[] v) => Matrix<double>.Build.Dense(v.Length, 1, (i, _) => v[i]);
    }
}
