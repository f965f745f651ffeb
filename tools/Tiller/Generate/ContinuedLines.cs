using System.Text;
using System.Text.Json;

namespace Tiller.Tool;

/// <summary>
/// A file of JSON lines that grows by whole lines and that a later run goes on with. Every line says which run it belongs to; a last line that was
/// not written to its end is taken away.
/// </summary>
internal sealed class ContinuedLines : IDisposable
{
    private static readonly UTF8Encoding s_utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly FileStream _file;

    private ContinuedLines(FileStream file, int count, JsonElement? last)
    {
        _file = file;
        Count = count;
        Last = last;
    }

    /// <summary>Lines that were there.</summary>
    public int Count { get; }

    /// <summary>The last of them.</summary>
    public JsonElement? Last { get; }

    /// <summary>Opens a file, or makes it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="run">What the lines of this run have as "run".</param>
    /// <param name="most">Most lines that they can be.</param>
    /// <exception cref="UsageException">The file holds something else, or the lines of another run.</exception>
    /// <exception cref="IOException">The file cannot be opened, or another run writes it.</exception>
    public static ContinuedLines Open(string path, string run, int most)
    {
        var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, bufferSize: 1);
        try
        {
            int count = 0;
            JsonElement? last = null;
            long whole = 0;
            using var reader = new StreamReader(file, s_utf8, leaveOpen: true);
            foreach ((string line, bool ended) in Lines(reader))
            {
                if (!ended)
                {
                    break;
                }

                last = Line(line) is { } value && Is(value, run, count) && count < most
                    ? value
                    : throw new UsageException(
                        $"--out {path} exists, and its line {count + 1} is not of this run: it has another model, other prompts, "
                        + "controllers or settings, or is something else. Give --out another file, or remove this one.");
                count++;
                whole += Encoding.UTF8.GetByteCount(line) + 1;
            }

            file.SetLength(whole);
            file.Position = whole;
            return new ContinuedLines(file, count, last);
        }
        catch (DecoderFallbackException e)
        {
            file.Dispose();
            throw new UsageException($"--out {path} exists and is not UTF-8: give --out another file, or remove this one. {e.Message}");
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Appends a line in one write.</summary>
    public void Append(Action<Utf8JsonWriter> value)
    {
        using var line = new StringWriter { NewLine = "\n" };
        Json.WriteLine(line, value);
        _file.Write(Encoding.UTF8.GetBytes(line.ToString()));
        _file.Flush();
    }

    public void Dispose() => _file.Dispose();

    // Lines end in \n alone; a reader's own lines would end in \r too.
    private static IEnumerable<(string Line, bool Ended)> Lines(StreamReader reader)
    {
        string text = reader.ReadToEnd();
        for (int at = 0; at < text.Length;)
        {
            int end = text.IndexOf('\n', at);
            yield return end < 0 ? (text[at..], false) : (text[at..end], true);
            at = end < 0 ? text.Length : end + 1;
        }
    }

    private static JsonElement? Line(string text)
    {
        try
        {
            using var json = JsonDocument.Parse(text);
            return json.RootElement.Clone();
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static bool Is(JsonElement line, string run, int index) =>
        line.ValueKind == JsonValueKind.Object
        && line.TryGetProperty("run", out var of) && of.ValueKind == JsonValueKind.String && of.ValueEquals(run)
        && line.TryGetProperty("index", out var at) && at.ValueKind == JsonValueKind.Number && at.TryGetInt32(out int number) && number == index;
}
