using System.Text;

namespace Tiller.Features;

/// <summary>
/// Reads Parquet files as tables: columns of texts, numbers and Booleans, and of lists of records of these, in row groups. Columns of other kinds
/// keep their number and name, but have no cells.
/// </summary>
internal static class ParquetTable
{
    /// <summary>Largest number of cells of a table.</summary>
    public const int MaxCells = 1 << 22;

    /// <summary>Advice for files that cannot be read here.</summary>
    public const string Otherwise = "Convert it to JSON lines, for example with pandas: "
        + "read_parquet(FILE).to_json(\"FILE.jsonl\", orient=\"records\", lines=True).";

    /// <summary>Whether a file is Parquet, judged by its name or its first bytes.</summary>
    public static bool Is(string path, ReadOnlySpan<byte> content) =>
        path.EndsWith(".parquet", StringComparison.OrdinalIgnoreCase) || content.StartsWith(ParquetFooter.Magic);

    /// <summary>Reads a whole file.</summary>
    /// <param name="path">Name of the file in messages.</param>
    /// <param name="content">Bytes of the file.</param>
    /// <param name="cancellationToken">Checked at every page.</param>
    /// <exception cref="PromptFileException">The file is malformed or too large, or has no column that can be read.</exception>
    public static PromptTable Read(string path, ReadOnlyMemory<byte> content, CancellationToken cancellationToken)
    {
        string at = "";
        try
        {
            ParquetFooter footer = ParquetFooter.Read(content.Span);
            IReadOnlyList<ParquetColumn> columns = footer.Columns;
            if (columns.All(static x => x.Other is not null))
            {
                throw new NotSupportedException($"it has no column of texts or numbers: {string.Join(", ",
                    columns.Select(static x => $"'{PromptTable.Shown(x.Name)}' holds {x.Other}"))}");
            }

            Int128 cells = columns.Count * footer.Groups.Aggregate((Int128)0, static (sum, x) => sum + x.Rows);
            if (cells > MaxCells)
            {
                throw new NotSupportedException($"it has {cells} cells; at most {MaxCells} can be read");
            }

            var records = new List<TableRecord>();
            var pages = new ParquetPages(content);
            foreach (ParquetRowGroup group in footer.Groups)
            {
                string[]?[] read = new string[columns.Count][];
                for (int i = 0; i < read.Length; i++)
                {
                    at = $"column '{PromptTable.Shown(columns[i].Name)}': ";
                    read[i] = columns[i].Other is null ? pages.Read(columns[i], group, cancellationToken) : null;
                }

                for (int row = 0; row < group.Rows; row++)
                {
                    records.Add(new TableRecord(records.Count + 1, Array.ConvertAll(read, cells => cells?[row] ?? ""), Quoted: true));
                }
            }

            return new PromptTable(
                path, [.. columns.Select(static x => x.Name)], records, [.. columns.Select(static x => x.Other)],
                [.. columns.Select(static x => x.Fields is not null)]);
        }
        catch (NotSupportedException e)
        {
            throw new PromptFileException(path, 0, $"is a Parquet file that cannot be read: {at}{e.Message}. {Otherwise}", e);
        }
        catch (DecoderFallbackException e)
        {
            throw new PromptFileException(path, 0, $"is a Parquet file with text that is not UTF-8: {at}{e.Message}", e);
        }
        catch (Exception e) when (e is InvalidDataException or OverflowException)
        {
            throw new PromptFileException(path, 0, $"is not a complete Parquet file: {at}{e.Message}. If it was cut off, copy it again.", e);
        }
    }
}
