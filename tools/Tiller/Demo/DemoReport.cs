namespace Tiller.Tool;

/// <summary>The demo's measurements over all prompts of the task, for the plain or the steered model.</summary>
/// <param name="Texts">Prompt and completion, one for each prompt.</param>
/// <param name="Score">Mean score of the completions (<see cref="World.Score"/>).</param>
/// <param name="Perplexity">Perplexity of the completions under the plain model.</param>
internal record DemoSide(IReadOnlyList<string> Texts, double Score, double Perplexity);

/// <summary>The measurements of the steered model, with error and effort of the controller.</summary>
/// <param name="Texts">Prompt and completion, one for each prompt.</param>
/// <param name="Score">Mean score of the completions.</param>
/// <param name="Perplexity">Perplexity of the completions under the plain model.</param>
/// <param name="TrackingError">Mean |β − v·x| over layers and tokens.</param>
/// <param name="Effort">Mean |u| / |x| over layers and tokens.</param>
internal sealed record SteeredSide(IReadOnlyList<string> Texts, double Score, double Perplexity, double TrackingError, double Effort)
    : DemoSide(Texts, Score, Perplexity);

/// <summary>The plain and the steered model on one task.</summary>
/// <param name="Task">The task.</param>
/// <param name="Lambda">Strength λ.</param>
/// <param name="Plain">The plain model.</param>
/// <param name="Steered">The steered model.</param>
internal sealed record DemoReport(DemoTask Task, double Lambda, DemoSide Plain, SteeredSide Steered);
