using System.Text;
using System.Text.Json.Nodes;

namespace Tiller.Fuzz;

/// <summary>Seeds from the golden checkpoints: unchanged files, and tokenizers that are reduced so that many can be read in a second.</summary>
internal sealed class Corpus
{
    private const int Merges = 24;

    public Corpus(string folder)
    {
        Checkpoints = [.. Directory.GetDirectories(folder).Order(StringComparer.Ordinal).Select(f => Path.Combine(f, "checkpoint"))
            .Where(Directory.Exists)];
        if (Checkpoints.Count == 0)
        {
            throw new DirectoryNotFoundException($"{folder} holds no golden checkpoints; name the folder tests/goldens of the checkout with "
                + "--corpus.");
        }
    }

    public IReadOnlyList<string> Checkpoints { get; }

    /// <summary>All files of a name.</summary>
    public IReadOnlyList<byte[]> Files(string name)
        => [.. Checkpoints.Select(f => Path.Combine(f, name)).Where(File.Exists).Select(File.ReadAllBytes)];

    /// <summary>The prefix and header of every safetensors file, without its data.</summary>
    public IReadOnlyList<byte[]> Safetensors()
    {
        var files = new List<byte[]>();
        foreach (string path in Checkpoints.SelectMany(f => Directory.GetFiles(f, "*.safetensors")).Order(StringComparer.Ordinal))
        {
            byte[] file = File.ReadAllBytes(path);
            files.Add(file[..(8 + (int)BitConverter.ToUInt64(file))]);
        }

        return files;
    }

    /// <summary>The tokenizers, reduced to single characters, bytes, added tokens and a few merges.</summary>
    public IReadOnlyList<byte[]> SmallTokenizers() => [.. Files("tokenizer.json").Select(Shrink)];

    private static byte[] Shrink(byte[] json)
    {
        JsonNode root = JsonNode.Parse(json)!;
        JsonObject model = root["model"]!.AsObject();
        JsonObject vocabulary = model["vocab"]!.AsObject();
        var kept = new HashSet<string>(root["added_tokens"]!.AsArray().Select(t => t!["content"]!.GetValue<string>()), StringComparer.Ordinal);
        kept.UnionWith(vocabulary.Select(x => x.Key).Where(x => x.EnumerateRunes().Count() == 1 || x.StartsWith("<0x", StringComparison.Ordinal)));
        var merges = new JsonArray();
        foreach (JsonNode? merge in model["merges"]!.AsArray())
        {
            string[] parts = merge is JsonArray pair ? [.. pair.Select(x => x!.GetValue<string>())] : merge!.GetValue<string>().Split(' ');
            if (merges.Count < Merges && kept.Contains(parts[0]) && kept.Contains(parts[1]))
            {
                kept.Add(parts[0] + parts[1]);
                merges.Add(merge!.DeepClone());
            }
        }

        var small = new JsonObject();
        foreach ((string token, JsonNode? id) in vocabulary.Where(x => kept.Contains(x.Key)))
        {
            small[token] = id!.DeepClone();
        }

        model["vocab"] = small;
        model["merges"] = merges;
        return Encoding.UTF8.GetBytes(root.ToJsonString());
    }
}
