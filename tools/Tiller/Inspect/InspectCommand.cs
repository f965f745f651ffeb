using System.CommandLine;

namespace Tiller.Tool;

/// <summary>What <c>tiller inspect</c> was asked for.</summary>
/// <param name="Path">Folder or file.</param>
/// <param name="Check">Read the weights too.</param>
/// <param name="Json">For machines.</param>
internal sealed record InspectRequest(string Path, bool Check, bool Json);

/// <summary><c>tiller inspect</c>: what a checkpoint or a controller holds.</summary>
internal sealed class InspectCommand : TillerCommand
{
    private readonly Argument<string> _path = new("path")
    {
        Description = "Folder of a checkpoint or name of a model that was pulled, OWNER/NAME; or a controller file.",
        HelpName = "DIR|FILE",
    };

    private readonly Option<bool> _check = new("--check")
    {
        Description = "Read all weights of a checkpoint, and count NaN and infinities in each tensor.",
    };

    public InspectCommand(Func<InspectRequest, CancellationToken, Task<int>> run)
        : base("inspect", "Show what a checkpoint holds (family, shapes, types, sizes) or what a controller was fitted on (μ and gain of "
            + "every layer).")
    {
        Add(_path);
        Add(_check);
        SetAction((parse, cancellationToken) => run(new InspectRequest(parse.GetRequiredValue(_path), parse.GetValue(_check), parse.GetValue(Json)),
            cancellationToken));
    }

    public override string Examples =>
        """
          # will tiller run this checkpoint?
          tiller inspect DIR
          # are all its weights numbers?
          tiller inspect --check DIR
          # where does this controller steer, and how hard?
          tiller inspect sea.tiller
        """;
}
