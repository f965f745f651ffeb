using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Features;

namespace Tiller.Fuzz.Targets;

/// <summary>A file of prompts, as plain lines, as JSONL, as JSON or as a table; and as contrast pairs.</summary>
internal sealed class PromptsTarget : FuzzTarget
{
    public override string Name => "prompts";

    public override IReadOnlyList<byte[]> Seeds { get; } = [.. new[]
    {
        "one\ntwo \n\nthree\r\n", "\ufeffone\n", "{\"text\":\"a\\nb\"}\n{\"prompt\":\"c\"}\n",
        "{\"text\":\"\\ud83d\\ude00\"}\n\n\"plain\"\n", "日本語\né", "[\"a\", {\"prompt\": \"b\"}]",
        "[{\"role\":\"system\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"\"}]",
        "{\"messages\":[{\"role\":\"tool\",\"content\":\"c\"}]}\n[{\"role\":\"assistant\",\"content\":\"d\"}]\n",
        "id,text\n1,\"a \"\"b\"\"\nc\"\r\n2\n", "statement,label\r\na,1\r\n\"b\r\nc\",0", "question,choice0,choice1,answer\nq,a,b,1\n",
        "{\"question\":\"q\",\"answer_matching_behavior\":\"(A)\",\"answer_not_matching_behavior\":\"(B)\"}\n",
        "[{\"question\":\"q\",\"mc1_targets\":{\"a\":1,\"b\":0}},{\"instruction\":\"i\",\"instances\":[{\"input\":\"x\"}]}]",
    }.Select(Encoding.UTF8.GetBytes)];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "{\"text\":", "{\"prompt\":\"", "{\"messages\":[", "{\"role\":\"user\",", "\"content\":\"", "[", "]", ",",
        "\"}\n", "\n", "\r\n", "\\ud800", "null", "\ufeff", "\u2028", "{\n",
    }.Select(Encoding.UTF8.GetBytes), [0xFF], [0xE2, 0x82]];

    public override Gen<byte[]> Structure { get; } = Gen.ListOf(Gen.Frequency(
        (4, HostileJson.Object(("text", HostileJson.Text))), (2, HostileJson.Object(("prompt", HostileJson.Any))), (2, Chat),
        (1, HostileJson.Text), (1, HostileJson.Any))).Select(l => string.Join('\n', l)).Bytes();

    private static Gen<string> Chat => HostileJson.List(
        HostileJson.Object(("role", HostileJson.One("\"system\"", "\"user\"", "\"assistant\"", "\"tool\"")), ("content", HostileJson.Text)), 4);

    public override void Read(byte[] input)
    {
        string[] names = ["p.jsonl", "p.json", "p.csv", "p.tsv", "p.txt"];
        var refused = new List<PromptFileException>();
        foreach (string name in names)
        {
            try
            {
                Read(name, input);
            }
            catch (PromptFileException e)
            {
                refused.Add(e);
            }

            try
            {
                var (positive, negative) = PromptFile.ReadPairs(name, input);
                Promise(positive.Count > 0 && negative.Count > 0, "a contrast has two sides");
            }
            catch (PromptFileException)
            {
                // Most prompts are no pairs.
            }
        }

        if (refused.Count == names.Length)
        {
            throw refused[^1];
        }
    }

    /// <summary>Reads a file of prompts, and checks the guarantees for accepted ones.</summary>
    internal static void Read(string name, byte[] input, PromptSelection? selection = null)
    {
        IReadOnlyList<Prompt> prompts = PromptFile.Read(name, input, selection, CancellationToken.None);
        Promise(prompts.Count > 0, "there is a prompt");
        Promise(prompts.All(p => p is ChatPrompt { Messages.Count: > 0 } or TextPrompt { Text.Length: > 0 }), "none is empty");
        Promise(prompts.SelectMany(Texts).All(Whole), "prompts are whole characters");
        Promise(prompts.Select((p, i) => p.NameIn("Positive", i)).All(n => n.Length < 80 && Whole(n)), "their names are short and whole characters");
    }

    private static IEnumerable<string> Texts(Prompt prompt) =>
        prompt is ChatPrompt chat ? chat.Messages.SelectMany(m => new[] { m.Role, m.Content }) : [((TextPrompt)prompt).Text];

    private static bool Whole(string text) => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)) == text;
}
