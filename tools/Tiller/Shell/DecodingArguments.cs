using System.CommandLine;
using Tiller.Decode;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>How text is decoded.</summary>
/// <param name="MaxTokens">Maximum number of new tokens.</param>
/// <param name="Sampling">How each token is drawn; checked.</param>
/// <param name="Stop">Strings that end the text.</param>
internal sealed record DecodingRequest(int MaxTokens, SamplingOptions Sampling, StopStrings Stop);

/// <summary>The options of the commands that decode.</summary>
internal sealed class DecodingArguments
{
    private static readonly SamplingOptions s_standard = new();

    private readonly Option<int> _maxTokens = OptionKinds.Number(
        "--max-tokens", "Maximum number of new tokens.", 128, n => n > 0, "a whole number above 0");
    private readonly Option<float> _temperature = Setting("--temperature", "Divides the logits; 0 always takes the most probable token.",
        s_standard.Temperature);
    private readonly Option<int> _topK = Setting("--top-k", "Draw from the K most probable tokens; 0 for all.", s_standard.TopK);
    private readonly Option<float> _topP = Setting(
        "--top-p", "Draw from the smallest set of most probable tokens that together have this probability.", s_standard.TopP);
    private readonly Option<float> _minP = Setting("--min-p", "Draw from tokens with at least this fraction of the largest probability.",
        s_standard.MinP);
    private readonly Option<float> _penalty = Setting("--repetition-penalty", "A value above 1 discourages tokens of the prompt and the text.",
        s_standard.RepetitionPenalty);
    private readonly Option<float> _presence = Setting("--presence-penalty", "Subtracted from the logit of every token that is in the new text.",
        s_standard.PresencePenalty);
    private readonly Option<float> _frequency = Setting(
        "--frequency-penalty", "Subtracted from the logit of a token once for each occurrence in the new text.", s_standard.FrequencyPenalty);

    private readonly Option<int?> _logProbabilities = OptionKinds.NumberOrNone<int>(
        "--logprobs",
        "With --json: print the log-probability of every token and of the N most probable ones, by the model's softmax before any penalty. "
            + "[default: none]",
        _ => true,
        "a whole number in range");

    private readonly Option<ulong?> _seed = OptionKinds.NumberOrNone<ulong>(
        "--seed",
        "Seed of the draws: the same seed gives the same text. [default: random, shown in the summary line]",
        _ => true,
        "a whole number, 0 to 18446744073709551615");

    private readonly Option<string[]> _stop = new("--stop") { Description = "End the text before this string. Repeatable.", HelpName = "text" };

    public void AddTo(Command command)
    {
        command.Add(_maxTokens);
        command.Add(_temperature);
        command.Add(_topK);
        command.Add(_topP);
        command.Add(_minP);
        command.Add(_penalty);
        command.Add(_presence);
        command.Add(_frequency);
        command.Add(_logProbabilities);
        command.Add(_seed);
        command.Add(_stop);
    }

    /// <summary>Reads and checks the options.</summary>
    /// <param name="parse">The command line.</param>
    /// <param name="json">Whether the result is JSON.</param>
    /// <param name="many">Whether all prompts of a file are decoded.</param>
    /// <exception cref="SamplingOptionsException">A setting is out of range.</exception>
    /// <exception cref="StopStringsException">A stop string is not valid.</exception>
    /// <exception cref="UsageException">Log-probabilities were asked for without --json, or with --prompts.</exception>
    public DecodingRequest Read(ParseResult parse, bool json, bool many)
    {
        var sampling = new SamplingOptions
        {
            Temperature = parse.GetValue(_temperature),
            TopK = parse.GetValue(_topK),
            TopP = parse.GetValue(_topP),
            MinP = parse.GetValue(_minP),
            RepetitionPenalty = parse.GetValue(_penalty),
            PresencePenalty = parse.GetValue(_presence),
            FrequencyPenalty = parse.GetValue(_frequency),
            LogProbabilities = parse.GetValue(_logProbabilities),
            Seed = parse.GetValue(_seed),
        };
        sampling.Validate();
        if (sampling.LogProbabilities is not null && many)
        {
            throw new UsageException("--logprobs is for a single prompt: leave it out with --prompts.");
        }

        if (sampling.LogProbabilities is not null && !json)
        {
            throw new UsageException("--logprobs needs --json, because only JSON shows log-probabilities: add --json, or leave --logprobs out.");
        }

        return new DecodingRequest(parse.GetValue(_maxTokens), sampling, new StopStrings(parse.GetValue(_stop) ?? []));
    }

    // SamplingOptions checks the ranges.
    private static Option<T> Setting<T>(string name, string description, T standard)
        where T : struct, System.Numerics.INumber<T> =>
        OptionKinds.Number(name, description, standard, _ => true, standard is float ? "a number" : "a whole number in range");
}
