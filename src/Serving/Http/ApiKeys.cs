using System.Security.Cryptography;
using System.Text;

namespace Tiller.Serving;

/// <summary>The keys of which a request needs one. They are compared in time that does not depend on how much of one is right.</summary>
internal sealed class ApiKeys(IReadOnlyList<string> keys)
{
    private const string Scheme = "Bearer ";

    // Hashes are of one length, and tell nothing of a key's.
    private readonly byte[][] _hashes = [.. keys.Select(key => SHA256.HashData(Encoding.UTF8.GetBytes(key)))];

    /// <summary>Whether none is needed.</summary>
    public bool IsOpen => _hashes.Length == 0;

    /// <summary>Which key a request has.</summary>
    /// <param name="authorization">Its header; null for none.</param>
    /// <returns>The key's number, −1 where none is needed; null if there is none, or a wrong one.</returns>
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
