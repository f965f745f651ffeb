namespace Tiller.Features;

/// <summary>Tells comma-separated values (RFC 4180) from prose that happens to have commas.</summary>
internal static class CsvText
{
    /// <summary>
    /// The number of fields that every record has, where the text looks like CSV: its first record has at least two fields, each a bare
    /// identifier, and every record has as many. Blank lines are no records. Null where it does not.
    /// </summary>
    public static int? SharedFieldCount(string text)
    {
        int at = 0, shared = 0;
        while (at < text.Length)
        {
            int begin = at, fields = 1;
            bool bare = true;
            while (true)
            {
                bool quoted = at < text.Length && text[at] == '"';
                int start = at;
                at = FieldEnd(text, at);
                bare &= !quoted && IsIdentifier(text.AsSpan(start, at - start));
                if (at == text.Length || text[at] != ',')
                {
                    break;
                }

                at++;
                fields++;
            }

            bool blank = fields == 1 && text.AsSpan(begin, at - begin).IsWhiteSpace();
            at += at < text.Length && text[at] == '\r' ? 2 : 1;
            if (blank)
            {
                continue;
            }

            if (shared == 0 && (fields < 2 || !bare))
            {
                return null;
            }

            shared = shared == 0 ? fields : shared;
            if (fields != shared)
            {
                return null;
            }
        }

        return shared > 0 ? shared : null;
    }

    // The comma or line break after a field, or the end of the text. In quotes both are text, and a quote is doubled: it closes and opens again.
    private static int FieldEnd(string text, int at)
    {
        bool inQuotes = false;
        bool quotable = true;
        for (; at < text.Length; at++)
        {
            char c = text[at];
            if (c == '"' && (quotable || inQuotes))
            {
                inQuotes = !inQuotes;
                quotable = !inQuotes && at + 1 < text.Length && text[at + 1] == '"';
                continue;
            }

            quotable = false;
            if (!inQuotes && (c is ',' or '\n' || (c == '\r' && at + 1 < text.Length && text[at + 1] == '\n')))
            {
                return at;
            }
        }

        return at;
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
