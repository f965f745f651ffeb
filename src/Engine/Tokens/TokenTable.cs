using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;

namespace Tiller.Tokens;

/// <summary>Tokens as UTF-8 texts in one array, found by id and by text. It is filled once and then read by any number of threads.</summary>
internal sealed class TokenTable
{
    /// <summary>Exclusive upper bound of ids.</summary>
    public const int IdLimit = 1 << 21;

    private byte[] _arena = new byte[1 << 14];
    private int _arenaLength;
    private int[] _starts = new int[1 << 10]; // indexed by id
    private int[] _lengths = new int[1 << 10]; // indexed by id, -1 for no token
    private int[] _slots = new int[1 << 11]; // open addressing; id + 1, or 0 if empty

    public TokenTable()
    {
        Array.Fill(_lengths, -1);
    }

    /// <summary>Number of tokens.</summary>
    public int Count { get; private set; }

    /// <summary>Highest id + 1.</summary>
    public int IdEnd { get; private set; }

    /// <summary>Length of the longest token in bytes.</summary>
    public int LongestText { get; private set; }

    public bool Contains(int id) => (uint)id < (uint)IdEnd && _lengths[id] >= 0;

    /// <summary>Text of an existing token in UTF-8.</summary>
    public ReadOnlySpan<byte> TextOf(int id) => _arena.AsSpan(_starts[id], _lengths[id]);

    public string StringOf(int id) => Encoding.UTF8.GetString(TextOf(id));

    /// <summary>Id of the token with this text, -1 if there is none.</summary>
    public int IdOf(ReadOnlySpan<byte> text)
    {
        int mask = _slots.Length - 1;
        for (int slot = (int)Hash(text) & mask; ; slot = (slot + 1) & mask)
        {
            int id = _slots[slot] - 1;
            if (id < 0 || TextOf(id).SequenceEqual(text))
            {
                return id;
            }
        }
    }

    public int IdOf(string text) => IdOf(Encoding.UTF8.GetBytes(text));

    /// <summary>Adds a token. The caller has checked that its text and id are new.</summary>
    public void Add(ReadOnlySpan<byte> text, int id)
    {
        Reserve(text.Length, id);
        text.CopyTo(_arena.AsSpan(_arenaLength));
        _starts[id] = _arenaLength;
        _lengths[id] = text.Length;
        _arenaLength += text.Length;
        IdEnd = Math.Max(IdEnd, id + 1);
        LongestText = Math.Max(LongestText, text.Length);
        Count++;
        if (Count * 2 > _slots.Length)
        {
            Rehash();
        }
        else
        {
            Insert(id);
        }
    }

    private static uint Hash(ReadOnlySpan<byte> text)
    {
        const ulong Prime = 0x9E3779B97F4A7C15;
        ulong h = (ulong)text.Length * Prime;
        while (text.Length >= 8)
        {
            h = BitOperations.RotateLeft((h ^ MemoryMarshal.Read<ulong>(text)) * Prime, 29);
            text = text[8..];
        }

        ulong tail = 0;
        foreach (byte b in text)
        {
            tail = (tail << 8) | b;
        }

        h = (h ^ tail) * Prime;
        return (uint)((h ^ (h >> 29)) * Prime >> 32);
    }

    private void Reserve(int size, int id)
    {
        if (_arenaLength + size > _arena.Length)
        {
            Array.Resize(ref _arena, Math.Max(_arena.Length * 2, _arenaLength + size));
        }

        if (id >= _lengths.Length)
        {
            int before = _lengths.Length;
            int after = Math.Max(before * 2, id + 1);
            Array.Resize(ref _starts, after);
            Array.Resize(ref _lengths, after);
            _lengths.AsSpan(before).Fill(-1);
        }
    }

    private void Insert(int id)
    {
        int mask = _slots.Length - 1;
        int slot = (int)Hash(TextOf(id)) & mask;
        while (_slots[slot] != 0)
        {
            slot = (slot + 1) & mask;
        }

        _slots[slot] = id + 1;
    }

    private void Rehash()
    {
        _slots = new int[_slots.Length * 4];
        for (int id = 0; id < IdEnd; id++)
        {
            if (_lengths[id] >= 0)
            {
                Insert(id);
            }
        }
    }
}
