namespace Tiller.Tokens;

/// <summary>Buffers of one encoding call. The tokenizer lends them, so that calls on several threads share nothing.</summary>
internal sealed class BpeScratch
{
    private const int Stride = 1 << 14;

    private int[] _output = new int[1024];

    public int Count { get; private set; }

    /// <summary>Counts one step for each word, and <see cref="Stride"/> steps at a time within a long word.</summary>
    public required EncodeSteps Steps { get; init; }

    public ReadOnlySpan<int> Output => _output.AsSpan(0, Count);

    public WordCache Cache { get; } = new();

    /// <summary>Memory for one key of a vocabulary.</summary>
    public ByteBuffer Word { get; } = new();

    public UnigramPath Path { get; private set; } = new();

    /// <summary>Characters of which bytes were dropped, in the order of the text.</summary>
    public List<int> Dropped { get; } = [];

    /// <summary>The range of the normalised text that each id of the output covers, if the call requests it; null if not.</summary>
    public List<TextRange>? Places { get; set; }

    /// <summary>Start of the current part in a word that is encoded in parts.</summary>
    public int PartStart { get; set; }

    /// <summary>The initial symbols of a BPE word, if ranges are requested.</summary>
    public List<SymbolPlace> SymbolPlaces { get; } = [];

    public PairHeap Heap { get; } = new();

    public int[] Symbols { get; private set; } = new int[64];

    public int[] Next { get; private set; } = [];

    public int[] Previous { get; private set; } = [];

    public void Clear()
    {
        Count = 0;
        Dropped.Clear();
        Places = null;
        const int Keep = 1 << 20;
        if (Symbols.Length > Keep)
        {
            Symbols = new int[64];
            Next = [];
            Previous = [];
            Heap.Trim();
        }

        if (Path.Ids.Length > Keep)
        {
            Path = new UnigramPath();
        }

        if (_output.Length > Keep)
        {
            _output = new int[1024];
        }
    }

    /// <summary>Counts the next steps of a long word, if <paramref name="step"/> is the first step of a stride.</summary>
    public void TakeStride(int step)
    {
        if (step % Stride == 0)
        {
            Steps.Take(Stride);
        }
    }

    /// <summary>Records that bytes of a character were dropped.</summary>
    public void Drop(ReadOnlySpan<byte> word, int at) => Dropped.Add(CharClasses.CodeAt(word, at, out _));

    /// <summary>Removes the ids after the first <paramref name="count"/>.</summary>
    public void Truncate(int count)
    {
        Count = count;
        Places?.RemoveRange(count, Places.Count - count);
    }

    public void Append(int id)
    {
        if (Count == _output.Length)
        {
            Array.Resize(ref _output, Count * 2);
        }

        _output[Count++] = id;
    }

    /// <summary>Appends an id for a part of the word, given in bytes.</summary>
    public void Append(int id, int start, int end)
    {
        Append(id);
        Places?.Add(new TextRange(PartStart + start, PartStart + end));
    }

    public void Append(ReadOnlySpan<int> ids)
    {
        if (Count + ids.Length > _output.Length)
        {
            Array.Resize(ref _output, Math.Max(Count * 2, Count + ids.Length));
        }

        ids.CopyTo(_output.AsSpan(Count));
        Count += ids.Length;
    }

    // One symbol more than there are bytes: a pending unknown token may follow the last byte symbol.
    public void ReserveSymbols(int bytes)
    {
        if (Symbols.Length <= bytes)
        {
            Symbols = new int[Math.Max(bytes + 1, Symbols.Length * 2)];
        }
    }

    public void ReserveLinks(int count)
    {
        if (Next.Length < count)
        {
            Next = new int[Math.Max(count, Next.Length * 2)];
            Previous = new int[Next.Length];
        }
    }
}

/// <summary>A symbol, and the bytes of its word that it covers.</summary>
internal readonly record struct SymbolPlace(int Id, int Start, int End);

/// <summary>Min-heap of (rank, position). Each node has four children, which causes fewer cache misses than two.</summary>
internal sealed class PairHeap
{
    private ulong[] _items = new ulong[64];
    private int _count;

    public void Clear() => _count = 0;

    public void Trim()
    {
        _items = new ulong[64];
        _count = 0;
    }

    /// <summary>Adds an entry, unless the rank is <see cref="MergeTable.None"/>.</summary>
    public void PushRank(int rank, int position)
    {
        if (rank == MergeTable.None)
        {
            return;
        }

        if (_count == _items.Length)
        {
            Array.Resize(ref _items, _count * 2);
        }

        ulong item = ((ulong)(uint)rank << 32) | (uint)position;
        int i = _count++;
        while (i > 0)
        {
            int parent = (i - 1) >> 2;
            if (_items[parent] <= item)
            {
                break;
            }

            _items[i] = _items[parent];
            i = parent;
        }

        _items[i] = item;
    }

    public bool TryPop(out int rank, out int position)
    {
        if (_count == 0)
        {
            rank = position = 0;
            return false;
        }

        ulong top = _items[0];
        rank = (int)(top >> 32);
        position = (int)top;
        ulong item = _items[--_count];
        int i = 0;
        while (true)
        {
            int child = (i << 2) + 1;
            if (child >= _count)
            {
                break;
            }

            int end = Math.Min(child + 4, _count);
            int least = child;
            for (int c = child + 1; c < end; c++)
            {
                if (_items[c] < _items[least])
                {
                    least = c;
                }
            }

            if (_items[least] >= item)
            {
                break;
            }

            _items[i] = _items[least];
            i = least;
        }

        _items[i] = item;
        return true;
    }
}
