using System.Globalization;
using System.Text.RegularExpressions;

namespace Tiller.Tokens;

/// <summary>
/// A regular expression of Oniguruma's that is none of the known ones, run by .NET. The text is searched as a copy with one UTF-16 character for each
/// code point: one beyond U+FFFF has there a stand-in of the same general category, which is all that such an expression can tell of it.
/// </summary>
internal sealed class ExpressionPattern : TextPattern
{
    // Against expressions that take exponential time. .NET's engine without backtracking would need no such limit, but it loses matches: of
    // [\s]?[a-z]+ in "! -'s'-'s" it finds one (.NET 10).
    private static readonly TimeSpan s_maxTime = TimeSpan.FromSeconds(1);

    private readonly string _source;
    private readonly Regex _regex;
    private readonly char[] _standIns; // by general category

    private ExpressionPattern(string source, Regex regex, char[] standIns)
    {
        _source = source;
        _regex = regex;
        _standIns = standIns;
    }

    /// <summary>Reads an expression.</summary>
    /// <param name="node">Its text; every error names it.</param>
    /// <exception cref="TokenizerException">Unsupported: it is invalid, or would mean another thing in .NET.</exception>
    public static ExpressionPattern Read(TokenizerNode node)
    {
        string text = node.Text();
        var translation = OnigurumaExpression.Translate(text, node.Path);
        return new ExpressionPattern(text, Compile(text, translation.Text, node.Path), translation.StandIns(text, node.Path));
    }

    public override void Begin(ReadOnlySpan<byte> text, PatternState state)
    {
        if (state.Copy.Length < text.Length)
        {
            state.Copy = new char[Math.Max(text.Length, 2 * state.Copy.Length)];
        }

        int count = 0;
        for (int i = 0; i < text.Length;)
        {
            int code = CharClasses.CodeAt(text, i, out int length);
            state.Copy[count++] = code < 0x10000 ? (char)code : StandIn(code);
            i += length;
        }

        (state.Length, state.At, state.ByteAt, state.LastEnd) = (count, 0, 0, -1);
    }

    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        ReadOnlySpan<char> copy = state.Copy.AsSpan(0, state.Length);
        start = end = text.Length;
        for (int at = state.At; at <= copy.Length; at++)
        {
            state.Steps?.Take();
            if (!TryMatch(copy, at, out int index, out int length))
            {
                return false;
            }

            // As Oniguruma's callers do: no empty match where the last one ended; the search goes on one character later.
            if (length > 0 || index != state.LastEnd)
            {
                start = ByteAt(text, state, index);
                end = ByteAt(text, state, index + length);
                state.LastEnd = index + length;
                return true;
            }

            at = index;
        }

        return false;
    }

    private static Regex Compile(string expression, string text, string path)
    {
        try
        {
            return new Regex(text, RegexOptions.CultureInvariant, s_maxTime);
        }
        catch (ArgumentException e)
        {
            throw new TokenizerException(TokenizerError.Unsupported, path, expression, $"this is no valid expression: {e.Message}", e);
        }
    }

    private bool TryMatch(ReadOnlySpan<char> copy, int at, out int index, out int length)
    {
        try
        {
            foreach (ValueMatch match in _regex.EnumerateMatches(copy, at))
            {
                (index, length) = (match.Index, match.Length);
                return true;
            }
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new TokenizerException(TokenizerError.Limit, "", _source,
                $"this expression of the tokenizer took more than {s_maxTime.TotalSeconds:0} s on the text; it takes exponential time. "
                + "Shorten the text.", e);
        }

        (index, length) = (0, 0);
        return false;
    }

    // The place in the text of a place in the copy, which is not before the last one asked for.
    private static int ByteAt(ReadOnlySpan<byte> text, PatternState state, int at)
    {
        while (state.At < at)
        {
            CharClasses.CodeAt(text, state.ByteAt, out int length);
            state.ByteAt += length;
            state.At++;
        }

        return state.ByteAt;
    }

    private char StandIn(int code)
    {
        UnicodeCategory category = CharUnicodeInfo.GetUnicodeCategory(code);
        return category == UnicodeCategory.OtherSymbol && CharClasses.IsWord(code)
            ? OnigurumaExpression.WordSymbol
            : _standIns[(int)category];
    }
}
