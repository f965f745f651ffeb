using System.Text;

namespace Tiller.Features;

/// <summary>A record of a table.</summary>
/// <param name="Line">The line on which the record begins, counted from 1; for a file without lines, the number of the record.</param>
/// <param name="Cells">Its cells.</param>
/// <param name="Quoted">Whether a cell was written in quotes.</param>
internal readonly record struct TableRecord(int Line, string[] Cells, bool Quoted);

/// <summary>
/// Comma-separated values (RFC 4180), or values with another separator. Records end in LF or CR LF; the end is optional for the last record. A quoted
/// cell may contain separators and line breaks, and a doubled quote for a quote. Blank lines are not records.
/// </summary>
internal static class DelimitedText
{
    /// <summary>Reads all records.</summary>
    /// <param name="text">The text, without byte order mark.</param>
    /// <param name="separator">The character between two cells.</param>
    /// <param name="records">The records.</param>
    /// <returns>The line and the kind of the first error; null if there is none.</returns>
    public static (int Line, string Problem)? Read(string text, char separator, out List<TableRecord> records)
    {
        records = [];
        var cells = new List<string>();
        int line = 1;
        for (int at = 0; at < text.Length;)
        {
            int first = line;
            bool anyQuoted = false;
            cells.Clear();
            while (true)
            {
                bool quoted = at < text.Length && text[at] == '"';
                anyQuoted |= quoted;
                if (!quoted)
                {
                    int end = CellEnd(text, at, separator);
                    cells.Add(text[at..end]);
                    at = end;
                }
                else if (Quoted(text, ref at, ref line) is { } cell)
                {
                    cells.Add(cell);
                }
                else
                {
                    return (first, "a cell begins with a quote that is never closed");
                }

                if (at < text.Length && text[at] == separator)
                {
                    at++;
                    continue;
                }

                if (at < text.Length && !EndsRecord(text, at))
                {
                    return (line, "there is text after the quote that closes a cell; a quote within a cell is written twice");
                }

                break;
            }

            at += at < text.Length && text[at] == '\r' ? 2 : 1;
            line++;
            if (cells.Count > 1 || anyQuoted || !string.IsNullOrWhiteSpace(cells[0]))
            {
                records.Add(new TableRecord(first, [.. cells], anyQuoted));
            }
        }

        return null;
    }

    private static int CellEnd(string text, int at, char separator)
    {
        while (at < text.Length && text[at] != separator && !EndsRecord(text, at))
        {
            at++;
        }

        return at;
    }

    private static bool EndsRecord(string text, int at) => text[at] == '\n' || (text[at] == '\r' && at + 1 < text.Length && text[at + 1] == '\n');

    // Reads the quoted cell at a position, and moves the position behind the closing quote. Null if there is none.
    private static string? Quoted(string text, ref int at, ref int line)
    {
        var cell = new StringBuilder();
        at++;
        while (true)
        {
            int quote = text.IndexOf('"', at);
            if (quote < 0)
            {
                return null;
            }

            line += text.AsSpan(at, quote - at).Count('\n');
            cell.Append(text, at, quote - at);
            at = quote + 1;
            if (at == text.Length || text[at] != '"')
            {
                return cell.ToString();
            }

            cell.Append('"');
            at++;
        }
    }
}
