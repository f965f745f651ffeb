using System.Text;
using System.Text.Json;

namespace Tiller.Tokens;

/// <summary>
/// Reads the model of tokenizer.json: first the vocabulary directly from the bytes, without a string for each token, then the rest, which depends on
/// the model's kind.
/// </summary>
internal sealed class ModelReader(byte[] json, CancellationToken cancellationToken)
{
    private const string Supported = "BPE, Unigram, WordPiece, WordLevel";

    private readonly TokenTable _tokens = new();
    private readonly List<string> _warnings = [];
    private readonly HashSet<int> _addedOnly = []; // added tokens that are not in the model's own vocabulary
    private readonly List<double> _scores = []; // scores of Unigram, by id
    private string _kind = "";
    private int _modelStart;
    private Dictionary<string, Range> _slices = [];

    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>The vocabulary, including the added tokens.</summary>
    public TokenTable Tokens => _tokens;

    /// <summary>Ids of special tokens; set by <see cref="Finish"/>.</summary>
    public HashSet<int> Special { get; private set; } = [];

    /// <summary>
    /// By id: whether plain text never becomes this token, because it is special or was added without being a token of the model. Empty if there are
    /// no such tokens.
    /// </summary>
    public bool[] Hidden => _addedOnly.Count + Special.Count == 0
        ? []
        : [.. Enumerable.Range(0, _tokens.IdEnd).Select(x => _addedOnly.Contains(x) || Special.Contains(x))];

    public CancellationToken CancellationToken => cancellationToken;

    /// <summary>Reads the vocabulary, and records where the other properties are.</summary>
    public void ReadVocabulary(Range range)
    {
        _modelStart = range.Start.Value;
        _slices = TokenizerFile.Slices(json.AsSpan(range), "$.model");
        TokenizerNode type = Node("type");
        _kind = type.TextOrNull() ?? "BPE"; // the oldest files omit it
        if (_kind is not ("BPE" or "Unigram" or "WordPiece" or "WordLevel"))
        {
            throw type.Unsupported(_kind, Supported);
        }

        if (!_slices.ContainsKey("vocab") || (_kind == "BPE" && !_slices.ContainsKey("merges")))
        {
            string expected = _kind == "BPE" ? "vocab/merges: expected both" : "vocab";
            throw new TokenizerException(TokenizerError.MissingVocabulary, "$.model", null, $"Missing {expected}.");
        }

        if (_kind == "Unigram")
        {
            ReadScores();
            return;
        }

        Utf8JsonReader reader = Reader("vocab", JsonTokenType.StartObject, "an object of token: id");
        var scratch = new byte[256];
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ReadOnlySpan<byte> text = TextOf(ref reader, ref scratch);
            reader.Read();
            if (reader.TokenType != JsonTokenType.Number)
            {
                throw Error(TokenizerError.Schema, "$.model.vocab", text, "expected a number as the id of this token.");
            }

            if (!reader.TryGetInt32(out int id) || id < 0 || id >= TokenTable.IdLimit)
            {
                throw Error(TokenizerError.Range, "$.model.vocab", text,
                    $"expected a whole number below {TokenTable.IdLimit} as the id of this token.");
            }

            if (_tokens.IdOf(text) >= 0)
            {
                throw Error(TokenizerError.Duplicate, "$.model.vocab", text, "this token occurs twice.");
            }

            CheckFree(text, id, "$.model.vocab");
            _tokens.Add(text, id);
        }
    }

    /// <summary>Reads the rest of the model, and makes it.</summary>
    /// <param name="byteLevel">Whether words come as raw bytes, which the model reads in <see cref="ByteAlphabet"/>. Only BPE can.</param>
    /// <param name="special">Ids of special tokens.</param>
    public TokenModel Finish(bool byteLevel, HashSet<int> special)
    {
        Special = special;
        return _kind switch
        {
            "BPE" => new BpeModelReader(this).Read(byteLevel),
            "Unigram" => UnigramModel.Read(this, [.. _scores]),
            "WordPiece" => WordPieceModel.Read(this),
            _ => WordLevelModel.Read(this),
        };
    }

    /// <summary>Whether the model can take words as raw bytes.</summary>
    public bool TakesBytes => _kind == "BPE" && !Node("byte_fallback").Flag(absent: false);

    /// <summary>Id of the token that unk_token names; throws if there is none.</summary>
    public int UnknownId(string absent)
    {
        TokenizerNode node = Node("unk_token");
        string name = node.TextOrNull() ?? absent;
        int id = InModel(_tokens.IdOf(name));
        return id >= 0 ? id : throw new TokenizerException(TokenizerError.UnknownToken, node.Path, name,
            "the unknown token is not in the vocabulary.");
    }

    /// <summary>Ids of <c>&lt;0xNN&gt;</c> by byte // (256), -1 for none.</summary>
    public int[] ByteTokens() => [.. Enumerable.Range(0, 256).Select(b => InModel(_tokens.IdOf(ByteToken.Name(b))))];

    /// <summary>Adds a token of added_tokens: a new one, or one that the vocabulary has under the same id.</summary>
    public void AddToken(ReadOnlySpan<byte> text, int id, string path)
    {
        int known = _tokens.IdOf(text);
        if (known == id)
        {
            return;
        }

        if (known >= 0)
        {
            throw Error(TokenizerError.AddedTokenMismatch, path, text, $"the vocabulary has this token under id {known}, here it has id {id}.");
        }

        CheckFree(text, id, path);
        _tokens.Add(text, id);
        _addedOnly.Add(id);
    }

    // [["▁the", -3.5], …]; the index is the id.
    private void ReadScores()
    {
        Utf8JsonReader reader = Reader("vocab", JsonTokenType.StartArray, "an array of [token, score]");
        var scratch = new byte[256];
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int id = _scores.Count;
            string path = $"$.model.vocab[{id}]";
            if (reader.TokenType != JsonTokenType.StartArray || !reader.Read() || reader.TokenType != JsonTokenType.String)
            {
                throw Error(TokenizerError.Schema, path, default, "expected [token, score].");
            }

            ReadOnlySpan<byte> text = TextOf(ref reader, ref scratch);
            if (id >= TokenTable.IdLimit)
            {
                throw Error(TokenizerError.Range, path, text, $"a vocabulary has at most {TokenTable.IdLimit} tokens.");
            }

            if (_tokens.IdOf(text) >= 0)
            {
                throw Error(TokenizerError.Duplicate, path, text, "this token occurs twice.");
            }

            _tokens.Add(text, id);
            if (!reader.Read() || reader.TokenType != JsonTokenType.Number || !reader.TryGetDouble(out double score) || !double.IsFinite(score)
                || !reader.Read() || reader.TokenType != JsonTokenType.EndArray)
            {
                throw Error(TokenizerError.Schema, path, _tokens.TextOf(id), "expected [token, score] with a finite score.");
            }

            _scores.Add(score);
        }
    }

    /// <summary>The text of a string in the file, without escapes.</summary>
    public static ReadOnlySpan<byte> TextOf(scoped ref Utf8JsonReader reader, scoped ref byte[] scratch)
    {
        if (!reader.ValueIsEscaped)
        {
            return reader.ValueSpan;
        }

        if (scratch.Length < reader.ValueSpan.Length)
        {
            scratch = new byte[reader.ValueSpan.Length * 2];
        }

        return scratch.AsSpan(0, reader.CopyString(scratch));
    }

    public static TokenizerException Error(TokenizerError code, string path, ReadOnlySpan<byte> value, string message) =>
        new(code, path, Encoding.UTF8.GetString(value), message);

    /// <summary>Adds a warning.</summary>
    public void Warn(string warning) => _warnings.Add(warning);

    /// <summary>Size of a property in the file, in bytes.</summary>
    public int SizeOf(string name) => _slices[name].End.Value - _slices[name].Start.Value;

    /// <summary>A property of the model.</summary>
    public TokenizerNode Node(string name) =>
        TokenizerNode.Parse(_slices.TryGetValue(name, out Range range) ? Slice(range) : "null"u8.ToArray(), $"$.model.{name}");

    private ReadOnlyMemory<byte> Slice(Range range) => json.AsMemory(_modelStart + range.Start.Value, range.End.Value - range.Start.Value);

    /// <summary>Makes a reader that has just read the first token of a property.</summary>
    public Utf8JsonReader Reader(string name, JsonTokenType start, string expected)
    {
        var reader = new Utf8JsonReader(Slice(_slices[name]).Span);
        return reader.Read() && reader.TokenType == start
            ? reader
            : throw new TokenizerException(TokenizerError.Schema, $"$.model.{name}", null, $"expected {expected}.");
    }

    private void CheckFree(ReadOnlySpan<byte> text, int id, string path)
    {
        if (_tokens.Contains(id))
        {
            throw Error(TokenizerError.Duplicate, path, text, $"id {id} already belongs to '{TokenizerException.Escape(_tokens.StringOf(id))}'.");
        }
    }

    /// <summary>The id if it is in the model's own vocabulary, else -1.</summary>
    public int InModel(int id) => _addedOnly.Contains(id) ? -1 : id;
}
