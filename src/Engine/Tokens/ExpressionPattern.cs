using System.Text.RegularExpressions;

namespace Tiller.Tokens;

/// <summary>
/// A regular expression in Oniguruma's syntax that has no scanner of its own, run by .NET. It searches a copy of the text with one symbol for each
/// code point (<see cref="SymbolAlphabet"/>).
/// </summary>
internal sealed class ExpressionPattern : TextPattern
{
    // Limits expressions that take exponential time. .NET's engine without backtracking would need no limit, but misses matches: for [\s]?[a-z]+ it
    // finds only one in "! -'s'-'s" (.NET 10).
    private static readonly TimeSpan s_maxTime = TimeSpan.FromSeconds(1);

    private readonly string _source;
    private readonly Regex _regex;
    private readonly SymbolAlphabet _alphabet;

    private ExpressionPattern(string source, Regex regex, SymbolAlphabet alphabet)
    {
        _source = source;
        _regex = regex;
        _alphabet = alphabet;
    }

    /// <summary>Reads an expression.</summary>
    /// <param name="node">The text of the expression; errors name its path.</param>
    /// <exception cref="TokenizerException">Unsupported: the expression is invalid, or would have another meaning in .NET.</exception>
    public static ExpressionPattern Read(TokenizerNode node)
    {
        string text = node.Text();
        (string translation, SymbolAlphabet alphabet) = OnigurumaExpression.Translate(text, node.Path);
        return new ExpressionPattern(text, Compile(text, translation, node.Path), alphabet);
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
            state.Copy[count++] = _alphabet.Symbol(code);
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

            // Like Oniguruma's callers: no empty match at the end of the previous match; the search continues one character later.
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
            throw new TokenizerException(TokenizerError.Unsupported, path, expression, $"this is not a valid expression: {e.Message}", e);
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

    // Converts a position in the copy to one in the text. Positions must not decrease between calls.
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
}
