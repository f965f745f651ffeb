using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Tiller.Features;

/// <summary>The values of a column with their levels.</summary>
/// <param name="Cells">The text of each value; an empty text where none is.</param>
/// <param name="Definitions">For each, the number of levels that are there.</param>
/// <param name="Repetitions">For each, 0 if it begins a row and 1 if it continues the row's list; empty for columns without lists.</param>
internal readonly record struct ParquetValues(string[] Cells, int[] Definitions, int[] Repetitions);

/// <summary>Puts lists of records together from the columns of their fields, by the columns' levels (Dremel's record shredding).</summary>
internal static class ParquetLists
{
    private static readonly JsonWriterOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes the list of each row as a JSON array of objects. A missing list becomes an empty text, a missing value null.</summary>
    /// <param name="list">The column of the lists.</param>
    /// <param name="values">The values of its fields.</param>
    /// <param name="rows">Number of rows.</param>
    /// <exception cref="InvalidDataException">The columns do not fit together.</exception>
    public static string[] Write(ParquetColumn list, ParquetValues[] values, long rows)
    {
        int[] repetitions = values[0].Repetitions;
        if (!Array.TrueForAll(values, x => x.Repetitions.AsSpan().SequenceEqual(repetitions)) || repetitions.AsSpan().Count(0) != rows
            || (repetitions.Length > 0 && repetitions[0] != 0))
        {
            throw new InvalidDataException($"the fields of its lists do not have the same {rows} rows");
        }

        string[] cells = new string[rows];
        var bytes = new ArrayBufferWriter<byte>();
        for (int at = 0, row = 0; at < repetitions.Length; row++)
        {
            int end = at + 1;
            while (end < repetitions.Length && repetitions[end] == 1)
            {
                end++;
            }

            bytes.ResetWrittenCount();
            bool any = end - at > 1 || Array.Exists(values, x => x.Definitions[at] >= list.Items);
            if (any)
            {
                using var json = new Utf8JsonWriter(bytes, s_options);
                json.WriteStartArray();
                for (; at < end; at++)
                {
                    WriteRecord(json, list, values, at);
                }

                json.WriteEndArray();
            }

            at = end;
            cells[row] = Encoding.UTF8.GetString(bytes.WrittenSpan);
        }

        return cells;
    }

    private static void WriteRecord(Utf8JsonWriter json, ParquetColumn list, ParquetValues[] values, int at)
    {
        if (!Array.Exists(values, x => x.Definitions[at] >= list.Items))
        {
            json.WriteNullValue();
            return;
        }

        json.WriteStartObject();
        for (int i = 0; i < values.Length; i++)
        {
            ParquetColumn field = list.Fields![i];
            json.WritePropertyName(field.Name);
            if (values[i].Definitions[at] < field.Definition)
            {
                json.WriteNullValue();
            }
            else if (field.Type is ParquetType.Boolean or ParquetType.Int32 or ParquetType.Int64)
            {
                json.WriteRawValue(values[i].Cells[at]);
            }
            else if (field.Type is ParquetType.Float or ParquetType.Double)
            {
                json.WriteRawValue(double.Parse(values[i].Cells[at], System.Globalization.CultureInfo.InvariantCulture) is var x && double.IsFinite(x)
                    ? values[i].Cells[at] : "null");
            }
            else
            {
                json.WriteStringValue(values[i].Cells[at]);
            }
        }

        json.WriteEndObject();
    }
}
