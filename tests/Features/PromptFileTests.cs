using System.Text;
using Tiller.Features;

namespace Tiller.Tests.Features;

public class PromptFileTests
{
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
        Assert.That(PromptFile.Read(Write("p.txt", text)), Is.EqualTo(expected));

    [TestCase("p.jsonl", "\"a\\nb\"\n\n\"c\"\n")]
    [TestCase("p.JSONL", "\ufeff{\"text\":\"a\\nb\"}\r\n{\"prompt\":\"c\",\"id\":3}")]
    [TestCase("p.txt", "  \n {\"text\": \"a\\nb\"}\n\"c\"\n")]
    public void Json_lines_hold_strings_or_objects(string name, string text) =>
        Assert.That(PromptFile.Read(Write(name, text)), Is.EqualTo(["a\nb", "c"]));

    [TestCase("one\nt")]
    [TestCase("1")]
    [TestCase("null")]
    [TestCase("[\"a\"]")]
    [TestCase("{}")]
    [TestCase("{\"text\":1}")]
    [TestCase("{\"text\":\"a\",\"prompt\":\"b\"}")]
    [TestCase("{\"text\":\"a\",\"text\":\"b\"}")]
    [TestCase("\"\"")]
    [TestCase("\"\\ud800\"")]
    [TestCase("\"a\" \"b\"")]
    [TestCase("{\"a\":[[[[[[[[[0]]]]]]]]],\"text\":\"b\"}")]
    public void A_malformed_line_is_named(string line)
    {
        string path = Write("p.jsonl", $"\"fine\"\n\n{line}");
        var error = Assert.Throws<PromptFileException>(() => PromptFile.Read(path))!;
        Assert.That((error.File, error.Line), Is.EqualTo((path, 3)));
    }

    [TestCase("p.txt", "")]
    [TestCase("p.txt", "\ufeff\n \n")]
    [TestCase("p.jsonl", "\n")]
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
            Assert.That(() => PromptFile.Read(Path.Combine(_folder, "none.txt")), Throws.TypeOf<PromptFileException>().With.Message.Contains("none.txt"));
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
        Assert.That(() => PromptFile.ReadText(endless, "endless", new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>());
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
