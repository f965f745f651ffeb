using System.Text;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>Round trips, streaming, cost, and safety, over the goldens' tokenizers.</summary>
internal sealed class TokenizerPropertyTests
{
    private static readonly string[] ByteLevel = ["demo", "llama3-bf16", "qwen2-bf16", "qwen3-f32"];

    private static IEnumerable<string> All => Repository.Goldens.Select(static x => Path.GetFileName(x));

    [TestCaseSource(nameof(ByteLevel))]
    public void Every_scalar_value_survives(string folder)
    {
        Tokenizer tokenizer = Load(folder);
        var text = new StringBuilder();
        int count = 0;
        for (int code = 0; code <= 0x10FFFF; code++)
        {
            if (Rune.IsValid(code))
            {
                text.Append(new Rune(code).ToString());
                count++;
                if (text.Length > 4000 || code == 0x10FFFF)
                {
                    string piece = text.ToString();
                    Assert.That(tokenizer.Decode(tokenizer.Encode(piece, addSpecial: false)),
                        Is.EqualTo(folder.StartsWith("qwen2", StringComparison.Ordinal) ? Nfc(piece) : piece));
                    text.Clear();
                }
            }
        }

        Assert.That(count, Is.EqualTo(1_112_064));
    }

    [TestCaseSource(nameof(All))]
    public void Streamed_pieces_join_to_the_decoded_text_for_random_ids(string folder)
    {
        Tokenizer tokenizer = Load(folder);
        var random = new Random(7);
        for (int round = 0; round < 300; round++)
        {
            int[] ids = [.. Enumerable.Range(0, random.Next(1, 60)).Select(_ => random.Next(-2, tokenizer.VocabularySize + 3))];
            foreach (bool skip in new[] { false, true })
            {
                TokenStream stream = tokenizer.NewStream(skip);
                string joined = string.Concat(ids.Select(stream.Append)) + stream.Flush();
                Assert.That(joined, Is.EqualTo(tokenizer.Decode(ids, skip)));
                Assert.That(string.Concat(ids.Select(stream.Append)) + stream.Flush(), Is.EqualTo(joined), "a flushed stream is new");
            }
        }
    }

    [TestCaseSource(nameof(All))]
    public void Four_times_the_text_takes_four_times_the_steps(string folder)
    {
        const int Size = 1 << 18;
        Tokenizer tokenizer = Load(folder);
        long steps = 0;
        tokenizer.Watch = count => steps = count;
        foreach (string unit in new[] { "A", "\n", " ", "東", "\u0301", "7", "'", "▁", "\U0001F6A2", "<", "ab " })
        {
            long once = Steps(unit, Size), fourTimes = Steps(unit, 4 * Size);
            Assert.That(once, Is.GreaterThan(Size / 16), unit);
            Assert.That(fourTimes, Is.LessThan(5 * once), unit);
        }

        long Steps(string unit, int bytes)
        {
            Assert.That(tokenizer.Encode(string.Concat(Enumerable.Repeat(unit, bytes / Encoding.UTF8.GetByteCount(unit)))), Is.Not.Empty);
            return steps;
        }
    }

    [Test]
    public void Long_words_merge_as_the_definition_says()
    {
        string json = """{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"aa":3,"aba":4,"abab":5,"bb":6},"merges":[["b","b"],"""
            + """["a","b"],["ab","ab"],["ab","a"],["a","a"]]}}""";
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json));
        (string Left, string Right)[] merges = [("b", "b"), ("a", "b"), ("ab", "ab"), ("ab", "a"), ("a", "a")];
        var random = new Random(3);
        for (int round = 0; round < 400; round++)
        {
            string text = string.Concat(Enumerable.Range(0, random.Next(1, 120)).Select(_ => random.Next(2) == 0 ? 'a' : 'b'));
            List<string> symbols = [.. text.Select(static x => x.ToString())];
            while (true)
            {
                // The leftmost pair of the lowest rank.
                int best = -1;
                int rank = int.MaxValue;
                for (int i = 0; i + 1 < symbols.Count; i++)
                {
                    int r = Array.IndexOf(merges, (symbols[i], symbols[i + 1]));
                    if (r >= 0 && r < rank)
                    {
                        (best, rank) = (i, r);
                    }
                }

                if (best < 0)
                {
                    break;
                }

                symbols[best] += symbols[best + 1];
                symbols.RemoveAt(best + 1);
            }

            Assert.That(tokenizer.Encode(text).Select(tokenizer.TokenOf), Is.EqualTo(symbols), text);
        }
    }

    [TestCaseSource(nameof(All))]
    public void Special_text_stays_plain_text(string folder)
    {
        Tokenizer tokenizer = Load(folder);
        foreach (AddedToken token in tokenizer.Added.Where(static x => x.Special))
        {
            string name = Encoding.UTF8.GetString(token.Content);
            foreach (string text in new[] { name, $" {name}\n", $"x{name}{name}y", $"\0{token.Id}\0" })
            {
                int[] ids = tokenizer.Encode(text, addSpecial: false);
                Assert.That(ids.Any(tokenizer.IsSpecial), Is.False, text);
                Assert.That(tokenizer.Decode(ids), Does.Contain(text.Trim()));
            }

            Assert.That(tokenizer.Encode(name, addSpecial: false, parseSpecial: true), Has.Member(token.Id));
        }
    }

    // docs/hostile-inputs.md §3e, row 61.
    [TestCaseSource(nameof(All))]
    public void Empty_texts_and_white_space_are_texts(string folder)
    {
        Tokenizer tokenizer = Load(folder);
        Assert.That(tokenizer.Encode("", addSpecial: false), Is.Empty);
        Assert.That(tokenizer.Encode("").All(tokenizer.IsSpecial));
        Assert.That(tokenizer.Decode([]), Is.Empty);
        Assert.That(tokenizer.Decode(tokenizer.Encode(""), skipSpecial: true), Is.Empty);
        foreach (string text in new[] { " ", "\n", "\t \r\n", "\u3000", new string(' ', 100) })
        {
            int[] ids = tokenizer.Encode(text, addSpecial: false);
            Assert.That(ids, Is.Not.Empty.And.All.InRange(0, tokenizer.VocabularySize - 1));
            Assert.That(string.IsNullOrWhiteSpace(tokenizer.Decode(ids)), $"{ids.Length} ids");
        }
    }

    [Test]
    public void Many_threads_agree()
    {
        Tokenizer tokenizer = Load("llama3-bf16");
        string[] texts =
            [.. Enumerable.Range(0, 200).Select(static x => $"The captain of ship {x} looked at {x * 7919} waves; l'été {(char)(0x4E00 + x)}.")];
        int[][] expected = [.. texts.Select(x => tokenizer.Encode(x))];
        Parallel.For(0, 2000, i => Assert.That(tokenizer.Encode(texts[i % 200]), Is.EqualTo(expected[i % 200])));
    }

    [Test]
    public void A_vocabulary_of_128k_loads()
    {
        // 256 bytes, 676 pairs of letters, and 190 x 676 pairs of pairs, each with its merge.
        List<string> vocabulary = [.. Enumerable.Range(0, 256).Select(static x => ByteAlphabet.CharOf((byte)x).ToString())];
        List<string> merges = [];
        string[] pairs = [.. Enumerable.Range(0, 676).Select(static x => $"{(char)('a' + (x / 26))}{(char)('a' + (x % 26))}")];
        foreach (string pair in pairs)
        {
            vocabulary.Add(pair);
            merges.Add($"[\"{pair[0]}\",\"{pair[1]}\"]");
        }

        foreach (string left in pairs.Take(190))
        {
            foreach (string right in pairs)
            {
                vocabulary.Add(left + right);
                merges.Add($"[\"{left}\",\"{right}\"]");
            }
        }

        string entries = string.Join(',', vocabulary.Select(static (x, i) => $"{System.Text.Json.JsonSerializer.Serialize(x)}:{i}"));
        string json = $$$"""
            {"version":"1.0","pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
             "model":{"type":"BPE","vocab":{{{{entries}}}},"merges":[{{{string.Join(',', merges)}}}]}}
            """;
        byte[] bytes = Encoding.UTF8.GetBytes(json);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Tokenizer tokenizer = Tokenizer.Parse(bytes);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(16L * bytes.Length), "tables grow by factors");
        Assert.That(tokenizer.VocabularySize, Is.EqualTo(256 + 676 + (190 * 676)));
        Assert.That(tokenizer.Encode("aazz hhzz").Select(tokenizer.TokenOf), Is.EqualTo(new[] { "aazz", "Ġ", "hhzz" }));
    }

    // Qwen2's tokenizer normalises: the text that comes back is the normalised one.
    private static string Nfc(string text)
    {
        var output = new ByteBuffer();
        UnicodeNormalization.Append(Encoding.UTF8.GetBytes(text), compat: false, output);
        return Encoding.UTF8.GetString(output.Span);
    }

    private static Tokenizer Load(string folder) => Tokenizer.Load(Path.Combine(Repository.Path("tests", "goldens", folder), "checkpoint"));
}
