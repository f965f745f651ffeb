using System.Text;
using Tiller.Features;

namespace Tiller.Tests.Features;

/// <summary>Tables as people publish them: every dialect of CSV, with and without names of columns.</summary>
public class PromptTableTests
{
    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-tables-").FullName;

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase("goal,target\na,b\nc,d\n")]
    [TestCase("goal,target\r\na,b\r\nc,d")] // CRLF, no last line break
    [TestCase("\ufeffGoal,target\na,b\r\nc,d\n")] // a byte order mark, another case, mixed line breaks
    [TestCase(",Goal,Target\n0,a,b\n1,c,d\n")] // an index
    [TestCase("target,\"goal\"\n\"b\",\"a\"\n\n\"d\",\"c\"\n")] // quotes where none are due, a blank line
    [TestCase("goal,statement\na,x\n,x\nc,x\n")] // an empty cell is no prompt
    [TestCase("goal\na\nc\n")]
    [TestCase("id;goal;label\r\n1;a;1,5\r\n2;\"c\";0\r\n")] // where the comma is the decimal point
    [TestCase("\ufeff\"id\";\"goal\"\n\"1\";\"a\"\n\"2\";\"c\"")]
    [TestCase("id\tgoal\n1\ta\n2\tc\n")] // tabs under the name of commas
    [TestCase("goal|x\na|1\nc|2\n")]
    public void The_column_with_a_usual_name_has_the_prompts(string text) => Assert.That(Read("t.csv", text), Is.EqualTo(new[] { "a", "c" }));

    [TestCase("prompt,x\n\"a, \"\"b\"\"\",1\n", "a, \"b\"")]
    [TestCase("prompt,x\n\"a\r\nb\nc\",1\r\n", "a\r\nb\nc")]
    [TestCase("prompt,x\n a ,1\n", " a ")]
    [TestCase("prompt,x\na \"b\",1\n", "a \"b\"")]
    [TestCase("prompt,x\na\rb,1\n", "a\rb")]
    [TestCase("x,prompt\n1,\"🚢\u0301\"", "🚢\u0301")]
    [TestCase("prompt;x\n\"a; \"\"b\"\"\r\nc, d\";1\n", "a; \"b\"\r\nc, d")]
    [TestCase("prompt\na; b\n", "a; b")] // one column, whose text has semicolons
    [TestCase("x,prompt\na;b,c; d\n", "c; d")]
    [TestCase("prompt\n\"a, b|c\"\n", "a, b|c")]
    public void Cells_are_taken_as_they_are(string text, string expected) => Assert.That(Read("t.csv", text), Is.EqualTo(new[] { expected }));

    [TestCase("a,A. b,1\nc,d,2\n", "1", new[] { "a", "c" })]
    [TestCase("a,A. b,1\nc,d,2\n", "3", new[] { "1", "2" })]
    [TestCase("id,claim\n1,a\n2,c\n", "Claim", new[] { "a", "c" })]
    [TestCase("id,claim\n1,a\n2,c\n", "2", new[] { "claim", "a", "c" })] // no name is usual, so the first row is one
    [TestCase("id,prompt,claim\n1,x,a\n2,x,c\n", "3", new[] { "a", "c" })]
    [TestCase("2,1\na,b\n", "2", new[] { "1", "b" })] // a number is no name
    [TestCase("a;b\nc;d\n", "2", new[] { "b", "d" })]
    [TestCase("a; b\nc; d\n", "1", new[] { "a; b", "c; d" })] // prose of one column
    [TestCase("a;b;1\nc;d;2\n", "1", new[] { "a", "c" })]
    public void A_column_is_named_or_counted(string text, string column, string[] expected)
        => Assert.That(Read("t.csv", text, column), Is.EqualTo(expected));

    [Test]
    public void Tabs_part_what_ends_in_tsv() => Assert.That(Read("t.tsv", "id\tprompt\n1\ta, b\n"), Is.EqualTo(new[] { "a, b" }));

    [TestCase("id,claim\n1,A long claim about the tides\n", null, "1 (\"id\"), 2 (\"claim\")")]
    [TestCase("id,prompt\n1,A long claim about the tides and the moon\n", "claim", "2 'prompt' (\"A long claim about the t…\")")]
    [TestCase("a,b\n", "3", "1 (\"a\"), 2 (\"b\")")]
    public void What_cannot_be_told_is_asked_for_with_a_preview(string text, string? column, string preview) =>
        Assert.That(() => Read("t.csv", text, column),
            Throws.TypeOf<PromptFileException>().With.Message.Contains("PromptSelection.Column").And.Message.Contains(preview));

    [TestCase("prompt,x\na,1\nb\n", 3, "1")]
    [TestCase("prompt,x\n\"a\nb\",1\nc,2,3\n", 4, "3")]
    [TestCase("prompt,x\n\"a,1\n", 2, "never closed")]
    [TestCase("prompt,x\n\"a\nb\" c,1\n", 3, "after the quote")]
    public void A_row_that_breaks_the_rules_is_told_by_its_line(string text, int line, string says)
    {
        var error = Assert.Throws<PromptFileException>(() => Read("t.csv", text))!;
        Assert.That(error.Line, Is.EqualTo(line));
        Assert.That(error.Message, Does.Contain(says));
    }

    [TestCase("t.csv", "Behavior,ContextString\nDo it,\nDo it,The tale.\n", new[] { "Do it", "The tale.\n\n---\n\nDo it" })]
    [TestCase("t.jsonl", "{\"name\":\"n\",\"instruction\":\"Sum\",\"instances\":[{\"input\":\"1 2\",\"output\":\"3\"}]}\n{\"instruction\":\"Sing\","
        + "\"instances\":[{\"input\":\"\"}]}", new[] { "Sum\n\n1 2", "Sing" })]
    [TestCase("t.json", "[{\"instruction\":\"Sum\",\"input\":\"1 2\"},{\"instruction\":\"Sing\",\"category\":null}]", new[] { "Sum\n\n1 2", "Sing" })]
    [TestCase("t.jsonl", "{\"prompt\":{\"text\":\"a\",\"toxicity\":0.1},\"continuation\":{\"text\":\"x\"}}\n", new[] { "a" })]
    [TestCase("t.json", "[\"\",\"a\",\"\"]", new[] { "a" })]
    [TestCase("t.jsonl", "{\"prompt\":\"a\",\"of\":{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":[1]}}}}}}}}}\n", new[] { "a" })]
    public void Items_of_known_sets_become_prompts_by_their_recipe(string name, string text, string[] expected)
        => Assert.That(Read(name, text), Is.EqualTo(expected));

    [TestCase("{\"yes\":[\"a\",\"c\"],\"no\":[\"x\"]}", "yes")]
    [TestCase("{\"data\":{\"yes\":[\"a\",{\"text\":\"c\"}]}}", "data.yes")]
    [TestCase("{\"data\":[{\"yes\":\"a\"},{\"yes\":\"c\"}]}", "data.yes")] // a list, and in it each prompt
    [TestCase("{\"data\":{\"rows\":[{\"row\":{\"yes\":\"a\"}},{\"row\":{\"yes\":\"c\"}}]}}", "data.rows.row.yes")]
    [TestCase("{\"yes\":[\"a\",\"c\"],\"label\":[1,0]}", "yes")] // columns
    [TestCase("[{\"yes\":\"a\"},{\"yes\":\"c\"}]", "yes")]
    [TestCase("[{\"x\":[{\"y\":\"a\"}]},{\"x\":[{\"y\":\"c\"}]}]", "x.0.y")]
    [TestCase("[{\"a.b\":\"a\",\"prompt\":\"x\"},{\"a.b\":\"c\"}]", "a.b")]
    public void A_field_leads_to_a_list_or_to_each_prompt(string text, string field) =>
        Assert.That(Read("t.json", text, field: field), Is.EqualTo(new[] { "a", "c" }));

    [TestCase("t.json", "[{\"yes\":\"secret\"}]", null, null, "PromptSelection.Field")]
    [TestCase("t.json", "[{\"yes\":\"secret\"}]", null, "no", "\"yes\"")]
    [TestCase("t.json", "{\"data\":[{\"yes\":\"secret\"}]}", null, "data.no", "'no'")]
    [TestCase("t.json", "{\"data\":[{\"yes\":\"secret\"}]}", null, "rows.yes", "\"data\"")]
    [TestCase("t.json", "[{\"yes\":\"secret\"}]", "yes", null, "set PromptSelection.Field")]
    [TestCase("t.csv", "prompt\nsecret\n", null, "prompt", "set PromptSelection.Column")]
    [TestCase("t.txt", "secret\n", "1", null, "one prompt a line")]
    public void A_selection_that_does_not_fit_is_told_without_content(string name, string text, string? column, string? field, string says) =>
        Assert.That(() => Read(name, text, column, field),
            Throws.TypeOf<PromptFileException>().With.Message.Contains(says).And.Message.Not.Contains("secret"));

    // Of each kind: both sides as they come.
    [TestCase("p.json", "[{\"question\":\"Is it?\\n (A) Yes\",\"answer_matching_behavior\":\"(A)\",\"answer_not_matching_behavior\":\"(B)\"}]",
        "Is it?\n (A) Yes\n\nAnswer: (A", "Is it?\n (A) Yes\n\nAnswer: (B")]
    [TestCase("p.jsonl", "{\"question\":\"Is it?\",\"answer_matching_behavior\":\" Yes\",\"answer_not_matching_behavior\":\" No\"}",
        "Is it?\n\nAnswer: Yes", "Is it?\n\nAnswer: No")]
    [TestCase("p.json", "[{\"prompt\":\"Which?\",\"correct\":\"(B)\",\"incorrect\":\"(A)\",\"category\":\"c\"}]", "Which?\n\nAnswer: (B",
        "Which?\n\nAnswer: (A")]
    [TestCase("p.json", "[{\"question\":\"Why?\",\"mc0_targets\":{},\"mc1_targets\":{\"So\":1,\"No\":0,\"Never\":0}}]", "Q: Why?\nA: So",
        "Q: Why?\nA: No")]
    [TestCase("p.csv", "question,choice0,choice1,choice2,answer\nWhy?,a,b,c,2\n", "Why?\nA. a\nB. b\nC. c\nAnswer: C",
        "Why?\nA. a\nB. b\nC. c\nAnswer: A")]
    [TestCase("p.json", "[{\"question\":\"Why?\",\"choices\":[\"a\",\"b\"],\"answer\":0}]", "Why?\nA. a\nB. b\nAnswer: A",
        "Why?\nA. a\nB. b\nAnswer: B")]
    [TestCase("p.csv", "Why?,a,b,B\n", "Why?\nA. a\nB. b\nAnswer: B", "Why?\nA. a\nB. b\nAnswer: A")]
    [TestCase("p.csv", "statement,label\r\nSo it is,1\r\nSo it is not,0", "So it is", "So it is not")]
    [TestCase("p.csv", "statement,label\nSo it is not,0.0\nSo it is,1.0\n", "So it is", "So it is not")]
    [TestCase("p.jsonl", "{\"positive\":\"a\",\"negative\":\"b\"}", "a", "b")]
    public void Contrast_pairs_become_prompts_by_their_recipe(string name, string text, string positive, string negative)
    {
        var contrast = ContrastSet.ReadPairs(Write(name, text));
        Assert.That(contrast.Positive, Is.EqualTo(new[] { new TextPrompt(positive) }));
        Assert.That(contrast.Negative, Is.EqualTo(new[] { new TextPrompt(negative) }));
    }

    [TestCase("p.json", "[{\"question\":\"secret\"}]", "$[0]")]
    [TestCase("p.csv", "statement,label\nsecret,maybe\n", "line 2")]
    [TestCase("p.csv", "question,choice0,choice1,answer\nsecret,a,b,7\n", "line 2")]
    [TestCase("p.csv", "statement,label\nsecret,1\n", "1 positive and 0 negative")]
    [TestCase("p.txt", "secret\n", "neither by its name")]
    public void What_has_no_two_sides_is_told_by_its_place(string name, string text, string says) =>
        Assert.That(() => ContrastSet.ReadPairs(Write(name, text)),
            Throws.TypeOf<PromptFileException>().With.Message.Contains(says).And.Message.Not.Contains("secret"));

    private string[] Read(string name, string text, string? column = null, string? field = null) =>
        [.. PromptFile.Read(Write(name, text), new PromptSelection { Column = column, Field = field }).Select(static x => ((TextPrompt)x).Text)];

    private string Write(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false));
        return path;
    }
}
