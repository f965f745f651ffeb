using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Tiller.Tests;

/// <summary>
/// tests/mutants holds defects as patches, which the suite must notice; run.sh there applies them. Here: that they still
/// apply. And synchronisation.sh takes away what orders the threads of the kernels; here: that nothing has been forgotten.
/// </summary>
public sealed partial class MutantTests
{
    private static IEnumerable<string> Patches => Directory.GetFiles(Repository.Path("tests", "mutants"), "*.patch").Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal);

    [TestCaseSource(nameof(Patches))]
    public async Task A_patch_applies_and_says_which_tests_come_first(string patch)
    {
        string text = await File.ReadAllTextAsync(Repository.Path("tests", "mutants", patch));
        Assert.That(Header(text, "Defect"), Does.EndWith("."));
        string[] types = [.. typeof(MutantTests).Assembly.GetTypes().Select(t => t.FullName!)];
        foreach (string tests in Header(text, "First").Split('|'))
        {
            Assert.That(types, Has.Some.StartsWith("Tiller.Tests." + tests), tests);
        }

        using var git = Process.Start(new ProcessStartInfo("git", ["apply", "--check", Repository.Path("tests", "mutants", patch)])
        {
            WorkingDirectory = Repository.Root,
            UseShellExecute = false,
            RedirectStandardError = true,
        })!;
        string error = await git.StandardError.ReadToEndAsync();
        await git.WaitForExitAsync();
        Assert.That(git.ExitCode, Is.Zero, $"{patch} no longer applies; make it anew. {error}");
    }

    [Test]
    public void Every_folder_of_the_engine_has_a_defect_and_twenty_are_there()
    {
        string[] files = [.. Patches.Select(p => ChangedFile().Match(File.ReadAllText(Repository.Path("tests", "mutants", p))).Groups["file"].Value)];
        string[] folders = [.. Directory.GetDirectories(Repository.Path("src", "Engine")).Where(d => Directory.EnumerateFiles(d, "*.cs").Any()).Select(d => Path.GetFileName(d))];
        Assert.That(files, Has.Length.AtLeast(20));
        foreach (string folder in folders)
        {
            Assert.That(files, Has.Some.StartsWith($"src/Engine/{folder}/"), folder);
        }
    }

    [Test]
    public void Every_barrier_wait_and_fence_of_the_kernels_has_been_taken_away()
    {
        string report = Repository.Path("tests", "mutants", "synchronisation.md");
        var (rows, there) = (new List<string>(), new List<string>());
        foreach (string line in File.ReadLines(report))
        {
            var row = Taken().Match(line);
            if (row.Success)
            {
                rows.Add($"{row.Groups["file"].Value} {row.Groups["statement"].Value}");
                Assert.That(line, Does.Not.Contain("**nothing**"), "no test noticed");
            }
        }

        foreach (string file in Directory.GetFiles(Repository.Path("src", "Kernels"), "*.cu*"))
        {
            there.AddRange(Synchronisation().Matches(File.ReadAllText(file)).Select(m => $"{Path.GetFileName(file)} {m.Groups["statement"].Value}"));
        }

        Assert.That(rows, Is.EquivalentTo(there), "run tests/mutants/synchronisation.sh for the files that differ");
    }

    private static string Header(string patch, string key) =>
        Regex.Match(patch, $"^{key}: (?<value>.+)$", RegexOptions.Multiline, Patience.Limit).Groups["value"].Value;

    [GeneratedRegex(@"^\+\+\+ b/(?<file>.+)$", RegexOptions.Multiline, 5000)]
    private static partial Regex ChangedFile();

    [GeneratedRegex(@"^\| (?<file>[a-z_]+\.cuh?):\d+ \| `(?<statement>[^`]+)`", RegexOptions.None, 5000)]
    private static partial Regex Taken();

    // As in the script.
    [GeneratedRegex(@"^ *(if \(.*\) \{ )?(?<statement>(__syncthreads|__threadfence|tillerWaitForPredecessor|tillerWaitForCopies<.*>)\(\));", RegexOptions.Multiline | RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Synchronisation();
}
