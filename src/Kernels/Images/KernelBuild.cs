using System.Globalization;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Kernels cannot be compiled for an architecture: it is not an architecture, Tiller does not support it, or the installed NVRTC does not know it.
/// </summary>
public sealed class KernelArchitectureException : TillerException
{
    internal KernelArchitectureException(string architecture, string problem)
        : base($"Kernels cannot be compiled for '{architecture}': {problem}.") => Architecture = architecture;

    /// <summary>The architecture as the caller gave it.</summary>
    public string Architecture { get; }
}

/// <summary>The cache cannot be filled, because it is switched off or cannot be written.</summary>
public sealed class KernelCacheException : TillerException
{
    internal KernelCacheException(string problem)
        : base($"The kernel cache cannot be filled: {problem.TrimEnd('.')}. Name a writable folder in {KernelCache.FolderVariable}.")
    {
    }
}

/// <summary>An entry of the cache that <see cref="KernelBuild"/> has compiled or found.</summary>
/// <param name="Source">The name of the source, such as norm.cu.</param>
/// <param name="Architecture">The architecture that the image is for, such as sm_90a.</param>
/// <param name="Compiled">Whether it was compiled now. If not, the cache already had an undamaged entry.</param>
/// <param name="File">The path of the entry's file.</param>
/// <param name="SizeInBytes">Size of the image in bytes.</param>
public sealed record KernelBuilt(string Source, string Architecture, bool Compiled, string File, long SizeInBytes);

/// <summary>
/// Compiles all kernels with NVRTC into the cache on disk, for a GPU that need not be in this machine. On a machine with that GPU, a
/// <see cref="KernelLibrary"/> with the same cache and the same version of NVRTC then compiles nothing. Needs no driver. The driver of that GPU must
/// not have an older major version of CUDA than NVRTC.
/// </summary>
public static class KernelBuild
{
    /// <summary>The architecture for which a GPU's kernels are compiled: sm_90a for sm_90 and sm_90a, and sm_XY for all others.</summary>
    /// <param name="gpu">The GPU's architecture, such as sm_90 for compute capability 9.0.</param>
    /// <exception cref="KernelArchitectureException">The kernels do not run on this architecture, or it is not an architecture.</exception>
    public static string Architecture(string gpu) => Parse(gpu).ToString();

    /// <summary>Compiles the sources that are missing in the cache, several at once.</summary>
    /// <param name="gpu">The GPU's architecture, such as sm_90; see <see cref="Architecture"/>.</param>
    /// <param name="options">The sources and the cache; null for the defaults.</param>
    /// <param name="progress">Called for every source when it is done, on the thread that compiled it.</param>
    /// <param name="cancellationToken">Checked between sources. Compiled entries stay in the cache.</param>
    /// <returns>The entries of all sources, in the order of names.</returns>
    /// <exception cref="KernelArchitectureException">The kernels do not run on this architecture, or NVRTC does not know it.</exception>
    /// <exception cref="CudaLibraryMissingException">NVRTC is missing.</exception>
    /// <exception cref="CudaCompilationException">NVRTC could not compile a source.</exception>
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
            throw new KernelArchitectureException(gpu, "expected the architecture of a GPU, such as sm_80 or sm_90a");
        }

        KernelArchitecture native = (parsed with { Only = false }).Native;
        return parsed.Major < KernelArchitecture.FirstMajor ? throw new KernelArchitectureException(gpu, KernelArchitecture.TooOld)
            : parsed.Only && !native.Only ? throw new KernelArchitectureException(gpu, $"for that GPU, Tiller compiles kernels for {native}")
            : native;
    }
}

/// <summary>The version of the installed NVRTC, and the architectures that it knows.</summary>
/// <param name="Major">Major version, 12 for 12.4.</param>
/// <param name="Minor">Minor version, 4 for 12.4.</param>
/// <param name="Architectures">The architectures for which it compiles, 90 for sm_90.</param>
internal sealed record NvrtcVersion(int Major, int Minor, int[] Architectures)
{
    /// <summary>Loads NVRTC and asks for its version.</summary>
    /// <exception cref="CudaLibraryMissingException">NVRTC is missing.</exception>
    /// <exception cref="CudaException">NVRTC does not start.</exception>
    public static NvrtcVersion Ask(KernelLibraryOptions options)
    {
        (int major, int minor, int[] architectures) = options.Compiler();
        return new NvrtcVersion(major, minor, architectures);
    }

    /// <summary>The reason why this NVRTC cannot compile the kernels for an architecture; null if it can.</summary>
    public string? Refuses(KernelArchitecture architecture) =>
        architecture.Major < KernelArchitecture.FirstMajor ? KernelArchitecture.TooOld
        : Major < CudaDriverTooOldException.Minimum / 1000 ? $"{this} is older than 12.0"
        : !Architectures.Contains(10 * architecture.Major + architecture.Minor) ? $"{this} does not know {architecture with { Only = false }}"
        : null;

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"NVRTC {Major}.{Minor}");
}
