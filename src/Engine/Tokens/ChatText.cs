using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// A chat being written: the template's own text, in which special tokens count, and the messages' text, in which they never do.
/// Neighbouring plain text of both is tokenised as one run.
/// </summary>
internal sealed class ChatText(Tokenizer tokenizer, AddedTokens special)
{
    private readonly StringBuilder text = new();
    private readonly List<(int Start, AddedToken Token)> marks = [];
    private readonly List<TextPart> parts = [];

    /// <summary>Appends text of the template.</summary>
    public ChatText Template(string value)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(value);
        parts.Clear();
        special.Split(utf8, 0, utf8.Length, special: true, parts);
        foreach (TextPart part in parts.Where(static x => x.Id >= 0))
        {
            // The part may include white space that the token strips; the mark is the token's own text.
            AddedToken token = tokenizer.Added.First(x => x.Id == part.Id);
            int at = part.Start + utf8.AsSpan(part.Start, part.End - part.Start).IndexOf(token.Content);
            marks.Add((text.Length + Encoding.UTF8.GetCharCount(utf8, 0, at), token));
        }

        text.Append(value);
        return this;
    }

    /// <summary>Appends text of a message.</summary>
    public ChatText Message(string value)
    {
        text.Append(value);
        return this;
    }

    public int[] Encode(CancellationToken cancellationToken) => tokenizer.EncodeMarked(text.ToString(), marks, cancellationToken);

    /// <summary>Without white space at both ends, as Python's strip() has it.</summary>
    public static string Trim(string value)
    {
        int start = 0;
        int end = value.Length;
        while (start < end && IsSpace(value[start]))
        {
            start++;
        }

        while (end > start && IsSpace(value[end - 1]))
        {
            end--;
        }

        return value[start..end];
    }

    private static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\u001c' and <= '\u001f';
}
