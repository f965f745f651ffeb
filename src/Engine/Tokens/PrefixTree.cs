using System.Numerics;

namespace Tiller.Tokens;

/// <summary>Texts as a tree of bytes. Its edges are in one table with open addressing.</summary>
internal sealed class PrefixTree
{
    private ulong[] _keys = new ulong[1 << 10]; // (node << 8 | byte) + 1; 0 for empty
    private int[] _children = new int[1 << 10];
    private int[] _ids = new int[1 << 8]; // by node, -1 for none
    private int _nodes = 1;

    public PrefixTree()
    {
        _ids[0] = -1;
    }

    /// <summary>Adds a text.</summary>
    public void Add(ReadOnlySpan<byte> text, int id)
    {
        int node = 0;
        foreach (byte b in text)
        {
            ulong key = Key(node, b);
            int slot = Slot(key);
            if (_keys[slot] == 0)
            {
                if (_nodes * 2 > _keys.Length)
                {
                    Rehash();
                    slot = Slot(key);
                }

                if (_nodes == _ids.Length)
                {
                    Array.Resize(ref _ids, _nodes * 2);
                }

                (_keys[slot], _children[slot], _ids[_nodes]) = (key, _nodes, -1);
                _nodes++;
            }

            node = _children[slot];
        }

        _ids[node] = id;
    }

    /// <summary>Follows an edge.</summary>
    /// <param name="node">The node, 0 for the root; becomes the child.</param>
    /// <param name="b">The byte of the edge.</param>
    /// <param name="id">Id of the text that ends at the child, -1 if there is none.</param>
    /// <returns>Whether there is such an edge.</returns>
    public bool Step(ref int node, byte b, out int id)
    {
        ulong key = Key(node, b);
        int slot = Slot(key);
        if (_keys[slot] == 0)
        {
            id = -1;
            return false;
        }

        node = _children[slot];
        id = _ids[node];
        return true;
    }

    private static ulong Key(int node, byte b) => (((ulong)(uint)node << 8) | b) + 1;

    private int Slot(ulong key)
    {
        int mask = _keys.Length - 1;
        int slot = (int)((key * 0x9E3779B97F4A7C15) >> (64 - BitOperations.Log2((uint)_keys.Length)));
        while (_keys[slot] != 0 && _keys[slot] != key)
        {
            slot = (slot + 1) & mask;
        }

        return slot;
    }

    private void Rehash()
    {
        (ulong[] oldKeys, int[] oldChildren) = (_keys, _children);
        (_keys, _children) = (new ulong[oldKeys.Length * 2], new int[oldKeys.Length * 2]);
        for (int i = 0; i < oldKeys.Length; i++)
        {
            if (oldKeys[i] != 0)
            {
                int slot = Slot(oldKeys[i]);
                (_keys[slot], _children[slot]) = (oldKeys[i], oldChildren[i]);
            }
        }
    }
}
