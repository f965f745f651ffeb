namespace Tiller.Chat;

/// <summary>What is wrong with a chat template, or with the messages given to it.</summary>
public enum ChatError
{
    /// <summary>The checkpoint has no chat template, or none of the name asked for.</summary>
    NoTemplate,

    /// <summary>The template is not well-formed, or uses something of Jinja that is not implemented.</summary>
    Unrecognised,

    /// <summary>The template, tokenizer_config.json or messages given as JSON cannot be read.</summary>
    Unreadable,

    /// <summary>There are no messages, or there is no text where some is needed.</summary>
    Empty,

    /// <summary>The template refused the messages, by its raise_exception.</summary>
    Refused,

    /// <summary>The template failed on the messages and variables given to it.</summary>
    Failed,
}

/// <summary>Messages that cannot be formatted, or a checkpoint whose chat template cannot be used.</summary>
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
