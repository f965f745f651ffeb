using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>
/// Every kind of every section of tokenizer.json, each alone in a file of a few tokens; expected values by hand, from the definitions.
/// </summary>
internal sealed class TokenizerKindTests
{
    private const string Bytes = "\"type\":\"BPE\",\"merges\":[],\"unk_token\":\"?\",\"byte_fallback\":true";

    // The words that reach the model: its vocabulary holds the expected ones, and any other is [UNK].
    [TestCase("""{"type":"ByteLevel"}""", "Hey my é", "ĠHey|Ġmy|ĠÃ©")]
    [TestCase("""{"type":"ByteLevel","add_prefix_space":false}""", "I'll  go", "I|'ll|Ġ|Ġgo")]
    [TestCase("""{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}""", "a b", "aĠb")]
    [TestCase("""{"type":"Digits"}""", "Call 123 now", "Call |123| now")]
    [TestCase("""{"type":"Digits","individual_digits":true}""", "a12٣½", "a|1|2|٣|½")]
    [TestCase("""{"type":"Metaspace","replacement":"▁"}""", "Hey  friend!", "▁Hey|▁|▁friend!")]
    [TestCase("""{"type":"Metaspace","replacement":"_","prepend_scheme":"never"}""", "a b", "a|_b")]
    [TestCase("""{"type":"Metaspace","replacement":"▁","split":false}""", "a b", "▁a▁b")]
    [TestCase("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}""", "a<x>b", "▁a|<x>|b")]
    [TestCase("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"}""", "a<x>b", "▁a|<x>|▁b")]
    [TestCase("""{"type":"Metaspace","replacement":"▁","add_prefix_space":false}""", "a b", "a|▁b")]
    [TestCase("""{"type":"Punctuation"}""", "Hey?! man", "Hey|?|!| man")]
    [TestCase("""{"type":"Punctuation","behavior":"Contiguous"}""", "Hey?! man«$", "Hey|?!| man|«$")]
    [TestCase("""{"type":"Punctuation","behavior":"MergedWithPrevious"}""", "Hey?!", "Hey?|!")]
    [TestCase("""{"type":"Whitespace"}""", "Hey man!? é_2", "Hey|man|!?|é_2")]
    [TestCase("""{"type":"WhitespaceSplit"}""", " Hey\t man!\n", "Hey|man!")]
    [TestCase("""{"type":"CharDelimiterSplit","delimiter":","}""", "a,b,,c", "a|b|c")]
    [TestCase("""{"type":"BertPreTokenizer"}""", "Hey, you", "Hey|,|you")]
    [TestCase("""{"type":"Split","pattern":{"String":"-"},"behavior":"Removed"}""", "the-final--countdown", "the|final|countdown")]
    [TestCase("""{"type":"Split","pattern":{"String":"-"},"behavior":"Isolated"}""", "the-final--countdown", "the|-|final|-|-|countdown")]
    [TestCase("""{"type":"Split","pattern":{"String":"-"},"behavior":"MergedWithPrevious"}""", "the-final--countdown", "the-|final-|-|countdown")]
    [TestCase("""{"type":"Split","pattern":{"String":"-"},"behavior":"MergedWithNext"}""", "the-final--countdown", "the|-final|-|-countdown")]
    [TestCase("""{"type":"Split","pattern":{"String":"-"},"behavior":"Contiguous"}""", "the-final--countdown", "the|-|final|--|countdown")]
    [TestCase("""{"type":"Split","pattern":{"Regex":"[a-z]+"},"behavior":"Removed","invert":true}""", "ab1cd", "ab|cd")]
    [TestCase("""{"type":"Split","pattern":{"Regex":"\\p{Lu}"},"behavior":"MergedWithNext"}""", "camelCaseWord", "camel|Case|Word")]
    [TestCase("""{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Digits","individual_digits":true},"""
        + """{"type":"ByteLevel","use_regex":false}]}""", "é1 b", "ĠÃ©|Ġ1|Ġb")]
    [TestCase("null", "a b", "a b")]
    public void A_pre_tokenizer_hands_on_these_words(string preTokenizer, string text, string words)
    {
        string[] expected = words.Split('|');
        Tokenizer tokenizer = Of(Words(expected), preTokenizer: preTokenizer, added: """[{"id":900,"content":"<x>"}]""");
        Assert.That(tokenizer.Encode(text).Select(tokenizer.TokenOf), Is.EqualTo(expected));
    }

    [TestCase("""{"type":"NFC"}""", "e\u0301 ﬁ", "é ﬁ")]
    [TestCase("""{"type":"NFD"}""", "é ﬁ", "e\u0301 ﬁ")]
    [TestCase("""{"type":"NFKC"}""", "e\u0301 ﬁ①", "é fi1")]
    [TestCase("""{"type":"NFKD"}""", "é ﬁ", "e\u0301 fi")]
    [TestCase("""{"type":"Lowercase"}""", "AÉΣİ", "aéσi\u0307")]
    [TestCase("""{"type":"Strip"}""", " \u3000a b\n", "a b")]
    [TestCase("""{"type":"Strip","strip_left":false,"strip_right":true}""", " a ", " a")]
    [TestCase("""{"type":"StripAccents"}""", "e\u0301a\u0903", "ea")]
    [TestCase("""{"type":"Replace","pattern":{"String":"aa"},"content":"b"}""", "aaa aa", "ba b")]
    [TestCase("""{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "}""", "a \n b", "a b")]
    [TestCase("""{"type":"Prepend","prepend":"▁"}""", "a", "▁a")]
    [TestCase("""{"type":"BertNormalizer"}""", "Hé\u0000\tÜ中", "he u 中 ")]
    [TestCase("""{"type":"BertNormalizer","clean_text":false,"handle_chinese_chars":false,"strip_accents":false,"lowercase":true}""",
        "HÉ\t中", "hé\t中")]
    [TestCase("""{"type":"BertNormalizer","lowercase":false,"strip_accents":true}""", "HÉ", "HE")]
    [TestCase("""{"type":"ByteLevel"}""", " é", "ĠÃ©")]
    [TestCase("""{"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"},{"type":"Lowercase"}]}""", "Éa", "ea")]
    public void A_normalizer_makes_this_of_a_text(string normalizer, string text, string expected)
    {
        Tokenizer tokenizer = Of(Words([expected]), normalizer);
        Assert.That(tokenizer.Normalizer!.Normalize(text), Is.EqualTo(expected));
        Assert.That(tokenizer.Encode(text).Select(tokenizer.TokenOf), Is.EqualTo(new[] { expected }));
        Assert.That(tokenizer.Encode(""), Is.Empty);
    }

    // The mark of "first" goes before a text that begins where the input does; a text whose first character was lost does not.
    [TestCase("""{"type":"Strip"}""", "a", "▁a")]
    [TestCase("""{"type":"Strip"}""", " a", "a")]
    [TestCase("""{"type":"StripAccents"}""", "\u0301a", "a")]
    [TestCase("""{"type":"BertNormalizer"}""", "\u0001a", "a")]
    [TestCase("""{"type":"Replace","pattern":{"Regex":"^x"},"content":""}""", "xa", "a")]
    [TestCase("""{"type":"Replace","pattern":{"Regex":"x*"},"content":""}""", "a", "▁a")]
    [TestCase("""{"type":"Replace","pattern":{"String":"é"},"content":"a"}""", "é", "▁a")]
    [TestCase("""{"type":"Replace","pattern":{"String":"xy"},"content":"a"}""", "xy", "a")] // what replaces two comes from the second
    [TestCase("""{"type":"Sequence","normalizers":[{"type":"Strip"},{"type":"Prepend","prepend":"a"}]}""", " b", "ab")]
    public void Metaspace_knows_where_a_normalised_text_begins(string normalizer, string text, string expected)
    {
        Tokenizer tokenizer = Of(Words([expected]), normalizer, """{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}""");
        Assert.That(tokenizer.Encode(text).Select(tokenizer.TokenOf), Is.EqualTo(new[] { expected }));
    }

    // A double array with one key: the root's children lie at 16 ^ byte, the leaf of the tab at 25 ^ 32.
    [Test]
    public void A_compiled_character_map_replaces_what_it_knows()
    {
        uint[] units = new uint[64];
        units[0] = 16u << 10;
        units[16 ^ '\t'] = (32u << 10) | (1u << 8) | '\t';
        units[16 ^ '\t' ^ 32] = 1u << 31;
        byte[] map = new byte[4 + (4 * units.Length)];
        BinaryPrimitives.WriteInt32LittleEndian(map, 4 * units.Length);
        for (int i = 0; i < units.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(map.AsSpan(4 + (4 * i)), units[i]);
        }

        string json = $$"""{"type":"Precompiled","precompiled_charsmap":"{{Convert.ToBase64String([.. map, .. "_-\0"u8])}}"}""";
        Assert.That(Of(Words(["a_-é"]), json).Normalizer!.Normalize("a\té"), Is.EqualTo("a_-é"));
    }

    [TestCase("\"type\":\"WordLevel\",\"unk_token\":\"?\"", "ab|?|b", "ab", "ab")]
    [TestCase("\"type\":\"WordLevel\",\"unk_token\":\"?\"", "ab|?|b", "abc", "?")]
    [TestCase("\"type\":\"WordPiece\",\"unk_token\":\"?\"", "?|un|##aff|##able|##a", "unaffable", "un|##aff|##able")]
    [TestCase("\"type\":\"WordPiece\",\"unk_token\":\"?\"", "?|un|##aff", "unaffx", "?")] // all of the word
    [TestCase("\"type\":\"WordPiece\",\"unk_token\":\"?\",\"max_input_chars_per_word\":3", "?|é|##é", "éééé", "?")]
    [TestCase("\"type\":\"WordPiece\",\"unk_token\":\"?\",\"continuing_subword_prefix\":\"\"", "?|a", "aa", "a|a")]
    [TestCase("\"type\":\"BPE\",\"merges\":[\"a b\",[\"ab\",\"c\"]],\"dropout\":null", "a|b|c|ab|abc", "abcab", "abc|ab")]
    [TestCase("\"type\":\"BPE\",\"merges\":[],\"unk_token\":\"?\",\"fuse_unk\":true", "a|?", "xxaxy", "?|a|?")]
    [TestCase("\"type\":\"BPE\",\"merges\":[],\"unk_token\":\"?\",\"fuse_unk\":false", "a|?", "xxaxy", "?|?|a|?|?")]
    [TestCase("\"type\":\"BPE\",\"merges\":[],\"ignore_merges\":true", "a|b|ab", "ab", "ab")]
    [TestCase("\"type\":\"BPE\",\"merges\":[]", "a|b|ab", "ab", "a|b")]
    [TestCase("\"type\":\"BPE\",\"merges\":[\"é a\"]", "a|é|éa", "xéax", "éa")] // x is lost
    [TestCase("\"type\":\"BPE\",\"merges\":[\"<0xC3> <0xA9>\"],\"byte_fallback\":true", "a|<0xC3>|<0xA9>|<0xC3><0xA9>", "aé", "a|<0xC3><0xA9>")]
    [TestCase(Bytes, "a|?|<0xC3>|<0xA9>", "aé東", "a|<0xC3>|<0xA9>|?")]
    public void A_model_makes_these_tokens_of_a_word(string model, string vocabulary, string word, string tokens)
    {
        string vocab = string.Join(',', vocabulary.Split('|').Select((x, i) => $"{JsonSerializer.Serialize(x)}:{i}"));
        Tokenizer tokenizer = Of($"{{{model},\"vocab\":{{{vocab}}}}}");
        Assert.That(tokenizer.Encode(word).Select(tokenizer.TokenOf), Is.EqualTo(tokens.Split('|')));
    }

    [Test]
    public void Unigram_finds_the_largest_sum_of_scores_of_all_ways()
    {
        var random = new Random(9);
        for (int round = 0; round < 60; round++)
        {
            var scores = new Dictionary<string, double>(StringComparer.Ordinal)
            {
                ["a"] = -random.NextDouble() * 4,
                ["é"] = -random.NextDouble() * 4,
            };
            while (scores.Count < 8)
            {
                scores.TryAdd(string.Concat(Enumerable.Range(0, random.Next(2, 5)).Select(_ => random.Next(2) == 0 ? 'a' : 'é')),
                    -random.NextDouble() * 8);
            }

            string vocab = string.Join(',', scores.Select(static x => $"[{JsonSerializer.Serialize(x.Key)},{x.Value:R}]").Prepend("[\"<unk>\",0]"));
            Tokenizer tokenizer = Of($$"""{"type":"Unigram","unk_id":0,"vocab":[{{vocab}}]}""");
            string word = string.Concat(Enumerable.Range(0, random.Next(1, 12)).Select(_ => random.Next(2) == 0 ? 'a' : 'é'));
            string[] tokens = [.. tokenizer.Encode(word).Select(tokenizer.TokenOf)];
            Assert.That(string.Concat(tokens), Is.EqualTo(word));
            Assert.That(tokens.Sum(x => scores[x]), Is.EqualTo(Best(word)).Within(1e-12), word);

            double Best(string rest) => rest.Length == 0 ? 0 : scores.Where(x => rest.StartsWith(x.Key, StringComparison.Ordinal))
                .Max(x => x.Value + Best(rest[x.Key.Length..]));
        }
    }

    [Test]
    public void Unigram_takes_neighbouring_unknown_characters_together_or_falls_back_to_bytes()
    {
        const string Pieces = "[\"<unk>\",0],[\"a\",-1],[\"<0xC3>\",-2],[\"<0xA9>\",-2]";
        Assert.That(Of($$"""{"type":"Unigram","unk_id":0,"vocab":[{{Pieces}}]}""").Encode("xyaé"), Is.EqualTo(new[] { 0, 1, 0 }));
        Assert.That(Of($$"""{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[{{Pieces}}]}""").Encode("xyaé"),
            Is.EqualTo(new[] { 0, 1, 2, 3 }));
    }

    [TestCase("null", "a|b", "a b")]
    [TestCase("""{"type":"ByteLevel"}""", "Ġa|Ã|©|Ġ", " aé ")]
    [TestCase("""{"type":"ByteFallback"}""", "a|<0xC3>|<0xA9>|b", "aéb")]
    [TestCase("""{"type":"ByteFallback"}""", "<0xC3>|b|<0xA9>", "\uFFFDb\uFFFD")]
    [TestCase("""{"type":"Fuse"}""", "a|b", "ab")]
    [TestCase("""{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]}""", "<0x41>", "A")]
    [TestCase("""{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]}""", "<0x41>|b", "<0x41>b")] // one token, and no byte
    [TestCase("""{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]}""", "b|<0x41>", "b<0x41>")]
    [TestCase("""{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteLevel"}]}""", "Ġ|a", " a")]
    [TestCase("""{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteLevel"}]}""", "Ġ|東", "Ġ東")] // in the alphabet as a whole or not
    [TestCase("""{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":1}]}""", "  a|b  ", " ab ")]
    [TestCase("""{"type":"Strip","content":"_","start":2,"stop":0}""", "___a|_b", "_ab")]
    [TestCase("""{"type":"Replace","pattern":{"String":"▁"},"content":" "}""", "▁a▁|▁b", " a  b")]
    [TestCase("""{"type":"Replace","pattern":{"Regex":"\\d+"},"content":"#"}""", "12a|3", "#a#")]
    [TestCase("""{"type":"Metaspace","replacement":"▁"}""", "▁a|▁b▁", "a b ")]
    [TestCase("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"never"}""", "▁a|▁b", " a b")]
    [TestCase("""{"type":"WordPiece"}""", "do|##ne|.|it|'s", "done. it's")]
    [TestCase("""{"type":"WordPiece","prefix":"++","cleanup":false}""", "do|++ne|.", "done .")]
    [TestCase("""{"type":"BPEDecoder"}""", "he|y</w>|you</w>", "hey you")]
    [TestCase("""{"type":"BPEDecoder","suffix":"_"}""", "a_|b_", "a b")]
    public void A_decoder_makes_this_text_of_tokens(string decoder, string tokens, string text)
    {
        string[] parts = [.. tokens.Split('|').Distinct(StringComparer.Ordinal)];
        Tokenizer tokenizer = Of(Words(parts), decoder: decoder);
        int[] ids = [.. tokens.Split('|').Select(x => tokenizer.IdOf(x)!.Value)];
        Assert.That(tokenizer.Decode(ids), Is.EqualTo(text));
        TokenStream stream = tokenizer.NewStream();
        Assert.That(string.Concat(ids.Select(stream.Append)) + stream.Flush(), Is.EqualTo(text));
    }

    [TestCase("""{"type":"BertProcessing","sep":["s",1],"cls":["c",0]}""", "0 2 1")]
    [TestCase("""{"type":"RobertaProcessing","sep":["s",1],"cls":["c",0],"trim_offsets":true,"add_prefix_space":false}""", "0 2 1")]
    [TestCase("""{"type":"ByteLevel","trim_offsets":true}""", "2")]
    [TestCase("""{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},{"Sequence":{"id":"A","type_id":0}},"""
        + """{"SpecialToken":{"id":"y","type_id":0}}],"pair":[],"special_tokens":{"x":{"id":"x","ids":[1,"""
        + """0],"tokens":["s","c"]},"y":{"id":"y","ids":[1],"tokens":["s"]}}}""", "1 0 2 1")]
    [TestCase("""{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"BertProcessing","sep":["s",1],"cls":["c",0]},"""
        + """{"type":"BertProcessing","sep":["s",1],"cls":["c",0]}]}""", "0 0 2 1 1")]
    [TestCase("null", "2")]
    public void A_post_processor_puts_these_ids_around_a_text(string postProcessor, string ids)
    {
        Tokenizer tokenizer = Of(Words(["c", "s", "a"]), postProcessor: postProcessor);
        Assert.That(string.Join(' ', tokenizer.Encode("a")), Is.EqualTo(ids));
        Assert.That(tokenizer.EncodeToIds("a"), Is.EqualTo(new[] { 2 }), "the package's encoding has no template");
    }

    [Test]
    public void Truncation_and_padding_are_read_and_not_applied()
    {
        Tokenizer tokenizer = Of(Words(["a"]), preTokenizer: """{"type":"WhitespaceSplit"}""", rest: """
            "truncation":{"direction":"Right","max_length":1,"strategy":"LongestFirst","stride":0},
            "padding":{"strategy":{"Fixed":8},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"a"},
            """);
        Assert.That(tokenizer.Encode("a a a"), Is.EqualTo(new[] { 0, 0, 0 }));
    }

    [TestCase("""{"type":"BPEDecoder","suffix":""}""", "$.decoder.suffix")]
    [TestCase("""{"type":"Metaspace","replacement":"▁","prepend_scheme":"never2"}""", "$.decoder.prepend_scheme")]
    public void A_decoder_that_cannot_be_is_refused_when_it_is_read(string decoder, string path) =>
        Assert.That(() => Of(Words(["a"]), decoder: decoder), Throws.TypeOf<TokenizerException>().With.Property("JsonPath").EqualTo(path));

    [Test]
    public void An_unknown_token_without_text_has_its_place()
    {
        Tokenizer tokenizer = Of("""{"type":"BPE","vocab":{"":0,"a":1},"merges":[],"unk_token":""}""");
        Assert.That(tokenizer.EncodeToTokens("aba", out _).Select(static x => (x.Id, x.Offset)),
            Is.EqualTo(new[] { (1, 0..1), (0, 1..2), (1, 2..3) }));
    }

    [TestCase("normalizer", "Nmt")]
    [TestCase("pre_tokenizer", "UnicodeScripts")]
    [TestCase("post_processor", "TemplateProcessing2")]
    [TestCase("decoder", "CTC")]
    [TestCase("model", "Chars")]
    public void Any_other_kind_is_refused_by_its_name(string section, string kind)
    {
        string json = $"{{\"{section}\":{{\"type\":\"{kind}\"}},\"model\":{Words(["a"])}}}";
        json = section == "model" ? $"{{\"model\":{{\"type\":\"{kind}\"}}}}" : json;
        var error = Assert.Throws<TokenizerException>(() => Tokenizer.Parse(Encoding.UTF8.GetBytes(json)))!;
        Assert.That((error.Code, error.Value), Is.EqualTo((TokenizerError.Unsupported, kind)));
        Assert.That(error.JsonPath, Does.StartWith($"$.{section}"));
    }

    private static string Words(IEnumerable<string> words) =>
        "{\"type\":\"WordLevel\",\"unk_token\":\"[UNK]\",\"vocab\":{"
        + string.Join(',', words.Distinct(StringComparer.Ordinal).Where(static x => x != "<x>")
            .Select((x, i) => $"{JsonSerializer.Serialize(x)}:{i}").Append("\"[UNK]\":901")) + "}}";

    private static Tokenizer Of(
        string model, string normalizer = "null", string preTokenizer = "null", string postProcessor = "null", string decoder = "null",
        string added = "[]", string rest = "") =>
        Tokenizer.Parse(Encoding.UTF8.GetBytes(
            "{" + rest + $"\"version\":\"1.0\",\"added_tokens\":{added},\"normalizer\":{normalizer},\"pre_tokenizer\":{preTokenizer}"
            + $",\"post_processor\":{postProcessor},\"decoder\":{decoder},\"model\":{model}" + "}"));
}
