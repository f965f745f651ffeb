namespace Tiller.Tokens;

/// <summary>What is wrong with a chat template, or with the messages given to it.</summary>
public enum ChatError
{
    /// <summary>The checkpoint has no chat template: it is not a chat model.</summary>
    NoTemplate,

    /// <summary>The template is none of the known ones, or does something that is not implemented.</summary>
    Unrecognised,

    /// <summary>The template or tokenizer_config.json cannot be read.</summary>
    Unreadable,

    /// <summary>The format needs a special token that the tokenizer lacks.</summary>
    MissingSpecialToken,

    /// <summary>There are no messages.</summary>
    Empty,

    /// <summary>A role the format does not have.</summary>
    Role,

    /// <summary>The template refused the messages (its raise_exception), or failed on them.</summary>
    Refused,

    /// <summary>The roles do not alternate as the format requires.</summary>
    Order,
}

/// <summary>Messages that cannot be formatted, or a checkpoint whose chat format is not known.</summary>
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
