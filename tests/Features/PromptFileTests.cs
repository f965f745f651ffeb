using System.Text;
using Tiller.Chat;
using Tiller.Features;

namespace Tiller.Tests.Features;

public class PromptFileTests
{
    private const string Two = "{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"\"}";
    private const string One = "{\"content\":\"t\",\"role\":\"tool\",\"name\":null}";
    private const string Open16 = "[[[[[[[[[[[[[[[[";
    private const string Open64 = Open16 + Open16 + Open16 + Open16;
    private const string Close16 = "]]]]]]]]]]]]]]]]";
    private const string Close64 = Close16 + Close16 + Close16 + Close16;
    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-prompts-").FullName;

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase("one\ntwo\n", new[] { "one", "two" })]
    [TestCase("one\r\ntwo", new[] { "one", "two" })]
    [TestCase("\n  \none\n\n\ttwo \n", new[] { "one", "\ttwo " })]
    [TestCase("a\\nb\n", new[] { "a\\nb" })]
    [TestCase("\ufeffé\n", new[] { "é" })]
    [TestCase("\"quoted\" word\n", new[] { "\"quoted\" word" })]
    [TestCase("a\u0085b\u2028c\rd\n", new[] { "a\u0085b\u2028c\rd" })]
    public void Text_files_hold_a_prompt_a_line(string text, string[] expected) =>
        Assert.That(PromptFile.ReadTexts(Write("p.txt", text)), Is.EqualTo(expected));

    [TestCase("p.jsonl", "\"a\\nb\"\n\n\"c\"\n")]
    [TestCase("p.JSONL", "\ufeff{\"text\":\"a\\nb\"}\r\n{\"prompt\":\"c\",\"id\":3}")]
    [TestCase("p.txt", "  \n {\"text\": \"a\\nb\"}\n\"c\"\n")]
    public void Json_lines_hold_strings_or_objects(string name, string text) =>
        Assert.That(PromptFile.ReadTexts(Write(name, text)), Is.EqualTo(["a\nb", "c"]));

    [TestCase("one\nt")]
    [TestCase("1")]
    [TestCase("null")]
    [TestCase("[\"a\"]")]
    [TestCase("{}")]
    [TestCase("{\"text\":1}")]
    [TestCase("{\"text\":\"a\",\"prompt\":\"b\"}")]
    [TestCase("{\"text\":\"a\",\"text\":\"b\"}")]
    [TestCase("\"\\ud800\"")]
    [TestCase("{\"\\ud800\":1,\"text\":\"a\"}")]
    [TestCase("\"a\" \"b\"")]
    [TestCase("{\"a\":" + Open64 + "0" + Close64 + ",\"text\":\"b\"}")]
    public void A_malformed_line_is_named(string line)
    {
        string path = Write("p.jsonl", $"\"fine\"\n\n{line}");
        var error = Assert.Throws<PromptFileException>(() => PromptFile.Read(path))!;
        Assert.That((error.File, error.Line), Is.EqualTo((path, 3)));
    }

    [TestCase("[\"a\\nb\", \"c\"]")]
    [TestCase("\ufeff[\r\n  {\"prompt\": \"a\\nb\", \"id\": [1]},\r\n  {\"text\": \"c\"}\r\n]\r\n")]
    [TestCase("[{\"text\": \"a\\nb\"}, \"c\"]")]
    [TestCase("{\"text\": \"a\\nb\"}\n{\"text\": \"c\"}\n")]
    [TestCase("\"a\\nb\"\n\n\"c\"")]
    public void Json_files_hold_an_array_of_strings_or_objects_or_are_json_lines(string text)
    {
        Assert.That(PromptFile.ReadTexts(Write("p.json", text)), Is.EqualTo(["a\nb", "c"]));
        Assert.That(PromptFile.ReadTexts(Write("p.JSON", text)), Is.EqualTo(["a\nb", "c"]));
    }

    [TestCase("p.json", $"[[{Two}],[{One}]]")]
    [TestCase("p.json", $"[{{\"messages\":[{Two}],\"id\":1}},{{\"messages\":[{One}]}}]")]
    [TestCase("p.json", $"[{{\"prompt\":[{Two}],\"chosen\":[{One}]}},{{\"prompt\":[{One}]}}]")]
    [TestCase("p.jsonl", $"{{\"messages\":[{Two}]}}\n\n[{One}]\n")]
    [TestCase("p.txt", $"{{\"messages\":[{Two}]}}\n[{One}]\n")]
    public void Chats_are_messages_of_known_roles(string name, string text)
    {
        var prompts = PromptFile.Read(Write(name, text));
        ChatMessage[][] expected = [[new("system", "s"), new("user", "")], [new("tool", "t")]];
        Assert.That(prompts.Select(p => ((ChatPrompt)p).Messages), Is.EqualTo(expected));
        Assert.That(prompts.Select(p => ((ChatPrompt)p).System), Is.EqualTo(new[] { "s", null }));
        Assert.That(() => PromptFile.ReadTexts(Write(name, text)), Throws.TypeOf<PromptFileException>().With.Message.Contains("prompt 1 is a chat"));
    }

    [TestCase("[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}]", 3)]
    [TestCase("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},\n{\"role\":\"user\",\"content\":\"b\"}]}", 2)]
    [TestCase("[{\"role\":\"user\",\"content\":\"a\"}]", 1)]
    public void A_json_file_that_is_an_array_of_messages_is_one_chat(string text, int messages) =>
        Assert.That(((ChatPrompt)PromptFile.Read(Write("p.json", text)).Single()).Messages, Has.Count.EqualTo(messages));

    [Test]
    public void Messages_of_the_user_alone_may_be_one_chat_or_several_and_are_refused()
    {
        string path = Write("p.json", "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"b\"}]");
        Assert.That(() => PromptFile.Read(path), Throws.TypeOf<PromptFileException>().With.Message.Contains("array of arrays"));
    }

    // ShareGPT's form. The prompt ends before the model's last answer, and begins after the answers that nobody asked for.
    [TestCase("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}],\"id\":\"x_0\"}", "user:a")]
    [TestCase("{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"},"
        + "{\"from\":\"user\",\"value\":\"c\"}]}", "system:s|user:a|assistant:b|user:c")]
    [TestCase("{\"conversations\":[{\"from\":\"gpt\",\"value\":\"z\"},{\"from\":\"human\",\"value\":\"a\",\"weight\":null},"
        + "{\"from\":\"chatgpt\",\"value\":\"b\",\"weight\":1,\"loss\":true}]}", "user:a")]
    [TestCase("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"assistant\",\"value\":\"b\"},{\"from\":\"tool\",\"value\":\"c\"},"
        + "{\"from\":\"gpt\",\"value\":\"d\"},{\"from\":\"gpt\",\"value\":\"e\"}]}", "user:a|assistant:b|tool:c")]
    [TestCase("{\"system\":\"s\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"}]}", "system:s|user:a")]
    [TestCase("{\"system_prompt\":\"t\",\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\",\"value\":\"a\"}]}",
        "system:s|user:a")]
    [TestCase("{\"conversation\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}],\"model\":\"m\"}", "user:a")]
    [TestCase("[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}]", "user:a")]
    [TestCase("{\"prompt\":\"a\",\"conversations\":[{\"from\":\"human\",\"value\":\"b\"}]}", null)] // the usual fields first
    public void A_recorded_conversation_becomes_the_chat_before_its_last_answer(string item, string? expected)
    {
        string nothing = "{\"conversations\":[]}\n{\"conversations\":[{\"from\":\"gpt\",\"value\":\"b\"}]}";
        foreach (string path in (string[])[
            Write("p.jsonl", $"{item}\n{nothing}\n"), Write("p.json", $"[{item},{nothing.Replace('\n', ',')}]"),
            Write("q.json", item), Write("p.txt", item[0] == '{' ? item : $"{{\"conversations\":{item}}}")])
        {
            Prompt prompt = PromptFile.Read(path).Single();
            string? messages = prompt is ChatPrompt chat ? string.Join('|', chat.Messages.Select(x => $"{x.Role}:{x.Content}")) : null;
            Assert.That(messages, Is.EqualTo(expected));
        }
    }

    [Test]
    public void A_recorded_conversation_is_read_from_a_cell_and_by_the_name_of_its_field()
    {
        const string Cell = "\"[{\"\"from\"\":\"\"human\"\",\"\"value\"\":\"\"a\"\"},{\"\"from\"\":\"\"gpt\"\",\"\"value\"\":\"\"b\"\"}]\"";
        ChatMessage[] expected = [new("user", "a")];
        var cell = PromptFile.Read(Write("p.csv", $"id,conversations\n1,{Cell}\n2,\n")).Single();
        var field = PromptFile.Read(
            Write("p.json", "{\"data\":[{\"talk\":[{\"from\":\"human\",\"value\":\"a\"}]}]}"), new PromptSelection { Field = "data.talk" }).Single();
        Assert.That(((ChatPrompt)cell).Messages, Is.EqualTo(expected));
        Assert.That(((ChatPrompt)field).Messages, Is.EqualTo(expected));
        Assert.That(
            () => PromptFile.Read(Write("q.csv", "id,conversations\n1,\"[{\"\"from\"\":\"\"secret\"\n")),
            Throws.TypeOf<PromptFileException>().With.Message.Not.Contains("secret"));
        Assert.That(
            () => PromptFile.Read(Write("q.csv", "id,conversations\n1,secret\n")),
            Throws.TypeOf<PromptFileException>().With.Message.Contains("line 2").And.Message.Contains("an array of messages in JSON"));
        Assert.That(
            () => PromptFile.Read(Write("q.csv", $"id,conversations\n1,{Cell.Replace("human", "elf", StringComparison.Ordinal)}\n")),
            Throws.TypeOf<PromptFileException>().With.Message.Contains("line 2").And.Message.Contains("got 'elf'"));
    }

    // Line breaks stand before each item, so that the index and not the line tells where.
    [TestCase("1", "$", "got a number")]
    [TestCase("{}", "$", "got an empty object")]
    [TestCase("{\"claim\":\"secret\",\"category\":null}", "$", "got an object with \"claim\", \"category\"")]
    [TestCase("{\"text\":\"a\",\"messages\":[]}", "$", "got an object with \"text\", \"messages\"")]
    [TestCase("[\"secret\"]", "$", "got an array that begins with a string")]
    [TestCase("{\"text\":\"\"}", "$.text", "got an empty string")]
    [TestCase("{\"instruction\":\"\"}", "$", "\"instruction\"")]
    [TestCase("\"\\ud800\"", "$", "surrogate")]
    [TestCase("{\"prompt\":[\"secret\"]}", "$.prompt", "expected a string")]
    [TestCase("{\"text\":\"\\udc00secret\"}", "$", "surrogate")]
    [TestCase("{\"messages\":\"secret\"}", "$.messages", "got a string")]
    [TestCase("{\"messages\":[]}", "$.messages", "got an empty array")]
    [TestCase("{\"messages\":[{\"role\":\"user\",\"content\":\"secret\"},3]}", "$.messages[1]", "got a number")]
    [TestCase("{\"messages\":[{\"content\":\"secret\"}]}", "$.messages[0]", "no \"role\"")]
    [TestCase("{\"messages\":[{\"role\":\"user\"}]}", "$.messages[0]", "no \"content\"")]
    [TestCase("{\"messages\":[{\"role\":\"human\",\"content\":\"secret\"}]}", "$.messages[0].role", "got 'human'")]
    [TestCase("{\"messages\":[{\"role\":1,\"content\":\"secret\"}]}", "$.messages[0].role", "got a number")]
    [TestCase("{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"secret\"}]}]}", "$.messages[0].content",
        "got an array that begins with an object")]
    [TestCase("{\"messages\":[{\"role\":\"assistant\",\"content\":null}]}", "$.messages[0].content", "got null")]
    [TestCase("{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800secret\"}]}", "$.messages[0].content", "surrogate")]
    [TestCase("{\"messages\":[{\"role\":\"assistant\",\"content\":\"secret\",\"tool_calls\":[]}]}", "$.messages[0].tool_calls", "nothing else")]
    [TestCase("[{\"role\":\"user\",\"content\":\"secret\"},\"secret\"]", "$[1]", "got a string")]
    [TestCase("{\"conversations\":\"secret\"}", "$.conversations", "expected an array of messages; got a string")]
    [TestCase("{\"conversations\":[\"secret\"]}", "$.conversations[0]", "got a string")]
    [TestCase("{\"conversations\":[{\"from\":\"human\"}]}", "$.conversations[0]", "no \"value\"")]
    [TestCase("{\"conversations\":[{\"value\":\"secret\"}]}", "$.conversations[0].value", "\"role\" and \"content\"")]
    [TestCase("{\"conversations\":[{\"from\":\"elf\",\"value\":\"secret\"}]}", "$.conversations[0].from", "got 'elf'")]
    [TestCase("{\"conversations\":[{\"from\":1,\"value\":\"secret\"}]}", "$.conversations[0].from", "got a number")]
    [TestCase("{\"conversations\":[{\"from\":\"gpt\",\"value\":[\"secret\"]}]}", "$.conversations[0].value", "got an array")]
    [TestCase("{\"conversations\":[{\"from\":\"gpt\",\"value\":\"\\ud800secret\"}]}", "$.conversations[0].value", "surrogate")]
    [TestCase("{\"conversations\":[{\"from\":\"human\",\"value\":\"secret\",\"tools\":\"secret\"}]}", "$.conversations[0].tools",
        "besides only numbers")]
    [TestCase("{\"conversations\":[{\"from\":\"human\",\"value\":\"secret\",\"role\":\"user\"}]}", "$.conversations[0].role", "besides only numbers")]
    public void A_bad_shape_is_told_with_its_place_and_without_its_content(string item, string jsonPath, string says)
    {
        string lines = Write("p.jsonl", $"\"fine\"\n\n{item}\n"), array = Write("p.json", $"[\n\"fine\",\n{item}\n]");
        var inLine = Assert.Throws<PromptFileException>(() => PromptFile.Read(lines))!;
        var inArray = Assert.Throws<PromptFileException>(() => PromptFile.Read(array))!;
        using (Assert.EnterMultipleScope())
        {
            Assert.That((inLine.File, inLine.Line, inLine.JsonPath), Is.EqualTo((lines, 3, jsonPath)));
            Assert.That((inArray.File, inArray.Line, inArray.JsonPath), Is.EqualTo((array, 0, "$[1]" + jsonPath[1..])));
            Assert.That(new[] { inLine.Message, inArray.Message }, Has.All.Contains(says).And.All.Not.Contains("secret"));
            Assert.That(inLine.Message, Does.Contain(", line 3"));
            Assert.That(inArray.Message, Does.Contain("$[1]" + jsonPath[1..]));
        }
    }

    [TestCase("[{\"\\ud800\":1,\"text\":\"a\"}]", 0)]
    [TestCase("[\"a\",\n\"b\"\n\"c\"]", 3)]
    [TestCase("[\"a\",]", 1)]
    [TestCase("One prompt.\nAnother.\n", 1)]
    [TestCase("{\n\"messages\": [\n}", 3)]
    [TestCase("[{\"text\":\"a\",\n\"text\":\"b\"}]", 0)]
    [TestCase("[{\"a\":" + Open64 + "0" + Close64 + ",\"text\":\"b\"}]", 1)]
    public void What_is_not_json_in_a_json_file_is_told_with_its_line(string text, int line)
    {
        string path = Write("p.json", text);
        var error = Assert.Throws<PromptFileException>(() => PromptFile.Read(path))!;
        Assert.That((error.File, error.Line), Is.EqualTo((path, line)), error.Message);
        Assert.That(error.Message, Does.Contain("is not JSON"));
    }

    [TestCase("[\"a\", \"b\"]")]
    [TestCase("\ufeff\n [\r\n{\"prompt\": \"a\"}]\n")]
    [TestCase("[]")]
    [TestCase("[[[[[[[[[[[[[[1]]]]]]]]]]]]]]")]
    [TestCase("[{\"role\":\"user\",\"content\":\"a\"}]\n\n[{\"role\":\"user\",\"content\":\"b\"}]\n")]
    public void A_text_that_is_a_json_array_is_refused_with_what_to_do(string text)
    {
        foreach (string name in new[] { "p.txt", "prompts" })
        {
            Assert.That(
                () => PromptFile.Read(Write(name, text)),
                Throws.TypeOf<PromptFileException>()
                    .With.Message.Contains("JSON array").And.Message.Contains("ends in .json").And.Message.Contains(".jsonl"));
        }
    }

    [TestCase("goal,target\na,b\n", 2)]
    [TestCase("id,text\r\n1,\"He said \"\"no, never\"\",\r\nand left\"\r\n2,Yes\r\n", 2)]
    [TestCase("category,source,forbidden_prompt\n\na,,\"x\n\ny\"\n,b,c", 3)]
    [TestCase("_a,größe\n1,2\n\n", 2)]
    [TestCase("a,b", 2)]
    [TestCase("\ufeffa,b\nsaid \"so\",c\n", 2)]
    public void A_text_that_looks_like_csv_is_refused_with_what_to_do(string text, int fields) =>
        Assert.That(
            () => PromptFile.Read(Write("p.txt", text)),
            Throws.TypeOf<PromptFileException>()
                .With.Message.Contains("looks like CSV").And.Message.Contains($"{fields} columns").And.Message.Contains(".jsonl"));

    [TestCase("Yes, of course\nNo, never\n")]
    [TestCase("prompt\none\ntwo\n")]
    [TestCase("a,b\nc\n")]
    [TestCase("a,b\nc,d,e\n")]
    [TestCase("a,b\n\"c,d\"\n")]
    [TestCase("\"a\",b\nc,d\n")]
    [TestCase("1a,b\nc,d\n")]
    [TestCase("a b,c\nd,e\n")]
    [TestCase(",a,b\n1,c,d\n")]
    [TestCase("[INST] a, b\n[1]\n")]
    [TestCase("[1, 2] is a list\n[3]\n")]
    public void A_text_with_commas_or_brackets_is_text(string text) =>
        Assert.That(PromptFile.ReadTexts(Write("p.txt", text)), Is.EqualTo(text.TrimEnd().Split('\n')));

    [TestCase("p.json", "\n")]
    [TestCase("p.json", "[]")]
    [TestCase("p.txt", "")]
    [TestCase("p.txt", "\ufeff\n \n")]
    [TestCase("p.jsonl", "\n")]
    [TestCase("p.json", "[\"\"]")]
    [TestCase("p.csv", "prompt\n")]
    [TestCase("p.csv", "prompt,x\n,1\n")]
    public void A_file_without_a_prompt_is_an_error(string name, string text) =>
        Assert.That(() => PromptFile.Read(Write(name, text)), Throws.TypeOf<PromptFileException>().With.Message.Contains("at least one"));

    [TestCase(new byte[] { 0x61, 0xFF }, 1, 1)]
    [TestCase(new byte[] { 0x61, 0x0A, 0xC0, 0xAF }, 2, 2)]
    [TestCase(new byte[] { 0xEF, 0xBB, 0xBF, 0x0A, 0x0A, 0xED, 0xA0, 0x80 }, 5, 3)]
    [TestCase(new byte[] { 0xC3, 0xA9, 0xE2, 0x82 }, 2, 1)]
    [TestCase(new byte[] { 0xFF, 0xFE, 0x61, 0x00 }, 0, 1)]
    public void Bytes_that_are_not_utf8_are_located(byte[] bytes, int offset, int line)
    {
        string path = Path.Combine(_folder, "p.txt");
        File.WriteAllBytes(path, bytes);
        var error = Assert.Throws<PromptFileException>(() => PromptFile.Read(path))!;
        Assert.That(error.Line, Is.EqualTo(line));
        Assert.That(error.Message, Does.Contain($"byte {offset} (0x{bytes[offset]:X2})"));
    }

    [Test]
    public void A_missing_file_and_a_folder_are_typed_errors()
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That(() => PromptFile.Read(Path.Combine(_folder, "none.txt")),
                Throws.TypeOf<PromptFileException>().With.Message.Contains("none.txt"));
            Assert.That(() => PromptFile.Read(_folder), Throws.TypeOf<PromptFileException>().With.Message.Contains(_folder));
        }
    }

    [Test]
    public void The_length_is_bounded()
    {
        using var endless = new EndlessStream();
        Assert.That(() => PromptFile.ReadText(endless, "endless"), Throws.TypeOf<PromptFileException>().With.Message.Contains("256 MiB"));
    }

    [Test]
    public void Reading_can_be_cancelled()
    {
        using var endless = new EndlessStream();
        Assert.That(() => PromptFile.ReadText(endless, "endless", new CancellationToken(canceled: true)),
            Throws.InstanceOf<OperationCanceledException>());
    }

    [Test]
    public void The_contrast_sets_of_the_demo_are_read_whole([Values("topic", "tone", "honesty", "refusal")] string task)
    {
        string folder = Repository.Path("models", "demo", "contrast");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(PromptFile.Read(Path.Combine(folder, $"{task}.positive.txt")), Has.Count.EqualTo(64));
            Assert.That(PromptFile.Read(Path.Combine(folder, $"{task}.negative.txt")), Has.Count.EqualTo(64));
            Assert.That(PromptFile.Read(Path.Combine(folder, $"{task}.prompts.txt")), Has.Count.EqualTo(48));
        }
    }

    private string Write(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false));
        return path;
    }

    // As /dev/zero is.
    private sealed class EndlessStream : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count) => count;

        public override int Read(Span<byte> buffer) => buffer.Length;

        public override void Flush() => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
