using System.Globalization;

namespace Tiller.Law;

/// <summary>Which tokens of a prompt a law moves.</summary>
public enum PromptTokens
{
    /// <summary>The last one.</summary>
    Last,

    /// <summary>Every one (A-LQR+).</summary>
    All,

    /// <summary>None: steering begins with the first generated token that is read.</summary>
    None,
}

/// <summary>
/// Which tokens of a sequence a law moves, and what the law left in the keys and values of those before (docs/math.md §6). A prompt is what is
/// appended several tokens at once; tokens that are appended one by one are generated ones, counted from 0 after the prompt that came last.
/// </summary>
public sealed record SteeredTokens
{
    private readonly int[] _excludedPositions = [];
    private readonly int[] _excludedIds = [];

    /// <summary>The prompt's last token and every generated one, as the paper does with cached decoding.</summary>
    public static SteeredTokens Last { get; } = new();

    /// <summary>Every prompt token too (A-LQR+).</summary>
    public static SteeredTokens All { get; } = new() { Prompt = PromptTokens.All };

    /// <summary>The prompt's last token alone.</summary>
    public static SteeredTokens First { get; } = new() { GeneratedEnd = 0 };

    /// <summary>The last token of whatever has been read, over a prefix that the plain model read: <see cref="Clean"/>.</summary>
    public static SteeredTokens LastOverCleanPrefix { get; } = new() { Clean = true };

    /// <summary>Which tokens of a prompt; default the last one.</summary>
    public PromptTokens Prompt { get; init; }

    /// <summary>The first generated token that is moved, counted from 0; default 0.</summary>
    public int GeneratedBegin { get; init; }

    /// <summary>One past the last generated token that is moved; default no end.</summary>
    public int GeneratedEnd { get; init; } = int.MaxValue;

    /// <summary>Positions that are left alone, counted from 0 at the beginning of the sequence; default none.</summary>
    public IReadOnlyList<int> ExcludedPositions
    {
        get => _excludedPositions;
        init => _excludedPositions = [.. value.Distinct().Order()];
    }

    /// <summary>
    /// Token ids that are left alone, such as those of a format; default none. With any, a device does not begin a step before the host knows its
    /// token.
    /// </summary>
    public IReadOnlyList<int> ExcludedIds
    {
        get => _excludedIds;
        init => _excludedIds = [.. value.Distinct().Order()];
    }

    /// <summary>
    /// Whether a steered token leaves no trace in what later ones read: its keys and values are made again by the plain model before the next
    /// token, which costs a second pass for each. Code that decodes without a cache does this; the default, false, keeps what steering did to them.
    /// It goes with <see cref="Prompt"/> other than all.
    /// </summary>
    public bool Clean { get; init; }

    /// <summary>Whether the id of a token decides if it is moved.</summary>
    internal bool DependsOnIds => _excludedIds.Length > 0;

    /// <summary>Whether a token is moved.</summary>
    /// <param name="number">Which it is, counted from the prompt's last token, which is 0; earlier ones are negative, and 1 is the first generated
    /// one.</param>
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

    /// <summary>How results name it: last, all, first or clean, or the parts one by one.</summary>
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

    /// <summary>Refuses what contradicts itself.</summary>
    /// <exception cref="ArgumentException">A clean prefix with every token of the prompt steered, or a window that ends before it begins.</exception>
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

/// <summary>A law at work in a sequence with the tokens that it moves.</summary>
/// <param name="State">The law; null for the plain model.</param>
/// <param name="Tokens">Which tokens.</param>
/// <param name="PromptEnd">Position of the prompt's last token; −1 before any.</param>
internal readonly record struct SteeredSequence(SteeringState? State, SteeredTokens Tokens, int PromptEnd)
{
    /// <summary>Whether steered rows of a prompt must be passes of their own, each reading what the one before left.</summary>
    public bool OneByOne => State is { Law.LooksBack: true } && Tokens.Prompt == PromptTokens.All;

    /// <summary>What moves a token; null where it is left alone.</summary>
    public SteeringState? At(int position, int id) => State is not null && Tokens.Steers(position - PromptEnd, position, id) ? State : null;
}
