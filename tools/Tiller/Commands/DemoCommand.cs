using System.CommandLine;
using Tiller.Tool.Demo;

namespace Tiller.Tool.Commands;

/// <summary>What <c>tiller demo</c> was asked for.</summary>
internal sealed record DemoRequest(DemoTask Task, bool Json);

/// <summary><c>tiller demo</c>: fit and steer the model that comes with tiller.</summary>
internal sealed class DemoCommand : TillerCommand
{
    private readonly Option<DemoTask> _task = OptionKinds.Choice<DemoTask>(
        "--task", "What to steer: the topic of stories, the tone of reviews, the honesty of quiz answers, or refusal of requests.");

    public DemoCommand(Func<DemoRequest, CancellationToken, Task<int>> run)
        : base("demo", "Fit a controller on the small model that comes with tiller, and show plain and steered text with exact scores.")
    {
        Add(_task);
        SetAction((parse, cancellationToken) => run(new DemoRequest(parse.GetValue(_task), parse.GetValue(Json)), cancellationToken));
    }

    public override string Examples =>
        """
          # stories that turn to the sea
          tiller demo
          # all 48 reviews and their scores, for machines
          tiller demo --task tone --json
        """;
}
