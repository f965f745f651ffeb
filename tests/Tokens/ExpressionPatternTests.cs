using System.Text;
using System.Text.Json;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>
/// Expressions that are none of the known ones: what Oniguruma's own syntax means, by .NET's engine; expected values from Oniguruma 6.9.10, with
/// which 6.9.8 agrees.
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
    [TestCase(@"[a-c-e]+", "abcde-", "abc|e-")]
    [TestCase(@"[\b]", "b\b", "\b")] // a backspace
    [TestCase(@"\N|\O", "\n\ra", "\n|\r|a")]
    [TestCase(@"(?<n>a)(b)", "ab", "ab")]
    [TestCase(@"[\W]+", "a²½ b", "²½ ")]
    [TestCase(@"\p{Han}+", "漢字kana々〆〇ー𠀀", "漢字|々|〇|𠀀")] // beyond U+FFFF too; 〆 and ー are Common
    [TestCase(@"\p{ H-a_n }+|\p{hani}", "a漢字", "漢字")] // names without case, spaces, hyphens and underscores
    [TestCase(@"\P{Han}+|\p{^Greek}", "漢aβ字", "漢|aβ|字")]
    [TestCase(@"\P{^Han}+", "漢aβ字", "漢|字")]
    [TestCase(@"[\p{Hiragana}\p{Katakana}]+", "ひらカタ漢ー𛀀", "ひらカタ|𛀀")]
    [TestCase(@"\p{Hangul}+|\p{Thai}+", "한글กข1", "한글|กข")]
    [TestCase(@"\p{Latin}+|\p{Cyrillic}+|\p{Greek}+", "aéßяΩ", "aéß|я|Ω")]
    [TestCase(@"\p{Arabic}+|\p{Hebrew}+|\p{Devanagari}+", "ابאबि", "اب|א|बि")]
    [TestCase(@"\p{Emoji_Modifier}|\p{Extended_Pictographic}+", "👍🏽1", "👍|🏽")]
    [TestCase(@"\p{Uppercase_Letter}+|\p{LC}", "AÉßa", "AÉ|ß|a")]
    [TestCase(@"[[:alpha:]]+", "aé中1Ⅳⓐ_", "aé中|Ⅳⓐ")]
    [TestCase(@"[[:^alpha:]]+|[[:upper:][:digit:]]", "aÉ1 ٣", "É|1 ٣")]
    [TestCase(@"[[:alpha:]&&[^a-m]]+", "anbz", "n|z")]
    [TestCase(@"[a-e&&c-g&&^d]+", "abcdefg", "d")] // ^ is a character there
    [TestCase(@"[^a-e&&c-g]+", "abcdefg", "ab|fg")] // the complement of the intersection
    [TestCase(@"[a&&]|[&&b]|[ab&&[^ab]]", "ab", "")]
    [TestCase(@"[a[bc][^\w\s]]+", "abcd!e", "abc|!")]
    [TestCase(@"[^a[bc]]+", "abcd!e", "d!e")]
    [TestCase(@"[^(\s|[.,!?…。，、।۔،])]+", "a. b|(c)…d", "a|b|c|d")] // BLOOM's
    [TestCase("[\U0001F600-\U0001F64F]+|\U0001F680", "a😀😅🚀b", "😀😅|🚀")]
    [TestCase(@"[^\x{1F600}]+", "a😀b🚀", "a|b🚀")]
    [TestCase(@"a(?i)b|c", "aB AB ab c", "aB|ab")] // to the end of the group, alternatives and all: a(?i:b|c)
    [TestCase(@"(?i:a(?-i)b)c", "AB Ab Abc abC", "Abc")]
    [TestCase(@"(?m:a.)|(?im-i:B.)", "a\nb\nB\n", "a\n|B\n")] // the dot takes newlines
    [TestCase(@"(?i:é|σ|я)", "éÉ σςΣ яЯ", "é|É|σ|ς|Σ|я|Я")]
    [TestCase(@"(?i:[à-ö]+)", "ÀÖ÷ø", "ÀÖ")]
    [TestCase(@"(?i:[^ß])+", "ss ß ẞ", "ss | ")]
    [TestCase(@"(?i:\p{Lu})", "aAÉ", "A|É")] // a property alone is not folded, a class is
    [TestCase(@"(?i:[\p{Cyrillic}&&\p{Lu}])", "яЯ", "я|Я")]
    [TestCase(@"(?i:[a&&A])", "aA", "")] // folded after the intersection
    [TestCase(@"(?i:\p{Latin}+)", "aBß", "aBß")]
    public void Means_what_Oniguruma_means(string expression, string text, string expected) =>
        Assert.That(string.Join('|', Matches(ExpressionPattern.Read(Node(expression)), text)), Is.EqualTo(expected));

    [TestCase(@"(a)\1", "'\\1'")]
    [TestCase(@"(?x: a )", "'(?x: '")]
    [TestCase(@"[a-[b]]", "range to a class")]
    [TestCase(@"[a-&&b]", "range to a class")]
    [TestCase(@"[\w-z]", "begins with a class")]
    [TestCase(@"[[a]-z]", "begins with a class")]
    [TestCase(@"[[:foo:]]", "names of POSIX")]
    [TestCase(@"[[:punct:]]", "'[:punct:]'")] // \p{P} in 6.9.8, \p{P} and \p{S} in 6.9.10
    [TestCase(@"\p{Word}", "6.9.8")] // without ² in 6.9.8, with it in 6.9.10
    [TestCase(@"\p{Script=Han}", "'Script=Han'")] // Oniguruma does not know it either
    [TestCase(@"\p{IsHan}", "'IsHan'")]
    [TestCase(@"\p{InHangul_Jamo}", "'InHangul_Jamo'")]
    [TestCase(@"\pL", "'\\p'")]
    [TestCase(@"(?i)(?s:.)", "'(?s:.'")]
    [TestCase(@"(?W:\w)", "'(?W:\\'")]
    [TestCase(@"(?<1>a)", "'(?<1>'")]
    [TestCase(@"(?i:ß)", "'ß'")] // also ss
    [TestCase(@"(?i:[ß])", "'ß'")]
    [TestCase(@"(?i:[\p{L}])", "where case is ignored")]
    [TestCase(@"(?i:f(?:i))", "'i'")] // also ﬁ
    [TestCase(@"(?i:s{1}s)", "'s'")]
    [TestCase("(?i:j\u030C)", "'\u030C'")] // also ǰ
    [TestCase(@"[]a]", "empty class")]
    [TestCase(@"\R", "'\\R'")]
    [TestCase(@"\X", "'\\X'")]
    [TestCase(@"\Ga", "'\\G'")]
    [TestCase(@"a\Kb", "'\\K'")]
    [TestCase(@"\xE9", "hexadecimal")] // a byte, not é
    [TestCase(@"(?i:ss)", "'s'")] // also ß
    [TestCase(@"(?=a)*b", "quantifier after")]
    [TestCase(@"(?~a)", "'(?~a)'")]
    [TestCase(@"(*i:a)", "'(*i:a'")]
    [TestCase(@"(?:a|b*)+?c", "lazy repetition")] // .NET: matches that end beyond the text
    [TestCase(@"(?:a|\b){2,}", "counted repetition")]
    [TestCase(@"[^[^$[:^ascii:]]]", "beyond ASCII")] // Oniguruma: $ alone
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

    // Kimi-K2: Chinese apart, and letters of other scripts in words that begin with capitals.
    [TestCase(
        @"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        + @"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        + @"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "Hello世界𠀀abc's iPhone 12345ひらがな漢字! \n\n x", "Hello|世界𠀀|abc's| i|Phone| |123|45|ひらがな|漢字|!| \n\n| x")]

    // BLOOM: words apart from punctuation of several scripts.
    [TestCase(@" ?[^(\s|[.,!?…。，、।۔،])]+", "How are (you), 世界。नमस्ते। ok", "How| are|you| 世界|नमस्ते| ok")]

    // EXAONE-4: words that continue over single spaces within marks.
    [TestCase(
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        "Abc d e'LL 12 नि\n x", "Abc d e|'LL| |1|2| नि|\n| x")]

    // Ling: contractions in both cases, and possessive.
    [TestCase(
        @"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        "I'LL go'ving 42!?\n\n ok", "I|'LL| go|'ving| |4|2|!?\n\n| ok")]
    public void Expressions_of_published_tokenizers_split_as_Oniguruma_splits(string expression, string text, string expected) =>
        Assert.That(string.Join('|', Matches(ExpressionPattern.Read(Node(expression)), text)), Is.EqualTo(expected));

    // Every character is a set of its own; where case is ignored too, the last three words of the text have a character with two cases.
    [TestCase("")]
    [TestCase("(?i)")]
    public void Thousands_of_different_characters_are_told_apart(string options)
    {
        string all = string.Concat(Enumerable.Range(0x4E00, 2000).Concat(Enumerable.Range(0x400, 96)).Select(static x => (char)x));
        var pattern = Patience.Returns(() => ExpressionPattern.Read(Node(options + string.Join('|', all.Select(static c => $"{c}!")))));
        string text = string.Concat(all.Select(static c => $"{c}!{c}"));
        Assert.That(Matches(pattern, text), Is.EqualTo(all.Select(static c => $"{c}!")));
        Assert.That(Matches(pattern, "\u4DFF!\u55D0!a!"), Is.Empty, "beside them");
        Assert.That(Matches(pattern, "\u0460!\u0461!"), Is.Empty, "beside them");
    }

    // 2000 classes of all characters but one: each has nearly all of the stretches that the others divide the characters into.
    [Test]
    public void Too_many_different_classes_are_refused()
    {
        string expression = string.Concat(Enumerable.Range(0x4E00, 2000).Select(static x => $"[^{(char)x}]"));
        var error = Patience.Returns(() => Assert.Throws<TokenizerException>(() => ExpressionPattern.Read(Node(expression))));
        Assert.That(error!.Code, Is.EqualTo(TokenizerError.Unsupported));
        Assert.That(error.Message, Does.Contain("too many different classes"));
    }

    // Expressions made at random of all that is read (a script in Python, not kept), which both versions of Oniguruma compile in the default syntax
    // and match alike: libonig 6.9.10, built from its sources, and Debian's 6.9.8, through ctypes. Matches are searched for one after another as the
    // binding rust-onig's find_iter does, which Hugging Face's tokenizers use.
    [Test]
    public void Expressions_at_random_match_what_Oniguruma_matches()
    {
        using var cases = JsonDocument.Parse(File.ReadAllBytes(Repository.Path("tests", "Tokens", "oniguruma.json")));
        int count = 0;
        using (Assert.EnterMultipleScope())
        {
            foreach (JsonElement item in cases.RootElement.EnumerateArray())
            {
                string expression = item[0].GetString()!;
                var pattern = ExpressionPattern.Read(Node(expression));
                foreach (JsonElement text in item[1].EnumerateArray())
                {
                    count++;
                    Assert.That(
                        Matches(pattern, text[0].GetString()!), Is.EqualTo(text[1].EnumerateArray().Select(static x => x.GetString())),
                        $"{expression} on {text[0].GetRawText()}");
                }
            }
        }

        Assert.That(count, Is.GreaterThan(1000));
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
