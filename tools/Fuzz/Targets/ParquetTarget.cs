using System.Buffers.Binary;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Features;
using static Tiller.Fuzz.ParquetBytes;

namespace Tiller.Fuzz.Targets;

/// <summary>A Parquet file of prompts: of every column, and as contrast pairs.</summary>
internal sealed class ParquetTarget : FuzzTarget
{
    private const string FileName = "p.parquet";
    private const int LengthAndMagic = 8;

    private static readonly string[] s_texts = ["a", "the tide", "🚢", "", "tide and tide", "é", new('y', 40)];

    public override string Name => "parquet";

    public override IReadOnlyList<byte[]> Seeds { get; } =
    [
        File(3, new SampleColumn("prompt", Page(Plain("a", "b", "🚢"), 3), 3)),
        File(3, new SampleColumn("text", [.. Dictionary("a", "b"), .. Page([1, 3, 0b10], 3, encoding: 8)], 3)),
        File(4, new SampleColumn("text", PageV2([3, 0b1101], Plain("a", "the tide", "c"), Plain("a", "the tide", "c").Length, 4, 1, 0, false), 4)
        {
            Repetition = 1,
        }),
        File(2, new SampleColumn("goal", Page([.. Deltas(1, 2), .. "abb"u8], 2, encoding: 6), 2),
            new SampleColumn("shared", Page(Prefixed("tide", "tides"), 2, encoding: 7), 2)),
        File(2, new SampleColumn("statement", Page(Plain("So it is", "So it is not"), 2), 2),
            new SampleColumn("label", Page([1, 0, 0, 0, 0, 0, 0, 0], 2), 2) { Type = 1, Converted = -1 }),
        File(1, new SampleColumn("prompt", Compressed("the tide and the tide and the tide"), 1) { Codec = 1 }),
    ];

    public override IReadOnlyList<byte[]> Words { get; } =
    [
        "PAR1"u8.ToArray(), "PARE"u8.ToArray(), Int32(0), Int32(-1), Int32(int.MaxValue), [0x15, 0], [0x19, 0xFC], [0x18, 1, (byte)'a'],
        ThriftBytes.Varint(ulong.MaxValue), ThriftBytes.Varint(1 << 20), [.. Enumerable.Repeat((byte)0x19, 70)], Plain("a"), Deltas(1, 2, 3),
    ];

    public override Gen<byte[]> Structure { get; } = Columns();

    /// <summary>The file gets its magic at both ends, and a footer that lies within it.</summary>
    public override byte[] Repair(byte[] input)
    {
        int most = input.Length - LengthAndMagic - ParquetFooter.Magic.Length;
        if (most < 0)
        {
            return input;
        }

        ParquetFooter.Magic.CopyTo(input);
        ParquetFooter.Magic.CopyTo(input.AsSpan(input.Length - ParquetFooter.Magic.Length));
        Span<byte> length = input.AsSpan(input.Length - LengthAndMagic);
        if (BinaryPrimitives.ReadUInt32LittleEndian(length) > most)
        {
            BinaryPrimitives.WriteInt32LittleEndian(length, most);
        }

        return input;
    }

    public override void Read(byte[] input)
    {
        PromptFileException? refused = null;
        int accepted = 0;
        foreach (PromptSelection? selection in new PromptSelection?[] { null, new() { Column = "1" }, new() { Column = "2" } })
        {
            try
            {
                PromptsTarget.Read(FileName, input, selection);
                accepted++;
            }
            catch (PromptFileException e)
            {
                refused = e;
            }
        }

        try
        {
            var (positive, negative) = PromptFile.ReadPairs(FileName, input);
            Promise(positive.Count > 0 && negative.Count > 0, "a contrast has two sides");
        }
        catch (PromptFileException)
        {
            // Most prompts are no pairs.
        }

        if (accepted == 0)
        {
            throw refused!;
        }
    }

    // Texts that share what the one before begins with.
    private static byte[] Prefixed(params string[] texts)
    {
        byte[][] bytes = [.. texts.Select(Encoding.UTF8.GetBytes)];
        long[] shared = [0, .. bytes.Zip(bytes.Skip(1)).Select(static x => (long)x.First.AsSpan().CommonPrefixLength(x.Second))];
        return [.. Deltas(shared), .. Deltas([.. bytes.Zip(shared).Select(static x => x.First.Length - x.Second)]),
            .. bytes.Zip(shared).SelectMany(static x => x.First.Skip((int)x.Second))];
    }

    private static byte[] Compressed(string text)
    {
        byte[] plain = Plain(text);
        return Page(Snappier.Snappy.CompressToArray(plain), 1, size: plain.Length);
    }

    // Files of one to three columns of one to six rows, in the encodings of texts; now and then a number is another one.
    private static Gen<byte[]> Columns()
    {
        Gen<int> odd = Gen.Elements(-1, 0, 1, 2, 7, 33, 255, 1 << 16, int.MaxValue, int.MinValue);
        Gen<int> Mostly(int right) => Gen.Frequency((30, Gen.Constant(right)), (1, odd));
        Gen<SampleColumn> Column(int rows, int number) =>
            from texts in Gen.ArrayOf(Gen.Elements(s_texts), rows)
            from encoding in Gen.Elements(0, 6, 7, 8)
            from count in Mostly(rows)
            from declared in Mostly(encoding)
            from type in Mostly(6)
            from converted in Mostly(0)
            from repetition in Mostly(0)
            from codec in Mostly(0)
            select new SampleColumn(number == 0 ? "prompt" : $"c{number}", Pages(texts, encoding, declared, count), count)
            {
                Type = type,
                Converted = converted,
                Repetition = repetition,
                Codec = codec,
            };

        return from rows in Gen.Choose(1, 6)
               from columns in Gen.Choose(1, 3).SelectMany(n => Gen.CollectToArray(Enumerable.Range(0, n).ToArray(), i => Column(rows, i)))
               from claimed in Mostly(rows)
               select File(claimed, columns);
    }

    private static byte[] Pages(string[] texts, int encoding, int declared, int count)
    {
        byte[][] bytes = [.. texts.Select(Encoding.UTF8.GetBytes)];
        string[] distinct = [.. texts.Distinct(StringComparer.Ordinal)];
        return encoding switch
        {
            6 => Page([.. Deltas([.. bytes.Select(static x => (long)x.Length)]), .. bytes.SelectMany(static x => x)], count, declared),
            7 => Page(Prefixed(texts), count, declared),
            8 => [.. Dictionary(distinct), .. Page([8, .. ThriftBytes.Varint(3), .. Places(), .. new byte[8 - texts.Length]], count, declared)],
            _ => Page(Plain(texts), count, declared),
        };

        IEnumerable<byte> Places() => texts.Select(text => (byte)Array.IndexOf(distinct, text));
    }
}
