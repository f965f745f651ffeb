using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.ML.Tokenizers;
using Tiller.Tokens;
using PackageTokenizer = Microsoft.ML.Tokenizers.Tokenizer;
using Tokenizer = Tiller.Tokens.Tokenizer;

namespace Tiller.Tests.Tokens;

/// <summary>The tokenizer as one of Microsoft.ML.Tokenizers, over every tokens.json; and beside that package's own where that is right.</summary>
internal sealed class PackageTokenizerTests
{
    private static readonly Cut[] s_cuts = [new(1), new(2), new(3), new(7), new(40)];

    private static IEnumerable<TestCaseData> Goldens =>
        Repository.Goldens.Select(static x => new TestCaseData(Path.Combine(x, "checkpoint"), x, false).SetArgDisplayNames(Path.GetFileName(x)))
            .Concat(GoldenTokensTests.Shared.Select(static x => new TestCaseData(x.Tokenizer, x.Golden, true).SetArgDisplayNames(x.Golden)));

    [TestCaseSource(nameof(Goldens))]
    public void Ids_counts_and_texts_are_those_of_the_goldens(string folder, string golden, bool shared)
    {
        PackageTokenizer tokenizer = Load(folder, shared);
        Assert.Multiple(() =>
        {
            foreach ((string text, int[] literal, string decoded) in Entries(golden, shared))
            {
                Assert.That(tokenizer.EncodeToIds(text), Is.EqualTo(literal), text);
                Assert.That(tokenizer.EncodeToIds(text.AsSpan()), Is.EqualTo(literal), text);
                Assert.That(tokenizer.CountTokens(text), Is.EqualTo(literal.Length), text);
                Assert.That(tokenizer.CountTokens(text.AsSpan()), Is.EqualTo(literal.Length), text);
                Assert.That(tokenizer.Decode(literal), Is.EqualTo(decoded), text);
            }
        });
    }

    [TestCaseSource(nameof(Goldens))]
    public void Places_tile_the_normalised_text(string folder, string golden, bool shared)
    {
        Tokenizer tokenizer = Load(folder, shared);
        bool byteLevel = IsByteLevel(folder, shared);
        foreach ((string text, int[] literal, _) in Entries(golden, shared))
        {
            IReadOnlyList<EncodedToken> tokens = tokenizer.EncodeToTokens(text, out string? normalized);
            Assert.That(tokens.Select(static x => x.Id), Is.EqualTo(literal), text);
            Assert.That(tokens.Select(static x => x.Value), Is.EqualTo(literal.Select(tokenizer.TokenOf)), text);
            Assert.That(normalized, Is.EqualTo(tokenizer.Normalizer?.Normalize(text)), text);
            string whole = normalized ?? text;
            string dropped = tokenizer.EncodeText(text, addSpecial: false).Dropped;
            bool[] wanted = Covered(tokenizer, whole, dropped);
            bool[] covered = new bool[whole.Length];
            int end = 0;
            for (int i = 0; i < tokens.Count; i++)
            {
                (int start, int stop) = (tokens[i].Offset.Start.Value, tokens[i].Offset.End.Value);
                Assert.That(start, Is.LessThanOrEqualTo(stop), text);
                if (start < end)
                {
                    Assert.That(Rune.DecodeFromUtf16(whole.AsSpan(start), out _, out int length), Is.EqualTo(OperationStatus.Done), text);
                    Assert.That(start + length, Is.EqualTo(end), $"{text}: only a character is shared");
                }

                covered.AsSpan(start..stop).Fill(true);
                end = Math.Max(end, stop);
                bool alone = start < stop && (i == 0 || tokens[i - 1].Offset.End.Value <= start)
                    && (i + 1 == tokens.Count || stop <= tokens[i + 1].Offset.Start.Value);
                if (byteLevel && alone && dropped.Length == 0)
                {
                    Assert.That(tokenizer.Decode([tokens[i].Id]), Is.EqualTo(whole[start..stop]), text);
                }
            }

            // Where symbols on both sides of a lost character merged, it lies within their token.
            for (int i = 0; i < whole.Length; i++)
            {
                bool within = dropped.Length > 0 && tokens.Any(x => x.Offset.Start.Value < i && i + 1 < x.Offset.End.Value);
                Assert.That(covered[i] == wanted[i] || (covered[i] && within), $"{text}: character {i}");
            }
        }
    }

    [TestCaseSource(nameof(Goldens))]
    public void Text_is_cut_after_the_last_token_that_fits_and_before_the_first_that_fits_from_the_end(string folder, string golden, bool shared)
    {
        PackageTokenizer tokenizer = Load(folder, shared);
        foreach ((string text, int[] literal, _) in Entries(golden, shared))
        {
            IReadOnlyList<EncodedToken> all = tokenizer.EncodeToTokens(text, out string? normalized);
            int length = (normalized ?? text).Length;
            foreach (int most in (int[])[1, 2, 3, 7, 40, Math.Max(1, all.Count - 1), Math.Max(1, all.Count), all.Count + 1])
            {
                int first = Enumerable.Range(0, Math.Min(most, all.Count) + 1).Last(n => n == 0 || n == all.Count || !Shares(all[n - 1], all[n]));
                int index = first == all.Count ? length : first == 0 ? 0 : all[first - 1].Offset.End.Value;
                Assert.That(tokenizer.GetIndexByTokenCount(text, most, out string? cut, out int count), Is.EqualTo(index), text);
                Assert.That((cut, count), Is.EqualTo((normalized, first)), text);
                Assert.That(tokenizer.EncodeToIds(text, most, out cut, out int consumed), Is.EqualTo(literal[..first]), text);
                Assert.That((cut, consumed), Is.EqualTo((normalized, index)), text);

                int last = Enumerable.Range(0, Math.Min(most, all.Count) + 1).Last(n => n == 0 || n == all.Count || !Shares(all[^(n + 1)], all[^n]));
                index = last == all.Count ? 0 : last == 0 ? length : all[^last].Offset.Start.Value;
                Assert.That(tokenizer.GetIndexByTokenCountFromEnd(text, most, out cut, out count), Is.EqualTo(index), text);
                Assert.That((cut, count), Is.EqualTo((normalized, last)), text);
            }
        }
    }

    [TestCaseSource(nameof(Goldens))]
    public void Into_any_room_goes_the_beginning_of_the_text_and_whole_tokens(string folder, string golden, bool shared)
    {
        PackageTokenizer tokenizer = Load(folder, shared);
        foreach ((string text, int[] literal, string decoded) in Entries(golden, shared).Where(static x => x.Decoded.Length < 60))
        {
            int consumedBefore = 0;
            for (int room = 0; room <= decoded.Length; room++)
            {
                char[] destination = new char[room];
                OperationStatus status = tokenizer.Decode(literal, destination, out int consumed, out int written);
                Assert.That(status, Is.EqualTo(room == decoded.Length ? OperationStatus.Done : OperationStatus.DestinationTooSmall), text);
                Assert.That(new string(destination, 0, written), Is.EqualTo(decoded[..written]), text);
                Assert.That(new string(destination, 0, written), Is.EqualTo(tokenizer.Decode(literal.Take(consumed))), text);
                Assert.That(consumed, Is.InRange(consumedBefore, literal.Length), text);
                consumedBefore = consumed;
            }

            Assert.That(consumedBefore, Is.EqualTo(literal.Length), text);
        }
    }

    // The package has no reader of tokenizer.json, so it is given its parts. It departs from the reference where a word is a special token, for
    // example.
    [TestCase("demo")]
    [TestCase("llama3-bf16")]
    public void The_packages_own_tokenizer_agrees_where_it_is_right(string folder)
    {
        string golden = Repository.Path("tests", "goldens", folder);
        Tokenizer ours = Tokenizer.Load(Path.Combine(golden, "checkpoint"));
        BpeTokenizer theirs = Reference(Path.Combine(golden, "checkpoint", "tokenizer.json"));
        int right = 0;
        int all = 0;
        foreach ((string text, int[] literal, string decoded) in Entries(golden, shared: false))
        {
            all++;
            if (!theirs.EncodeToIds(text).SequenceEqual(literal))
            {
                continue;
            }

            right++;
            Assert.That(ours.CountTokens(text), Is.EqualTo(theirs.CountTokens(text)), text);
            Assert.That(theirs.Decode(literal), Is.EqualTo(decoded), text);
            if (text.All(char.IsAscii))
            {
                Assert.That(Places(ours, text), Is.EqualTo(Places(theirs, text)), text);
                foreach (Cut cut in s_cuts)
                {
                    Assert.That(cut.FromStart(ours, text), Is.EqualTo(cut.FromStart(theirs, text)), text);
                    Assert.That(cut.FromEnd(ours, text), Is.EqualTo(cut.FromEnd(theirs, text)), text);
                }
            }
        }

        Assert.That(right, Is.GreaterThan(all * 3 / 4));

        static IEnumerable<(int, Range)> Places(PackageTokenizer tokenizer, string text) => tokenizer.EncodeToTokens(text, out _)
            .Select(static x => (x.Id, x.Offset));
    }

    [Test]
    public void Without_pre_tokenization_or_normalisation_the_model_sees_the_text_as_it_is()
    {
        const string Json = """
            {"version":"1.0","normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Digits","individual_digits":true},"decoder":{"type":"Fuse"},
             "model":{"type":"BPE","vocab":{"a":0,"1":1,"11":2,"?":3},"merges":[["1","1"]],"unk_token":"?"}}
            """;
        PackageTokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(Json));
        Assert.That(tokenizer.EncodeToIds("A11"), Is.EqualTo(new[] { 0, 1, 1 }));
        Assert.That(tokenizer.EncodeToIds("A11", considerPreTokenization: false), Is.EqualTo(new[] { 0, 2 }));
        Assert.That(tokenizer.EncodeToIds("A11", considerNormalization: false), Is.EqualTo(new[] { 3, 1, 1 }));
        tokenizer.EncodeToTokens("A11", out string? normalized, considerNormalization: false);
        Assert.That(normalized, Is.Null);
        Assert.That(tokenizer.PreTokenizer!.PreTokenize("a11"), Is.EqualTo(new[] { (0, 1), (1, 1), (2, 1) }));
        Assert.That(tokenizer.Normalizer!.Normalize("A1".AsSpan()), Is.EqualTo("a1"));
    }

    [Test]
    public void No_room_for_a_token_is_no_count()
    {
        PackageTokenizer tokenizer = Tokenizer.Load(Path.Combine(Repository.Goldens.First(), "checkpoint"));
        Assert.That(() => tokenizer.EncodeToIds("a", 0, out _, out _), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => tokenizer.GetIndexByTokenCountFromEnd("a", 0, out _, out _), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    private static Tokenizer Load(string folder, bool shared) => Tokenizer.Load(shared ? SharedFolder.Require(folder) : folder);

    private static IEnumerable<(string Text, int[] Literal, string Decoded)> Entries(string golden, bool shared) =>
        GoldenTokensTests.Read(shared ? SharedFolder.Require(golden) : golden).GetProperty("strings").EnumerateArray().Select(static x => (
            x.GetProperty("text").GetString()!,
            x.GetProperty("literal").EnumerateArray().Select(static id => id.GetInt32()).ToArray(),
            x.GetProperty("decoded").GetString()!));

    private static bool IsByteLevel(string folder, bool shared)
    {
        using JsonDocument json =
            JsonDocument.Parse(File.ReadAllBytes(Path.Combine(shared ? SharedFolder.Require(folder) : folder, "tokenizer.json")));
        return json.RootElement.GetProperty("decoder").GetProperty("type").GetString() == "ByteLevel";
    }

    // By UTF-16 unit: it belongs to a word, and is not lost.
    private static bool[] Covered(Tokenizer tokenizer, string whole, string dropped)
    {
        bool[] covered = new bool[whole.Length];
        foreach ((int offset, int length) in tokenizer.PreTokenizer is { } words ? words.PreTokenize(whole) : [(0, whole.Length)])
        {
            covered.AsSpan(offset, length).Fill(true);
        }

        int at = 0;
        foreach (Rune lost in dropped.EnumerateRunes())
        {
            string character = lost.ToString();
            at = whole.IndexOf(character, at, StringComparison.Ordinal);
            Assert.That(at, Is.GreaterThanOrEqualTo(0), whole);

            // A character that lost some of its bytes still has tokens for the others.
            if (Encoding.UTF8.GetBytes(character).All(b => tokenizer.IdOf(ByteAlphabet.CharOf(b).ToString()) is null))
            {
                covered.AsSpan(at, character.Length).Clear();
            }

            at += character.Length;
        }

        return covered;
    }

    private static bool Shares(EncodedToken first, EncodedToken second) => second.Offset.Start.Value < first.Offset.End.Value;

    private static BpeTokenizer Reference(string path)
    {
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(path));
        JsonElement root = json.RootElement;
        JsonElement model = root.GetProperty("model");
        string expression = root.GetProperty("pre_tokenizer").GetProperty("pretokenizers")[0].GetProperty("pattern").GetProperty("Regex")
            .GetString()!;
        return BpeTokenizer.Create(new BpeOptions(model.GetProperty("vocab").EnumerateObject()
            .Select(static x => KeyValuePair.Create(x.Name, x.Value.GetInt32())))
        {
            Merges = model.GetProperty("merges").EnumerateArray().Select(static x => x.ValueKind == JsonValueKind.String
                ? x.GetString()!
                : $"{x[0]} {x[1]}"),
            ByteLevel = true,
            PreTokenizer = new RegexPreTokenizer(new Regex(expression, RegexOptions.None, TimeSpan.FromSeconds(60)), specialTokens: null),
        });
    }

    private sealed record Cut(int Most)
    {
        public (int, int) FromStart(PackageTokenizer tokenizer, string text)
            => (tokenizer.GetIndexByTokenCount(text, Most, out _, out int count), count);

        public (int, int) FromEnd(PackageTokenizer tokenizer, string text)
            => (tokenizer.GetIndexByTokenCountFromEnd(text, Most, out _, out int count), count);
    }
}
