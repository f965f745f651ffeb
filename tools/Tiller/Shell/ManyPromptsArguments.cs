using System.CommandLine;
using Tiller.Features;

namespace Tiller.Tool;

/// <summary>A file of prompts that are all continued, into a file.</summary>
/// <param name="Prompts">The file of prompts.</param>
/// <param name="Selection">Where in it they are.</param>
/// <param name="Out">JSON lines, one a prompt.</param>
/// <param name="Batch">How many are continued together.</param>
internal sealed record ManyPromptsRequest(string Prompts, PromptSelection Selection, string Out, int Batch);

/// <summary>The arguments of the commands that continue one prompt, for many.</summary>
internal sealed class ManyPromptsArguments
{
    private readonly Option<string?> _prompts = new("--prompts")
    {
        Description = "Continue every prompt of this file, into --out: a text with one a line, .jsonl, a .json array, or a table (.csv, .tsv, "
            + ".parquet).",
        HelpName = "FILE",
    };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "With --prompts: JSON lines, one a prompt in the file's order, each written when it is whole. What an interrupted run has "
            + "written is kept, and the same command goes on from there.",
        HelpName = "FILE",
    };

    private readonly Option<int?> _batch = OptionKinds.NumberOrNone<int>(
        "--batch",
        "With --prompts: how many are continued together; up to 8 the texts do not depend on it. [default: 8]", n => n > 0,
        "a whole number above 0");

    private readonly Option<string?> _column = SelectionArguments.Column<string?>("With --prompts: ");
    private readonly Option<string?> _field = SelectionArguments.Field<string?>("With --prompts: ");

    public void AddTo(Command command)
    {
        Option[] options = [_prompts, _out, _batch, _column, _field];
        foreach (var option in options)
        {
            command.Add(option);
        }
    }

    /// <summary>What was asked for, checked; null if it is one prompt.</summary>
    /// <exception cref="UsageException">The arguments contradict each other.</exception>
    public ManyPromptsRequest? Read(ParseResult parse, PromptRequest one)
    {
        var (prompts, to, batch) = (parse.GetValue(_prompts), parse.GetValue(_out), parse.GetValue(_batch));
        var selection = new PromptSelection { Column = parse.GetValue(_column), Field = parse.GetValue(_field) };
        if (prompts is null)
        {
            bool any = to is not null || batch is not null || selection != new PromptSelection();
            return any
                ? throw new UsageException("--out, --batch, --column and --field are about the prompts of a file: give it as --prompts FILE.")
                : null;
        }

        if (one.Text is not null || one.File is not null)
        {
            throw new UsageException("--prompts has all the prompts: leave out the prompt and --file.");
        }

        if (to is null or Destination.StandardOutput)
        {
            throw new UsageException("--prompts needs --out FILE, a file that a later run can go on with.");
        }

        return new ManyPromptsRequest(prompts, selection, to, batch ?? 8);
    }
}

/// <summary>The options that say where in a data file its prompts are.</summary>
internal static class SelectionArguments
{
    public static Option<T> Column<T>(string when) => new("--column")
    {
        Description = $"{when}the table's column with the prompts, by name or number, where it has no usual name.",
        HelpName = "name",
    };

    public static Option<T> Field<T>(string when) => new("--field")
    {
        Description = $"{when}the field with the prompt in every item of JSON, or with the list of them; names with dots between.",
        HelpName = "name",
    };
}
