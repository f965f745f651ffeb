using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Tiller.Tool;

/// <summary>What <c>--json</c> prints: one value and a line break.</summary>
internal static class Json
{
    private static readonly JsonWriterOptions s_readable = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonWriterOptions s_oneLine = s_readable with { Indented = false };

    /// <summary>Writes one indented value.</summary>
    public static void Write(TextWriter output, Action<Utf8JsonWriter> value) => Write(output, value, s_readable);

    /// <summary>Writes one value on one line, as in a stream of them.</summary>
    public static void WriteLine(TextWriter output, Action<Utf8JsonWriter> value) => Write(output, value, s_oneLine);

    /// <summary>A number, or null where JSON has none (NaN, infinities).</summary>
    public static void WriteNumberOrNull(this Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private static void Write(TextWriter output, Action<Utf8JsonWriter> value, JsonWriterOptions options)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, options))
        {
            value(json);
        }

        output.WriteLine(Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length));
        output.Flush();
    }
}
