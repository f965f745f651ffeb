using Tiller.Law;
using Tiller.Model;

namespace Tiller.Decode;

/// <summary>How a text is continued.</summary>
public sealed record GenerationOptions
{
    /// <summary>Most new tokens; default 128.</summary>
    public int MaxNewTokens { get; init; } = 128;

    /// <summary>How each token is drawn; default greedy. Without a seed each generation draws its own (<see cref="Generation.Seed"/>).</summary>
    public SamplingOptions Sampling { get; init; } = new();

    /// <summary>Steers the text; null (default) for the plain model.</summary>
    public FeedbackLaw? Law { get; init; }

    /// <summary>Which tokens the law moves; default the prompt's last and every new one.</summary>
    public SteeredTokens SteeredTokens { get; init; } = SteeredTokens.Last;

    /// <summary>Strings that end the text and are not part of it; default none.</summary>
    public StopStrings StopStrings { get; init; } = StopStrings.None;

    /// <summary>Ids that end the text; null (default) takes the model's (<see cref="LanguageModel.EndIds"/>), of plain texts and of chats.</summary>
    public IReadOnlyList<int>? StopIds { get; init; }

    /// <summary>Filled with what the law read and did; null (default) for no trace. Needs <see cref="Law"/>.</summary>
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

    /// <summary>As many tokens as asked for.</summary>
    MaxTokens,

    /// <summary>The model's context is full.</summary>
    ContextFull,
}

/// <summary>One step of a generation.</summary>
/// <param name="Id">Token drawn.</param>
/// <param name="Text">Text that is certain now: possibly empty, never half a character, never part of a stop string.</param>
/// <param name="StopReason">Set on the last step.</param>
public readonly record struct GeneratedToken(int Id, string Text, StopReason? StopReason)
{
    /// <summary>
    /// How probable it was, and the most probable tokens; null unless <see cref="SamplingOptions.LogProbabilities"/> asks for them.
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

/// <summary>How probable a drawn token was, under the model's softmax before bias, penalties and temperature.</summary>
/// <param name="LogProbability">Of the drawn token.</param>
/// <param name="MostProbable">As many of the most probable tokens as were asked for, falling.</param>
public sealed record DrawnProbabilities(float LogProbability, IReadOnlyList<TokenProbability> MostProbable)
{
    /// <summary>Those of a sampler's last draw; null if it was asked for none.</summary>
    internal static DrawnProbabilities? Of(Sampler sampler, SamplingOptions options) =>
        options.LogProbabilities is null ? null : new DrawnProbabilities(sampler.LogProbability, sampler.MostProbable.ToArray());
}
