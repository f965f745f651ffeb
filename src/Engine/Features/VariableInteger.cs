namespace Tiller.Features;

/// <summary>Reads integers of variable length, as Parquet pages and Thrift's compact protocol write them: unsigned LEB128, 7 bits per byte.</summary>
internal static class VariableInteger
{
    /// <summary>Reads an unsigned number and moves <paramref name="position"/> past it.</summary>
    /// <exception cref="InvalidDataException">The bytes end within the number, or it has more than 64 bits.</exception>
    public static ulong Read(ReadOnlySpan<byte> bytes, ref int position)
    {
        ulong value = 0;
        for (int shift = 0; shift < 70; shift += 7)
        {
            if ((uint)position >= (uint)bytes.Length)
            {
                throw new InvalidDataException("a number extends beyond the end");
            }

            byte part = bytes[position++];
            if (shift == 63 && part > 1)
            {
                throw new InvalidDataException("a number has more than 64 bits");
            }

            value |= (ulong)(part & 127) << shift;
            if (part < 128)
            {
                break;
            }
        }

        return value;
    }

    /// <summary>Reads a signed number in zigzag order: 0, −1, 1, −2, …</summary>
    /// <exception cref="InvalidDataException">As <see cref="Read"/>.</exception>
    public static long ReadSigned(ReadOnlySpan<byte> bytes, ref int position)
    {
        ulong value = Read(bytes, ref position);
        return (long)(value >> 1) ^ -(long)(value & 1);
    }
}
