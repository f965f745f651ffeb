using System.Reflection;
using System.Text.RegularExpressions;
using NUnit.Framework.Interfaces;

namespace Tiller.Tests;

/// <summary>Every test that <c>hostile.md</c> names is there, and so is every case.</summary>
public sealed partial class HostileTableTests
{
    private static readonly string s_text = File.ReadAllText(Repository.Path("tests", "hostile.md"));

    private static readonly ILookup<string, Type> s_fixtures =
        typeof(HostileTableTests).Assembly.GetTypes().Where(t => !t.IsNested && t.Name.EndsWith("Tests", StringComparison.Ordinal)).ToLookup(t => t.Name);

    private static IEnumerable<string> Named => Tests().Matches(s_text).Select(m => m.Value.Trim('`')).Where(n => n.Contains('.', StringComparison.Ordinal) && n != "Fixture.Test: n").Distinct(StringComparer.Ordinal);

    [TestCaseSource(nameof(Named))]
    public void A_named_test_exists(string name)
    {
        string[] parts = name.Split(": ");
        string[] path = parts[0].Split('.');
        Type fixture = s_fixtures[path[0]].Single();
        MethodInfo method = fixture.GetMethod(path[1]) ?? throw new MissingMethodException(path[0], path[1]);
        Assert.That(method.GetCustomAttributes().Any(a => a is ISimpleTestBuilder or ITestBuilder), "it is a test");
        if (parts.Length > 1)
        {
            string source = method.GetCustomAttribute<TestCaseSourceAttribute>()!.SourceName!;
            object cases = fixture.GetMethod(source, BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)!.Invoke(null, null)!;
            Assert.That(((IEnumerable<TestCaseData>)cases).Select(c => c.ArgDisplayNames![0]), Has.Some.Matches($@"^{parts[1]}\b"));
        }
    }

    [Test]
    public void Every_row_stands_there_once_in_order()
    {
        string[] sections = s_text.Split("\n## ")[1..];
        var rows = sections.Select(s => Rows().Matches(s).Select(m => int.Parse(m.Groups["row"].Value)).ToArray()).ToArray();
        Assert.That(sections.Select(s => s[..s.IndexOf('.', StringComparison.Ordinal)]), Is.EqualTo(new[] { "2", "3a", "3b", "3c", "3d", "3e", "4" }));
        (int First, int Last)[] expected = [(1, 64), (1, 14), (15, 26), (27, 49), (50, 60), (61, 68), (1, 24)];
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.That(rows[i], Is.EqualTo(Enumerable.Range(expected[i].First, expected[i].Last - expected[i].First + 1)), sections[i].Split('\n')[0]);
        }
    }

    [GeneratedRegex("`[^`\n]+`", RegexOptions.None, 1000)]
    private static partial Regex Tests();

    [GeneratedRegex(@"^\| (?<row>\d+) \|", RegexOptions.Multiline, 1000)]
    private static partial Regex Rows();
}
