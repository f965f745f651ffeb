using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>An image of a <see cref="KernelImageSet"/>.</summary>
/// <param name="Source">The name of its source, such as norm.cu.</param>
/// <param name="Architecture">The architecture that it is for, such as sm_90a.</param>
/// <param name="IsPtx">Whether it is PTX, which the driver has to compile.</param>
/// <param name="Compiler">The compiler that made it, such as nvcc-13.0.</param>
public sealed record KernelImageInfo(string Source, string Architecture, bool IsPtx, string Compiler);

/// <summary>A set of images made ahead of time.</summary>
/// <param name="Place">The folder, or "this assembly".</param>
/// <param name="Images">All images in the manifest.</param>
/// <param name="Problem">Why these images are not used; null if they were made from the sources of this assembly.</param>
public sealed record KernelImageSet(string Place, IReadOnlyList<KernelImageInfo> Images, string? Problem);

/// <summary>The cache's entries for one architecture.</summary>
/// <param name="Architecture">The architecture, such as sm_90a.</param>
/// <param name="Ready">Number of sources that have an entry for the current sources and the installed NVRTC.</param>
public sealed record KernelCacheShare(string Architecture, int Ready);

/// <summary>The contents of the cache. Entries are not read, so damaged ones count; they are noticed when they are used.</summary>
/// <param name="Folder">The folder; null for no cache.</param>
/// <param name="Problem">Why there is no cache, or why it cannot be read; null if there is no problem.</param>
/// <param name="Shares">For each architecture, the entries that the installed NVRTC need not compile.</param>
/// <param name="Others">Number of entries of other sources or of another version of NVRTC.</param>
/// <param name="SizeInBytes">Size of all entries in bytes.</param>
public sealed record KernelCacheContents(string? Folder, string? Problem, IReadOnlyList<KernelCacheShare> Shares, int Others, long SizeInBytes);

/// <summary>Every possible origin of kernels, with its contents. Needs no device.</summary>
/// <param name="Sources">Number of sources in this assembly.</param>
/// <param name="Kernels">Number of kernels in the sources.</param>
/// <param name="Images">Images in this assembly, if any, and in the folder of images.</param>
/// <param name="Compiler">The name and version of NVRTC; null if it is missing.</param>
/// <param name="CompilesFor">The architectures for which it can compile the kernels.</param>
/// <param name="CompilerProblem">Why NVRTC is missing; null if it is not.</param>
/// <param name="Cache">The contents of the cache.</param>
public sealed record KernelInventory(
    int Sources, int Kernels, IReadOnlyList<KernelImageSet> Images, string? Compiler, IReadOnlyList<string> CompilesFor, string? CompilerProblem,
    KernelCacheContents Cache)
{
    /// <summary>Number of sources in this assembly, all of which are compiled for each architecture.</summary>
    public static int SourceCount => KernelSources.BuiltIn.Files.Count;

    /// <summary>Inspects every origin.</summary>
    /// <param name="options">The folders; null for the defaults.</param>
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
            // Names of temporary files begin with a dot.
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
