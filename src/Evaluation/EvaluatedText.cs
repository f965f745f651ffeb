using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Evaluation;

/// <summary>A prompt of a task and its continuation.</summary>
/// <param name="Prompt">The prompt, as a text; of a chat its last message.</param>
/// <param name="PromptIds">Its tokens, template included.</param>
/// <param name="Ids">Tokens of the continuation.</param>
/// <param name="Text">The continuation, without the stop string or token that ended it.</param>
/// <param name="Stop">Why it ended.</param>
public sealed record EvaluatedText(string Prompt, IReadOnlyList<int> PromptIds, IReadOnlyList<int> Ids, string Text, StopReason Stop);

/// <summary>What a scorer is given: the texts, and what made them.</summary>
/// <param name="Model">The model; a scorer may run it.</param>
/// <param name="Law">What steered; null for the plain model.</param>
/// <param name="Tokens">Which tokens were steered.</param>
/// <param name="Texts">The texts, in the order of the prompts.</param>
public sealed record EvaluatedTexts(LanguageModel Model, FeedbackLaw? Law, SteeredTokens Tokens, IReadOnlyList<EvaluatedText> Texts);
