using Parquet;
using Parquet.Schema;

namespace Tiller.Tests.Features;

/// <summary>Parquet files that the package writes, beside those that are put together by hand.</summary>
internal static class ParquetSample
{
    /// <summary>What the package writes: columns of every kind that is read, in two groups of rows.</summary>
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
}
