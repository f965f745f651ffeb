using System.CommandLine;
using System.Text;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>docs/cli.md is what <c>--help</c> prints.</summary>
public sealed class HelpPageTests
{
    /// <summary>Set to 1, the page is written instead of compared.</summary>
    private const string Rewrite = "TILLER_REWRITE_DOCS";

    [Test]
    public async Task The_page_of_commands_is_their_help()
    {
        string path = Repository.Path("docs", "cli.md"), page = await Page();
        if (Environment.GetEnvironmentVariable(Rewrite) == "1")
        {
            await File.WriteAllTextAsync(path, page);
        }

        string written = (await File.ReadAllTextAsync(path)).ReplaceLineEndings("\n");
        Assert.That(
            written, Is.EqualTo(page), $"docs/cli.md is not what --help prints. Write it anew: {Rewrite}=1 dotnet test -c Release "
                + $"--filter {nameof(HelpPageTests)}");
    }

    private static async Task<string> Page()
    {
        var page = new StringBuilder(
            """
            # The command line

            What `tiller --help` and the `--help` of every command print. A test compares this page with the program and, with
            `TILLER_REWRITE_DOCS=1`, writes it: `TILLER_REWRITE_DOCS=1 dotnet test -c Release --filter HelpPageTests`.

            """);
        await Append(page, "tiller");
        await using var nowhere = new StringWriter();
        foreach (TillerCommand command in Runs.Commands(new Terminal(Stream.Null, false, nowhere, false, nowhere, false)))
        {
            await Append(page, $"tiller {command.Name}", command.Name);
        }

        return page.ToString();
    }

    private static async Task Append(StringBuilder page, string title, params string[] command)
    {
        var run = await ToolRun.Of([.. command, "--help"]);
        Assert.That((run.Code, run.Error), Is.EqualTo((0, "")), title);

        // The name of the program that runs, here the tests' host.
        string output = run.Output.ReplaceLineEndings("\n").Replace($"\n  {RootCommand.ExecutableName} ", "\n  tiller ", StringComparison.Ordinal);
        string[] lines = [.. output.TrimEnd().Split('\n').Select(l => l.TrimEnd())];
        page.Append($"\n## {title}\n\n```text\n{string.Join('\n', lines)}\n```\n");
    }
}
