using System.IO.Compression;
using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// NFC and NFKC from own tables (Unicode Standard Annex 15), so that ids do not depend on whether ICU is installed: .NET's
/// string.Normalize leaves text beyond ASCII alone in invariant-globalisation mode.
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

    private static readonly Lazy<UnicodeNormalization> Shared = new(() => new UnicodeNormalization());

    private readonly Dictionary<int, byte> classes = [];
    private readonly Dictionary<int, int[]> canonical = []; // full decompositions
    private readonly Dictionary<int, int[]> compatibility = []; // full, where it differs from the canonical one
    private readonly Dictionary<(int First, int Second), int> compositions = [];

    private UnicodeNormalization()
    {
        using var packed = new MemoryStream(Convert.FromBase64String(NormalizationData.Packed));
        using var inflate = new DeflateStream(packed, CompressionMode.Decompress);
        using var plain = new MemoryStream();
        inflate.CopyTo(plain);
        ReadOnlySpan<byte> data = plain.GetBuffer().AsSpan(0, (int)plain.Length);

        int code = 0;
        for (int n = ReadNumber(ref data); n > 0; n--)
        {
            code += ReadNumber(ref data);
            classes[code] = (byte)ReadNumber(ref data);
        }

        code = 0;
        var single = new Dictionary<int, (bool Compat, int[] Codes)>();
        for (int n = ReadNumber(ref data); n > 0; n--)
        {
            code += ReadNumber(ref data);
            int flags = ReadNumber(ref data);
            var codes = new int[ReadNumber(ref data)];
            for (int i = 0; i < codes.Length; i++)
            {
                codes[i] = ReadNumber(ref data);
            }

            single[code] = ((flags & 1) != 0, codes);
            if ((flags & 2) != 0)
            {
                compositions[(codes[0], codes[1])] = code;
            }
        }

        foreach ((int from, (bool compat, _)) in single)
        {
            var full = new List<int>();
            Expand(from, single, compat: true, full);
            compatibility[from] = [.. full];
            if (!compat)
            {
                full.Clear();
                Expand(from, single, compat: false, full);
                canonical[from] = [.. full];
            }
        }
    }

    /// <summary>Appends the normalised text.</summary>
    /// <param name="text">Valid UTF-8.</param>
    /// <param name="compat">NFKC instead of NFC.</param>
    /// <param name="output">Receives UTF-8.</param>
    public static void Append(ReadOnlySpan<byte> text, bool compat, ByteBuffer output)
    {
        // Below U+0300 NFC changes nothing (NFKC: below U+00A0): the bytes there are under CC (C2).
        int plain = text.IndexOfAnyInRange(compat ? (byte)0xC2 : (byte)0xCC, (byte)0xFF);
        if (plain < 0)
        {
            output.Append(text);
            return;
        }

        // The character before the first that may change can compose with it.
        int start = plain == 0 ? 0 : CharClasses.StartBefore(text, plain);
        output.Append(text[..start]);
        Shared.Value.Run(text[start..], compat, output);
    }

    private static int ReadNumber(ref ReadOnlySpan<byte> data)
    {
        int value = 0;
        int shift = 0;
        int used = 0;
        byte b;
        do
        {
            b = data[used++];
            value |= (b & 0x7F) << shift;
            shift += 7;
        }
        while (b >= 0x80);
        data = data[used..];
        return value;
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

    private void Run(ReadOnlySpan<byte> text, bool compat, ByteBuffer output)
    {
        var codes = new int[text.Length];
        var order = new byte[text.Length];
        int count = 0;
        for (int i = 0; i < text.Length;)
        {
            int code = CharClasses.CodeAt(text, i, out int length);
            i += length;
            output.Steps?.Take();
            Decompose(code, compat, ref codes, ref order, ref count);
        }

        Reorder(codes, order, count, output.Steps);
        count = Compose(codes, order, count, output.Steps);
        Span<byte> bytes = stackalloc byte[4];
        for (int i = 0; i < count; i++)
        {
            output.Append(bytes[..new Rune(codes[i]).EncodeToUtf8(bytes)]);
        }
    }

    private void Decompose(int code, bool compat, ref int[] codes, ref byte[] order, ref int count)
    {
        if (count + 20 > codes.Length)
        {
            Array.Resize(ref codes, Math.Max(64, codes.Length * 2));
            Array.Resize(ref order, codes.Length);
        }

        int syllable = code - HangulS;
        if ((uint)syllable < Syllables)
        {
            codes[count++] = HangulL + (syllable / (Vowels * Trails));
            codes[count++] = HangulV + (syllable % (Vowels * Trails) / Trails);
            if (syllable % Trails != 0)
            {
                codes[count++] = HangulT + (syllable % Trails);
            }
        }
        else if (code >= 0xA0 && (compat ? compatibility : canonical).TryGetValue(code, out int[]? full))
        {
            foreach (int part in full)
            {
                codes[count] = part;
                order[count++] = ClassOf(part);
            }
        }
        else
        {
            codes[count] = code;
            order[count++] = ClassOf(code);
        }
    }

    private byte ClassOf(int code) => code >= 0x300 && classes.TryGetValue(code, out byte value) ? value : (byte)0;

    // Stable sort of every run of non-starters by combining class.
    private static void Reorder(int[] codes, byte[] order, int count, EncodeSteps? steps)
    {
        for (int i = 0; i < count;)
        {
            steps?.Take();
            int end = i;
            bool sorted = true;
            while (end < count && order[end] != 0)
            {
                sorted &= end == i || order[end - 1] <= order[end];
                end++;
            }

            if (!sorted)
            {
                var run = new (byte Order, int Code)[end - i];
                for (int j = i; j < end; j++)
                {
                    run[j - i] = (order[j], codes[j]);
                }

                int at = i;
                foreach ((byte Order, int Code) item in run.OrderBy(static x => x.Order))
                {
                    (order[at], codes[at++]) = item;
                }
            }

            i = Math.Max(end, i + 1);
        }
    }

    // A mark composes with the last starter unless a mark between them has a class that is not lower (blocks it).
    private int Compose(int[] codes, byte[] order, int count, EncodeSteps? steps)
    {
        int starter = -1;
        int last = 0; // class of the previous kept code after the starter; 0 if none
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

        return compositions.TryGetValue((first, second), out int pair) ? pair : -1;
    }
}
