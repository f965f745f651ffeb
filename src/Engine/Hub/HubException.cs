using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>Why a model could not be downloaded.</summary>
public enum HubError
{
    /// <summary>What was given is no name of a model or of a revision, or the settings of the environment cannot be used.</summary>
    Name,

    /// <summary>The hub has no such model, or does not show it to whoever asks.</summary>
    RepositoryNotFound,

    /// <summary>The model has no such branch, tag or commit.</summary>
    RevisionNotFound,

    /// <summary>The model lacks a file, or all files of a kind, without which it cannot be run.</summary>
    FileNotFound,

    /// <summary>The model is there, and needs a token, another token, or its conditions accepted.</summary>
    AccessDenied,

    /// <summary>The hub asks for fewer requests.</summary>
    RateLimited,

    /// <summary>The hub, or a proxy on the way, cannot be reached, or the connection ended again and again.</summary>
    Unreachable,

    /// <summary>The hub failed, or refused for a reason that it did not tell.</summary>
    Refused,

    /// <summary>What answered does not speak the hub's protocol.</summary>
    Protocol,

    /// <summary>The content that came is not the content that was announced.</summary>
    WrongContent,

    /// <summary>There is not enough room on the disk.</summary>
    NoRoom,

    /// <summary>A file cannot be written or read.</summary>
    InputOutput,
}

/// <summary>A model could not be downloaded. What had come of its files is kept, and the next attempt goes on from there.</summary>
public sealed class HubException : TillerException
{
    internal HubException(HubError error, string subject, string message, Exception? cause = null)
        : base($"{Quoted.Bare(subject)}: {message}", cause)
    {
        Error = error;
        Subject = subject;
    }

    /// <summary>What is wrong.</summary>
    public HubError Error { get; }

    /// <summary>The model, the file or the address concerned.</summary>
    public string Subject { get; }

    /// <summary>Whether the same request may succeed a little later.</summary>
    internal bool Passes { get; init; }

    /// <summary>How long the hub asks to wait before that, if it does.</summary>
    internal TimeSpan? After { get; init; }
}
