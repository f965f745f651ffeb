using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace Tiller.Checkpoint;

/// <summary>The content of <c>model.safetensors.index.json</c>, which says which shard holds which tensor.</summary>
/// <param name="ShardOf">File name of the shard of each tensor.</param>
/// <param name="Shards">File names of the shards, sorted.</param>
/// <param name="TotalSize">The total size of the tensors that the index claims, as text; null if it claims none. Never used to allocate.</param>
internal sealed record CheckpointIndex(IReadOnlyDictionary<string, string> ShardOf, IReadOnlyList<string> Shards, string? TotalSize)
{
    public const int MaxLength = 64 << 20;
    public const int MaxTensors = 1_000_000;
    public const int MaxShards = 4096;
    private const int MaxDepth = 64;

    private static readonly string[] PickleEndings = [".bin", ".pt", ".pth", ".py", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx"];

    /// <summary>Reads and checks an index. It opens no shard.</summary>
    /// <exception cref="CheckpointException">InvalidJson, Schema, Duplicate, LimitExceeded, UnsafePath, Unsupported, InputOutput.</exception>
    public static CheckpointIndex Read(string path)
    {
        byte[] json;
        try
        {
            json = BoundedFile.Read(path, MaxLength, length => new CheckpointException(
                CheckpointError.LimitExceeded, path, "the index is too long.", expected: $"at most {MaxLength} bytes", actual: $"{length}"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(CheckpointError.InputOutput, path, "cannot be read: " + e.Message, cause: e);
        }

        return Parse(json, path);
    }

    public static CheckpointIndex Parse(ReadOnlySpan<byte> json, string path)
    {
        if (!Utf8.IsValid(json))
        {
            throw new CheckpointException(CheckpointError.InvalidJson, path, "the index is not UTF-8.");
        }

        try
        {
            return Parse(new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxDepth }), path);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException(CheckpointError.InvalidJson, path, "the index is not valid JSON: " + e.Message, cause: e);
        }
    }

    private static CheckpointIndex Parse(Utf8JsonReader reader, string path)
    {
        Dictionary<string, string>? shardOf = null;
        string? totalSize = null;
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var shards = new SortedSet<string>(StringComparer.Ordinal);
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Schema(path, null, "an object with weight_map", reader.TokenType);
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            if (!seen.Add(key))
            {
                throw new CheckpointException(CheckpointError.Duplicate, path, "the key occurs twice.", key);
            }

            reader.Read();
            if (key == "weight_map")
            {
                shardOf = ReadWeightMap(ref reader, shards, path);
            }
            else if (key == "metadata" && reader.TokenType == JsonTokenType.StartObject)
            {
                totalSize = ReadTotalSize(ref reader);
            }
            else
            {
                reader.Skip();
            }
        }

        // The reader throws if anything but white space follows the object.
        reader.Read();
        if (shardOf is not { Count: > 0 })
        {
            throw new CheckpointException(CheckpointError.Schema, path, "the index names no tensor.", "weight_map",
                "an object from tensor to file name", shardOf is null ? "nothing" : "{}");
        }

        return new CheckpointIndex(shardOf, [.. shards], totalSize);
    }

    private static Dictionary<string, string> ReadWeightMap(ref Utf8JsonReader reader, SortedSet<string> shards, string path)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Schema(path, "weight_map", "an object from tensor to file name", reader.TokenType);
        }

        var shardOf = new Dictionary<string, string>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string tensor = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
            {
                throw Schema(path, tensor, "a file name", reader.TokenType);
            }

            string shard = reader.GetString()!;
            if (!shards.TryGetValue(shard, out string? known))
            {
                CheckName(shard, tensor, path);
                shards.Add(shard);
                known = shard;
            }

            if (!shardOf.TryAdd(tensor, known))
            {
                throw new CheckpointException(CheckpointError.Duplicate, path, "the tensor occurs twice in weight_map.", tensor);
            }

            if (shardOf.Count > MaxTensors || shards.Count > MaxShards)
            {
                throw new CheckpointException(
                    CheckpointError.LimitExceeded, path, "the index is too large.", "weight_map",
                    $"at most {MaxTensors} tensors in {MaxShards} files", $"{shardOf.Count} in {shards.Count}");
            }
        }

        return shardOf;
    }

    private static string? ReadTotalSize(ref Utf8JsonReader reader)
    {
        string? size = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            bool wanted = reader.ValueTextEquals("total_size"u8);
            reader.Read();
            if (wanted)
            {
                size = Encoding.UTF8.GetString(reader.ValueSpan);
            }

            reader.Skip();
        }

        return size;
    }

    // A shard is a plain file name of [A-Za-z0-9._-] that ends in .safetensors. Folders, drives, streams and devices are excluded.
    private static void CheckName(string shard, string tensor, string path)
    {
        bool plain = shard.All(static c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-');
        if (plain && shard.Length > ".safetensors".Length && shard.EndsWith(".safetensors", StringComparison.Ordinal) && !IsDevice(shard))
        {
            return;
        }

        if (plain && Array.Exists(PickleEndings, ending => shard.EndsWith(ending, StringComparison.OrdinalIgnoreCase)))
        {
            throw new CheckpointException(
                CheckpointError.Unsupported, path,
                "only safetensors shards are read; pickled weights can run code and are never opened. Convert the checkpoint to safetensors.",
                tensor, "a .safetensors file", Quoted.Text(shard));
        }

        throw new CheckpointException(
            CheckpointError.UnsafePath, path, "a shard must be a plain file name beside the index.", tensor,
            "letters, digits, '.', '_', '-' and the ending .safetensors", Quoted.Text(shard));
    }

    // Windows opens a device for these names, whatever ending follows.
    private static bool IsDevice(string name)
    {
        string stem = name[..name.IndexOf('.')].ToUpperInvariant();
        return stem is "CON" or "PRN" or "AUX" or "NUL"
            || (stem.Length == 4 && stem[..3] is "COM" or "LPT" && char.IsAsciiDigit(stem[3]));
    }

    private static CheckpointException Schema(string path, string? item, string expected, JsonTokenType actual)
        => new(CheckpointError.Schema, path, "the index has the wrong form.", item, expected, actual.ToString());
}
