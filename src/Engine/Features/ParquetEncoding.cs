using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Tiller.Features;

/// <summary>
/// The encodings of values in Parquet's pages (Encodings.md of the Apache Parquet format). All values become text: bytes are read as UTF-8, numbers
/// are written in the invariant culture.
/// </summary>
internal static class ParquetEncoding
{
    private static readonly UTF8Encoding s_utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Reads PLAIN: consecutive values; a text is preceded by its length.</summary>
    public static string[] Plain(ReadOnlySpan<byte> bytes, ParquetColumn column, int count)
    {
        int size = column.Type switch
        {
            ParquetType.Boolean or ParquetType.ByteArray => 0,
            ParquetType.Int32 or ParquetType.Float => 4,
            _ => 8,
        };
        CheckCount(count, column.Type == ParquetType.Boolean ? bytes.Length * 8L : bytes.Length / (size == 0 ? 4 : size));
        string[] values = new string[count];
        for (int i = 0, at = 0; i < count; i++)
        {
            if (column.Type == ParquetType.Boolean)
            {
                values[i] = Boolean((bytes[i >> 3] >> (i & 7)) & 1);
            }
            else if (column.Type == ParquetType.ByteArray)
            {
                int length = at + 4 <= bytes.Length ? BinaryPrimitives.ReadInt32LittleEndian(bytes[at..]) : -1;
                values[i] = Text(Part(bytes, at + 4, length));
                at += 4 + length;
            }
            else
            {
                values[i] = Number(bytes.Slice(at, size), column);
                at += size;
            }
        }

        return values;
    }

    /// <summary>Reads RLE: runs of a repeated value, and bit-packed values. A value is a Boolean, a level or an index into a dictionary.</summary>
    /// <param name="bytes">The encoded runs.</param>
    /// <param name="width">Number of bits of a value.</param>
    /// <param name="values">Result; filled completely.</param>
    public static void Runs(ReadOnlySpan<byte> bytes, int width, Span<int> values)
    {
        if (width is < 0 or > 32)
        {
            throw new InvalidDataException($"a value has {width} bits");
        }

        int at = 0;
        for (int done = 0; done < values.Length;)
        {
            ulong head = VariableInteger.Read(bytes, ref at);
            int left = values.Length - done;
            if ((head & 1) == 0)
            {
                ReadOnlySpan<byte> part = Part(bytes, at, (width + 7) / 8);
                int run = (int)ulong.Min(head >> 1, (ulong)left);
                values.Slice(done, run).Fill((int)Bits(part, 0, width));
                done += run;
                at += part.Length;
            }
            else
            {
                // Bit-packed values come in groups of eight. Some files omit the unused values of the last group.
                int run = (int)ulong.Min((head >> 1) * 8, (ulong)left);
                ReadOnlySpan<byte> part = Part(bytes, at, (int)(((long)run * width) + 7) / 8);
                for (int i = 0; i < run; i++)
                {
                    values[done++] = (int)Bits(part, (long)i * width, width);
                }

                at += (int)ulong.Min((head >> 1) * (ulong)width, (ulong)(bytes.Length - at));
            }
        }
    }

    /// <summary>Reads RLE of Booleans, preceded by its length.</summary>
    public static string[] Booleans(ReadOnlySpan<byte> bytes, int count)
    {
        int length = bytes.Length < 4 ? -1 : BinaryPrimitives.ReadInt32LittleEndian(bytes);
        int[] values = new int[count];
        Runs(Part(bytes, 4, length), 1, values);
        return Array.ConvertAll(values, Boolean);
    }

    /// <summary>Reads integers in DELTA_BINARY_PACKED.</summary>
    public static string[] Deltas(ReadOnlySpan<byte> bytes, ParquetColumn column, int count)
    {
        int at = 0;
        byte[] value = new byte[8];
        return Array.ConvertAll(Deltas(bytes, ref at, count), x =>
        {
            BinaryPrimitives.WriteInt64LittleEndian(value, x);
            return Number(value.AsSpan(0, column.Type == ParquetType.Int32 ? 4 : 8), column);
        });
    }

    /// <summary>Reads DELTA_LENGTH_BYTE_ARRAY: the lengths of all texts, then the texts.</summary>
    public static string[] DeltaLengths(ReadOnlySpan<byte> bytes, int count)
    {
        int at = 0;
        long[] lengths = Deltas(bytes, ref at, count);
        string[] values = new string[count];
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> part = Part(bytes, at, lengths[i]);
            values[i] = Text(part);
            at += part.Length;
        }

        return values;
    }

    /// <summary>
    /// Reads DELTA_BYTE_ARRAY: the length of the prefix that each text shares with the previous text, then the suffixes as in
    /// DELTA_LENGTH_BYTE_ARRAY.
    /// </summary>
    /// <param name="bytes">The page.</param>
    /// <param name="count">Number of texts.</param>
    /// <param name="left">Bytes of text that may still be read; reduced by the size of the texts.</param>
    public static string[] DeltaTexts(ReadOnlySpan<byte> bytes, int count, ref long left)
    {
        int at = 0;
        long[] shared = Deltas(bytes, ref at, count), lengths = Deltas(bytes, ref at, count);
        string[] values = new string[count];
        byte[] last = [];
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> rest = Part(bytes, at, lengths[i]);
            at += rest.Length;
            byte[] whole = [.. Part(last, 0, shared[i]), .. rest];
            left -= whole.Length;
            if (left < 0)
            {
                throw new NotSupportedException($"it has more than {PromptFile.MaxBytes >> 20} MiB of text");
            }

            values[i] = Text(whole);
            last = whole;
        }

        return values;
    }

    // A header, then blocks of deltas minus the smallest delta of the block. Each part of a block is packed with its own number of bits.
    private static long[] Deltas(ReadOnlySpan<byte> bytes, ref int at, int count)
    {
        ulong block = VariableInteger.Read(bytes, ref at), parts = VariableInteger.Read(bytes, ref at), total = VariableInteger.Read(bytes, ref at);
        long value = VariableInteger.ReadSigned(bytes, ref at);
        if (block is 0 or > 1 << 20 || parts is 0 or > 1 << 10 || block % (parts * 8) != 0)
        {
            throw new InvalidDataException($"a block of {block} numbers is in {parts} parts");
        }

        CheckCount(count, (long)ulong.Min(total, long.MaxValue));
        int each = (int)(block / parts);
        long[] values = new long[count];
        if (count > 0)
        {
            values[0] = value;
        }

        for (int done = 1; done < count;)
        {
            long least = VariableInteger.ReadSigned(bytes, ref at);
            ReadOnlySpan<byte> widths = Part(bytes, at, (long)parts);
            at += widths.Length;
            for (int part = 0; part < widths.Length && done < count; part++)
            {
                int width = widths[part];
                if (width > 64)
                {
                    throw new InvalidDataException($"a number has {width} bits");
                }

                ReadOnlySpan<byte> packed = Part(bytes, at, (long)each * width / 8);
                at += packed.Length;
                for (int i = 0; i < each && done < count; i++)
                {
                    value = unchecked(value + least + (long)Bits(packed, (long)i * width, width));
                    values[done++] = value;
                }
            }
        }

        return values;
    }

    // Little-endian, lowest bit first.
    private static ulong Bits(ReadOnlySpan<byte> bytes, long first, int width)
    {
        ulong value = 0;
        for (int done = 0; done < width;)
        {
            int offset = (int)((first + done) & 7), some = int.Min(8 - offset, width - done);
            value |= (ulong)((bytes[(int)((first + done) >> 3)] >> offset) & ((1 << some) - 1)) << done;
            done += some;
        }

        return value;
    }

    /// <summary>Takes a part of the bytes.</summary>
    /// <exception cref="InvalidDataException">The part extends beyond the bytes.</exception>
    public static ReadOnlySpan<byte> Part(ReadOnlySpan<byte> bytes, int first, long length) =>
        first <= bytes.Length && length >= 0 && length <= bytes.Length - first
            ? bytes.Slice(first, (int)length)
            : throw new InvalidDataException("a value extends beyond the end of its page");

    private static void CheckCount(int count, long most)
    {
        if (count > most)
        {
            throw new InvalidDataException($"a page states {count} values, but can hold at most {most}");
        }
    }

    private static string Text(ReadOnlySpan<byte> bytes) => s_utf8.GetString(bytes);

    private static string Boolean(int value) => value == 0 ? "false" : "true";

    private static string Number(ReadOnlySpan<byte> bytes, ParquetColumn column)
    {
        CultureInfo culture = CultureInfo.InvariantCulture;
        return (column.Type, column.IsUnsigned) switch
        {
            (ParquetType.Int32, false) => BinaryPrimitives.ReadInt32LittleEndian(bytes).ToString(culture),
            (ParquetType.Int32, true) => BinaryPrimitives.ReadUInt32LittleEndian(bytes).ToString(culture),
            (ParquetType.Int64, false) => BinaryPrimitives.ReadInt64LittleEndian(bytes).ToString(culture),
            (ParquetType.Int64, true) => BinaryPrimitives.ReadUInt64LittleEndian(bytes).ToString(culture),
            (ParquetType.Float, _) => BinaryPrimitives.ReadSingleLittleEndian(bytes).ToString("R", culture),
            _ => BinaryPrimitives.ReadDoubleLittleEndian(bytes).ToString("R", culture),
        };
    }
}
