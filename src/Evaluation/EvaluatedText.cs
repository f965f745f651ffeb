using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Evaluation;

/// <summary>A prompt of a task and its continuation.</summary>
/// <param name="Prompt">The prompt as text; for a chat, its last message.</param>
/// <param name="PromptIds">The tokens of the prompt, including those of the chat template.</param>
/// <param name="Ids">The tokens of the continuation.</param>
/// <param name="Text">The continuation, without the stop string or token that ended it.</param>
/// <param name="Stop">Why the continuation ended.</param>
public sealed record EvaluatedText(string Prompt, IReadOnlyList<int> PromptIds, IReadOnlyList<int> Ids, string Text, StopReason Stop);

/// <summary>The input of a scorer: the texts, and the model and the law that made them.</summary>
/// <param name="Model">The model. A scorer may run it.</param>
/// <param name="Law">The law that steered the texts; null for the plain model.</param>
/// <param name="Tokens">The tokens that were steered.</param>
/// <param name="Texts">The texts, in the order of the prompts.</param>
public sealed record EvaluatedTexts(LanguageModel Model, FeedbackLaw? Law, SteeredTokens Tokens, IReadOnlyList<EvaluatedText> Texts);
