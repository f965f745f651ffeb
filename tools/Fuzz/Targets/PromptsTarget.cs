using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Features;

namespace Tiller.Fuzz.Targets;

/// <summary>A file of prompts, as plain lines or as JSONL.</summary>
internal sealed class PromptsTarget : FuzzTarget
{
    public override string Name => "prompts";

    public override IReadOnlyList<byte[]> Seeds { get; } = [.. new[]
    {
        "one\ntwo \n\nthree\r\n", "\ufeffone\n", "{\"text\":\"a\\nb\"}\n{\"prompt\":\"c\"}\n", "{\"text\":\"\\ud83d\\ude00\"}\n\n\"plain\"\n", "日本語\né",
    }.Select(Encoding.UTF8.GetBytes)];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[] { "{\"text\":", "{\"prompt\":\"", "\"}\n", "\n", "\r\n", "\\ud800", "null", "\ufeff", "\u2028", "{\n" }.Select(Encoding.UTF8.GetBytes), [0xFF], [0xE2, 0x82]];

    public override Gen<byte[]> Structure { get; } = Gen.ListOf(Gen.Frequency(
        (4, HostileJson.Object(("text", HostileJson.Text))), (2, HostileJson.Object(("prompt", HostileJson.Any))), (1, HostileJson.Text), (1, HostileJson.Any))).Select(l => string.Join('\n', l)).Bytes();

    public override void Read(byte[] input)
    {
        try
        {
            Read("p.jsonl", input);
        }
        catch (PromptFileException)
        {
            Read("p.txt", input);
        }
    }

    private static void Read(string name, byte[] input)
    {
        IReadOnlyList<string> prompts = PromptFile.Parse(name, PromptFile.ReadText(new MemoryStream(input), name));
        Promise(prompts.Count > 0 && prompts.All(p => p.Length > 0), "there is a prompt, and none is empty");
        Promise(prompts.All(p => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(p)) == p), "prompts are whole characters");
    }
}
