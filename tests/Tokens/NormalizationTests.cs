using System.Globalization;
using System.Text;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>NFC and NFKC from own tables; expected values from the definition (UAX 15) and its examples.</summary>
internal sealed class NormalizationTests
{
    [TestCase("0041 030A", "00C5", "00C5")]
    [TestCase("212B", "00C5", "00C5")]
    [TestCase("1E9B 0323", "1E9B 0323", "1E69")]
    [TestCase("FB01", "FB01", "0066 0069")]
    [TestCase("0064 0307 0323", "1E0D 0307", "1E0D 0307")]
    [TestCase("1100 1161 11A8", "AC01", "AC01")]
    [TestCase("AC00 11A8", "AC01", "AC01")]
    [TestCase("AC00 11A7", "AC00 11A7", "AC00 11A7")]
    [TestCase("0958", "0915 093C", "0915 093C")]
    [TestCase("2ADC", "2ADD 0338", "2ADD 0338")]
    [TestCase("0344", "0308 0301", "0308 0301")]
    [TestCase("0061 0315 0300 05AE 0062", "00E0 05AE 0315 0062", "00E0 05AE 0315 0062")]
    [TestCase("0061 0301 0328", "0105 0301", "0105 0301")]
    [TestCase("0065 0302 0303 0301", "1EC5 0301", "1EC5 0301")]
    [TestCase("0300 0061", "0300 0061", "0300 0061")]
    [TestCase("11099 110BA", "1109A", "1109A")]
    [TestCase("1D15E", "1D157 1D165", "1D157 1D165")]
    [TestCase("FDFA", "FDFA", "0635 0644 0649 0020 0627 0644 0644 0647 0020 0639 0644 064A 0647 0020 0648 0633 0644 0645")]
    [TestCase("FF21 00BD 2460 3300", "FF21 00BD 2460 3300", "0041 0031 2044 0032 0031 30A2 30D1 30FC 30C8")]
    [TestCase("F900 2F800", "8C48 4E3D", "8C48 4E3D")]
    [TestCase("0041 0020 007A", "0041 0020 007A", "0041 0020 007A")]
    public void Known_vectors(string text, string nfc, string nfkc)
    {
        Assert.That(Hex(Normalize(Text(text), compat: false)), Is.EqualTo(nfc));
        Assert.That(Hex(Normalize(Text(text), compat: true)), Is.EqualTo(nfkc));
    }

    [Test]
    public void Every_character_is_stable_once_normalised_and_alone_agrees_with_itself_in_context()
    {
        for (int code = 0; code <= 0x10FFFF; code++)
        {
            if (!Rune.IsValid(code))
            {
                continue;
            }

            string text = new Rune(code).ToString();
            foreach (bool compat in new[] { false, true })
            {
                string once = Normalize(text, compat);
                if (Normalize(once, compat) != once || Normalize("東" + text, compat) != "東" + once)
                {
                    Assert.Fail($"U+{code:X4}, compatibility {compat}: {Hex(once)}");
                }
            }
        }
    }

    [Test]
    public void Long_runs_of_marks_are_sorted_stably()
    {
        string text = "a" + string.Concat(Enumerable.Repeat("\u0301\u0323", 50_000));
        string result = Normalize(text, compat: false);
        Assert.That(result, Is.EqualTo("ạ" + new string('\u0323', 49_999) + new string('\u0301', 50_000)));
    }

    [Test]
    public void A_run_of_marks_costs_its_length_and_ends_where_it_is_cancelled([Values] bool compat)
    {
        long once = Steps(1 << 14, null), twice = Steps(1 << 15, null);
        Assert.That(once, Is.GreaterThan(1 << 14));
        Assert.That(twice, Is.LessThan(2.5 * once));

        // At every tenth of the way, sorting among it.
        for (int tenth = 1; tenth < 10; tenth++)
        {
            long at = once * tenth / 10;
            Assert.That(() => Steps(1 << 14, at), Throws.InstanceOf<OperationCanceledException>().With.Message.EqualTo($"{at}"));
        }

        long Steps(int marks, long? end)
        {
            var steps = new EncodeSteps();
            steps.Begin(count =>
            {
                if (count >= end)
                {
                    throw new OperationCanceledException($"{count}");
                }
            }, CancellationToken.None);
            UnicodeNormalization.Append(Encoding.UTF8.GetBytes("a" + string.Concat(Enumerable.Repeat("\u0301\u0323", marks / 2))), compat,
                new ByteBuffer { Steps = steps });
            return steps.Count;
        }
    }

    // Every kind of code point that joins, moves or falls apart, among such as do nothing.
    [Test]
    public void Stretches_give_what_the_text_gives_as_a_whole([Values] bool compat)
    {
        int[] special =
        [
            .. Enumerable.Range(0x41, 10), .. Enumerable.Range(0xC0, 40), 0xA0, 0xA8, 0xB4, 0xBD, 0x2D8,
            .. Enumerable.Range(0x300, 60), 0x338, 0x340, 0x344, 0x345, 0x3B1, 0x3B9, 0x1F00, 0x1F71, 0x1FB3,
            0x915, 0x93C, 0x958, 0x9C7, 0x9BE, 0x9D7, 0xDD9, 0xDCF, 0xDCA, 0xDDD, 0x1025, 0x102E, 0x11099, 0x110BA, 0x11131, 0x11127, 0x1112E,
            0x1100, 0x1112, 0x1161, 0x1175, 0x11A7, 0x11A8, 0x11C2, 0xAC00, 0xAC01, 0xD7A3, 0x1E9B, 0x1E69, 0x2192, 0x212B, 0x2460, 0x2ADC,
            0x3042, 0x304B, 0x304C, 0x3099, 0x309B, 0x4E2D, 0xF900, 0xFB01, 0xFDFA, 0xFF21, 0xFF76, 0xFF9E, 0x1D15E, 0x1D165, 0x1D16E,
            0x1F600, 0x2F800,
        ];
        var random = new Random(14);
        for (int trial = 0; trial < 40_000; trial++)
        {
            int length = 1 + random.Next(7);
            string text = string.Concat(Enumerable.Range(0, length).Select(_ => char.ConvertFromUtf32(special[random.Next(special.Length)])));
            Assert.That(Hex(Normalize(text, compat)), Is.EqualTo(Hex(Whole(text, compat))), Hex(text));
        }
    }

    [TestCase("\u2192", "", 0)]
    [TestCase("", "\u2192", 0)]
    [TestCase("", "\u4E2D\u6587\uFF0C\uAC00\u3042\u0416\u03B1\U0001F600", 0)]
    [TestCase("e\u0301", "", 2)]
    [TestCase("\u212B", "", 1)]
    [TestCase("", "e\u0301", 2)]
    [TestCase("", "\u0915\u093C", 2)]
    [TestCase("", "\u1100\u1161\u11A8", 3)]
    public void The_fast_path_returns_after_every_stretch(string once, string inEveryHundred, int takenApart)
    {
        const int Pieces = 2000;
        string prose = string.Concat(Enumerable.Repeat("It was a day like others, caf\u00E9 and all. ", 3))[..100];
        string text = once + string.Concat(Enumerable.Repeat(prose + inEveryHundred, Pieces));
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        var output = new ByteBuffer();
        output.Grow(utf8.Length);
        output.Length = 0;
        UnicodeNormalization.Append("\u2192"u8, compat: false, output); // reads the tables
        output.Length = 0;

        long before = GC.GetAllocatedBytesForCurrentThread();
        long count = UnicodeNormalization.Append(utf8, compat: false, output);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;

        Assert.That(count, Is.EqualTo(inEveryHundred.Length > 0 ? (long)takenApart * Pieces : takenApart));
        Assert.That(allocated, Is.LessThan(2000), "scratch for a stretch, not for the text");
        Assert.That(Encoding.UTF8.GetString(output.Span), Is.EqualTo(Whole(text, compat: false)));
    }

    private static string Normalize(string text, bool compat)
    {
        var output = new ByteBuffer();
        UnicodeNormalization.Append(Encoding.UTF8.GetBytes(text), compat, output);
        return Encoding.UTF8.GetString(output.Span);
    }

    private static string Whole(string text, bool compat)
    {
        var output = new ByteBuffer();
        UnicodeNormalization.AppendWhole(Encoding.UTF8.GetBytes(text), compat, output);
        return Encoding.UTF8.GetString(output.Span);
    }

    private static string Text(string hex) =>
        string.Concat(hex.Split(' ').Select(static x => char.ConvertFromUtf32(int.Parse(x, NumberStyles.HexNumber, CultureInfo.InvariantCulture))));

    private static string Hex(string text)
        => string.Join(' ', text.EnumerateRunes().Select(static x => x.Value.ToString("X4", CultureInfo.InvariantCulture)));
}
