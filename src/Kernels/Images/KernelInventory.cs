using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>One image of a <see cref="KernelImageSet"/>.</summary>
/// <param name="Source">The source it was made from, as norm.cu.</param>
/// <param name="Architecture">What it is for, as sm_90a.</param>
/// <param name="IsPtx">Whether the driver has to compile it.</param>
/// <param name="Compiler">What made it, as nvcc-13.0.</param>
public sealed record KernelImageInfo(string Source, string Architecture, bool IsPtx, string Compiler);

/// <summary>Images made ahead of time.</summary>
/// <param name="Place">The folder; "this assembly" for those in it.</param>
/// <param name="Images">Every image of the manifest.</param>
/// <param name="Problem">Why none of them is taken; null if they are of these sources.</param>
public sealed record KernelImageSet(string Place, IReadOnlyList<KernelImageInfo> Images, string? Problem);

/// <summary>Entries of the cache for one architecture.</summary>
/// <param name="Architecture">As sm_90a.</param>
/// <param name="Ready">Sources whose image is there, of this text, for the NVRTC at hand.</param>
public sealed record KernelCacheShare(string Architecture, int Ready);

/// <summary>What the cache holds. Nothing is read: whether an entry is whole shows when it is used.</summary>
/// <param name="Folder">Where; null for no cache.</param>
/// <param name="Problem">Why there is none, or why it cannot be read; null otherwise.</param>
/// <param name="Shares">By architecture, those that NVRTC here would be spared.</param>
/// <param name="Others">Entries of other sources or of another NVRTC.</param>
/// <param name="SizeInBytes">Of all entries.</param>
public sealed record KernelCacheContents(string? Folder, string? Problem, IReadOnlyList<KernelCacheShare> Shares, int Others, long SizeInBytes);

/// <summary>Every place that kernels can come from, with what is there. Needs no device.</summary>
/// <param name="Sources">Sources in this assembly.</param>
/// <param name="Kernels">Kernels in them.</param>
/// <param name="Images">Images in this assembly, if any, and in the folder that is looked in.</param>
/// <param name="Compiler">NVRTC with its version; null if there is none.</param>
/// <param name="CompilesFor">Architectures it compiles the kernels for.</param>
/// <param name="CompilerProblem">Why there is none.</param>
/// <param name="Cache">What it has compiled.</param>
public sealed record KernelInventory(
    int Sources, int Kernels, IReadOnlyList<KernelImageSet> Images, string? Compiler, IReadOnlyList<string> CompilesFor, string? CompilerProblem,
    KernelCacheContents Cache)
{
    /// <summary>Sources in this assembly: what a build for one architecture compiles.</summary>
    public static int SourceCount => KernelSources.BuiltIn.Files.Count;

    /// <summary>Looks at every place.</summary>
    /// <param name="options">Where to look; null for the defaults.</param>
    public static KernelInventory Take(KernelLibraryOptions? options = null)
    {
        options ??= new KernelLibraryOptions();
        NvrtcVersion? nvrtc = null;
        string? problem = null;
        try
        {
            nvrtc = NvrtcVersion.Ask(options);
        }
        catch (CudaException e)
        {
            problem = e.Message;
        }

        KernelArchitecture[] known = nvrtc is null
            ? []
            : [.. nvrtc.Architectures.Select(number => new KernelArchitecture(number / 10, number % 10).Native).Where(a => nvrtc.Refuses(a) is null)];
        return new KernelInventory(
            options.Sources.Files.Count, options.Sources.Kernels.Count, [.. ImagesOf(options)], nvrtc?.ToString(),
            [.. known.Select(a => a.ToString())], problem, Contents(KernelCache.Open(options.CacheFolder), options.Sources, nvrtc, known));
    }

    private static IEnumerable<KernelImageSet> ImagesOf(KernelLibraryOptions options)
    {
        if (options.BuiltIn is { } builtIn)
        {
            yield return SetOf(builtIn, options);
        }

        if (options.ImagesAt() is not var (folder, byName))
        {
            yield break;
        }

        KernelImageSet? set;
        try
        {
            set = KernelImages.Open(folder) is { } images ? SetOf(images, options)
                : !byName ? null
                : new KernelImageSet(folder, [], $"it was asked for by name and has no {KernelImages.Manifest}");
        }
        catch (KernelImagesException e)
        {
            set = new KernelImageSet(folder, [], e.Message);
        }

        if (set is not null)
        {
            yield return set;
        }
    }

    private static KernelImageSet SetOf(KernelImages images, KernelLibraryOptions options) => new(
        images.Place,
        [.. images.Images.Select(i => new KernelImageInfo(i.Source, i.Architecture.ToString(), i.IsPtx, i.Compiler))],
        images.SourcesHash == options.Sources.Hash ? null : "it was built from other sources");

    private static KernelCacheContents Contents(KernelCache cache, KernelSources sources, NvrtcVersion? nvrtc, KernelArchitecture[] known)
    {
        if (cache.Folder is null || !Directory.Exists(cache.Folder))
        {
            return new KernelCacheContents(cache.Folder, cache.Problem, [], 0, 0);
        }

        Dictionary<string, long> entries;
        try
        {
            // Temporary files begin with a dot.
            entries = new DirectoryInfo(cache.Folder).EnumerateFiles().Where(f => !f.Name.StartsWith('.'))
                .ToDictionary(f => f.Name, f => f.Length, StringComparer.Ordinal);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new KernelCacheContents(cache.Folder, $"the cache cannot be read: {e.Message}", [], 0, 0);
        }

        KernelCacheShare[] shares = nvrtc is null ? [] :
        [
            .. known.Select(architecture => (architecture, Compiler: new KernelCompiler(sources, architecture, nvrtc.ToString(), cache)))
                .Select(a => new KernelCacheShare(a.architecture.ToString(),
                    sources.Files.Count(file => entries.ContainsKey(a.Compiler.EntryOf(file)))))
                .Where(share => share.Ready > 0),
        ];
        return new KernelCacheContents(cache.Folder, cache.Problem, shares, entries.Count - shares.Sum(s => s.Ready), entries.Values.Sum());
    }
}
