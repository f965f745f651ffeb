using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Evaluation.Comparing;

/// <summary>Something that is compared: a method of steering, or a control that tells what a score would be without it.</summary>
public abstract record ComparedMethod
{
    private protected ComparedMethod()
    {
    }

    /// <summary>What results call it.</summary>
    public abstract string Name { get; }

    /// <summary>Whether it has a strength.</summary>
    public virtual bool HasStrength => true;

    /// <summary>Whether it is a control, which does not decide where methods are compared.</summary>
    public virtual bool IsControl => true;

    /// <summary>Everything that its texts depend on but task, strength and seed, for the identity of what was computed.</summary>
    internal abstract string Identity { get; }

    /// <summary>Refuses a task that lacks what the method needs.</summary>
    /// <exception cref="ComparisonException">It does.</exception>
    internal virtual void Check(EvaluationTask task) => ContrastOf(task);

    /// <summary>The controller; null where the texts are not steered.</summary>
    internal abstract Controller? Fit(LanguageModel model, EvaluationTask task, CancellationToken cancellationToken);

    /// <summary>The task as the method runs it.</summary>
    internal virtual EvaluationTask TaskOf(EvaluationTask task) => task;

    /// <summary>The contrast of a task.</summary>
    /// <exception cref="ComparisonException">It has none.</exception>
    private protected static ContrastSet ContrastOf(EvaluationTask task) => task.Contrast
        ?? throw new ComparisonException($"The task {task.Name} has no contrast to fit a controller on: give it one.");
}

/// <summary>A method that is fitted on the task's contrast.</summary>
/// <param name="Title">What results call it.</param>
/// <param name="Options">How it is fitted.</param>
public sealed record ComparedFit(string Title, FitOptions Options) : ComparedMethod
{
    /// <inheritdoc/>
    public override string Name => Title;

    /// <inheritdoc/>
    public override bool IsControl => ShuffleSeed is not null;

    /// <summary>
    /// Shuffles which prompts are positive and which negative before the fit, drawn from this seed: a control, which steers along a direction that
    /// means nothing. Null (default) does not.
    /// </summary>
    public int? ShuffleSeed { get; init; }

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
                + $"shuffle {ShuffleSeed} {prompts}";
        }
    }

    internal override Controller Fit(LanguageModel model, EvaluationTask task, CancellationToken cancellationToken) =>
        ControllerFit.Run(model, Shuffled(ContrastOf(task)), Options, cancellationToken: cancellationToken).Controller;

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

/// <summary>A control: addition along random directions, as long at each block as the feature's difference.</summary>
/// <param name="Seed">They are drawn from it.</param>
public sealed record RandomDirection(int Seed = 0) : ComparedMethod
{
    /// <inheritdoc/>
    public override string Name => "random direction";

    internal override string Identity => $"random {Seed}";

    internal override Controller Fit(LanguageModel model, EvaluationTask task, CancellationToken cancellationToken)
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

    // Uniform on the sphere: normal numbers, scaled.
    private static float[] Direction(Random random, int width, float length)
    {
        double[] x = [.. Enumerable.Range(0, width).Select(_ => NormalDraw.Next(random))];
        double norm = Math.Sqrt(x.Sum(static v => v * v));
        return [.. x.Select(v => (float)(v / norm * length))];
    }
}

/// <summary>A control: the behaviour is asked for in words (<see cref="EvaluationTask.Prompting"/>), and nothing is steered.</summary>
public sealed record PromptingAlone : ComparedMethod
{
    /// <inheritdoc/>
    public override string Name => "prompt only";

    /// <inheritdoc/>
    public override bool HasStrength => false;

    internal override string Identity => "prompting";

    internal override void Check(EvaluationTask task) => TaskOf(task);

    internal override Controller? Fit(LanguageModel model, EvaluationTask task, CancellationToken cancellationToken) => null;

    internal override EvaluationTask TaskOf(EvaluationTask task)
    {
        string words = task.Prompting
            ?? throw new ComparisonException($"The task {task.Name} has no words for its behaviour: give it \"prompting\".");
        return task with
        {
            Splits = task.Splits.ToDictionary(
                static split => split.Key, split => (IReadOnlyList<Prompt>)[.. split.Value.Select(prompt => Asked(words, prompt))],
                StringComparer.Ordinal),
        };
    }

    private static Prompt Asked(string words, Prompt prompt) => prompt switch
    {
        TextPrompt text => new TextPrompt(words + text.Text),
        ChatPrompt { System: { } system } chat => new ChatPrompt([new("system", $"{system}\n\n{words}"), .. chat.Messages.Skip(1)]),
        ChatPrompt chat => new ChatPrompt([new("system", words), .. chat.Messages]),
        _ => throw new ArgumentException("Prompts that are token ids cannot be asked in words.", nameof(prompt)),
    };
}
