using System.Collections.Concurrent;
using System.Text;
using Tiller.Checkpoint;

namespace Tiller.Tokens;

/// <summary>
/// Converts text to ids and ids to text, from a checkpoint's tokenizer.json alone, with the semantics of Hugging Face's tokenizers library: BPE,
/// Unigram, WordPiece and WordLevel, with its normalizers, pre-tokenizers, post-processors and decoders. Immutable and thread-safe. It is also a
/// tokenizer of Microsoft.ML.Tokenizers; its overridden members document the details that the base class leaves open.
/// </summary>
public sealed partial class Tokenizer : Microsoft.ML.Tokenizers.Tokenizer
{
    private const string FileName = "tokenizer.json";

    private readonly TokenizerFile _file;
    private readonly AddedTokens _raw; // searched for in the original text
    private readonly AddedTokens _normalized; // searched for in the normalised text
    private readonly int _rows = int.MaxValue; // rows of the embedding
    private readonly bool _strict;
    private readonly ConcurrentBag<EncodeState> _states = [];

    private Tokenizer(TokenizerFile file)
    {
        _file = file;
        (_normalizer, _preTokenizer) = NewStages();
        _raw = new AddedTokens(file.Added.Where(static x => !x.Normalized).Select(static x => (x.Content, x)));
        _normalized = new AddedTokens(Normalized());
    }

    private Tokenizer(Tokenizer other, int rows, bool strict)
    {
        (_file, _raw, _normalized, _rows, _strict) = (other._file, other._raw, other._normalized, rows, strict);
        (_normalizer, _preTokenizer) = NewStages();
    }

    /// <summary>
    /// Highest id + 1, including added tokens. An embedding may have more rows, or lack rows of added tokens (<see cref="ForEmbedding"/>).
    /// </summary>
    public int VocabularySize => Tokens.IdEnd;

    /// <summary>
    /// Peculiarities of the file, and how they were read: for example a merge that occurs twice, or one that would make a special token.
    /// </summary>
    public IReadOnlyList<string> Warnings => _file.Warnings;

    internal TokenTable Tokens => _file.Model.Tokens;

    /// <summary>Id of the unknown token, -1 if there is none. It may be a special token although plain text can become it.</summary>
    internal int UnknownId => _file.Model.UnknownId;

    /// <summary>
    /// Whether plain text never becomes a special token other than the unknown token. Models other than BPE find special tokens that are in their
    /// vocabulary.
    /// </summary>
    internal bool HidesSpecial => _file.Model is BpeModel;

    internal TokenDecoder Decoder => _file.Decoder;

    internal IReadOnlyList<AddedToken> Added => _file.Added;

    /// <summary>Ids that the post-processor adds before and after a text.</summary>
    internal (int[] Before, int[] After) Affixes => (_file.PostProcessor.Prefix, _file.PostProcessor.Suffix);

    /// <summary>
    /// Receives the number of steps of a call at every point where the call can be cancelled. Tests count with it, and cancel. Null for none.
    /// </summary>
    internal Action<long>? Watch { get; set; }

    /// <summary>Receives every text that loses characters, on the thread that encodes it. Null for none.</summary>
    internal Action<EncodedText>? Lost { get; set; }

    /// <summary>Loads the tokenizer of a checkpoint.</summary>
    /// <param name="directory">The folder, as for <see cref="CheckpointFolder.Open"/>, with a tokenizer.json of at most 128 MiB.</param>
    /// <param name="cancellationToken">Checked between tokens and merges.</param>
    /// <exception cref="TokenizerException">The file is missing, malformed, or of a kind that is not implemented.</exception>
    /// <exception cref="CheckpointException">A model's folder in the Hugging Face cache has no snapshot of main.</exception>
    public static Tokenizer Load(string directory, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(directory);
        directory = HubCache.Resolve(directory);
        return new Tokenizer(TokenizerFile.Load(Path.Combine(directory, FileName), cancellationToken));
    }

    internal static Tokenizer Parse(byte[] json, CancellationToken cancellationToken = default) => new(TokenizerFile.Parse(json, cancellationToken));

    /// <summary>Encodes a text.</summary>
    /// <param name="text">Any text without unpaired surrogates.</param>
    /// <param name="addSpecial">Whether to add the ids of the post-processor's template, for example the beginning-of-text id.</param>
    /// <param name="parseSpecial">
    /// Whether special tokens written in the text become their ids. By default they stay plain text, which text of users requires.
    /// </param>
    /// <param name="cancellationToken">Checked between words, and within long words.</param>
    /// <returns>Ids below <see cref="VocabularySize"/>. Characters without a token are left out; <see cref="EncodeText"/> returns them.</returns>
    /// <exception cref="TokenizerException">
    /// The text is not valid UTF-16, the vocabulary cannot express it (<see cref="ToStrict"/>), or it needs an added token without a row in the
    /// embedding.
    /// </exception>
    public int[] Encode(string text, bool addSpecial = true, bool parseSpecial = false, CancellationToken cancellationToken = default) =>
        EncodeText(text, addSpecial, parseSpecial, cancellationToken).Ids;

    /// <summary>Encodes a text as <see cref="Encode"/> does, and returns the characters that it lost.</summary>
    /// <param name="text">As for <see cref="Encode"/>.</param>
    /// <param name="addSpecial">As for <see cref="Encode"/>.</param>
    /// <param name="parseSpecial">As for <see cref="Encode"/>.</param>
    /// <param name="cancellationToken">As for <see cref="Encode"/>.</param>
    /// <exception cref="TokenizerException">As for <see cref="Encode"/>.</exception>
    public EncodedText EncodeText(string text, bool addSpecial = true, bool parseSpecial = false, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Run(text, state =>
        {
            if (addSpecial)
            {
                state.Scratch.Append(_file.PostProcessor.Prefix);
            }

            _raw.Split(state.Text.Span, 0, state.Text.Length, parseSpecial, state.Parts);
            EncodeParts(state, EncodeWay.OfText with { ParsesSpecial = parseSpecial });
            if (addSpecial)
            {
                state.Scratch.Append(_file.PostProcessor.Suffix);
            }
        }, cancellationToken);
    }

    /// <summary>Decodes ids.</summary>
    /// <param name="ids">Any ids; ids without a token add nothing. Bytes that are not UTF-8 become U+FFFD.</param>
    /// <param name="skipSpecial">Whether to leave out special tokens.</param>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecial = false)
    {
        TokenStream stream = NewStream(skipSpecial);
        foreach (int id in ids)
        {
            stream.Push(id);
        }

        return stream.Flush();
    }

    /// <summary>Starts to decode ids one by one.</summary>
    /// <param name="skipSpecial">Whether to leave out special tokens.</param>
    public TokenStream NewStream(bool skipSpecial = true) => new(this, skipSpecial);

    /// <summary>Whether an id is a special token: a control token, not text.</summary>
    public bool IsSpecial(int id) => _file.Model.Special.Contains(id);

    /// <summary>
    /// Finds the id of a token by its text in the vocabulary; the tokens of a byte-level model are written in the printable byte alphabet. Null if
    /// there is none.
    /// </summary>
    public int? IdOf(string token)
    {
        ArgumentNullException.ThrowIfNull(token);
        int id = Tokens.IdOf(token);
        return id >= 0 ? id : null;
    }

    /// <summary>The text of a token in the vocabulary.</summary>
    /// <exception cref="TokenizerException">No token has this id.</exception>
    public string TokenOf(int id) => Tokens.Contains(id)
        ? Tokens.StringOf(id)
        : throw new TokenizerException(TokenizerError.Range, "", $"{id}", $"no token has this id; the vocabulary ends at {VocabularySize}.");

    /// <summary>Whether an id is a token of the vocabulary; padding rows of the embedding are not.</summary>
    public bool HasToken(int id) => Tokens.Contains(id);

    /// <summary>The bytes that a token adds to a text that has already begun. A token may be a part of a character.</summary>
    /// <exception cref="TokenizerException">No token has this id.</exception>
    public byte[] BytesOf(int id)
    {
        string token = TokenOf(id);
        if (!Decode([id]).Contains('\uFFFD', StringComparison.Ordinal) || token.Contains('\uFFFD', StringComparison.Ordinal))
        {
            // A decoder may strip a space at the start of a text, or put a space between tokens: the difference between two tokens and one is the
            // token's text.
            return Encoding.UTF8.GetBytes(Decode([id, id])[Decode([id]).Length..]);
        }

        if (token is ['<', '0', 'x', _, _, '>'])
        {
            return [Convert.ToByte(token[3..5], 16)];
        }

        var bytes = new ByteBuffer();
        ByteAlphabet.Decode(Tokens.TextOf(id), bytes);
        return bytes.Span.ToArray();
    }

    /// <summary>
    /// Makes a copy of this tokenizer for an embedding. Added tokens may be beyond its rows, for example if a padding token was added without new
    /// weights. A text that needs one of them is an error when it is encoded.
    /// </summary>
    /// <param name="rows">Number of rows of the embedding.</param>
    /// <exception cref="TokenizerException">
    /// Range: a token that was not added has no row, so tokenizer and weights do not belong together.
    /// </exception>
    public Tokenizer ForEmbedding(int rows)
    {
        var added = _file.Added.Select(static x => x.Id).ToHashSet();
        for (int id = VocabularySize - 1; id >= rows; id--)
        {
            if (Tokens.Contains(id) && !added.Contains(id))
            {
                throw new TokenizerException(TokenizerError.Range, "$.model.vocab", $"{id}",
                    $"the embedding has {rows} rows, so ids must be below that; this tokenizer belongs to another model.");
            }
        }

        return new Tokenizer(this, rows, _strict);
    }

    /// <summary>
    /// Makes a copy of this tokenizer for which a text that would lose characters (<see cref="EncodedText.Dropped"/>) is an error,
    /// <see cref="TokenizerError.MissingByte"/>.
    /// </summary>
    public Tokenizer ToStrict() => new(this, _rows, strict: true);

    /// <summary>Encodes a text in which only marked positions are special tokens; all other text is plain.</summary>
    /// <param name="text">The whole text, including the text of the special tokens.</param>
    /// <param name="marks">Start in UTF-16 units and token of each special token, in ascending order.</param>
    /// <param name="cancellationToken">As for <see cref="Encode"/>.</param>
    internal int[] EncodeMarked(string text, IReadOnlyList<(int Start, AddedToken Token)> marks, CancellationToken cancellationToken)
        => Run(text, state =>
    {
        ReadOnlySpan<byte> utf8 = state.Text.Span;
        int from = 0;
        int at = 0;
        int chars = 0;
        foreach ((int start, AddedToken token) in marks)
        {
            at += Encoding.UTF8.GetByteCount(text.AsSpan(chars, start - chars));
            chars = start;
            int left = token.StripLeft ? Math.Max(AddedTokens.SpacesBefore(utf8, at), from) : at;
            _raw.Split(utf8, from, Math.Max(left, from), special: false, state.Parts);
            state.Parts.Add(new TextPart(left, at + token.Content.Length, token.Id));
            from = at + token.Content.Length;
            from = token.StripRight ? AddedTokens.SpacesAfter(utf8, from, utf8.Length) : from;
        }

        _raw.Split(utf8, from, utf8.Length, special: false, state.Parts);
        EncodeParts(state, EncodeWay.OfText);
    }, cancellationToken).Ids;

    /// <summary>Whether normalisation changes a text, so that it cannot be marked as a token in <see cref="EncodeMarked"/>.</summary>
    internal bool NormalizerChanges(byte[] text) => !_file.Normalizer.Apply(text, new ByteBuffer(), new ByteBuffer()).SequenceEqual(text);

    private List<(byte[] Text, AddedToken Token)> Normalized()
    {
        var result = new List<(byte[] Text, AddedToken Token)>();
        var seen = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (AddedToken token in _file.Added.Where(static x => x.Normalized))
        {
            byte[] text = _file.Normalizer.Apply(token.Content, new ByteBuffer(), new ByteBuffer()).ToArray();
            string name = Encoding.UTF8.GetString(token.Content);
            if (!seen.TryAdd(Encoding.UTF8.GetString(text), name))
            {
                throw new TokenizerException(TokenizerError.Duplicate, "$.added_tokens", name,
                    $"normalised, this token is the same as '{TokenizerException.Escape(seen[Encoding.UTF8.GetString(text)])}'.");
            }

            if (text.Length > 0)
            {
                result.Add((text, token));
            }
        }

        return result;
    }

    private EncodedText Run(ReadOnlySpan<char> text, Action<EncodeState> encode, CancellationToken cancellationToken)
    {
        if (!_states.TryTake(out EncodeState? state))
        {
            state = new EncodeState(_file.Model);
        }

        state.Begin(text);
        state.Steps.Begin(Watch, cancellationToken);
        encode(state);
        int[] ids = state.Scratch.Output.ToArray();
        string dropped = Dropped(state.Scratch.Dropped);
        state.End();
        _states.Add(state);
        int beyond = VocabularySize > _rows ? ids.AsSpan().IndexOfAnyExceptInRange(0, _rows - 1) : -1;
        if (beyond >= 0)
        {
            throw new TokenizerException(TokenizerError.Range, "", TokenOf(ids[beyond]),
                $"the text needs the added token {ids[beyond]}, but the embedding has {_rows} rows. Leave the token out, or load weights "
                + "that have it.");
        }

        if (dropped.Length > 0 && _strict)
        {
            throw new TokenizerException(TokenizerError.MissingByte, "", dropped,
                "the vocabulary has no token for bytes of these characters, so the text would lose them. Take them out of the text, "
                + "or leave LoadOptions.Strict off.");
        }

        var result = new EncodedText(ids, dropped);
        if (dropped.Length > 0)
        {
            Lost?.Invoke(result);
        }

        return result;
    }

    private static string Dropped(List<int> codes)
    {
        var text = new StringBuilder(codes.Count);
        foreach (int code in codes)
        {
            text.Append(new Rune(code).ToString());
        }

        return text.ToString();
    }

    private void EncodeParts(EncodeState state, EncodeWay way)
    {
        foreach (TextPart part in state.Parts)
        {
            ReadOnlySpan<byte> text = state.Text.Span[part.Start..part.End];
            int at = state.Whole?.Length ?? 0; // position in the normalised text
            if (part.Id >= 0)
            {
                state.Whole?.Append(text);
                state.AddToken(part.Id, at, at + text.Length);
                continue;
            }

            bool atStart = part.Start == 0;
            if (way.Normalizes)
            {
                text = _file.Normalizer.Apply(text, state.First, state.Second, out bool keepsStart);
                atStart &= keepsStart;
            }

            state.Whole?.Append(text);
            if (_normalized.IsEmpty)
            {
                _file.PreTokenizer.Encode(new Piece(text, at, atStart), state.Sink, way.Splits);
                continue;
            }

            state.Inner.Clear();
            _normalized.Split(text, 0, text.Length, way.ParsesSpecial, state.Inner);
            foreach (TextPart inner in state.Inner)
            {
                if (inner.Id >= 0)
                {
                    state.AddToken(inner.Id, at + inner.Start, at + inner.End);
                }
                else
                {
                    var piece = new Piece(text[inner.Start..inner.End], at + inner.Start, atStart && inner.Start == 0);
                    _file.PreTokenizer.Encode(piece, state.Sink, way.Splits);
                }
            }
        }
    }

    // The steps of encoding a text. If special tokens are not parsed, they are plain text.
    private readonly record struct EncodeWay(bool Normalizes, bool Splits, bool ParsesSpecial)
    {
        public static EncodeWay OfText { get; } = new(Normalizes: true, Splits: true, ParsesSpecial: false);
    }

    // Buffers of one call.
    private sealed class EncodeState
    {
        private const int Keep = 1 << 22;

        private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

        public EncodeState(TokenModel model)
        {
            Sink = new WordSink(Steps) { Model = model };
            (First, Second) = (NewBuffer(), NewBuffer());
        }

        public EncodeSteps Steps { get; } = new();

        public WordSink Sink { get; }

        public BpeScratch Scratch => Sink.Scratch;

        public ByteBuffer Text { get; private set; } = new();

        /// <summary>Receives the normalised text, if the call requests it.</summary>
        public ByteBuffer? Whole { get; set; }

        public ByteBuffer First { get; private set; }

        public ByteBuffer Second { get; private set; }

        public List<TextPart> Parts { get; } = [];

        public List<TextPart> Inner { get; } = [];

        public void Begin(ReadOnlySpan<char> text)
        {
            End();
            try
            {
                s_strict.GetBytes(text, Text.Grow(s_strict.GetByteCount(text)));
            }
            catch (EncoderFallbackException e)
            {
                throw new TokenizerException(TokenizerError.InvalidText, "", $"U+{(int)e.CharUnknown:X4}",
                    $"character {e.Index} of the text is half of a surrogate pair; give valid Unicode.", e);
            }
        }

        public void AddToken(int id, int start, int end)
        {
            if (Sink.Words is { } words)
            {
                words.Add(new TextRange(start, end));
            }
            else
            {
                Scratch.Append(id, start, end);
            }
        }

        public void End()
        {
            if (Text.Length > Keep)
            {
                (Text, First, Second) = (new(), NewBuffer(), NewBuffer());
                Sink.Trim();
            }

            Text.Length = 0;
            (Whole, Sink.Words, Sink.Enough) = (null, null, int.MaxValue);
            Parts.Clear();
            Scratch.Clear();
            Steps.Begin(watcher: null, default);
        }

        private ByteBuffer NewBuffer() => new() { Steps = Steps };
    }
}
