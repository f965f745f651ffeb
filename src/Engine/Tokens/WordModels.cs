namespace Tiller.Tokens;

/// <summary>WordLevel: each word is a token, or unknown.</summary>
internal sealed class WordLevelModel : TokenModel
{
    /// <summary>Reads the rest of the model.</summary>
    public static WordLevelModel Read(ModelReader reader) =>
        new() { Tokens = reader.Tokens, UnknownId = reader.UnknownId("[UNK]"), Special = reader.Special };

    protected override void EncodeWord(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        int id = Tokens.IdOf(word);
        scratch.Append(id >= 0 ? id : UnknownId, 0, word.Length);
    }
}

/// <summary>
/// WordPiece: takes the longest token from the left, again and again; tokens that do not begin the word have a prefix in the vocabulary. A word that
/// cannot be split into tokens, or is too long, is unknown as a whole.
/// </summary>
internal sealed class WordPieceModel : TokenModel
{
    private const int LongestPrefix = 64;

    private readonly byte[] _prefix;
    private readonly int _mostCharacters;
    private readonly int _longestToken;

    private WordPieceModel(byte[] prefix, int mostCharacters, int longestToken)
    {
        _prefix = prefix;
        _mostCharacters = mostCharacters;
        _longestToken = longestToken;
    }

    /// <summary>Reads the rest of the model.</summary>
    public static WordPieceModel Read(ModelReader reader)
    {
        TokenizerNode node = reader.Node("continuing_subword_prefix");
        byte[] text = node.IsNull ? "##"u8.ToArray() : node.Utf8();
        if (text.Length > LongestPrefix)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"expected at most {LongestPrefix} bytes, found {text.Length}.");
        }

        TokenizerNode most = reader.Node("max_input_chars_per_word");
        return new WordPieceModel(text, most.IsNull ? 100 : most.Integer(0, int.MaxValue), reader.Tokens.LongestText)
        {
            Tokens = reader.Tokens,
            UnknownId = reader.UnknownId("[UNK]"),
            Special = reader.Special,
        };
    }

    protected override void EncodeWord(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        if (CharClasses.Count(word) > _mostCharacters)
        {
            scratch.Append(UnknownId, 0, word.Length);
            return;
        }

        int before = scratch.Count;
        for (int start = 0; start < word.Length;)
        {
            scratch.TakeStride(start);
            int id = Longest(word[start..], start > 0 ? _prefix : [], scratch.Word, out int length);
            if (id < 0)
            {
                scratch.Truncate(before);
                scratch.Append(UnknownId, 0, word.Length);
                return;
            }

            scratch.Append(id, start, start + length);
            start += length;
        }
    }

    // The longest token at the beginning of the rest of a word, -1 if there is none.
    private int Longest(ReadOnlySpan<byte> rest, ReadOnlySpan<byte> prefix, ByteBuffer key, out int length)
    {
        key.Length = 0;
        length = Math.Min(rest.Length, _longestToken - prefix.Length);
        if (length <= 0)
        {
            return -1;
        }

        while (length < rest.Length && (rest[length] & 0xC0) == 0x80)
        {
            length--;
        }

        prefix.CopyTo(key.Grow(prefix.Length));
        rest[..length].CopyTo(key.Grow(length));
        while (length > 0)
        {
            int id = Tokens.IdOf(key.Span);
            if (id >= 0)
            {
                return id;
            }

            length = CharClasses.StartBefore(rest, length);
            key.Length = prefix.Length + length;
        }

        return -1;
    }
}
