using Tiller.Tokens;

namespace Tiller.Features;

/// <summary>A table of texts, with or without names of its columns.</summary>
internal sealed class PromptTable
{
    private const int LongestShown = 24;

    private readonly string _path;
    private readonly string[]? _names;
    private readonly List<TableRecord> _rows;
    private readonly int _columns;
    private readonly string?[]? _others;

    private PromptTable(string path, string[]? names, List<TableRecord> rows, int columns, string?[]? others = null)
    {
        _path = path;
        _names = names;
        _rows = rows;
        _columns = columns;
        _others = others;
    }

    /// <summary>A table of a file without lines.</summary>
    /// <param name="path">What errors call the file.</param>
    /// <param name="names">Names of the columns.</param>
    /// <param name="rows">The rows, each with its number.</param>
    /// <param name="others">Of each column what it holds that is no text; null where its cells are.</param>
    public PromptTable(string path, string[] names, List<TableRecord> rows, string?[] others)
        : this(path, names, rows, names.Length, others)
    {
    }

    /// <summary>
    /// Reads comma-separated values, or tab-separated ones if the name ends in .tsv, or those of a dialect that has another separator
    /// (<see cref="SeparatorOf"/>). The first record has names if one of them is usual
    /// (<see cref="PromptRecipe.IsUsual"/>) or is the column that is asked for by name; otherwise it is a row like the others.
    /// </summary>
    /// <exception cref="PromptFileException">The records break the rules or are of different lengths.</exception>
    public static PromptTable Read(string path, string text, string? column)
    {
        char separator = path.EndsWith(".tsv", StringComparison.OrdinalIgnoreCase) ? '\t' : SeparatorOf(text, column);
        if (DelimitedText.Read(text, separator, out List<TableRecord> records) is var (line, problem))
        {
            string between = separator == ',' ? "commas" : "tabs";
            throw new PromptFileException(path, line, $"expected values with {between} between (RFC 4180), but {problem}.");
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
                + "A cell with a separator or a line break stands in quotes.");
        }

        bool named = IsNamed(records[0], column);
        string[]? names = named ? records[0].Cells : null;
        return new PromptTable(path, names, named ? records[1..] : records, columns);
    }

    // A comma, unless the first record has none, or breaks the rules with commas, and all records have the same number of cells with semicolons (which
    // programs write where the comma is the decimal point), tabs or bars. Two cells must also be named or counted, since prose has such signs too.
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

    // A number counts columns: that a cell of the first record is the same one does not make it a name.
    private static bool IsNamed(TableRecord first, string? column)
    {
        string? name = column is null || column.All(char.IsAsciiDigit) ? null : column;
        return Array.Exists(first.Cells, x => PromptRecipe.IsUsual(x) || Same(x, name));
    }

    /// <summary>The prompts of a column; an empty cell is none.</summary>
    /// <param name="column">As <see cref="PromptSelection.Column"/>.</param>
    /// <exception cref="PromptFileException">There is no such column, or it cannot be told which one.</exception>
    public List<Prompt> Prompts(string? column)
    {
        int index = column is null ? -1 : IndexOf(column);
        var prompts = new List<Prompt>();
        foreach (TableRecord row in _rows)
        {
            string? text = index >= 0 ? row.Cells[index] : PromptRecipe.Text(new Row(this, row));
            if (text is null)
            {
                throw Fail(row.Line,
                    $"cannot tell which column holds the prompts: set PromptSelection.Column to its name or number. {Preview()}");
            }

            if (text.Length > 0)
            {
                prompts.Add(new TextPrompt(text));
            }
        }

        return prompts;
    }

    /// <summary>
    /// The rows as records of named fields. A table without names whose last column has letters of choices is one of multiple choice.
    /// </summary>
    /// <returns>Each row's number, for <see cref="Fail"/>, and the record.</returns>
    public IEnumerable<(int Line, DataRecord Record)> Records()
    {
        bool letters = _rows.TrueForAll(x => x.Cells[^1].Trim() is [>= 'A' and var letter] && letter - 'A' < _columns - 2);
        string[]? all = _names is null && _columns > 3 && letters
            ? ["question", .. Enumerable.Range(0, _columns - 2).Select(static i => $"choice{i}"), "answer"]
            : _names;
        var table = new PromptTable(_path, all, _rows, _columns, _others);
        return _rows.Select(row => (row.Line, (DataRecord)new Row(table, row)));
    }

    /// <summary>An error in a row.</summary>
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
                ? throw new PromptFileException(_path, 0, $"PromptSelection.Column is '{column}', which holds {other} and no text. {Preview()}")
                : index;
    }

    // What there is to choose from: numbers, names, the beginning of the first row's cells.
    private string Preview()
    {
        string[] cells = _rows.Count > 0 ? _rows[0].Cells : [];
        var shown = Enumerable.Range(0, _columns).Select(i =>
            $"{i + 1}{(_names is null ? "" : $" '{_names[i]}'")} "
            + (_others?[i] is { } other ? $"({other})" : i < cells.Length ? $"(\"{Shown(cells[i])}\")" : "(no row)"));
        return $"Its columns, with the beginning of the first row: {string.Join(", ", shown)}.";
    }

    /// <summary>The beginning of a cell, as messages show it.</summary>
    public static string Shown(string cell) => TokenizerException.Escape(cell.Length <= LongestShown ? cell : cell[..LongestShown] + "…");

    private sealed class Row(PromptTable table, TableRecord row) : DataRecord
    {
        public override string? Text(string name)
        {
            int index = Array.FindIndex(table._names ?? [], x => Same(x, name));
            return index >= 0 && table._others?[index] is null ? row.Cells[index] : null;
        }

        public override string? Scalar(string name) => Text(name);
    }
}
