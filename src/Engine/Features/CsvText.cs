namespace Tiller.Features;

/// <summary>Distinguishes comma-separated values from prose with commas.</summary>
internal static class CsvText
{
    /// <summary>
    /// The number of fields of every record, if the text looks like CSV: its first record has at least two fields, each an unquoted identifier, and
    /// every record has the same number of fields. Null if it does not.
    /// </summary>
    public static int? SharedFieldCount(string text)
    {
        // The first line is enough to reject most texts.
        ReadOnlySpan<char> head = text.AsSpan().TrimStart();
        int end = head.IndexOf('\n');
        string[] names = (end < 0 ? head : head[..end]).TrimEnd('\r').ToString().Split(',');
        if (names.Length < 2 || !Array.TrueForAll(names, static x => IsIdentifier(x)))
        {
            return null;
        }

        if (DelimitedText.Read(text, ',', out List<TableRecord> records) is not null || records.Count == 0)
        {
            return null;
        }

        TableRecord first = records[0];
        bool shared = first.Cells.Length > 1 && !first.Quoted && first.Cells.All(static x => IsIdentifier(x))
            && records.TrueForAll(x => x.Cells.Length == first.Cells.Length);
        return shared ? first.Cells.Length : null;
    }

    private static bool IsIdentifier(ReadOnlySpan<char> field)
    {
        if (field.IsEmpty || !(char.IsLetter(field[0]) || field[0] == '_'))
        {
            return false;
        }

        foreach (char c in field)
        {
            if (!(char.IsLetterOrDigit(c) || c == '_'))
            {
                return false;
            }
        }

        return true;
    }
}
