using System.CommandLine;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>What <c>tiller demo</c> was asked for.</summary>
/// <param name="Task">What is steered.</param>
/// <param name="Lambda">Strength; null for the task's own.</param>
/// <param name="Layers">Blocks that are steered; null for the task's own.</param>
/// <param name="Device">What runs the model.</param>
/// <param name="Json">For machines.</param>
internal sealed record DemoRequest(DemoTask Task, double? Lambda, LayerSet? Layers, DeviceRequest Device, bool Json);

/// <summary><c>tiller demo</c>: fit and steer the model that comes with tiller.</summary>
internal sealed class DemoCommand : TillerCommand
{
    private readonly Option<DemoTask> _task = OptionKinds.Choice<DemoTask>(
        "--task", "What to steer: the topic of stories, the tone of reviews, the honesty of quiz answers, or refusal of requests.");

    private readonly Option<double?> _lambda = OptionKinds.NumberOrNone<double>(
        "--lambda", "How far to steer [default: the task's own]", x => float.IsFinite((float)x), OptionKinds.LambdaRange);

    private readonly Option<LayerSet?> _layers =
        OptionKinds.Layers("--layers", "Fit and steer these blocks only, counted from 0 [default: the task's own]");

    private readonly DeviceArguments _device = new();

    public DemoCommand(Func<DemoRequest, CancellationToken, Task<int>> run)
        : base("demo", "Fit a controller on the small model that comes with tiller, and show plain and steered text with exact scores.")
    {
        Add(_task);
        Add(_lambda);
        Add(_layers);
        _device.AddTo(this);
        SetAction((parse, cancellationToken) => run(
            new DemoRequest(parse.GetValue(_task), parse.GetValue(_lambda), parse.GetValue(_layers), _device.Read(parse), parse.GetValue(Json)),
            cancellationToken));
    }

    public override string Examples =>
        """
          # stories that turn to the sea
          tiller demo
          # all 48 reviews and their scores, for machines
          tiller demo --task tone --json
          # how a weaker controller does
          tiller demo --task honesty --lambda 0.5
        """;
}
