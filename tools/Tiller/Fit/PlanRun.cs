using System.Text;
using Tiller.Bench;
using Tiller.Chat;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>A plan, with what it was made from.</summary>
/// <param name="Model">Name of the checkpoint or the shape.</param>
/// <param name="Config">The model's shape.</param>
/// <param name="Weights">The origin of the weights' size.</param>
/// <param name="Prompts">Number of contrast prompts.</param>
/// <param name="Calibration">Number of prompts over which the Jacobians are averaged.</param>
/// <param name="Tokens">Number of tokens in all prompts.</param>
/// <param name="CountedTokens">Whether a tokenizer has counted the tokens. If not, they are estimated.</param>
/// <param name="Solve">The form of the recursion: dense, factored, or reduced and its order.</param>
/// <param name="Plan">Memory and FLOPs.</param>
/// <param name="Rates">Speeds of this machine.</param>
internal sealed record PlannedFit(
    string Model, ModelConfig Config, string Weights, int Prompts, int Calibration, long Tokens, bool CountedTokens, string Solve, FitPlan Plan,
    QuickRates Rates);

/// <summary>
/// <c>tiller fit --plan</c> and <c>tiller bench fit --plan</c>: predicts what a fit needs, without allocating anything of its size.
/// </summary>
internal static class PlanRun
{
    private const int ReducedOrder = 64;

    // About a second on a CPU. For a shorter fit it is not worth measuring the rates.
    private const double LongFlops = 2e11;

    // An estimate without a tokenizer: English text has a little more than four bytes per token.
    private const int BytesPerToken = 4;

    /// <summary>The plan of the requested fit, from config.json, the sizes of the weights and, if it exists, the tokenizer.</summary>
    public static PlannedFit OfCheckpoint(FitRequest request, CancellationToken cancellationToken)
    {
        var prompts = FitRun.Prompts(request, cancellationToken);
        string directory = HubCache.Resolve(request.Model);
        var c = ModelConfigReader.Read(directory);
        var options = FitRun.Options(request, c, prompts);
        bool counted = File.Exists(Path.Combine(directory, "tokenizer.json"));
        var encoder = counted ? Encoder(request, c, cancellationToken) : null;

        // With a tokenizer, this refuses the prompts that the fit would refuse.
        var lengths = PromptLengths.Of(prompts.Contrast, options, (list, prompts) =>
            encoder?.Encode(list, prompts, cancellationToken).Select(ids => ids.Length) ?? prompts.Select(p => Estimate(p, c)));
        long weights;
        string known;
        if (File.Exists(Path.Combine(directory, CheckpointFolder.SingleFileName))
            || File.Exists(Path.Combine(directory, CheckpointFolder.IndexFileName)))
        {
            using var folder = CheckpointFolder.Open(directory);
            (weights, known) = (folder.SizeInBytes, "as stored");
        }
        else
        {
            (weights, known) = ((long)new Counts(c, TensorType.BF16).AllBytes, "if stored as bf16; there is no weight file");
        }

        var rates = QuickRates.Measure(c, TensorType.BF16, request.Device.ToLoadOptions(), cancellationToken);
        var plan = lengths.Plan(c, weights, options, rates.Callers, rates.JacobianRows, request.Weights.Count);
        return new PlannedFit(
            HubCache.NameOf(directory), c, known, lengths.Contrast.Length, lengths.Averaged.Length, lengths.Tokens, counted, Solve(options), plan,
            rates);
    }

    /// <summary>The plan of a fit of a loaded model; null if the fit is too short to be worth a message, or has a file of Jacobians.</summary>
    public static PlannedFit? OfLongFit(LanguageModel model, ContrastSet contrast, FitOptions options, int weights, DeviceRequest device,
        CancellationToken cancellationToken)
    {
        if (File.Exists(options.Jacobians))
        {
            return null;
        }

        var encoder = PromptEncoder.Of(model);
        var lengths = PromptLengths.Of(
            contrast, options, (list, prompts) => encoder.Encode(list, prompts, cancellationToken).Select(ids => ids.Length));
        var plan = lengths.Plan(model.Config, model.WeightsInBytes, options, model.Ops.Callers, model.Ops.JacobianRows, weights);
        if (plan.Stages.Sum(s => s.SingleFlops + s.DoubleFlops) < LongFlops)
        {
            return null;
        }

        var rates = QuickRates.Measure(model.Config, TensorType.BF16, device.ToLoadOptions(), cancellationToken);
        rates = rates with { FreeInBytes = rates.FreeInBytes + model.WeightsInBytes }; // the plan includes the weights, which are already loaded
        return new PlannedFit(
            model.Name, model.Config, "as loaded", lengths.Contrast.Length, lengths.Averaged.Length, lengths.Tokens, CountedTokens: true,
            Solve(options), plan, rates);
    }

    /// <summary>The plans of a dense, a factored and a reduced fit of a named shape.</summary>
    public static IReadOnlyList<PlannedFit> OfShape(BenchRequest request, CancellationToken cancellationToken)
    {
        var c = request.Shape.Config;
        int prompts = 2 * request.FitPrompts;
        int[] lengths = [.. Enumerable.Repeat(Math.Min(request.ContextLength, c.MaxPositions), prompts)];
        long weights = (long)new Counts(c, request.Type).AllBytes;
        var rates = QuickRates.Measure(c, request.Type, new LoadOptions { Device = request.Device, Threads = request.Threads }, cancellationToken);
        FitOptions[] all = [new(), new() { Cost = FitCost.Feature }, new() { Order = Math.Min(ReducedOrder, c.D) }];
        return
        [
            .. all.Select(options => new PlannedFit(
                request.Shape.Name, c, $"as {request.Type.SpecName().ToLowerInvariant()}", prompts, prompts, lengths.Sum(n => (long)n),
                CountedTokens: true, Solve(options),
                FitPlan.Of(c, weights, lengths, calibration: null, options, rates.Callers, rates.JacobianRows), rates)),
        ];
    }

    private static PromptEncoder Encoder(FitRequest request, ModelConfig c, CancellationToken cancellationToken)
    {
        var tokenizer = Tokenizer.Load(request.Model, cancellationToken);
        var chat = new Lazy<ChatFormat>(() => ChatFormat.Load(request.Model, tokenizer));
        return new PromptEncoder(() => tokenizer, () => chat.Value, c.V, c.MaxPositions);
    }

    private static int Estimate(Prompt prompt, ModelConfig c)
    {
        IEnumerable<string> texts = prompt is ChatPrompt chat ? chat.Messages.Select(m => m.Content) : [((TextPrompt)prompt).Text];
        return Math.Min(c.MaxPositions, 1 + (texts.Sum(Encoding.UTF8.GetByteCount) / BytesPerToken));
    }

    private static string Solve(FitOptions options) =>
        !options.Method.Takes(FitInputs.Gains) || options.Method.Takes(FitInputs.AllJacobians) ? options.Method.Name
            : FitOutput.Solve(options.Order, options.Cost);

    // Numbers of tokens of the prompts of a fit: the contrast, the calibration if it has prompts of its own, and all others.
    private sealed record PromptLengths(int[] Contrast, int[]? Calibration, int[] Others)
    {
        /// <summary>Of the prompts over which the Jacobians are averaged.</summary>
        public int[] Averaged => Calibration ?? Contrast;

        public long Tokens => Contrast.Concat(Calibration ?? []).Concat(Others).Sum(n => (long)n);

        public static PromptLengths Of(ContrastSet contrast, FitOptions options, Func<string, IReadOnlyList<Prompt>, IEnumerable<int>> count) => new(
            [.. count("Positive", contrast.Positive), .. count("Negative", contrast.Negative)],
            options.Calibration is { } calibration ? [.. count("Calibration", calibration)] : null,
            [
                .. count("Alternative", options.Alternative ?? []), .. count("Nominal", options.Nominal is { } one ? [one] : []),
                .. count("Held-out", options.HeldOut ?? []),
            ]);

        public FitPlan Plan(ModelConfig c, long weightBytes, FitOptions options, int callers, int jacobianRows, int weights) =>
            FitPlan.Of(c, weightBytes, Contrast, Calibration, options, callers, jacobianRows, Others, weights);
    }
}
