using System.Text;
using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>Where the files of a model lie.</summary>
internal abstract class HubStore
{
    /// <summary>The folder that holds the checkpoint once it is <see cref="Finish"/>ed.</summary>
    public abstract string Folder { get; }

    /// <summary>Where a file's content is once it is whole.</summary>
    public abstract string ContentOf(HubFile file);

    /// <summary>Where it grows; it may be there from an attempt that was ended.</summary>
    public abstract string PartOf(HubFile file);

    /// <summary>The lock of whoever writes it.</summary>
    public abstract string LockOf(HubFile file);

    /// <summary>Makes the checkpoint of contents that are all there.</summary>
    /// <param name="files">Its files.</param>
    /// <param name="absent">Names that were looked for and that the model does not have.</param>
    public abstract void Finish(IReadOnlyList<HubFile> files, IEnumerable<string> absent);
}

/// <summary>
/// The cache of huggingface_hub (<see cref="HubCache"/>). The snapshot and its reference are made last, so that a download that was ended leaves what
/// could be run before as it was.
/// </summary>
/// <param name="cache">The folder of all models.</param>
/// <param name="name">The model and its revision.</param>
/// <param name="commit">What the revision stands at.</param>
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

    // A relative link, so that the cache can be moved; a copy where links cannot be made.
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

/// <summary>A plain folder. What grows and what is locked lies apart in it, where huggingface_hub has it too.</summary>
internal sealed class HubFolderStore(string folder) : HubStore
{
    private readonly string _work = Path.Combine(folder, ".cache", "huggingface", "download");

    public override string Folder => folder;

    public override string ContentOf(HubFile file) => Path.Combine(folder, file.Name);

    public override string PartOf(HubFile file) => Path.Combine(_work, $"{file.Name}.{file.Tag}.incomplete");

    public override string LockOf(HubFile file) => Path.Combine(_work, file.Name + ".lock");

    public override void Finish(IReadOnlyList<HubFile> files, IEnumerable<string> absent)
    {
        // Each file has its place as soon as it is whole.
    }
}
