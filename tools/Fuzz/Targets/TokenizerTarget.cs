using System.Text;
using System.Text.Json;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Tokens;

namespace Tiller.Fuzz.Targets;

/// <summary>tokenizer.json, and a few texts through whatever tokenizer it gives.</summary>
internal sealed class TokenizerTarget(Corpus corpus) : FuzzTarget
{
    private static readonly string[] s_texts = ["", " ", "a", "Hello  world 123", "ab▁ab \u0301é\r\n\t<s>", "日本🚢 don't", new string('a', 300)];

    public override string Name => "tokenizer";

    public override IReadOnlyList<byte[]> Seeds { get; } = [.. corpus.SmallTokenizers()];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "\"type\":\"Sequence\"", "\"normalizers\":", "\"pretokenizers\":", "\"decoders\":", "\"processors\":", "\"BPE\"", "\"ByteLevel\"",
        "\"Metaspace\"", "\"Split\"", "\"Replace\"", "\"Prepend\"", "\"Strip\"", "\"Fuse\"", "\"ByteFallback\"", "\"NFC\"", "\"NFKC\"",
        "\"TemplateProcessing\"", "\"String\":\"\"", "\"content\":\"\"", "\"replacement\":\"\"", "\"unk_token\":\"a\"",
        "\"Unigram\"", "\"WordPiece\"", "\"WordLevel\"", "\"Digits\"", "\"Punctuation\"", "\"Whitespace\"", "\"WhitespaceSplit\"",
        "\"BertPreTokenizer\"", "\"CharDelimiterSplit\"", "\"BertNormalizer\"", "\"NFD\"", "\"NFKD\"", "\"Lowercase\"", "\"StripAccents\"",
        "\"Precompiled\"", "\"BPEDecoder\"", "\"BertProcessing\"", "\"RobertaProcessing\"", "\"Regex\":\"\\\\s+|(?<=a)\"", "\"byte_fallback\":true",
        "\"ignore_merges\":true", "\"fuse_unk\":true", "\"lstrip\":true", "\"rstrip\":true", "\"single_word\":true", "\"normalized\":true", "null",
        "true", "[]", "{}", "\\ud800",
    }.Select(Encoding.UTF8.GetBytes)];

    public override Gen<byte[]> Structure { get; } = Tokenizers().Bytes();

    public override void Read(byte[] input)
    {
        Tokenizer tokenizer = Tokenizer.Parse(input);
        foreach (string text in s_texts)
        {
            try
            {
                int[] ids = tokenizer.Encode(text, addSpecial: true, parseSpecial: true);
                Promise(ids.All(id => id >= 0 && id < tokenizer.VocabularySize), "ids lie in the vocabulary");
                _ = tokenizer.Decode(ids);
                ids = tokenizer.Encode(text, addSpecial: false);

                // The vocabularies of the other kinds of model have special tokens among their own, and upstream finds them in plain text.
                Promise(!tokenizer.HidesSpecial || !ids.Any(id => id != tokenizer.UnknownId && tokenizer.IsSpecial(id)),
                    "plain text gives no special id");
                TokenStream stream = tokenizer.NewStream(skipSpecial: false);
                Promise(string.Concat(ids.Select(stream.Append)) + stream.Flush() == tokenizer.Decode(ids), "pieces join to the text");
            }
            catch (TokenizerException e) when (e.Code is TokenizerError.UnknownToken or TokenizerError.Limit)
            {
                // A vocabulary may lack characters, and an expression may take exponential time.
            }
        }
    }

    private static Gen<string> Tokenizers()
    {
        Gen<string> str = HostileJson.One("\" \"", "\"▁\"", "\"a\"", "\"ab\"", "\"\"");
        Gen<string> flag = HostileJson.One("true", "false");
        Gen<string> pattern =
            HostileJson.Mostly(Gen.OneOf(HostileJson.Object(("String", str)),
                HostileJson.Object(("Regex", HostileJson.One("\"[ab]+\"", "\"\\\\s*\"", "\"(?=a)|b\"", "\"a++\"", "\"\\\\p{L}{2,}\"")))));
        Gen<string> replace = HostileJson.Object(("type", Gen.Constant("\"Replace\"")), ("pattern", pattern), ("content", str));
        Gen<string> metaspace = HostileJson.Object(
            ("type", Gen.Constant("\"Metaspace\"")), ("replacement", HostileJson.One("\"▁\"", "\"\"", "\"ab\"")),
            ("prepend_scheme", HostileJson.One("\"first\"", "\"always\"", "\"never\"")), ("split", flag));
        Gen<string> byteLevel = HostileJson.Object(("type", Gen.Constant("\"ByteLevel\"")), ("add_prefix_space", flag), ("use_regex", flag));
        Gen<string> split = HostileJson.Object(("type", Gen.Constant("\"Split\"")), ("pattern", pattern),
            ("behavior", HostileJson.One("\"MergedWithPrevious\"", "\"Isolated\"", "\"MergedWithNext\"", "\"Removed\"", "\"Contiguous\"")),
            ("invert", flag));
        Gen<string> prepend = HostileJson.Object(("type", Gen.Constant("\"Prepend\"")), ("prepend", str));
        Gen<string> strip = HostileJson.Object(("type", Gen.Constant("\"Strip\"")), ("content", str), ("start", HostileJson.Whole(0, 3)),
            ("stop", HostileJson.Whole(0, 3)));
        Gen<string> bare = HostileJson.One("{\"type\":\"NFC\"}", "{\"type\":\"NFKC\"}", "{\"type\":\"Fuse\"}", "{\"type\":\"ByteFallback\"}",
            "{\"type\":\"WordPiece\"}", "{\"type\":\"BPEDecoder\"}", "{\"type\":\"NFD\"}", "{\"type\":\"NFKD\"}", "{\"type\":\"Lowercase\"}",
            "{\"type\":\"StripAccents\"}", "{\"type\":\"BertNormalizer\"}", "{\"type\":\"ByteLevel\"}");
        Gen<string> splits = HostileJson.One("{\"type\":\"Digits\"}", "{\"type\":\"Punctuation\"}", "{\"type\":\"Whitespace\"}",
            "{\"type\":\"WhitespaceSplit\"}", "{\"type\":\"BertPreTokenizer\"}", "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"a\"}");
        Gen<string> OneOrMore(string plural, params Gen<string>[] parts) => HostileJson.Mostly(Gen.Frequency(
            (2, Gen.Constant("null")), (2, Gen.OneOf(parts)),
            (3, HostileJson.List(Gen.OneOf(parts), 4).Select(l => $"{{\"type\":\"Sequence\",\"{plural}\":{l}}}"))));
        Gen<string> added = HostileJson.Object(
            ("id", HostileJson.Whole(0, 12)), ("content", HostileJson.One("\"<s>\"", "\"a\"", "\"ab\"", "\"\"", "\"▁\"", "\"ﬁ\"", "\"fi\"")),
            ("special", flag), ("normalized", flag), ("lstrip", flag), ("rstrip", flag), ("single_word", flag));
        Gen<string> template = HostileJson.Object(
            ("type", Gen.Constant("\"TemplateProcessing\"")),
            ("single", HostileJson.List(Gen.Elements("{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}",
                "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"), 3)),
            ("special_tokens", HostileJson.Object(("<s>", HostileJson.Object(("ids", HostileJson.List(HostileJson.Whole(0, 9), 2)))))));
        Gen<string> model = HostileJson.Object(
            ("type", HostileJson.One("\"BPE\"", "\"WordPiece\"", "\"WordLevel\"")), ("vocab", HostileJson.Mostly(Vocabulary())),
            ("merges", HostileJson.List(HostileJson.One("[\"a\",\"b\"]", "\"a b\"", "[\"ab\",\"ab\"]", "[\"▁\",\"a\"]", "[\"b\",\"b\"]"), 5)),
            ("unk_token", HostileJson.One("\"?\"", "null")), ("byte_fallback", flag), ("fuse_unk", flag), ("ignore_merges", flag),
            ("dropout", HostileJson.One("null", "0")));
        Gen<string> unigram = HostileJson.Object(
            ("type", Gen.Constant("\"Unigram\"")), ("unk_id", HostileJson.Whole(0, 2)), ("byte_fallback", flag),
            ("vocab", HostileJson.One("[[\"?\",0],[\"a\",-1],[\"b\",-2.5],[\"ab\",-3],[\"▁\",-1],[\"▁a\",-1.5]]",
                "[[\"?\",0],[\"<s>\",0],[\"aa\",-1]]")));
        return HostileJson.Object(
            ("version", HostileJson.One("\"1.0\"")), ("added_tokens", HostileJson.List(HostileJson.Mostly(added), 3)),
            ("normalizer", OneOrMore("normalizers", replace, prepend, bare)),
            ("pre_tokenizer", OneOrMore("pretokenizers", metaspace, byteLevel, split, splits)), ("post_processor", OneOrMore("processors", template)),
            ("decoder", OneOrMore("decoders", replace, metaspace, byteLevel, strip, bare)),
            ("model", HostileJson.Mostly(Gen.Frequency((4, model), (1, unigram)))));
    }

    // A few characters, at times with all bytes in the one or the other writing.
    private static Gen<string> Vocabulary()
    {
        string few = "\"?\":0,\"a\":1,\"b\":2,\"ab\":3,\"▁\":4,\"▁a\":5,\"bb\":6,\"abab\":7,\"<s>\":8,\" \":9";
        string bytes = string.Join(',', Enumerable.Range(0, 256).Select(b => $"\"<0x{b:X2}>\":{b + 20}"));
        return Gen.Elements($"{{{few}}}", $"{{{few},{bytes}}}", Level());
    }

    private static string Level()
    {
        string[] tokens = [.. Enumerable.Range(0, 256).Select(b => ByteAlphabet.CharOf((byte)b).ToString()), "ab", "bb", "abab", "<s>"];
        return $"{{{string.Join(',', tokens.Select((t, i) => $"\"{JsonEncodedText.Encode(t)}\":{i}"))}}}";
    }
}
