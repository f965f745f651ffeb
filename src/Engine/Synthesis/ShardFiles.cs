using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Tiller.Checkpoint;
using Tiller.Model;

namespace Tiller.Synthesis;

/// <summary>What shards measured is missing, incomplete, damaged, or of something else.</summary>
public sealed class ShardException : TillerException
{
    internal ShardException(string message, Exception? cause = null)
        : base(message, cause)
    {
    }
}

/// <summary>A piece of work that is divided among shards; but for the origin, the same for all of them.</summary>
/// <param name="Kind">fit or linearity.</param>
/// <param name="Model">Name of the model, for messages.</param>
/// <param name="Checkpoint">The model's <see cref="LanguageModel.Identity"/>, and hash of a sample of its weights.</param>
/// <param name="Inputs">Hash of the prompts and of all options on which the measured numbers depend.</param>
/// <param name="Request">What the caller asked for, in the caller's own form.</param>
/// <param name="Origin">Where the caller asked for it, in the caller's own form.</param>
internal sealed record ShardedWork(string Kind, string Model, string Checkpoint, string Inputs, string Request, string Origin)
{
    /// <summary>Describes work on a checkpoint.</summary>
    /// <exception cref="ArgumentException">The model has random weights, which no file can be told to belong to.</exception>
    public static ShardedWork Of(LanguageModel model, string kind, string inputs, string request, string origin)
    {
        if (!model.IsCheckpoint)
        {
            throw new ArgumentException("Shards measure a checkpoint; this model has random weights.", nameof(model));
        }

        using var folder = CheckpointFolder.Open(model.Directory);
        return new ShardedWork(kind, model.Name, $"{model.Identity} {folder.SampleOfWeights()}", inputs, request, origin);
    }
}

/// <summary>Numbers of a shard, slowest dimension first.</summary>
/// <typeparam name="T">float or double.</typeparam>
/// <param name="Name">Name in the file.</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Numbers">The numbers.</param>
internal sealed record ShardTensor<T>(string Name, long[] Shape, T[] Numbers) : ShardTensor(Name, Shape)
    where T : unmanaged
{
    /// <inheritdoc/>
    public override TensorStream Stream => new(
        Name, typeof(T) == typeof(double) ? TensorType.F64 : TensorType.F32, Shape,
        stream => ShardFiles.ForBytes<T>(Numbers, bytes => stream.Write(bytes)));

    /// <inheritdoc/>
    public override string Digest => ShardFiles.DigestOf<T>(Numbers);
}

/// <summary>A tensor of a shard.</summary>
/// <param name="Name">Name in the file.</param>
/// <param name="Shape">Dimensions.</param>
internal abstract record ShardTensor(string Name, long[] Shape)
{
    /// <summary>The tensor, to be written.</summary>
    public abstract TensorStream Stream { get; }

    /// <summary>SHA-256 of the numbers' bytes.</summary>
    public abstract string Digest { get; }
}

/// <summary>
/// The files in which the shards of a piece of work keep what they measured, several for each shard, each whole or not there:
/// <code>
/// KIND-I-of-N.PART.safetensors
/// </code>
/// The metadata names the work, the shard and, under a tensor's name, the SHA-256 of its numbers. A shard that is run again writes only the parts
/// that are missing. Its first part is "states", which every shard has.
/// </summary>
internal sealed class ShardFiles
{
    /// <summary>Uses bytes.</summary>
    public delegate void UseBytes(ReadOnlySpan<byte> bytes);

    /// <summary>The part that every shard has, and writes first.</summary>
    public const string States = "states";

    private const string Format = "tiller.shard";
    private const string Version = "1";

    private readonly string _folder;
    private readonly Shard _shard;
    private readonly Dictionary<string, string> _metadata;
    private readonly ShardedWork _work;

    /// <summary>Opens a folder to write in; it is made if it is not there.</summary>
    /// <exception cref="ShardException">The folder holds shards of something else.</exception>
    /// <exception cref="IOException">The folder cannot be made.</exception>
    public ShardFiles(string folder, ShardedWork work, Shard shard)
    {
        (_folder, _shard, _work) = (folder, shard, work);
        _metadata = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["format"] = Format,
            ["version"] = Version,
            ["shard"] = shard.ToString(),
            ["kind"] = work.Kind,
            ["model"] = work.Model,
            ["checkpoint"] = work.Checkpoint,
            ["inputs"] = work.Inputs,
            ["request"] = work.Request,
            ["origin"] = work.Origin,
        };
        Directory.CreateDirectory(folder);
        ShardFile[] others = [.. In(folder).Where(file => file.Part == States)];
        if (others.Length == 0)
        {
            return;
        }

        // Whoever wrote the others compared them with the first as well; the one that puts them together compares all.
        Check(others[0], "The folder has shards of something else: name another folder, or delete it.");
        if (others.FirstOrDefault(other => other.Shard.Count != shard.Count) is { } divided)
        {
            throw new ShardException(
                $"{divided.Path}: the folder has shards of {divided.Shard.Count}, and this is one of {shard.Count}. Run all shards with the same "
                + "number of them, or name another folder.");
        }
    }

    /// <summary>The part of a shard with what it measured of a block of the model.</summary>
    public static string PartOf(int block) => string.Create(CultureInfo.InvariantCulture, $"block-{block}");

    /// <summary>The tensor with a sum of Jacobians // (D, D), their columns one after another.</summary>
    public static string NameOf(SumNode node) => string.Create(CultureInfo.InvariantCulture, $"sum.{node.First}-{node.Count}");

    /// <summary>Whether a folder has files of shards.</summary>
    public static bool AreIn(string folder) => Directory.Exists(folder) && In(folder).Any();

    /// <summary>Whether a part is there.</summary>
    /// <exception cref="ShardException">It is of something else, or damaged.</exception>
    public bool Has(string part)
    {
        var file = new ShardFile(PathOf(part), _work.Kind, _shard, part);
        if (!File.Exists(file.Path))
        {
            return false;
        }

        Check(file, "Delete it, and run the shard again.");
        return true;
    }

    /// <summary>Writes a part, whole or not at all.</summary>
    /// <exception cref="SafetensorsException">InputOutput: it cannot be written.</exception>
    public void Write(string part, IReadOnlyList<ShardTensor> tensors)
    {
        var metadata = new Dictionary<string, string>(_metadata, StringComparer.Ordinal);
        foreach (var tensor in tensors)
        {
            metadata[tensor.Name] = tensor.Digest;
        }

        SafetensorsWriter.WriteStreams(PathOf(part), metadata, [.. tensors.Select(tensor => tensor.Stream)]);
    }

    /// <summary>Calls <paramref name="use"/> with the bytes of numbers, in pieces that a span can hold.</summary>
    public static void ForBytes<T>(T[] numbers, UseBytes use)
        where T : unmanaged
    {
        const int Most = 1 << 22;
        for (int begin = 0; begin < numbers.Length; begin += Most)
        {
            use(MemoryMarshal.AsBytes(numbers.AsSpan(begin, Math.Min(Most, numbers.Length - begin))));
        }
    }

    /// <summary>SHA-256 of the bytes of numbers, in lower-case hexadecimal.</summary>
    public static string DigestOf<T>(T[] numbers)
        where T : unmanaged
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        ForBytes(numbers, bytes => hash.AppendData(bytes));
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>The files of shards in a folder.</summary>
    internal static IEnumerable<ShardFile> In(string folder) =>
        Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal).Select(Named).OfType<ShardFile>();

    /// <summary>What the metadata of a file says.</summary>
    /// <exception cref="ShardException">It is no file of this shard, or is damaged.</exception>
    internal static ShardedWork WorkOf(ShardFile file, SafetensorsFile opened)
    {
        var metadata = opened.Metadata;
        return Kept("format") != Format ? throw new ShardException($"{file.Path}: this is no file of a shard. Delete it, or name another folder.")
            : Kept("version") != Version ? throw new ShardException(
                $"{file.Path}: the file has version {Quoted.Text(Kept("version"))}, and version {Version} is read. Run the shards again in another "
                + "folder.")
            : Kept("shard") != file.Shard.ToString() || Kept("kind") != file.Kind ? throw new ShardException(
                $"{file.Path}: the file is of shard {Quoted.Text(Kept("shard"))} of a {Quoted.Text(Kept("kind"))}, which its name does not say. "
                + "Give it its name back, or delete it and run the shard again.")
            : new ShardedWork(file.Kind, Kept("model"), Kept("checkpoint"), Kept("inputs"), Kept("request"), Kept("origin"));

        string Kept(string key) => metadata.GetValueOrDefault(key, "");
    }

    private void Check(ShardFile file, string advice)
    {
        using var opened = file.Open();
        ShardSet.CheckSame(file.Path, WorkOf(file, opened), _work, "this command's", advice);
    }

    private string PathOf(string part) => Path.Combine(
        _folder, string.Create(CultureInfo.InvariantCulture, $"{_work.Kind}-{_shard.Index}-of-{_shard.Count}.{part}.safetensors"));

    // Null if the name is none of a shard's file.
    private static ShardFile? Named(string path) =>
        Path.GetFileName(path).Split('.') is [var first, { Length: > 0 } part, "safetensors"]
        && first.Split('-') is ["fit" or "linearity", var index, "of", var count]
        && Number(index) is { } i && Number(count) is { } n
            ? new ShardFile(path, first.Split('-')[0], new Shard(i, n), part) : null;

    private static int? Number(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : null;
}
