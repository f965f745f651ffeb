using System.Text;

namespace Tiller.Tokens;

/// <summary>Canonical text under construction; neighbouring strings are joined.</summary>
internal sealed class ChatLine
{
    private readonly StringBuilder text = new();
    private bool afterLiteral;

    public bool IsEmpty => text.Length == 0;

    public void Literal(string quoted)
    {
        if (quoted.Length == 2)
        {
            return;
        }

        if (afterLiteral)
        {
            text.Length--;
            text.Append(quoted, 1, quoted.Length - 1);
        }
        else
        {
            text.Append(quoted);
        }

        afterLiteral = true;
    }

    public void Code(string code)
    {
        text.Append(code);
        afterLiteral = false;
    }

    public void Append(ChatLine other)
    {
        string inner = other.ToString();
        if (inner.Length == 0)
        {
            return;
        }

        // A leading string joins what stands before it.
        int end = inner[0] == '"' ? EndOfQuote(inner) : 0;
        if (end > 0)
        {
            Literal(inner[..end]);
        }

        if (end < inner.Length)
        {
            text.Append(inner, end, inner.Length - end);
            afterLiteral = other.afterLiteral;
        }
    }

    public override string ToString() => text.ToString();

    private static int EndOfQuote(string inner)
    {
        int i = 1;
        while (inner[i] != '"')
        {
            i += inner[i] == '\\' ? 2 : 1;
        }

        return i + 1;
    }
}
