using System.Buffers.Binary;
using System.IO.Compression;
using System.Numerics;
using Snappier;

namespace Tiller.Features;

/// <summary>
/// Reads the values of a column of a Parquet file page by page. A page has a header, levels, which tell which values are missing, and values,
/// compressed with the column's codec. Errors are those of <see cref="ParquetFooter"/>.
/// </summary>
internal sealed class ParquetPages(ReadOnlyMemory<byte> file)
{
    private long _left = PromptFile.MaxBytes;
    private long _cells = ParquetTable.MaxCells;

    /// <summary>Reads a column of a group of rows.</summary>
    /// <param name="column">The column.</param>
    /// <param name="group">The rows.</param>
    /// <param name="cancellationToken">Checked at every page.</param>
    /// <returns>The text of each value; an empty text for a missing value. Lists of records are written as JSON.</returns>
    public string[] Read(ParquetColumn column, ParquetRowGroup group, CancellationToken cancellationToken) => column.Fields is { } fields
        ? ParquetLists.Write(column, Array.ConvertAll(fields, x => ReadValues(x, group, isRepeated: true, cancellationToken)), group.Rows)
        : ReadValues(column, group, isRepeated: false, cancellationToken).Cells;

    private ParquetValues ReadValues(ParquetColumn column, ParquetRowGroup group, bool isRepeated, CancellationToken cancellationToken)
    {
        ParquetChunk chunk = group.Chunks[column.Leaf];
        if ((!isRepeated && chunk.Count != group.Rows) || chunk.Count < group.Rows || chunk.Type != column.Type)
        {
            throw new InvalidDataException($"its row group has {group.Rows} rows, but {chunk.Count} values of this column, of type {chunk.Type}");
        }

        if (chunk.Offset < 4 || chunk.Length < 0 || chunk.Offset > file.Length || chunk.Length > file.Length - chunk.Offset)
        {
            throw new InvalidDataException($"its pages, {chunk.Length} bytes at offset {chunk.Offset}, are not within the file");
        }

        _cells -= isRepeated ? Math.Min(chunk.Count, _cells + 1) : 0;
        if (_cells < 0)
        {
            throw new NotSupportedException($"its lists have more than {ParquetTable.MaxCells} values");
        }

        ReadOnlySpan<byte> pages = file.Span.Slice((int)chunk.Offset, (int)chunk.Length);
        string[]? dictionary = null;
        var result = new ParquetValues(new string[chunk.Count], new int[chunk.Count], new int[isRepeated ? chunk.Count : 0]);
        int row = 0;
        while (row < chunk.Count)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var reader = new ThriftReader(pages);
            var head = PageHead.Read(ref reader);
            ReadOnlySpan<byte> content = ParquetEncoding.Part(pages, reader.Position, head.CompressedSize);
            pages = pages[(reader.Position + content.Length)..];
            switch (head.Kind)
            {
                case PageKind.Dictionary:
                    if (head.Count > ParquetTable.MaxCells)
                    {
                        throw new NotSupportedException($"it has a dictionary of more than {ParquetTable.MaxCells} values");
                    }

                    dictionary = ParquetEncoding.Plain(Decompress(content, head.Size, chunk.Codec), column, head.Count);
                    break;
                case PageKind.Data or PageKind.DataV2:
                    if (head.Count < 0 || head.Count > chunk.Count - row)
                    {
                        throw new InvalidDataException($"a page has {head.Count} values where {chunk.Count - row} are left");
                    }

                    ReadData(column, chunk.Codec, head, content, dictionary, result, row);
                    row += head.Count;
                    break;
                default:
                    break; // skip an index page
            }
        }

        return result;
    }

    private void ReadData(
        ParquetColumn column, int codec, PageHead head, ReadOnlySpan<byte> content, string[]? dictionary, ParquetValues result, int row)
    {
        bool isRepeated = result.Repetitions.Length > 0;
        ReadOnlySpan<byte> repetitions = default, levels = default, values;
        if (head.Kind == PageKind.DataV2)
        {
            // The levels precede the values and are not compressed. Without lists there are no repetition levels.
            repetitions = ParquetEncoding.Part(content, 0, head.RepetitionSize);
            levels = ParquetEncoding.Part(content, head.RepetitionSize, head.DefinitionSize);
            ReadOnlySpan<byte> rest = content[(head.RepetitionSize + levels.Length)..];
            values = Decompress(rest, head.Size - head.RepetitionSize - levels.Length, head.IsCompressed ? codec : 0);
        }
        else
        {
            values = Decompress(content, head.Size, codec);
            repetitions = isRepeated ? TakeLevels(ref values) : default;
            levels = column.Definition > 0 ? TakeLevels(ref values) : default;
        }

        if (isRepeated)
        {
            ParquetEncoding.Runs(repetitions, 1, result.Repetitions.AsSpan(row, head.Count));
        }

        Span<int> definitions = result.Definitions.AsSpan(row, head.Count);
        if (column.Definition > 0)
        {
            ParquetEncoding.Runs(levels, BitOperations.Log2((uint)column.Definition) + 1, definitions);
        }

        string[] read = Decode(values, column, head, definitions.Count(column.Definition), dictionary);
        for (int i = 0, next = 0; i < definitions.Length; i++)
        {
            result.Cells[row + i] = definitions[i] == column.Definition ? read[next++] : "";
        }
    }

    // In the first version of pages, levels are preceded by their length.
    private static ReadOnlySpan<byte> TakeLevels(scoped ref ReadOnlySpan<byte> values)
    {
        ReadOnlySpan<byte> levels = ParquetEncoding.Part(values, 4, values.Length < 4 ? -1 : BinaryPrimitives.ReadInt32LittleEndian(values));
        values = values[(4 + levels.Length)..];
        return levels;
    }

    private string[] Decode(ReadOnlySpan<byte> bytes, ParquetColumn column, PageHead head, int count, string[]? dictionary)
    {
        if (count == 0)
        {
            return [];
        }

        bool isText = column.Type == ParquetType.ByteArray, isWhole = column.Type is ParquetType.Int32 or ParquetType.Int64;
        switch (head.Encoding)
        {
            case 0:
                return ParquetEncoding.Plain(bytes, column, count);
            case 2 or 8: // PLAIN_DICTIONARY is the older name of RLE_DICTIONARY
                if (dictionary is null)
                {
                    throw new InvalidDataException("a page refers to a missing dictionary");
                }

                int[] places = new int[count];
                ParquetEncoding.Runs(ParquetEncoding.Part(bytes, 1, bytes.Length - 1L), bytes[0], places);
                return Array.ConvertAll(places, x => (uint)x < (uint)dictionary.Length
                    ? dictionary[x]
                    : throw new InvalidDataException($"a page refers to value {x} of a dictionary of {dictionary.Length}"));
            case 3 when column.Type == ParquetType.Boolean:
                return ParquetEncoding.Booleans(bytes, count);
            case 5 when isWhole:
                return ParquetEncoding.Deltas(bytes, column, count);
            case 6 when isText:
                return ParquetEncoding.DeltaLengths(bytes, count);
            case 7 when isText:
                return ParquetEncoding.DeltaTexts(bytes, count, ref _left);
            default:
                throw new NotSupportedException($"values of type {column.Type} in encoding {head.Encoding} cannot be read");
        }
    }

    private ReadOnlySpan<byte> Decompress(ReadOnlySpan<byte> bytes, int size, int codec)
    {
        if (size < 0 || size > _left)
        {
            throw size < 0
                ? new InvalidDataException($"a page has {size} bytes")
                : new NotSupportedException($"it has more than {PromptFile.MaxBytes >> 20} MiB");
        }

        _left -= size;
        if (size == 0 && bytes.IsEmpty)
        {
            return bytes; // some writers write no bytes at all for a page without values
        }

        if (codec == 0)
        {
            return bytes.Length == size ? bytes : throw new InvalidDataException($"a page should have {size} bytes, but has {bytes.Length}");
        }

        byte[] content = new byte[size];
        int made = codec switch
        {
            1 => Snappy.GetUncompressedLength(bytes) == size ? Snappy.Decompress(bytes, content) : -1,
            2 => Unzip(bytes, content),
            4 => BrotliDecoder.TryDecompress(bytes, content, out int written) ? written : -1,
            6 => Unwrap(bytes, content),
            3 or 5 or 7 => throw new NotSupportedException($"its pages are compressed with {(codec == 3 ? "LZO" : "LZ4")}"),
            _ => throw new NotSupportedException($"its pages are compressed with the unknown codec {codec}"),
        };
        return made == size ? content : throw new InvalidDataException($"a page does not decompress to {size} bytes");
    }

    private static int Unzip(ReadOnlySpan<byte> bytes, byte[] content)
    {
        using var stream = new GZipStream(new MemoryStream(bytes.ToArray()), CompressionMode.Decompress);
        return stream.ReadAtLeast(content, content.Length, throwOnEndOfStream: false) is var made && stream.ReadByte() < 0 ? made : -1;
    }

    private static int Unwrap(ReadOnlySpan<byte> bytes, byte[] content)
    {
        try
        {
            using var zstd = new ZstdSharp.Decompressor();
            return zstd.Unwrap(bytes, content);
        }
        catch (ZstdSharp.ZstdException e)
        {
            throw new InvalidDataException(e.Message, e);
        }
    }

    private enum PageKind
    {
        Data = 0,
        Index = 1,
        Dictionary = 2,
        DataV2 = 3,
    }

    // PageHeader of parquet.thrift.
    private struct PageHead
    {
        public PageKind Kind;
        public int Size;
        public int CompressedSize;
        public int Count;
        public int Encoding;
        public int DefinitionSize;
        public int RepetitionSize;
        public bool IsCompressed;

        public static PageHead Read(ref ThriftReader reader)
        {
            var head = new PageHead { Kind = (PageKind)(-1), Size = -1, CompressedSize = -1, Count = -1, Encoding = -1, IsCompressed = true };
            int field = 0;
            while (reader.Next(ref field) is var kind and not ThriftKind.Stop)
            {
                switch (field)
                {
                    case 1:
                        head.Kind = (PageKind)reader.Int32(kind);
                        break;
                    case 2:
                        head.Size = reader.Int32(kind);
                        break;
                    case 3:
                        head.CompressedSize = reader.Int32(kind);
                        break;
                    case 5 or 7 or 8:
                        ThriftReader.Struct(kind);
                        head.ReadValues(ref reader, isV2: field == 8);
                        break;
                    default:
                        reader.Skip(kind);
                        break;
                }
            }

            return Enum.IsDefined(head.Kind) && head.CompressedSize >= 0 && (head.Kind == PageKind.Index || head.Count >= 0)
                ? head
                : throw new InvalidDataException("a page has an incomplete header");
        }

        // DataPageHeader, DictionaryPageHeader and DataPageHeaderV2 begin with the number of values. The encoding is the second field, in V2 the
        // fourth.
        private void ReadValues(ref ThriftReader reader, bool isV2)
        {
            int field = 0;
            while (reader.Next(ref field) is var kind and not ThriftKind.Stop)
            {
                switch (field)
                {
                    case 1:
                        Count = reader.Int32(kind);
                        break;
                    case 2 when !isV2:
                    case 4 when isV2:
                        Encoding = reader.Int32(kind);
                        break;
                    case 5 when isV2:
                        DefinitionSize = reader.Int32(kind);
                        break;
                    case 6 when isV2:
                        RepetitionSize = reader.Int32(kind) is var size and >= 0 ? size : throw new InvalidDataException("levels have no size");
                        break;
                    case 7 when isV2:
                        IsCompressed = ThriftReader.Boolean(kind);
                        break;
                    default:
                        reader.Skip(kind);
                        break;
                }
            }
        }
    }
}
