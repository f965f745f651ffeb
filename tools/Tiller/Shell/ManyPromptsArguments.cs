using System.CommandLine;
using Tiller.Features;

namespace Tiller.Tool;

/// <summary>A file whose prompts are all continued, and the file for the results.</summary>
/// <param name="Prompts">The file of prompts.</param>
/// <param name="Selection">Where the prompts are in the file.</param>
/// <param name="Out">The file for the results, a JSON line for each prompt.</param>
/// <param name="Batch">Number of prompts that are continued together.</param>
internal sealed record ManyPromptsRequest(string Prompts, PromptSelection Selection, string Out, int Batch);

/// <summary>The options for many prompts, of commands that otherwise continue one.</summary>
internal sealed class ManyPromptsArguments
{
    private readonly Option<string?> _prompts = new("--prompts")
    {
        Description = "Continue every prompt of this file, and write to --out. The file is a text with one prompt per line, .jsonl, a .json array, "
            + "or a table (.csv, .tsv, .parquet).",
        HelpName = "FILE",
    };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "With --prompts: the file for the results, a JSON line for each prompt in order. After an interruption "
            + "the same command continues the file.",
        HelpName = "FILE",
    };

    private readonly Option<int?> _batch = OptionKinds.NumberOrNone<int>(
        "--batch",
        "With --prompts: number of prompts that are continued together. Up to 8, the texts do not depend on it. [default: 8]", n => n > 0,
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

    /// <summary>Reads and checks the options; null for a single prompt.</summary>
    /// <exception cref="UsageException">The arguments contradict each other.</exception>
    public ManyPromptsRequest? Read(ParseResult parse, PromptRequest one)
    {
        var (prompts, to, batch) = (parse.GetValue(_prompts), parse.GetValue(_out), parse.GetValue(_batch));
        var selection = new PromptSelection { Column = parse.GetValue(_column), Field = parse.GetValue(_field) };
        if (prompts is null)
        {
            bool any = to is not null || batch is not null || selection != new PromptSelection();
            return any
                ? throw new UsageException("--out, --batch, --column and --field are for the prompts of a file: name it with --prompts FILE.")
                : null;
        }

        if (one.Text is not null || one.File is not null)
        {
            throw new UsageException("--prompts names all prompts: leave the prompt and --file out.");
        }

        if (to is null or Destination.StandardOutput)
        {
            throw new UsageException("--prompts needs --out FILE, a file that a later run can continue.");
        }

        return new ManyPromptsRequest(prompts, selection, to, batch ?? 8);
    }
}

/// <summary>The options for the place of the prompts in a data file.</summary>
internal static class SelectionArguments
{
    public static Option<T> Column<T>(string when) => new("--column")
    {
        Description = $"{when}the column of a table with the prompts, by name or number, if its name is not a usual one.",
        HelpName = "name",
    };

    public static Option<T> Field<T>(string when) => new("--field")
    {
        Description = $"{when}the field of JSON with the prompt in every item, or with the list of prompts; nested names are joined by dots.",
        HelpName = "name",
    };
}
