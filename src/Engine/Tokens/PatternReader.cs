namespace Tiller.Tokens;

/// <summary>Reads the pattern of a Split or Replace: a String, or a Regex in Oniguruma's writing.</summary>
internal static class PatternReader
{
    /// <summary>Reads a node such as <c>{"Regex": "\\s+"}</c>.</summary>
    public static TextPattern Read(TokenizerNode node)
    {
        TokenizerNode regex = node["Regex"];
        return !regex.IsString ? new StringPattern(String(node)) : WordSplits.OfRegex(regex.Text()) ?? ExpressionPattern.Read(regex);
    }

    /// <summary>A pattern that is a plain string, not empty.</summary>
    public static byte[] String(TokenizerNode node)
    {
        byte[] pattern = node["String"].Utf8();
        return pattern.Length > 0 ? pattern : throw node["String"].Wrong("a pattern that is not empty");
    }
}
