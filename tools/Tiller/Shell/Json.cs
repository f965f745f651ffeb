using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Tiller.Tool;

/// <summary>
/// Writes the output of <c>--json</c>: one value and a line break. The records of each command stand beside the code that prints them.
/// </summary>
internal static class Json
{
    private static readonly JsonWriterOptions s_readable = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonWriterOptions s_oneLine = s_readable with { Indented = false };

    /// <summary>Writes one indented value.</summary>
    public static void Write<T>(TextWriter output, T value, JsonTypeInfo<T> type) =>
        Write(output, json => JsonSerializer.Serialize(json, value, type));

    /// <summary>Writes one indented value.</summary>
    public static void Write(TextWriter output, Action<Utf8JsonWriter> write) => Write(output, write, s_readable);

    /// <summary>Writes one value on one line, for streams of values.</summary>
    public static void WriteLine<T>(TextWriter output, T value, JsonTypeInfo<T> type) =>
        Write(output, json => JsonSerializer.Serialize(json, value, type), s_oneLine);

    /// <summary>A number, or null for NaN and infinities, which JSON does not have.</summary>
    public static double? Finite(double value) => double.IsFinite(value) ? value : null;

    private static void Write(TextWriter output, Action<Utf8JsonWriter> write, JsonWriterOptions options)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, options))
        {
            write(json);
        }

        output.WriteLine(Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length));
        output.Flush();
    }
}
