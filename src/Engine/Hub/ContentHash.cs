using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;

namespace Tiller.Hub;

/// <summary>The hash of a file's content: SHA-256 of its bytes, or the git blob id SHA-1("blob " + length + NUL + bytes).</summary>
internal sealed class ContentHash : IDisposable
{
    private readonly IncrementalHash _hash;
    private readonly byte[] _header;

    [SuppressMessage("Security", "CA5350:Do Not Use Weak Cryptographic Algorithms",
        Justification = "It is the name that git gives to a small file, and all that the hub tells of it.")]
    public ContentHash(bool isSha256, long length)
    {
        _hash = IncrementalHash.CreateHash(isSha256 ? HashAlgorithmName.SHA256 : HashAlgorithmName.SHA1);
        _header = isSha256 ? [] : Encoding.ASCII.GetBytes($"blob {length}\0");
        _hash.AppendData(_header);
    }

    /// <summary>Adds the next bytes.</summary>
    public void Append(ReadOnlySpan<byte> bytes) => _hash.AppendData(bytes);

    /// <summary>Forgets all bytes so far.</summary>
    public void Restart()
    {
        _ = _hash.GetHashAndReset();
        _hash.AppendData(_header);
    }

    /// <summary>The hash of all bytes so far, in lower-case hexadecimal.</summary>
    public string End() => Convert.ToHexStringLower(_hash.GetCurrentHash());

    public void Dispose() => _hash.Dispose();
}
