using Tiller.Law;
using Tiller.Model;

namespace Tiller.Decode;

/// <summary>How a text is continued.</summary>
public sealed record GenerationOptions
{
    /// <summary>Maximum number of new tokens; default 128.</summary>
    public int MaxNewTokens { get; init; } = 128;

    /// <summary>
    /// How each token is drawn; default greedy. Without a seed, each generation chooses a random one (<see cref="Generation.Seed"/>).
    /// </summary>
    public SamplingOptions Sampling { get; init; } = new();

    /// <summary>The law that steers the text; null (default) for the plain model.</summary>
    public FeedbackLaw? Law { get; init; }

    /// <summary>
    /// Makes the law anew for the text at hand, such as by <c>PromptFit.Fit</c>: called with the text so far and its next token, before the prompt's
    /// last token and, with <see cref="RefitEvery"/>, before generated ones. Null (default) to keep <see cref="Law"/>, which is needed with it and
    /// has the same sensors.
    /// </summary>
    public Func<Session, int, CancellationToken, FeedbackLaw>? Refit { get; init; }

    /// <summary>After how many generated tokens the law is made anew again; 0 (default) for the prompt's alone.</summary>
    public int RefitEvery { get; init; }

    /// <summary>Which tokens the law steers; by default the last token of the prompt and every new token.</summary>
    public SteeredTokens SteeredTokens { get; init; } = SteeredTokens.Last;

    /// <summary>Strings that end the text; they are not part of the output. Default none.</summary>
    public StopStrings StopStrings { get; init; } = StopStrings.None;

    /// <summary>
    /// Ids that end the text; null (default) for the model's own (<see cref="LanguageModel.EndIds"/>), which hold for plain texts and for chats.
    /// </summary>
    public IReadOnlyList<int>? StopIds { get; init; }

    /// <summary>Records what the law read and did; null (default) for no trace. Needs <see cref="Law"/>.</summary>
    public SteeringTrace? Trace { get; init; }

    /// <summary>Whether each token comes with what the law read and did (<see cref="GeneratedToken.Steering"/>); default false.</summary>
    public bool ShowsSteering { get; init; }
}

/// <summary>Why a generation ended.</summary>
public enum StopReason
{
    /// <summary>An end-of-text id was drawn.</summary>
    EndToken,

    /// <summary>A stop string was completed.</summary>
    StopString,

    /// <summary>The maximum number of new tokens was reached.</summary>
    MaxTokens,

    /// <summary>The model's context is full.</summary>
    ContextFull,
}

/// <summary>One step of a generation.</summary>
/// <param name="Id">Id of the drawn token.</param>
/// <param name="Text">Text that is now certain. It may be empty; it never contains half a character or a part of a stop string.</param>
/// <param name="StopReason">The reason why the text ended; set on the last step only.</param>
public readonly record struct GeneratedToken(int Id, string Text, StopReason? StopReason)
{
    /// <summary>
    /// The log-probability of the token, and the most probable tokens; null unless <see cref="SamplingOptions.LogProbabilities"/> asks for them.
    /// </summary>
    public DrawnProbabilities? Probabilities { get; init; }

    /// <summary>The stop string that ended the text; null unless it ended with one.</summary>
    public string? StopString { get; init; }

    /// <summary>
    /// What the law read and did in the step that the token was drawn from; null unless <see cref="GenerationOptions.ShowsSteering"/> asks for it,
    /// and where the law left that step's token alone.
    /// </summary>
    public TokenSteering? Steering { get; init; }
}

/// <summary>Log-probabilities at a drawn token, by the model's softmax before bias, penalties and temperature.</summary>
/// <param name="LogProbability">Log-probability of the drawn token.</param>
/// <param name="MostProbable">The most probable tokens, as many as were asked for, in order of falling probability.</param>
public sealed record DrawnProbabilities(float LogProbability, IReadOnlyList<TokenProbability> MostProbable)
{
    /// <summary>The probabilities of a sampler's last draw; null if the options ask for none.</summary>
    internal static DrawnProbabilities? Of(Sampler sampler, SamplingOptions options) =>
        options.LogProbabilities is null ? null : new DrawnProbabilities(sampler.LogProbability, sampler.MostProbable.ToArray());
}
