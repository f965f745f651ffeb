using System.Text;
using System.Text.Json;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>
/// Expressions that are none of the known ones: what Oniguruma's Ruby syntax means, by .NET's engine; expected values from Oniguruma's RE document.
/// </summary>
internal sealed class ExpressionPatternTests
{
    // Every expression that has a scanner of its own.
    private static IEnumerable<string> Known => WordSplits.KnownExpressions;

    [TestCase(@"\s{2,}", "a  b   c d", "  |   ")]
    [TestCase(@"[0-9][0-9][0-9]", "12345678", "123|456")]
    [TestCase(@"a{,2}b", "aaab b", "aab|b")] // {,n} is {0,n}
    [TestCase(@"\h+", "xyz 1aFg", "1aF")] // hexadecimal digits
    [TestCase(@"a+$", "aa\naa\n", "aa|aa")] // the end of every line
    [TestCase(@"^b", "ab\nb\n", "b")]
    [TestCase(@"a++b|a", "aab aa", "aab|a|a")] // possessive
    [TestCase(@"a{2}+", "aaaaa", "aaaa")] // not possessive: a{2} repeated
    [TestCase(@"ba{2}?", "baab", "baa|b")] // an optional a{2}
    [TestCase(@"(?i:s)", "sSſx", "s|S|ſ")] // U+017F folds to s
    [TestCase(@"(?i:k)", "kK\u212A", "k|K|\u212A")]
    [TestCase(@"\w+", "aⅣⓐ\u0301 b", "aⅣⓐ\u0301|b")] // numbers that are letters, and circled letters
    [TestCase(@"\w+", "a²½ b¾", "a²½|b¾")] // alone it takes these numbers of Latin-1,
    [TestCase(@"[\w]+", "a²½ b¾", "a|b")] // in a class it does not
    [TestCase(@"\W+", "a²½ b", " ")]
    [TestCase(@"[^\w]+", "a²½ b", "²½ ")]
    [TestCase(@"\b\d", "²1 1", "1")]
    [TestCase(@"\p{L}+", "a𝐀𠀀b🚢c", "a𝐀𠀀b|c")] // letters beyond U+FFFF
    [TestCase(@"\p{^L}+", "a🚢1b", "🚢1")]
    [TestCase(@"[^\s\p{L}]", "🚢 a", "🚢")] // one character, not two halves
    [TestCase(@"\bb", "a b\u200Db", "b|b")] // a joiner is no letter
    [TestCase(@"\x{4e00}|\u4e8c", "一二三", "一|二")]
    [TestCase(@"a.c", "abc a\nc a\rc a🚢c", "abc|a\rc|a🚢c")] // . stops at \n alone
    [TestCase(@"(?<=a)b(?!c)", "ab abc bb", "b")]
    [TestCase(@"x*", "axxb", "|xx|")] // empty ones, but none where the last match ended
    [TestCase(@"b*?", "b", "|")]
    [TestCase(@"(?:(a)|b)*c", "abac", "abac")]
    [TestCase(@"[a\-z]", "a-mz", "a|-|z")]
    [TestCase(@"[-a]", "a-", "a|-")]
    public void Means_what_Oniguruma_means(string expression, string text, string expected) =>
        Assert.That(string.Join('|', Matches(ExpressionPattern.Read(Node(expression)), text)), Is.EqualTo(expected));

    [TestCase(@"(a)\1", "'\\1'")]
    [TestCase(@"(?<n>a)", "'(?<n>'")]
    [TestCase(@"a(?i)b|c", "'(?i)b'")] // Ruby: the rest of the group, alternatives and all
    [TestCase(@"(?m:.)", "'(?m:.'")] // Ruby: the dot takes newlines
    [TestCase(@"(?x: a )", "'(?x: '")]
    [TestCase(@"\p{Han}", "'Han'")]
    [TestCase(@"\p{Alpha}", "'Alpha'")]
    [TestCase(@"[[:alpha:]]", "class within")]
    [TestCase(@"[a-z&&[^b]]", "class within")]
    [TestCase(@"[a-z-[b]]", "class within")] // .NET: without b
    [TestCase(@"[]a]", "empty class")]
    [TestCase(@"\R", "'\\R'")]
    [TestCase(@"\X", "'\\X'")]
    [TestCase(@"\Ga", "'\\G'")]
    [TestCase(@"a\Kb", "'\\K'")]
    [TestCase(@"\xE9", "hexadecimal")] // a byte, not é
    [TestCase(@"(?i:ss)", "'ss'")] // also ß
    [TestCase(@"(?i:é)", "beyond ASCII")]
    [TestCase(@"(?i:\p{Lu})", "'Lu'")]
    [TestCase(@"(?=a)*b", "quantifier after")]
    [TestCase("[\U0001F600-\U0001F64F]", "beyond U+FFFF")]
    [TestCase(@"(?~a)", "'(?~a)'")]
    [TestCase(@"(?<=a++)b", "look-behind")]
    [TestCase(@"([", "without ']'")]
    [TestCase(@"(a", "without ')'")]
    [TestCase(@"a)", "without '('")]
    [TestCase(@"*a", "nothing before")]
    [TestCase(@"a{1001}", "1000")]
    [TestCase(@"[z-a]", "ends before")]
    [TestCase(@"a\", "at its end")]
    [TestCase(@"", "0 characters")]
    public void What_the_two_dialects_write_otherwise_is_refused_by_name(string expression, string name)
    {
        TokenizerException error = Assert.Throws<TokenizerException>(() => ExpressionPattern.Read(Node(expression)))!;
        Assert.That(error.Code, Is.EqualTo(TokenizerError.Unsupported));
        Assert.That(error.Message, Does.Contain(name));
    }

    [Test]
    public void Exponential_time_ends_in_an_error()
    {
        var pattern = ExpressionPattern.Read(Node("(?!x)(?:(?:a|b|ab)+)+$"));
        var error =
            Patience.Returns(() => Assert.Throws<TokenizerException>(() => Matches(pattern, string.Concat(Enumerable.Repeat("ab", 40)) + "c")));
        Assert.That(error!.Code, Is.EqualTo(TokenizerError.Limit));
    }

    // The scanners and the engine, two ways to one split.
    [TestCaseSource(nameof(Known))]
    public void A_scanner_finds_what_its_expression_finds(string expression)
    {
        TextPattern scanner = WordSplits.OfRegex(expression)!;
        var engine = ExpressionPattern.Read(Node(expression));
        string[] parts =
        [
            "a", "b", "s", "A", "B", "É", "é", "ǅ", "ʰ", "中", "ا", "\u0301", "\u0903", "1", "२", "Ⅳ", " ", " ", "\n", "\r", "\t", "\u3000", "\u00A0",
            "'", "'s", "'LL", "'ſ", "'re", "!", "/", "-", "🚢", "𝐀", "𝐚", "𠀀", "。", "’", "_", "가", "\u200D",
        ];
        var random = new Random(11);
        for (int round = 0; round < 3000; round++)
        {
            string text = string.Concat(Enumerable.Range(0, random.Next(1, 14)).Select(_ => parts[random.Next(parts.Length)]));
            Assert.That(Matches(scanner, text), Is.EqualTo(Matches(engine, text)), JsonSerializer.Serialize(text));
        }
    }

    private static TokenizerNode Node(string expression) => TokenizerNode.Parse(JsonSerializer.SerializeToUtf8Bytes(expression), "$.Regex");

    private static List<string> Matches(TextPattern pattern, string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        var state = new PatternState();
        var result = new List<string>();
        pattern.Begin(utf8, state);
        for (int at = 0; pattern.Next(utf8, at, state, out int start, out int end); at = end)
        {
            result.Add(Encoding.UTF8.GetString(utf8, start, end - start));
        }

        return result;
    }
}
