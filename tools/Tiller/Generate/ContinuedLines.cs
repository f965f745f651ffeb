using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

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
        var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 1);
        try
        {
            byte[] bytes = new byte[file.Length];
            file.ReadExactly(bytes);
            int whole = bytes.AsSpan().LastIndexOf((byte)'\n') + 1;
            int count = 0;
            JsonElement? last = null;
            foreach (string line in s_utf8.GetString(bytes, 0, whole).Split('\n')[..^1])
            {
                last = Line(line) is { } value && Is(value, run, count) && count < most ? value : throw Other(path, count);
                count++;
            }

            // What a run that was killed has left of its last line begins as a line does.
            byte[] begins = s_utf8.GetBytes($"{{\"index\":{count},");
            var torn = bytes.AsSpan(whole);
            if (!torn[..Math.Min(torn.Length, begins.Length)].SequenceEqual(begins.AsSpan(0, Math.Min(torn.Length, begins.Length))))
            {
                throw Other(path, count);
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
    public void Append<T>(T value, JsonTypeInfo<T> type)
    {
        using var line = new StringWriter { NewLine = "\n" };
        Json.WriteLine(line, value, type);
        _file.Write(Encoding.UTF8.GetBytes(line.ToString()));
        _file.Flush();
    }

    public void Dispose() => _file.Dispose();

    private static UsageException Other(string path, int line) => new(
        $"--out {path} exists, and its line {line + 1} is not of this run: it has another model, other prompts, controllers or settings, or is "
        + "something else. Give --out another file, or remove this one.");

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
