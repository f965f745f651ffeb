using System.IO.Compression;

namespace Tiller.Tokens;

/// <summary>Tables of Unicode that the program contains: LEB128 numbers, deflated, in base64.</summary>
internal static class PackedNumbers
{
    /// <summary>The bytes of a table.</summary>
    public static byte[] Unpack(string text)
    {
        using var packed = new MemoryStream(Convert.FromBase64String(text));
        using var inflate = new DeflateStream(packed, CompressionMode.Decompress);
        using var plain = new MemoryStream();
        inflate.CopyTo(plain);
        return plain.ToArray();
    }

    /// <summary>Reads the next number and removes it from the data.</summary>
    public static int Read(ref ReadOnlySpan<byte> data)
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
}
