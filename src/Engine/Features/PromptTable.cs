using Tiller.Tokens;

namespace Tiller.Features;

/// <summary>A table of texts, with or without column names.</summary>
internal sealed class PromptTable
{
    private const int LongestShown = 24;

    private readonly string _path;
    private readonly string[]? _names;
    private readonly List<TableRecord> _rows;
    private readonly int _columns;
    private readonly string?[]? _others;
    private readonly bool[] _chats; // columns whose cells are chats in JSON

    private PromptTable(
        string path, string[]? names, List<TableRecord> rows, int columns, string?[]? others = null, IReadOnlyList<bool>? lists = null)
    {
        _path = path;
        _names = names;
        _rows = rows;
        _columns = columns;
        _others = others;
        _chats = [.. Enumerable.Range(0, columns).Select(i => lists?[i] == true || (names is not null && ConversationRecipe.IsUsual(names[i])))];
    }

    /// <summary>Makes a table of a file without lines.</summary>
    /// <param name="path">Name of the file in messages.</param>
    /// <param name="names">Names of the columns.</param>
    /// <param name="rows">The rows, each with its number.</param>
    /// <param name="others">For each column, the kind of its values if they are not texts; null if they are.</param>
    /// <param name="lists">For each column, whether its texts are lists of records, written as JSON.</param>
    public PromptTable(string path, string[] names, List<TableRecord> rows, string?[] others, IReadOnlyList<bool> lists)
        : this(path, names, rows, names.Length, others, lists)
    {
    }

    /// <summary>
    /// Reads comma-separated values, or tab-separated values if the name ends in .tsv. Files of other dialects may have another separator
    /// (<see cref="SeparatorOf"/>). The first record holds column names if one of its cells is a usual name
    /// (<see cref="PromptRecipe.IsUsual"/>) or the name of the requested column; otherwise it is an ordinary row.
    /// </summary>
    /// <exception cref="PromptFileException">The records are malformed or differ in length.</exception>
    public static PromptTable Read(string path, string text, string? column)
    {
        char separator = path.EndsWith(".tsv", StringComparison.OrdinalIgnoreCase) ? '\t' : SeparatorOf(text, column);
        if (DelimitedText.Read(text, separator, out List<TableRecord> records) is var (line, problem))
        {
            string between = separator == ',' ? "commas" : "tabs";
            throw new PromptFileException(path, line, $"expected values separated by {between} (RFC 4180), but {problem}.");
        }

        if (records.Count == 0)
        {
            return new PromptTable(path, null, records, 0);
        }

        int columns = records[0].Cells.Length;
        int odd = records.FindIndex(x => x.Cells.Length != columns);
        if (odd >= 0)
        {
            throw new PromptFileException(path, records[odd].Line,
                $"expected a record of {columns} cells, as the first one has, got {records[odd].Cells.Length}. "
                + "Put quotes around a cell that contains a separator or a line break.");
        }

        bool named = IsNamed(records[0], column);
        string[]? names = named ? records[0].Cells : null;
        return new PromptTable(path, names, named ? records[1..] : records, columns);
    }

    // The separator is a comma, unless the first record has no comma (or is malformed with commas) and all records have the same number of cells
    // with semicolons, tabs or bars. Programs write semicolons where the comma is the decimal point. Since prose also contains such characters, two
    // cells are accepted only if the first record has names or the second column is requested.
    private static char SeparatorOf(string text, string? column)
    {
        _ = DelimitedText.Read(text, ',', out List<TableRecord> records);
        if (records is [] or [{ Cells.Length: 1 }, ..])
        {
            foreach (char other in ";\t|")
            {
                if (DelimitedText.Read(text, other, out records) is null && records is [{ Cells.Length: > 1 } first, ..]
                    && records.TrueForAll(x => x.Cells.Length == first.Cells.Length)
                    && (first.Cells.Length > 2 || column is "2" || IsNamed(first, column)))
                {
                    return other;
                }
            }
        }

        return ',';
    }

    // A number is the index of a column, even if a cell of the first record equals it.
    private static bool IsNamed(TableRecord first, string? column)
    {
        string? name = column is null || column.All(char.IsAsciiDigit) ? null : column;
        return Array.Exists(first.Cells, x => PromptRecipe.IsUsual(x) || ConversationRecipe.IsUsual(x) || Same(x, name));
    }

    /// <summary>The prompts of a column; empty cells are skipped.</summary>
    /// <param name="column">Name or number, as <see cref="PromptSelection.Column"/>.</param>
    /// <param name="sieve">Selects rows; null for all rows.</param>
    /// <exception cref="PromptFileException">There is no such column, or none is named and none has a usual name.</exception>
    public List<Prompt> Prompts(string? column, RecordSieve? sieve = null)
    {
        int index = column is null ? -1 : IndexOf(column);
        var prompts = new List<Prompt>();
        foreach (TableRecord row in _rows)
        {
            var record = new Row(this, row);
            if (sieve?.Takes(record) == false)
            {
                continue;
            }

            if (Of(row, record, index) is { } prompt)
            {
                prompts.Add(prompt);
                sieve?.Took(record);
            }
        }

        return prompts;
    }

    // The prompt of a row, from a column or, if that is -1, from the usual one; null for an empty cell.
    private Prompt? Of(TableRecord row, Row record, int column)
    {
        string? text = column >= 0 ? row.Cells[column] : PromptRecipe.Text(record);
        if (text is null)
        {
            column = ChatColumn();
            text = column >= 0 ? row.Cells[column] : throw Fail(row.Line,
                $"cannot tell which column holds the prompts: set PromptSelection.Column to its name or number. {Preview()}");
        }

        return text.Length == 0 ? null
            : column >= 0 && _chats[column]
                ? PromptJson.Cell(text, _names is not null && ConversationRecipe.IsUsual(_names[column]), ConversationRecipe.SystemOf(record),
                    problem => Fail(row.Line, $"column {column + 1}: {problem}"))
            : new TextPrompt(text);
    }

    // The column of a chat: one with a usual name, or the only one; -1 if neither tells.
    private int ChatColumn()
    {
        int[] chats = [.. Enumerable.Range(0, _columns).Where(i => _chats[i])];
        int[] usual = [.. chats.Where(i => ConversationRecipe.IsUsual(_names![i]) || Same(_names[i], "messages") || Same(_names[i], "prompt"))];
        return usual.Length > 0 ? usual[0] : chats.Length == 1 ? chats[0] : -1;
    }

    /// <summary>
    /// The rows as records of named fields. A table without names whose last column holds the letters of choices is read as multiple choice.
    /// </summary>
    /// <returns>Each row's number, for <see cref="Fail"/>, and its record.</returns>
    public IEnumerable<(int Line, DataRecord Record)> Records()
    {
        bool letters = _rows.TrueForAll(x => x.Cells[^1].Trim() is [>= 'A' and var letter] && letter - 'A' < _columns - 2);
        string[]? all = _names is null && _columns > 3 && letters
            ? ["question", .. Enumerable.Range(0, _columns - 2).Select(static i => $"choice{i}"), "answer"]
            : _names;
        var table = new PromptTable(_path, all, _rows, _columns, _others, _chats);
        return _rows.Select(row => (row.Line, (DataRecord)new Row(table, row)));
    }

    /// <summary>Makes the error of a row.</summary>
    public PromptFileException Fail(int line, string message) =>
        _others is null ? new PromptFileException(_path, line, message) : new PromptFileException(_path, 0, $"row {line}: {message}");

    private static bool Same(string a, string? b) => string.Equals(a, b, StringComparison.OrdinalIgnoreCase);

    private int IndexOf(string column)
    {
        int index = Array.FindIndex(_names ?? [], x => Same(x, column));
        if (index < 0 && int.TryParse(column, System.Globalization.NumberStyles.None, null, out int number) && number >= 1 && number <= _columns)
        {
            index = number - 1;
        }

        return index < 0
            ? throw new PromptFileException(_path, 0, $"PromptSelection.Column is '{column}', and the table has no such column. {Preview()}")
            : _others?[index] is { } other
                ? throw new PromptFileException(_path, 0, $"PromptSelection.Column is '{column}', which holds {other}, not text. {Preview()}")
                : index;
    }

    // The columns to choose from: numbers, names, and the beginning of the first row's cells.
    private string Preview()
    {
        string[] cells = _rows.Count > 0 ? _rows[0].Cells : [];
        var shown = Enumerable.Range(0, _columns).Select(i =>
            $"{i + 1}{(_names is null ? "" : $" '{_names[i]}'")} "
            + (_others?[i] is { } other ? $"({other})" : i < cells.Length ? $"(\"{Shown(cells[i])}\")" : "(no row)"));
        return $"Its columns, with the beginning of the first row: {string.Join(", ", shown)}.";
    }

    /// <summary>The beginning of a cell, for messages.</summary>
    public static string Shown(string cell) => TokenizerException.Escape(cell.Length <= LongestShown ? cell : cell[..LongestShown] + "…");

    private sealed class Row(PromptTable table, TableRecord row) : DataRecord
    {
        public override string? Text(string name)
        {
            int index = Array.FindIndex(table._names ?? [], x => Same(x, name));
            return index >= 0 && table._others?[index] is null && !table._chats[index] ? row.Cells[index] : null;
        }

        public override string? Scalar(string name) => Text(name);

        // TruthfulQA's table: the best answers in columns, all of them in lists of one cell each.
        public override IReadOnlyList<(string Answer, bool IsTrue)>? Targets(string name)
        {
            if (Text("Best Answer") is not { Length: > 0 } best || Text("Incorrect Answers") is not { } wrong)
            {
                return null;
            }

            string? bestWrong = Text("Best Incorrect Answer");
            return name switch
            {
                "mc0_targets" => bestWrong is { Length: > 0 } ? [(best, true), (bestWrong, false)] : null,
                "mc1_targets" => [(best, true), .. Listed(wrong, bestWrong).Select(static x => (x, false))],
                "mc2_targets" => Text("Correct Answers") is { } right
                    ? [.. Listed(right, best).Select(static x => (x, true)), .. Listed(wrong, bestWrong).Select(static x => (x, false))]
                    : null,
                _ => null,
            };
        }

        // Answers with "; " between. One of them is known, and may have a semicolon of its own.
        private static IEnumerable<string> Listed(string answers, string? known) => Split(answers, known).Distinct(StringComparer.Ordinal);

        private static IEnumerable<string> Split(string answers, string? known)
        {
            for (string rest = answers.Trim(); rest.Length > 0;)
            {
                bool isKnown = known is { Length: > 0 } && rest.StartsWith(known, StringComparison.Ordinal)
                    && (rest.Length == known.Length || rest[known.Length] == ';');
                int end = isKnown ? known!.Length : rest.IndexOf(';', StringComparison.Ordinal);
                end = end < 0 ? rest.Length : end;
                string answer = rest[..end].Trim();
                rest = rest[Math.Min(end + 1, rest.Length)..].TrimStart();
                if (answer.Length > 0)
                {
                    yield return answer;
                }
            }
        }
    }
}
