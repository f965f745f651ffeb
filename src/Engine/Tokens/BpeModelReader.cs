using System.Text;
using System.Text.Json;

namespace Tiller.Tokens;

/// <summary>Reads the merges and options of a BPE model; merges directly from the bytes of the file.</summary>
internal sealed class BpeModelReader(ModelReader reader)
{
    /// <summary>Reads merges and options, and makes the model.</summary>
    /// <param name="byteLevel">As for <see cref="ModelReader.Finish"/>.</param>
    public BpeModel Read(bool byteLevel)
    {
        CheckDropout(reader.Node("dropout"));
        foreach (string affix in (string[])["continuing_subword_prefix", "end_of_word_suffix"])
        {
            TokenizerNode node = reader.Node(affix);
            if (!string.IsNullOrEmpty(node.TextOrNull()))
            {
                throw node.Unsupported(node.Text(), "models without such affixes");
            }
        }

        int unknownId = reader.Node("unk_token").IsNull ? -1 : reader.UnknownId("");
        MergeTable merges = ReadMerges(out bool crosses);
        return new BpeModel
        {
            Tokens = reader.Tokens,
            Merges = merges,
            ByteLevel = byteLevel,
            ByteIds = byteLevel ? AlphabetIds() : reader.Node("byte_fallback").Flag(absent: false) ? reader.ByteTokens() : null,
            UnknownId = unknownId,
            FuseUnknown = reader.Node("fuse_unk").Flag(absent: false),
            IgnoreMerges = reader.Node("ignore_merges").Flag(absent: false),
            CutsBeforeMetaspace = !byteLevel && !crosses && reader.InModel(reader.Tokens.IdOf("▁"u8)) >= 0
                && !reader.Node("ignore_merges").Flag(absent: false),
            Special = reader.Special,
            Hidden = reader.Hidden,
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

    // By byte: the id of its character in the alphabet.
    private int[] AlphabetIds() =>
        [.. Enumerable.Range(0, 256).Select(b => reader.InModel(reader.Tokens.IdOf(ByteAlphabet.CharOf((byte)b).ToString())))];

    private MergeTable ReadMerges(out bool crosses)
    {
        Utf8JsonReader json = reader.Reader("merges", JsonTokenType.StartArray, "an array of merges");
        var merges = new MergeTable(reader.Tokens.Count + (reader.SizeOf("merges") / 16));
        byte[] scratch = new byte[256];
        byte[] scratchRight = new byte[256];
        byte[] joined = new byte[256];
        crosses = false;
        for (int rank = 0; json.Read() && json.TokenType != JsonTokenType.EndArray; rank++)
        {
            reader.CancellationToken.ThrowIfCancellationRequested();
            ReadOnlySpan<byte> left;
            ReadOnlySpan<byte> right;
            if (json.TokenType == JsonTokenType.String)
            {
                ReadOnlySpan<byte> line = ModelReader.TextOf(ref json, ref scratch);
                if (line.StartsWith("#version"u8))
                {
                    rank--;
                    continue;
                }

                int space = line.IndexOf((byte)' ');
                if (space < 0 || line[(space + 1)..].Contains((byte)' '))
                {
                    throw ModelReader.Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", line, "expected two parts separated by one space.");
                }

                left = line[..space];
                right = line[(space + 1)..];
            }
            else if (json.TokenType == JsonTokenType.StartArray)
            {
                left = Part(ref json, ref scratch, rank);
                right = Part(ref json, ref scratchRight, rank);
                if (!json.Read() || json.TokenType != JsonTokenType.EndArray)
                {
                    throw ModelReader.Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", default, "expected two parts, found more.");
                }
            }
            else
            {
                throw ModelReader.Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", default, "expected two parts.");
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
            int merged = reader.InModel(reader.Tokens.IdOf(result));
            if (merged < 0)
            {
                throw ModelReader.Error(TokenizerError.MergeOutOfVocabulary, $"$.model.merges[{rank}]", result,
                    "the result of this merge is not in the vocabulary.");
            }

            if (reader.Special.Contains(merged))
            {
                // Plain text must never become a special token.
                reader.Warn($"$.model.merges[{rank}]: left out, because it makes the special token "
                    + $"'{TokenizerException.Escape(Encoding.UTF8.GetString(result))}'.");
                continue;
            }

            crosses |= Crosses(result);
            if (!merges.Add(a, b, rank, merged))
            {
                reader.Warn(
                    $"$.model.merges[{rank}]: the pair of '{TokenizerException.Escape(Encoding.UTF8.GetString(result))}' occurs twice; "
                    + "the last rank counts.");
            }
        }

        return merges;
    }

    // Whether U+2581 follows another character.
    private static bool Crosses(ReadOnlySpan<byte> text)
    {
        ReadOnlySpan<byte> mark = "▁"u8;
        while (text.StartsWith(mark))
        {
            text = text[mark.Length..];
        }

        return text.IndexOf(mark) >= 0;
    }

    private static ReadOnlySpan<byte> Part(scoped ref Utf8JsonReader json, scoped ref byte[] scratch, int rank)
    {
        if (!json.Read() || json.TokenType != JsonTokenType.String)
        {
            throw ModelReader.Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", default, "expected two strings.");
        }

        return ModelReader.TextOf(ref json, ref scratch);
    }

    private int IdOfPart(ReadOnlySpan<byte> part, int rank)
    {
        if (part.IsEmpty)
        {
            throw ModelReader.Error(TokenizerError.BadMerge, $"$.model.merges[{rank}]", part, "a part of this merge is empty.");
        }

        int id = reader.InModel(reader.Tokens.IdOf(part));
        return id >= 0
            ? id
            : throw ModelReader.Error(TokenizerError.MergeTokenOutOfVocabulary, $"$.model.merges[{rank}]", part,
                "this part of the merge is not in the vocabulary.");
    }
}
