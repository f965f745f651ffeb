using System.Text.Json;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>Every entry of every tokens.json, exactly.</summary>
internal sealed class GoldenTokensTests
{
    private static IEnumerable<string> Folders => Repository.Goldens.Select(static x => Path.GetFileName(x));

    // Of the shared folder: tokenizer, golden.
    internal static readonly (string Tokenizer, string Golden)[] Shared =
    [
        .. new[]
        {
            "gemma3-bf16", "granite-f32", "llama-linear-f16", "olmo2-f32", "phi3-bf16", "phi3-long-f32", "qwen2-yarn-bf16", "smollm3-bf16",
            "tokenizer-bert", "tokenizer-falcon", "tokenizer-odd-split", "tokenizer-roberta", "tokenizer-unigram",
        }.Select(static name => ($"goldens2/families/{name}/checkpoint", $"goldens2/families/{name}")),
        ("real/smollm2", "real/golden"),
    ];

    private static IEnumerable<TestCaseData> Published
        => Shared.Select(static x => new TestCaseData(x.Tokenizer, x.Golden).SetArgDisplayNames(x.Golden));

    [TestCaseSource(nameof(Folders))]
    public void Every_text_and_every_ids_give_what_the_reference_gives(string folder) =>
        AllAgree(Repository.Path("tests", "goldens", folder, "checkpoint"), Repository.Path("tests", "goldens", folder));

    [TestCaseSource(nameof(Published))]
    public void Tokenizers_of_every_kind_give_what_the_reference_gives(string tokenizer, string golden) =>
        AllAgree(SharedFolder.Require(tokenizer), SharedFolder.Require(golden));

    internal static JsonElement Read(string folder)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "tokens.json")));
        return document.RootElement.Clone();
    }

    private static void AllAgree(string checkpoint, string folder)
    {
        Tokenizer tokenizer = Tokenizer.Load(checkpoint);
        JsonElement golden = Read(folder);
        Assert.Multiple(() =>
        {
            foreach (JsonElement entry in Entries(golden, "strings"))
            {
                Check(tokenizer, entry);
            }

            foreach (JsonElement entry in Entries(golden, "decode"))
            {
                CheckDecoded(tokenizer, entry);
            }
        });
    }

    private static void Check(Tokenizer tokenizer, JsonElement entry)
    {
        string text = entry.GetProperty("text").GetString()!;
        Assert.That(tokenizer.Encode(text, addSpecial: true, parseSpecial: true), Is.EqualTo(Ids(entry, "prompt")), text);
        Assert.That(tokenizer.Encode(text, addSpecial: false, parseSpecial: true), Is.EqualTo(Ids(entry, "parsed")), text);
        Assert.That(tokenizer.Encode(text, addSpecial: false), Is.EqualTo(Ids(entry, "literal")), text);
        Assert.That(tokenizer.Decode(Ids(entry, "literal")), Is.EqualTo(entry.GetProperty("decoded").GetString()), text);
        Assert.That(tokenizer.Decode(Ids(entry, "prompt"), skipSpecial: true), Is.EqualTo(entry.GetProperty("decoded_skip").GetString()), text);
    }

    // At once, and id by id.
    private static void CheckDecoded(Tokenizer tokenizer, JsonElement entry)
    {
        int[] ids = Ids(entry, "ids");
        foreach ((string name, bool skip) in new[] { ("decoded", false), ("decoded_skip", true) })
        {
            string expected = entry.GetProperty(name).GetString()!;
            Assert.That(tokenizer.Decode(ids, skip), Is.EqualTo(expected), string.Join(' ', ids));
            TokenStream stream = tokenizer.NewStream(skip);
            string[] pieces = [.. ids.Select(stream.Append), stream.Flush()];
            Assert.That(string.Concat(pieces), Is.EqualTo(expected), string.Join(' ', ids));
            Assert.That(pieces, Has.None.Matches<string>(static x => x is { Length: > 0 }
                && (char.IsLowSurrogate(x[0]) || char.IsHighSurrogate(x[^1]))));
        }
    }

    private static int[] Ids(JsonElement entry, string name) => [.. entry.GetProperty(name).EnumerateArray().Select(static x => x.GetInt32())];

    private static IEnumerable<JsonElement> Entries(JsonElement golden, string name)
    {
        JsonElement array = golden.GetProperty(name);
        Assert.That(array.GetArrayLength(), Is.GreaterThan(100));
        return array.EnumerateArray();
    }
}
