using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace Tiller.Checkpoint;

/// <summary>SHA-256 over texts and lists of ids, each with its length before it, so that no two sequences of them are alike by accident.</summary>
internal sealed class IdentityHash : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    public IdentityHash Add(string text)
    {
        _hash.AppendData(BitConverter.GetBytes(text.Length));
        _hash.AppendData(Encoding.UTF8.GetBytes(text));
        return this;
    }

    public IdentityHash Add(ReadOnlySpan<int> ids)
    {
        _hash.AppendData(BitConverter.GetBytes(ids.Length));
        _hash.AppendData(MemoryMarshal.AsBytes(ids));
        return this;
    }

    /// <summary>Ends it: lower-case hexadecimal.</summary>
    public string End() => Convert.ToHexStringLower(_hash.GetHashAndReset());

    public void Dispose() => _hash.Dispose();
}
