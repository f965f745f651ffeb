using System.Text;

namespace Tiller.Checkpoint;

/// <summary>
/// The cache of huggingface_hub. A model ORG/NAME has the folder <c>models--ORG--NAME</c>. In it, <c>blobs</c> holds the content; each
/// <c>snapshots/COMMIT</c> is a checkpoint folder of links to the content; and <c>refs/main</c> is a file with the commit that main pointed to at the
/// time of the download. Other branches and tags have such files too. <c>.locks</c>, beside the models' folders, holds the locks of downloads.
/// </summary>
internal static class HubCache
{
    /// <summary>The folder of a model's snapshots.</summary>
    public const string Snapshots = "snapshots";

    /// <summary>The folder of a model's references.</summary>
    public const string References = "refs";

    /// <summary>The branch that is used if none is named.</summary>
    public const string Main = "main";

    private const string Prefix = "models--";
    private const int MaxRefLength = 256;

    private static readonly string[] CheckpointFiles = ["config.json", CheckpointFolder.SingleFileName, CheckpointFolder.IndexFileName];

    /// <summary>The folder of huggingface_hub: HF_HOME, or huggingface in the user's cache folder.</summary>
    public static string Home => Variable("HF_HOME")
        ?? Path.Combine(Variable("XDG_CACHE_HOME") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"),
            "huggingface");

    /// <summary>The folder of all models: HF_HUB_CACHE, or hub in <see cref="Home"/>.</summary>
    public static string Root => Variable("HF_HUB_CACHE") ?? Variable("HUGGINGFACE_HUB_CACHE") ?? Path.Combine(Home, "hub");

    /// <summary>The name of a model's folder, models--ORG--NAME.</summary>
    public static string FolderNameOf(string repository) => Prefix + repository.Replace("/", "--", StringComparison.Ordinal);

    /// <summary>
    /// Finds the checkpoint folder for a path. For a model's folder in the cache it is the snapshot of main, or the only snapshot. For a name
    /// ORG/NAME that is not an existing path, it is the model's snapshot in the cache. Otherwise it is the path itself.
    /// </summary>
    /// <exception cref="CheckpointException">
    /// The cache does not have the model, or not the snapshot. The message names the snapshots that it has.
    /// </exception>
    public static string Resolve(string directory)
    {
        if (!Path.Exists(directory) && HubName.TryParse(directory) is { } name)
        {
            string folder = Path.Combine(Root, FolderNameOf(name.Repository));
            return Directory.Exists(Path.Combine(folder, Snapshots))
                ? SnapshotOf(folder, name.Revision, $" Download it with {Download(name)}.")
                : throw new CheckpointException(
                    CheckpointError.Missing, directory,
                    $"there is no such folder, and the Hugging Face cache, {Quoted.Bare(Root)}, has no model of that name. "
                    + $"Download it with {Download(name)}.");
        }

        return Directory.Exists(Path.Combine(directory, Snapshots)) && !IsCheckpoint(directory) ? SnapshotOf(directory, revision: null, "")
            : directory;
    }

    /// <summary>Name of the model of a checkpoint folder: ORG/NAME for a snapshot in the cache, otherwise the folder's name.</summary>
    public static string NameOf(string directory)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        string? snapshots = Path.GetDirectoryName(full);
        string model = Path.GetFileName(Path.GetDirectoryName(snapshots)) ?? "";
        return Path.GetFileName(snapshots) == Snapshots && model.StartsWith(Prefix, StringComparison.Ordinal)
            ? model[Prefix.Length..].Replace("--", "/", StringComparison.Ordinal)
            : Path.GetFileName(full);
    }

    /// <summary>Names of the folders directly in <paramref name="directory"/> that hold a checkpoint.</summary>
    public static string[] CheckpointsIn(string directory) =>
    [
        .. Directory.EnumerateDirectories(directory).Where(path => IsCheckpoint(path) || Directory.Exists(Path.Combine(path, Snapshots)))
            .Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal),
    ];

    private static string Download(HubName name) => $"HubPull.RunAsync: {name}";

    // A folder named by an environment variable; ~ is the user's home folder, as in Python.
    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) switch
    {
        null or "" => null,
        "~" => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile),
        ['~', '/', .. var rest] => Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), rest),
        var path => path,
    };

    private static string SnapshotOf(string model, string? revision, string way)
    {
        string snapshots = Path.Combine(model, Snapshots);
        string[] commits = [.. Directory.EnumerateDirectories(snapshots).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
        string? referred = ReadReference(model, revision ?? Main);
        string? commit = referred is not null ? Array.Find(commits, name => name == referred)
            : revision is not null ? Array.Find(commits, name => name == revision)
            : commits.Length == 1 ? commits[0] : null;
        return commit is not null
            ? Path.Combine(snapshots, commit)
            : throw new CheckpointException(
                CheckpointError.Missing, model,
                "this is a model's folder in the Hugging Face cache; give one of its snapshots, or download the revision that is meant." + way,
                expected: referred is not null ? $"the snapshot of {revision ?? Main}, {Quoted.Text(Path.Combine(Snapshots, referred))}"
                    : revision is not null ? Path.Combine(References, revision)
                    : $"a single snapshot, or {References}/{Main}",
                actual: commits.Length == 0 ? "none" : Quoted.Some([.. commits.Select(name => Path.Combine(Snapshots, name))]));
    }

    private static bool IsCheckpoint(string directory) => Array.Exists(CheckpointFiles, name => Path.Exists(Path.Combine(directory, name)));

    private static string? ReadReference(string model, string revision)
    {
        string path = Path.Combine(model, References, revision);
        try
        {
            byte[] commit = BoundedFile.Read(path, MaxRefLength, length => new CheckpointException(
                CheckpointError.LimitExceeded, path, "this is no reference of the Hugging Face cache.",
                expected: "the name of a commit", actual: $"{length} bytes"));
            return Encoding.UTF8.GetString(commit).Trim();
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(CheckpointError.InputOutput, path, "cannot be read: " + e.Message, cause: e);
        }
    }
}
