using System.Buffers.Binary;
using System.Text;
using Parquet;
using Parquet.Schema;

namespace Tiller.Tests.Features;

/// <summary>Writes a struct in Thrift's compact protocol; its fields must be added in the order of their numbers.</summary>
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

    /// <summary>Adds a field of any kind, whose bytes are written unchanged.</summary>
    public ThriftBytes Field(int field, int kind, byte[] value)
    {
        _bytes.Add((byte)(((field - _last) << 4) | kind));
        _bytes.AddRange(value);
        _last = field;
        return this;
    }

    public byte[] End() => [.. _bytes, 0];
}

/// <summary>A column of a Parquet file that is built by hand; by default it holds uncompressed texts, none of them missing.</summary>
internal sealed record SampleColumn(string Name, byte[] Pages, int Count)
{
    public int Type { get; init; } = 6;

    public int Converted { get; init; }

    public int Repetition { get; init; }

    public int Codec { get; init; }

    public long? Offset { get; init; }

    public long? Length { get; init; }
}

/// <summary>Makes Parquet files for the tests: with the package's writer, or by hand where the writer cannot make them.</summary>
internal static class ParquetSample
{
    /// <summary>Texts in the PLAIN encoding: one after another, each with its length before it.</summary>
    public static byte[] Plain(params string[] texts) =>
        [.. texts.Select(Encoding.UTF8.GetBytes).SelectMany(static x => (byte[])[.. Int32(x.Length), .. x])];

    public static byte[] Int32(int value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        return bytes;
    }

    /// <summary>A data page of version 1.</summary>
    public static byte[] Page(byte[] content, int count, int encoding = 0, int? size = null) =>
        [
            .. Head(0, size ?? content.Length, content.Length)
                .Struct(5, new ThriftBytes().Int32(1, count).Int32(2, encoding).Int32(3, 3).Int32(4, 3)).End(),
            .. content,
        ];

    /// <summary>A dictionary page.</summary>
    public static byte[] Dictionary(params string[] texts) =>
        [
            .. Head(2, Plain(texts).Length, Plain(texts).Length).Struct(7, new ThriftBytes().Int32(1, texts.Length).Int32(2, 0)).End(),
            .. Plain(texts),
        ];

    /// <summary>A data page of version 2, whose levels come before its values and are never compressed.</summary>
    public static byte[] PageV2(byte[] levels, byte[] values, int size, int count, int missing, int encoding, bool isCompressed) =>
        [
            .. Head(3, levels.Length + size, levels.Length + values.Length).Struct(8, new ThriftBytes().Int32(1, count).Int32(2, missing)
                .Int32(3, count).Int32(4, encoding).Int32(5, levels.Length).Int32(6, 0).Boolean(7, isCompressed)).End(),
            .. levels, .. values,
        ];

    /// <summary>Numbers in the DELTA_BINARY_PACKED encoding: blocks of 128 in 4 miniblocks.</summary>
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

    /// <summary>A file with one row group.</summary>
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

        ThriftBytes[] schema = [new ThriftBytes().Binary(4, "schema").Int32(5, columns.Length),
            .. columns.Select(static x => new ThriftBytes().Int32(1, x.Type).Int32(3, x.Repetition).Binary(4, x.Name).Int32(6, x.Converted))];
        return WithFooter([.. bytes], new ThriftBytes().Int32(1, 1).Structs(2, schema).Int64(3, rows)
            .Structs(4, new ThriftBytes().Structs(1, [.. chunks]).Int64(2, 0).Int64(3, rows)).End());
    }

    /// <summary>A file that consists of these first bytes and this footer.</summary>
    public static byte[] WithFooter(byte[] begin, byte[] footer) => [.. begin, .. footer, .. Int32(footer.Length), .. "PAR1"u8];

    /// <summary>A file from the package's writer: columns of every kind that the reader supports, in two row groups.</summary>
    /// <param name="compression">How pages are compressed.</param>
    /// <param name="hint">How texts and integers are encoded.</param>
    public static byte[] Written(CompressionMethod compression, EncodingHint hint)
    {
        DataField[] fields =
        [
            new DataField<string>("prompt", false), new DataField<string>("note", true), new DataField<int>("label", false),
            new DataField<long>("id", true), new DataField<double>("score", false), new DataField<bool>("sure", false),
        ];
        var options = new ParquetOptions { CompressionMethod = compression };
        foreach (string name in hint == EncodingHint.DeltaBinaryPacked ? ["label", "id"] : new[] { "prompt", "note" })
        {
            options.ColumnEncodingHints[name] = hint;
        }

        using var stream = new MemoryStream();
        WriteAsync().GetAwaiter().GetResult();
        return stream.ToArray();

        async Task WriteAsync()
        {
            await using var writer = await ParquetWriter.CreateAsync(new ParquetSchema(fields), stream, options);
            for (int begin = 0; begin < Rows; begin += Rows / 2)
            {
                int[] rows = [.. Enumerable.Range(begin, Rows / 2)];
                using var group = writer.CreateRowGroup();
                await group.WriteAsync(fields[0], rows.Select(Prompt).ToArray());
                await group.WriteAsync(fields[1], rows.Select(Note).ToArray());
                await group.WriteAsync<int>(fields[2], rows.Select(Label).ToArray());
                await group.WriteAsync<long>(fields[3], rows.Select(Id).ToArray());
                await group.WriteAsync<double>(fields[4], rows.Select(Score).ToArray());
                await group.WriteAsync<bool>(fields[5], rows.Select(static x => x % 3 == 0).ToArray());
            }
        }
    }

    /// <summary>The number of rows of <see cref="Written"/>.</summary>
    public const int Rows = 300;

    public static string Prompt(int row) => $"Row {row / 7}: the tide is “high”,\nand turns 🚢";

    public static string? Note(int row) => row % 5 == 0 ? null : row % 5 == 1 ? "" : $"note {row % 3}";

    public static int Label(int row) => (row * 7919 % 4001) - 2000;

    public static long? Id(int row) => row % 4 == 3 ? null : (long)row << 33;

    public static double Score(int row) => row / 8.0 - 10;

    private static ThriftBytes Head(int kind, int size, int compressed) => new ThriftBytes().Int32(1, kind).Int32(2, size).Int32(3, compressed);
}
