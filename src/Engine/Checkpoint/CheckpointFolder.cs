using System.Globalization;
using System.Security.Cryptography;

namespace Tiller.Checkpoint;

/// <summary>
/// The weights in a Hugging Face checkpoint folder: <c>model.safetensors</c>, or the shards that <c>model.safetensors.index.json</c> names.
/// Thread-safe.
/// </summary>
public sealed class CheckpointFolder : IDisposable
{
    /// <summary>Name of the single file. If the index is also present, the single file is read, as in transformers.</summary>
    public const string SingleFileName = "model.safetensors";

    /// <summary>Name of the index of a checkpoint in shards.</summary>
    public const string IndexFileName = "model.safetensors.index.json";

    private readonly List<SafetensorsFile> _files = [];
    private readonly Dictionary<string, (SafetensorsFile File, TensorInfo Tensor)> _byName = new(StringComparer.Ordinal);
    private readonly List<string> _warnings = [];
    private readonly CheckpointFingerprint _fingerprint;

    private CheckpointFolder(string directory)
    {
        Path = directory;
        _fingerprint = new CheckpointFingerprint(directory, () => Tensors);
    }

    /// <summary>The folder that is read: the given one, or its snapshot if the given folder is one of the Hugging Face cache.</summary>
    public string Path { get; }

    /// <summary>Name of the model: ORG/NAME for a snapshot in the Hugging Face cache, otherwise the folder's name.</summary>
    public string Name => HubCache.NameOf(Path);

    /// <summary>All tensors of the files, each once, sorted by name.</summary>
    public IReadOnlyList<TensorInfo> Tensors { get; private set; } = [];

    /// <summary>The open files, in the order of their names.</summary>
    public IReadOnlyList<SafetensorsFile> Files => _files;

    /// <summary>Harmless peculiarities of the files, one sentence each.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>Size of all tensors in bytes.</summary>
    public long SizeInBytes { get; private set; }

    /// <summary>
    /// SHA-256 in lower-case hexadecimal of config.json, the name, type and shape of every tensor, and tokenizer.json. A controller is bound to it.
    /// The values of the weights are not hashed. Computed on first use.
    /// </summary>
    /// <exception cref="CheckpointException">config.json or tokenizer.json cannot be read, or has changed since the folder was opened.</exception>
    public string Fingerprint => _fingerprint.Value;

    /// <summary><see cref="Fingerprint"/>, which can also be taken when the folder is no longer open.</summary>
    internal CheckpointFingerprint LazyFingerprint => _fingerprint;

    /// <summary>Opens a folder and reads the headers of its files. Every shard is checked before this returns.</summary>
    /// <param name="directory">
    /// The folder of a checkpoint. It may also be a model's folder in the Hugging Face cache (<c>models--ORG--NAME</c>), whose snapshot of main is
    /// then opened, or a model's name in that cache, <c>ORG/NAME</c> or <c>ORG/NAME@REVISION</c>.
    /// </param>
    /// <exception cref="CheckpointException">The folder or its index is malformed, incomplete or unsafe.</exception>
    /// <exception cref="SafetensorsException">One of the files is malformed. The message names the file.</exception>
    public static CheckpointFolder Open(string directory)
    {
        ArgumentNullException.ThrowIfNull(directory);
        directory = HubCache.Resolve(directory);
        RequireFolder(directory);
        var folder = new CheckpointFolder(directory);
        try
        {
            bool indexed = Exists(System.IO.Path.Combine(directory, IndexFileName));
            if (Exists(System.IO.Path.Combine(directory, SingleFileName)))
            {
                if (indexed)
                {
                    folder._warnings.Add($"Both {SingleFileName} and {IndexFileName} are present: {SingleFileName} is read, the index is ignored.");
                }

                folder.AddFile(SingleFileName, index: null);
            }
            else if (indexed)
            {
                folder.AddShards(CheckpointIndex.Read(System.IO.Path.Combine(directory, IndexFileName)));
            }
            else
            {
                throw Nothing(directory);
            }

            folder.Tensors = [.. folder._byName.Values.Select(entry => entry.Tensor).OrderBy(t => t.Name, StringComparer.Ordinal)];
            folder.SizeInBytes = folder.Tensors.Sum(t => t.SizeInBytes);
            return folder;
        }
        catch
        {
            folder.Dispose();
            throw;
        }
    }

    /// <summary>Finds a weight by name, and checks its shape and that its type is F32, F16 or BF16.</summary>
    /// <param name="name">Name in the checkpoint.</param>
    /// <param name="shape">The expected shape, slowest dimension first; empty for a scalar.</param>
    /// <exception cref="CheckpointException">
    /// TensorNotFound, ShapeMismatch, Unsupported. The message states the expected and the actual value.
    /// </exception>
    public TensorInfo Find(string name, params ReadOnlySpan<long> shape)
    {
        if (TryFind(name) is not { } tensor)
        {
            throw new CheckpointException(
                CheckpointError.TensorNotFound, Path, "the checkpoint has no such tensor." + SimilarName.Hint(name, _byName.Keys), name,
                $"a tensor of shape {TensorInfo.Format(shape.ToArray())}", $"none of that name among {Tensors.Count}");
        }

        if (!tensor.HasShape(shape))
        {
            throw new CheckpointException(
                CheckpointError.ShapeMismatch, FileOf(tensor), "the tensor has another shape than config.json implies.", name,
                TensorInfo.Format(shape.ToArray()), $"{tensor.ShapeText} of type {tensor.Type.SpecName()}");
        }

        if (tensor.Type is not (TensorType.F32 or TensorType.F16 or TensorType.BF16))
        {
            throw new CheckpointException(
                CheckpointError.Unsupported, FileOf(tensor), "weights of this type are not supported; convert the checkpoint.", name,
                $"F32, F16 or BF16 of shape {tensor.ShapeText}", tensor.Type.SpecName());
        }

        return tensor;
    }

    /// <summary>The tensor of that name, of any type and shape, or null.</summary>
    public TensorInfo? TryFind(string name) => _byName.TryGetValue(name, out var entry) ? entry.Tensor : null;

    /// <summary>The path of the file that holds a tensor of this checkpoint.</summary>
    public string FileOf(TensorInfo tensor) => Owner(tensor).Path;

    /// <summary>Reads bytes of a tensor of this checkpoint.</summary>
    /// <param name="tensor">A tensor of this checkpoint.</param>
    /// <param name="offset">First byte, counted from the start of the tensor.</param>
    /// <param name="destination">Filled completely.</param>
    /// <exception cref="CheckpointException">OutOfRange.</exception>
    /// <exception cref="SafetensorsException">InputOutput: the file cannot be read or has changed.</exception>
    public void Read(TensorInfo tensor, long offset, Span<byte> destination)
    {
        SafetensorsFile file = Owner(tensor);
        if (offset < 0 || offset > tensor.SizeInBytes || destination.Length > tensor.SizeInBytes - offset)
        {
            throw new CheckpointException(
                CheckpointError.OutOfRange, file.Path, "the read reaches outside the tensor.", tensor.Name,
                $"bytes within [0, {tensor.SizeInBytes}]", $"{destination.Length} bytes from {offset}");
        }

        file.Read(tensor, offset, destination);
    }

    /// <summary>Reads all elements as float32 (see <see cref="SafetensorsFile.ReadFloat32"/>).</summary>
    /// <exception cref="SafetensorsException">UnsupportedType, LimitExceeded, InputOutput.</exception>
    public float[] ReadFloat32(TensorInfo tensor) => Owner(tensor).ReadFloat32(tensor);

    /// <summary>
    /// SHA-256 in lower-case hexadecimal of at most 4 KiB from the middle of every tensor, in the order of their names: it tells apart checkpoints of
    /// one fingerprint, such as a model and what it was tuned to, without reading all of them.
    /// </summary>
    /// <exception cref="SafetensorsException">InputOutput: a file cannot be read or has changed.</exception>
    internal string SampleOfWeights()
    {
        const int Most = 4096;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[Most];
        foreach (TensorInfo tensor in Tensors)
        {
            var part = buffer.AsSpan(0, (int)Math.Min(Most, tensor.SizeInBytes));
            Read(tensor, (tensor.SizeInBytes - part.Length) / 2, part);
            hash.AppendData(part);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Closes every file.</summary>
    public void Dispose()
    {
        foreach (SafetensorsFile file in _files)
        {
            file.Dispose();
        }
    }

    private SafetensorsFile Owner(TensorInfo tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return _byName.TryGetValue(tensor.Name, out var entry) && ReferenceEquals(entry.Tensor, tensor)
            ? entry.File
            : throw new CheckpointException(CheckpointError.TensorNotFound, Path, "the tensor belongs to another checkpoint.", tensor.Name);
    }

    private void AddShards(CheckpointIndex index)
    {
        string[] missing = [.. index.Shards.Where(shard => !Exists(System.IO.Path.Combine(Path, shard)))];
        if (missing.Length > 0)
        {
            throw new CheckpointException(
                CheckpointError.Missing, Path, "shards of the index are missing: the download is incomplete.", missing[0],
                $"{index.Shards.Count} files", $"{index.Shards.Count - missing.Length}");
        }

        string[] repeated = [.. index.Shards.SelectMany(shard => AddFile(shard, index)).Distinct().Order(StringComparer.Ordinal)];

        foreach ((string name, string shard) in index.ShardOf)
        {
            if (!_byName.TryGetValue(name, out var entry) || System.IO.Path.GetFileName(entry.File.Path) != shard)
            {
                throw new CheckpointException(
                    CheckpointError.TensorNotFound, System.IO.Path.Combine(Path, shard),
                    "the index says that the tensor is in this file, but it is not.", name);
            }
        }

        if (repeated.Length > 0)
        {
            _warnings.Add($"In more than one shard, and read from the one that the index names: {Quoted.Some(repeated)}.");
        }

        string[] unlisted = [.. _byName.Keys.Where(name => !index.ShardOf.ContainsKey(name)).Order(StringComparer.Ordinal)];
        if (unlisted.Length > 0)
        {
            _warnings.Add($"In a shard but not in the index: {Quoted.Some(unlisted)}.");
        }

        CheckTotalSize(index.TotalSize);
    }

    private void CheckTotalSize(string? claim)
    {
        long actual = _byName.Values.Sum(entry => entry.Tensor.SizeInBytes);
        if (claim is not null && claim != actual.ToString(CultureInfo.InvariantCulture))
        {
            _warnings.Add($"The index claims total_size {Quoted.Bare(claim)}; the tensors have {actual} bytes.");
        }
    }

    // Adds the tensors of a file. If several shards hold a tensor, the one that the index names is used. Returns the names of the tensors that an
    // earlier file has too.
    private List<string> AddFile(string name, CheckpointIndex? index)
    {
        var repeated = new List<string>();
        string path = System.IO.Path.Combine(Path, name);
        CheckContained(path, name);
        SafetensorsFile file = SafetensorsFile.Open(path);
        _files.Add(file);
        foreach (TensorInfo tensor in file.Tensors)
        {
            if (_byName.TryAdd(tensor.Name, (file, tensor)))
            {
                continue;
            }

            if (index?.ShardOf.TryGetValue(tensor.Name, out string? shard) != true)
            {
                throw new CheckpointException(
                    CheckpointError.Duplicate, path,
                    $"the tensor is also in {Quoted.Text(System.IO.Path.GetFileName(_byName[tensor.Name].File.Path))}, and the index names neither.",
                    tensor.Name);
            }

            repeated.Add(tensor.Name);
            if (shard == name)
            {
                _byName[tensor.Name] = (file, tensor);
            }
        }

        return repeated;
    }

    // With all links followed, the file must be in the folder itself. For a snapshot of the Hugging Face cache (<repo>/snapshots/<revision>), it may
    // also be in <repo>/blobs, where that cache keeps the content.
    private void CheckContained(string path, string name)
    {
        string root;
        string real;
        try
        {
            root = RealPath.Of(Path);
            real = RealPath.Of(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(CheckpointError.InputOutput, path, "cannot be opened: " + e.Message, name, cause: e);
        }

        if (RealPath.IsInside(real, root))
        {
            return;
        }

        string? snapshots = root;
        while (snapshots is not null && System.IO.Path.GetFileName(snapshots) != "snapshots")
        {
            snapshots = System.IO.Path.GetDirectoryName(snapshots);
        }

        if (snapshots is null || !RealPath.IsInside(real, System.IO.Path.Combine(System.IO.Path.GetDirectoryName(snapshots)!, "blobs")))
        {
            throw new CheckpointException(
                CheckpointError.UnsafePath, path, "the file is a link to outside the checkpoint; copy the file, or open the folder that holds it.",
                name, $"a file inside {Quoted.Bare(root)}", Quoted.Bare(real));
        }
    }

    // A broken link counts as present, so that opening it reports the cause.
    private static bool Exists(string path) => System.IO.Path.Exists(path) || new FileInfo(path).LinkTarget is not null;

    private static void RequireFolder(string directory)
    {
        if (!Directory.Exists(directory))
        {
            bool file = File.Exists(directory);
            throw new CheckpointException(
                CheckpointError.Missing, directory, file ? "this is a file; give the folder that holds it." : "there is no such folder.",
                expected: "a checkpoint folder with config.json, tokenizer.json and model.safetensors", actual: file ? "a file" : "nothing");
        }
    }

    private static CheckpointException Nothing(string directory)
    {
        bool pickled = Directory.EnumerateFiles(directory, "*.bin").Concat(Directory.EnumerateFiles(directory, "*.pt*")).Any();
        return pickled
            ? new CheckpointException(
                CheckpointError.Unsupported, directory,
                "the weights are pickled, which can run code and is never opened; convert the checkpoint to safetensors.",
                expected: $"{SingleFileName} or {IndexFileName}", actual: ".bin or .pt files")
            : new CheckpointException(
                CheckpointError.Missing, directory, "the folder holds no weights.", expected: $"{SingleFileName} or {IndexFileName}",
                actual: HubCache.CheckpointsIn(directory) is { Length: > 0 } inside ? $"folders of checkpoints: {Quoted.Some(inside)}" : "neither");
    }
}
