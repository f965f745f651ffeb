using System.Text;
using System.Text.Json;

namespace Tiller.Tokens;

/// <summary>Reads the model of tokenizer.json: vocabulary and merges straight from the bytes, no string per token.</summary>
internal sealed class BpeModelReader(byte[] json, CancellationToken cancellationToken)
{
    private readonly TokenTable tokens = new();
    private readonly List<string> warnings = [];
    private readonly HashSet<int> addedOnly = []; // added tokens that the model itself does not know
    private int modelStart;
    private Dictionary<string, Range> slices = [];

    public IReadOnlyList<string> Warnings => warnings;

    /// <summary>Reads the vocabulary, and keeps the place of the rest.</summary>
    public void ReadVocabulary(Range range)
    {
        modelStart = range.Start.Value;
        slices = TokenizerFile.Slices(json.AsSpan(range), "$.model");
        TokenizerNode type = Node("type");
        string kind = type.TextOrNull() ?? "BPE"; // the oldest files leave it out
        if (kind != "BPE")
        {
            throw type.Unsupported(kind, "BPE");
        }

        if (!slices.ContainsKey("vocab") || !slices.ContainsKey("merges"))
        {
            throw new TokenizerException(TokenizerError.MissingVocabulary, "$.model", null, "Missing vocab/merges: expected both.");
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
                throw Error(TokenizerError.Range, "$.model.vocab", text, $"expected a whole number below {TokenTable.IdLimit} as the id of this token.");
            }

            if (tokens.IdOf(text) >= 0)
            {
                throw Error(TokenizerError.Duplicate, "$.model.vocab", text, "this token stands there twice.");
            }

            CheckFree(text, id, "$.model.vocab");
            tokens.Add(text, id);
        }
    }

    /// <summary>Adds a token of added_tokens: known already under the same id, or new.</summary>
    public void AddToken(ReadOnlySpan<byte> text, int id, string path)
    {
        int known = tokens.IdOf(text);
        if (known == id)
        {
            return;
        }

        if (known >= 0)
        {
            throw Error(TokenizerError.AddedTokenMismatch, path, text, $"the vocabulary has this token under id {known}, here it has id {id}.");
        }

        CheckFree(text, id, path);
        tokens.Add(text, id);
        addedOnly.Add(id);
    }

    /// <summary>Reads merges and options, and builds the model.</summary>
    public BpeModel Finish(bool byteLevel, HashSet<int> special)
    {
        CheckDropout(Node("dropout"));
        foreach (string affix in (string[])["continuing_subword_prefix", "end_of_word_suffix"])
        {
            TokenizerNode node = Node(affix);
            if (!string.IsNullOrEmpty(node.TextOrNull()))
            {
                throw node.Unsupported(node.Text(), "models without such affixes");
            }
        }

        TokenizerNode unknown = Node("unk_token");
        int unknownId = -1;
        if (unknown.TextOrNull() is { } name)
        {
            unknownId = InModel(tokens.IdOf(name));
            if (unknownId < 0)
            {
                throw new TokenizerException(TokenizerError.UnknownToken, unknown.Path, name, "the unknown token is not in the vocabulary.");
            }
        }

        MergeTable merges = ReadMerges(special, out bool crosses);
        return new BpeModel
        {
            Tokens = tokens,
            Merges = merges,
            ByteLevel = byteLevel,
            ByteIds = ByteIds(byteLevel, Node("byte_fallback").Flag(absent: false), unknownId),
            UnknownId = unknownId,
            FuseUnknown = Node("fuse_unk").Flag(absent: false),
            IgnoreMerges = Node("ignore_merges").Flag(absent: false),
            CutsBeforeMetaspace = !byteLevel && !crosses && InModel(tokens.IdOf("▁"u8)) >= 0 && !Node("ignore_merges").Flag(absent: false),
            Special = special,
            Hidden = addedOnly.Count + special.Count == 0 ? [] : [.. Enumerable.Range(0, tokens.IdEnd).Select(x => addedOnly.Contains(x) || special.Contains(x))],
        };
    }

    private static void CheckDropout(TokenizerNode node)
    {
        if (node.IsNull)
        {
            return;
        }

        double dropout = node.Real();
        if (dropout is not (>= 0 and <= 1))
        {
            throw new TokenizerException(TokenizerError.InvalidDropout, node.Path, $"{dropout}", "expected a probability, 0 to 1.");
        }

        if (dropout > 0)
        {
            throw node.Unsupported($"{dropout}", "no dropout: encoding is deterministic");
        }
    }

    private static ReadOnlySpan<byte> TextOf(scoped ref Utf8JsonReader reader, scoped ref byte[] scratch)
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

    private static TokenizerException Error(TokenizerError code, string path, ReadOnlySpan<byte> value, string message) =>
        new(code, path, Encoding.UTF8.GetString(value), message);

    private TokenizerNode Node(string name) =>
        TokenizerNode.Parse(slices.TryGetValue(name, out Range range) ? Slice(range) : "null"u8.ToArray(), $"$.model.{name}");

    private ReadOnlyMemory<byte> Slice(Range range) => json.AsMemory(modelStart + range.Start.Value, range.End.Value - range.Start.Value);

    private Utf8JsonReader Reader(string name, JsonTokenType start, string expected)
    {
        var reader = new Utf8JsonReader(Slice(slices[name]).Span);
        return reader.Read() && reader.TokenType == start
            ? reader
            : throw new TokenizerException(TokenizerError.Schema, $"$.model.{name}", null, $"expected {expected}.");
    }

    private void CheckFree(ReadOnlySpan<byte> text, int id, string path)
    {
        if (tokens.Contains(id))
        {
            throw Error(TokenizerError.Duplicate, path, text, $"id {id} already belongs to '{TokenizerException.Escape(tokens.StringOf(id))}'.");
        }
    }

    private int[]? ByteIds(bool byteLevel, bool byteFallback, int unknownId)
    {
        if (!byteLevel && !byteFallback)
        {
            return null;
        }

        var ids = new int[256];
        for (int b = 0; b < ids.Length; b++)
        {
            string token = byteLevel ? ByteAlphabet.CharOf((byte)b).ToString() : ByteToken.Name(b);
            ids[b] = InModel(tokens.IdOf(token));
            if (ids[b] < 0 && unknownId < 0 && !(byteLevel && IsNeverInUtf8(b)))
            {
                throw new TokenizerException(TokenizerError.MissingByte, "$.model.vocab", token,
                    $"byte 0x{b:X2} has no token and there is no unknown token: text would be dropped.");
            }
        }

        return ids;
    }

    private int InModel(int id) => addedOnly.Contains(id) ? -1 : id;

    private static bool IsNeverInUtf8(int b) => b is 0xC0 or 0xC1 or >= 0xF5;

    private MergeTable ReadMerges(HashSet<int> special, out bool crosses)
    {
        Utf8JsonReader reader = Reader("merges", JsonTokenType.StartArray, "an array of merges");
        var merges = new MergeTable(tokens.Count + (slices["merges"].End.Value - slices["merges"].Start.Value) / 16);
        byte[] scratch = new byte[256];
        byte[] scratchRight = new byte[256];
        byte[] joined = new byte[256];
        crosses = false;
        for (int rank = 0; reader.Read() && reader.TokenType != JsonTokenType.EndArray; rank++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ReadOnlySpan<byte> left;
            ReadOnlySpan<byte> right;
            if (reader.TokenType == JsonTokenType.String)
            {
                ReadOnlySpan<byte> line = TextOf(ref reader, ref scratch);
                if (line.StartsWith("#version"u8))
                {
                    rank--;
                    continue;
                }

                int space = line.IndexOf((byte)' ');
                if (space < 0 || line[(space + 1)..].Contains((byte)' '))
                {
                    throw Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", line, "expected two parts with one space between.");
                }

                left = line[..space];
                right = line[(space + 1)..];
            }
            else if (reader.TokenType == JsonTokenType.StartArray)
            {
                left = Part(ref reader, ref scratch, rank);
                right = Part(ref reader, ref scratchRight, rank);
                if (!reader.Read() || reader.TokenType != JsonTokenType.EndArray)
                {
                    throw Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", default, "expected two parts, found more.");
                }
            }
            else
            {
                throw Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", default, "expected two parts.");
            }

            int a = IdOfPart(left, rank);
            int b = IdOfPart(right, rank);
            int size = left.Length + right.Length;
            if (joined.Length < size)
            {
                joined = new byte[size * 2];
            }

            left.CopyTo(joined);
            right.CopyTo(joined.AsSpan(left.Length));
            ReadOnlySpan<byte> result = joined.AsSpan(0, size);
            int merged = InModel(tokens.IdOf(result));
            if (merged < 0)
            {
                throw Error(TokenizerError.MergeOutOfVocabulary, $"$.model.merges[{rank}]", result, "the result of this merge is not in the vocabulary.");
            }

            if (special.Contains(merged))
            {
                // Plain text must never become a special id.
                warnings.Add($"$.model.merges[{rank}]: left out, it makes the special token '{TokenizerException.Escape(Encoding.UTF8.GetString(result))}'.");
                continue;
            }

            crosses |= Crosses(result);
            if (!merges.Add(a, b, rank, merged))
            {
                warnings.Add(
                    $"$.model.merges[{rank}]: the pair of '{TokenizerException.Escape(Encoding.UTF8.GetString(result))}' stands there twice; the last rank counts.");
            }
        }

        return merges;
    }

    // U+2581 after another character.
    private static bool Crosses(ReadOnlySpan<byte> text)
    {
        ReadOnlySpan<byte> mark = "▁"u8;
        while (text.StartsWith(mark))
        {
            text = text[mark.Length..];
        }

        return text.IndexOf(mark) >= 0;
    }

    private static ReadOnlySpan<byte> Part(scoped ref Utf8JsonReader reader, scoped ref byte[] scratch, int rank)
    {
        if (!reader.Read() || reader.TokenType != JsonTokenType.String)
        {
            throw Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", default, "expected two strings.");
        }

        return TextOf(ref reader, ref scratch);
    }

    private int IdOfPart(ReadOnlySpan<byte> part, int rank)
    {
        if (part.IsEmpty)
        {
            throw Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", part, "a part of this merge is empty.");
        }

        int id = InModel(tokens.IdOf(part));
        return id >= 0
            ? id
            : throw Error(TokenizerError.MergeTokenOutOfVocabulary, $"$.model.merges[{rank}]", part, "this part of the merge is not in the vocabulary.");
    }
}
