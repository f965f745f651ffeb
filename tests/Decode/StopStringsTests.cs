using System.Text;
using Tiller.Decode;

namespace Tiller.Tests.Decode;

public class StopStringsTests
{
    [TestCase("one two", new[] { "###" }, "one two", null)]
    [TestCase("one ### two", new[] { "###" }, "one ", "###")]
    [TestCase("a##b###c", new[] { "###" }, "a##b", "###")]
    [TestCase("aaab", new[] { "aab" }, "a", "aab")]
    [TestCase("ababac", new[] { "abac" }, "ab", "abac")]
    [TestCase("xabcd", new[] { "abcd", "bc" }, "xa", "bc")]
    [TestCase("xabc", new[] { "c", "abc", "bc" }, "x", "abc")]
    [TestCase("###", new[] { "###" }, "", "###")]
    [TestCase("ends with ##", new[] { "###" }, "ends with ##", null)]
    [TestCase("a 😀 b 😃", new[] { "😃" }, "a 😀 b ", "😃")]
    [TestCase("User: hi\nUser: ho", new[] { "\nUser:", "\nAssistant:" }, "User: hi", "\nUser:")]
    public void Text_ends_before_the_first_complete_stop_string_however_it_is_cut(string text, string[] stops, string expected, string? found)
    {
        for (int size = 1; size <= text.Length; size++)
        {
            var (shown, filter) = Run(text.Chunk(size).Select(c => new string(c)), stops);
            Assert.That((shown, filter.Found), Is.EqualTo((expected, found)), $"pieces of {size}");
        }
    }

    [Test]
    public void What_may_be_the_start_of_a_stop_string_is_held_back_and_released_when_it_cannot_be()
    {
        var filter = new StopFilter(new StopStrings(["<end>"]));
        string[] pieces = ["a<", "en", "x", "<e", "nd", ">b"];
        Assert.That(pieces.Select(filter.Push), Is.EqualTo(["a", "", "<enx", "", "", ""]));
        Assert.That(filter.Found, Is.EqualTo("<end>"));
        Assert.That(filter.Push("more") + filter.Finish(), Is.Empty);
    }

    [Test]
    public void Without_stop_strings_pieces_pass_untouched()
    {
        var filter = new StopFilter(StopStrings.None);
        string piece = new('x', 3);
        Assert.That(filter.Push(piece), Is.SameAs(piece));
        Assert.That(filter.Finish(), Is.Empty);
    }

    // Against the definition: the first position where a stop string ends; of those that end there, the longest.
    [Test]
    public void Random_texts_agree_with_a_search_of_the_whole_text()
    {
        var random = new Random(1);
        int stopped = 0;
        for (int trial = 0; trial < 3000; trial++)
        {
            string text = Draw(random, random.Next(30));
            string[] stops = [.. Enumerable.Range(0, random.Next(4)).Select(_ => Draw(random, 1 + random.Next(5)))];
            var pieces = new List<string>();
            for (int at = 0; at < text.Length;)
            {
                int length = Math.Min(random.Next(5), text.Length - at);
                pieces.Add(text.Substring(at, length));
                at += length;
            }

            string? found = null;
            int end = 0;
            while (found is null && end < text.Length)
            {
                end++;
                found = stops.Where(s => text[..end].EndsWith(s, StringComparison.Ordinal)).MaxBy(s => s.Length);
            }

            var (shown, filter) = Run(pieces, stops);
            Assert.That((shown, filter.Found), Is.EqualTo((text[..(end - (found?.Length ?? 0))], found)), $"{text} | {string.Join(',', stops)}");
            stopped += found is null ? 0 : 1;
        }

        Assert.That(stopped, Is.InRange(500, 2500));
    }

    [Test]
    public void Unusable_lists_are_refused()
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That(() => new StopStrings(["a", ""]), Throws.TypeOf<StopStringsException>());
            Assert.That(() => new StopStrings([new string('x', StopStrings.MaxLength + 1)]), Throws.TypeOf<StopStringsException>());
            Assert.That(() => new StopStrings([.. Enumerable.Repeat("x", 10_000)]),
                Throws.TypeOf<StopStringsException>().With.Message.Contains("10000"));
        }
    }

    private static (string Shown, StopFilter Filter) Run(IEnumerable<string> pieces, string[] stops)
    {
        var filter = new StopFilter(new StopStrings(stops));
        var shown = new StringBuilder();
        foreach (string piece in pieces)
        {
            shown.Append(filter.Push(piece));
        }

        return (shown.Append(filter.Finish()).ToString(), filter);
    }

    private static string Draw(Random random, int length) => string.Create(length, random, (span, r) =>
    {
        foreach (ref char c in span)
        {
            c = (char)('a' + r.Next(2));
        }
    });
}
