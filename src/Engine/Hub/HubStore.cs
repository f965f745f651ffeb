using System.Text;
using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>The destination of a model's files.</summary>
internal abstract class HubStore
{
    /// <summary>The folder that holds the checkpoint after <see cref="Finish"/>.</summary>
    public abstract string Folder { get; }

    /// <summary>Path of a file's content once it is complete.</summary>
    public abstract string ContentOf(HubFile file);

    /// <summary>Path of the partial content. It may exist from an interrupted attempt.</summary>
    public abstract string PartOf(HubFile file);

    /// <summary>Path of the lock that a writer of the file holds.</summary>
    public abstract string LockOf(HubFile file);

    /// <summary>Creates the checkpoint after all contents are complete.</summary>
    /// <param name="files">Files of the checkpoint.</param>
    /// <param name="absent">Names of optional files that the model does not have.</param>
    public abstract void Finish(IReadOnlyList<HubFile> files, IEnumerable<string> absent);
}

/// <summary>
/// The cache of huggingface_hub (<see cref="HubCache"/>). The snapshot and its reference are created last, so that an interrupted download leaves an
/// older snapshot usable.
/// </summary>
/// <param name="cache">The folder of all models.</param>
/// <param name="name">The model and its revision.</param>
/// <param name="commit">The commit that the revision points to.</param>
internal sealed class HubCacheStore(string cache, HubName name, string commit) : HubStore
{
    private readonly string _model = Path.Combine(cache, HubCache.FolderNameOf(name.Repository));

    public override string Folder => Path.Combine(_model, HubCache.Snapshots, commit);

    public override string ContentOf(HubFile file) => Path.Combine(_model, "blobs", file.Tag);

    public override string PartOf(HubFile file) => ContentOf(file) + ".incomplete";

    public override string LockOf(HubFile file) => Path.Combine(cache, ".locks", HubCache.FolderNameOf(name.Repository), file.Tag + ".lock");

    public override void Finish(IReadOnlyList<HubFile> files, IEnumerable<string> absent)
    {
        foreach (HubFile file in files)
        {
            Link(file);
        }

        foreach (string missing in absent)
        {
            string mark = Path.Combine(_model, ".no_exist", commit, missing);
            Directory.CreateDirectory(Path.GetDirectoryName(mark)!);
            File.WriteAllBytes(mark, []);
        }

        if (name.Revision != commit)
        {
            string reference = Path.Combine(RealPath.Of(_model), HubCache.References, name.Revision!);
            Directory.CreateDirectory(Path.GetDirectoryName(reference)!);
            AtomicFile.Write(reference, stream => stream.Write(Encoding.ASCII.GetBytes(commit)));
        }
    }

    // Creates a relative link, so that the cache can be moved, or a copy if links are not possible.
    private void Link(HubFile file)
    {
        string path = Path.Combine(Folder, file.Name);
        string target = string.Concat(Enumerable.Repeat("../", 2 + file.Name.Count(c => c == '/'))) + "blobs/" + file.Tag;
        if (new FileInfo(path).LinkTarget == target)
        {
            return;
        }

        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        string temporary = $"{path}.{Guid.NewGuid():N}.tmp";
        try
        {
            try
            {
                File.CreateSymbolicLink(temporary, target);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                File.Copy(ContentOf(file), temporary);
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }
}

/// <summary>A plain folder. Partial files and locks are in a subfolder, as in huggingface_hub.</summary>
internal sealed class HubFolderStore(string folder) : HubStore
{
    private readonly string _work = Path.Combine(folder, ".cache", "huggingface", "download");

    public override string Folder => folder;

    public override string ContentOf(HubFile file) => Path.Combine(folder, file.Name);

    public override string PartOf(HubFile file) => Path.Combine(_work, $"{file.Name}.{file.Tag}.incomplete");

    public override string LockOf(HubFile file) => Path.Combine(_work, file.Name + ".lock");

    public override void Finish(IReadOnlyList<HubFile> files, IEnumerable<string> absent)
    {
        // Each file is already in its place.
    }
}
