using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Tiller.Tool;

/// <summary>A command of tiller. It can print JSON, and its help ends with examples.</summary>
internal abstract class TillerCommand : Command
{
    protected TillerCommand(string name, string description)
        : base(name, description)
    {
    }

    /// <summary>Example command lines, each after a comment that says what it does.</summary>
    public abstract string Examples { get; }

    /// <summary>The option --json of all commands. It is also known before the command is, so that every error can be reported in JSON.</summary>
    public static Option<bool> Json { get; } = new("--json")
    {
        Description = "Print one JSON value for machines; an error as {\"error\":{\"type\",\"message\"}}.",
        Recursive = true,
    };
}

/// <summary>Help that ends with examples to copy.</summary>
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
