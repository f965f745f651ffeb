using Tiller.Chat;

namespace Tiller.Features;

/// <summary>
/// The form in which prompts are passed to a model. A direction that was measured in one form may not be the model's direction in another form, so a
/// controller records the form of its prompts.
/// </summary>
public abstract record PromptForm
{
    private protected PromptForm()
    {
    }

    /// <summary>Describes how this form, in which a controller was fitted, differs from the form of a text that it steers.</summary>
    /// <param name="steered">The form of the text.</param>
    /// <returns>Words that follow "The controller "; null if no difference is known.</returns>
    public abstract string? DifferenceTo(PromptForm steered);
}

/// <summary>Texts, encoded with the tokenizer's template.</summary>
public sealed record RawForm : PromptForm
{
    /// <inheritdoc/>
    public override string? DifferenceTo(PromptForm steered) => steered is ChatForm ? "was fitted on raw text and steers a chat" : null;
}

/// <summary>Chats, rendered by a chat template and followed by the beginning of the assistant's message.</summary>
public sealed record ChatForm : PromptForm
{
    /// <summary>SHA-256 of the template's text, in lower-case hexadecimal (<see cref="ChatFormat.TemplateSha256"/>).</summary>
    public required string TemplateSha256 { get; init; }

    /// <summary>Text of the system message at the beginning of every chat; null if no chat has one, or if <see cref="SystemVaries"/>.</summary>
    public string? System { get; init; }

    /// <summary>Whether the chats begin with different system messages, or only some of them with one.</summary>
    public bool SystemVaries { get; init; }

    /// <summary>Determines the form of chats.</summary>
    /// <param name="format">The chat format that renders them.</param>
    /// <param name="chats">The chats, at least one.</param>
    public static ChatForm Of(ChatFormat format, IReadOnlyList<ChatPrompt> chats)
    {
        bool varies = chats.Any(chat => !string.Equals(chat.System, chats[0].System, StringComparison.Ordinal));
        return new ChatForm { TemplateSha256 = format.TemplateSha256, System = varies ? null : chats[0].System, SystemVaries = varies };
    }

    /// <inheritdoc/>
    public override string? DifferenceTo(PromptForm steered) => steered switch
    {
        RawForm => "was fitted on chats and steers raw text",
        ChatForm other when !string.Equals(other.TemplateSha256, TemplateSha256, StringComparison.OrdinalIgnoreCase) =>
            "was fitted with another chat template than the one at hand",
        ChatForm other when SystemVaries || other.SystemVaries || string.Equals(other.System, System, StringComparison.Ordinal) => null,
        ChatForm { System: null } => "was fitted with a system message and steers a chat that has none",
        ChatForm when System is null => "was fitted without a system message and steers a chat that has one",
        ChatForm => "was fitted with another system message than the one at hand",
        _ => null,
    };
}

/// <summary>Token ids made by the caller, in an unknown form.</summary>
public sealed record TokenForm : PromptForm
{
    /// <inheritdoc/>
    public override string? DifferenceTo(PromptForm steered) => null;
}
