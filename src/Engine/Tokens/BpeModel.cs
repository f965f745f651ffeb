namespace Tiller.Tokens;

/// <summary>
/// Byte-pair encoding. A word becomes one symbol for each byte (byte-level), or one for each character (SentencePiece), with the bytes of characters
/// that the vocabulary lacks. Then the leftmost pair of the lowest rank is merged, again and again. The time is O(n log n) in the length of the word.
/// </summary>
internal sealed class BpeModel : TokenModel
{
    // For at most this many symbols, the quadratic loop is faster than the heap.
    private const int ShortWord = 40;

    public required MergeTable Merges { get; init; }

    /// <summary>Whether words are raw bytes, each of which is a symbol.</summary>
    public required bool ByteLevel { get; init; }

    /// <summary>
    /// Ids by byte // (256), -1 for none. Byte-level: the id of each byte's symbol. Otherwise: the id of <c>&lt;0xNN&gt;</c>; null without byte
    /// fallback.
    /// </summary>
    public required int[]? ByteIds { get; init; }

    /// <summary>Whether adjacent unknown characters become one unknown token.</summary>
    public required bool FuseUnknown { get; init; }

    /// <summary>Whether a word that is itself a token is not split.</summary>
    public required bool IgnoreMerges { get; init; }

    /// <summary>
    /// Whether no merge joins another character and a following U+2581. A word may then be split before each run of U+2581 with the same result.
    /// </summary>
    public required bool CutsBeforeMetaspace { get; init; }

    /// <summary>
    /// By id: whether plain text never becomes this token, because it is special or was added without being a token of the model. Empty if there are
    /// no such tokens.
    /// </summary>
    public required bool[] Hidden { get; init; }

    public override void Encode(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        if (!CutsBeforeMetaspace)
        {
            EncodeCached(word, scratch);
            return;
        }

        ReadOnlySpan<byte> mark = "▁"u8;
        while (true)
        {
            int lead = 0;
            while (word[lead..].StartsWith(mark))
            {
                lead += mark.Length;
            }

            int next = word[lead..].IndexOf(mark);
            if (next < 0)
            {
                EncodeCached(word, scratch);
                return;
            }

            EncodeCached(word[..(lead + next)], scratch);
            scratch.PartStart += lead + next;
            word = word[(lead + next)..];
        }
    }

    protected override void EncodeWord(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        if (IgnoreMerges && WholeWord(word) is >= 0 and int whole)
        {
            scratch.Append(whole, 0, word.Length);
            return;
        }

        int before = scratch.Count;
        scratch.ReserveSymbols(word.Length);
        int count = ByteLevel ? BytesToSymbols(word, scratch) : CharactersToSymbols(word, scratch);
        if (count <= ShortWord)
        {
            count = MergeShort(scratch.Symbols.AsSpan(0, count));
            scratch.Append(scratch.Symbols.AsSpan(0, count));
        }
        else
        {
            MergeLong(count, scratch);
        }

        if (scratch.Places is { } places)
        {
            Place(scratch.Output[before..], scratch, places);
        }
    }

    // The text of a token is the concatenated text of its symbols.
    private void Place(ReadOnlySpan<int> ids, BpeScratch scratch, List<TextRange> places)
    {
        List<SymbolPlace> symbols = scratch.SymbolPlaces;
        int at = 0;
        foreach (int id in ids)
        {
            int first = at;
            int rest = Tokens.TextOf(id).Length; // 0 for an unknown token without text, which is still one symbol
            do
            {
                rest -= Tokens.TextOf(symbols[at++].Id).Length;
            }
            while (rest > 0);

            places.Add(new TextRange(scratch.PartStart + symbols[first].Start, scratch.PartStart + symbols[at - 1].End));
        }
    }

    private int WholeWord(ReadOnlySpan<byte> word)
    {
        int id = ByteLevel ? Tokens.IdOf(ByteAlphabet.Encode(word)) : Tokens.IdOf(word);
        return Visible(id) ? id : -1;
    }

    private bool Visible(int id) => id >= 0 && (Hidden.Length == 0 || !Hidden[id]);

    private int BytesToSymbols(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        var symbols = new SymbolRow(this, scratch);
        int lost = -1; // start of the last character with a dropped byte
        for (int i = 0; i < word.Length; i++)
        {
            int id = ByteIds![word[i]];
            if (id >= 0)
            {
                symbols.Flush();
                symbols.Add(id, i, i + 1);
            }
            else if (UnknownId >= 0)
            {
                symbols.AddUnknown(i, i + 1);
            }
            else if (CharClasses.StartBefore(word, i + 1) is var at && at != lost)
            {
                scratch.Drop(word, at);
                lost = at;
            }
        }

        symbols.Flush();
        return symbols.Count;
    }

    private int CharactersToSymbols(ReadOnlySpan<byte> word, BpeScratch scratch)
    {
        var symbols = new SymbolRow(this, scratch);
        int characters = 0;
        for (int i = 0; i < word.Length;)
        {
            CharClasses.CodeAt(word, i, out int length);
            ReadOnlySpan<byte> character = word.Slice(i, length);
            scratch.TakeStride(++characters);
            int id = Tokens.IdOf(character);
            if (Visible(id))
            {
                symbols.Flush();
                symbols.Add(id, i, i + length);
            }
            else if (ByteIds is not null && HasAll(ByteIds, character))
            {
                // A pending unknown token stays pending, as in the reference implementation.
                for (int at = i; at < i + length; at++)
                {
                    symbols.Add(ByteIds[word[at]], at, at + 1);
                }
            }
            else if (UnknownId >= 0)
            {
                symbols.AddUnknown(i, i + length);
            }
            else
            {
                scratch.Drop(word, i);
            }

            i += length;
        }

        symbols.Flush();
        return symbols.Count;
    }

    // The initial symbols of a word. An unknown symbol is held back, so that following unknown characters can join it.
    private ref struct SymbolRow
    {
        private readonly int[] _symbols;
        private readonly List<SymbolPlace>? _places;
        private readonly int _unknownId;
        private readonly bool _fuses;
        private bool _pending;
        private TextRange _unknown;

        public SymbolRow(BpeModel model, BpeScratch scratch)
        {
            _symbols = scratch.Symbols;
            scratch.SymbolPlaces.Clear();
            _places = scratch.Places is null ? null : scratch.SymbolPlaces;
            _unknownId = model.UnknownId;
            _fuses = model.FuseUnknown;
        }

        public int Count { get; private set; }

        public void Add(int id, int start, int end)
        {
            _symbols[Count++] = id;
            _places?.Add(new SymbolPlace(id, start, end));
        }

        public void AddUnknown(int start, int end)
        {
            if (!_fuses)
            {
                Flush();
            }

            _unknown = new TextRange(_pending ? _unknown.Start : start, end);
            _pending = true;
        }

        public void Flush()
        {
            if (_pending)
            {
                _pending = false;
                Add(_unknownId, _unknown.Start, _unknown.End);
            }
        }
    }

    private int MergeShort(Span<int> symbols)
    {
        Span<int> ranks = stackalloc int[ShortWord];
        Span<int> merged = stackalloc int[ShortWord];
        int count = symbols.Length;
        for (int i = 0; i + 1 < count; i++)
        {
            ranks[i] = Merges.Rank(symbols[i], symbols[i + 1], out merged[i]);
        }

        while (count > 1)
        {
            int best = 0;
            for (int i = 1; i + 1 < count; i++)
            {
                if (ranks[i] < ranks[best])
                {
                    best = i;
                }
            }

            if (ranks[best] == MergeTable.None)
            {
                break;
            }

            symbols[best] = merged[best];
            count--;
            symbols.Slice(best + 2, count - best - 1).CopyTo(symbols[(best + 1)..]);
            if (best + 1 < count)
            {
                ranks.Slice(best + 1, count - best - 1).CopyTo(ranks[best..]);
                merged.Slice(best + 1, count - best - 1).CopyTo(merged[best..]);
                ranks[best] = Merges.Rank(symbols[best], symbols[best + 1], out merged[best]);
            }

            if (best > 0)
            {
                ranks[best - 1] = Merges.Rank(symbols[best - 1], symbols[best], out merged[best - 1]);
            }
        }

        return count;
    }

    // Linked symbols, and a heap of (rank, position of the left symbol). An entry is stale if its pair no longer has its rank.
    private void MergeLong(int count, BpeScratch scratch)
    {
        scratch.ReserveLinks(count);
        int[] symbols = scratch.Symbols;
        int[] next = scratch.Next;
        int[] previous = scratch.Previous;
        PairHeap heap = scratch.Heap;
        heap.Clear();
        for (int i = 0; i < count; i++)
        {
            previous[i] = i - 1;
            next[i] = i + 1 < count ? i + 1 : -1;
        }

        for (int i = 0; i + 1 < count; i++)
        {
            scratch.TakeStride(i);
            heap.PushRank(Merges.Rank(symbols[i], symbols[i + 1], out _), i);
        }

        for (int step = 0; heap.TryPop(out int rank, out int at); step++)
        {
            scratch.TakeStride(step);
            int right = next[at];
            if (symbols[at] < 0 || right < 0 || Merges.Rank(symbols[at], symbols[right], out int merged) != rank)
            {
                continue;
            }

            symbols[at] = merged;
            symbols[right] = -1;
            int after = next[right];
            next[at] = after;
            if (after >= 0)
            {
                previous[after] = at;
                heap.PushRank(Merges.Rank(merged, symbols[after], out _), at);
            }

            int before = previous[at];
            if (before >= 0)
            {
                heap.PushRank(Merges.Rank(symbols[before], merged, out _), before);
            }
        }

        for (int i = 0; i >= 0; i = next[i])
        {
            scratch.Append(symbols[i]);
        }
    }
}
