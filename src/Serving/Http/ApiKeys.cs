using System.Security.Cryptography;
using System.Text;

namespace Tiller.Serving;

/// <summary>The API keys, of which a request needs one. The time of a comparison does not depend on how much of a key is right.</summary>
internal sealed class ApiKeys(IReadOnlyList<string> keys)
{
    private const string Scheme = "Bearer ";

    // Hashes all have the same length, so that the length of a key stays secret.
    private readonly byte[][] _hashes = [.. keys.Select(key => SHA256.HashData(Encoding.UTF8.GetBytes(key)))];

    /// <summary>Whether no key is required.</summary>
    public bool IsOpen => _hashes.Length == 0;

    /// <summary>Finds the key of a request.</summary>
    /// <param name="authorization">The Authorization header; null for none.</param>
    /// <returns>The number of the key; −1 if none is required; null if the key is missing or wrong.</returns>
    public int? Find(string? authorization)
    {
        if (IsOpen)
        {
            return -1;
        }

        if (authorization is null || !authorization.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase))
        {
            return null;
        }

        byte[] hash = SHA256.HashData(Encoding.UTF8.GetBytes(authorization[Scheme.Length..].Trim()));
        int? found = null;
        for (int i = 0; i < _hashes.Length; i++)
        {
            found = CryptographicOperations.FixedTimeEquals(hash, _hashes[i]) ? i : found;
        }

        return found;
    }
}
