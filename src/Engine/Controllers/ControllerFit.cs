using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>The part of the state that the cost counts.</summary>
public enum FitCost
{
    /// <summary>Q = q I, as published: the cost counts the deviation of the whole state.</summary>
    State,

    /// <summary>Q = q v v': the cost counts only the projection on the feature. The solver forms no Jacobian.</summary>
    Feature,
}

/// <summary>The options of a fit.</summary>
public sealed record FitOptions
{
    /// <summary>The method; default A-LQR.</summary>
    public FitMethod Method { get; init; } = FitMethod.Lqr;

    /// <summary>The rule that gives the feature's direction; default the difference of the means.</summary>
    public DirectionRule Direction { get; init; } = DirectionRule.Mean;

    /// <summary>
    /// Prompts that show a second feature, for methods that steer in a plane; the negative prompts serve for both features. For a method with a
    /// condition, the prompts on which it shall act. Null for none.
    /// </summary>
    public IReadOnlyList<Prompt>? Alternative { get; init; }

    /// <summary>The prompt whose run is followed, for methods that follow a run; null for none.</summary>
    public Prompt? Nominal { get; init; }

    /// <summary>The published weights: q = 0.1, r = 1, q_f = 1.</summary>
    public static LqrWeights StandardWeights { get; } = new(0.1, 1, 1);

    /// <summary>q, r and q_f; default <see cref="StandardWeights"/>.</summary>
    public LqrWeights Weights { get; init; } = StandardWeights;

    /// <summary>What the cost counts; default the whole state.</summary>
    public FitCost Cost { get; init; } = FitCost.State;

    /// <summary>
    /// Order p of a reduced recursion, 1..D, which takes p Jacobian-vector products for each layer. Null, the default, is the choice of the method.
    /// Most methods solve in full: dense for <see cref="FitCost.State"/>, factored for <see cref="FitCost.Feature"/>.
    /// </summary>
    public int? Order { get; init; }

    /// <summary>The position of the setpoint β; default as published.</summary>
    public Setpoint Setpoint { get; init; } = Setpoint.Published;

    /// <summary>
    /// Steered blocks. Null, the default, is the choice of the method, for most methods all blocks. The horizon extends from the first steered block
    /// to the last, and the terminal cost follows it. Blocks of the horizon that are not steered get no input, but their states are part of the
    /// recursion and of the cost.
    /// </summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Prompts whose Jacobians are averaged, of the same form as the contrast prompts; null for the contrast prompts.</summary>
    public IReadOnlyList<Prompt>? Calibration { get; init; }

    /// <summary>
    /// A file that keeps the mean Jacobians of all blocks and the states of the prompts (<see cref="JacobianFileException"/>), null (default) for
    /// none. What it does not have is measured and written, block by block; what it has is not measured again, so that weights, layers, directions
    /// and methods that need Jacobians and states are solved again without a pass over the model. A certificate and methods that read every token
    /// (linear-act, mean-act, cast) run it all the same. On the device that measured, the controller is bit for bit that of a fit without the file
    /// where Jacobians are formed, as they are for <see cref="FitCost.State"/>; with the feature's cost or an order it is the same to float32's
    /// rounding.
    /// </summary>
    public string? Jacobians { get; init; }

    /// <summary>
    /// Folders in which all shards of this fit were measured (<see cref="FitShard"/>), null (default) for none. What they measured takes the place of
    /// the passes over the model, and the controller is bit for bit that of one process on the device that measured.
    /// </summary>
    public IReadOnlyList<string>? Shards { get; init; }

    /// <summary>
    /// Prompts that are held out of the fit, for a certificate of the gains on these prompts (<see cref="ControllerCertificate"/>); null for none.
    /// With a certificate, the gains and Jacobians of all blocks are in memory at once.
    /// </summary>
    public IReadOnlyList<Prompt>? HeldOut { get; init; }

    /// <summary>
    /// Largest number of columns of the factored solution; a solution with more columns is compressed, but not in a sweep. Default 512.
    /// </summary>
    public int MaxRank { get; init; } = 512;

    /// <summary>Whether a fit without a file forms the Jacobians of its horizon, and does not only multiply by them.</summary>
    internal bool FormsJacobians => Method.Takes(FitInputs.AllJacobians) || (Order is null && Cost == FitCost.State);

    /// <summary>Returns these options, with the method's own choice where an option is null.</summary>
    /// <exception cref="ArgumentException">
    /// The method needs an option that is not set, or an option is set that has no effect on the method.
    /// </exception>
    internal FitOptions For(ModelConfig config)
    {
        Missing(FitInputs.Alternative, nameof(Alternative), Alternative is not null);
        Missing(FitInputs.Nominal, nameof(Nominal), Nominal is not null);
        Unused(Method.Takes(FitInputs.Condition) ? FitInputs.Condition : FitInputs.Alternative, nameof(Alternative), Alternative is not null);
        Unused(FitInputs.Nominal, nameof(Nominal), Nominal is not null);
        Unused(FitInputs.Gains, nameof(Calibration), Calibration is not null);
        Unused(FitInputs.Cost, nameof(Cost), Cost != FitCost.State);
        Unused(FitInputs.Order, nameof(Order), Order is not null);
        Unused(FitInputs.Setpoint, nameof(Setpoint), Setpoint != Setpoint.Published);
        Unused(FitInputs.HeldOut, nameof(HeldOut), HeldOut is not null);
        Unused(FitInputs.Layers, nameof(Layers), Layers is not null);
        return this with
        {
            Order = Order ?? (Method.StandardOrder is { } order ? Math.Min(order, config.D) : null),
            Layers = Layers ?? Method.StandardLayers(config.L),
        };

        void Missing(FitInputs input, string option, bool given)
        {
            if (Method.Takes(input) && !given)
            {
                throw new ArgumentException($"The method {Method.Name} needs the fit option {option}.", option);
            }
        }

        void Unused(FitInputs input, string option, bool given)
        {
            if (given && !Method.Takes(input))
            {
                throw new ArgumentException($"The method {Method.Name} has no use for the fit option {option}: leave it out.", option);
            }
        }
    }
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

    /// <summary>The gains are certified on prompts that were held out.</summary>
    Certificate,
}

/// <summary>Progress of a fit.</summary>
/// <param name="Stage">
/// The stage. Linearisation has progress of its own only with <see cref="FitOptions.Jacobians"/>: otherwise it is part of
/// <see cref="FitStage.Riccati"/> and <see cref="FitStage.Certificate"/>.
/// </param>
/// <param name="Done">Units done: prompts, or layers.</param>
/// <param name="Total">Units in all.</param>
public readonly record struct FitProgress(FitStage Stage, int Done, int Total);

/// <summary>How long a part of a fit took.</summary>
/// <param name="Stage">The part.</param>
/// <param name="ElapsedMs">Wall time in milliseconds.</param>
public readonly record struct FitTime(FitStage Stage, double ElapsedMs);

/// <summary>A fitted controller and the accuracy of its fit.</summary>
/// <param name="Controller">The controller, to save or to compile.</param>
/// <param name="Report">Residuals, symmetry and ranks of the recursion; without steps for a method that solves no recursion.</param>
/// <param name="Loop">Open- and closed-loop gain along the feature; without layers for a method that has no gains.</param>
/// <param name="Stages">The time of each stage.</param>
public sealed record FitResult(Controller Controller, RiccatiReport Report, ClosedLoop Loop, IReadOnlyList<FitTime> Stages);

/// <summary>
/// Fits a controller: measures the feature, then lets the method fit itself. For A-LQR (arXiv:2604.19018), the blocks are linearised at the last
/// tokens of the calibration prompts, and the Riccati recursion is solved backwards. Unless the method or a certificate needs all Jacobians, only one
/// is in memory at a time.
/// </summary>
public static class ControllerFit
{
    /// <summary>Runs the fit.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="contrast">Prompts that show the feature and prompts that do not.</param>
    /// <param name="options">The options; null for the defaults.</param>
    /// <param name="progress">
    /// Receives a report after every pass and layer, on the calling thread, between two passes; null for none. Reports within a layer repeat the last
    /// <see cref="FitProgress.Done"/>. A receiver may do other work with the model before it returns.
    /// </param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two passes.</exception>
    /// <exception cref="TillerException">
    /// The prompts are not all of one form, a prompt is empty, too long or cannot be encoded, the feature is 0, the resulting controller would do
    /// nothing, the recursion fails numerically, or the file of Jacobians is of something else, damaged or in use.
    /// </exception>
    /// <exception cref="ArgumentException">An option contradicts the method.</exception>
    public static FitResult Run(
        LanguageModel model, ContrastSet contrast, FitOptions? options = null, IProgress<FitProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        options ??= new FitOptions();
        return Run(model, contrast, options, [options.Weights], progress, cancellationToken)[0];
    }

    /// <summary>
    /// Fits one controller for each of several weights. The prompts are run once, and with <see cref="FitCost.Feature"/> the blocks are pulled back
    /// once: one sweep through the layers solves for all weights (<see cref="WeightSweep"/>).
    /// </summary>
    /// <param name="model">The plain model.</param>
    /// <param name="contrast">Prompts that show the feature and prompts that do not.</param>
    /// <param name="weights">q, r and q_f of every controller; those of the options do not count.</param>
    /// <param name="options">
    /// Null for the defaults. Where each of the weights would need every Jacobian anew, <see cref="FitOptions.Jacobians"/> must be given.
    /// </param>
    /// <param name="progress">Told after every pass and layer.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>The fits, in the order of their weights. What they share counts in the times of the first.</returns>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two passes.</exception>
    /// <exception cref="TillerException">As for a fit with one of the weights.</exception>
    /// <exception cref="ArgumentException">There are no weights, or the options do not go with the method or with several weights.</exception>
    public static IReadOnlyList<FitResult> Sweep(
        LanguageModel model, ContrastSet contrast, IReadOnlyList<LqrWeights> weights, FitOptions? options = null,
        IProgress<FitProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(weights);
        options ??= new FitOptions();
        if (weights.Count == 0 || (weights.Count > 1 && !options.Method.Takes(FitInputs.Gains)))
        {
            throw new ArgumentException(
                $"There are {weights.Count} weights; give one or more, and one to the method {options.Method.Name} if it solves for no gains.",
                nameof(weights));
        }

        bool shares = options.Jacobians is not null || options.Shards is not null || options.Method.Takes(FitInputs.AllJacobians)
            || (options.Cost == FitCost.Feature && options.Order is null);
        return shares || weights.Count == 1
            ? Run(model, contrast, options, weights, progress, cancellationToken)
            : throw new ArgumentException(
                "Several weights would measure every block anew for each of them: set FitOptions.Jacobians to measure once, or "
                + "FitOptions.Cost = FitCost.Feature without an order to solve for all in one sweep.",
                nameof(options));
    }

    /// <summary>Returns the options with the method's own choice where one is null, once nothing is known to be wrong with them.</summary>
    /// <exception cref="TillerException">A list is empty or not as the method needs it, or the controller would do nothing.</exception>
    /// <exception cref="ArgumentException">An option contradicts the method.</exception>
    internal static FitOptions Checked(LanguageModel model, ContrastSet contrast, FitOptions options, IReadOnlyList<LqrWeights> weights)
    {
        options = options.For(model.Config);
        if (options.Calibration is { Count: 0 })
        {
            throw new ContrastSetException("The calibration prompts are empty; give at least one, or none at all to average over the "
                + "contrast prompts.");
        }

        if (options.Method.Contradiction is { } wrong)
        {
            throw new ControllerException(ControllerFault.Range, wrong);
        }

        if (options.Method.Takes(FitInputs.Gains) && weights.Any(w => w is { Q: 0, Qf: 0 }))
        {
            throw new ControllerException(
                ControllerFault.Idle,
                "FitOptions.Weights has q = qf = 0: being off the setpoint costs nothing, so the best controller does nothing. Raise one of them.");
        }

        if (options.HeldOut is { Count: 0 })
        {
            throw new ContrastSetException("The held-out prompts are empty; give at least one, or none at all to fit without a certificate.");
        }

        if (options.Method.Takes(FitInputs.Pairs) && contrast.Positive.Count != contrast.Negative.Count)
        {
            throw new ContrastSetException(
                $"The method {options.Method.Name} works on pairs, and there are {contrast.Positive.Count} positive and {contrast.Negative.Count} "
                + "negative prompts. Give the same number of both, so that the i-th prompts form a pair.");
        }

        if (options.Layers is { } given && given.Last >= model.Config.L)
        {
            throw RiccatiException.Shape("The horizon", given.First, $"layers within 0-{model.Config.L - 1}", $"{given}");
        }

        return options;
    }

    private static List<FitResult> Run(
        LanguageModel model, ContrastSet contrast, FitOptions options, IReadOnlyList<LqrWeights> weights, IProgress<FitProgress>? progress,
        CancellationToken cancellationToken)
    {
        options = Checked(model, contrast, options, weights);
        bool solves = options.Method.Takes(FitInputs.Gains);
        var layers = options.Layers ?? new LayerSet(0, model.Config.L - 1);
        using var use = model.Enter();
        string fingerprint = model.Fingerprint; // now: a checkpoint that has changed is told before the work, not after it
        var clock = Stopwatch.StartNew();
        var lists = FitLists.Of(model, contrast, options, cancellationToken);
        int[][][] ids = lists.Ids;
        bool own = lists.AveragesContrast;
        var shards = options.Shards is { } folders ? FitShards.Open(model, lists, options, folders) : null;
        var states = new List<PromptState>();
        var (file, linearisedMs) = OpenKept();
        using var kept = file;
        int total = shards is not null ? 0 : ids[..^1].Sum(list => kept?.HasStatesOf(list) == true ? 0 : list.Length);
        try
        {
            var positive = Collect(ids[0], own);
            var negative = Collect(ids[1], own);
            IReadOnlyList<PromptState> calibration = own ? [.. positive, .. negative] : Collect(ids[2], true);
            var feature = FeatureMeasurement.FromStates(positive, negative, options.Direction);
            var alternative = Collect(ids[3], false);
            var followed = Collect(ids[4], false);
            if (feature.Mu.All(mu => mu == 0))
            {
                throw new ContrastSetException("The positive and the negative prompts leave the model in the same state at every layer; "
                    + "give prompts that differ.");
            }

            if (solves && layers.Blocks.All(k => feature.Mu[k] == 0))
            {
                int first = feature.Mu.TakeWhile(mu => mu == 0).Count();
                throw new ContrastSetException(
                    $"The positive and the negative prompts leave the model in the same state before every block of {layers}, where it should "
                    + $"be steered; they differ {(first < feature.L ? $"before block {first}" : "after the last block only")}. " +
                    "Steer blocks where they differ, or give prompts whose last tokens do.");
            }

            double activationsMs = clock.Elapsed.TotalMilliseconds - linearisedMs;
            using BlockMaps maps = kept is not null ? new StoredJacobians(kept, model.Ops)
                : shards is not null ? new SummedJacobians(model, shards)
                : new Linearization(model, calibration, lists.Blocks);
            var job = new FitJob(model, maps, feature, calibration, options, weights, layers, progress, cancellationToken)
            {
                Positive = positive,
                Negative = negative,
                PositiveIds = ids[0],
                NegativeIds = ids[1],
                AlternativeStates = alternative.Count > 0 ? alternative : null,
                AlternativeIds = ids[3].Length > 0 ? ids[3] : null,
                Alternative = alternative.Count > 0 ? FeatureMeasurement.FromStates(alternative, negative, options.Direction) : null,
                Nominal = followed.Count > 0 ? followed[0] : null,
            };
            maps.BetweenPasses = job.ReportAgain;
            var results = new List<FitResult>();
            var sharedMs = (Activations: activationsMs, Linearisation: linearisedMs);
            foreach (var one in weights)
            {
                results.Add(Fit(one));
                sharedMs = (0, 0);
            }

            return results;

            FitResult Fit(LqrWeights one)
            {
                job.Stage = FitStage.Riccati;
                double beginMs = clock.Elapsed.TotalMilliseconds, linearisedBeforeMs = job.LinearisationMs;
                var fitted = job.Fit(one);
                var (method, report, settings) = fitted;
                var loop = solves && method.OptimalFeedback is not null ? ClosedLoop.Of(method, job.OpenLoop(method.Feature)) : new ClosedLoop([]);
                if (method.Idle is { } reason)
                {
                    throw new ControllerException(
                        ControllerFault.Idle,
                        $"The fit gives a controller that does nothing: {reason}."
                        + (solves
                            ? $" With q = {one.Q:G}, qf = {one.Qf:G} and r = {one.R:G} no effort pays; raise q or "
                                + "qf, lower r, or steer more blocks."
                            : " Steer other blocks, or give prompts that differ there."));
                }

                double solveMs = clock.Elapsed.TotalMilliseconds - beginMs;
                double linearisationMs = job.LinearisationMs - linearisedBeforeMs;
                ControllerCertificate? certificate = null;
                if (options.HeldOut is { } held)
                {
                    job.Stage = FitStage.Certificate;
                    certificate = ControllerCertificate.Of(
                        model, layers, job.Jacobians(), fitted.Gains!, positive[0], feature,
                        own ? [.. ids[0], .. ids[1]] : ids[2], ids[^1], Describe(held),
                        (done, all) => progress?.Report(new FitProgress(FitStage.Certificate, done, all)), cancellationToken);
                }

                double certificateMs = clock.Elapsed.TotalMilliseconds - beginMs - solveMs;
                List<FitTime> stages =
                [
                    new(FitStage.Activations, sharedMs.Activations), new(FitStage.Linearisation, sharedMs.Linearisation + linearisationMs),
                    new(FitStage.Riccati, solveMs - linearisationMs),
                ];
                if (certificate is not null)
                {
                    stages.Add(new FitTime(FitStage.Certificate, certificateMs));
                }

                var source = new ControllerSource
                {
                    ModelName = model.Name,
                    ModelFingerprint = fingerprint,
                    Positive = Describe(contrast.Positive),
                    Negative = Describe(contrast.Negative),
                    Calibration = options.Calibration is null ? null : Describe(options.Calibration),
                    Form = lists.Form,
                    Weights = solves ? one : null,
                    Cost = options.Method.Takes(FitInputs.Cost) ? options.Cost : solves ? FitCost.State : null,
                    Order = options.Order,
                    Residuals = report.Steps.Count > 0 ? PerLayer(s => s.Residual) : null,
                    Ranks = report.Steps.Count > 0 ? PerLayer(s => s.Rank) : null,
                    OpenLoop = loop.Layers.Count > 0 ? [.. loop.Layers.Select(g => g.Open)] : null,
                    Settings = Settings(),
                    Certificate = certificate,
                };
                return new FitResult(new Controller(method, source), report, loop, stages);

                Dictionary<string, string> Settings()
                {
                    var all = new Dictionary<string, string>(StringComparer.Ordinal)
                    {
                        [ControllerSource.MethodSetting] = options.Method.Name,
                        ["direction"] = options.Direction.Name,
                    };
                    if (options.Alternative is { } others)
                    {
                        all["alternative.sha256"] = Describe(others).Sha256;
                    }

                    if (options.Nominal is { } leader)
                    {
                        all["nominal.sha256"] = Describe([leader]).Sha256;
                    }

                    foreach (var parameter in options.Method.Parameters.Where(p => p.Value is not null))
                    {
                        all[parameter.Name] = parameter.Value!.Value.ToString("R", CultureInfo.InvariantCulture);
                    }

                    foreach (var (name, value) in settings)
                    {
                        all[name] = value.ToString("R", CultureInfo.InvariantCulture);
                    }

                    return all;
                }

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
        }
        finally
        {
            foreach (var state in states)
            {
                state.Dispose();
            }
        }

        // A method that solves nothing takes what a file has; it has no Jacobians to put there.
        (JacobianFile? File, double ElapsedMs) OpenKept()
        {
            if (options.Jacobians is not { } path)
            {
                return (null, 0);
            }

            if (solves)
            {
                return StoredJacobians.Measure(model, path, lists, shards, progress, cancellationToken);
            }

            return (JacobianFile.Open(path, JacobianIdentity.Of(model, calibration: null), fills: false) ?? throw new JacobianFileException(
                path, $"there is no such file, and the method {options.Method.Name} measures no Jacobians: fit one that does first, or leave "
                + "FitOptions.Jacobians out."), 0);
        }

        IReadOnlyList<PromptState> Collect(int[][] prompts, bool keepCaches)
        {
            if (prompts.Length == 0)
            {
                return [];
            }

            if ((kept?.StatesOf(prompts) ?? shards?.StatesOf(prompts)) is { } known)
            {
                return known;
            }

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
}
