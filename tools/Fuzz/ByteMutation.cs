using System.Text;

namespace Tiller.Fuzz;

/// <summary>Mutates bytes by a few simple changes at a time.</summary>
internal sealed class ByteMutation(IReadOnlyList<byte[]> words, Random random)
{
    private const int Longest = 1 << 14;
    private const int LongestRare = 1 << 20;

    private static readonly byte[] s_bytes = [0, 1, 0x20, 0x7F, 0x80, 0xBF, 0xC0, 0xED, 0xF4, 0xFF, (byte)'"', (byte)'\\', (byte)'{', (byte)'}',
        (byte)'[', (byte)']', (byte)',', (byte)':', (byte)'-', (byte)'.', (byte)'e'];

    private static readonly byte[][] s_numbers = [.. new[]
    {
        "0", "-1", "1", "1.5", "1e999", "127", "128", "255", "256", "32767", "65536", "2147483647", "2147483648", "4294967295", "4294967296",
        "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "100000001",
    }.Select(Encoding.ASCII.GetBytes)];

    /// <summary>Returns a changed copy.</summary>
    /// <param name="source">The input to change.</param>
    /// <param name="other">Another input, to splice with.</param>
    public byte[] Change(byte[] source, byte[] other)
    {
        byte[] bytes = source;
        int changes = 1 + (random.Next(4) == 0 ? random.Next(8) : random.Next(2));
        int longest = random.Next(1 << 14) == 0 ? LongestRare : Math.Max(Longest, source.Length + 256);
        for (int i = 0; i < changes; i++)
        {
            bytes = Once(bytes, other, longest);
        }

        return ReferenceEquals(bytes, source) ? [.. source] : bytes;
    }

    private byte[] Once(byte[] bytes, byte[] other, int longest)
    {
        if (bytes.Length == 0)
        {
            return Word();
        }

        int at = random.Next(bytes.Length);
        int length = Math.Min(bytes.Length - at, 1 + random.Next(random.Next(8) == 0 ? bytes.Length : 16));
        switch (random.Next(16))
        {
            case 0 or 1:
                return Set(bytes, at, (byte)(bytes[at] ^ (1 << random.Next(8))));
            case 2:
                return Set(bytes, at, (byte)random.Next(256));
            case 3 or 4:
                return Set(bytes, at, s_bytes[random.Next(s_bytes.Length)]);
            case 5:
                return Set(bytes, at, (byte)(bytes[at] + random.Next(-3, 4)));
            case 6:
                return Put(bytes, at, length, []);
            case 7:
                return Put(bytes, at, 0, Word());
            case 8:
                return Put(bytes, at, length, Word());
            case 9 or 10:
                return Number(bytes, at);
            case 11:
                int from = random.Next(bytes.Length);
                return Put(bytes, at, 0, bytes[from..Math.Min(bytes.Length, from + length)]);
            case 12:
                return Cut([.. bytes[..at], .. other.AsSpan(other.Length == 0 ? 0 : random.Next(other.Length))], longest);
            case 13:
                return bytes[..at];
            case 14:
                return Put(bytes, at, length, Encoding.UTF8.GetBytes(RandomRune().ToString()));
            default:
                int times = Math.Min(random.Next(4) == 0 ? longest : 64, Math.Max(1, (longest - bytes.Length) / length));
                byte[] run = bytes[at..(at + length)];
                byte[] repeated = new byte[times * length];
                for (int i = 0; i < repeated.Length; i++)
                {
                    repeated[i] = run[i % length];
                }

                return Put(bytes, at, 0, repeated);
        }
    }

    private static byte[] Set(byte[] bytes, int at, byte value)
    {
        byte[] changed = [.. bytes];
        changed[at] = value;
        return changed;
    }

    private static byte[] Put(byte[] bytes, int at, int removed, byte[] put) => [.. bytes.AsSpan(0, at), .. put, .. bytes.AsSpan(at + removed)];

    private static byte[] Cut(byte[] bytes, int longest) => bytes.Length > longest ? bytes[..longest] : bytes;

    // Replaces the number at or after a position by another number.
    private byte[] Number(byte[] bytes, int at)
    {
        int start = bytes.AsSpan(at).IndexOfAnyInRange((byte)'0', (byte)'9');
        if (start < 0)
        {
            return Put(bytes, at, 0, s_numbers[random.Next(s_numbers.Length)]);
        }

        start += at;
        int end = start;
        while (end < bytes.Length && char.IsAsciiDigit((char)bytes[end]))
        {
            end++;
        }

        return Put(bytes, start, end - start, s_numbers[random.Next(s_numbers.Length)]);
    }

    private byte[] Word() => words[random.Next(words.Count)];

    private Rune RandomRune()
    {
        int code = random.Next(3) switch { 0 => random.Next(0x80), 1 => random.Next(0x3000), _ => random.Next(0x110000) };
        return Rune.IsValid(code) ? new Rune(code) : Rune.ReplacementChar;
    }
}
