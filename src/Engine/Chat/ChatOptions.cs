using System.Collections.Frozen;
using System.Text.Json;

namespace Tiller.Chat;

/// <summary>How a chat is rendered by the checkpoint's template.</summary>
public sealed record ChatOptions
{
    /// <summary>Whether to add the opening of the assistant's next message, if the template has one. Default: true.</summary>
    public bool AddGenerationPrompt { get; init; } = true;

    /// <summary>
    /// Field of the last message whose text is to be continued, such as <c>content</c> for the beginning of an answer. The chat then ends with that
    /// text. Null, the default, for none.
    /// </summary>
    public string? Continue { get; init; }

    /// <summary>
    /// Name of the template, for checkpoints with several. Null, the default, means the template named default, or tool_use if it exists and the
    /// variable tools is given.
    /// </summary>
    public string? Template { get; init; }

    /// <summary>Variables of the template besides the messages, by name: tools, documents, enable_thinking and others that it reads. Default:
    /// none.</summary>
    public IReadOnlyDictionary<string, JsonElement> Variables { get; init; } = FrozenDictionary<string, JsonElement>.Empty;

    /// <summary>
    /// Whether special tokens in the text of messages and variables become special tokens. The published code does this, because it tokenises the
    /// rendered text as a whole. Default: false, they are read as plain text.
    /// </summary>
    public bool ParseContent { get; init; }
}
