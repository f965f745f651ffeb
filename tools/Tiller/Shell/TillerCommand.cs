using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Tiller.Tool;

/// <summary>A command of tiller: it can answer in JSON, and its help ends with examples.</summary>
internal abstract class TillerCommand : Command
{
    protected TillerCommand(string name, string description)
        : base(name, description)
    {
    }

    /// <summary>Command lines to start from, each below a line that says what it does.</summary>
    public abstract string Examples { get; }

    /// <summary>Every command's, so that errors before a command is known are told in JSON too.</summary>
    public static Option<bool> Json { get; } = new("--json")
    {
        Description = "Print one JSON value for machines; errors too, as {\"error\":{\"type\",\"message\"}}.",
        Recursive = true,
    };
}

/// <summary>Help that ends with something to copy.</summary>
internal sealed class TeachingHelp(HelpAction help, string afterRoot) : SynchronousCommandLineAction
{
    public override bool ClearsParseErrors => help.ClearsParseErrors;

    public override int Invoke(ParseResult parseResult)
    {
        int code = help.Invoke(parseResult);
        string after = parseResult.CommandResult.Command is TillerCommand command ? $"Examples:\n{command.Examples}" : afterRoot;
        parseResult.InvocationConfiguration.Output.WriteLine(after);
        return code;
    }
}
