using System.Buffers.Binary;

namespace Tiller.Tokens;

/// <summary>The bytes and the length of a word of at most 15 bytes.</summary>
internal readonly record struct WordKey(ulong Low, ulong High);

/// <summary>Direct-mapped cache of the ids of short words. A collision overwrites the older word.</summary>
internal sealed class WordCache
{
    /// <summary>Length of the longest word in the cache, in bytes.</summary>
    public const int LongestWord = 15;

    private const int MaxIds = 6;
    private const int SlotBits = 13;

    private readonly WordKey[] _keys = new WordKey[1 << SlotBits];
    private readonly byte[] _counts = new byte[1 << SlotBits];
    private readonly int[] _ids = new int[MaxIds << SlotBits];

    public static WordKey KeyOf(ReadOnlySpan<byte> word)
    {
        if (word.Length >= 8)
        {
            // The bytes from index 8 on are the top bytes of the last eight, shifted down. They are at most seven, so that the length fits above
            // them.
            ulong low = BinaryPrimitives.ReadUInt64LittleEndian(word);
            ulong last = BinaryPrimitives.ReadUInt64LittleEndian(word[^8..]);
            ulong rest = word.Length == 8 ? 0 : last >> (8 * (16 - word.Length));
            return new WordKey(low, rest | ((ulong)word.Length << 56));
        }

        ulong value = 0;
        for (int i = word.Length - 1; i >= 0; i--)
        {
            value = (value << 8) | word[i];
        }

        return new WordKey(value, (ulong)word.Length << 56);
    }

    /// <summary>Ids of the word; empty if it is not in the cache.</summary>
    public ReadOnlySpan<int> Find(WordKey key)
    {
        int slot = Slot(key);
        return _keys[slot] == key ? _ids.AsSpan(slot * MaxIds, _counts[slot]) : default;
    }

    public void Store(WordKey key, ReadOnlySpan<int> word)
    {
        if (word.Length is 0 or > MaxIds)
        {
            return;
        }

        int slot = Slot(key);
        _keys[slot] = key;
        _counts[slot] = (byte)word.Length;
        word.CopyTo(_ids.AsSpan(slot * MaxIds));
    }

    private static int Slot(WordKey key)
    {
        ulong h = (key.Low ^ (key.High * 0xC2B2AE3D27D4EB4F)) * 0x9E3779B97F4A7C15;
        return (int)((h ^ (h << 23)) >> (64 - SlotBits));
    }
}
