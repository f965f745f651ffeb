using System.Reflection;
using System.Text.RegularExpressions;
using NUnit.Framework.Interfaces;

namespace Tiller.Tests;

/// <summary>A row of <c>docs/hostile-inputs.md</c>.</summary>
/// <param name="Number">Its number.</param>
/// <param name="Errors">The error codes and exceptions that its result names.</param>
/// <param name="Tests">The tests that check it.</param>
/// <param name="IsNotApplicable">Whether it states why there is no test.</param>
internal sealed record HostileRow(int Number, IReadOnlyList<string> Errors, IReadOnlyList<string> Tests, bool IsNotApplicable);

/// <summary>Reads the tables of <c>docs/hostile-inputs.md</c>.</summary>
internal static partial class HostileTable
{
    /// <summary>The sections, each with the number that precedes its title.</summary>
    public static IReadOnlyList<(string Name, IReadOnlyList<HostileRow> Rows)> Sections { get; } =
    [
        .. File.ReadAllText(Repository.Path("docs", "hostile-inputs.md")).ReplaceLineEndings("\n").Split("\n## ")[1..]
            .Select(section => (section[..section.IndexOf('.', StringComparison.Ordinal)], (IReadOnlyList<HostileRow>)[.. RowsOf(section)])),
    ];

    /// <summary>Asserts that a test exists, and the case of it if one is named.</summary>
    /// <param name="assembly">The assembly with the tests.</param>
    /// <param name="name"><c>Fixture.Test</c>, or <c>Fixture.Test: row</c> for one case.</param>
    public static void CheckTest(Assembly assembly, string name)
    {
        string[] parts = name.Split(": ");
        string[] path = parts[0].Split('.');
        var method = assembly.GetTypes().Where(t => !t.IsNested && t.Name == path[0]).Select(fixture => fixture.GetMethod(path[1]))
            .Single(m => m is not null)!;
        Assert.That(method.GetCustomAttributes().Any(a => a is ISimpleTestBuilder or ITestBuilder), "it is a test");
        if (parts.Length > 1)
        {
            string source = method.GetCustomAttribute<TestCaseSourceAttribute>()!.SourceName!;
            object cases = method.DeclaringType!.GetMethod(source, BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)!.Invoke(
                null, null)!;
            Assert.That(((IEnumerable<TestCaseData>)cases).Select(c => c.ArgDisplayNames![0]), Has.Some.Matches($@"^{parts[1]}\b"));
        }
    }

    private static IEnumerable<HostileRow> RowsOf(string section) => Rows().Matches(section).Select(row => new HostileRow(
        int.Parse(row.Groups["row"].Value), [.. Quoted(row, "result").Where(q => Names().IsMatch(q))], [.. Quoted(row, "tests")],
        row.Groups["tests"].Value.StartsWith("not applicable: ", StringComparison.Ordinal)));

    private static IEnumerable<string> Quoted(Match row, string column) => Quotes().Matches(row.Groups[column].Value)
        .Select(m => m.Groups["text"].Value);

    [GeneratedRegex(@"^\| (?<row>\d+) \| [^|\n]+ \| (?<result>[^|\n]+) \| (?<tests>[^|\n]+) \|$", RegexOptions.Multiline, 1000)]
    private static partial Regex Rows();

    [GeneratedRegex("`(?<text>[^`\n]+)`", RegexOptions.None, 1000)]
    private static partial Regex Quotes();

    // Matches error codes and exceptions, but not keys, paths and options.
    [GeneratedRegex("^[A-Z][A-Za-z0-9]+$", RegexOptions.None, 1000)]
    private static partial Regex Names();
}
