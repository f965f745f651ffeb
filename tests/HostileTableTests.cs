using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Hub;
using Tiller.Synthesis;
using Tiller.Tokens;

namespace Tiller.Tests;

/// <summary>Every test, case and error code that <c>docs/hostile-inputs.md</c> names exists.</summary>
public sealed class HostileTableTests
{
    // The section of HTTP is that of another project of tests.
    private const string Http = "7";

    private static readonly HashSet<string> s_errors =
    [
        .. Enum.GetNames<SafetensorsError>(), .. Enum.GetNames<CheckpointError>(), .. Enum.GetNames<ConfigError>(),
        .. Enum.GetNames<TokenizerError>(), .. Enum.GetNames<ControllerFault>(), .. Enum.GetNames<RiccatiFault>(),
        .. Enum.GetNames<HubError>(),
        .. new[] { typeof(Tiller.Ops.DeviceOps), typeof(Tiller.Kernels.KernelLibrary), typeof(TillerException), typeof(IOException) }
            .SelectMany(t => t.Assembly.GetExportedTypes()).Where(t => t.IsAssignableTo(typeof(Exception))).Select(t => t.Name),
    ];

    private static IEnumerable<string> Named => HostileTable.Sections.Where(s => s.Name != Http).SelectMany(s => s.Rows).SelectMany(r => r.Tests)
        .Distinct(StringComparer.Ordinal);

    private static IEnumerable<string> Errors =>
        HostileTable.Sections.SelectMany(s => s.Rows).SelectMany(r => r.Errors).Distinct(StringComparer.Ordinal);

    [TestCaseSource(nameof(Named))]
    public void A_named_test_exists(string name) => HostileTable.CheckTest(typeof(HostileTableTests).Assembly, name);

    [Test]
    public void Every_error_named_exists() => Assert.That(Errors, Is.Not.Empty.And.SubsetOf(s_errors));

    [Test]
    public void Every_row_stands_there_once_in_order_and_has_tests_or_a_reason()
    {
        string[] names = ["2", "3a", "3b", "3c", "3d", "3e", "4", "5", "6", Http, "8", "9", "10", "11"];
        Assert.That(HostileTable.Sections.Select(s => s.Name), Is.EqualTo(names));
        (int First, int Last)[] expected =
            [(1, 64), (1, 14), (15, 26), (27, 49), (50, 60), (61, 68), (1, 24), (1, 14), (1, 13), (1, 68), (1, 10), (1, 6), (1, 5), (1, 5)];
        foreach (var (section, (first, last)) in HostileTable.Sections.Zip(expected))
        {
            Assert.That(section.Rows.Select(r => r.Number), Is.EqualTo(Enumerable.Range(first, last - first + 1)), section.Name);
        }

        Assert.That(HostileTable.Sections.SelectMany(s => s.Rows).Where(r => r.Tests.Count == 0 && !r.IsNotApplicable), Is.Empty);
    }
}
