using System.Collections.Frozen;
using System.Text.Json;

namespace Tiller.Chat;

/// <summary>How a chat is put to the checkpoint's template.</summary>
public sealed record ChatOptions
{
    /// <summary>The opening of the assistant's next message is added, where the template has one. Default: true.</summary>
    public bool AddGenerationPrompt { get; init; } = true;

    /// <summary>
    /// Field of the last message whose text is to be continued, <c>content</c> for an answer that has begun: the chat ends with that text. Null, the
    /// default, for none.
    /// </summary>
    public string? Continue { get; init; }

    /// <summary>
    /// Name of the template, for checkpoints with several. Null, the default, for the one named default, or tool_use where there is one and the
    /// variable tools is given.
    /// </summary>
    public string? Template { get; init; }

    /// <summary>What the template sees beside the messages, by name: tools, documents, enable_thinking and whatever else it reads. Default:
    /// none.</summary>
    public IReadOnlyDictionary<string, JsonElement> Variables { get; init; } = FrozenDictionary<string, JsonElement>.Empty;

    /// <summary>
    /// Special tokens that stand in the text of messages and variables count, as in the published code, which tokenises the rendered text as one.
    /// Default: false, they are text.
    /// </summary>
    public bool ParseContent { get; init; }
}
