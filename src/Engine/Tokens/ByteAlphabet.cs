using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// GPT-2's alphabet, which writes each byte as a printable character. The printable characters of Latin-1 represent themselves; the other 68 bytes,
/// in order, are U+0100 and up.
/// </summary>
internal static class ByteAlphabet
{
    private static readonly char[] s_charOfByte = MakeChars();
    private static readonly short[] s_byteOfChar = MakeBytes();

    /// <summary>The character of a byte.</summary>
    public static char CharOf(byte b) => s_charOfByte[b];

    /// <summary>Writes bytes in the alphabet, as UTF-8.</summary>
    public static byte[] Encode(ReadOnlySpan<byte> bytes)
    {
        var text = new char[bytes.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            text[i] = s_charOfByte[bytes[i]];
        }

        return Encoding.UTF8.GetBytes(text);
    }

    /// <summary>Appends bytes written in the alphabet, as UTF-8.</summary>
    public static void Append(ReadOnlySpan<byte> bytes, ByteBuffer output)
    {
        foreach (byte b in bytes)
        {
            int code = s_charOfByte[b];
            if (code >= 0x80)
            {
                output.Append((byte)(0xC0 | (code >> 6)));
                code = 0x80 | (code & 0x3F);
            }

            output.Append((byte)code);
        }
    }

    /// <summary>Appends the bytes of UTF-8 text in the alphabet. Text with any other character is appended unchanged.</summary>
    public static void Decode(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        int before = output.Length;
        for (int i = 0; i < text.Length;)
        {
            int code = CharClasses.CodeAt(text, i, out int length);
            i += length;
            if (code >= s_byteOfChar.Length || s_byteOfChar[code] < 0)
            {
                output.Length = before;
                output.Append(text);
                return;
            }

            output.Append((byte)s_byteOfChar[code]);
        }
    }

    private static char[] MakeChars()
    {
        var chars = new char[256];
        char next = '\u0100';
        for (int b = 0; b < chars.Length; b++)
        {
            bool printable = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            chars[b] = printable ? (char)b : next++;
        }

        return chars;
    }

    private static short[] MakeBytes()
    {
        var bytes = new short[0x144];
        Array.Fill(bytes, (short)-1);
        for (int b = 0; b < 256; b++)
        {
            bytes[s_charOfByte[b]] = (short)b;
        }

        return bytes;
    }
}
