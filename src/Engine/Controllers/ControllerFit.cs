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

/// <summary>What the controller's cost counts.</summary>
public enum FitCost
{
    /// <summary>Q = q I, as published: the whole state may not stray.</summary>
    State,

    /// <summary>Q = q v v': only the projection on the feature counts. Solved without forming a Jacobian.</summary>
    Feature,
}

/// <summary>How to fit a controller.</summary>
public sealed record FitOptions
{
    /// <summary>The method; default A-LQR.</summary>
    public FitMethod Method { get; init; } = FitMethod.Lqr;

    /// <summary>What the feature's direction is; default the difference of the means.</summary>
    public DirectionRule Direction { get; init; } = DirectionRule.Mean;

    /// <summary>
    /// Prompts that show a second feature, against the same negative ones, for methods that steer in a plane; or those on which a method with a
    /// condition shall act. Null for none.
    /// </summary>
    public IReadOnlyList<Prompt>? Alternative { get; init; }

    /// <summary>The prompt whose run is followed, for methods that follow one; null for none.</summary>
    public Prompt? Nominal { get; init; }

    /// <summary>Published settings with q, r, q_f = 0.1, 1, 1.</summary>
    public static LqrWeights StandardWeights { get; } = new(0.1, 1, 1);

    /// <summary>q, r, q_f.</summary>
    public LqrWeights Weights { get; init; } = StandardWeights;

    /// <summary>What the cost counts; default the whole state.</summary>
    public FitCost Cost { get; init; } = FitCost.State;

    /// <summary>
    /// p of the reduced recursion, 1..D, from p Jacobian-vector products a layer; null (default) is the method's own, which for most is to solve in
    /// full: dense for <see cref="FitCost.State"/>, factored for <see cref="FitCost.Feature"/>.
    /// </summary>
    public int? Order { get; init; }

    /// <summary>Where β lies; default as published.</summary>
    public Setpoint Setpoint { get; init; } = Setpoint.Published;

    /// <summary>
    /// Blocks that are steered; null for the method's own, which for most are all. The horizon goes from the first of them to the last, with
    /// the terminal cost after it; blocks between
    /// that are not steered carry the state on and pay for it, without an input of their own.
    /// </summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Prompts whose Jacobians are averaged, of the same form as the contrast prompts; null for the contrast prompts.</summary>
    public IReadOnlyList<Prompt>? Calibration { get; init; }

    /// <summary>
    /// Prompts that are held out of the fit, for a certificate of the gains on them (<see cref="ControllerCertificate"/>); null for none. Gains and
    /// Jacobians of all blocks are then kept at once.
    /// </summary>
    public IReadOnlyList<Prompt>? HeldOut { get; init; }

    /// <summary>Most columns of the factored solution before it is compressed.</summary>
    public int MaxRank { get; init; } = 512;

    /// <summary>The options with what the method takes where nothing was asked for.</summary>
    /// <exception cref="ArgumentException">
    /// The method takes something that is not there, or something is there that it does not take, which would be without effect.
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
        return this with { Order = Order ?? Method.StandardOrder(config), Layers = Layers ?? Method.StandardLayers(config.L) };

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
/// <param name="Report">Residuals, symmetry and ranks of the recursion; no steps for a method without one.</param>
/// <param name="Loop">Open- and closed-loop gain along the feature; no layers for a method that linearises nothing.</param>
/// <param name="Stages">Times.</param>
public sealed record FitResult(Controller Controller, RiccatiReport Report, ClosedLoop Loop, IReadOnlyList<FitTime> Stages);

/// <summary>
/// Fits a controller: measures the feature and has the method fit itself. For A-LQR (arXiv:2604.19018) the blocks are linearised at the calibration
/// prompts' last tokens and the Riccati recursion is solved backwards; a Jacobian lives only while its layer is solved.
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
    /// <exception cref="ArgumentException">The options do not go with the method.</exception>
    public static FitResult Run(
        LanguageModel model, ContrastSet contrast, FitOptions? options = null, IProgress<FitProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        options = (options ?? new FitOptions()).For(model.Config);
        if (options.Calibration is { Count: 0 })
        {
            throw new ContrastSetException("The calibration prompts are empty; give at least one, or none at all to average over the "
                + "contrast prompts.");
        }

        if (options.Method.Contradiction is { } wrong)
        {
            throw new ControllerException(ControllerFault.Range, wrong);
        }

        bool solves = options.Method.Takes(FitInputs.Gains);
        if (solves && options.Weights is { Q: 0, Qf: 0 })
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
                + "negative prompts. Give as many of both, the i-th of each belonging together.");
        }

        if (options.Layers is { } given && given.Last >= model.Config.L)
        {
            throw RiccatiException.Shape("The horizon", given.First, $"layers within 0-{model.Config.L - 1}", $"{given}");
        }

        var layers = options.Layers ?? new LayerSet(0, model.Config.L - 1);
        using var use = model.Enter();
        var clock = Stopwatch.StartNew();
        bool own = solves && options.Calibration is null;
        var encoder = PromptEncoder.Of(model);
        (string Name, IReadOnlyList<Prompt> Prompts)[] lists =
        [
            ("Positive", contrast.Positive), ("Negative", contrast.Negative), ("Calibration", options.Calibration ?? []),
            ("Alternative", options.Alternative ?? []), ("Nominal", options.Nominal is { } nominal ? [nominal] : []),
            ("Held-out", options.HeldOut ?? []),
        ];
        var form = encoder.FormOf(lists);
        int[][][] ids = [.. lists.Select(list => encoder.Encode(list.Name, list.Prompts, cancellationToken))];
        int total = ids[..^1].Sum(list => list.Length);
        var states = new List<PromptState>();
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

            double activationsMs = clock.Elapsed.TotalMilliseconds;
            using var job = new FitJob(model, feature, calibration, options, layers, progress, cancellationToken)
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
            var fitted = options.Method.Fit(job);
            var (method, report, settings) = fitted;
            var loop = solves && method is LinearQuadratic lqr ? ClosedLoop.Of(lqr, job.OpenLoop(lqr.Feature)) : new ClosedLoop([]);
            if (method.Idle is { } reason)
            {
                throw new ControllerException(
                    ControllerFault.Idle,
                    $"The fit gives a controller that does nothing: {reason}."
                    + (solves
                        ? $" With q = {options.Weights.Q:G}, qf = {options.Weights.Qf:G} and r = {options.Weights.R:G} no effort pays; raise q or "
                            + "qf, lower r, or steer more blocks."
                        : " Steer other blocks, or give prompts that differ there."));
            }

            double solveMs = clock.Elapsed.TotalMilliseconds - activationsMs;
            double linearisationMs = job.LinearisationMs;
            ControllerCertificate? certificate = null;
            if (options.HeldOut is { } held)
            {
                certificate = ControllerCertificate.Of(
                    model, layers, job.Jacobians(), fitted.Gains!, positive[0], feature,
                    own ? [.. ids[0], .. ids[1]] : ids[2], ids[^1], Describe(held), cancellationToken);
            }

            double certificateMs = clock.Elapsed.TotalMilliseconds - activationsMs - solveMs;
            List<FitTime> stages =
            [
                new(FitStage.Activations, activationsMs), new(FitStage.Linearisation, linearisationMs),
                new(FitStage.Riccati, solveMs - linearisationMs),
            ];
            if (certificate is not null)
            {
                stages.Add(new FitTime(FitStage.Certificate, certificateMs));
            }

            var source = new ControllerSource
            {
                ModelName = model.Name,
                ModelFingerprint = model.Fingerprint,
                Positive = Describe(contrast.Positive),
                Negative = Describe(contrast.Negative),
                Calibration = options.Calibration is null ? null : Describe(options.Calibration),
                Form = form,
                Weights = solves ? options.Weights : null,
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

                if (options.Nominal is { } one)
                {
                    all["nominal.sha256"] = Describe([one]).Sha256;
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
        finally
        {
            foreach (var state in states)
            {
                state.Dispose();
            }
        }

        IReadOnlyList<PromptState> Collect(int[][] prompts, bool keepCaches)
        {
            if (prompts.Length == 0)
            {
                return [];
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
