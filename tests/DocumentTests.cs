using System.Reflection;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Tiller.Tests;

/// <summary>What the documents refer to exists, and so does what refers to them.</summary>
public sealed partial class DocumentTests
{
    private const BindingFlags AnyMember = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance;

    private static readonly string[] s_made = ["artifacts", "build", ".git"];

    private static IEnumerable<string> Pages => Files("*.md");

    [TestCaseSource(nameof(Pages))]
    public void Every_link_leads_somewhere(string page) => Assert.That(Broken(page, Read(page)), Is.Empty);

    [Test]
    public void A_broken_link_is_found()
    {
        const string Text = "[a](no.md) [b](style.md#nowhere) [c](style.md#c) [d](#here) [e](../..) `[f](x)` "
            + "[g](https://example.org)\n\n```text\n[h](x)\n```\n\n# Here\n";
        Assert.That(Broken("docs/README.md", Text), Is.EqualTo(new[] { "no.md", "style.md#nowhere", "../.." }));
    }

    [Test]
    public void Anchors_are_made_as_on_GitHub() =>
        Assert.That(Anchors("# To add a kernel\n## `x` & y: 1.5\n# To add a kernel\n```sh\n# no heading\n```\n"),
            Is.EqualTo(new[] { "to-add-a-kernel", "x--y-15", "to-add-a-kernel-1" }));

    [Test]
    public void Every_section_that_a_source_cites_exists()
    {
        int cited = 0;
        foreach (string file in new[] { "*.cs", "*.cu", "*.cuh" }.SelectMany(Files))
        {
            foreach (Match m in Citations().Matches(Read(file)))
            {
                string page = m.Groups["page"].Value;
                string[] sections = [.. Headings().Matches(Read(page)).Select(h => h.Groups["number"].Value)];
                Assert.That(m.Groups["number"].Captures.Select(c => c.Value), Is.SubsetOf(sections), $"{file}: {m.Value}");
                cited++;
            }
        }

        Assert.That(cited, Is.GreaterThan(30));
        Assert.That(new[] { "*.cs", "*.cu", "*.cuh" }.SelectMany(Files)
            .Where(f => f != "tests/DocumentTests.cs" && Read(f).Contains("MATH.md", StringComparison.Ordinal)), Is.Empty);
    }

    [TestCase("CONTRIBUTING.md")]
    [TestCase("docs/math.md")]
    public void Every_type_and_member_that_a_page_names_exists(string page)
    {
        Type[] known = [typeof(Tiller.Model.LanguageModel), typeof(Tiller.Kernels.KernelLibrary), typeof(TillerException),
            typeof(Tiller.Tool.ExitCode), typeof(DocumentTests)];
        var types = known.SelectMany(t => t.Assembly.GetTypes()).ToLookup(t => t.Name, StringComparer.Ordinal);
        string[] names = [.. Named().Matches(Fences().Replace(Read(page), "")).Select(m => m.Groups["name"].Value).Distinct(StringComparer.Ordinal)];
        Assert.That(names, Has.Length.GreaterThan(10));
        Assert.That(names.Where(n => !Exists(n.Split('.'))), Is.Empty);

        bool Exists(string[] parts) => types[parts[0]].Any(t => parts.Length == 1 || t.GetMember(parts[1], AnyMember).Length > 0);
    }

    // So that what CI runs without Docker is what an image is made by.
    [Test]
    public void The_image_is_made_by_the_script_that_the_gate_runs()
    {
        string docker = Read("Dockerfile");
        string[] steps = [.. docker.Split('\n').Where(l => l.StartsWith("RUN ", StringComparison.Ordinal))];
        Assert.That(steps, Is.EqualTo(new[] { "RUN tools/docker/build.sh /image" }));
        Assert.That(Read(".ci/run"), Does.Contain("step tools/docker/build.sh "));

        using var container = JsonDocument.Parse(Read(".devcontainer/devcontainer.json"));
        string image = container.RootElement.GetProperty("image").GetString()!;
        Assert.That(docker, Does.Contain($"FROM {image} AS build\n"));
        string command = container.RootElement.GetProperty("postCreateCommand").GetString()!;
        Assert.That(Repository.Path(command.Split(' ')[0]), Does.Exist);
    }

    private static IEnumerable<string> Files(string pattern) => Directory
        .EnumerateFiles(Repository.Root, pattern, new EnumerationOptions
        {
            RecurseSubdirectories = true,
            AttributesToSkip = FileAttributes.ReparsePoint,
        })
        .Select(f => Path.GetRelativePath(Repository.Root, f).Replace('\\', '/')).Where(f => !s_made.Contains(f.Split('/')[0]))
        .Order(StringComparer.Ordinal);

    private static string Read(string file) => File.ReadAllText(Repository.Path(file)).ReplaceLineEndings("\n");

    private static IEnumerable<string> Broken(string page, string text) =>
        Links().Matches(Code().Replace(text, "")).Select(m => m.Groups["target"].Value).Where(t => !Elsewhere().IsMatch(t) && !Leads(page, text, t));

    private static bool Leads(string page, string text, string target)
    {
        string[] parts = target.Split('#', 2);
        string path = parts[0].Length == 0
            ? Repository.Path(page)
            : Path.GetFullPath(Path.Combine(Repository.Path(page), "..", Uri.UnescapeDataString(parts[0])));
        bool inside = path.StartsWith(Repository.Root + Path.DirectorySeparatorChar, StringComparison.Ordinal);
        return inside && Path.Exists(path) && (parts.Length == 1 || Anchors(parts[0].Length == 0 ? text : File.ReadAllText(path)).Contains(parts[1]));
    }

    private static IEnumerable<string> Anchors(string text)
    {
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (Match heading in Headings().Matches(Fences().Replace(text, "")))
        {
            string anchor = Dropped().Replace(heading.Groups["text"].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-');
            seen[anchor] = seen.TryGetValue(anchor, out int times) ? times + 1 : 0;
            yield return seen[anchor] == 0 ? anchor : $"{anchor}-{seen[anchor]}";
        }
    }

    [GeneratedRegex(@"\]\((?<target>[^()\s]+)\)", RegexOptions.None, 5000)]
    private static partial Regex Links();

    [GeneratedRegex("^[a-z]+:", RegexOptions.None, 5000)]
    private static partial Regex Elsewhere();

    [GeneratedRegex("^ *```.*?^ *```", RegexOptions.Multiline | RegexOptions.Singleline, 5000)]
    private static partial Regex Fences();

    [GeneratedRegex("^ *```.*?^ *```|`[^`\n]*`", RegexOptions.Multiline | RegexOptions.Singleline, 5000)]
    private static partial Regex Code();

    [GeneratedRegex(@"^#+ +(?<text>(?:(?<number>\w+)\.)?[^\n]*)$", RegexOptions.Multiline, 5000)]
    private static partial Regex Headings();

    // `FitOptions.MaxRank`, `DenseRiccati`; not `--json`, `docs/cli.md`, `TILLER_DEVICE`.
    [GeneratedRegex("`(?<name>[A-Z][A-Za-z0-9]+[a-z][A-Za-z0-9]*(?:\\.[A-Z][A-Za-z0-9]+)?)`", RegexOptions.None, 5000)]
    private static partial Regex Named();

    [GeneratedRegex(@"[^\w\- ]", RegexOptions.None, 5000)]
    private static partial Regex Dropped();

    // docs/math.md §1, §9
    [GeneratedRegex(@"(?<page>docs/[\w-]+\.md) §(?<number>\w+)(?:, §(?<number>\w+))*", RegexOptions.None, 5000)]
    private static partial Regex Citations();
}
