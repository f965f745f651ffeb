using System.Globalization;

namespace Tiller.Checkpoint;

/// <summary>
/// The weights of a Hugging Face checkpoint folder: <c>model.safetensors</c>, or the shards that
/// <c>model.safetensors.index.json</c> names. Thread-safe.
/// </summary>
public sealed class CheckpointFolder : IDisposable
{
    /// <summary>The single file, which wins over the index when both are there (as in transformers).</summary>
    public const string SingleFileName = "model.safetensors";

    /// <summary>The index of a checkpoint in shards.</summary>
    public const string IndexFileName = "model.safetensors.index.json";

    private readonly List<SafetensorsFile> _files = [];
    private readonly Dictionary<string, (SafetensorsFile File, TensorInfo Tensor)> _byName = new(StringComparer.Ordinal);
    private readonly List<string> _warnings = [];
    private readonly Lazy<string> _fingerprint;

    private CheckpointFolder(string directory)
    {
        Path = directory;
        _fingerprint = new Lazy<string>(() => CheckpointFingerprint.Compute(directory, Tensors));
    }

    /// <summary>The folder that is read: the one given, or the snapshot it stands for.</summary>
    public string Path { get; }

    /// <summary>What to call the model: ORG/NAME for a snapshot of the Hugging Face cache, else the folder's name.</summary>
    public string Name => HubCache.NameOf(Path);

    /// <summary>Every tensor of the files once, sorted by name.</summary>
    public IReadOnlyList<TensorInfo> Tensors { get; private set; } = [];

    /// <summary>The files opened, in the order of their names.</summary>
    public IReadOnlyList<SafetensorsFile> Files => _files;

    /// <summary>What is odd but harmless, one sentence each.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>Bytes of all tensors.</summary>
    public long SizeInBytes { get; private set; }

    /// <summary>
    /// SHA-256, in lower-case hexadecimal, of what a controller is bound to: config.json, every tensor's name, type and shape, and
    /// tokenizer.json. The weights themselves are not hashed. Computed on first use.
    /// </summary>
    /// <exception cref="CheckpointException">config.json or tokenizer.json cannot be read.</exception>
    public string Fingerprint => _fingerprint.Value;

    /// <summary>Opens a folder and reads the headers of its files; every shard is checked before this returns.</summary>
    /// <param name="directory">
    /// The folder of a checkpoint; a model's folder in the Hugging Face cache (<c>models--ORG--NAME</c>), which stands for its snapshot of main; or a
    /// model's name there, <c>ORG/NAME</c> or <c>ORG/NAME@REVISION</c>.
    /// </param>
    /// <exception cref="CheckpointException">The folder or its index is malformed, incomplete or unsafe.</exception>
    /// <exception cref="SafetensorsException">One of the files is malformed; it names the file.</exception>
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

    /// <summary>The weight of that name, checked for its shape and for a type that can be computed with (F32, F16, BF16).</summary>
    /// <param name="name">Name in the checkpoint.</param>
    /// <param name="shape">Shape it must have, slowest dimension first; none for a scalar.</param>
    /// <exception cref="CheckpointException">TensorNotFound, ShapeMismatch, Unsupported; the message has expected and actual.</exception>
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
                CheckpointError.Unsupported, FileOf(tensor), "weights of this type cannot be computed with; convert the checkpoint.", name,
                $"F32, F16 or BF16 of shape {tensor.ShapeText}", tensor.Type.SpecName());
        }

        return tensor;
    }

    /// <summary>The tensor of that name, whatever its type and shape, or null.</summary>
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

    /// <summary>All elements as float32 (see <see cref="SafetensorsFile.ReadFloat32"/>).</summary>
    /// <exception cref="SafetensorsException">UnsupportedType, LimitExceeded, InputOutput.</exception>
    public float[] ReadFloat32(TensorInfo tensor) => Owner(tensor).ReadFloat32(tensor);

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

    // Of a tensor in several shards the one that the index names counts; returns those that were there already.
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

    // The file must lie, all links followed, in the folder itself; or, when the folder is a snapshot of the Hugging Face cache
    // (<repo>/snapshots/<revision>), in <repo>/blobs, where that cache keeps the content.
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

    // A link counts as present even when it leads nowhere: what is wrong with it is then said on opening.
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
