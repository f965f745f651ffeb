using System.Buffers;
using System.Text;
using Microsoft.ML.Tokenizers;

namespace Tiller.Tokens;

// The members that Microsoft.ML.Tokenizers requires of a tokenizer.
public sealed partial class Tokenizer
{
    private readonly NormalizerOfFile? _normalizer;
    private readonly PreTokenizerOfFile? _preTokenizer;

    /// <summary>The file's normalizer, which leaves added tokens in the text unchanged. Null if the file has none.</summary>
    public override Normalizer? Normalizer => _normalizer;

    /// <summary>The file's pre-tokenizer, which splits normalised text into words; added tokens are words too. Null if the file has none.</summary>
    public override Microsoft.ML.Tokenizers.PreTokenizer? PreTokenizer => _preTokenizer;

    /// <summary>
    /// Encodes a text as <see cref="Encode"/> does without template and without special tokens, and gives the range of each token. Ranges refer to
    /// the normalised text. They cover it, except for text that the pre-tokenizer removes and for text that the vocabulary cannot express
    /// (<see cref="EncodedText.Dropped"/>). Tokens that share a character all have that character's range. Text that the tokenizer inserts has an
    /// empty range.
    /// </summary>
    /// <param name="text">Any text without unpaired surrogates.</param>
    /// <param name="textSpan">The text, if <paramref name="text"/> is null.</param>
    /// <param name="settings">
    /// Without pre-tokenization, the text is one word for the model. The result has at most MaxTokenCount tokens and does not end within a character.
    /// </param>
    /// <returns>
    /// The tokens; the normalised text, if the file has a normalizer and the settings request it; and the length of the text that the tokens cover.
    /// </returns>
    /// <exception cref="TokenizerException">As for <see cref="Encode"/>.</exception>
    /// <exception cref="ArgumentOutOfRangeException">MaxTokenCount is below 1.</exception>
    protected override EncodeResults<EncodedToken> EncodeToTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        PlacedIds all = Place(text ?? textSpan, settings);
        int count = all.CountFromStart(settings.MaxTokenCount);
        var tokens = new EncodedToken[count];
        for (int i = 0; i < count; i++)
        {
            tokens[i] = new EncodedToken(all.Ids[i], TokenOf(all.Ids[i]), all.Places[i].Start..all.Places[i].End);
        }

        return new EncodeResults<EncodedToken> { Tokens = tokens, NormalizedText = all.NormalizedText, CharsConsumed = all.EndOf(count) };
    }

    /// <summary>Encodes a text as <c>EncodeToTokens</c> does, but gives only the ids.</summary>
    /// <param name="text">As for <c>EncodeToTokens</c>.</param>
    /// <param name="textSpan">As for <c>EncodeToTokens</c>.</param>
    /// <param name="settings">As for <c>EncodeToTokens</c>.</param>
    /// <exception cref="TokenizerException">As for <see cref="Encode"/>.</exception>
    /// <exception cref="ArgumentOutOfRangeException">MaxTokenCount is below 1.</exception>
    protected override EncodeResults<int> EncodeToIds(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        ReadOnlySpan<char> chars = text ?? textSpan;
        if (settings.MaxTokenCount == int.MaxValue)
        {
            int[] ids = EncodePlain(chars, settings, out string? normalizedText);
            return new EncodeResults<int> { Tokens = ids, NormalizedText = normalizedText, CharsConsumed = normalizedText?.Length ?? chars.Length };
        }

        PlacedIds all = Place(chars, settings);
        int count = all.CountFromStart(settings.MaxTokenCount);
        return new EncodeResults<int> { Tokens = all.Ids[..count], NormalizedText = all.NormalizedText, CharsConsumed = all.EndOf(count) };
    }

    /// <summary>Counts the tokens of <c>EncodeToIds</c>.</summary>
    /// <param name="text">As for <c>EncodeToTokens</c>.</param>
    /// <param name="textSpan">As for <c>EncodeToTokens</c>.</param>
    /// <param name="settings">As for <c>EncodeToTokens</c>.</param>
    /// <exception cref="TokenizerException">As for <see cref="Encode"/>.</exception>
    /// <exception cref="ArgumentOutOfRangeException">MaxTokenCount is below 1.</exception>
    protected override int CountTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings) =>
        settings.MaxTokenCount == int.MaxValue
            ? EncodePlain(text ?? textSpan, settings, out _).Length
            : Place(text ?? textSpan, settings).CountFromStart(settings.MaxTokenCount);

    /// <summary>Finds where to cut a text so that it has at most the given number of tokens. Characters are not cut.</summary>
    /// <param name="text">As for <c>EncodeToTokens</c>.</param>
    /// <param name="textSpan">As for <c>EncodeToTokens</c>.</param>
    /// <param name="settings">As for <c>EncodeToTokens</c>.</param>
    /// <param name="fromEnd">Whether to keep the last tokens instead of the first.</param>
    /// <param name="normalizedText">The normalised text that the index refers to; null if it is the given text.</param>
    /// <param name="tokenCount">Number of tokens that are kept.</param>
    /// <returns>End of the kept text, or, if <paramref name="fromEnd"/>, its start.</returns>
    /// <exception cref="TokenizerException">As for <see cref="Encode"/>.</exception>
    /// <exception cref="ArgumentOutOfRangeException">MaxTokenCount is below 1.</exception>
    protected override int GetIndexByTokenCount(
        string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings, bool fromEnd, out string? normalizedText, out int tokenCount)
    {
        PlacedIds all = Place(text ?? textSpan, settings, whole: fromEnd);
        normalizedText = all.NormalizedText;
        tokenCount = fromEnd ? all.CountFromEnd(settings.MaxTokenCount) : all.CountFromStart(settings.MaxTokenCount);
        return fromEnd ? all.StartOfLast(tokenCount) : all.EndOf(tokenCount);
    }

    /// <summary>Decodes ids, including special tokens, as <see cref="Decode(ReadOnlySpan{int}, bool)"/> does.</summary>
    /// <param name="ids">Any ids; ids without a token add nothing. Bytes that are not UTF-8 become U+FFFD.</param>
    public override string Decode(IEnumerable<int> ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return Decode([.. ids], skipSpecial: false);
    }

    /// <summary>Decodes ids, including special tokens, into given memory.</summary>
    /// <param name="ids">As for <see cref="Decode(IEnumerable{int})"/>.</param>
    /// <param name="destination">
    /// Receives the text of the first <paramref name="idsConsumed"/> ids, which is the beginning of the text of all ids.
    /// </param>
    /// <param name="idsConsumed">The number of all ids, or of those whose text fits.</param>
    /// <param name="charsWritten">Length of the written text in UTF-16 units.</param>
    /// <returns>Done or DestinationTooSmall. The remaining ids, decoded separately, are a text with a beginning of its own.</returns>
    public override OperationStatus Decode(IEnumerable<int> ids, Span<char> destination, out int idsConsumed, out int charsWritten)
    {
        ArgumentNullException.ThrowIfNull(ids);
        int[] all = [.. ids];
        string whole = Decode(all, skipSpecial: false);
        idsConsumed = whole.Length <= destination.Length ? all.Length : Fitting(all, whole, destination.Length);
        string text = idsConsumed == all.Length ? whole : Decode(all.AsSpan(0, idsConsumed), skipSpecial: false);
        text.CopyTo(destination);
        charsWritten = text.Length;
        return idsConsumed == all.Length ? OperationStatus.Done : OperationStatus.DestinationTooSmall;
    }

    // The largest number of ids whose text fits and is the beginning of the whole text. A text that ends in half a character, which becomes U+FFFD,
    // is not.
    private int Fitting(ReadOnlySpan<int> ids, string whole, int room)
    {
        TokenStream stream = NewStream(skipSpecial: false);
        int count = 0;
        for (int length = 0; count < ids.Length; count++)
        {
            length += stream.Append(ids[count]).Length;
            if (length > room)
            {
                break;
            }
        }

        while (count > 0)
        {
            string text = Decode(ids[..count], skipSpecial: false);
            if (text.Length <= room && count < ids.Length && whole.StartsWith(text, StringComparison.Ordinal))
            {
                break;
            }

            count--;
        }

        return count;
    }

    private (NormalizerOfFile? Normalizer, PreTokenizerOfFile? PreTokenizer) NewStages() =>
        (_file.Normalizer.IsEmpty ? null : new NormalizerOfFile(this), _file.PreTokenizer is { IsEmpty: true, ByteLevel: false }
            ? null
            : new PreTokenizerOfFile(this));

    private int[] EncodePlain(ReadOnlySpan<char> text, EncodeSettings settings, out string? normalizedText)
    {
        string? result = null;
        int[] ids = Run(text, state =>
        {
            bool normalizes = settings.ConsiderNormalization && _normalizer is not null;
            state.Whole = normalizes ? new ByteBuffer() : null;
            EncodeLiteral(state, settings.ConsiderNormalization, settings.ConsiderPreTokenization);
            result = normalizes ? Encoding.UTF8.GetString(state.Whole!.Span) : null;
        }, CancellationToken.None).Ids;
        normalizedText = result;
        return ids;
    }

    private PlacedIds Place(ReadOnlySpan<char> text, EncodeSettings settings, bool whole = false)
    {
        if (settings.MaxTokenCount < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(settings), settings.MaxTokenCount, "MaxTokenCount must be at least 1.");
        }

        List<TextRange> places = [];
        var normalizedText = new ByteBuffer();
        int[] ids = Run(text, state =>
        {
            state.Whole = normalizedText;
            state.Scratch.Places = places;

            // One id more, to see whether it shares a character with the ids before it.
            state.Sink.Enough = whole || settings.MaxTokenCount == int.MaxValue ? int.MaxValue : settings.MaxTokenCount + 1;
            EncodeLiteral(state, settings.ConsiderNormalization, settings.ConsiderPreTokenization);
        }, CancellationToken.None).Ids;
        string? given = settings.ConsiderNormalization && _normalizer is not null ? Encoding.UTF8.GetString(normalizedText.Span) : null;
        return new PlacedIds(ids, PlacedIds.InChars(normalizedText.Span, places), given, given?.Length ?? text.Length);
    }

    private List<TextRange> WordsOf(ReadOnlySpan<char> text)
    {
        List<TextRange> words = [];
        Run(text, state =>
        {
            (state.Sink.Words, state.Whole) = (words, new ByteBuffer());
            EncodeLiteral(state, normalizes: false, splits: true);
            words = PlacedIds.InChars(state.Whole.Span, words);
        }, CancellationToken.None);
        return words;
    }

    private string NormalizedText(ReadOnlySpan<char> text)
    {
        string result = "";
        Run(text, state =>
        {
            (state.Sink.Words, state.Whole) = ([], new ByteBuffer());
            EncodeLiteral(state, normalizes: true, splits: false);
            result = Encoding.UTF8.GetString(state.Whole.Span);
        }, CancellationToken.None);
        return result;
    }

    private void EncodeLiteral(EncodeState state, bool normalizes, bool splits)
    {
        _raw.Split(state.Text.Span, 0, state.Text.Length, special: false, state.Parts);
        EncodeParts(state, new EncodeWay(normalizes, splits, ParsesSpecial: false));
    }

    // Ids, and their ranges in the normalised text, in UTF-16 units.
    private sealed record PlacedIds(int[] Ids, List<TextRange> Places, string? NormalizedText, int Length)
    {
        public static List<TextRange> InChars(ReadOnlySpan<byte> utf8, List<TextRange> places)
        {
            // By byte: start and end of its character.
            var starts = new int[utf8.Length + 1];
            var ends = new int[utf8.Length + 1];
            int chars = 0;
            for (int i = 0; i < utf8.Length;)
            {
                CharClasses.CodeAt(utf8, i, out int length);
                int units = length == 4 ? 2 : 1;
                starts.AsSpan(i, length).Fill(chars);
                ends.AsSpan(i, length).Fill(chars + units);
                chars += units;
                i += length;
            }

            starts[utf8.Length] = chars;
            return places.ConvertAll(x => new TextRange(starts[x.Start], x.Start < x.End ? ends[x.End - 1] : starts[x.Start]));
        }

        public int CountFromStart(int most)
        {
            int count = Math.Min(most, Ids.Length);
            while (count > 0 && count < Ids.Length && Places[count].Start < Places[count - 1].End)
            {
                count--;
            }

            return count;
        }

        public int CountFromEnd(int most)
        {
            int count = Math.Min(most, Ids.Length);
            while (count > 0 && count < Ids.Length && Places[^count].Start < Places[^(count + 1)].End)
            {
                count--;
            }

            return count;
        }

        public int EndOf(int count) => count == Ids.Length ? Length : count > 0 ? Places[count - 1].End : 0;

        public int StartOfLast(int count) => count == Ids.Length ? 0 : count > 0 ? Places[^count].Start : Length;
    }

    private sealed class NormalizerOfFile(Tokenizer tokenizer) : Normalizer
    {
        public override string Normalize(string original)
        {
            ArgumentNullException.ThrowIfNull(original);
            return tokenizer.NormalizedText(original);
        }

        public override string Normalize(ReadOnlySpan<char> original) => tokenizer.NormalizedText(original);
    }

    private sealed class PreTokenizerOfFile(Tokenizer tokenizer) : Microsoft.ML.Tokenizers.PreTokenizer
    {
        public override IEnumerable<(int Offset, int Length)> PreTokenize(string text)
        {
            ArgumentNullException.ThrowIfNull(text);
            return tokenizer.WordsOf(text).Select(static x => (x.Start, x.End - x.Start));
        }

        public override IEnumerable<(int Offset, int Length)> PreTokenize(ReadOnlySpan<char> text) =>
            tokenizer.WordsOf(text).Select(static x => (x.Start, x.End - x.Start));
    }
}
