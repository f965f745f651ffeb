using System.Text;
using System.Text.Unicode;

namespace Tiller.Features;

/// <summary>A file of prompts cannot be read: it is missing, not UTF-8, malformed, of another kind than its name says, or empty.</summary>
public sealed class PromptFileException : TillerException
{
    internal PromptFileException(string file, int line, string message, Exception? cause = null, string? jsonPath = null)
        : base($"{file}{(line > 0 ? $", line {line}" : "")}{(jsonPath is null or "$" ? "" : $", {jsonPath}")}: {message}", cause)
    {
        File = file;
        Line = line;
        JsonPath = jsonPath;
    }

    /// <summary>The file, as the caller named it.</summary>
    public string File { get; }

    /// <summary>The line, counted from 1; 0 if the error does not concern a single line.</summary>
    public int Line { get; }

    /// <summary>
    /// The position in the JSON, for example <c>$[3].messages[0].role</c>: in a .json file from the root of the file, in a JSONL file from the value
    /// of the line. Null if the error does not concern a JSON value.
    /// </summary>
    public string? JsonPath { get; }
}

/// <summary>
/// Reads prompts and contrast sets in UTF-8, with or without a byte order mark. Text files hold one prompt on each line: blank lines are skipped, and
/// nothing is trimmed or unescaped, because a feature is measured at the last token and trailing space matters. A text that is a JSON array or looks
/// like CSV is refused, since its syntax would become part of the prompts. JSONL files, which end in <c>.jsonl</c> or begin with <c>{</c>, hold one
/// prompt on each line. Files that end in <c>.json</c> hold one prompt or an array of prompts. A prompt in JSON is a string, an object with "text",
/// "prompt" or another usual name, or a chat: an object with "messages", or an array of messages, each with "role" (system, user, assistant or tool)
/// and "content". Tables, which end in <c>.csv</c> or <c>.tsv</c>, and Parquet files, which begin with <c>PAR1</c>, have one prompt in each row.
/// Published data sets can be read unchanged (docs/data.md).
/// </summary>
public static class PromptFile
{
    /// <summary>Largest size of a file in bytes.</summary>
    public const int MaxBytes = 256 << 20;

    /// <summary>Reads the prompts of a file.</summary>
    /// <param name="path">The file, or a pipe.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>At least one prompt: texts, chats, or both.</returns>
    /// <exception cref="PromptFileException">The file cannot be read, is malformed, or holds no prompt.</exception>
    public static IReadOnlyList<Prompt> Read(string path, CancellationToken cancellationToken = default) =>
        Read(path, new PromptSelection(), cancellationToken);

    /// <summary>Reads the prompts of a file.</summary>
    /// <param name="path">The file, or a pipe.</param>
    /// <param name="selection">Where the prompts are in the file, if that is not evident.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>At least one prompt: texts, chats, or both.</returns>
    /// <exception cref="PromptFileException">
    /// The file cannot be read, is malformed, holds no prompt, or does not have what the selection names.
    /// </exception>
    public static IReadOnlyList<Prompt> Read(string path, PromptSelection selection, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(selection);
        return Read(path, ReadBytes(path, cancellationToken), selection, cancellationToken);
    }

    /// <summary>Reads the prompts of a file that holds only texts.</summary>
    /// <param name="path">The file, or a pipe.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>At least one prompt.</returns>
    /// <exception cref="PromptFileException">The file cannot be read, is malformed, holds no prompt, or holds a chat.</exception>
    public static IReadOnlyList<string> ReadTexts(string path, CancellationToken cancellationToken = default) =>
        [.. Read(path, cancellationToken).Select((prompt, i) => prompt is TextPrompt text
            ? text.Text
            : throw new PromptFileException(path, 0, $"prompt {i + 1} is a chat; expected prompts that are texts."))];

    /// <summary>Reads the prompts in the bytes of a file.</summary>
    /// <param name="path">Name of the file. Its ending determines the format, and errors use the name.</param>
    /// <param name="content">Content of the file.</param>
    /// <param name="selection">Where the prompts are in the file; null for the usual names.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <exception cref="PromptFileException">The content is malformed or holds no prompt.</exception>
    internal static IReadOnlyList<Prompt> Read(
        string path, ReadOnlyMemory<byte> content, PromptSelection? selection, CancellationToken cancellationToken)
    {
        if (!ParquetTable.Is(path, content.Span))
        {
            return Parse(path, Decode(content.Span, path), selection);
        }

        RefuseField(path, selection?.Field);
        var sieve = RecordSieve.Of(selection);
        return NotEmpty(path, ParquetTable.Read(path, content, cancellationToken).Prompts(selection?.Column, sieve), sieve);
    }

    /// <summary>Reads the prompts in the text of a file.</summary>
    /// <param name="path">Name of the file. Its ending determines the format, and errors use the name.</param>
    /// <param name="text">Content of the file.</param>
    /// <param name="selection">Where the prompts are in the file; null for the usual names.</param>
    /// <exception cref="PromptFileException">The text is malformed or holds no prompt.</exception>
    internal static IReadOnlyList<Prompt> Parse(string path, string text, PromptSelection? selection = null)
    {
        (string? column, string? field) = (selection?.Column, selection?.Field);
        var sieve = RecordSieve.Of(selection);
        List<Prompt> prompts;
        if (string.IsNullOrWhiteSpace(text))
        {
            prompts = [];
        }
        else if (IsJson(path) || IsJsonLines(path, text))
        {
            Refuse(column is not null, path, "PromptSelection.Column names a column of a table, and this is JSON: set PromptSelection.Field.");
            prompts = IsJson(path) ? PromptJson.Parse(path, text, field, sieve) : PromptJson.ParseLines(path, text, field, sieve);
        }
        else if (IsTable(path))
        {
            RefuseField(path, field);
            prompts = PromptTable.Read(path, text, column).Prompts(column, sieve);
        }
        else
        {
            Refuse(column is not null || field is not null || sieve is not null, path,
                "PromptSelection names a column or a field, and this is a text with one prompt a line. The name of a table ends in .csv, .tsv or "
                + ".parquet, the name of JSON in .json or .jsonl.");
            RefuseOtherKinds(path, text);
            prompts = [.. Lines(text).Where(line => !string.IsNullOrWhiteSpace(line)).Select(line => new TextPrompt(line))];
        }

        return NotEmpty(path, prompts, sieve);
    }

    private static List<Prompt> NotEmpty(string path, List<Prompt> prompts, RecordSieve? sieve)
    {
        prompts = sieve?.Order(path, prompts) ?? prompts;
        return prompts.Count > 0
            ? prompts
            : throw new PromptFileException(path, 0, sieve is null
                ? "a file of prompts must hold at least one, but this one has only blank lines or is empty."
                : "no prompt of the file meets the conditions of PromptSelection.Where.");
    }

    /// <summary>Reads the two sides of a contrast from the items of a file.</summary>
    /// <param name="path">Name of the file, as for <see cref="Parse"/>.</param>
    /// <param name="content">Content of the file.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <exception cref="PromptFileException">The content is malformed, an item is of no known kind, or a side is empty.</exception>
    internal static (List<Prompt> Positive, List<Prompt> Negative) ReadPairs(
        string path, ReadOnlyMemory<byte> content, CancellationToken cancellationToken = default)
    {
        List<Prompt> positive = [];
        List<Prompt> negative = [];
        ReadRecords(path, content, "contrast pairs", (record, fail, got) =>
        {
            if (PromptRecipe.Sides(record) is not var (first, second))
            {
                throw fail($"expected an item with two sides: {PromptRecipe.Pairs}; got {got}.");
            }

            positive.AddRange(string.IsNullOrEmpty(first) ? [] : [new TextPrompt(first)]);
            negative.AddRange(string.IsNullOrEmpty(second) ? [] : [new TextPrompt(second)]);
        }, cancellationToken);
        return positive.Count > 0 && negative.Count > 0
            ? (positive, negative)
            : throw new PromptFileException(
                path, 0, $"a contrast has two sides, but here are {positive.Count} positive and {negative.Count} negative prompts.");
    }

    /// <summary>Reads the items of a table or of JSON one by one.</summary>
    /// <param name="path">As for <see cref="Parse"/>.</param>
    /// <param name="content">Content of the file.</param>
    /// <param name="what">What the items are, for messages.</param>
    /// <param name="read">Gets the item, what makes an error of it, and the kind of thing it is.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <exception cref="PromptFileException">The content is malformed, or is no list of items.</exception>
    internal static void ReadRecords(
        string path, ReadOnlyMemory<byte> content, string what, Action<DataRecord, Func<string, PromptFileException>, string> read,
        CancellationToken cancellationToken)
    {
        bool isParquet = ParquetTable.Is(path, content.Span);
        string text = isParquet ? "" : Decode(content.Span, path);
        PromptTable? table = isParquet ? ParquetTable.Read(path, content, cancellationToken)
            : IsTable(path) ? PromptTable.Read(path, text, column: null)
            : null;
        if (table is not null)
        {
            foreach ((int line, DataRecord record) in table.Records())
            {
                read(record, problem => table.Fail(line, problem), "a row without them");
            }
        }
        else if (IsJson(path) || IsJsonLines(path, text))
        {
            PromptJson.Items(path, text, !IsJson(path), (item, place) =>
            {
                read(new PromptJson.JsonRecord(item), problem => place.Fail(problem), PromptJson.Describe(item));
                return true;
            });
        }
        else
        {
            throw new PromptFileException(
                path, 0, $"{what} are read from tables (.csv, .tsv, .parquet) and JSON (.json, .jsonl); this is neither by its name.");
        }
    }

    /// <summary>Splits a text into lines, which end in LF or CR LF.</summary>
    internal static IEnumerable<string> Lines(string text) => text.Split('\n').Select(line => line.EndsWith('\r') ? line[..^1] : line);

    /// <summary>Reads a whole file as one text. Invalid UTF-8 is an error.</summary>
    /// <param name="path">The file, or a pipe.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>The text, without a byte order mark.</returns>
    /// <exception cref="PromptFileException">The file cannot be read or is not UTF-8; the message gives the byte offset.</exception>
    public static string ReadText(string path, CancellationToken cancellationToken = default) =>
        Decode(ReadBytes(path, cancellationToken).Span, path);

    /// <summary>Reads a whole file.</summary>
    /// <exception cref="PromptFileException">The file cannot be read.</exception>
    internal static ReadOnlyMemory<byte> ReadBytes(string path, CancellationToken cancellationToken)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 1);
            return ReadBytes(file, path, cancellationToken);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PromptFileException(path, 0, $"cannot be read as a file of prompts. {e.Message}", e);
        }
    }

    /// <summary>Reads a stream to its end as one text. Invalid UTF-8 is an error.</summary>
    /// <param name="stream">A stream of UTF-8, with or without a byte order mark.</param>
    /// <param name="name">Name of the stream in messages.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <returns>The text, without a byte order mark.</returns>
    /// <exception cref="PromptFileException">The text is not UTF-8 or too long; the message gives the byte offset.</exception>
    public static string ReadText(Stream stream, string name, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return Decode(ReadBytes(stream, name, cancellationToken).Span, name);
    }

    private static ReadOnlyMemory<byte> ReadBytes(Stream stream, string name, CancellationToken cancellationToken)
    {
        var bytes = new MemoryStream();
        byte[] block = new byte[1 << 16];
        for (int read; (read = stream.Read(block)) > 0;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (bytes.Length + read > MaxBytes)
            {
                throw new PromptFileException(name, 0, $"has more than {MaxBytes >> 20} MiB, the largest size of a file of prompts.");
            }

            bytes.Write(block, 0, read);
        }

        return bytes.GetBuffer().AsMemory(0, (int)bytes.Length);
    }

    private static string Decode(ReadOnlySpan<byte> bytes, string name)
    {
        if (bytes.StartsWith(ParquetFooter.Magic))
        {
            throw new PromptFileException(name, 0, "is a Parquet file, which is a table, not a text.");
        }

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
        throw new PromptFileException(name, line, $"expected UTF-8, but byte {start + offset} (0x{rest[offset]:X2}) is not part of a character. "
            + "Convert the file to UTF-8.");
    }

    private static bool HasEnding(string path, string ending) => path.EndsWith(ending, StringComparison.OrdinalIgnoreCase);

    private static bool IsJson(string path) => HasEnding(path, ".json");

    private static bool IsJsonLines(string path, string text) =>
        HasEnding(path, ".jsonl") || (!IsTable(path) && text.AsSpan().TrimStart().StartsWith('{'));

    private static bool IsTable(string path) => HasEnding(path, ".csv") || HasEnding(path, ".tsv");

    private static void RefuseField(string path, string? field) =>
        Refuse(field is not null, path, "PromptSelection.Field names a field of JSON, and this is a table: set PromptSelection.Column.");

    private static void Refuse(bool refuses, string path, string message)
    {
        if (refuses)
        {
            throw new PromptFileException(path, 0, message);
        }
    }

    // Refuses syntax that would become part of the prompts.
    private static void RefuseOtherKinds(string path, string text)
    {
        const string Otherwise = "If these lines are the prompts after all, write each as a JSON string on a line of a file that ends in .jsonl.";
        if (PromptJson.IsArray(text))
        {
            throw new PromptFileException(
                path, 0, $"expected a text with one prompt a line, but this is a JSON array. Give the file a name that ends in .json. {Otherwise}");
        }

        if (CsvText.SharedFieldCount(text) is { } fields)
        {
            throw new PromptFileException(
                path, 0,
                $"expected a text with one prompt a line, but this looks like CSV: its first line names {fields} columns, "
                + $"and every record has {fields} fields. Give the file a name that ends in .csv. {Otherwise}");
        }
    }
}
