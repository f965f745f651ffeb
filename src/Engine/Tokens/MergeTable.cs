using System.Numerics;

namespace Tiller.Tokens;

/// <summary>Merges of BPE: (left id, right id) → (rank, merged id), in a table with open addressing.</summary>
internal sealed class MergeTable
{
    /// <summary>Rank of a pair without a merge.</summary>
    public const int None = int.MaxValue;

    private const ulong Empty = ulong.MaxValue;

    private readonly ulong[] _keys;
    private readonly long[] _values; // rank << 32 | merged id
    private readonly int _shift;

    /// <summary>Makes an empty table.</summary>
    /// <param name="capacity">Upper bound on the number of merges.</param>
    public MergeTable(int capacity)
    {
        int size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, capacity * 2));
        _keys = new ulong[size];
        Array.Fill(_keys, Empty);
        _values = new long[size];
        _shift = 64 - BitOperations.Log2((uint)size);
    }

    /// <summary>Adds a merge. If a pair is added twice, the last rank counts. Returns whether the pair was new.</summary>
    public bool Add(int left, int right, int rank, int merged)
    {
        ulong key = Key(left, right);
        int slot = Slot(key);
        bool isNew = _keys[slot] == Empty;
        _keys[slot] = key;
        _values[slot] = ((long)rank << 32) | (uint)merged;
        return isNew;
    }

    /// <summary>Rank of a pair; <see cref="None"/> if it has no merge.</summary>
    public int Rank(int left, int right, out int merged)
    {
        ulong key = Key(left, right);
        int slot = Slot(key);
        if (_keys[slot] == Empty)
        {
            merged = -1;
            return None;
        }

        long value = _values[slot];
        merged = (int)value;
        return (int)(value >> 32);
    }

    private static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;

    private int Slot(ulong key)
    {
        int mask = _keys.Length - 1;
        int slot = (int)((key * 0x9E3779B97F4A7C15) >> _shift);
        while (_keys[slot] != key && _keys[slot] != Empty)
        {
            slot = (slot + 1) & mask;
        }

        return slot;
    }
}
