using System.Numerics.Tensors;
using Tiller.Checkpoint;

namespace Tiller.Synthesis;

/// <summary>A file of a shard, as its name tells.</summary>
internal sealed record ShardFile(string Path, string Kind, Shard Shard, string Part)
{
    /// <summary>Opens it.</summary>
    /// <exception cref="ShardException">It is damaged or cannot be read.</exception>
    public SafetensorsFile Open()
    {
        try
        {
            return SafetensorsFile.Open(Path);
        }
        catch (SafetensorsException e)
        {
            throw new ShardException($"{e.Message} Delete the file, and run shard {Shard} again.", e);
        }
    }
}

/// <summary>All shards of a piece of work, from one folder or several.</summary>
internal sealed class ShardSet
{
    private const int MaxCount = 1 << 20;

    private readonly Dictionary<(int Shard, string Part), ShardFile> _files = [];
    private readonly SortedSet<string> _origins = new(StringComparer.Ordinal);

    private ShardSet(ShardedWork work, int count) => (Work, Count) = (work, count);

    /// <summary>The work, as the first shard that is there has it.</summary>
    public ShardedWork Work { get; }

    /// <summary>The different origins of the shards.</summary>
    public IReadOnlyCollection<string> Origins => _origins;

    /// <summary>Number of shards.</summary>
    public int Count { get; }

    /// <summary>Opens folders.</summary>
    /// <exception cref="ShardException">A folder has none, one is missing or there twice, or they are of different work.</exception>
    public static ShardSet Open(IReadOnlyList<string> folders)
    {
        ShardFile[][] inFolders = [.. folders.Select(folder => Directory.Exists(folder) ? [.. ShardFiles.In(folder)] : Array.Empty<ShardFile>())];
        int empty = Array.FindIndex(inFolders, inFolder => inFolder.Length == 0);
        if (folders.Count == 0 || empty >= 0)
        {
            throw new ShardException(
                $"{(empty >= 0 ? folders[empty] : "No folder was named, which")} has no files of shards: name the folder that shards were run in.");
        }

        ShardFile[] files = [.. inFolders.SelectMany(inFolder => inFolder)];
        var first = files.FirstOrDefault(file => file.Part == ShardFiles.States) ?? files[0];
        if (first.Shard.Count > MaxCount)
        {
            throw new ShardException(
                $"{first.Path} is named as one of {first.Shard.Count} shards; at most {MaxCount} are put together. Delete the file.");
        }

        using var opened = first.Open();
        var set = new ShardSet(ShardFiles.WorkOf(first, opened), first.Shard.Count);
        foreach (var file in files)
        {
            if (file.Kind != first.Kind || file.Shard.Count != first.Shard.Count)
            {
                throw new ShardException(
                    $"{first.Path} is of a {first.Kind} in {first.Shard.Count} shards, and {file.Path} of a {file.Kind} in {file.Shard.Count}: put "
                    + "together the shards of one command, each in its folder or all in one.");
            }

            if (file.Shard.Index >= set.Count)
            {
                throw new ShardException($"{file.Path}: there is no shard {file.Shard}; they count from 0. Delete the file.");
            }

            if (!set._files.TryAdd((file.Shard.Index, file.Part), file))
            {
                string other = set._files[(file.Shard.Index, file.Part)].Path;
                throw new ShardException($"Shard {file.Shard} is there twice, as {other} and as {file.Path}: name one of the folders.");
            }
        }

        foreach (var file in files.Where(file => file.Part == ShardFiles.States))
        {
            using var other = file.Open();
            var work = ShardFiles.WorkOf(file, other);
            CheckSame(file.Path, work, set.Work, $"{first.Path}'s", "Put together the shards of one command.");
            set._origins.Add(work.Origin);
        }

        set.Require(Enumerable.Range(0, set.Count).Select(i => (i, ShardFiles.States)));
        return set;
    }

    /// <summary>Checks that parts are there.</summary>
    /// <exception cref="ShardException">One is not.</exception>
    public void Require(IEnumerable<(int Shard, string Part)> parts)
    {
        int[] missing = [.. parts.Where(part => !_files.ContainsKey(part)).Select(part => part.Shard).Distinct().Order()];
        if (missing.Length > 0)
        {
            throw new ShardException(
                $"Of {Count} shards, {missing.Length} {(missing.Length == 1 ? "has" : "have")} not ended: {Some(missing)}. Run "
                + $"{(missing.Length == 1 ? "it" : "them")} again: parts that are there are not measured again.");
        }
    }

    /// <summary>Checks that the shards are of a piece of work.</summary>
    /// <exception cref="ShardException">They are of something else.</exception>
    public void CheckWork(ShardedWork expected) => CheckSame(
        _files[(0, ShardFiles.States)].Path, Work, expected with { Request = Work.Request }, "those given now",
        "Give what the shards were run with.");

    /// <summary>Reads float64 numbers.</summary>
    /// <exception cref="ShardException">They are not there, not of this shape, not finite, or damaged.</exception>
    public double[] Doubles(int shard, string part, string name, params long[] shape)
    {
        double[] numbers = AnyDoubles(shard, part, name, shape);
        return numbers.AsSpan().IndexOfAnyExceptInRange(double.MinValue, double.MaxValue) < 0
            ? numbers : throw Damaged(_files[(shard, part)], $"{name} holds NaN or an infinity");
    }

    /// <summary>Reads float64 numbers, of which some may be NaN or infinite.</summary>
    /// <exception cref="ShardException">They are not there, not of this shape, or damaged.</exception>
    public double[] AnyDoubles(int shard, string part, string name, params long[] shape) =>
        Read(shard, part, name, TensorType.F64, shape, static (file, tensor) => file.ReadFloat64(tensor));

    /// <summary>Reads float32 numbers.</summary>
    /// <exception cref="ShardException">They are not there, not of this shape, not finite, or damaged.</exception>
    public float[] Singles(int shard, string part, string name, params long[] shape)
    {
        float[] numbers = Read(shard, part, name, TensorType.F32, shape, static (file, tensor) => file.ReadFloat32(tensor));
        return numbers.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue) < 0
            ? numbers : throw Damaged(_files[(shard, part)], $"{name} holds NaN or an infinity");
    }

    /// <summary>Refuses work that differs from what is expected, but for its origin.</summary>
    internal static void CheckSame(string path, ShardedWork found, ShardedWork expected, string whose, string advice)
    {
        string? what = found.Kind != expected.Kind ? $"of a {found.Kind}, and not of a {expected.Kind}"
            : found.Checkpoint != expected.Checkpoint
                ? $"of another checkpoint ({Quoted.Text(found.Model)}) than {whose} ({Quoted.Text(expected.Model)}): config.json, tensors, "
                    + "weights, tokenizer.json or type of keys and values differ"
            : found.Inputs != expected.Inputs ? $"of other prompts or settings than {whose}"
            : found.Request != expected.Request ? $"of another command than {whose}" : null;
        if (what is not null)
        {
            throw new ShardException($"{path}: the shard is {what}. {advice}");
        }
    }

    private static string Some(int[] shards) => string.Join(", ", shards.Take(8)) + (shards.Length > 8 ? ", …" : "");

    private T[] Read<T>(int shard, string part, string name, TensorType type, long[] shape, Func<SafetensorsFile, TensorInfo, T[]> read)
        where T : unmanaged
    {
        Require([(shard, part)]);
        var named = _files[(shard, part)];
        using var file = named.Open();
        CheckSame(named.Path, ShardFiles.WorkOf(named, file), Work, "that of the other files", "Delete the file, and run the shard again.");
        if (file.TryFind(name) is not { } tensor || tensor.Type != type || !tensor.HasShape(shape))
        {
            throw Damaged(named, $"it should hold {name}, {type.SpecName()} {TensorInfo.Format(shape)}");
        }

        try
        {
            var numbers = read(file, tensor);
            return file.Metadata.GetValueOrDefault(name) == ShardFiles.DigestOf(numbers)
                ? numbers : throw Damaged(named, $"the numbers of {name} do not match their SHA-256");
        }
        catch (SafetensorsException e)
        {
            throw Damaged(named, e.Message, e);
        }
    }

    private static ShardException Damaged(ShardFile file, string what, Exception? cause = null) =>
        new($"{file.Path}: the file is damaged: {Quoted.Bare(what)}. Delete it, and run shard {file.Shard} again.", cause);
}

/// <summary>The sums of Jacobians that shards keep, each of some nodes of one tree (<see cref="SumNode"/>).</summary>
internal sealed class ShardSums
{
    private readonly ShardSet _set;
    private readonly SumNode _root;
    private readonly int _width;
    private readonly Dictionary<SumNode, int> _shards = [];

    /// <summary>Says who keeps what.</summary>
    /// <param name="set">The shards.</param>
    /// <param name="leaves">Leaves of the tree, which are divided among the shards.</param>
    /// <param name="width">D.</param>
    public ShardSums(ShardSet set, int leaves, int width)
    {
        (_set, _root, _width) = (set, SumNode.Root(leaves), width);
        for (int i = 0; i < set.Count; i++)
        {
            foreach (var node in SumNode.Within(leaves, new Shard(i, set.Count).Of(leaves)))
            {
                _shards.Add(node, i);
            }
        }

        Holders = [.. _shards.Values.Distinct().Order()];
    }

    /// <summary>Shards that keep sums, in order.</summary>
    public IReadOnlyList<int> Holders { get; }

    /// <summary>Checks that the sums of blocks of the model are there.</summary>
    /// <exception cref="ShardException">One is not.</exception>
    public void Require(IEnumerable<int> blocks) =>
        _set.Require(blocks.SelectMany(k => Holders.Select(shard => (shard, ShardFiles.PartOf(k)))));

    /// <summary>The sum over all leaves, added in the order of the tree // (D, D), column-major.</summary>
    /// <param name="block">The block of the model.</param>
    /// <exception cref="ShardException">A sum is not there, not finite, or damaged.</exception>
    public double[] Of(int block) => _root.Sum<double[]>(
        node => _shards.TryGetValue(node, out int shard)
            ? _set.Doubles(shard, ShardFiles.PartOf(block), ShardFiles.NameOf(node), _width, _width) : null,
        static (first, second) =>
        {
            TensorPrimitives.Add(first, second, first);
            return first;
        });
}
