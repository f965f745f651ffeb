namespace Tiller.Tokens;

/// <summary>A range of bytes in a text; End is exclusive.</summary>
internal readonly record struct TextRange(int Start, int End);
