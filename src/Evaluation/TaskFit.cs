using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Evaluation;

/// <summary>How controllers of a task are fitted and used, where the task says so.</summary>
public sealed record TaskFit
{
    /// <summary>q, r, q_f of methods that solve for gains; null for <see cref="FitOptions.StandardWeights"/>.</summary>
    public LqrWeights? Weights { get; init; }

    /// <summary>Prompts whose Jacobians are averaged; null for those of the contrast.</summary>
    public IReadOnlyList<Prompt>? Calibration { get; init; }

    /// <summary>Strengths λ that are of interest; empty if none are named.</summary>
    public IReadOnlyList<double> Strengths { get; init; } = [];

    /// <summary>Which tokens are steered; null if it does not say.</summary>
    public SteeredTokens? Tokens { get; init; }

    /// <summary>Settings of a fit with what the task says of a method.</summary>
    internal FitOptions Apply(FitOptions options, bool keepsWeights) => options.Method.Takes(FitInputs.Gains)
        ? options with
        {
            Weights = keepsWeights ? options.Weights : Weights ?? options.Weights,
            Calibration = Calibration ?? options.Calibration,
        }
        : options;

    internal static TaskFit Read(TaskNode node, TaskFiles files, Func<Prompt, Prompt> asked)
    {
        node.CheckKeys("q", "r", "qf", "calibration", "lambda", "tokens");
        TaskNode? q = node.Find("q"), r = node.Find("r"), qf = node.Find("qf");
        return new TaskFit
        {
            Weights = (q, r, qf) switch
            {
                (null, null, null) => null,
                ({ }, { }, { }) => new LqrWeights(q.Number(0, 1e12), r.Number(1e-12, 1e12), qf.Number(0, 1e12)),
                _ => throw node.Fail("must have q, r and qf, or none of them."),
            },
            Calibration = node.Find("calibration") is { } calibration ? [.. files.Prompts(calibration).Select(asked)] : null,
            Strengths = node.Find("lambda") is { } strengths ? [.. strengths.List().Select(static x => Strength(x))] : [],
            Tokens = node.Find("tokens")?.Text() switch
            {
                null => null,
                "last" => SteeredTokens.Last,
                "all" => SteeredTokens.All,
                _ => throw node["tokens"].Fail("must be last or all."),
            },
        };
    }

    private static double Strength(TaskNode node) => node.Number(-1e6, 1e6) is not 0 and var lambda
        ? lambda
        : throw node.Fail("must not be 0: that is the plain model, which is measured anyway.");
}
