namespace Tiller.Hub;

/// <summary>A model that is on this machine, whole.</summary>
/// <param name="Repository">Its name, OWNER/NAME.</param>
/// <param name="Commit">The commit of the hub's repository.</param>
/// <param name="Folder">The folder of the checkpoint.</param>
/// <param name="Files">Its files, by name.</param>
public sealed record PulledModel(string Repository, string Commit, string Folder, IReadOnlyList<PulledFile> Files);

/// <summary>A file of a model.</summary>
/// <param name="Name">Its name in the model's folder.</param>
/// <param name="SizeInBytes">Its bytes.</param>
/// <param name="IsVerified">Whether the hub told a hash, which the content has; else only the length is known to be right.</param>
/// <param name="IsNew">Whether it was downloaded; else it was there.</param>
public sealed record PulledFile(string Name, long SizeInBytes, bool IsVerified, bool IsNew);

/// <summary>What is being done for a file.</summary>
public enum HubPullStage
{
    /// <summary>Another process downloads the same file; its work is waited for.</summary>
    Waiting,

    /// <summary>What is already there is compared with the hub's hash.</summary>
    Checking,

    /// <summary>The file is downloaded.</summary>
    Fetching,
}

/// <summary>How far a file is.</summary>
/// <param name="File">Its name.</param>
/// <param name="Stage">What is being done.</param>
/// <param name="Done">Bytes done.</param>
/// <param name="Total">Bytes in all.</param>
public readonly record struct HubPullProgress(string File, HubPullStage Stage, long Done, long Total);
