using System.Text.RegularExpressions;

namespace Tiller.Tests;

/// <summary>
/// tests/mutants holds defects as patches, which the suite must notice; run.sh there applies them. Here: the patches still apply. And
/// synchronisation.sh removes what orders the threads of the kernels, one place at a time; here: its results cover every such place.
/// </summary>
public sealed partial class MutantTests
{
    private static IEnumerable<string> Patches => Directory.GetFiles(Repository.Path("tests", "mutants"), "*.patch").Select(f => Path.GetFileName(f))
        .Order(StringComparer.Ordinal);

    [TestCaseSource(nameof(Patches))]
    public void A_patch_applies_and_says_which_tests_come_first(string patch)
    {
        var defect = Defect.Read(Repository.Path("tests", "mutants", patch));
        Assert.That(defect.Text, Does.EndWith("."));
        string[] types = [.. typeof(MutantTests).Assembly.GetTypes().Select(t => t.FullName + ".")];
        foreach (string tests in defect.First)
        {
            Assert.That(types, Has.Some.Contains($".{tests}."), tests);
        }

        string[] files = Directory.GetFiles(Repository.Path("src"), defect.File, SearchOption.AllDirectories);
        Assert.That(files, Has.Length.EqualTo(1), $"{patch}: files of this name");
        string source = "\n" + File.ReadAllText(files[0]);
        Assert.That(source.Split("\n" + defect.Old), Has.Length.EqualTo(2), $"{patch}: its lines must stand in {defect.File} once; make it anew");
        Assert.That(defect.New, Is.Not.EqualTo(defect.Old));
    }

    [Test]
    public void Every_room_of_the_engine_has_a_defect_and_twenty_are_there()
    {
        string[] files = [.. Patches.Select(p => Defect.Read(Repository.Path("tests", "mutants", p)).File)];
        Assert.That(files, Has.Length.AtLeast(20));
        foreach (string room in Directory.GetDirectories(Repository.Path("src", "Engine")).Where(d => Directory.EnumerateFiles(d, "*.cs").Any()))
        {
            Assert.That(Directory.GetFiles(room).Select(Path.GetFileName), Has.Some.Matches<string>(f => files.Contains(f)), Path.GetFileName(room));
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
                const string Found = "^(race, |`|no thread waits|writes device memory|threads wait)";
                Assert.That(row.Groups["found"].Value, Does.Match(Found), $"no test noticed: {line}");
            }
        }

        foreach (string file in Directory.GetFiles(Repository.Path("src", "Kernels"), "*.cu*"))
        {
            there.AddRange(Synchronisation().Matches(File.ReadAllText(file)).Select(m => $"{Path.GetFileName(file)} {m.Groups["statement"].Value}"));
        }

        Assert.That(rows, Is.EquivalentTo(there), "run tests/mutants/synchronisation.sh for the files that differ");
    }

    /// <summary>A defect, which replaces some lines of the file of this name; apply.pl describes the form of a patch.</summary>
    private sealed record Defect(string Text, string[] First, string File, string Old, string New)
    {
        public static Defect Read(string path)
        {
            string[] parts = System.IO.File.ReadAllText(path).Split("\n\n", 2);
            var header = parts[0].Split('\n').Select(line => line.Split(": ", 2))
                .ToDictionary(pair => pair[0], pair => pair[1], StringComparer.Ordinal);
            string[] lines = parts[1].TrimEnd('\n').Split('\n');
            return new Defect(header["Defect"], header["First"].Split('|'), header["File"], Join('-'), Join('+'));

            string Join(char sign) => string.Concat(lines.Where(line => line[0] == ' ' || line[0] == sign).Select(line => line[1..] + "\n"));
        }
    }

    [GeneratedRegex(@"^\| (?<file>[a-z_]+\.cuh?):\d+ \| `(?<statement>[^`]+)` \| (?<found>.*) \| \w+ \|$", RegexOptions.None, 5000)]
    private static partial Regex Taken();

    // As in the script.
    [GeneratedRegex(@"^ *(if \(.*\) \{ )?(?<statement>(__syncthreads|__threadfence|tillerWaitForPredecessor|tillerWaitForCopies<.*>)\(\));",
        RegexOptions.Multiline | RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Synchronisation();
}
