using System.Reflection;
using System.Text.RegularExpressions;
using NUnit.Framework.Interfaces;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Hub;
using Tiller.Synthesis;
using Tiller.Tokens;

namespace Tiller.Tests;

/// <summary>Every test, case and error code that <c>docs/hostile-inputs.md</c> names exists.</summary>
public sealed partial class HostileTableTests
{
    private static readonly string s_text = File.ReadAllText(Repository.Path("docs", "hostile-inputs.md")).ReplaceLineEndings("\n");

    private static readonly ILookup<string, Type> s_fixtures =
        typeof(HostileTableTests).Assembly.GetTypes().Where(t => !t.IsNested && t.Name.EndsWith("Tests", StringComparison.Ordinal))
            .ToLookup(t => t.Name);

    private static readonly HashSet<string> s_errors =
    [
        .. Enum.GetNames<SafetensorsError>(), .. Enum.GetNames<CheckpointError>(), .. Enum.GetNames<ConfigError>(),
        .. Enum.GetNames<TokenizerError>(), .. Enum.GetNames<ControllerFault>(), .. Enum.GetNames<RiccatiFault>(),
        .. Enum.GetNames<HubError>(),
        .. new[] { typeof(Tiller.Ops.DeviceOps), typeof(Tiller.Kernels.KernelLibrary), typeof(TillerException), typeof(IOException) }
            .SelectMany(t => t.Assembly.GetExportedTypes()).Where(t => t.IsAssignableTo(typeof(Exception))).Select(t => t.Name),
    ];

    private static IEnumerable<string> Named => Rows().Matches(s_text).SelectMany(r => Quoted(r, "tests")).Distinct(StringComparer.Ordinal);

    private static IEnumerable<string> Errors => Rows().Matches(s_text).SelectMany(r => Quoted(r, "result")).Where(q => Names().IsMatch(q))
        .Distinct(StringComparer.Ordinal);

    [TestCaseSource(nameof(Named))]
    public void A_named_test_exists(string name)
    {
        string[] parts = name.Split(": ");
        string[] path = parts[0].Split('.');
        MethodInfo method = s_fixtures[path[0]].Select(fixture => fixture.GetMethod(path[1])).Single(m => m is not null)!;
        Assert.That(method.GetCustomAttributes().Any(a => a is ISimpleTestBuilder or ITestBuilder), "it is a test");
        if (parts.Length > 1)
        {
            string source = method.GetCustomAttribute<TestCaseSourceAttribute>()!.SourceName!;
            object cases = method.DeclaringType!.GetMethod(source, BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)!.Invoke(
                null, null)!;
            Assert.That(((IEnumerable<TestCaseData>)cases).Select(c => c.ArgDisplayNames![0]), Has.Some.Matches($@"^{parts[1]}\b"));
        }
    }

    [Test]
    public void Every_error_named_exists() => Assert.That(Errors, Is.Not.Empty.And.SubsetOf(s_errors));

    [Test]
    public void Every_row_stands_there_once_in_order_and_has_tests_or_a_reason()
    {
        string[] sections = s_text.Split("\n## ")[1..];
        var rows = sections.Select(s => Rows().Matches(s).Select(m => int.Parse(m.Groups["row"].Value)).ToArray()).ToArray();
        Assert.That(sections.Select(s => s[..s.IndexOf('.', StringComparison.Ordinal)]),
            Is.EqualTo(new[] { "2", "3a", "3b", "3c", "3d", "3e", "3f", "4", "5", "6", "7" }));
        (int First, int Last)[] expected = [(1, 64), (1, 14), (15, 26), (27, 49), (50, 60), (61, 68), (69, 80), (1, 24), (1, 14), (1, 13), (1, 9)];
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.That(rows[i], Is.EqualTo(Enumerable.Range(expected[i].First, expected[i].Last - expected[i].First + 1)),
                sections[i].Split('\n')[0]);
        }

        var bare = Rows().Matches(s_text)
            .Where(r => !Quoted(r, "tests").Any() && !r.Groups["tests"].Value.StartsWith("not applicable: ", StringComparison.Ordinal));
        Assert.That(bare.Select(r => r.Value), Is.Empty);
    }

    private static IEnumerable<string> Quoted(Match row, string column) => Quotes().Matches(row.Groups[column].Value)
        .Select(m => m.Groups["text"].Value);

    [GeneratedRegex(@"^\| (?<row>\d+) \| [^|\n]+ \| (?<result>[^|\n]+) \| (?<tests>[^|\n]+) \|$", RegexOptions.Multiline, 1000)]
    private static partial Regex Rows();

    [GeneratedRegex("`(?<text>[^`\n]+)`", RegexOptions.None, 1000)]
    private static partial Regex Quotes();

    // Codes and exceptions; not keys, paths and options.
    [GeneratedRegex("^[A-Z][A-Za-z0-9]+$", RegexOptions.None, 1000)]
    private static partial Regex Names();
}
