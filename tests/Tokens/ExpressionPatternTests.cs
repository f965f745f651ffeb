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
    // Expressions of published tokenizers that have scanners, and where they stand: in the tokenizer.json of a model, which llama.cpp's
    // src/llama-vocab.cpp quotes (by the name of its pre-tokenizer), or in a program.
    private static readonly (string Where, string Expression)[] s_published =
    [
        ("openai/gpt-2 src/encoder.py; tokenizers' ByteLevel",
            @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
        ("openai/tiktoken tiktoken_ext/openai_public.py, gpt2 and r50k_base of versions up to 0.7",
            @"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
        ("meta-llama/llama3 llama/tokenizer.py; openai/tiktoken's first cl100k_base; llama.cpp LLAMA3, CHATGLM4",
            @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ("openai/tiktoken, cl100k_base of versions up to 0.7; karpathy/minbpe minbpe/regex.py",
            @"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
        ("Qwen2 tokenizer.json; llama.cpp QWEN2",
            @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ("Ling tokenizer.json; llama.cpp BAILINGMOE",
            @"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
        ("Qwen3.5 tokenizer.json; llama.cpp QWEN35",
            @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ("openai/tiktoken, o200k_base; llama.cpp GPT4O",
            @"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?"
            + @"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
            + @"|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ("Mistral's Tekken, tokenizer.json; llama.cpp TEKKEN",
            @"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
            + @"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ("DeepSeek-LLM, -V2 and -Coder-V2 tokenizer.json, the first of five; llama.cpp DEEPSEEK_LLM", "[\r\n]"),
        ("the second",
            "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
            + "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-"
            + "\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-"
            + "\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-"
            + "\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
            + "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-"
            + "\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-"
            + "\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-"
            + "\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"),
        ("the third", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
        ("the fourth", @"\s+$"),
        ("the fifth", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
        ("DeepSeek-Coder tokenizer.json; llama.cpp DEEPSEEK_CODER", @"\s?\p{L}+"),
        ("the next", @"\s?\p{P}+"),
        ("DeepSeek-V3 and -R1 tokenizer.json, the first of three; llama.cpp DEEPSEEK3_LLM", @"\p{N}{1,3}"),
        ("the second", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
        ("the third, whose ends of lines are no escapes",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+"
            + "|\\s+(?!\\S)|\\s+"),
    ];

    // Runs of classes in other spellings, and where the two classes overlap.
    private static readonly string[] s_runs =
        [@"\s?[ a\n]+", @"\N+", "a", "[0-9]{1,3}", @"[^\P{Han}]{1,2}", @"\w?\W+", @"[\p{Lu}&&[A-Z]]?[a-z]+", "!?!+"];

    private static IEnumerable<string> Scanned =>
        WordSplits.KnownExpressions.Concat(s_published.Select(static x => x.Expression)).Concat(s_runs).Distinct();

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

    // Kimi-K2 (moonshotai's tokenization_kimi.py): Chinese apart, and letters of other scripts in words that begin with capitals.
    [TestCase(
        @"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        + @"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        + @"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "Hello世界𠀀abc's iPhone 12345ひらがな漢字! \n\n x", "Hello|世界𠀀|abc's| i|Phone| |123|45|ひらがな|漢字|!| \n\n| x")]

    // BLOOM (tokenizer.json): words apart from punctuation of several scripts.
    [TestCase(@" ?[^(\s|[.,!?…。，、।۔،])]+", "How are (you), 世界。नमस्ते। ok", "How| are|you| 世界|नमस्ते| ok")]

    // K-EXAONE (tokenizer.json; ollama's model/models/exaonemoe, llama.cpp EXAONE_MOE): words that continue over single spaces within marks.
    [TestCase(
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        "Abc d e'LL 12 नि\n x", "Abc d e|'LL| |1|2| नि|\n| x")]

    // Ling (tokenizer.json; llama.cpp BAILINGMOE): contractions in both cases, and possessive.
    [TestCase(
        @"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
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

    [Test]
    public void Every_known_expression_is_published_and_has_a_scanner()
    {
        var published = new List<string>();
        foreach ((string where, string expression) in s_published)
        {
            Assert.That(PatternReader.Scanner(Node(expression)), Is.Not.Null, where);
            published.Add(expression.Replace("\r", @"\r", StringComparison.Ordinal).Replace("\n", @"\n", StringComparison.Ordinal));
        }

        Assert.That(WordSplits.KnownExpressions.Except(published), Is.Empty);
    }

    // The scanners and the engine, two ways to one split.
    [TestCaseSource(nameof(Scanned))]
    public void A_scanner_finds_what_its_expression_finds(string expression)
    {
        TextPattern scanner = PatternReader.Scanner(Node(expression))!;
        var engine = ExpressionPattern.Read(Node(expression));
        string[] parts =
        [
            "a", "b", "s", "A", "B", "É", "é", "ǅ", "ʰ", "中", "ا", "\u0301", "\u0903", "1", "२", "Ⅳ", " ", " ", "\n", "\r", "\t", "\u3000", "\u00A0",
            "'", "'s", "'LL", "'ſ", "'re", "!", "/", "-", "🚢", "𝐀", "𝐚", "𠀀", "。", "’", "_", "가", "\u200D",
            "z", "Z", "~", "$", "`", "\0", "\u00AD", "Ⴀ", "ａ", "！", "Ꙁ", "𐐀", "ぁ", "ァ", "ᾀ", "ƻ", "⁀", "¨", "²",
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
