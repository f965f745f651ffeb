using System.CommandLine;

namespace Tiller.Tool.Commands;

/// <summary>What <c>tiller inspect</c> was asked for.</summary>
internal sealed record InspectRequest(string Path, bool Json, bool Check = false);

/// <summary><c>tiller inspect</c>: what a checkpoint or a controller holds.</summary>
internal sealed class InspectCommand : TillerCommand
{
    private readonly Argument<string> _path = new("path") { Description = "Folder of a checkpoint, or a controller file.", HelpName = "DIR|FILE" };

    private readonly Option<bool> _check = new("--check") { Description = "Read every weight of a checkpoint and count NaN and infinities; exit code 4 if there are any." };

    public InspectCommand(Func<InspectRequest, CancellationToken, Task<int>> run)
        : base("inspect", "Show what a checkpoint holds (family, shapes, types, sizes) or what a controller was fitted on (μ and gain of every layer).")
    {
        Add(_path);
        Add(_check);
        SetAction((parse, cancellationToken) => run(new InspectRequest(parse.GetRequiredValue(_path), parse.GetValue(Json), parse.GetValue(_check)), cancellationToken));
    }

    public override string Examples =>
        """
          # will tiller run this checkpoint?
          tiller inspect DIR
          # where does this controller steer, and how hard?
          tiller inspect sea.tiller
        """;
}
