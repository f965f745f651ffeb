using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Parsing;

namespace Tiller.Tool;

/// <summary>Parses the arguments, runs the command, and reports errors. Only here do errors become exit codes.</summary>
internal static class CommandLine
{
    // No response files, because a prompt may begin with @; and -abc is never three options.
    private static readonly ParserConfiguration s_parsing = new() { ResponseFileTokenReplacer = null, EnablePosixBundling = false };

    private const string AfterRoot =
        $"""
        Examples:
          # a demonstration with the small model that comes with tiller
          tiller demo
          # fit a controller, then steer with it
          tiller fit --model DIR --positive pos.txt --negative neg.txt --out my.tiller
          tiller steer --model DIR --controller my.tiller --lambda 1.5 --compare "prompt"
          # the help of a command
          tiller steer --help

        Results go to standard output, everything else to standard error. Colour and progress appear on a terminal only, and not if NO_COLOR is set.

        {ExitCode.Help}
        """;

    /// <summary>Runs one command line.</summary>
    /// <param name="commands">The commands of tiller.</param>
    /// <param name="args">The arguments, without the program's name.</param>
    /// <param name="terminal">The streams to read from and write to.</param>
    /// <param name="cancellationToken">Ends the command with <see cref="ExitCode.Cancelled"/>.</param>
    public static async Task<int> RunAsync(
        IReadOnlyList<TillerCommand> commands, string[] args, Terminal terminal, CancellationToken cancellationToken)
    {
        bool json = args.TakeWhile(a => a != "--").Contains("--json");
        var command = commands.FirstOrDefault(c => c.Name == NameIn(args));
        var parse = Create(commands).Parse(NumbersOption.Repeat(args, command), s_parsing);
        if (parse.Action is not TeachingHelp && UsageError(parse) is { } wrong)
        {
            return ErrorReport.Write(terminal, wrong, ExitCode.Usage, json);
        }

        try
        {
            var invocation = new InvocationConfiguration
            {
                Output = terminal.Output,
                Error = terminal.Error,
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null,
            };
            return await parse.InvokeAsync(invocation, cancellationToken);
        }
        catch (Exception e) when (ExitCode.Of(e) is not null)
        {
            return ErrorReport.Write(terminal, e, ExitCode.Of(e)!.Value, json);
        }
    }

    /// <summary>The word that stands where a command's name is expected; null if there is none.</summary>
    public static string? NameIn(string[] args) => Array.Find(args, a => a == "--" || !a.StartsWith('-'));

    private static RootCommand Create(IReadOnlyList<TillerCommand> commands)
    {
        var root = new RootCommand("Tiller runs language models with an optimal feedback controller inside the forward pass: "
            + "fit it from two lists of prompts, then steer.");
        foreach (var command in commands)
        {
            root.Add(command);
        }

        root.Add(TillerCommand.Json);
        root.Directives.Clear();
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new TeachingHelp((HelpAction)help.Action!, AfterRoot);
        return root;
    }

    // Null if there is no error.
    private static UsageException? UsageError(ParseResult parse)
    {
        var command = parse.CommandResult.Command;
        string name = command is RootCommand ? "tiller" : $"tiller {command.Name}";
        string[] wrong = UnknownOption(parse) is { } option
            ? [$"Unknown option '{option}'. Put -- before a prompt or path that begins with a dash."]
            : [.. parse.Errors.Select(e => e.Message).Distinct()];
        return wrong.Length > 0 ? new UsageException($"{string.Join(' ', wrong)} See '{name} --help'.") : null;
    }

    // If a command has an argument, System.CommandLine takes a misspelt option for it.
    private static string? UnknownOption(ParseResult parse)
    {
        var values = parse.CommandResult.Children.OfType<OptionResult>().SelectMany(o => o.Tokens)
            .ToHashSet<Token>(ReferenceEqualityComparer.Instance);
        return parse.Tokens
            .TakeWhile(t => t.Type != TokenType.DoubleDash)
            .FirstOrDefault(t => t.Type == TokenType.Argument && t.Value.Length > 1 && t.Value[0] == '-' && !values.Contains(t))?.Value;
    }
}
