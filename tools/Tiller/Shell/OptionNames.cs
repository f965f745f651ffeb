using Tiller.Evaluation;

namespace Tiller.Tool;

/// <summary>Replaces names of API members in the library's messages by options of the command line.</summary>
internal static class OptionNames
{
    private static readonly (string Library, string CommandLine)[] s_names =
    [
        ("SamplingOptions.Temperature", "--temperature"),
        ("SamplingOptions.TopK", "--top-k"),
        ("SamplingOptions.TopP", "--top-p"),
        ("SamplingOptions.MinP", "--min-p"),
        ("SamplingOptions.RepetitionPenalty", "--repetition-penalty"),
        ("SamplingOptions.PresencePenalty", "--presence-penalty"),
        ("SamplingOptions.FrequencyPenalty", "--frequency-penalty"),
        ("SamplingOptions.LogProbabilities", "--logprobs"),
        ("FitOptions.Weights has q = qf = 0", "--q and --qf are both 0"),
        ("FitOptions.Cost = FitCost.Feature", "--cost feature"),
        ("FitOptions.Order = p", "--order p"),
        ("GenerationOptions.Law", "--controller"),
        ("GenerationOptions.Refit", "--fit prompt"),
        ("leave out PromptTokens.All and SteeredTokens.Clean", "leave out --tokens all and --tokens clean"),
        ("set FitOptions.Jacobians", "add --jacobians FILE"),
        ("FitOptions.Calibration", "--calibration"),
        ("FitOptions.Jacobians", "--jacobians"),
        ("PredictiveFit.Bound", "--bound"),
        ("ClampFit.Low", "--low"),
        ("ClampFit.High", "--high"),
        ("TransportFit.Pooling", "--pooling"),
        ("OdeSteeringFit.Gamma", "--gamma"),
        ("OdeSteeringFit.Constant", "--constant"),
        ("OdeSteeringFit.Features", "--features"),
        ("OdeSteeringFit.Steps", "--steps"),
        ("DirectionalAblationFit.Block", "--block"),
        ("CastFit.Norm", "--norm"),
        ("CastFit.Asks", "--asks"),
        ("FitOptions.Alternative", "--alternative"),
        ("The bound maxEffort =", "The bound --max-effort"),
        (" (NormRule.Pass)", " (fitted with --norm 2)"),
        ("NormRule.Token", "fit with --norm 1"),
        ("LoadOptions.Device = Device.Cpu", "--device cpu"),
        ("leave LoadOptions.KvType at its default", "leave --kv out"),
        ("Take SteeredTokens.Prompt = PromptTokens.Last, or leave SteeredTokens.Clean false", "Take --tokens clean or --tokens all"),
        ("SteeredTokens.Clean reads", "--tokens clean reads"),
        ("SteeredTokens.GeneratedBegin must be at least 0 and SteeredTokens.GeneratedEnd no less", "--window must be a-b with 0 ≤ a ≤ b"),
        ("LoadOptions.Strict", "--strict"),
        ("set TaskOptions.Data to that folder", "name that folder with --data or TILLER_DATA"),
        ("PromptSelection.Column", "--column"),
        ("PromptSelection.Field", "--field"),
        ("PromptSelection names", "--column or --field names"),
        (ScorerRegistry.OnnxIsElsewhere,
            "is in the tool tiller-eval, because it brings native libraries: run the same command with tiller-eval in place of tiller"),
        ("set OnnxScorerOptions.MaxTokens", "set max_tokens in task.yaml"),
        ("NonFiniteValues.Count counts them", "tiller inspect --check counts them"),
        ("Controller.Save wrote", "tiller fit wrote"),
        ("HubPull.RunAsync: ", "tiller pull "),
        ("Write the prompt yourself and encode it with Tokenizer.Encode(parseSpecial: true)", "Leave --chat out and write the prompt as plain text"),
    ];

    /// <summary>The message with options of the command line.</summary>
    public static string Of(string message)
    {
        foreach (var (library, commandLine) in s_names)
        {
            message = message.Replace(library, commandLine, StringComparison.Ordinal);
        }

        return message;
    }
}
