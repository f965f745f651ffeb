using System.Globalization;

namespace Tiller.Law;

/// <summary>Which tokens of a prompt a law steers.</summary>
public enum PromptTokens
{
    /// <summary>The last token.</summary>
    Last,

    /// <summary>Every token (A-LQR+).</summary>
    All,

    /// <summary>No token: steering begins with the first generated token that is appended.</summary>
    None,
}

/// <summary>
/// Which tokens of a sequence a law steers, and whether later tokens read the keys and values of steered tokens (docs/math.md §6). Tokens that are
/// appended several at once are a prompt. Tokens that are appended one by one are generated tokens, counted from 0 after the latest prompt.
/// </summary>
public sealed record SteeredTokens
{
    private readonly int[] _excludedPositions = [];
    private readonly int[] _excludedIds = [];

    /// <summary>Steers the prompt's last token and every generated token, as the paper does with cached decoding.</summary>
    public static SteeredTokens Last { get; } = new();

    /// <summary>Steers every token of the prompt and every generated token (A-LQR+).</summary>
    public static SteeredTokens All { get; } = new() { Prompt = PromptTokens.All };

    /// <summary>Steers only the prompt's last token.</summary>
    public static SteeredTokens First { get; } = new() { GeneratedEnd = 0 };

    /// <summary>Steers only the last token read; the plain model reads all tokens before it (<see cref="Clean"/>).</summary>
    public static SteeredTokens LastOverCleanPrefix { get; } = new() { Clean = true };

    /// <summary>Which tokens of a prompt are steered; default the last one.</summary>
    public PromptTokens Prompt { get; init; }

    /// <summary>The first generated token that is steered, counted from 0; default 0.</summary>
    public int GeneratedBegin { get; init; }

    /// <summary>One past the last generated token that is steered; default no end.</summary>
    public int GeneratedEnd { get; init; } = int.MaxValue;

    /// <summary>Positions that are not steered, counted from 0 at the beginning of the sequence; default none.</summary>
    public IReadOnlyList<int> ExcludedPositions
    {
        get => _excludedPositions;
        init => _excludedPositions = [.. value.Distinct().Order()];
    }

    /// <summary>
    /// Token ids that are not steered, such as those of a chat format; default none. With any, a device does not begin a step before the host knows
    /// its token.
    /// </summary>
    public IReadOnlyList<int> ExcludedIds
    {
        get => _excludedIds;
        init => _excludedIds = [.. value.Distinct().Order()];
    }

    /// <summary>
    /// Whether the keys and values of steered tokens are replaced by those of the plain model before the next token, so that later tokens do not read
    /// traces of steering. This costs a second pass for each token. Decoding without a cache is equivalent to it. The default, false, keeps the
    /// steered keys and values. Cannot be combined with <see cref="PromptTokens.All"/>.
    /// </summary>
    public bool Clean { get; init; }

    /// <summary>Whether steering depends on token ids.</summary>
    internal bool DependsOnIds => _excludedIds.Length > 0;

    /// <summary>Whether a token is steered.</summary>
    /// <param name="number">
    /// Index relative to the prompt's last token, which is 0; earlier tokens are negative, and the first generated token is 1.
    /// </param>
    /// <param name="position">Position in the sequence.</param>
    /// <param name="id">Token id.</param>
    public bool Steers(int number, int position, int id)
    {
        bool inPhase = number > 0
            ? number > GeneratedBegin && number <= GeneratedEnd
            : Prompt == PromptTokens.All || (Prompt == PromptTokens.Last && number == 0);
        return inPhase && Array.BinarySearch(_excludedPositions, position) < 0 && Array.BinarySearch(_excludedIds, id) < 0;
    }

    /// <inheritdoc/>
    public bool Equals(SteeredTokens? other) =>
        other is not null && (Prompt, GeneratedBegin, GeneratedEnd, Clean) == (other.Prompt, other.GeneratedBegin, other.GeneratedEnd, other.Clean)
        && _excludedPositions.AsSpan().SequenceEqual(other._excludedPositions) && _excludedIds.AsSpan().SequenceEqual(other._excludedIds);

    /// <inheritdoc/>
    public override int GetHashCode() =>
        HashCode.Combine(Prompt, GeneratedBegin, GeneratedEnd, Clean, _excludedPositions.Length, _excludedIds.Length);

    /// <summary>Name in reports: last, all, first or clean; for other choices, the settings in words.</summary>
    public override string ToString()
    {
        var whole = this with { ExcludedPositions = [], ExcludedIds = [] };
        string phase = whole == Last ? "last" : whole == All ? "all" : whole == First ? "first" : whole == LastOverCleanPrefix ? "clean"
            : string.Create(CultureInfo.InvariantCulture, $"prompt {Prompt.ToString().ToLowerInvariant()}, generated {GeneratedBegin} to ")
                + (GeneratedEnd == int.MaxValue ? "the end" : (GeneratedEnd - 1).ToString(CultureInfo.InvariantCulture))
                + (Clean ? ", clean" : "");
        string positions = _excludedPositions.Length > 0 ? $", not at {string.Join(' ', _excludedPositions)}" : "";
        return phase + positions + (_excludedIds.Length > 0 ? $", not of id {string.Join(' ', _excludedIds)}" : "");
    }

    /// <summary>Throws if the settings contradict each other.</summary>
    /// <exception cref="ArgumentException">
    /// All tokens of the prompt are steered over a clean prefix, or the window of generated tokens ends before it begins.
    /// </exception>
    internal void Check()
    {
        if (Clean && Prompt == PromptTokens.All)
        {
            throw new ArgumentException(
                "SteeredTokens.Clean reads the prefix by the plain model, so that steering every token of the prompt would be without effect. "
                + "Take SteeredTokens.Prompt = PromptTokens.Last, or leave SteeredTokens.Clean false.");
        }

        if (GeneratedBegin < 0 || GeneratedEnd < GeneratedBegin)
        {
            throw new ArgumentException(
                $"SteeredTokens.GeneratedBegin must be at least 0 and SteeredTokens.GeneratedEnd no less, got {GeneratedBegin} and {GeneratedEnd}.");
        }
    }
}

/// <summary>A law that steers a sequence, with its choice of tokens.</summary>
/// <param name="State">State of the law; null for the plain model.</param>
/// <param name="Tokens">Which tokens the law steers.</param>
/// <param name="PromptEnd">Position of the prompt's last token; −1 if there is no prompt.</param>
internal readonly record struct SteeredSequence(SteeringState? State, SteeredTokens Tokens, int PromptEnd)
{
    /// <summary>Whether each steered token of a prompt needs a pass of its own, because the law reads errors of the previous steered token.</summary>
    public bool OneByOne => State is { Law.LooksBack: true } && Tokens.Prompt == PromptTokens.All;

    /// <summary>The state that steers a token; null if the token is not steered.</summary>
    public SteeringState? At(int position, int id) => State is not null && Tokens.Steers(position - PromptEnd, position, id) ? State : null;
}
