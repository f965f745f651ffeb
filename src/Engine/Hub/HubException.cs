using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>Why a model could not be downloaded.</summary>
public enum HubError
{
    /// <summary>The given name of a model or revision, or a setting in the environment, is not valid.</summary>
    Name,

    /// <summary>The hub has no such model, or does not show it to this user.</summary>
    RepositoryNotFound,

    /// <summary>The model has no such branch, tag or commit.</summary>
    RevisionNotFound,

    /// <summary>The model lacks a file, or all files of a kind, that running it needs.</summary>
    FileNotFound,

    /// <summary>The model exists, but needs a token, another token, or the acceptance of its conditions.</summary>
    AccessDenied,

    /// <summary>The hub asks for fewer requests.</summary>
    RateLimited,

    /// <summary>The hub or a proxy cannot be reached, or the connection was lost repeatedly.</summary>
    Unreachable,

    /// <summary>The hub failed, or refused without a reason.</summary>
    Refused,

    /// <summary>The server does not follow the hub's protocol.</summary>
    Protocol,

    /// <summary>The received content is not the announced content.</summary>
    WrongContent,

    /// <summary>There is not enough space on the disk.</summary>
    NoRoom,

    /// <summary>A file cannot be written or read.</summary>
    InputOutput,
}

/// <summary>A model could not be downloaded. The received parts of its files are kept, and the next attempt continues from there.</summary>
public sealed class HubException : TillerException
{
    internal HubException(HubError error, string subject, string message, Exception? cause = null)
        : base($"{Quoted.Bare(subject)}: {message}", cause)
    {
        Error = error;
        Subject = subject;
    }

    /// <summary>The kind of error.</summary>
    public HubError Error { get; }

    /// <summary>The model, file or address with the error.</summary>
    public string Subject { get; }

    /// <summary>Whether the same request may succeed a little later.</summary>
    internal bool Passes { get; init; }

    /// <summary>The time that the hub asks to wait before that; null if it asks for none.</summary>
    internal TimeSpan? After { get; init; }
}
