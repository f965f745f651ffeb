using System.Text;

namespace Tiller.Checkpoint;

/// <summary>
/// The cache of huggingface_hub. A model ORG/NAME has the folder <c>models--ORG--NAME</c>: <c>blobs</c> with the content, <c>snapshots/COMMIT</c>,
/// each a checkpoint folder of links to it, and <c>refs/main</c>, a file with the commit that main stood at when it was downloaded.
/// </summary>
internal static class HubCache
{
    private const string Prefix = "models--";
    private const string Snapshots = "snapshots";
    private const string Main = "refs/main";
    private const int MaxRefLength = 256;

    private static readonly string[] CheckpointFiles = ["config.json", CheckpointFolder.SingleFileName, CheckpointFolder.IndexFileName];

    /// <summary>The checkpoint that a path means: of a model's folder in the cache the snapshot of main, or the only one; else the path.</summary>
    /// <exception cref="CheckpointException">The model's folder has no such snapshot; the message names those it has.</exception>
    public static string Resolve(string directory)
    {
        string snapshots = Path.Combine(directory, Snapshots);
        if (!Directory.Exists(snapshots) || IsCheckpoint(directory))
        {
            return directory;
        }

        string[] commits = [.. Directory.EnumerateDirectories(snapshots).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
        string? main = ReadMain(directory);
        string? commit = main is null && commits.Length == 1 ? commits[0] : Array.Find(commits, name => name == main);
        return commit is not null
            ? Path.Combine(snapshots, commit)
            : throw new CheckpointException(
                CheckpointError.Missing, directory,
                "this is a model's folder in the Hugging Face cache; give one of its snapshots, or download main.",
                expected: main is null ? $"a single snapshot, or {Main}" : $"the snapshot of main, {Quoted.Text(Path.Combine(Snapshots, main))}",
                actual: commits.Length == 0 ? "none" : Quoted.Some([.. commits.Select(name => Path.Combine(Snapshots, name))]));
    }

    /// <summary>What to call the model of a checkpoint folder: ORG/NAME for a snapshot of the cache, else the folder's name.</summary>
    public static string NameOf(string directory)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        string? snapshots = Path.GetDirectoryName(full);
        string model = Path.GetFileName(Path.GetDirectoryName(snapshots)) ?? "";
        return Path.GetFileName(snapshots) == Snapshots && model.StartsWith(Prefix, StringComparison.Ordinal)
            ? model[Prefix.Length..].Replace("--", "/", StringComparison.Ordinal)
            : Path.GetFileName(full);
    }

    /// <summary>Names of the folders directly in <paramref name="directory"/> that a checkpoint can be opened from.</summary>
    public static string[] CheckpointsIn(string directory) =>
    [
        .. Directory.EnumerateDirectories(directory).Where(path => IsCheckpoint(path) || Directory.Exists(Path.Combine(path, Snapshots)))
            .Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal),
    ];

    private static bool IsCheckpoint(string directory) => Array.Exists(CheckpointFiles, name => Path.Exists(Path.Combine(directory, name)));

    private static string? ReadMain(string directory)
    {
        string path = Path.Combine(directory, Main);
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
