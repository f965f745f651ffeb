using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using Tiller.Checkpoint;

namespace Tiller.Tokens;

/// <summary>Reads tokenizer.json: the large parts in one pass over the bytes, the small parts as JSON documents.</summary>
internal sealed class TokenizerFile
{
    private const int LargestFile = 128 << 20;
    private const int LongestAdded = 1024;
    private const int Depth = 64;
    private const int LargestFixedLength = int.MaxValue;

    private readonly byte[] _json;
    private readonly ModelReader _model;

    private TokenizerFile(byte[] json, CancellationToken cancellationToken)
    {
        _json = json;
        _model = new ModelReader(json, cancellationToken);
    }

    public TokenModel Model { get; private set; } = null!;

    public TextNormalizer Normalizer { get; private set; } = null!;

    public PreTokenizer PreTokenizer { get; private set; } = null!;

    public PostProcessor PostProcessor { get; private set; } = null!;

    public TokenDecoder Decoder { get; private set; } = null!;

    public IReadOnlyList<AddedToken> Added { get; private set; } = [];

    public IReadOnlyList<string> Warnings => _model.Warnings;

    public static TokenizerFile Load(string path, CancellationToken cancellationToken)
    {
        byte[] bytes;
        try
        {
            bytes = BoundedFile.Read(path, LargestFile, size =>
                new TokenizerException(TokenizerError.Limit, "", path, $"the file has {size} bytes; at most {LargestFile} can be read."));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new TokenizerException(TokenizerError.Io, "", path,
                $"expected a readable tokenizer.json: {e.Message} Give the folder of a Hugging Face checkpoint.", e);
        }

        return Parse(bytes, cancellationToken);
    }

    public static TokenizerFile Parse(byte[] bytes, CancellationToken cancellationToken)
    {
        if (!Utf8.IsValid(bytes))
        {
            throw new TokenizerException(TokenizerError.Json, "$", null, "the file is not valid UTF-8.");
        }

        try
        {
            var file = new TokenizerFile(bytes, cancellationToken);
            file.Read();
            return file;
        }
        catch (JsonException e)
        {
            throw new TokenizerException(TokenizerError.Json, "$", null, $"not valid JSON: {e.Message}", e);
        }
        catch (InvalidOperationException e)
        {
            throw new TokenizerException(TokenizerError.Json, "$", null,
                $"a string holds half of a surrogate pair, which is not a character: {e.Message}", e);
        }
    }

    /// <summary>Finds the ranges of an object's property values. A property that occurs twice is an error.</summary>
    public static Dictionary<string, Range> Slices(ReadOnlySpan<byte> text, string path)
    {
        var reader = new Utf8JsonReader(text, new JsonReaderOptions { MaxDepth = Depth });
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            throw new TokenizerException(TokenizerError.Schema, path, null, "expected an object.");
        }

        var slices = new Dictionary<string, Range>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            int start = (int)reader.TokenStartIndex;
            reader.Skip();
            if (!slices.TryAdd(name, start..(int)reader.BytesConsumed))
            {
                throw new TokenizerException(TokenizerError.Duplicate, path, name, "this key occurs twice.");
            }
        }

        reader.Read(); // rejects data after the object
        return slices;
    }

    private void Read()
    {
        Dictionary<string, Range> slices = Slices(_json, "$");
        TokenizerNode Node(string name) =>
            TokenizerNode.Parse(slices.TryGetValue(name, out Range range) ? _json.AsMemory()[range] : "null"u8.ToArray(), $"$.{name}");

        TokenizerNode version = Node("version");
        if (version.TextOrNull() is { } number && number != "1.0")
        {
            throw version.Unsupported(number, "version 1.0");
        }

        CheckLengths(Node("truncation"), Node("padding"));
        if (!slices.TryGetValue("model", out Range modelRange))
        {
            throw new TokenizerException(TokenizerError.Schema, "$.model", null, "expected a model, found nothing.");
        }

        Normalizer = TextNormalizer.Read(Node("normalizer"));
        PreTokenizer = PreTokenizer.Read(Node("pre_tokenizer"));
        _model.ReadVocabulary(modelRange);
        ReadAdded(Node("added_tokens"));
        PreTokenizer = _model.TakesBytes ? PreTokenizer : PreTokenizer.WithMapping();
        Model = _model.Finish(PreTokenizer.ByteLevel, [.. Added.Where(static x => x.Special).Select(static x => x.Id)]);
        PostProcessor = PostProcessor.Read(Node("post_processor"), Model.Tokens);
        Decoder = TokenDecoder.Read(Node("decoder"));
    }

    // Truncation and padding do not apply to inference; only their numbers are checked.
    private static void CheckLengths(TokenizerNode truncation, TokenizerNode padding)
    {
        if (!truncation.IsNull)
        {
            truncation["max_length"].Integer(1, LargestFixedLength);
        }

        if (padding["strategy"].IsObject)
        {
            padding["strategy"]["Fixed"].Integer(1, LargestFixedLength);
        }
    }

    private void ReadAdded(TokenizerNode node)
    {
        var added = new List<AddedToken>();
        var ids = new HashSet<int>();
        if (node.IsNull)
        {
            return;
        }

        foreach (TokenizerNode item in node.Items())
        {
            byte[] content = item["content"].Utf8();
            if (content.Length == 0)
            {
                continue;
            }

            if (content.Length > LongestAdded)
            {
                throw new TokenizerException(TokenizerError.Limit, item.Path, Encoding.UTF8.GetString(content),
                    $"an added token has at most {LongestAdded} bytes.");
            }

            int id = item["id"].Integer(0, TokenTable.IdLimit - 1);
            bool special = item["special"].Flag(absent: false);
            _model.AddToken(content, id, item.Path);
            if (!ids.Add(id))
            {
                throw new TokenizerException(TokenizerError.Duplicate, item.Path, Encoding.UTF8.GetString(content), $"id {id} is added twice.");
            }

            added.Add(new AddedToken(id, content, item["single_word"].Flag(absent: false), item["lstrip"].Flag(absent: false),
                item["rstrip"].Flag(absent: false), item["normalized"].Flag(absent: !special), special));
        }

        Added = added;
    }
}
