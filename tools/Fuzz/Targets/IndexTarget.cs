using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Checkpoint;

namespace Tiller.Fuzz.Targets;

/// <summary><c>model.safetensors.index.json</c>.</summary>
internal sealed class IndexTarget(Corpus corpus) : FuzzTarget
{
    public override string Name => "index";

    public override IReadOnlyList<byte[]> Seeds { get; } =
        [.. corpus.Files(CheckpointFolder.IndexFileName),
            "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"t\":\"a.safetensors\",\"u\":\"b.safetensors\"}}"u8.ToArray()];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "\"weight_map\":", "\"metadata\":", "\"total_size\":", "\"a.safetensors\"", "\"../a.safetensors\"", ".safetensors", ".bin", "..", "/", "\\\\",
        "CON", "\\u0000", "\\ud800", "null", "{}", "[",
    }.Select(Encoding.UTF8.GetBytes)];

    public override Gen<byte[]> Structure { get; } = HostileJson.Object(
        ("metadata", HostileJson.Mostly(HostileJson.Object(("total_size", HostileJson.Number)))),
        ("weight_map", HostileJson.Mostly(Gen.Choose(0, 8)
            .SelectMany(n => HostileJson.Object([.. Enumerable.Range(0, n).Select(i => ($"t{i}", Shard()))]))))).Bytes();

    public override void Read(byte[] input)
    {
        CheckpointIndex index = CheckpointIndex.Parse(input, "index");
        Promise(index.ShardOf.Count > 0 && index.ShardOf.Values.All(index.Shards.Contains), "every tensor has one of the shards");
        Promise(index.Shards.All(s => Path.GetFileName(s) == s && s.EndsWith(".safetensors", StringComparison.Ordinal) && s.All(char.IsAscii)),
            "a shard is a plain file name");
    }

    private static Gen<string> Shard() => HostileJson.One(
        "\"model-00001-of-00002.safetensors\"", "\"model-00002-of-00002.safetensors\"", "\"a.safetensors\"", "\"../a.safetensors\"",
        "\"CON.safetensors\"", "\".safetensors\"", "\"a.bin\"");
}
