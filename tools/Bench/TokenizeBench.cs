using System.Text;
using System.Text.Json;
using Tiller.Features;
using Tiller.Jinja;
using Tiller.Tokens;

namespace Tiller.Bench;

/// <summary>
/// Measures the demo's tokenizer on its own prose and on the worst text for a merge loop; the normalisation (NFC) of other tokenizers on the same
/// prose, plain, after one character that is not Latin, and with one accent to compose in every hundred characters; and turns of a chat through a
/// template.
/// </summary>
internal static class TokenizeBench
{
    private const int SizeInBytes = 1_000_000;

    private const string Template = """
        {%- if tools %}
            {{- '<|im_start|>system\n# Tools\n<tools>' }}
            {%- for tool in tools %}{{- '\n' ~ (tool | tojson) }}{%- endfor %}
            {{- '\n</tools><|im_end|>\n' }}
        {%- endif %}
        {%- set ns = namespace(last=messages | length - 1) %}
        {%- for m in messages[::-1] %}
            {%- if m.role == 'user' and ns.last == messages | length - 1 %}{%- set ns.last = messages | length - 1 - loop.index0 %}{%- endif %}
        {%- endfor %}
        {%- for m in messages %}
            {%- set content = m.content if m.content is string else '' %}
            {%- if m.role == 'assistant' %}
                {%- set thought = '' %}
                {%- if '</think>' in content %}
                    {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                    {%- set content = content.split('</think>')[-1].lstrip('\n') %}
                {%- endif %}
                {{- '<|im_start|>' + m.role + '\n' + ('<think>\n' + thought + '\n</think>\n\n' if loop.index0 > ns.last else '')
                    + content | trim + '<|im_end|>\n' }}
            {%- else %}
                {{- '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}
            {%- endif %}
        {%- endfor %}
        {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
        """;

    /// <summary>Measures each on one core.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter)
    {
        var tokenizer = Tokenizer.Load(request.DemoFolder);
        string prose = Prose(request.DemoFolder);
        yield return meter.Measure(Encode("tokenize prose", prose));
        yield return meter.Measure(Encode("tokenize one character", new string('a', SizeInBytes)));
        yield return meter.Measure(Render(messages: 2));
        yield return meter.Measure(Render(messages: 20));
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

    // Inserts a combining acute accent after every hundredth character.
    private static string Accented(string text) => string.Join('\u0301', text.Chunk(100).Select(chunk => new string(chunk)));

    // A turn of a chat whose template does the work of large ones: it writes tools as JSON, searches the last question, and removes reasoning from
    // answers.
    private static Work Render(int messages)
    {
        JinjaTemplate template = JinjaTemplate.Parse(Template);
        using JsonDocument tools = JsonDocument.Parse("""
            [{"type": "function", "function": {"name": "tide", "description": "Height of the tide.",
              "parameters": {"type": "object", "properties": {"port": {"type": "string"}, "hour": {"type": "integer"}}}}}]
            """);
        var variables = new Dictionary<string, JinjaValue>(StringComparer.Ordinal)
        {
            ["tools"] = JinjaValue.FromJson(tools.RootElement),
            ["add_generation_prompt"] = JinjaValue.Of(true),
            ["messages"] = JinjaValue.List(Enumerable.Range(0, messages).Select(static i => JinjaValue.Map(
            [
                new("role", JinjaValue.ContentText(i % 2 == 0 ? "user" : "assistant")),
                new("content", JinjaValue.ContentText(i % 2 == 0
                    ? "Which way does the current run at noon?"
                    : "<think>\nNoon is two hours after low water.\n</think>\n\nIt runs north.")),
            ]))),
        };
        int bytes = Encoding.UTF8.GetByteCount(template.Render(variables).Text);
        return new Work
        {
            Name = $"chat template, {messages} messages",
            Bytes = bytes,
            Flops = 0,
            WorkingSet = SizeInBytes,
            Threads = 1,
            Amount = 1,
            RateUnit = "turns/s",
            Run = () => template.Render(variables),
        };
    }

    // Repeats the contrast texts.
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
