using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Tiller.Checkpoint;

/// <summary>
/// SHA-256 of three sections, each preceded by its length (u64, little-endian; 2^64 - 1 for a missing file): the bytes of config.json; one line
/// <c>name TAB type TAB shape LF</c> per tensor, sorted by name; the bytes of tokenizer.json.
/// </summary>
internal static class CheckpointFingerprint
{
    private const int MaxConfigLength = 1 << 20;
    private const int MaxTokenizerLength = 128 << 20;

    public static string Compute(string directory, IReadOnlyList<TensorInfo> sortedTensors)
    {
        var list = new StringBuilder();
        foreach (TensorInfo tensor in sortedTensors)
        {
            list.Append(tensor.Name).Append('\t').Append(tensor.Type.SpecName()).Append('\t').Append(tensor.ShapeText).Append('\n');
        }

        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Append(hash, Read(directory, "config.json", MaxConfigLength));
        Append(hash, Encoding.UTF8.GetBytes(list.ToString()));
        Append(hash, Read(directory, "tokenizer.json", MaxTokenizerLength));
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static void Append(IncrementalHash hash, byte[]? section)
    {
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(length, section is null ? ulong.MaxValue : (ulong)section.Length);
        hash.AppendData(length);
        hash.AppendData(section ?? []);
    }

    private static byte[]? Read(string directory, string name, int limit)
    {
        string path = Path.Combine(directory, name);
        try
        {
            return BoundedFile.Read(path, limit, length => new CheckpointException(
                CheckpointError.LimitExceeded, path, "the file is too long.", expected: $"at most {limit} bytes", actual: $"{length}"));
        }
        catch (FileNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(CheckpointError.InputOutput, path, "cannot be read: " + e.Message, cause: e);
        }
    }
}
