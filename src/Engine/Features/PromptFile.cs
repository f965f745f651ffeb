using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace Tiller.Features;

/// <summary>A file of prompts cannot be read: no such file, not UTF-8, not the JSON it should be, or empty.</summary>
public sealed class PromptFileException : TillerException
{
    internal PromptFileException(string file, int line, string message, Exception? cause = null)
        : base(line > 0 ? $"{file}, line {line}: {message}" : $"{file}: {message}", cause)
    {
        File = file;
        Line = line;
    }

    /// <summary>The file, as it was named.</summary>
    public string File { get; }

    /// <summary>The line, counted from 1; 0 if the error is not about one line.</summary>
    public int Line { get; }
}

/// <summary>
/// Reads prompts and contrast sets, UTF-8 with or without a byte order mark. Text files hold one prompt a line: blank lines are skipped,
/// nothing is trimmed or unescaped (a feature is read at the last token, so trailing space matters). JSONL files, which end in
/// <c>.jsonl</c> or begin with <c>{</c>, hold one string or one object with "text" or "prompt" a line, so prompts may contain line breaks.
/// </summary>
public static class PromptFile
{
    /// <summary>Most bytes of a file.</summary>
    public const int MaxBytes = 256 << 20;

    private static readonly JsonDocumentOptions Json = new() { AllowDuplicateProperties = false, MaxDepth = 8 };

    /// <summary>Reads the prompts of a file.</summary>
    /// <param name="path">The file; a pipe will do.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>At least one prompt.</returns>
    /// <exception cref="PromptFileException">The file cannot be read, is malformed, or holds no prompt.</exception>
    public static IReadOnlyList<string> Read(string path, CancellationToken cancellationToken = default)
    {
        return Parse(path, ReadText(path, cancellationToken));
    }

    /// <summary>The prompts in a file's text.</summary>
    /// <param name="path">Name of the file: its ending decides, and errors call it that.</param>
    /// <param name="text">Content of the file.</param>
    /// <exception cref="PromptFileException">The text is malformed or holds no prompt.</exception>
    internal static IReadOnlyList<string> Parse(string path, string text)
    {
        var prompts = IsJsonLines(path, text) ? ParseJsonLines(path, text) : [.. Lines(text).Where(l => !string.IsNullOrWhiteSpace(l))];
        return prompts.Count > 0
            ? prompts
            : throw new PromptFileException(path, 0, "a file of prompts must hold at least one, but this one has only blank lines or is empty.");
    }

    /// <summary>Reads a whole file as one text, strictly.</summary>
    /// <param name="path">The file; a pipe will do.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>The text, without byte order mark.</returns>
    /// <exception cref="PromptFileException">The file cannot be read or is not UTF-8; the message gives the byte offset.</exception>
    public static string ReadText(string path, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 1);
            return ReadText(file, path, cancellationToken);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PromptFileException(path, 0, $"cannot be read as a file of prompts. {e.Message}", e);
        }
    }

    /// <summary>Reads a stream to its end as one text, strictly.</summary>
    /// <param name="stream">UTF-8, with or without byte order mark.</param>
    /// <param name="name">What errors call it.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>The text, without byte order mark.</returns>
    /// <exception cref="PromptFileException">The text is not UTF-8 or too long; the message gives the byte offset.</exception>
    public static string ReadText(Stream stream, string name, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        using var bytes = new MemoryStream();
        byte[] block = new byte[1 << 16];
        for (int read; (read = stream.Read(block)) > 0;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (bytes.Length + read > MaxBytes)
            {
                throw new PromptFileException(name, 0, $"has more than {MaxBytes >> 20} MiB, the most that is read as prompts.");
            }

            bytes.Write(block, 0, read);
        }

        return Decode(bytes.GetBuffer().AsSpan(0, (int)bytes.Length), name);
    }

    private static string Decode(ReadOnlySpan<byte> bytes, string name)
    {
        ReadOnlySpan<byte> mark = [0xEF, 0xBB, 0xBF];
        int start = bytes.StartsWith(mark) ? mark.Length : 0;
        var rest = bytes[start..];
        if (Utf8.IsValid(rest))
        {
            return Encoding.UTF8.GetString(rest);
        }

        int offset = 0;
        while (Rune.DecodeFromUtf8(rest[offset..], out _, out int length) == System.Buffers.OperationStatus.Done)
        {
            offset += length;
        }

        int line = 1 + rest[..offset].Count((byte)'\n');
        throw new PromptFileException(name, line, $"expected UTF-8, but byte {start + offset} (0x{rest[offset]:X2}) is not part of a character. Convert the file to UTF-8.");
    }

    private static bool IsJsonLines(string path, string text) =>
        path.EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase) || text.AsSpan().TrimStart().StartsWith('{');

    private static IEnumerable<string> Lines(string text) => text.Split('\n').Select(l => l.EndsWith('\r') ? l[..^1] : l);

    private static List<string> ParseJsonLines(string path, string text)
    {
        var prompts = new List<string>();
        int number = 0;
        foreach (string line in Lines(text))
        {
            number++;
            if (!string.IsNullOrWhiteSpace(line))
            {
                prompts.Add(ParseJsonLine(path, number, line));
            }
        }

        return prompts;
    }

    private static string ParseJsonLine(string path, int number, string line)
    {
        try
        {
            using var json = JsonDocument.Parse(line, Json);
            string? prompt = Prompt(json.RootElement);
            return !string.IsNullOrEmpty(prompt)
                ? prompt
                : throw new PromptFileException(
                    path, number, "expected a JSON string, or an object with \"text\" or \"prompt\" (one of them, a string), and not an empty one.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // A lone surrogate escape is JSON, but InvalidOperationException when read.
            throw new PromptFileException(path, number, $"is not a line of JSONL (the file ends in .jsonl or begins with '{{'). {e.Message}", e);
        }
    }

    private static string? Prompt(JsonElement value)
    {
        if (value.ValueKind == JsonValueKind.Object)
        {
            bool hasText = value.TryGetProperty("text", out var text);
            bool hasPrompt = value.TryGetProperty("prompt", out var prompt);
            value = hasText == hasPrompt ? default : hasText ? text : prompt;
        }

        return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
    }
}
