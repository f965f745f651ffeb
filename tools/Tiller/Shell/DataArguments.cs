using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The folder of published data that tasks name as $DATA.</summary>
internal sealed class DataArguments
{
    private const string Variable = "TILLER_DATA";

    private readonly Option<string?> _data = new("--data")
    {
        Description = $"Folder of the published data that a task names as $DATA. [default: {Variable}]",
        HelpName = "DIR",
    };

    public void AddTo(Command command) => command.Add(_data);

    public string? Read(ParseResult parse) => parse.GetValue(_data)
        ?? (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } folder ? folder : null);
}
