using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller merge</c>.</summary>
/// <param name="Parts">Folders or files that shards wrote.</param>
/// <param name="Out">Where the whole goes; null for the one folder that all shards wrote in.</param>
/// <param name="Json">Whether results are JSON.</param>
internal sealed record MergeRequest(IReadOnlyList<string> Parts, string? Out, bool Json);

/// <summary><c>tiller merge</c>: puts together what shards computed.</summary>
internal sealed class MergeCommand : TillerCommand
{
    private readonly Argument<string[]> _parts = new("part")
    {
        Description = "What the shards wrote: the one folder of a comparison that they share, or the folder of each.",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "Where the whole goes. [default: the folder, if there is one]",
        HelpName = "DIR",
    };

    public MergeCommand(Func<MergeRequest, CancellationToken, Task<int>> run)
        : base("merge", "Put together what the shards of a job computed; the result is bit for bit that of one process.")
    {
        Add(_parts);
        Add(_out);
        SetAction((parse, cancellationToken) => run(
            new MergeRequest(parse.GetRequiredValue(_parts), parse.GetValue(_out), parse.GetValue(Json)), cancellationToken));
    }

    public override string Examples =>
        """
          # shards that wrote into one folder
          tiller compare --model DIR --task mytask --out comparison --shard 0/2
          tiller compare --model DIR --task mytask --out comparison --shard 1/2
          tiller merge comparison
        """;
}
