using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// NFC, NFKC, NFD and NFKD with tables of its own (Unicode Standard Annex 15), so that ids do not depend on whether ICU is installed: in
/// invariant-globalization mode, .NET's string.Normalize does not normalise text beyond ASCII.
/// </summary>
internal sealed class UnicodeNormalization
{
    private const int HangulS = 0xAC00;
    private const int HangulL = 0x1100;
    private const int HangulV = 0x1161;
    private const int HangulT = 0x11A7;
    private const int Vowels = 21;
    private const int Trails = 28;
    private const int Syllables = 19 * Vowels * Trails;
    private const byte CanonicalUnstable = 1;
    private const byte CompatUnstable = 2;

    private static readonly Lazy<UnicodeNormalization> s_shared = new(() => new UnicodeNormalization());

    private readonly Dictionary<int, byte> _classes = [];
    private readonly Dictionary<int, int[]> _canonical = []; // recursive decompositions
    private readonly Dictionary<int, int[]> _compatibility = []; // recursive decompositions with compatibility mappings
    private readonly Dictionary<(int First, int Second), int> _compositions = [];
    private readonly byte[] _unstable; // flags by code point; code points beyond its end are stable

    private UnicodeNormalization()
    {
        ReadOnlySpan<byte> data = PackedNumbers.Unpack(NormalizationData.Packed);

        int code = 0;
        for (int n = PackedNumbers.Read(ref data); n > 0; n--)
        {
            code += PackedNumbers.Read(ref data);
            _classes[code] = (byte)PackedNumbers.Read(ref data);
        }

        code = 0;
        var single = new Dictionary<int, (bool Compat, int[] Codes)>();
        for (int n = PackedNumbers.Read(ref data); n > 0; n--)
        {
            code += PackedNumbers.Read(ref data);
            int flags = PackedNumbers.Read(ref data);
            var codes = new int[PackedNumbers.Read(ref data)];
            for (int i = 0; i < codes.Length; i++)
            {
                codes[i] = PackedNumbers.Read(ref data);
            }

            single[code] = ((flags & 1) != 0, codes);
            if ((flags & 2) != 0)
            {
                _compositions[(codes[0], codes[1])] = code;
            }
        }

        foreach ((int from, (bool compat, _)) in single)
        {
            var full = new List<int>();
            Expand(from, single, compat: true, full);
            _compatibility[from] = [.. full];
            if (!compat)
            {
                full.Clear();
                Expand(from, single, compat: false, full);
                _canonical[from] = [.. full];
            }
        }

        _unstable = new byte[_classes.Keys.Concat(_compatibility.Keys).Max() + 1];
        FindUnstable();
    }

    /// <summary>
    /// Appends the composed normal form. Only stretches that may change are decomposed. Between them are stable code points: normalisation does not
    /// change them, and they do not interact with text before them, so that they divide the text into independent parts (annex 15, §9.1).
    /// </summary>
    /// <param name="text">Valid UTF-8.</param>
    /// <param name="compat">NFKC instead of NFC.</param>
    /// <param name="output">Receives UTF-8.</param>
    /// <returns>Number of code points that were decomposed; the others were copied.</returns>
    public static long Append(ReadOnlySpan<byte> text, bool compat, ByteBuffer output)
    {
        // NFC changes nothing below U+0300, and NFKC nothing below U+00A0. The first UTF-8 bytes of these code points are below CC and C2.
        byte least = compat ? (byte)0xC2 : (byte)0xCC;
        if (text.IndexOfAnyInRange(least, (byte)0xFF) < 0)
        {
            output.Append(text);
            return 0;
        }

        var tables = s_shared.Value;
        var parts = new Parts();
        long count = 0;
        int done = 0;
        for (int next = 0; (next = tables.NextUnstable(text, next, compat, least, output.Steps)) >= 0; next = done)
        {
            // The previous code point can compose with the unstable one; earlier ones cannot.
            int start = next == done ? next : CharClasses.StartBefore(text, next);
            int end = tables.NextStable(text, next, compat, output.Steps);
            output.Append(text[done..start]);
            count += tables.Run(text[start..end], compat, parts, output);
            done = end;
        }

        output.Append(text[done..]);
        return count;
    }

    /// <summary>
    /// Like <see cref="Append"/>, but decomposes the whole text. This is the definition, with which <see cref="Append"/> must agree.
    /// </summary>
    internal static void AppendWhole(ReadOnlySpan<byte> text, bool compat, ByteBuffer output) =>
        s_shared.Value.Run(text, compat, new Parts(), output);

    /// <summary>Appends the decomposed normal form, NFD or NFKD.</summary>
    /// <param name="text">Valid UTF-8.</param>
    /// <param name="compat">NFKD instead of NFD.</param>
    /// <param name="output">Receives UTF-8.</param>
    public static void AppendDecomposed(ReadOnlySpan<byte> text, bool compat, ByteBuffer output)
    {
        if (text.IndexOfAnyInRange((byte)0x80, (byte)0xFF) < 0)
        {
            output.Append(text);
        }
        else
        {
            s_shared.Value.Run(text, compat, new Parts(), output, compose: false);
        }
    }

    // Position of the next unstable code point; -1 if there is none.
    private int NextUnstable(ReadOnlySpan<byte> text, int at, bool compat, byte least, EncodeSteps? steps)
    {
        while (at < text.Length)
        {
            int plain = text[at..].IndexOfAnyInRange(least, (byte)0xFF);
            if (plain < 0)
            {
                return -1;
            }

            at += plain;
            do
            {
                steps?.Take();
                int code = CharClasses.CodeAt(text, at, out int length);
                if (IsUnstable(code, compat))
                {
                    return at;
                }

                at += length;
            }
            while (at < text.Length && text[at] >= least);
        }

        return -1;
    }

    private int NextStable(ReadOnlySpan<byte> text, int at, bool compat, EncodeSteps? steps)
    {
        while (at < text.Length)
        {
            steps?.Take();
            int code = CharClasses.CodeAt(text, at, out int length);
            if (!IsUnstable(code, compat))
            {
                return at;
            }

            at += length;
        }

        return at;
    }

    private bool IsUnstable(int code, bool compat) =>
        code < _unstable.Length && (_unstable[code] & (compat ? CompatUnstable : CanonicalUnstable)) != 0;

    // A code point is unstable if it has a combining class, if it can compose with the previous code point, if its decomposition begins with such a
    // code point, or if normalisation changes it.
    private void FindUnstable()
    {
        int[] jamo = [.. Enumerable.Range(HangulV, Vowels), .. Enumerable.Range(HangulT + 1, Trails - 1)];
        HashSet<int> joining = [.. _classes.Keys, .. _compositions.Keys.Select(pair => pair.Second), .. jamo];
        foreach (int code in joining)
        {
            _unstable[code] = CanonicalUnstable | CompatUnstable;
        }

        var (output, parts) = (new ByteBuffer(), new Parts());
        Span<byte> utf8 = stackalloc byte[4];
        foreach (var (code, full) in _compatibility)
        {
            ReadOnlySpan<byte> text = utf8[..new Rune(code).EncodeToUtf8(utf8)];
            if (joining.Contains(full[0]) || Changes(text, compat: true))
            {
                _unstable[code] |= CompatUnstable;
            }

            if (_canonical.TryGetValue(code, out int[]? parted) && (joining.Contains(parted[0]) || Changes(text, compat: false)))
            {
                _unstable[code] |= CanonicalUnstable;
            }
        }

        bool Changes(ReadOnlySpan<byte> text, bool compat)
        {
            output.Length = 0;
            Run(text, compat, parts, output);
            return !output.Span.SequenceEqual(text);
        }
    }

    private static void Expand(int code, Dictionary<int, (bool Compat, int[] Codes)> single, bool compat, List<int> output)
    {
        if (single.TryGetValue(code, out (bool Compat, int[] Codes) mapping) && (compat || !mapping.Compat))
        {
            foreach (int part in mapping.Codes)
            {
                Expand(part, single, compat, output);
            }
        }
        else
        {
            output.Add(code);
        }
    }

    private int Run(ReadOnlySpan<byte> text, bool compat, Parts parts, ByteBuffer output, bool compose = true)
    {
        parts.Count = 0;
        int taken = 0;
        for (int i = 0; i < text.Length; taken++)
        {
            int code = CharClasses.CodeAt(text, i, out int length);
            i += length;
            output.Steps?.Take();
            Decompose(code, compat, parts);
        }

        Reorder(parts.Codes, parts.Order, parts.Count, output.Steps);
        int count = compose ? Compose(parts.Codes, parts.Order, parts.Count, output.Steps) : parts.Count;
        Span<byte> bytes = stackalloc byte[4];
        for (int i = 0; i < count; i++)
        {
            output.Append(bytes[..new Rune(parts.Codes[i]).EncodeToUtf8(bytes)]);
        }

        return taken;
    }

    private void Decompose(int code, bool compat, Parts parts)
    {
        int syllable = code - HangulS;
        if ((uint)syllable < Syllables)
        {
            parts.Add(HangulL + (syllable / (Vowels * Trails)), 0);
            parts.Add(HangulV + (syllable % (Vowels * Trails) / Trails), 0);
            if (syllable % Trails != 0)
            {
                parts.Add(HangulT + (syllable % Trails), 0);
            }
        }
        else if (code >= 0xA0 && (compat ? _compatibility : _canonical).TryGetValue(code, out int[]? full))
        {
            foreach (int part in full)
            {
                parts.Add(part, ClassOf(part));
            }
        }
        else
        {
            parts.Add(code, ClassOf(code));
        }
    }

    private byte ClassOf(int code) => code >= 0x300 && _classes.TryGetValue(code, out byte value) ? value : (byte)0;

    // Sorts every run of non-starters by combining class; marks of the same class stay in the order of the text.
    private static void Reorder(int[] codes, byte[] order, int count, EncodeSteps? steps)
    {
        for (int i = 0; i < count; i++)
        {
            steps?.Take();
            int start = i;
            bool sorted = true;
            for (; i < count && order[i] != 0; i++)
            {
                steps?.Take();
                sorted &= i == start || order[i - 1] <= order[i];
            }

            if (!sorted)
            {
                Sort(codes.AsSpan(start, i - start), order.AsSpan(start, i - start), steps);
            }
        }
    }

    // Counting sort, which takes linear time: a run may be as long as the text.
    private static void Sort(Span<int> codes, Span<byte> order, EncodeSteps? steps)
    {
        Span<int> next = stackalloc int[256]; // by class: position of its next mark
        next.Clear();
        foreach (byte value in order)
        {
            next[value]++;
        }

        for (int value = 0, at = 0; value < next.Length; value++)
        {
            (next[value], at) = (at, at + next[value]);
        }

        int[] marks = codes.ToArray();
        byte[] values = order.ToArray();
        for (int i = 0; i < marks.Length; i++)
        {
            steps?.Take();
            int at = next[values[i]]++;
            (codes[at], order[at]) = (marks[i], values[i]);
        }
    }

    // A mark composes with the last starter, unless a mark between them has the same or a higher class and blocks it.
    private int Compose(int[] codes, byte[] order, int count, EncodeSteps? steps)
    {
        int starter = -1;
        int last = 0; // class of the last kept code after the starter, 0 if none
        int kept = 0;
        for (int i = 0; i < count; i++)
        {
            steps?.Take();
            int code = codes[i];
            byte value = order[i];
            bool adjacent = starter >= 0 && kept == starter + 1;
            if (starter >= 0 && (adjacent || (last != 0 && last < value)) && Pair(codes[starter], code) is >= 0 and int pair)
            {
                codes[starter] = pair;
                continue;
            }

            if (value == 0)
            {
                starter = kept;
            }

            last = value;
            codes[kept++] = code;
        }

        return kept;
    }

    private int Pair(int first, int second)
    {
        int l = first - HangulL;
        int v = second - HangulV;
        if ((uint)l < 19 && (uint)v < Vowels)
        {
            return HangulS + (((l * Vowels) + v) * Trails);
        }

        int s = first - HangulS;
        int t = second - HangulT;
        if ((uint)s < Syllables && s % Trails == 0 && t is > 0 and < Trails)
        {
            return first + t;
        }

        return _compositions.TryGetValue((first, second), out int pair) ? pair : -1;
    }

    /// <summary>Scratch memory: decomposed code points with their combining classes.</summary>
    private sealed class Parts
    {
        public int[] Codes { get; private set; } = new int[64];

        public byte[] Order { get; private set; } = new byte[64];

        public int Count { get; set; }

        public void Add(int code, byte order)
        {
            if (Count == Codes.Length)
            {
                (int[] codes, byte[] orders) = (Codes, Order);
                Array.Resize(ref codes, 2 * Count);
                Array.Resize(ref orders, 2 * Count);
                (Codes, Order) = (codes, orders);
            }

            Codes[Count] = code;
            Order[Count++] = order;
        }
    }
}
