using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Tiller.Checkpoint;

/// <summary>
/// SHA-256 of three sections, each preceded by its length (u64, little-endian; 2^64 - 1 for a missing file): the bytes of config.json; one line
/// <c>name TAB type TAB shape LF</c> per tensor, sorted by name; the bytes of tokenizer.json. It is taken when it is first asked for, because a plain
/// text needs none, and hashing loads a library. Files that have changed by then are refused: what was loaded is not what would be hashed.
/// </summary>
internal sealed class CheckpointFingerprint
{
    private const string Config = "config.json";
    private const string Tokenizer = "tokenizer.json";
    private const int MaxConfigLength = 1 << 20;
    private const int MaxTokenizerLength = 128 << 20;

    private readonly Lazy<string> _value;

    /// <summary>Notes the state of the files.</summary>
    /// <param name="directory">The checkpoint's folder.</param>
    /// <param name="sortedTensors">Gives all tensors, sorted by name.</param>
    public CheckpointFingerprint(string directory, Func<IReadOnlyList<TensorInfo>> sortedTensors)
    {
        FileState config = FileState.Of(directory, Config), tokenizer = FileState.Of(directory, Tokenizer);
        _value = new Lazy<string>(() =>
        {
            string value = Compute(directory, sortedTensors());
            config.RequireSame();
            tokenizer.RequireSame();
            return value;
        });
    }

    /// <summary>The hash in lower-case hexadecimal.</summary>
    /// <exception cref="CheckpointException">A file cannot be read, or has changed.</exception>
    public string Value => _value.Value;

    private static string Compute(string directory, IReadOnlyList<TensorInfo> sortedTensors)
    {
        var list = new StringBuilder();
        foreach (TensorInfo tensor in sortedTensors)
        {
            list.Append(tensor.Name).Append('\t').Append(tensor.Type.SpecName()).Append('\t').Append(tensor.ShapeText).Append('\n');
        }

        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Append(hash, Read(directory, Config, MaxConfigLength));
        Append(hash, Encoding.UTF8.GetBytes(list.ToString()));
        Append(hash, Read(directory, Tokenizer, MaxTokenizerLength));
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

    // Size and time of a file; of one that is missing, its absence.
    private readonly record struct FileState(string Path, bool Exists, long Length, DateTime ModifiedAt)
    {
        public static FileState Of(string directory, string name)
        {
            var file = new FileInfo(System.IO.Path.Combine(directory, name));
            return file.Exists
                ? new FileState(file.FullName, true, file.Length, file.LastWriteTimeUtc)
                : new FileState(file.FullName, false, 0, default);
        }

        public void RequireSame()
        {
            if (Of(System.IO.Path.GetDirectoryName(Path)!, System.IO.Path.GetFileName(Path)) != this)
            {
                throw new CheckpointException(
                    CheckpointError.InputOutput, Path,
                    "has changed since the checkpoint was opened, so its fingerprint cannot be taken: load it again.");
            }
        }
    }
}
