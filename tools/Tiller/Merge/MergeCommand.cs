using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller merge</c>.</summary>
/// <param name="Parts">Folders that shards wrote in.</param>
/// <param name="Out">The controller of a fit, or the folder of a comparison; null for none, or the one folder that all shards wrote in.</param>
/// <param name="Page">Where a page with plots of linearity, or of a fit's certificate, goes; null for none.</param>
/// <param name="Device">The device that runs the model for what the shards of a fit or of linearity leave to it.</param>
/// <param name="Json">Whether results are JSON.</param>
internal sealed record MergeRequest(IReadOnlyList<string> Parts, string? Out, string? Page, DeviceRequest Device, bool Json);

/// <summary><c>tiller merge</c>: puts together what shards computed.</summary>
internal sealed class MergeCommand : TillerCommand
{
    private readonly Argument<string[]> _parts = new("part")
    {
        Description = "What the shards wrote: the one folder that they share, or the folder of each.",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "Of a fit: the controller file to write; - is standard output (REQUIRED). Of a comparison: where the whole goes. [default: the "
            + "folder, if there is one]",
        HelpName = "PATH",
    };

    private readonly Option<string?> _page = OptionKinds.Page("Of linearity, and of a fit with --certify: write a page with plots");

    private readonly DeviceArguments _device = new();

    public MergeCommand(Func<MergeRequest, CancellationToken, Task<int>> run)
        : base("merge", "Put together what the shards of a job computed; the result is bit for bit that of one process.")
    {
        Add(_parts);
        Add(_out);
        Add(_page);
        _device.AddTo(this);
        SetAction((parse, cancellationToken) => run(
            new MergeRequest(
                parse.GetRequiredValue(_parts), parse.GetValue(_out), parse.GetValue(_page), _device.Read(parse), parse.GetValue(Json)),
            cancellationToken));
    }

    public override string Examples =>
        """
          # shards that wrote into one folder
          tiller compare --model DIR --task mytask --out comparison --shard 0/2
          tiller compare --model DIR --task mytask --out comparison --shard 1/2
          tiller merge comparison
          # a controller from what the shards of a fit measured, each in a folder of its own
          tiller merge part-0 part-1 part-2 --out my.tiller
          # the table and the plots of linearity
          tiller merge parts --page linearity.html
        """;
}
