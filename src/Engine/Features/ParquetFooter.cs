using System.Buffers.Binary;
using System.Text;

namespace Tiller.Features;

/// <summary>The physical types of Parquet's values.</summary>
internal enum ParquetType
{
    Boolean = 0,
    Int32 = 1,
    Int64 = 2,
    Int96 = 3,
    Float = 4,
    Double = 5,
    ByteArray = 6,
    FixedLengthByteArray = 7,
}

/// <summary>A column of a table, or a group of columns that takes the place of one.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Physical type of its values.</param>
/// <param name="Definition">
/// The definition level of a value: the number of levels, from the column to the value, at which something may be missing.
/// </param>
/// <param name="IsUnsigned">Whether its numbers are unsigned.</param>
/// <param name="Leaf">Its index among all columns, including those within groups.</param>
/// <param name="Other">The kind of its values if they are not texts, numbers, Booleans or lists of records of these; null otherwise.</param>
/// <param name="Items">If it is a list of records, the definition level of a record that is there; 0 otherwise.</param>
/// <param name="Fields">The fields of these records, each the column of a value; null otherwise.</param>
internal sealed record ParquetColumn(
    string Name, ParquetType Type, int Definition, bool IsUnsigned, int Leaf, string? Other, int Items = 0, ParquetColumn[]? Fields = null);

/// <summary>The values of a column in a group of rows.</summary>
/// <param name="Type">Physical type of the values.</param>
/// <param name="Codec">Compression codec of the pages.</param>
/// <param name="Count">Number of values, including missing ones.</param>
/// <param name="Offset">Offset of the first page in the file, in bytes.</param>
/// <param name="Length">Size of the pages in bytes.</param>
internal readonly record struct ParquetChunk(ParquetType Type, int Codec, long Count, long Offset, long Length);

/// <summary>A group of rows of a table.</summary>
/// <param name="Rows">Number of rows.</param>
/// <param name="Chunks">A chunk for every column, including those within groups.</param>
internal sealed record ParquetRowGroup(long Rows, ParquetChunk[] Chunks);

/// <summary>
/// The footer of a Parquet file, which describes its contents: FileMetaData, its length in four bytes, and PAR1. Field numbers are those of
/// parquet.thrift of the Apache Parquet format. A malformed footer gives an <see cref="InvalidDataException"/>; a footer that needs an unsupported
/// feature gives a <see cref="NotSupportedException"/>.
/// </summary>
internal sealed class ParquetFooter
{
    private const int Optional = 1;
    private const int Repeated = 2;

    private ParquetFooter(List<ParquetColumn> columns, List<ParquetRowGroup> groups)
    {
        Columns = columns;
        Groups = groups;
    }

    /// <summary>The columns of the table, and groups of columns.</summary>
    public IReadOnlyList<ParquetColumn> Columns { get; }

    /// <summary>The row groups.</summary>
    public IReadOnlyList<ParquetRowGroup> Groups { get; }

    /// <summary>The bytes with which files begin and end.</summary>
    public static ReadOnlySpan<byte> Magic => "PAR1"u8;

    /// <summary>Reads the footer of a file.</summary>
    /// <param name="file">All bytes of the file.</param>
    public static ParquetFooter Read(ReadOnlySpan<byte> file)
    {
        if (file.Length < 12 || !file.StartsWith(Magic) || !file.EndsWith(Magic))
        {
            throw new InvalidDataException("a complete file begins and ends with PAR1, an encrypted file with PARE");
        }

        int length = BinaryPrimitives.ReadInt32LittleEndian(file[^8..]);
        if (length < 0 || length > file.Length - 12)
        {
            throw new InvalidDataException($"a footer of {length} bytes does not fit a file of {file.Length}");
        }

        var reader = new ThriftReader(file[(file.Length - 8 - length)..^8]);
        List<Element> elements = [];
        List<ParquetRowGroup> groups = [];
        int field = 0;
        while (reader.Next(ref field) is var kind and not ThriftKind.Stop)
        {
            switch (field)
            {
                case 2:
                    for (int left = reader.Structs(kind); left > 0; left--)
                    {
                        elements.Add(elements.Count < ParquetTable.MaxCells
                            ? ReadElement(ref reader)
                            : throw new NotSupportedException($"it has more than {ParquetTable.MaxCells} columns"));
                    }

                    break;
                case 4:
                    for (int left = reader.Structs(kind); left > 0; left--)
                    {
                        groups.Add(ReadGroup(ref reader));
                    }

                    break;
                case 8:
                    throw new NotSupportedException("it is encrypted");
                default:
                    reader.Skip(kind);
                    break;
            }
        }

        List<ParquetColumn> columns = ColumnsOf(elements, out int leaves);
        int odd = groups.FindIndex(x => x.Chunks.Length != leaves);
        return odd < 0
            ? new ParquetFooter(columns, groups)
            : throw new InvalidDataException($"its schema has {leaves} columns, but row group {odd + 1} has {groups[odd].Chunks.Length}");
    }

    // The schema is a tree in depth-first order, each node before its children.
    private static List<ParquetColumn> ColumnsOf(List<Element> elements, out int leaves)
    {
        leaves = 0;
        var columns = new List<ParquetColumn>();
        for (int i = 1; i < elements.Count;)
        {
            Element top = elements[i];
            int first = leaves;
            int start = i;
            for (long open = 1; open > 0; open--, i++)
            {
                if (i == elements.Count)
                {
                    throw new InvalidDataException("its schema ends within a group");
                }

                open += elements[i].Children;
                leaves += elements[i].Children == 0 ? 1 : 0;
            }

            columns.Add(ListOf(elements, start, i, first)
                ?? new ParquetColumn(top.Name, top.Type, top.Repetition == Optional ? 1 : 0, top.IsUnsigned, first, top.Other));
        }

        return columns;
    }

    // A list of records of plain values (LogicalTypes.md, "Lists"): a group, in it a repeated group, and in that the record or its fields. Null for
    // other columns.
    private static ParquetColumn? ListOf(List<Element> elements, int start, int end, int leaf)
    {
        Element top = elements[start];
        if (!top.IsList || top.Children != 1 || elements[start + 1] is not { Repetition: Repeated, Children: > 0 } repeated)
        {
            return null;
        }

        int at = start + 2;
        int items = (top.Repetition == Optional ? 1 : 0) + 1;
        if (repeated.Children == 1)
        {
            Element record = elements[at];
            if (record.Children == 0)
            {
                return null; // a list of plain values
            }

            items += record.Repetition == Optional ? 1 : 0;
            at++;
        }

        Element[] fields = [.. elements[at..end]];
        return Array.TrueForAll(fields, static x => x.Children == 0 && x.Other is null)
            ? new ParquetColumn(top.Name, default, 0, false, leaf, null, items,
                [.. fields.Select((x, i) =>
                    new ParquetColumn(x.Name, x.Type, items + (x.Repetition == Optional ? 1 : 0), x.IsUnsigned, leaf + i, null))])
            : null;
    }

    private static Element ReadElement(ref ThriftReader reader)
    {
        var element = new Element { Converted = -1, Name = "" };
        int field = 0;
        while (reader.Next(ref field) is var kind and not ThriftKind.Stop)
        {
            switch (field)
            {
                case 1:
                    element.Type = (ParquetType)reader.Int32(kind);
                    break;
                case 3:
                    element.Repetition = reader.Int32(kind);
                    break;
                case 4:
                    element.Name = Encoding.UTF8.GetString(reader.Binary(kind));
                    break;
                case 5:
                    element.Children = reader.Int32(kind) is var children and >= 0
                        ? children
                        : throw new InvalidDataException("a group of its schema has a negative number of columns");
                    break;
                case 6:
                    element.Converted = reader.Int32(kind);
                    break;
                case 10:
                    element.Logical = ReadLogical(ref reader, kind);
                    break;
                default:
                    reader.Skip(kind);
                    break;
            }
        }

        return element;
    }

    // A union: the number of its only field is the type.
    private static int ReadLogical(ref ThriftReader reader, ThriftKind kind)
    {
        ThriftReader.Struct(kind);
        int logical = 0, field = 0;
        while (reader.Next(ref field) is var inner and not ThriftKind.Stop)
        {
            logical = field;
            reader.Skip(inner);
        }

        return logical;
    }

    private static ParquetRowGroup ReadGroup(ref ThriftReader reader)
    {
        long rows = -1;
        List<ParquetChunk> chunks = [];
        int field = 0;
        while (reader.Next(ref field) is var kind and not ThriftKind.Stop)
        {
            switch (field)
            {
                case 1:
                    for (int left = reader.Structs(kind); left > 0; left--)
                    {
                        chunks.Add(ReadChunk(ref reader));
                    }

                    break;
                case 3:
                    rows = reader.Int64(kind);
                    break;
                default:
                    reader.Skip(kind);
                    break;
            }
        }

        return rows >= 0 ? new ParquetRowGroup(rows, [.. chunks]) : throw new InvalidDataException("a row group has no number of rows");
    }

    private static ParquetChunk ReadChunk(ref ThriftReader reader)
    {
        ParquetChunk? chunk = null;
        int field = 0;
        while (reader.Next(ref field) is var kind and not ThriftKind.Stop)
        {
            switch (field)
            {
                case 1:
                    throw new NotSupportedException("it keeps columns in other files");
                case 3:
                    ThriftReader.Struct(kind);
                    chunk = ReadChunkData(ref reader);
                    break;
                case 8 or 9:
                    throw new NotSupportedException("it has encrypted columns");
                default:
                    reader.Skip(kind);
                    break;
            }
        }

        return chunk ?? throw new InvalidDataException("a column has no description");
    }

    private static ParquetChunk ReadChunkData(ref ThriftReader reader)
    {
        var chunk = new ParquetChunk((ParquetType)(-1), -1, -1, 0, -1);
        long dictionary = 0;
        int field = 0;
        while (reader.Next(ref field) is var kind and not ThriftKind.Stop)
        {
            switch (field)
            {
                case 1:
                    chunk = chunk with { Type = (ParquetType)reader.Int32(kind) };
                    break;
                case 4:
                    chunk = chunk with { Codec = reader.Int32(kind) };
                    break;
                case 5:
                    chunk = chunk with { Count = reader.Int64(kind) };
                    break;
                case 7:
                    chunk = chunk with { Length = reader.Int64(kind) };
                    break;
                case 9:
                    chunk = chunk with { Offset = reader.Int64(kind) };
                    break;
                case 11:
                    dictionary = reader.Int64(kind);
                    break;
                default:
                    reader.Skip(kind);
                    break;
            }
        }

        // Some writers write 0 if there is no dictionary.
        return dictionary > 0 && dictionary < chunk.Offset ? chunk with { Offset = dictionary } : chunk;
    }

    // An element of the schema.
    private struct Element
    {
        public ParquetType Type;
        public int Repetition;
        public string Name;
        public int Children;
        public int Converted;
        public int Logical;

        public readonly bool IsUnsigned => Converted is >= 11 and <= 14;

        public readonly bool IsList => Children > 0 && (Converted == 3 || Logical == 3);

        // Converted types: 0 UTF8, 1 and 2 MAP, 3 LIST, 4 ENUM, 11 to 18 integers, 19 JSON. Logical types: 1 STRING, 2 MAP, 3 LIST, 4 ENUM, 10
        // INTEGER, 12 JSON.
        public readonly string? Other => this switch
        {
            { Repetition: Repeated } or { Converted: 3 } or { Logical: 3 } => "lists",
            { Converted: 1 or 2 } or { Logical: 2 } => "maps",
            { Children: > 0 } => "groups of columns",
            { Type: ParquetType.ByteArray } => Converted is 0 or 4 or 19 || Logical is 1 or 4 or 12 ? null : "bytes",
            { Type: ParquetType.FixedLengthByteArray } => "bytes",
            { Type: ParquetType.Int96 } => "times",
            { Type: < ParquetType.Boolean or > ParquetType.FixedLengthByteArray } => $"values of the unknown type {(int)Type}",
            _ => Converted is -1 or (>= 11 and <= 18) && Logical is 0 or 10 ? null : "dates, times or decimal numbers",
        };
    }
}
