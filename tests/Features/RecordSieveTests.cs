using Tiller.Features;

namespace Tiller.Tests.Features;

/// <summary>Some items of a file, in an order of their own.</summary>
public sealed class RecordSieveTests
{
    private const string Table = "concept,score,sentence\ndog,0.1,a\ncat,,b\ndog,0.9,c\nsun,0.5,d\ncat,0.8,e\nsun,1e-1,f\ncat,1,g\n";

    private static readonly string s_lines = """
        {"prompt": {"text": "a", "toxicity": 0.1}, "kind": "x"}
        {"prompt": {"text": "b", "toxicity": null}, "kind": "y"}
        {"prompt": {"text": "c", "toxicity": 0.95}, "kind": "x"}
        {"prompt": {"text": "d"}, "kind": "y", "challenging": true}
        """;

    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-sieve").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void Rows_are_taken_by_what_stands_in_them()
    {
        Assert.That(Read("t.csv", Table, new RecordCondition("Concept") { Equal = "dog" }), Is.EqualTo("ac"));
        Assert.That(Read("t.csv", Table, new RecordCondition("concept") { Other = "dog" }), Is.EqualTo("bdefg"));
        Assert.That(Read("t.csv", Table, new RecordCondition("score") { AtLeast = 0.5, AtMost = 0.9 }), Is.EqualTo("cde"));
        RecordCondition[] both = [new("score") { AtMost = 0.1 }, new("concept") { Equal = "sun" }];
        Assert.That(Read("t.csv", Table, both), Is.EqualTo("f"));
    }

    [Test]
    public void Items_of_JSON_are_taken_by_fields_within_fields_and_null_is_no_number()
    {
        Assert.That(Read("t.jsonl", s_lines, new RecordCondition("prompt.toxicity") { AtMost = 0.1 }), Is.EqualTo("a"));
        Assert.That(Read("t.jsonl", s_lines, new RecordCondition("prompt.toxicity") { AtLeast = 0 }), Is.EqualTo("ac"));
        Assert.That(Read("t.jsonl", s_lines, new RecordCondition("challenging") { Equal = "true" }), Is.EqualTo("d"));
        string array = $"[{string.Join(',', s_lines.Split('\n', StringSplitOptions.RemoveEmptyEntries))}]";
        Assert.That(Read("t.json", array, new RecordCondition("kind") { Other = "x" }), Is.EqualTo("bd"));
    }

    [Test]
    public void Values_take_turns_until_one_has_no_more()
    {
        var selection = new PromptSelection { Where = [new RecordCondition("concept") { Other = "dog" }], Alternate = "concept" };
        Assert.That(Read("t.csv", Table, selection), Is.EqualTo("bdef"));
    }

    [TestCase("t.csv", "colour", "no item has the column or field 'colour'")]
    [TestCase("t.csv", "score", "no prompt of the file meets the conditions of PromptSelection.Where.")]
    [TestCase("t.txt", "score", "this is a text with one prompt a line")]
    public void What_takes_nothing_is_told(string name, string field, string problem) =>
        Assert.That(
            () => Read(name, Table.Replace(",", name == "t.txt" ? " " : ",", StringComparison.Ordinal), new RecordCondition(field) { AtLeast = 2 }),
            Throws.TypeOf<PromptFileException>().With.Message.Contains(problem));

    private string Read(string name, string text, params RecordCondition[] where) => Read(name, text, new PromptSelection { Where = where });

    private string Read(string name, string text, PromptSelection selection)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return string.Concat(PromptFile.Read(path, selection).Select(x => ((TextPrompt)x).Text));
    }
}
