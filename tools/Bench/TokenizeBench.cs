using System.Text;
using Tiller.Features;
using Tiller.Tokens;

namespace Tiller.Bench;

/// <summary>
/// The demo's tokenizer on its own prose and on the worst text for a merge loop; and the normalisation (NFC) that other tokenizers begin with, of the
/// same prose plain, after one character that is not Latin, and with one accent to be composed in every hundred characters.
/// </summary>
internal static class TokenizeBench
{
    private const int SizeInBytes = 1_000_000;

    /// <summary>One core each.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter)
    {
        var tokenizer = Tokenizer.Load(request.DemoFolder);
        string prose = Prose(request.DemoFolder);
        yield return meter.Measure(Encode("tokenize prose", prose));
        yield return meter.Measure(Encode("tokenize one character", new string('a', SizeInBytes)));
        foreach (var row in meter.Measure(
            [Normalize("nfc prose", prose), Normalize("nfc after an arrow", "\u2192" + prose), Normalize("nfc accent in 100", Accented(prose))]))
        {
            yield return row;
        }

        Work Encode(string name, string text) => Of(name, Encoding.UTF8.GetByteCount(text)) with { Run = () => tokenizer.Encode(text) };

        static Work Normalize(string name, string text)
        {
            byte[] utf8 = Encoding.UTF8.GetBytes(text);
            var output = new ByteBuffer();
            return Of(name, utf8.Length) with
            {
                Comparison = Comparison.Speed,
                Run = () =>
                {
                    output.Length = 0;
                    UnicodeNormalization.Append(utf8, compat: false, output);
                },
            };
        }

        static Work Of(string name, int bytes) => new()
        {
            Name = $"{name}, {bytes / 1e6:0.##} MB",
            Bytes = bytes,
            Flops = 0,
            WorkingSet = bytes,
            Threads = 1,
            Amount = bytes / 1e6,
            RateUnit = "MB/s",
            Run = static () => { },
        };
    }

    // A combining acute accent after every hundredth character.
    private static string Accented(string text) => string.Join('\u0301', text.Chunk(100).Select(chunk => new string(chunk)));

    // The contrast texts over and over.
    private static string Prose(string demoFolder)
    {
        string[] files = [.. Directory.GetFiles(Path.Combine(demoFolder, "contrast"), "*.txt").Order(StringComparer.Ordinal)];
        string once = string.Join(' ', files.SelectMany(f => PromptFile.ReadTexts(f))) + ' ';
        var text = new StringBuilder(SizeInBytes + once.Length);
        while (text.Length < SizeInBytes)
        {
            text.Append(once);
        }

        return text.ToString(0, SizeInBytes);
    }
}
