using System.Numerics;
using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// Unigram (SentencePiece): splits a word into the tokens with the largest sum of scores. A character without a token of its own is unknown, with a
/// score below all others. Adjacent unknown characters are one unknown token.
/// </summary>
internal sealed class UnigramModel : TokenModel
{
    // The value of SentencePiece.
    private const double UnknownPenalty = 10;

    private readonly double[] _scores;
    private readonly PrefixTree _tree;
    private readonly int[]? _byteIds;
    private readonly double _unknownScore;

    private UnigramModel(double[] scores, PrefixTree tree, int[]? byteIds)
    {
        _scores = scores;
        _tree = tree;
        _byteIds = byteIds;
        _unknownScore = scores.DefaultIfEmpty(0).Min() - UnknownPenalty;
    }

    /// <summary>Reads the rest of the model. Ids follow the order of the vocabulary.</summary>
    public static UnigramModel Read(ModelReader reader, double[] scores)
    {
        TokenizerNode unknown = reader.Node("unk_id");
        var pieces = new PrefixTree();
        for (int id = 0; id < scores.Length; id++)
        {
            reader.CancellationToken.ThrowIfCancellationRequested();
            pieces.Add(reader.Tokens.TextOf(id), id);
        }

        if (!unknown.IsNull && scores.Length == 0)
        {
            throw new TokenizerException(TokenizerError.UnknownToken, unknown.Path, null, "the vocabulary is empty and has no unknown token.");
        }

        return new UnigramModel(scores, pieces, reader.Node("byte_fallback").Flag(absent: false) ? reader.ByteTokens() : null)
        {
            Tokens = reader.Tokens,
            UnknownId = unknown.IsNull ? -1 : unknown.Integer(0, scores.Length - 1),
            Special = reader.Special,
        };
    }

    protected override void EncodeWord(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        UnigramPath path = scratch.Path;
        path.Begin(word.Length);
        for (int start = 0; start < word.Length;)
        {
            scratch.TakeStride(start);
            CharClasses.CodeAt(word, start, out int character);
            double till = path.Scores[start];
            bool alone = false; // whether this character is a token
            int node = 0;
            for (int end = start; end < word.Length && _tree.Step(ref node, word[end], out int id);)
            {
                end++;
                if (id >= 0)
                {
                    path.Offer(end, start, id, till + _scores[id]);
                    alone |= end == start + character;
                }
            }

            if (!alone)
            {
                path.Offer(start + character, start, UnknownId, till + _unknownScore);
            }

            start += character;
        }

        Append(word, path, scratch);
    }

    // Follows the best path backwards, then appends its tokens forwards.
    private void Append(ReadOnlySpan<byte> word, UnigramPath path, BpeScratch scratch)
    {
        int count = 0;
        scratch.ReserveLinks(word.Length + 1);
        for (int end = word.Length; end > 0; end = path.Starts[end])
        {
            scratch.Next[count++] = end;
        }

        for (int start = 0; count > 0;)
        {
            int end = scratch.Next[--count];
            int id = path.Ids[end];
            while (id == UnknownId && count > 0 && path.Ids[scratch.Next[count - 1]] == UnknownId)
            {
                end = scratch.Next[--count];
            }

            if (id == UnknownId)
            {
                AppendUnknown(word, start, end, scratch);
            }
            else
            {
                scratch.Append(id, start, end);
            }

            start = end;
        }
    }

    private void AppendUnknown(ReadOnlySpan<byte> word, int start, int end, BpeScratch scratch)
    {
        ReadOnlySpan<byte> text = word[start..end];
        int id = Tokens.IdOf(text);
        if (id >= 0 && id < _scores.Length)
        {
            scratch.Append(id, start, end);
        }
        else if (_byteIds is not null && HasAll(_byteIds, text))
        {
            for (int i = start; i < end; i++)
            {
                scratch.Append(_byteIds[word[i]], i, i + 1);
            }
        }
        else if (UnknownId >= 0)
        {
            scratch.Append(UnknownId, start, end);
        }
        else
        {
            int code = CharClasses.CodeAt(text, 0, out _);
            throw new TokenizerException(TokenizerError.UnknownToken, "$.model.unk_id", new Rune(code).ToString(),
                $"U+{code:X4} is not in the vocabulary, and the model has no unknown token for it. Remove it from the text.");
        }
    }
}

/// <summary>Scratch memory of <see cref="UnigramModel"/>: the best path to each byte position.</summary>
internal sealed class UnigramPath
{
    /// <summary>Sum of scores, indexed by the end of the path.</summary>
    public double[] Scores { get; private set; } = [];

    /// <summary>Start of the last token, indexed by the end of the path; -1 if no path ends there.</summary>
    public int[] Starts { get; private set; } = [];

    /// <summary>Last token, indexed by the end of the path.</summary>
    public int[] Ids { get; private set; } = [];

    public void Begin(int length)
    {
        if (Scores.Length <= length)
        {
            int size = (int)BitOperations.RoundUpToPowerOf2((uint)length + 1);
            (Scores, Starts, Ids) = (new double[size], new int[size], new int[size]);
        }

        Starts.AsSpan(0, length + 1).Fill(-1);
        Scores[0] = 0;
    }

    /// <summary>Offers a path. Of paths with equal scores, the first is kept.</summary>
    public void Offer(int end, int start, int id, double score)
    {
        if (Starts[end] < 0 || score > Scores[end])
        {
            (Scores[end], Starts[end], Ids[end]) = (score, start, id);
        }
    }
}
