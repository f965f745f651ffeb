using System.Globalization;
using System.Text.Json;
using Tiller.Chat;
using Tiller.Jinja;

namespace Tiller.Tool;

/// <summary>
/// Compares chat templates with the output of transformers: whole templates (renderings.json) and pieces of Jinja (snippets.json). Texts and errors
/// must be equal.
/// </summary>
internal static class TemplateChecks
{
    private const string Renderings = "renderings.json";
    private const string Snippets = "snippets.json";

    // Maximum number of differing cases that a row's note names.
    private const int Named = 5;

    // Variables that are not among the other variables of a case.
    private static readonly string[] s_given = ["tools", "documents"];

    /// <summary>Whether a folder has cases of templates.</summary>
    public static bool Has(string path) => File.Exists(Path.Combine(path, Renderings)) || File.Exists(Path.Combine(path, Snippets));

    /// <summary>Renders every case.</summary>
    /// <param name="path">The folder with the cases.</param>
    /// <param name="templates">The folder with the .jinja files that renderings.json names.</param>
    /// <param name="cancellationToken">Checked while rendering.</param>
    public static IEnumerable<VerificationRow> Run(string path, string templates, CancellationToken cancellationToken)
    {
        if (File.Exists(Path.Combine(path, Snippets)))
        {
            using JsonDocument document = GoldenFolder.ParseFile(Path.Combine(path, Snippets));
            var clock = new PinnedClock(document.RootElement);
            foreach (var cases in document.RootElement.GetProperty("snippets").EnumerateArray().ToLookup(IsRare))
            {
                yield return Row(path, cases.Key ? "snippets, rare" : "snippets", cases.Select(snippet => (
                    snippet, snippet.GetProperty("name").GetString()!, snippet.GetProperty("template").GetString()!)), RenderSnippet);
            }

            string RenderSnippet(JinjaTemplate template, JsonElement snippet) =>
                template.Render(Variables(snippet).ToDictionary(StringComparer.Ordinal), clock, null, cancellationToken).Text;
        }

        if (File.Exists(Path.Combine(path, Renderings)))
        {
            using JsonDocument document = GoldenFolder.ParseFile(Path.Combine(path, Renderings));
            var clock = new PinnedClock(document.RootElement);
            var cases = document.RootElement.GetProperty("templates").EnumerateObject().SelectMany(template =>
            {
                string source = ReadTemplate(templates, template.Name);
                return template.Value.EnumerateArray().Select(rendering =>
                    (rendering, $"{template.Name} {rendering.GetProperty("name").GetString()}", source));
            });
            yield return Row(path, "renderings", cases, (template, rendering) => RenderChat(template, rendering, clock, cancellationToken));
        }
    }

    private static bool IsRare(JsonElement snippet) => snippet.TryGetProperty("rare", out JsonElement rare) && rare.GetBoolean();

    private static VerificationRow Row(
        string path, string kind, IEnumerable<(JsonElement Case, string Name, string Source)> cases, Func<JinjaTemplate, JsonElement, string> render)
    {
        int count = 0;
        var different = new List<string>();
        (string Source, JinjaTemplate? Template) last = ("", null);
        foreach ((JsonElement expected, string name, string source) in cases)
        {
            count++;
            string? found = null;
            JinjaException? error = null;
            try
            {
                last = last.Template is not null && last.Source == source ? last : (source, JinjaTemplate.Parse(source));
                found = render(last.Template!, expected);
            }
            catch (JinjaException e)
            {
                error = e;
            }

            if (!Agrees(expected, found, error))
            {
                different.Add(name);
            }
        }

        string note = different.Count == 0 ? "" : $"differ: {string.Join(", ", different.Take(Named))}{(different.Count > Named ? ", …" : "")}";
        return new VerificationRow(path, kind, count, different.Count, 0, note);
    }

    // Expected is a text, or an error raised by the template with its message, or any other error.
    private static bool Agrees(JsonElement expected, string? found, JinjaException? error) =>
        expected.TryGetProperty("expected", out JsonElement text) ? found is not null && found == text.GetString()
            : expected.TryGetProperty("error", out JsonElement raised) ? error is { Code: JinjaError.Raised } && error.Detail == raised.GetString()
            : error is not null && error.Code != JinjaError.Raised && expected.TryGetProperty("error_class", out _);

    private static string RenderChat(JinjaTemplate template, JsonElement rendering, TimeProvider clock, CancellationToken cancellationToken)
    {
        IReadOnlyList<JinjaValue> messages = ChatInput.Messages(rendering.GetProperty("messages"),
            rendering.TryGetProperty("drop_null", out JsonElement drop) && drop.GetBoolean());
        string? field = !rendering.TryGetProperty("continue_final_message", out JsonElement more) ? null
            : more.ValueKind == JsonValueKind.String ? more.GetString() : more.GetBoolean() ? "content" : null;
        messages = field is null ? messages : ChatInput.Mark(messages, field);
        var variables = ChatInput.Variables(JinjaValue.List(messages), rendering.GetProperty("add_generation_prompt").GetBoolean(), [
            .. Variables(rendering), .. s_given.Where(name => rendering.TryGetProperty(name, out _))
                .Select(name => KeyValuePair.Create(name, JinjaValue.FromJson(rendering.GetProperty(name))))]);
        string text = template.Render(variables, clock, null, cancellationToken).Text;
        return field is null ? text : text[..ChatInput.EndOfMarked(text)];
    }

    private static IEnumerable<KeyValuePair<string, JinjaValue>> Variables(JsonElement owner) =>
        owner.TryGetProperty("variables", out JsonElement variables)
            ? variables.EnumerateObject().Select(static variable => KeyValuePair.Create(variable.Name, JinjaValue.FromJson(variable.Value)))
            : [];

    private static string ReadTemplate(string folder, string name)
    {
        string path = Path.Combine(folder, name.EndsWith(".jinja", StringComparison.Ordinal) ? name : name + ".jinja");
        if (Path.GetFileName(name) != name || !File.Exists(path))
        {
            throw new GoldenException(path, $"no such template, but {Renderings} names it. Name the folder of the templates with --templates.");
        }

        return File.ReadAllText(path);
    }

    /// <summary>The time at which the cases were rendered.</summary>
    private sealed class PinnedClock(JsonElement root) : TimeProvider
    {
        private readonly DateTimeOffset now = DateTimeOffset.Parse(root.GetProperty("strftime_now").GetString()!, CultureInfo.InvariantCulture,
            DateTimeStyles.AssumeUniversal);

        public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

        public override DateTimeOffset GetUtcNow() => now;
    }
}
