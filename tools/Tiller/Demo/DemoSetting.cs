using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>
/// How the demo steers a task. The settings are from the table in models/demo/README.md, chosen where the score has clearly changed and the text is
/// still fluent.
/// </summary>
/// <param name="Lambda">Strength λ.</param>
/// <param name="Layers">The steered blocks; null for all.</param>
internal sealed record DemoSetting(double Lambda, LayerSet? Layers)
{
    /// <summary>q, r, q_f of every task.</summary>
    public static LqrWeights Weights { get; } = new(0.03, 1, 1);

    /// <summary>The setting of a task.</summary>
    public static DemoSetting Of(DemoTask task) => task switch
    {
        DemoTask.Topic => new DemoSetting(1.75, null),
        DemoTask.Tone => new DemoSetting(2.75, null),
        DemoTask.Honesty => new DemoSetting(1.25, null),
        DemoTask.Refusal => new DemoSetting(1, null),
        _ => throw new ArgumentOutOfRangeException(nameof(task), task, "Unknown task."),
    };
}
