using System.Text.Json;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>Every entry of every tokens.json, exactly.</summary>
[TestFixtureSource(nameof(Folders))]
internal sealed class GoldenTokensTests(string folder)
{
    private readonly JsonElement golden = Read(folder);
    private readonly Tokenizer tokenizer = Tokenizer.Load(Path.Combine(Repository.Path("tests", "goldens", folder), "checkpoint"));

    public static IEnumerable<string> Folders => Repository.Goldens.Select(static x => Path.GetFileName(x));

    [Test]
    public void Strings_give_the_ids_of_the_reference()
    {
        Assert.Multiple(() =>
        {
            foreach (JsonElement entry in Entries("strings"))
            {
                string text = entry.GetProperty("text").GetString()!;
                Assert.That(tokenizer.Encode(text, addSpecial: true, parseSpecial: true), Is.EqualTo(Ids(entry, "prompt")), text);
                Assert.That(tokenizer.Encode(text, addSpecial: false, parseSpecial: true), Is.EqualTo(Ids(entry, "parsed")), text);
                Assert.That(tokenizer.Encode(text, addSpecial: false), Is.EqualTo(Ids(entry, "literal")), text);
                Assert.That(tokenizer.Decode(Ids(entry, "literal")), Is.EqualTo(entry.GetProperty("decoded").GetString()), text);
                Assert.That(tokenizer.Decode(Ids(entry, "prompt"), skipSpecial: true), Is.EqualTo(entry.GetProperty("decoded_skip").GetString()), text);
            }
        });
    }

    [Test]
    public void Any_ids_give_the_text_of_the_reference_at_once_and_streamed()
    {
        Assert.Multiple(() =>
        {
            foreach (JsonElement entry in Entries("decode"))
            {
                int[] ids = Ids(entry, "ids");
                foreach ((string name, bool skip) in new[] { ("decoded", false), ("decoded_skip", true) })
                {
                    string expected = entry.GetProperty(name).GetString()!;
                    Assert.That(tokenizer.Decode(ids, skip), Is.EqualTo(expected), string.Join(' ', ids));
                    TokenStream stream = tokenizer.NewStream(skip);
                    string[] pieces = [.. ids.Select(stream.Append), stream.Flush()];
                    Assert.That(string.Concat(pieces), Is.EqualTo(expected), string.Join(' ', ids));
                    Assert.That(pieces, Has.None.Matches<string>(static x => x is { Length: > 0 } && (char.IsLowSurrogate(x[0]) || char.IsHighSurrogate(x[^1]))));
                }
            }
        });
    }

    internal static JsonElement Read(string folder)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(Repository.Path("tests", "goldens", folder, "tokens.json")));
        return document.RootElement.Clone();
    }

    private static int[] Ids(JsonElement entry, string name) => [.. entry.GetProperty(name).EnumerateArray().Select(static x => x.GetInt32())];

    private IEnumerable<JsonElement> Entries(string name)
    {
        JsonElement array = golden.GetProperty(name);
        Assert.That(array.GetArrayLength(), Is.GreaterThan(100));
        return array.EnumerateArray();
    }
}
