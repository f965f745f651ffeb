namespace Tiller.Chat;

/// <summary>Kinds of errors in a chat template or in its messages.</summary>
public enum ChatError
{
    /// <summary>The checkpoint has no chat template, or none of the requested name.</summary>
    NoTemplate,

    /// <summary>The template is not well-formed, or uses a feature of Jinja that is not implemented.</summary>
    Unrecognised,

    /// <summary>The template, tokenizer_config.json, or messages in JSON cannot be read.</summary>
    Unreadable,

    /// <summary>There are no messages, or a required text is missing.</summary>
    Empty,

    /// <summary>The template refused the messages by raise_exception.</summary>
    Refused,

    /// <summary>The template failed on the given messages and variables.</summary>
    Failed,
}

/// <summary>Messages cannot be formatted, or a checkpoint's chat template cannot be used.</summary>
public sealed class ChatException : TillerException
{
    internal ChatException(ChatError code, string message, Exception? cause = null)
        : base($"{message} [{code}]", cause)
    {
        Code = code;
    }

    /// <summary>The kind of error.</summary>
    public ChatError Code { get; }
}
