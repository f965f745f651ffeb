using System.Globalization;
using System.Text;
using Parquet;
using Parquet.Schema;
using Tiller.Features;
using Tiller.Fuzz;
using static Tiller.Fuzz.ParquetBytes;
using static Tiller.Tests.Features.ParquetSample;

namespace Tiller.Tests.Features;

/// <summary>Parquet files: what other programs write is read, and what is broken is refused whatever is broken about it.</summary>
public class ParquetTests
{
    private const string Name = "t.parquet";

    [Test]
    public void What_another_writer_writes_is_read(
        [Values(CompressionMethod.None, CompressionMethod.Snappy, CompressionMethod.Gzip, CompressionMethod.Brotli, CompressionMethod.Zstd)]
        CompressionMethod compression,
        [Values] EncodingHint hint)
    {
        byte[] file = Written(compression, hint);
        int[] rows = [.. Enumerable.Range(0, Rows)];
        CultureInfo culture = CultureInfo.InvariantCulture;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(Read(file), Is.EqualTo(rows.Select(Prompt)));
            Assert.That(Read(file, "note"), Is.EqualTo(rows.Select(Note).Where(static x => !string.IsNullOrEmpty(x))));
            Assert.That(Read(file, "3"), Is.EqualTo(rows.Select(x => Label(x).ToString(culture))));
            Assert.That(Read(file, "ID"), Is.EqualTo(rows.Select(Id).OfType<long>().Select(x => x.ToString(culture))));
            Assert.That(Read(file, "score"), Is.EqualTo(rows.Select(x => Score(x).ToString("R", culture))));
            Assert.That(Read(file, "sure"), Is.EqualTo(rows.Select(static x => x % 3 == 0 ? "true" : "false")));
        }
    }

    [Test]
    public void Pages_of_the_second_version_are_read_compressed_or_not([Values] bool isCompressed)
    {
        byte[] plain = Plain("a", "the tide", "🚢");
        byte[] values = isCompressed ? Snappier.Snappy.CompressToArray(plain) : plain;
        byte[] page = PageV2([3, 0b1101], values, plain.Length, 4, 1, encoding: 0, isCompressed); // one is missing
        byte[] file = File(4, new SampleColumn("text", page, 4) { Repetition = 1, Codec = 1 });
        Assert.That(Read(file), Is.EqualTo(new[] { "a", "the tide", "🚢" }));
    }

    // Written by Apache Arrow's library for Rust (parquet-wasm 0.8): three row groups, Zstandard, one column in deltas of prefixes and two with
    // dictionaries.
    [Test]
    public void Pages_of_the_second_version_by_a_third_writer_are_read()
    {
        byte[] file = System.IO.File.ReadAllBytes(Repository.Path("tests", "Features", "second-version.parquet"));
        int[] rows = [.. Enumerable.Range(0, 60)];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(Read(file), Is.EqualTo(rows.Select(static i => $"Prompt {i % 7}: the tide “turns” 🚢\nat {i}")));
            Assert.That(Read(file, "note"), Is.EqualTo(rows.Where(static i => i % 3 == 0).Select(static i => $"note {i % 5}")));
            Assert.That(Read(file, "id"), Is.EqualTo(rows.Select(static i => (i - 30).ToString(CultureInfo.InvariantCulture))));
        }
    }

    // Lists of records, as the package writes them: conversations, some of them empty or missing.
    [Test]
    public void Conversations_are_read_from_lists_of_records()
    {
        Recorded[] rows =
        [
            new("x", [new("human", "a 🚢\n\"q\"", 1), new("gpt", "b", null)]), new("y", []), new("z", null),
            new("w", [new("system", "s", null), new("human", "c", 0.5), new("gpt", "d", 1), new("human", "e", 2), new("gpt", "f", null)]),
        ];
        using var stream = new MemoryStream();
        var all = Enumerable.Repeat(rows, 60).SelectMany(static x => x);
        Parquet.Serialization.ParquetSerializer.SerializeAsync(all, stream).GetAwaiter().GetResult();
        var prompts = PromptFile.Read(Name, stream.ToArray(), null, CancellationToken.None);
        string[] shown = [.. prompts.Select(static x => string.Join('|', ((ChatPrompt)x).Messages.Select(static m => $"{m.Role}:{m.Content}")))];
        Assert.That(
            shown, Is.EqualTo(Enumerable.Repeat((string[])["user:a 🚢\n\"q\"", "system:s|user:c|assistant:d|user:e"], 60).SelectMany(static x => x)));
        Assert.That(Read(stream.ToArray(), "id"), Has.Length.EqualTo(240));
    }

    // The form without a group of a record's own, by hand.
    private static byte[] Lists(long rows, byte[] from, byte[] value) => File(
        rows,
        new SampleColumn("from", Page(from, 2), 2) { List = "conversations" },
        new SampleColumn("value", Page(value, 2), 2) { List = "conversations" });

    // Levels in front of two values: of one list (repetitions 0 1), and of two lists (0 0). Both are there (definitions 1 1).
    private static readonly byte[] s_oneList = [2, 0, 0, 0, 3, 0b10, 2, 0, 0, 0, 4, 1];
    private static readonly byte[] s_twoLists = [2, 0, 0, 0, 4, 0, 2, 0, 0, 0, 4, 1];

    private static byte[] Conversation => Lists(1, [.. s_oneList, .. Plain("human", "gpt")], [.. s_oneList, .. Plain("a", "b")]);

    [Test]
    public void Levels_that_do_not_fit_together_are_refused()
    {
        byte[] from = [.. s_oneList, .. Plain("human", "gpt")], value = [.. s_oneList, .. Plain("a", "b")];
        byte[] odd = [.. s_twoLists, .. Plain("a", "b")];
        var read = PromptFile.Read(Name, Lists(1, from, value), null, CancellationToken.None);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(((ChatPrompt)read.Single()).Messages.Single().Content, Is.EqualTo("a"));
            Assert.That(() => Read(Lists(1, from, odd)), Throws.TypeOf<PromptFileException>().With.Message.Contains("do not have the same 1 rows"));
            Assert.That(() => Read(Lists(2, from, value)), Throws.TypeOf<PromptFileException>().With.Message.Contains("do not have the same 2 rows"));
            Assert.That(
                () => Read(Lists(1, [.. from.Select(static (x, i) => i == 5 ? (byte)0b11 : x)], value)),
                Throws.TypeOf<PromptFileException>().With.Message.Contains("same 1 rows"));
            Assert.That(() => Read(Lists(1, from[..9], value)), Throws.TypeOf<PromptFileException>().With.Message.Contains("'conversations'"));
        }
    }

    [Test]
    public void Every_encoding_of_texts_is_read()
    {
        string[] texts = [.. Enumerable.Range(0, 300).Select(static i => i % 7 == 0 ? $"tide {i}" : $"tide {i} and {new string('y', i % 40)}é")];
        byte[][] bytes = [.. texts.Select(Encoding.UTF8.GetBytes)];
        long[] shared = [0, .. bytes.Zip(bytes.Skip(1)).Select(static x => (long)x.First.AsSpan().CommonPrefixLength(x.Second))];
        byte[] lengths = [.. Deltas([.. bytes.Select(static x => (long)x.Length)]), .. bytes.SelectMany(static x => x)];
        byte[] prefixes = [.. Deltas(shared), .. Deltas([.. bytes.Zip(shared).Select(static x => x.First.Length - x.Second)]),
            .. bytes.Zip(shared).SelectMany(static x => x.First.Skip((int)x.Second))];
        byte[] dictionary = [.. Dictionary([.. texts.Distinct()]), .. Page([9, .. Packed(texts.Length, 9)], texts.Length, encoding: 8)];
        byte[] file = File(texts.Length, new SampleColumn("prompt", Page(lengths, texts.Length, 6), texts.Length),
            new SampleColumn("shared", Page(prefixes, texts.Length, 7), texts.Length), new SampleColumn("places", dictionary, texts.Length));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(Read(file), Is.EqualTo(texts));
            Assert.That(Read(file, "shared"), Is.EqualTo(texts));
            Assert.That(Read(file, "places"), Is.EqualTo(texts));
        }
    }

    // Bits 0, 1, 2 … of a width, as one packed run; the last group is cut where the values end.
    private static byte[] Packed(int count, int width)
    {
        byte[] packed = new byte[((count * width) + 7) / 8];
        for (int bit = 0; bit < count * width; bit++)
        {
            packed[bit / 8] |= (byte)(((bit / width >> (bit % width)) & 1) << (bit % 8));
        }

        return [.. ThriftBytes.Varint(((ulong)(count + 7) / 8 << 1) | 1), .. packed];
    }

    [Test]
    public void Numbers_are_read_by_their_types()
    {
        byte[] one = [255, 255, 255, 255, 255, 255, 255, 255];
        byte[] file = File(1, new SampleColumn("prompt", Page(Plain("a"), 1), 1),
            new SampleColumn("small", Page(one[..4], 1), 1) { Type = 1, Converted = 17 },
            new SampleColumn("natural", Page(one[..4], 1), 1) { Type = 1, Converted = 13 },
            new SampleColumn("large", Page(one, 1), 1) { Type = 2, Converted = 14 },
            new SampleColumn("float", Page([0, 0, 192, 63], 1), 1) { Type = 4, Converted = -1 },
            new SampleColumn("sure", Page([2, 0, 0, 0, 2, 1], 1, encoding: 3), 1) { Type = 0, Converted = -1 });
        Assert.That(new[] { "small", "natural", "large", "float", "sure" }.Select(x => Read(file, x)[0]),
            Is.EqualTo(new[] { "-1", "4294967295", "18446744073709551615", "1.5", "true" }));
    }

    [Test]
    public void Contrast_pairs_are_read_from_a_table_of_texts_and_labels()
    {
        byte[] file = File(3, new SampleColumn("statement", Page(Plain("So it is", "So it is not", "So it was"), 3), 3),
            new SampleColumn("label", Page([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 3), 3) { Type = 1, Converted = -1 });
        var (positive, negative) = PromptFile.ReadPairs(Name, file);
        Assert.That(positive.Concat(negative), Is.EqualTo(new[] { "So it is", "So it was", "So it is not" }.Select(static x => new TextPrompt(x))));
    }

    [Test]
    public void A_row_without_two_sides_is_told_by_its_number()
    {
        byte[] file = File(2, new SampleColumn("statement", Page(Plain("a", "secret"), 2), 2),
            new SampleColumn("label", Page([1, 0, 0, 0, 9, 0, 0, 0], 2), 2) { Type = 1, Converted = -1 });
        Assert.That(() => PromptFile.ReadPairs(Name, file),
            Throws.TypeOf<PromptFileException>().With.Message.Contains("row 2:").And.Message.Not.Contains("secret"));
    }

    [Test]
    public void What_cannot_be_told_is_asked_for_with_a_preview_that_has_columns_that_are_not_read()
    {
        byte[] page = Page(Plain("A claim about the tides and the moon"), 1);
        byte[] file = File(1, new SampleColumn("claim", page, 1), new SampleColumn("image", page, 1) { Converted = -1 },
            new SampleColumn("messages", page, 1) { Repetition = 2 }, new SampleColumn("when", Page(new byte[8], 1), 1) { Type = 2, Converted = 9 });
        const string Preview = "1 'claim' (\"A claim about the tides …\"), 2 'image' (bytes), 3 'messages' (lists), "
            + "4 'when' (dates, times or decimal numbers).";
        using (Assert.EnterMultipleScope())
        {
            foreach (var (column, says) in new[] { (null, "PromptSelection.Column"), ("messages", "holds lists"), ("tide", "no such column") })
            {
                Assert.That(() => Read(file, column), Throws.TypeOf<PromptFileException>().With.Message.Contains(says).And.Message.EndsWith(Preview));
            }

            Assert.That(() => PromptFile.Read(Name, file, new PromptSelection { Field = "claim" }, default),
                Throws.TypeOf<PromptFileException>().With.Message.Contains("set PromptSelection.Column"));
            Assert.That(Read(file, "1"), Has.Length.EqualTo(1));
        }
    }

    [Test]
    public void A_file_is_told_by_its_first_bytes_or_its_name()
    {
        byte[] file = File(1, new SampleColumn("prompt", Page(Plain("a"), 1), 1));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(PromptFile.Read("data", file, null, default), Is.EqualTo(new[] { new TextPrompt("a") }));
            Assert.That(() => PromptFile.Read(Name, "a\nb\n"u8.ToArray(), null, default),
                Throws.TypeOf<PromptFileException>().With.Message.Contains("PAR1"));
        }
    }

    [Test]
    public void The_file_that_the_native_build_is_tried_on_holds_what_the_tests_write()
    {
        string path = Repository.Path("tests", "Features", "prompts.parquet");
        if (Environment.GetEnvironmentVariable("TILLER_REWRITE_DOCS") is not null)
        {
            System.IO.File.WriteAllBytes(path, Written(CompressionMethod.Zstd, EncodingHint.Dictionary));
        }

        Assert.That(Read(System.IO.File.ReadAllBytes(path)), Is.EqualTo(Enumerable.Range(0, Rows).Select(Prompt)));
    }

    // What is wrong, and what the message says of it.
    private static IEnumerable<TestCaseData> Broken
    {
        get
        {
            byte[] page = Page(Plain("a"), 1);
            byte[] nested = [.. Enumerable.Repeat((byte)0x19, 1 << 20)]; // lists of one list
            byte[] shared = [.. Deltas([0, .. Enumerable.Repeat(9000L, 39_999)]), .. Deltas([9000, .. new long[39_999]]), .. new byte[9000]];
            byte[] groups = [.. Enumerable.Repeat(new ThriftBytes().Int32(5, 1).End(), 1 << 18).SelectMany(static x => x)];
            return new (string What, byte[] File, string Says)[]
            {
                ("nothing", [], "PAR1"),
                ("the beginning alone", [.. "PAR1"u8, 0, 0, 0, 0, 0, 0, 0, 0], "PAR1"),
                ("encrypted", [.. "PAR1"u8, 0, 0, 0, 0, .. "PARE"u8], "PARE"),
                ("a footer larger than the file", [.. "PAR1"u8, 0, .. Int32(2), .. "PAR1"u8], "footer"),
                ("a footer smaller than nothing", [.. "PAR1"u8, 0, .. Int32(-1), .. "PAR1"u8], "footer"),
                ("a number without end", WithFooter([.. "PAR1"u8], [0x15, .. Enumerable.Repeat((byte)255, 64)]), "64 bits"),
                ("a number at the end", WithFooter([.. "PAR1"u8], [0x15, 255]), "beyond the end"),
                ("nested lists", WithFooter([.. "PAR1"u8], [0x79, .. nested]), "deep"),
                ("nested groups", WithFooter([.. "PAR1"u8], [0x29, 0xFC, .. ThriftBytes.Varint(1 << 18), .. groups, 0]), "within a group"),
                ("a list of too many", WithFooter([.. "PAR1"u8], [0x29, 0xFC, .. ThriftBytes.Varint(int.MaxValue)]), "longer"),
                ("a schema that is no list", WithFooter([.. "PAR1"u8], [0x25, 2, 0]), "unexpected kind"),
                ("an encrypted schema", WithFooter([.. "PAR1"u8], new ThriftBytes().Struct(8, new ThriftBytes()).End()), "encrypted"),
                ("no columns", File(0), "no column"),
                ("bytes alone", File(1, new SampleColumn("image", page, 1) { Converted = -1 }), "'image' holds bytes"),
                ("an unknown type", File(1, new SampleColumn("odd", page, 1) { Type = 99 }), "unknown type 99"),
                ("too many rows", File(1L << 40, new SampleColumn("prompt", page, 1)), "at most"),
                ("rows without values", File(2, new SampleColumn("prompt", page, 1)), "has 2 rows, but 1 values"),
                ("pages behind the file", File(1, new SampleColumn("prompt", page, 1) { Offset = 1 << 20 }), "not within the file"),
                ("pages before the file", File(1, new SampleColumn("prompt", page, 1) { Offset = -5 }), "not within the file"),
                ("pages of no length", File(1, new SampleColumn("prompt", page, 1) { Length = -1 }), "not within the file"),
                ("no page", File(1, new SampleColumn("prompt", [], 1)), "beyond the end"),
                ("pages without values", File(1, new SampleColumn("prompt", Page([], 0), 1)), "beyond the end"),
                ("a page without header", File(1, new SampleColumn("prompt", [0], 1)), "header"),
                ("a page of too many", File(1, new SampleColumn("prompt", Page(Plain("a", "b"), 2), 1)), "2 values where 1 are left"),
                ("a page of too few bytes", File(1, new SampleColumn("prompt", Page(Plain("a"), 1, size: 9), 1)), "a page should have 9 bytes"),
                ("a page of 2 GiB", File(1, new SampleColumn("prompt", Page(Plain("a"), 1, size: int.MaxValue), 1) { Codec = 1 }), "256 MiB"),
                ("a text longer than its page", File(1, new SampleColumn("prompt", Page(Int32(99), 1), 1)), "end of its page"),
                ("a text shorter than nothing", File(1, new SampleColumn("prompt", Page(Int32(-1), 1), 1)), "end of its page"),
                ("no dictionary", File(1, new SampleColumn("prompt", Page([1, 2, 0], 1, encoding: 8), 1)), "dictionary"),
                ("a place beyond the dictionary", OfPlaces([3, 2, 7]), "value 7"),
                ("places of no width", OfPlaces([]), "end of its page"),
                ("places of 33 bits", OfPlaces([33, 2, 7]), "33 bits"),
                ("an unknown encoding", File(1, new SampleColumn("prompt", Page(Plain("a"), 1, encoding: 42), 1)), "encoding 42"),
                ("numbers in an encoding of texts",
                    File(1, new SampleColumn("prompt", Page(new byte[8], 1, encoding: 7), 1) { Type = 2, Converted = -1 }), "encoding 7"),
                ("lengths in odd blocks", File(1, new SampleColumn("prompt", Page([7, 3, 1, 0], 1, encoding: 6), 1)), "in 3 parts"),
                ("a text that shares more than there is", File(1, new SampleColumn("prompt", Page([.. Deltas(5), .. Deltas(0)], 1, encoding: 7), 1)),
                    "end of its page"),
                ("texts that share more than there may be", File(40_000, new SampleColumn("prompt", Page(shared, 40_000, encoding: 7), 40_000)),
                    "256 MiB"),
                ("LZ4", File(1, new SampleColumn("prompt", page, 1) { Codec = 7 }), "LZ4"),
                ("an unknown compression", File(1, new SampleColumn("prompt", page, 1) { Codec = 42 }), "unknown codec 42"),
                ("what is no Snappy", File(1, new SampleColumn("prompt", page, 1) { Codec = 1 }), "'prompt'"),
                ("what is no gzip", File(1, new SampleColumn("prompt", page, 1) { Codec = 2 }), "'prompt'"),
                ("what is no Brotli", File(1, new SampleColumn("prompt", page, 1) { Codec = 4 }), "'prompt'"),
                ("what is no Zstandard", File(1, new SampleColumn("prompt", page, 1) { Codec = 6 }), "'prompt'"),
                ("what is not UTF-8", File(1, new SampleColumn("prompt", Page([1, 0, 0, 0, 0xFF], 1), 1)), "not UTF-8"),
                ("no rows", File(0, new SampleColumn("prompt", [], 0)), "at least one"),
            }.Select(static x => new TestCaseData(x.File, x.Says).SetArgDisplayNames(x.What));
        }
    }

    [TestCaseSource(nameof(Broken))]
    public void A_broken_file_is_refused(byte[] file, string says) =>
        Assert.That(() => Read(file), Throws.TypeOf<PromptFileException>().With.Message.Contains(says).And.Message.StartsWith(Name));

    [Test]
    public void Every_prefix_of_a_file_is_refused()
    {
        byte[] file = File(3, new SampleColumn("prompt", [.. Dictionary("a", "b"), .. Page([1, 3, 0b10], 3, encoding: 8)], 3));
        Assert.That(Read(file), Is.EqualTo(new[] { "a", "b", "a" }));
        for (int length = 0; length < file.Length; length++)
        {
            byte[] part = file[..length];
            Assert.That(() => Read(part), Throws.TypeOf<PromptFileException>());
        }
    }

    [Test]
    public void A_file_with_a_bit_turned_is_read_or_refused()
    {
        byte[][] files = [File(3, new SampleColumn("prompt", [.. Dictionary("a", "b"), .. Page([1, 3, 0b10], 3, encoding: 8)], 3)),
            Written(CompressionMethod.Snappy, EncodingHint.Default), Written(CompressionMethod.Zstd, EncodingHint.DeltaBinaryPacked), Conversation];
        int refused = 0;
        foreach (byte[] file in files)
        {
            // All of the footer, and of the pages what is near their beginning.
            for (int at = 0; at < file.Length; at += at < 400 || at > file.Length - 1200 ? 1 : 97)
            {
                for (int bit = 0; bit < 8; bit++)
                {
                    byte[] turned = [.. file];
                    turned[at] ^= (byte)(1 << bit);
                    try
                    {
                        PromptFile.Read(Name, turned, null, CancellationToken.None);
                    }
                    catch (PromptFileException)
                    {
                        refused++;
                    }
                }
            }
        }

        Assert.That(refused, Is.GreaterThan(1000));
    }

    [Test]
    public async Task A_published_file_is_read_as_another_reader_reads_it()
    {
        string path = Path.Combine(SharedFolder.Require("data"), "axbench/concept10/prod_2b_l20_v1/generate/train_data.parquet");
        await using var reader = await ParquetReader.CreateAsync(path);
        using var group = reader.OpenRowGroupReader(0);
        foreach (DataField field in reader.Schema.DataFields.Where(static x => x.ClrType == typeof(ReadOnlyMemory<char>)))
        {
            string?[] expected = new string?[group.RowCount];
            await group.ReadAsync(field, expected);
            string[] read = [.. PromptFile.Read(path, new PromptSelection { Column = field.Name }).Select(static x => ((TextPrompt)x).Text)];
            Assert.That(read.SequenceEqual(expected.Where(static x => !string.IsNullOrEmpty(x))), Is.True, field.Name); // texts are not to be shown
        }
    }

    private static byte[] OfPlaces(byte[] places) =>
        File(1, new SampleColumn("prompt", [.. Dictionary("a"), .. Page(places, 1, encoding: 8)], 1));

    private sealed record Recorded(string Id, List<Turn>? Conversations)
    {
        public Recorded()
            : this("", null)
        {
        }

        [System.Text.Json.Serialization.JsonPropertyName("id")]
        public string Id { get; set; } = Id;

        [System.Text.Json.Serialization.JsonPropertyName("conversations")]
        public List<Turn>? Conversations { get; set; } = Conversations;
    }

    private sealed record Turn(string From, string Value, double? Weight)
    {
        public Turn()
            : this("", "", null)
        {
        }

        [System.Text.Json.Serialization.JsonPropertyName("from")]
        public string From { get; set; } = From;

        [System.Text.Json.Serialization.JsonPropertyName("value")]
        public string Value { get; set; } = Value;

        [System.Text.Json.Serialization.JsonPropertyName("weight")]
        public double? Weight { get; set; } = Weight;
    }

    private static string[] Read(byte[] file, string? column = null) =>
        [.. PromptFile.Read(Name, file, new PromptSelection { Column = column }, CancellationToken.None).Select(static x => ((TextPrompt)x).Text)];
}
