namespace Tiller.Hub;

/// <summary>A completely downloaded model.</summary>
/// <param name="Repository">Name of the model, OWNER/NAME.</param>
/// <param name="Commit">Commit of the hub's repository.</param>
/// <param name="Folder">Folder of the checkpoint.</param>
/// <param name="Files">The model's files, sorted by name.</param>
public sealed record PulledModel(string Repository, string Commit, string Folder, IReadOnlyList<PulledFile> Files);

/// <summary>A file of a model.</summary>
/// <param name="Name">Name in the model's folder.</param>
/// <param name="SizeInBytes">Size of the file.</param>
/// <param name="IsVerified">Whether the content matches a hash from the hub. If the hub gave no hash, only the length was checked.</param>
/// <param name="IsNew">Whether the file was downloaded now; false if it already existed.</param>
public sealed record PulledFile(string Name, long SizeInBytes, bool IsVerified, bool IsNew);

/// <summary>The stage of a file's download.</summary>
public enum HubPullStage
{
    /// <summary>Another process downloads the same file, and this one waits for it.</summary>
    Waiting,

    /// <summary>The existing content is checked against the hub's hash.</summary>
    Checking,

    /// <summary>The file is being downloaded.</summary>
    Fetching,
}

/// <summary>Progress of a file's download.</summary>
/// <param name="File">Name of the file.</param>
/// <param name="Stage">The present stage.</param>
/// <param name="Done">Number of bytes done.</param>
/// <param name="Total">Size of the file in bytes.</param>
public readonly record struct HubPullProgress(string File, HubPullStage Stage, long Done, long Total);
