using System.CommandLine;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller demo</c>.</summary>
/// <param name="Task">The task.</param>
/// <param name="Lambda">λ; null for the task's default.</param>
/// <param name="Layers">The steered blocks; null for the task's default.</param>
/// <param name="Device">The device that runs the model.</param>
/// <param name="Json">Whether to print JSON.</param>
internal sealed record DemoRequest(DemoTask Task, double? Lambda, LayerSet? Layers, DeviceRequest Device, bool Json);

/// <summary><c>tiller demo</c>: fits and steers the model that comes with tiller.</summary>
internal sealed class DemoCommand : TillerCommand
{
    private readonly Option<DemoTask> _task = OptionKinds.Choice<DemoTask>(
        "--task", "What to steer: the topic of stories, the tone of reviews, the honesty of quiz answers, or refusal of requests.");

    private readonly Option<double?> _lambda = OptionKinds.NumberOrNone<double>(
        "--lambda", "Strength λ [default: the task's own]", x => float.IsFinite((float)x), OptionKinds.LambdaRange);

    private readonly Option<LayerSet?> _layers =
        OptionKinds.Layers("--layers", "Fit and steer only these blocks, counted from 0 [default: the task's own]");

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
