namespace Tiller.Tokens;

/// <summary>A text as ids, and the characters that it lost.</summary>
/// <param name="Ids">Token ids.</param>
/// <param name="Dropped">
/// Characters of the normalised text, in its order, of which some or all bytes have no token, in a vocabulary without an unknown token. These bytes
/// are missing from the ids; the published tokenizer drops them silently too. Empty for most vocabularies.
/// </param>
public sealed record EncodedText(int[] Ids, string Dropped);
