using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller inspect</c>.</summary>
/// <param name="Path">The folder or file.</param>
/// <param name="Check">Whether to read the weights too.</param>
/// <param name="Page">Where a page with plots of the certificate goes; null for none.</param>
/// <param name="Json">Whether to print JSON.</param>
internal sealed record InspectRequest(string Path, bool Check, string? Page, bool Json);

/// <summary><c>tiller inspect</c>: shows the contents of a checkpoint or a controller.</summary>
internal sealed class InspectCommand : TillerCommand
{
    private readonly Argument<string> _path = new("path")
    {
        Description = "Folder of a checkpoint, or the name OWNER/NAME of a downloaded model; or a controller file.",
        HelpName = "DIR|FILE",
    };

    private readonly Option<bool> _check = new("--check")
    {
        Description = "Read all weights of the checkpoint, and count the NaN and infinite values of each tensor.",
    };

    private readonly Option<string?> _page = OptionKinds.Page("Plot the controller's certificate");

    public InspectCommand(Func<InspectRequest, CancellationToken, Task<int>> run)
        : base("inspect", "Show a checkpoint (family, shapes, types, sizes) or a controller (the prompts of its fit, and μ and gain of "
            + "every layer).")
    {
        Add(_path);
        Add(_check);
        Add(_page);
        SetAction((parse, cancellationToken) => run(
            new InspectRequest(parse.GetRequiredValue(_path), parse.GetValue(_check), parse.GetValue(_page), parse.GetValue(Json)),
            cancellationToken));
    }

    public override string Examples =>
        """
          # will tiller run this checkpoint?
          tiller inspect DIR
          # are all its weights numbers?
          tiller inspect --check DIR
          # where does this controller steer, and how strongly?
          tiller inspect sea.tiller
          # plots of the certificate that fit --certify put into it
          tiller inspect sea.tiller --page certificate.html
        """;
}
