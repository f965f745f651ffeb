using System.Text;
using Tiller.Features;
using Tiller.Tokens;

namespace Tiller.Bench;

/// <summary>The demo's tokenizer on its own prose and on the worst text for a merge loop.</summary>
internal static class TokenizeBench
{
    private const int SizeInBytes = 1_000_000;

    /// <summary>One core each.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter)
    {
        var tokenizer = Tokenizer.Load(request.DemoFolder);
        yield return meter.Measure(Encode("tokenize prose", Prose(request.DemoFolder)));
        yield return meter.Measure(Encode("tokenize one character", new string('a', SizeInBytes)));

        Work Encode(string name, string text)
        {
            int bytes = Encoding.UTF8.GetByteCount(text);
            return new Work
            {
                Name = $"{name}, {bytes / 1e6:0.##} MB",
                Bytes = bytes,
                Flops = 0,
                WorkingSet = bytes,
                Threads = 1,
                Amount = bytes / 1e6,
                RateUnit = "MB/s",
                Run = () => tokenizer.Encode(text),
            };
        }
    }

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
