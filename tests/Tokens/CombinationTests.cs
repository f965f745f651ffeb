using System.Text;
using System.Text.Json.Nodes;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>
/// Sections of tokenizer.json in combinations that no golden checkpoint has, drawn at random: combinations.json holds them with the ids and the
/// decoded text that Hugging Face's own tokenizers library gives. They replace sections of the goldens' files, or of three small models of its own.
/// </summary>
internal sealed class CombinationTests
{
    private static readonly JsonNode s_file = JsonNode.Parse(File.ReadAllText(Repository.Path("tests", "Tokens", "combinations.json")))!;

    private static IEnumerable<int> Cases => Enumerable.Range(0, s_file["cases"]!.AsArray().Count);

    [TestCaseSource(nameof(Cases))]
    public void A_combination_gives_the_ids_and_the_text_of_the_reference(int number)
    {
        JsonNode its = s_file["cases"]![number]!;
        var tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(FileOf(its).ToJsonString()));
        foreach (JsonNode? row in its["texts"]!.AsArray())
        {
            string text = row![0]!.GetValue<string>();
            int[] ids = [.. row[1]!.AsArray().Select(id => id!.GetValue<int>())];
            Assert.That(tokenizer.Encode(text, parseSpecial: true), Is.EqualTo(ids), $"{text}: {its["set"]!.ToJsonString()}");
            Assert.That(tokenizer.Decode(ids), Is.EqualTo(row[2]!.GetValue<string>()), $"{text}: {its["set"]!.ToJsonString()}");
        }
    }

    private static JsonObject FileOf(JsonNode its)
    {
        string name = its["base"]!.GetValue<string>();
        JsonObject file = s_file["models"]![name] is { } model
            ? new JsonObject { ["version"] = "1.0", ["model"] = model.DeepClone() }
            : JsonNode.Parse(File.ReadAllText(Repository.Path("tests", "goldens", name, "checkpoint", "tokenizer.json")))!.AsObject();
        Replace(file, its["set"]!);
        Replace(file["model"]!.AsObject(), its["model"]!);
        return file;
    }

    private static void Replace(JsonObject file, JsonNode sections)
    {
        foreach (var (name, value) in sections.AsObject())
        {
            file[name] = value?.DeepClone();
        }
    }
}
