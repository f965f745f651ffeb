using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Evaluation.Comparing;

/// <summary>An alternative in a comparison: a method of steering, or a control that shows the score without that method.</summary>
public abstract record ComparedMethod
{
    private protected ComparedMethod()
    {
    }

    /// <summary>The name in results.</summary>
    public abstract string Name { get; }

    /// <summary>Whether the method has a strength λ.</summary>
    public virtual bool HasStrength => true;

    /// <summary>Whether this is a control. Controls do not affect the level at which methods are compared.</summary>
    public virtual bool IsControl => true;

    /// <summary>Everything that the method's texts depend on, except task, strength and seed. It is hashed into the identity of a cell.</summary>
    internal abstract string Identity { get; }

    /// <summary>Checks that a task has everything that the method needs.</summary>
    /// <exception cref="ComparisonException">It does not.</exception>
    internal virtual void Check(EvaluationTask task) => ContrastOf(task);

    /// <summary>Fits the method's controller.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="task">The task.</param>
    /// <param name="jacobians">A file for what a fit measures (<see cref="FitOptions.Jacobians"/>); null for none.</param>
    /// <param name="progress">Receives the progress of a fit.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>Null if the method does not steer.</returns>
    internal abstract Controller? Fit(
        LanguageModel model, EvaluationTask task, string? jacobians, IProgress<FitProgress>? progress, CancellationToken cancellationToken);

    /// <summary>The task as the method runs it, possibly with changed prompts.</summary>
    internal virtual EvaluationTask TaskOf(EvaluationTask task) => task;

    /// <summary>The contrast of a task.</summary>
    /// <exception cref="ComparisonException">The task has none.</exception>
    private protected static ContrastSet ContrastOf(EvaluationTask task) => task.Contrast
        ?? throw new ComparisonException($"The task {task.Name} has no contrast to fit a controller on: give it one (\"contrast\" in task.yaml).");
}

/// <summary>A method that is fitted on the task's contrast.</summary>
/// <param name="Title">The name in results.</param>
/// <param name="Options">Options of the fit; a task's own settings (<see cref="EvaluationTask.Fit"/>) come before these.</param>
public sealed record ComparedFit(string Title, FitOptions Options) : ComparedMethod
{
    /// <inheritdoc/>
    public override string Name => Title;

    /// <inheritdoc/>
    public override bool IsControl => ShuffleSeed is not null;

    /// <summary>
    /// If set, the seed of a random shuffle of the prompts between the positive and the negative side before the fit. The method is then a control,
    /// which steers along a meaningless direction. Null (default) for no shuffle.
    /// </summary>
    public int? ShuffleSeed { get; init; }

    /// <summary>Whether its own q, r and q_f come before those of a task; default false.</summary>
    public bool KeepsWeights { get; init; }

    internal override string Identity
    {
        get
        {
            var o = Options;
            string prompts = string.Join(
                '\n', new[] { o.Calibration ?? [], o.Alternative ?? [], o.Nominal is { } nominal ? [nominal] : [] }.Select(
                    static list => $"{list.Count}\n{string.Join('\n', list.Select(static x => $"{x.Identity.Length} {x.Identity}"))}"));
            string numbers = string.Join(' ', o.Method.Parameters.Select(static x => $"{x.Name} {x.Value:R}"));
            return $"{o.Method.Name} {numbers} {o.Direction.Name} {o.Cost} {o.Order} {o.Weights} {o.Setpoint} {o.Layers} {o.MaxRank} "
                + $"shuffle {ShuffleSeed} {(KeepsWeights ? "own " : "")}{prompts}";
        }
    }

    /// <summary>The options of the fit on a task.</summary>
    internal FitOptions OptionsOn(EvaluationTask task) => task.Fit?.Apply(Options, KeepsWeights) ?? Options;

    internal override Controller Fit(
        LanguageModel model, EvaluationTask task, string? jacobians, IProgress<FitProgress>? progress, CancellationToken cancellationToken)
    {
        var options = OptionsOn(task);
        options = options with { Jacobians = jacobians ?? options.Jacobians };
        return ControllerFit.Run(model, Shuffled(ContrastOf(task)), options, progress, cancellationToken).Controller;
    }

    private ContrastSet Shuffled(ContrastSet contrast)
    {
        if (ShuffleSeed is not { } seed)
        {
            return contrast;
        }

        Prompt[] all = [.. contrast.Positive, .. contrast.Negative];
        new Random(seed).Shuffle(all);
        return new ContrastSet(all[..contrast.Positive.Count], all[contrast.Positive.Count..]);
    }
}

/// <summary>A control: adds a random direction at each block. Each has the same length as the feature's difference at that block.</summary>
/// <param name="Seed">The seed of the directions.</param>
public sealed record RandomDirection(int Seed = 0) : ComparedMethod
{
    /// <inheritdoc/>
    public override string Name => "random direction";

    internal override string Identity => $"random {Seed}";

    internal override Controller Fit(
        LanguageModel model, EvaluationTask task, string? jacobians, IProgress<FitProgress>? progress, CancellationToken cancellationToken)
    {
        var contrast = ContrastOf(task);
        var feature = FeatureMeasurement.Measure(model, contrast, cancellationToken: cancellationToken);
        var random = new Random(Seed);
        float[][] directions = [.. Enumerable.Range(0, feature.L + 1).Select(k => Direction(random, feature.D, feature.Mu[k]))];
        return new Controller(new OpenLoopAddition(Feature.FromDifference(directions)), new ControllerSource
        {
            ModelName = model.Name,
            ModelFingerprint = model.Fingerprint,
            Positive = new PromptSet("", contrast.Positive.Count),
            Negative = new PromptSet("", contrast.Negative.Count),
        });
    }

    // Uniform on the sphere of radius `length`: a vector of normal numbers, scaled.
    private static float[] Direction(Random random, int width, float length)
    {
        double[] x = [.. Enumerable.Range(0, width).Select(_ => NormalDraw.Next(random))];
        double norm = Math.Sqrt(x.Sum(static v => v * v));
        return [.. x.Select(v => (float)(v / norm * length))];
    }
}

/// <summary>A control: the behaviour is requested in words (<see cref="EvaluationTask.Prompting"/>), and nothing is steered.</summary>
public sealed record PromptingAlone : ComparedMethod
{
    /// <inheritdoc/>
    public override string Name => "prompt only";

    /// <inheritdoc/>
    public override bool HasStrength => false;

    internal override string Identity => "prompting";

    internal override void Check(EvaluationTask task) => TaskOf(task);

    internal override Controller? Fit(
        LanguageModel model, EvaluationTask task, string? jacobians, IProgress<FitProgress>? progress, CancellationToken cancellationToken) => null;

    internal override EvaluationTask TaskOf(EvaluationTask task)
    {
        string words = task.Prompting
            ?? throw new ComparisonException($"The task {task.Name} has no text that asks for its behaviour: it needs \"prompting\" in task.yaml.");
        return task with
        {
            Splits = task.Splits.ToDictionary(
                static split => split.Key, split => (IReadOnlyList<Prompt>)[.. split.Value.Select(prompt => Asked(words, prompt))],
                StringComparer.Ordinal),
            Scorers = [.. task.Scorers.Select(scorer => scorer.AskedFor(words))],
        };
    }

    private static Prompt Asked(string words, Prompt prompt) => prompt switch
    {
        TextPrompt text => new TextPrompt(words + text.Text),
        ChatPrompt { System: { } system } chat => new ChatPrompt([new("system", $"{system}\n\n{words}"), .. chat.Messages.Skip(1)]),
        ChatPrompt chat => new ChatPrompt([new("system", words), .. chat.Messages]),
        _ => throw new ArgumentException("A text that asks for a behaviour cannot be added to a prompt of token ids.", nameof(prompt)),
    };
}
