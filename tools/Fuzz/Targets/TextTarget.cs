using System.Runtime.InteropServices;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Tokens;

namespace Tiller.Fuzz.Targets;

/// <summary>
/// Prompt text through the goldens' tokenizers. The first byte picks one of them and how the rest is taken: as UTF-8, as UTF-16 with
/// whatever surrogates come, or as ids.
/// </summary>
internal sealed class TextTarget(Corpus corpus) : FuzzTarget
{
    private readonly (Tokenizer Tokenizer, bool Exact)[] _tokenizers = [.. corpus.Checkpoints.Select(f => (Tokenizer.Load(f), Exact(f)))];

    public override string Name => "text";

    public override IReadOnlyList<byte[]> Seeds { get; } =
        [.. Enumerable.Range(0, 64).Select(i => (byte[])[(byte)i, .. Encoding.UTF8.GetBytes(Texts[i % Texts.Length])])];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "<s>", "</s>", "<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<bos>", "[INST]", "<0x41>", "▁", "Ġ", " ", "  ", "\r\n", "\t", "'s", "'RE",
        "\u0301", "\u200d", "\u3000", "\u202e", "\0", "é", "ﬁ", "東京", "🚢", "👩‍👩‍👧", "123456", "...", "\ufeff", "\ufffd",
    }.Select(Encoding.UTF8.GetBytes), [0xED, 0xA0, 0x80], [0x00, 0xD8], [0xC0, 0xAF]];

    public override Gen<byte[]> Structure { get; } = Gen.Choose(0, 255).Zip(
        Gen.ListOf(Gen.Frequency(
            (4, Gen.Choose(0x20, 0x7E).Select(c => ((char)c).ToString())), (2, Gen.Elements(Texts)),
            (2, Gen.Choose(0, 0x10FFFF).Where(Rune.IsValid).Select(c => new Rune(c).ToString())),
            (1, Gen.Choose(0, 0x2FF).Select(c => ((char)c).ToString())),
            (1, Gen.Choose(1, 200).Zip(Gen.Elements('a', ' ', '\n', '7', '\u0301', '東'), (n, c) => new string(c, n))))),
        (first, parts) => (byte[])[(byte)first, .. Encoding.UTF8.GetBytes(string.Concat(parts))]);

    private static string[] Texts { get; } =
        ["Once upon a time", "The captain's ship — 1,234 waves!\n\n  It  sank.", "<s>[INST] hi [/INST]", "<|im_start|>user\nhi<|im_end|>\n",
            "日本語のテキスト", "a\u0301\u0302 ﬁ Å", "don't WE'LL I'M"];

    public override void Read(byte[] input)
    {
        if (input.Length == 0)
        {
            return;
        }

        (Tokenizer tokenizer, bool exact) = _tokenizers[input[0] % _tokenizers.Length];
        ReadOnlySpan<byte> rest = input.AsSpan(1);
        int way = input[0] / _tokenizers.Length;
        if (way % 4 == 0)
        {
            Decode(tokenizer, rest);
            return;
        }

        string text = way % 4 == 1 ? new string(MemoryMarshal.Cast<byte, char>(rest)) : Encoding.UTF8.GetString(rest);
        int[] plain = tokenizer.Encode(text, addSpecial: false);
        Promise(!plain.Any(id => id != tokenizer.UnknownId && tokenizer.IsSpecial(id)), "plain text gives no special id");
        Promise(!exact || tokenizer.Decode(plain) == text, "decoding gives the text back");
        int[] parsed = tokenizer.Encode(text, addSpecial: true, parseSpecial: true);
        Promise(parsed.All(id => id >= 0 && id < tokenizer.VocabularySize), "ids lie in the vocabulary");
        _ = tokenizer.Decode(parsed, skipSpecial: true);
    }

    private static void Decode(Tokenizer tokenizer, ReadOnlySpan<byte> bytes)
    {
        int[] ids = [.. MemoryMarshal.Cast<byte, short>(bytes).ToArray().Select(x => (int)x)];
        TokenStream stream = tokenizer.NewStream(skipSpecial: false);
        Promise(string.Concat(ids.Select(stream.Append)) + stream.Flush() == tokenizer.Decode(ids), "pieces join to the text");
    }

    // Byte-level and without a normalizer: no text is changed.
    private static bool Exact(string checkpoint)
    {
        using var json = System.Text.Json.JsonDocument.Parse(File.ReadAllBytes(Path.Combine(checkpoint, "tokenizer.json")));
        return json.RootElement.GetProperty("decoder").GetProperty("type").GetString() == "ByteLevel"
            && json.RootElement.GetProperty("normalizer").ValueKind == System.Text.Json.JsonValueKind.Null;
    }
}
