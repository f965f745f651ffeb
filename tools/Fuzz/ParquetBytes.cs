using System.Buffers.Binary;
using System.Text;

namespace Tiller.Fuzz;

/// <summary>A struct in Thrift's compact protocol, field by field in the order of their numbers.</summary>
internal sealed class ThriftBytes
{
    private readonly List<byte> _bytes = [];
    private int _last;

    public static byte[] Varint(ulong value)
    {
        var bytes = new List<byte>();
        for (; value > 127; value >>= 7)
        {
            bytes.Add((byte)(value | 128));
        }

        return [.. bytes, (byte)value];
    }

    public static byte[] ZigZag(long value) => Varint((ulong)((value << 1) ^ (value >> 63)));

    public ThriftBytes Int32(int field, long value) => Field(field, 5, ZigZag(value));

    public ThriftBytes Int64(int field, long value) => Field(field, 6, ZigZag(value));

    public ThriftBytes Boolean(int field, bool value) => Field(field, value ? 1 : 2, []);

    public ThriftBytes Binary(int field, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        return Field(field, 8, [.. Varint((ulong)bytes.Length), .. bytes]);
    }

    public ThriftBytes Struct(int field, ThriftBytes value) => Field(field, 12, value.End());

    public ThriftBytes Structs(int field, params ThriftBytes[] values) =>
        Field(field, 9, [0xFC, .. Varint((ulong)values.Length), .. values.SelectMany(static x => x.End())]);

    /// <summary>A field of any kind, its bytes as they are.</summary>
    public ThriftBytes Field(int field, int kind, byte[] value)
    {
        _bytes.Add((byte)(((field - _last) << 4) | kind));
        _bytes.AddRange(value);
        _last = field;
        return this;
    }

    public byte[] End() => [.. _bytes, 0];
}

/// <summary>A column of a Parquet file that is put together by hand; by default texts as they are, none missing.</summary>
internal sealed record SampleColumn(string Name, byte[] Pages, int Count)
{
    public int Type { get; init; } = 6;

    public int Converted { get; init; }

    public int Repetition { get; init; }

    /// <summary>The list of whose records it is a field, with the columns beside it of the same list; null for a column of its own.</summary>
    public string? List { get; init; }

    public int Codec { get; init; }

    public long? Offset { get; init; }

    public long? Length { get; init; }
}

/// <summary>Parquet files that are put together by hand, of pages in every encoding that is read.</summary>
internal static class ParquetBytes
{
    /// <summary>Texts one after the other, their lengths before them.</summary>
    public static byte[] Plain(params string[] texts) =>
        [.. texts.Select(Encoding.UTF8.GetBytes).SelectMany(static x => (byte[])[.. Int32(x.Length), .. x])];

    public static byte[] Int32(int value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        return bytes;
    }

    /// <summary>A data page of the first version.</summary>
    public static byte[] Page(byte[] content, int count, int encoding = 0, int? size = null) =>
        [
            .. Head(0, size ?? content.Length, content.Length)
                .Struct(5, new ThriftBytes().Int32(1, count).Int32(2, encoding).Int32(3, 3).Int32(4, 3)).End(),
            .. content,
        ];

    /// <summary>A page with a dictionary.</summary>
    public static byte[] Dictionary(params string[] texts) =>
        [
            .. Head(2, Plain(texts).Length, Plain(texts).Length).Struct(7, new ThriftBytes().Int32(1, texts.Length).Int32(2, 0)).End(),
            .. Plain(texts),
        ];

    /// <summary>A data page of the second version, whose levels stand before its values and are never compressed.</summary>
    public static byte[] PageV2(byte[] levels, byte[] values, int size, int count, int missing, int encoding, bool isCompressed) =>
        [
            .. Head(3, levels.Length + size, levels.Length + values.Length).Struct(8, new ThriftBytes().Int32(1, count).Int32(2, missing)
                .Int32(3, count).Int32(4, encoding).Int32(5, levels.Length).Int32(6, 0).Boolean(7, isCompressed)).End(),
            .. levels, .. values,
        ];

    /// <summary>DELTA_BINARY_PACKED numbers: blocks of 128 in 4 parts.</summary>
    public static byte[] Deltas(params long[] values)
    {
        List<byte> bytes = [.. ThriftBytes.Varint(128), 4, .. ThriftBytes.Varint((ulong)values.Length), .. ThriftBytes.ZigZag(values[0])];
        long[] deltas = [.. values.Zip(values.Skip(1)).Select(static x => x.Second - x.First)];
        foreach (long[] block in deltas.Chunk(128))
        {
            long least = block.Min();
            long[][] parts = [.. block.Select(x => x - least).Chunk(32)];
            int[] widths = [.. Enumerable.Range(0, 4).Select(i => i < parts.Length ? 64 - (int)long.LeadingZeroCount(parts[i].Max()) : 0)];
            bytes.AddRange([.. ThriftBytes.ZigZag(least), .. widths.Select(static x => (byte)x)]);
            for (int part = 0; part < parts.Length; part++)
            {
                byte[] packed = new byte[4 * widths[part]];
                for (int bit = 0; bit < parts[part].Length * widths[part]; bit++)
                {
                    packed[bit / 8] |= (byte)(((parts[part][bit / widths[part]] >> (bit % widths[part])) & 1) << (bit % 8));
                }

                bytes.AddRange(packed);
            }
        }

        return [.. bytes];
    }

    /// <summary>A file with one group of rows.</summary>
    public static byte[] File(long rows, params SampleColumn[] columns)
    {
        List<byte> bytes = [.. "PAR1"u8];
        var chunks = new List<ThriftBytes>();
        foreach (var column in columns)
        {
            byte[] path = [0x18, (byte)column.Name.Length, .. Encoding.ASCII.GetBytes(column.Name)];
            ThriftBytes data = new ThriftBytes().Int32(1, column.Type).Field(2, 9, [0x15, 0]).Field(3, 9, path).Int32(4, column.Codec)
                .Int64(5, column.Count).Int64(6, column.Pages.Length).Int64(7, column.Length ?? column.Pages.Length)
                .Int64(9, column.Offset ?? bytes.Count);
            chunks.Add(new ThriftBytes().Int64(2, 0).Struct(3, data));
            bytes.AddRange(column.Pages);
        }

        List<ThriftBytes> schema = [];
        int tops = 0;
        for (int i = 0; i < columns.Length; tops++)
        {
            int end = i + 1;
            if (columns[i].List is { } list)
            {
                end += columns[end..].TakeWhile(x => x.List == list).Count();
                schema.Add(new ThriftBytes().Int32(3, 0).Binary(4, list).Int32(5, 1).Int32(6, 3));
                schema.Add(new ThriftBytes().Int32(3, 2).Binary(4, "list").Int32(5, end - i));
            }

            for (; i < end; i++)
            {
                SampleColumn x = columns[i];
                schema.Add(new ThriftBytes().Int32(1, x.Type).Int32(3, x.Repetition).Binary(4, x.Name).Int32(6, x.Converted));
            }
        }

        schema.Insert(0, new ThriftBytes().Binary(4, "schema").Int32(5, tops));
        return WithFooter([.. bytes], new ThriftBytes().Int32(1, 1).Structs(2, [.. schema]).Int64(3, rows)
            .Structs(4, new ThriftBytes().Structs(1, [.. chunks]).Int64(2, 0).Int64(3, rows)).End());
    }

    /// <summary>A file of a beginning and a footer.</summary>
    public static byte[] WithFooter(byte[] begin, byte[] footer) => [.. begin, .. footer, .. Int32(footer.Length), .. "PAR1"u8];

    private static ThriftBytes Head(int kind, int size, int compressed) => new ThriftBytes().Int32(1, kind).Int32(2, size).Int32(3, compressed);
}
