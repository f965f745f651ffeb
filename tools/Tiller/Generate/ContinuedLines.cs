using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Tiller.Tool;

/// <summary>
/// A file of JSON lines that grows by complete lines, and that a later run can continue. Every line names the run to which it belongs. If the last
/// line is incomplete, it is removed.
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

    /// <summary>Number of lines that the file had when it was opened.</summary>
    public int Count { get; }

    /// <summary>The last of these lines; null if there were none.</summary>
    public JsonElement? Last { get; }

    /// <summary>Opens a file, or creates it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="run">The value of "run" in the lines of this run.</param>
    /// <param name="most">Maximum number of lines of this run.</param>
    /// <exception cref="UsageException">The file has other content, or the lines of another run.</exception>
    /// <exception cref="IOException">The file cannot be opened, or another process is writing it.</exception>
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

            // If a run was killed while it wrote its last line, the rest of the file is the beginning of that line.
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

    /// <summary>Appends a line in a single write.</summary>
    public void Append<T>(T value, JsonTypeInfo<T> type)
    {
        using var line = new StringWriter { NewLine = "\n" };
        Json.WriteLine(line, value, type);
        _file.Write(Encoding.UTF8.GetBytes(line.ToString()));
        _file.Flush();
    }

    public void Dispose() => _file.Dispose();

    private static UsageException Other(string path, int line) => new(
        $"--out {path} exists, and its line {line + 1} is not from this run: it has another model, other prompts, controllers or settings, or is "
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
