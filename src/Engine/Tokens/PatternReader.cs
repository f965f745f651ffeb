namespace Tiller.Tokens;

/// <summary>Reads the pattern of a Split or Replace: a String, or a Regex in Oniguruma's syntax.</summary>
internal static class PatternReader
{
    /// <summary>Reads a node such as <c>{"Regex": "\\s+"}</c>.</summary>
    public static TextPattern Read(TokenizerNode node)
    {
        TokenizerNode regex = node["Regex"];
        return !regex.IsString ? new StringPattern(String(node)) : Scanner(regex) ?? ExpressionPattern.Read(regex);
    }

    /// <summary>The scanner of an expression; null if it has none.</summary>
    public static TextPattern? Scanner(TokenizerNode regex) =>
        WordSplits.OfRegex(regex.Text()) ?? OnigurumaExpression.Run(regex.Text(), regex.Path);

    /// <summary>Reads a pattern that is a non-empty string.</summary>
    public static byte[] String(TokenizerNode node)
    {
        byte[] pattern = node["String"].Utf8();
        return pattern.Length > 0 ? pattern : throw node["String"].Wrong("a pattern that is not empty");
    }
}
