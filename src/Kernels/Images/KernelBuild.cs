using System.Globalization;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Kernels cannot be compiled for an architecture: it is none, none of Tiller's, or unknown to the NVRTC at hand.</summary>
public sealed class KernelArchitectureException : TillerException
{
    internal KernelArchitectureException(string architecture, string problem)
        : base($"Kernels cannot be compiled for '{architecture}': {problem}.") => Architecture = architecture;

    /// <summary>What was asked for.</summary>
    public string Architecture { get; }
}

/// <summary>The cache was to be filled, and there is none or it cannot be written.</summary>
public sealed class KernelCacheException : TillerException
{
    internal KernelCacheException(string problem)
        : base($"The kernels' cache was to be filled: {problem.TrimEnd('.')}. Name a folder that can be written in {KernelCache.FolderVariable}.")
    {
    }
}

/// <summary>An entry of the cache that <see cref="KernelBuild"/> saw to.</summary>
/// <param name="Source">The source, as norm.cu.</param>
/// <param name="Architecture">What it is compiled for, as sm_90a.</param>
/// <param name="Compiled">Whether it was compiled now; if not, it was there, whole.</param>
/// <param name="File">The cache's file.</param>
/// <param name="SizeInBytes">Size of the image.</param>
public sealed record KernelBuilt(string Source, string Architecture, bool Compiled, string File, long SizeInBytes);

/// <summary>
/// Compiles all kernels with NVRTC into the on-disk cache, for a GPU that need not be here: on one, a <see cref="KernelLibrary"/> with the same cache
/// and the same version of NVRTC then compiles nothing. Needs no driver. The driver of that GPU must not be of an older major version of CUDA than
/// NVRTC is.
/// </summary>
public static class KernelBuild
{
    /// <summary>What a GPU's kernels are compiled for: sm_90a for sm_90 and sm_90a, sm_XY for the others.</summary>
    /// <param name="gpu">The GPU's architecture, as sm_90 for compute capability 9.0.</param>
    /// <exception cref="KernelArchitectureException">It is none that the kernels run on.</exception>
    public static string Architecture(string gpu) => Parse(gpu).ToString();

    /// <summary>Compiles what is missing in the cache, several files at once.</summary>
    /// <param name="gpu">The GPU's architecture, as sm_90; see <see cref="Architecture"/>.</param>
    /// <param name="options">The sources and the cache; null for the defaults.</param>
    /// <param name="progress">Told of every file when it is done, from the thread that did it.</param>
    /// <param name="cancellationToken">Ends it between files; what was compiled stays.</param>
    /// <returns>Every source, by name.</returns>
    /// <exception cref="KernelArchitectureException">The architecture is none that the kernels run on, or NVRTC does not know it.</exception>
    /// <exception cref="CudaLibraryMissingException">There is no NVRTC.</exception>
    /// <exception cref="CudaCompilationException">NVRTC refused a source.</exception>
    /// <exception cref="KernelCacheException">There is no cache, or it cannot be written.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static IReadOnlyList<KernelBuilt> Compile(
        string gpu, KernelLibraryOptions? options = null, IProgress<KernelBuilt>? progress = null, CancellationToken cancellationToken = default)
    {
        options ??= new KernelLibraryOptions();
        KernelArchitecture architecture = Parse(gpu);
        NvrtcVersion nvrtc = NvrtcVersion.Ask(options);
        if (nvrtc.Refuses(architecture) is { } why)
        {
            throw new KernelArchitectureException(gpu, why);
        }

        KernelCache cache = KernelCache.Open(options.CacheFolder);
        string folder = cache.Folder ?? throw new KernelCacheException(cache.Problem ?? "it is off");
        var compiler = new KernelCompiler(options.Sources, architecture, nvrtc.ToString(), cache);
        return KernelCompiler.ForEach(options.Sources.Files, Build, cancellationToken);

        KernelBuilt Build(string file)
        {
            (byte[] image, bool compiled) = compiler.Image(file);
            if (cache.Problem is { } problem)
            {
                throw new KernelCacheException(problem);
            }

            var built = new KernelBuilt(file, architecture.ToString(), compiled, Path.Combine(folder, compiler.EntryOf(file)), image.LongLength);
            progress?.Report(built);
            return built;
        }
    }

    private static KernelArchitecture Parse(string gpu)
    {
        ArgumentNullException.ThrowIfNull(gpu);
        if (KernelArchitecture.Parse(gpu) is not { } parsed)
        {
            throw new KernelArchitectureException(gpu, "expected the architecture of a GPU, as sm_80 or sm_90a");
        }

        KernelArchitecture native = (parsed with { Only = false }).Native;
        return parsed.Major < KernelArchitecture.FirstMajor ? throw new KernelArchitectureException(gpu, KernelArchitecture.TooOld)
            : parsed.Only && !native.Only ? throw new KernelArchitectureException(gpu, $"on that GPU Tiller's are compiled for {native}")
            : native;
    }
}

/// <summary>The NVRTC at hand.</summary>
/// <param name="Major">12 of 12.4.</param>
/// <param name="Minor">4 of 12.4.</param>
/// <param name="Architectures">What it compiles for, 90 for sm_90.</param>
internal sealed record NvrtcVersion(int Major, int Minor, int[] Architectures)
{
    /// <summary>Asks it.</summary>
    /// <exception cref="CudaLibraryMissingException">There is none.</exception>
    /// <exception cref="CudaException">It does not start.</exception>
    public static NvrtcVersion Ask(KernelLibraryOptions options)
    {
        (int major, int minor, int[] architectures) = options.Compiler();
        return new NvrtcVersion(major, minor, architectures);
    }

    /// <summary>Why it cannot compile the kernels for an architecture; null if it can.</summary>
    public string? Refuses(KernelArchitecture architecture) =>
        architecture.Major < KernelArchitecture.FirstMajor ? KernelArchitecture.TooOld
        : Major < CudaDriverTooOldException.Minimum / 1000 ? $"{this} is older than 12.0"
        : !Architectures.Contains(10 * architecture.Major + architecture.Minor) ? $"{this} does not know {architecture with { Only = false }}"
        : null;

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"NVRTC {Major}.{Minor}");
}
