using System.Text;
using System.Text.Json.Nodes;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>Malformed tokenizer.json files: each is refused with its code, or accepted where that is the rule.</summary>
internal sealed class HostileTokenizerTests
{
    private const string Good = """
        {"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":4,"content":"<s>","special":true,"normalized":false}],
         "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":{"type":"Fuse"},
         "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"?":3},"merges":[["a","b"]],"unk_token":"?"}}
        """;

    private static IEnumerable<TestCaseData> Bad()
    {
        static TestCaseData Row(string name, TokenizerError code, string json)
            => new TestCaseData(Encoding.UTF8.GetBytes(json), code).SetArgDisplayNames(name);
        static TestCaseData With(string name, TokenizerError code, string path, string value)
        {
            JsonNode root = JsonNode.Parse(Good)!;
            string[] parts = path.Split('.');
            JsonNode at = root;
            foreach (string part in parts[..^1])
            {
                at = at[part]!;
            }

            at[parts[^1]] = JsonNode.Parse(value);
            return Row(name, code, root.ToJsonString());
        }

        static TestCaseData Vocabulary(string name, TokenizerError code, string text) =>
            Row(name, code, Good.Replace("\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"?\":3}", $"\"vocab\":{{{text}}}", StringComparison.Ordinal));

        string deep = string.Concat(Enumerable.Repeat("{\"type\":\"Sequence\",\"normalizers\":[", 10_000))
            + string.Concat(Enumerable.Repeat("]}", 10_000));
        string sixth = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a+)\\\\1\"},\"behavior\":\"Isolated\",\"invert\":false}";

        yield return With("27 version", TokenizerError.Unsupported, "version", "\"2.0\"");
        yield return Row("28 no model", TokenizerError.Schema, "{\"version\":\"1.0\"}");
        yield return With("28 no vocab", TokenizerError.MissingVocabulary, "model", "{\"type\":\"BPE\",\"merges\":[]}");
        yield return With("28 no merges", TokenizerError.MissingVocabulary, "model", "{\"type\":\"BPE\",\"vocab\":{}}");
        yield return With("28 model type", TokenizerError.Unsupported, "model.type", "\"Trigram\"");
        yield return Vocabulary("29 same token twice", TokenizerError.Duplicate, "\"a\":0,\"b\":1,\"ab\":2,\"?\":3,\"\\u0061\":9");
        yield return Vocabulary("30 same id twice", TokenizerError.Duplicate, "\"a\":0,\"b\":1,\"ab\":2,\"?\":2");
        yield return Vocabulary("31 id -1", TokenizerError.Range, "\"a\":-1,\"b\":1,\"ab\":2,\"?\":3");
        yield return Vocabulary("31 id 1.5", TokenizerError.Range, "\"a\":1.5,\"b\":1,\"ab\":2,\"?\":3");
        yield return Vocabulary("31 id 2^32", TokenizerError.Range, "\"a\":4294967296,\"b\":1,\"ab\":2,\"?\":3");
        yield return Vocabulary("31 id as text", TokenizerError.Schema, "\"a\":\"0\",\"b\":1,\"ab\":2,\"?\":3");
        yield return With("32 part not in vocabulary", TokenizerError.MergeTokenOutOfVocabulary, "model.merges", "[[\"a\",\"c\"]]");
        yield return With("33 result not in vocabulary", TokenizerError.MergeOutOfVocabulary, "model.merges", "[[\"b\",\"a\"]]");
        yield return With("34 prefix", TokenizerError.Unsupported, "model.continuing_subword_prefix", "\"####\"");
        yield return With("35 suffix", TokenizerError.Unsupported, "model.end_of_word_suffix", "\"é\"");
        yield return With("36 three parts", TokenizerError.BadMerge, "model.merges", "[\"a b c\"]");
        yield return With("36 one part", TokenizerError.BadMerge, "model.merges", "[\"a\"]");
        yield return With("36 empty", TokenizerError.BadMerge, "model.merges", "[\"\"]");
        yield return With("36 empty part", TokenizerError.BadMerge, "model.merges", "[[\"a\",\"\"]]");
        yield return With("36 three in a list", TokenizerError.BadMerge, "model.merges", "[[\"a\",\"b\",\"a\"]]");
        yield return With("36 a number", TokenizerError.BadMerge, "model.merges", "[7]");
        yield return With("38 dropout 1.5", TokenizerError.InvalidDropout, "model.dropout", "1.5");
        yield return With("38 dropout -0.1", TokenizerError.InvalidDropout, "model.dropout", "-0.1");
        yield return With("38 dropout 0.1", TokenizerError.Unsupported, "model.dropout", "0.1");
        yield return With("39 unknown token", TokenizerError.UnknownToken, "model.unk_token", "\"<unk>\"");
        yield return With("42 other id", TokenizerError.AddedTokenMismatch, "added_tokens", "[{\"id\":7,\"content\":\"a\",\"special\":true}]");
        yield return With("42 taken id", TokenizerError.Duplicate, "added_tokens", "[{\"id\":0,\"content\":\"<s>\",\"special\":true}]");
        yield return With("45 same when normalised", TokenizerError.Duplicate, "normalizer", "{\"type\":\"NFKC\"}").WithAdded("ﬁ", "fi");
        yield return With("46 expression that .NET means otherwise", TokenizerError.Unsupported, "pre_tokenizer", sixth);
        yield return Row("47 nested", TokenizerError.Json, Good.Replace("\"normalizer\":null", $"\"normalizer\":{deep}", StringComparison.Ordinal));
        yield return With("47 growth", TokenizerError.Limit, "normalizer",
            "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaaa\"}");
        yield return With("47 prepend", TokenizerError.Limit, "normalizer", $"{{\"type\":\"Prepend\",\"prepend\":\"{new string('a', 100)}\"}}");
        yield return With("47 precompiled", TokenizerError.Unsupported, "normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!\"}");
        string replacing = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaa\"}";
        string steps = string.Join(',', Enumerable.Repeat("{\"type\":\"NFC\"}", 65));
        yield return With("47 many steps", TokenizerError.Limit, "normalizer", $"{{\"type\":\"Sequence\",\"normalizers\":[{steps}]}}");
        yield return With("47 growth of the decoder", TokenizerError.Limit, "decoder",
            $"{{\"type\":\"Sequence\",\"decoders\":[{replacing},{replacing}]}}");
        yield return With("47 many steps of the decoder", TokenizerError.Limit, "decoder",
            $"{{\"type\":\"Sequence\",\"decoders\":[{string.Join(',', Enumerable.Repeat("{\"type\":\"Fuse\"}", 65))}]}}");
        yield return With("41 strip nothing", TokenizerError.Schema, "decoder",
            "{\"type\":\"Strip\",\"content\":\"\",\"start\":2147483647,\"stop\":0}");
        yield return With("41 empty mark", TokenizerError.Schema, "decoder", "{\"type\":\"Metaspace\",\"replacement\":\"\"}");
        yield return With("41 two marks", TokenizerError.Schema, "decoder", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}");
        yield return With("43 long content", TokenizerError.Limit, "added_tokens", $"[{{\"id\":50,\"content\":\"{new string('x', 1025)}\"}}]");
        yield return With("48 many ids", TokenizerError.Limit, "post_processor",
            $"{{\"type\":\"TemplateProcessing\",\"single\":["
            + $"{string.Join(',', Enumerable.Repeat("{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}", 70))},"
            + $"{{\"Sequence\":{{\"id\":\"A\",\"type_id\":0}}}}],"
            + $"\"special_tokens\":{{\"<s>\":{{\"ids\":[{string.Join(',', Enumerable.Repeat("4", 70))}]}}}}}}");
        yield return With("46 invalid expression", TokenizerError.Unsupported, "pre_tokenizer",
            "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"([\"},\"behavior\":\"Isolated\"}");
        yield return With("48 template", TokenizerError.MissingSpecialToken, "post_processor",
            "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
            + "\"type_id\":0}}],\"special_tokens\":{}}");
        yield return With("49 truncation 0", TokenizerError.Range, "truncation", "{\"max_length\":0}");
        yield return With("49 truncation 2^63", TokenizerError.Range, "truncation", "{\"max_length\":9223372036854775808}");
        yield return With("49 padding", TokenizerError.Range, "padding", "{\"strategy\":{\"Fixed\":0}}");
        yield return Row("empty file", TokenizerError.Json, "");
        yield return Row("array", TokenizerError.Schema, "[]");
        yield return Row("cut short", TokenizerError.Json, Good[..^3]);
        yield return Row("two values", TokenizerError.Json, Good + "{}");
        yield return Row("key twice", TokenizerError.Duplicate, Good.Replace("\"padding\":null", "\"version\":\"1.0\"", StringComparison.Ordinal));
        yield return Row("nested key twice", TokenizerError.Duplicate,
            Good.Replace("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\",\"t\\u0079pe\":\"NFKC\"}", StringComparison.Ordinal));
        yield return Row("byte order mark", TokenizerError.Json, "\ufeff" + Good);
        yield return Row("lone surrogate", TokenizerError.Json, Good.Replace("\"?\":3", "\"?\":3,\"\\ud800\":8", StringComparison.Ordinal));
        yield return new TestCaseData(Encoding.Latin1.GetBytes(Good.Replace("\"ab\"", "\"é\"", StringComparison.Ordinal)),
            TokenizerError.Json).SetArgDisplayNames("invalid UTF-8");
    }

    [TestCaseSource(nameof(Bad))]
    public void Refused_with_its_code(byte[] json, TokenizerError code)
    {
        TokenizerException error = Assert.Throws<TokenizerException>(() => Tokenizer.Parse(json))!;
        Assert.That(error.Code, Is.EqualTo(code), error.Message);
        Assert.That(error.Value?.Length ?? 0, Is.LessThanOrEqualTo(200));
    }

    [Test]
    public void The_good_file_these_are_made_from_is_accepted()
    {
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(Good));
        Assert.That(tokenizer.Encode("abaxx"), Is.EqualTo(new[] { 2, 0, 3, 3 }));
        Assert.That(tokenizer.VocabularySize, Is.EqualTo(5));
    }

    // docs/hostile-inputs.md §3c, row 40: a byte-level vocabulary, and one with byte fallback, that lack 0xA9, the second byte of é.
    private static IEnumerable<string> LackingBytes()
    {
        yield return $$$"""
            {"version":"1.0","pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},"decoder":{"type":"ByteLevel"},
             "model":{"type":"BPE","vocab":{{{{string.Join(',', Enumerable.Range(0, 256).Where(static x => x != 0xA9)
                .Select(static x => $"{System.Text.Json.JsonSerializer.Serialize(ByteAlphabet.CharOf((byte)x).ToString())}:{x}"))}}}},"merges":[]}}
            """;
        yield return Good.Replace("\"?\":3}", "\"?\":3,"
            + string.Join(',', Enumerable.Range(0, 256).Where(static x => x != 0xA9).Select(static x => $"\"<0x{x:X2}>\":{x + 10}")) + "}",
            StringComparison.Ordinal)
            .Replace("\"id\":4", "\"id\":999", StringComparison.Ordinal)
            .Replace("\"unk_token\":\"?\"", "\"byte_fallback\":true", StringComparison.Ordinal);
        yield return Good.Replace("\"unk_token\":\"?\"", "\"unk_token\":null", StringComparison.Ordinal);
    }

    [TestCaseSource(nameof(LackingBytes))]
    public void Row40_a_byte_without_a_token_is_left_out_and_told(string json)
    {
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json));
        var told = new List<string>();
        tokenizer.Lost = text => told.Add(text.Dropped);
        foreach (string text in new[] { "aéb", "éé", "aéb", "aéb aéb aéb" })
        {
            EncodedText encoded = tokenizer.EncodeText(text);
            Assert.That(encoded.Dropped.Replace(" ", "", StringComparison.Ordinal), Is.EqualTo(string.Concat(text.Where(static c => c == 'é'))),
                "also in a word that was met before");
            Assert.That(encoded.Ids, Is.EqualTo(tokenizer.Encode(text)));
            Assert.That(tokenizer.Decode(encoded.Ids), Does.Not.Contain("é"));
        }

        Assert.That(told, Has.Count.EqualTo(8));
        Assert.That(tokenizer.EncodeText("ab").Dropped, Is.Empty);
        Assert.That(tokenizer.Decode(tokenizer.Encode("ab")), Is.EqualTo("ab"));
        Assert.That(told, Has.Count.EqualTo(8));
    }

    [TestCaseSource(nameof(LackingBytes))]
    public void Row40_a_strict_tokenizer_refuses_a_text_that_would_lose_a_byte_and_no_other(string json)
    {
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json)).ToStrict();
        TokenizerException error = Assert.Throws<TokenizerException>(() => tokenizer.Encode("aéb"))!;
        Assert.That(error.Code, Is.EqualTo(TokenizerError.MissingByte));
        Assert.That(error.Value, Is.EqualTo("é"));
        Assert.That(tokenizer.Decode(tokenizer.Encode("ab")), Is.EqualTo("ab"));
        Assert.That(Assert.Throws<TokenizerException>(() => tokenizer.ForEmbedding(10_000).Encode("é"))!.Code,
            Is.EqualTo(TokenizerError.MissingByte));
    }

    [Test]
    public void Missing_file_is_an_io_error() =>
        Assert.That(Assert.Throws<TokenizerException>(() => Tokenizer.Load(Repository.Path("no", "such", "folder")))!.Code,
            Is.EqualTo(TokenizerError.Io));

    [Test]
    [Platform(Exclude = "Win", Reason = "there are no named pipes in folders")]
    public void A_folder_or_pipe_is_an_io_error_and_not_waited_for()
    {
        using var folder = new Checkpoint.TemporaryFolder();
        string path = folder["tokenizer.json"];
        Directory.CreateDirectory(path);
        Assert.That(Assert.Throws<TokenizerException>(() => Tokenizer.Load(folder.Path))!.Code, Is.EqualTo(TokenizerError.Io));
        Directory.Delete(path);
        using (var fifo = System.Diagnostics.Process.Start("mkfifo", [path]))
        {
            fifo.WaitForExit();
        }

        var error = Patience.Returns(() => Assert.Throws<TokenizerException>(() => Tokenizer.Load(folder.Path)));
        Assert.That(error!.Code, Is.EqualTo(TokenizerError.Io), "a pipe is not waited for");
        File.Delete(path);
        using (FileStream large = File.Create(path))
        {
            large.SetLength((128 << 20) + 1);
        }

        Assert.That(Assert.Throws<TokenizerException>(() => Tokenizer.Load(folder.Path))!.Code, Is.EqualTo(TokenizerError.Limit));
    }

    [Test]
    public void Last_rank_of_a_repeated_merge_counts_and_is_reported()
    {
        string json = Good.Replace("\"ab\":2", "\"ab\":2,\"bb\":9", StringComparison.Ordinal)
            .Replace("[[\"a\",\"b\"]]", "[[\"a\",\"b\"],[\"b\",\"b\"],[\"a\",\"b\"]]", StringComparison.Ordinal);
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json));
        Assert.That(tokenizer.Encode("abb"), Is.EqualTo(new[] { 0, 9 }));
        Assert.That(tokenizer.Warnings, Has.Count.EqualTo(1));
    }

    [Test]
    public void A_merge_that_makes_a_special_token_is_left_out_and_reported()
    {
        string json = Good.Replace("{\"id\":4,\"content\":\"<s>\"", "{\"id\":2,\"content\":\"ab\"", StringComparison.Ordinal);
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json));
        Assert.That(tokenizer.Encode("ab"), Is.EqualTo(new[] { 0, 1 }));
        Assert.That(tokenizer.Encode("ab", parseSpecial: true), Is.EqualTo(new[] { 2 }));
        Assert.That(tokenizer.Warnings, Has.Count.EqualTo(1));
    }

    [Test]
    public void Legacy_merges_and_a_model_without_type_are_read()
    {
        string json = Good.Replace("[[\"a\",\"b\"]]", "[\"#version: 0.2\",\"a b\"]", StringComparison.Ordinal)
            .Replace("\"type\":\"BPE\",", "", StringComparison.Ordinal);
        Assert.That(Tokenizer.Parse(Encoding.UTF8.GetBytes(json)).Encode("ab"), Is.EqualTo(new[] { 2 }));
    }

    [Test]
    public void Empty_added_token_is_ignored()
    {
        string json = Good.Replace("\"<s>\"", "\"\"", StringComparison.Ordinal);
        Assert.That(Tokenizer.Parse(Encoding.UTF8.GetBytes(json)).VocabularySize, Is.EqualTo(4));
    }

    [Test]
    public void An_id_of_the_vocabulary_beyond_the_embedding_is_refused()
    {
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(Good));
        Assert.That(tokenizer.ForEmbedding(5).Encode("<s>ab", parseSpecial: true), Is.EqualTo(new[] { 4, 2 }));
        var error = Assert.Throws<TokenizerException>(() => tokenizer.ForEmbedding(3))!;
        Assert.That((error.Code, error.Value), Is.EqualTo((TokenizerError.Range, "3")));
        Assert.That(error.Message, Does.Contain("3 rows"));
    }

    // "<s>" has id 4. A special token is in no plain text, one that is not special may be; a template puts its token into every text.
    [TestCase(null, null, "<s>ab", "ab")]
    [TestCase("\"special\":true", "\"special\":false", null, "ab")]
    public void An_added_token_beyond_the_embedding_is_refused_only_in_a_text_that_needs_it(string? old, string? changed, string? special,
        string plain)
    {
        string json = old is null ? Good : Good.Replace(old, changed, StringComparison.Ordinal);
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json)).ForEmbedding(4);
        Assert.That(tokenizer.VocabularySize, Is.EqualTo(5));
        Assert.That(tokenizer.Encode(plain), Is.EqualTo(new[] { 2 }));
        var error = Assert.Throws<TokenizerException>(() => tokenizer.Encode("ab<s>", parseSpecial: special is not null))!;
        Assert.That((error.Code, error.Value), Is.EqualTo((TokenizerError.Range, "<s>")));
        Assert.That(error.Message, Does.Contain("4 rows"));
        Assert.That(tokenizer.Encode(plain), Is.EqualTo(new[] { 2 }), "the tokenizer is as before");
        Assert.That(tokenizer.Decode([2, 4]), Is.EqualTo("ab<s>"));
    }

    [Test]
    public void A_template_that_needs_a_token_beyond_the_embedding_is_refused_with_every_text_and_not_without()
    {
        string json = Good.Replace("\"post_processor\":null", "\"post_processor\":" +
            """{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},"""
                + """{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[4],"tokens":["<s>"]}}}""",
                StringComparison.Ordinal);
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json)).ForEmbedding(4);
        Assert.That(Assert.Throws<TokenizerException>(() => tokenizer.Encode("ab"))!.Code, Is.EqualTo(TokenizerError.Range));
        Assert.That(tokenizer.Encode("ab", addSpecial: false), Is.EqualTo(new[] { 2 }));
    }

    [TestCase("<0xE5><0x8F>", "\uFFFD\uFFFD")]
    [TestCase("<0xE5><0x8F><0xAB>", "叫")]
    [TestCase("<0xZZ>", "<0xZZ>")]
    [TestCase("<0x+F>", "<0x+F>")]
    [TestCase("<0xE5>a", "\uFFFDa")]
    public void Byte_tokens_decode_as_whole_runs(string tokens, string expected)
    {
        string[] names = ["<0xE5>", "<0x8F>", "<0xAB>", "<0xZZ>", "<0x+F>", "a", "?"];
        string vocabulary = string.Join(',', names.Select(static (x, i) => $"\"{x}\":{i}"));
        string model = $$$"""{"type":"BPE","vocab":{{{{vocabulary}}}},"merges":[],"unk_token":"?"}""";
        string json = $$$"""{"version":"1.0","model":{{{model}}},"decoder":{"type":"ByteFallback"}}""";
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json));
        int[] ids = [.. tokens.Replace(">", ">|", StringComparison.Ordinal).Split('|', StringSplitOptions.RemoveEmptyEntries)
            .Select(x => tokenizer.IdOf(x)!.Value)];
        Assert.That(tokenizer.Decode(ids), Is.EqualTo(expected));
    }

    [Test]
    public void Half_a_surrogate_pair_is_refused()
    {
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(Good));
        Assert.That(Assert.Throws<TokenizerException>(() => tokenizer.Encode("a\ud800"))!.Code, Is.EqualTo(TokenizerError.InvalidText));
    }
}

/// <summary>Adds tokens to the file of a case.</summary>
internal static class HostileCases
{
    public static TestCaseData WithAdded(this TestCaseData data, params string[] contents)
    {
        JsonNode root = JsonNode.Parse((byte[])data.Arguments[0]!)!;
        root["added_tokens"] =
            new JsonArray([.. contents.Select(static (x, i) => (JsonNode)new JsonObject
            {
                ["id"] = 50 + i,
                ["content"] = x,
                ["normalized"] = true,
                ["special"] = false,
            })]);
        return new TestCaseData(Encoding.UTF8.GetBytes(root.ToJsonString()), data.Arguments[1]).SetArgDisplayNames("45 same when normalised");
    }
}
