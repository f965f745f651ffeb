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

    private static string Normalize(string text, bool compat)
    {
        var output = new ByteBuffer();
        UnicodeNormalization.Append(Encoding.UTF8.GetBytes(text), compat, output);
        return Encoding.UTF8.GetString(output.Span);
    }

    private static string Text(string hex) =>
        string.Concat(hex.Split(' ').Select(static x => char.ConvertFromUtf32(int.Parse(x, NumberStyles.HexNumber, CultureInfo.InvariantCulture))));

    private static string Hex(string text) => string.Join(' ', text.EnumerateRunes().Select(static x => x.Value.ToString("X4", CultureInfo.InvariantCulture)));
}
