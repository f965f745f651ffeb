namespace Tiller.Tokens;

/// <summary>Bytes of a text, from the first to the one after the last.</summary>
internal readonly record struct TextRange(int Start, int End);
