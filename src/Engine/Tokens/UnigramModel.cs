using System.Numerics;
using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// Unigram (SentencePiece): of all ways to make a word of tokens the one with the largest sum of scores; a character that no token of its own
/// stands for is unknown, at a score below all others. Neighbouring unknown characters are one.
/// </summary>
internal sealed class UnigramModel : TokenModel
{
    // As SentencePiece has it.
    private const double UnknownPenalty = 10;

    private readonly double[] scores;
    private readonly PrefixTree tree;
    private readonly int[]? byteIds;
    private readonly double unknownScore;

    private UnigramModel(double[] scores, PrefixTree tree, int[]? byteIds)
    {
        this.scores = scores;
        this.tree = tree;
        this.byteIds = byteIds;
        unknownScore = scores.DefaultIfEmpty(0).Min() - UnknownPenalty;
    }

    /// <summary>Reads what follows the vocabulary, whose order gives the ids.</summary>
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
            bool alone = false; // a token is this character
            int node = 0;
            for (int end = start; end < word.Length && tree.Step(ref node, word[end], out int id);)
            {
                end++;
                if (id >= 0)
                {
                    path.Offer(end, start, id, till + scores[id]);
                    alone |= end == start + character;
                }
            }

            if (!alone)
            {
                path.Offer(start + character, start, UnknownId, till + unknownScore);
            }

            start += character;
        }

        Append(word, path, scratch);
    }

    // Backwards along the best path, then forwards into the output.
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
        if (id >= 0 && id < scores.Length)
        {
            scratch.Append(id, start, end);
        }
        else if (byteIds is not null && AllBytes(text))
        {
            for (int i = start; i < end; i++)
            {
                scratch.Append(byteIds[word[i]], i, i + 1);
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

    private bool AllBytes(ReadOnlySpan<byte> text)
    {
        foreach (byte b in text)
        {
            if (byteIds![b] < 0)
            {
                return false;
            }
        }

        return true;
    }
}

/// <summary>Scratch of <see cref="UnigramModel"/>: the best path that ends at each byte.</summary>
internal sealed class UnigramPath
{
    /// <summary>Sum of scores, by end.</summary>
    public double[] Scores { get; private set; } = [];

    /// <summary>Where the last token starts, by end; -1 where no path ends.</summary>
    public int[] Starts { get; private set; } = [];

    /// <summary>Last token, by end.</summary>
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

    /// <summary>A path; of equal ones the first stays.</summary>
    public void Offer(int end, int start, int id, double score)
    {
        if (Starts[end] < 0 || score > Scores[end])
        {
            (Scores[end], Starts[end], Ids[end]) = (score, start, id);
        }
    }
}

/// <summary>Texts as a tree of bytes, its edges in one table with open addressing.</summary>
internal sealed class PrefixTree
{
    private ulong[] keys = new ulong[1 << 10]; // (node << 8 | byte) + 1; 0 for empty
    private int[] children = new int[1 << 10];
    private int[] ids = new int[1 << 8]; // by node; -1 for none
    private int nodes = 1;

    public PrefixTree()
    {
        ids[0] = -1;
    }

    /// <summary>Adds a text.</summary>
    public void Add(ReadOnlySpan<byte> text, int id)
    {
        int node = 0;
        foreach (byte b in text)
        {
            ulong key = Key(node, b);
            int slot = Slot(key);
            if (keys[slot] == 0)
            {
                if (nodes * 2 > keys.Length)
                {
                    Rehash();
                    slot = Slot(key);
                }

                if (nodes == ids.Length)
                {
                    Array.Resize(ref ids, nodes * 2);
                }

                (keys[slot], children[slot], ids[nodes]) = (key, nodes, -1);
                nodes++;
            }

            node = children[slot];
        }

        ids[node] = id;
    }

    /// <summary>Goes on by a byte.</summary>
    /// <param name="node">0 at the root.</param>
    /// <param name="b">The byte.</param>
    /// <param name="id">Id of the text that ends there, or -1.</param>
    /// <returns>Whether any text goes on so.</returns>
    public bool Step(ref int node, byte b, out int id)
    {
        ulong key = Key(node, b);
        int slot = Slot(key);
        if (keys[slot] == 0)
        {
            id = -1;
            return false;
        }

        node = children[slot];
        id = ids[node];
        return true;
    }

    private static ulong Key(int node, byte b) => (((ulong)(uint)node << 8) | b) + 1;

    private int Slot(ulong key)
    {
        int mask = keys.Length - 1;
        int slot = (int)((key * 0x9E3779B97F4A7C15) >> (64 - BitOperations.Log2((uint)keys.Length)));
        while (keys[slot] != 0 && keys[slot] != key)
        {
            slot = (slot + 1) & mask;
        }

        return slot;
    }

    private void Rehash()
    {
        (ulong[] oldKeys, int[] oldChildren) = (keys, children);
        (keys, children) = (new ulong[oldKeys.Length * 2], new int[oldKeys.Length * 2]);
        for (int i = 0; i < oldKeys.Length; i++)
        {
            if (oldKeys[i] != 0)
            {
                int slot = Slot(oldKeys[i]);
                (keys[slot], children[slot]) = (oldKeys[i], oldChildren[i]);
            }
        }
    }
}
