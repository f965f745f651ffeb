namespace Tiller.Tokens;

/// <summary>A text as ids, and what it lost.</summary>
/// <param name="Ids">The ids.</param>
/// <param name="Dropped">
/// Characters of the normalised text, in its order, that the vocabulary lacks a token for, or for some of their bytes, and has no unknown token
/// either: those bytes are left out of the ids, as the published tokenizer does in silence. Empty for most vocabularies.
/// </param>
public sealed record EncodedText(int[] Ids, string Dropped);
