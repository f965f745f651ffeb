namespace Tiller.Tool;

/// <summary>What the demo measured for one way of decoding, over all prompts of the task.</summary>
/// <param name="Texts">Prompt and completion, one for each prompt.</param>
/// <param name="Score">Mean score of the completions (<see cref="World.Score"/>).</param>
/// <param name="Perplexity">Perplexity of the completions under the plain model.</param>
internal record DemoSide(IReadOnlyList<string> Texts, double Score, double Perplexity);

/// <summary>The steered side, with what the controller did.</summary>
/// <param name="Texts">Prompt and completion, one for each prompt.</param>
/// <param name="Score">Mean score of the completions.</param>
/// <param name="Perplexity">Perplexity of the completions under the plain model.</param>
/// <param name="TrackingError">Mean |β − v·x| over layers and tokens.</param>
/// <param name="Effort">Mean |u| / |x| over layers and tokens.</param>
internal sealed record SteeredSide(IReadOnlyList<string> Texts, double Score, double Perplexity, double TrackingError, double Effort)
    : DemoSide(Texts, Score, Perplexity);

/// <summary>Plain against steered on one task.</summary>
/// <param name="Task">What was steered.</param>
/// <param name="Lambda">Strength λ.</param>
/// <param name="Plain">Without the controller.</param>
/// <param name="Steered">With it.</param>
internal sealed record DemoReport(DemoTask Task, double Lambda, DemoSide Plain, SteeredSide Steered);
