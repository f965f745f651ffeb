namespace Tiller.Tokens;

/// <summary>The model of tokenizer.json, which turns words into ids.</summary>
internal abstract class TokenModel
{
    /// <summary>The vocabulary; the tokens of a byte-level model are written in the printable byte alphabet.</summary>
    public required TokenTable Tokens { get; init; }

    /// <summary>Id of the unknown token, or -1.</summary>
    public required int UnknownId { get; init; }

    /// <summary>Ids of special tokens.</summary>
    public required HashSet<int> Special { get; init; }

    /// <summary>Appends the ids of a word to the scratch's output.</summary>
    /// <param name="word">UTF-8, not empty.</param>
    /// <param name="scratch">Buffers of this call.</param>
    public virtual void Encode(ReadOnlySpan<byte> word, BpeScratch scratch) => EncodeCached(word, scratch);

    /// <summary>Encodes a word that is not in the cache.</summary>
    protected abstract void EncodeWord(ReadOnlySpan<byte> word, BpeScratch scratch);

    /// <summary>Whether each byte of a text has an id in <paramref name="byteIds"/>, which has -1 for bytes without one.</summary>
    protected static bool HasAll(int[] byteIds, ReadOnlySpan<byte> text)
    {
        foreach (byte b in text)
        {
            if (byteIds[b] < 0)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>
    /// Encodes a word with the cache of short words. A word of which bytes are dropped is not cached, so that every loss is recorded; neither are
    /// ranges.
    /// </summary>
    protected void EncodeCached(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        scratch.Steps.Take();
        if (word.Length > WordCache.LongestWord || scratch.Places is not null)
        {
            EncodeWord(word, scratch);
            return;
        }

        WordKey key = WordCache.KeyOf(word);
        ReadOnlySpan<int> ids = scratch.Cache.Find(key);
        if (!ids.IsEmpty)
        {
            scratch.Append(ids);
            return;
        }

        int before = scratch.Count;
        int dropped = scratch.Dropped.Count;
        EncodeWord(word, scratch);
        if (scratch.Dropped.Count == dropped)
        {
            scratch.Cache.Store(key, scratch.Output[before..]);
        }
    }
}
