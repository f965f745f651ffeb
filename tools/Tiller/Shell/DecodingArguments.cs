using System.CommandLine;
using Tiller.Decode;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>How text is decoded.</summary>
/// <param name="MaxTokens">Most new tokens.</param>
/// <param name="Sampling">How each is drawn; valid.</param>
/// <param name="Stop">Strings that end the text.</param>
internal sealed record DecodingRequest(int MaxTokens, SamplingOptions Sampling, StopStrings Stop);

/// <summary>The options of the commands that decode.</summary>
internal sealed class DecodingArguments
{
    private static readonly SamplingOptions s_standard = new();

    private readonly Option<int> _maxTokens = OptionKinds.Number("--max-tokens", "Most new tokens.", 128, n => n > 0, "a whole number above 0");
    private readonly Option<float> _temperature = Setting("--temperature", "Divides the logits; 0 always takes the likeliest token.",
        s_standard.Temperature);
    private readonly Option<int> _topK = Setting("--top-k", "Draw from the K likeliest tokens; 0 for all.", s_standard.TopK);
    private readonly Option<float> _topP = Setting("--top-p", "Draw from the fewest tokens that together have this probability.", s_standard.TopP);
    private readonly Option<float> _minP = Setting("--min-p", "Draw from tokens at least this many times as likely as the likeliest.",
        s_standard.MinP);
    private readonly Option<float> _penalty = Setting("--repetition-penalty", "Above 1 discourages tokens that were there before.",
        s_standard.RepetitionPenalty);
    private readonly Option<float> _presence = Setting("--presence-penalty", "Subtracted from the logits of tokens that are in the new text.",
        s_standard.PresencePenalty);
    private readonly Option<float> _frequency = Setting(
        "--frequency-penalty", "Subtracted from the logit of a token for each time that it is in the new text.", s_standard.FrequencyPenalty);

    private readonly Option<int?> _logProbabilities = OptionKinds.NumberOrNone<int>(
        "--logprobs",
        "With --json: the log-probability of every token, and the N most probable ones, under the model's softmax before any penalty. "
            + "[default: none]",
        _ => true,
        "a whole number in range");

    private readonly Option<ulong?> _seed = OptionKinds.NumberOrNone<ulong>(
        "--seed",
        "The same seed draws the same text. [default: a new one each time, which the summary line tells]",
        _ => true,
        "a whole number, 0 to 18446744073709551615");

    private readonly Option<string[]> _stop = new("--stop") { Description = "End before this string; may be repeated.", HelpName = "text" };

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

    /// <summary>What was asked for, checked.</summary>
    /// <param name="parse">The command line.</param>
    /// <param name="json">Whether the result is JSON.</param>
    /// <param name="many">Whether it is about all prompts of a file.</param>
    /// <exception cref="SamplingOptionsException">A setting is out of range.</exception>
    /// <exception cref="StopStringsException">A stop string cannot be one.</exception>
    /// <exception cref="UsageException">Log-probabilities have nowhere to go.</exception>
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
            throw new UsageException("--logprobs is about one prompt: leave it out with --prompts.");
        }

        if (sampling.LogProbabilities is not null && !json)
        {
            throw new UsageException("--logprobs needs --json, which is where they are shown: add it, or leave --logprobs out.");
        }

        return new DecodingRequest(parse.GetValue(_maxTokens), sampling, new StopStrings(parse.GetValue(_stop) ?? []));
    }

    // Ranges are SamplingOptions' to check.
    private static Option<T> Setting<T>(string name, string description, T standard)
        where T : struct, System.Numerics.INumber<T> =>
        OptionKinds.Number(name, description, standard, _ => true, standard is float ? "a number" : "a whole number in range");
}
