namespace Tiller.Tests.Serving;

/// <summary>Every test and case that the section on HTTP of <c>docs/hostile-inputs.md</c> names exists.</summary>
public sealed class HttpTableTests
{
    private static IEnumerable<string> Named =>
        HostileTable.Sections.Single(s => s.Name == "7").Rows.SelectMany(r => r.Tests).Distinct(StringComparer.Ordinal);

    [TestCaseSource(nameof(Named))]
    public void A_named_test_exists(string name) => HostileTable.CheckTest(typeof(HttpTableTests).Assembly, name);
}
