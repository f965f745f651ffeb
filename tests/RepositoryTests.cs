namespace Tiller.Tests;

/// <summary>What holds for the files of the checkout, whatever is in them.</summary>
public class RepositoryTests
{
    // As in .editorconfig and docs/style.md.
    private const int MaxColumns = 150;

    private static readonly string[] s_folders = ["src", "tests", "tools", "samples", ".ci"];

    private static readonly string[] s_code = [".cs", ".cu", ".cuh", ".cpp", ".h", ".py", ".sh", ".pl"];

    [Test]
    public void Every_golden_folder_has_a_checkpoint() =>
        Assert.That(Repository.Goldens, Has.All.Matches<string>(d => File.Exists(Path.Combine(d!, "checkpoint", "tokenizer.json"))));

    // No analyzer does this: they know C# alone, and leave out strings and comments.
    [TestCaseSource(nameof(s_folders))]
    public void No_line_of_code_has_more_than_150_columns(string folder)
    {
        string[] files = [.. Directory.EnumerateFiles(Repository.Path(folder), "*", SearchOption.AllDirectories).Where(IsCode)];
        Assert.That(files, Is.Not.Empty);
        Assert.That(files.SelectMany(f => Wide(File.ReadAllText(f)).Select(line => $"{Path.GetRelativePath(Repository.Root, f)}:{line}")), Is.Empty);
    }

    [Test]
    public void A_line_that_is_too_wide_is_found()
    {
        string widest = new('é', MaxColumns);
        Assert.That(Wide($"{widest}\r\n{widest}x\n\n{string.Concat(Enumerable.Repeat("🚢", MaxColumns))}\nx{widest}"), Is.EqualTo(new[] { 2, 5 }));
    }

    private static bool IsCode(string file) => s_code.Contains(Path.GetExtension(file)) || file == Repository.Path(".ci", "run");

    private static IEnumerable<int> Wide(string text) =>
        text.ReplaceLineEndings("\n").Split('\n').Index()
            .Where(line => line.Item.EnumerateRunes().Count() > MaxColumns).Select(line => line.Index + 1);
}
