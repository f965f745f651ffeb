using System.Globalization;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// The origin of the kernels for one GPU, which is the first available of: (1) a folder of images that were made for it ahead of time, (2) NVRTC,
/// which compiles the sources for it, (3) the PTX in this assembly, which the driver compiles.
/// </summary>
internal sealed class KernelChoice
{
    private KernelChoice(string origin, KernelArchitecture architecture)
    {
        Origin = origin;
        Architecture = architecture;
    }

    /// <summary>The chosen origin, and why the better ones were not available.</summary>
    public string Origin { get; }

    /// <summary>The architecture that the kernels are for.</summary>
    public KernelArchitecture Architecture { get; }

    /// <summary>The chosen set of images made ahead of time, and the image of each source; null for NVRTC.</summary>
    public (KernelImages From, IReadOnlyDictionary<string, KernelImage> Of)? Images { get; private init; }

    /// <summary>The name and version of NVRTC, if <see cref="Images"/> is null.</summary>
    public string Compiler { get; private init; } = "";

    /// <summary>Chooses the origin for a GPU.</summary>
    /// <exception cref="CudaKernelImageException">No origin has kernels that the GPU can run.</exception>
    /// <exception cref="KernelImagesException">A folder of images is damaged.</exception>
    public static KernelChoice For(CudaDeviceInfo device, int driverVersion, KernelLibraryOptions options)
    {
        var gpu = new KernelArchitecture(device.ComputeCapabilityMajor, device.ComputeCapabilityMinor);
        var passed = new List<string>();
        return FromFolder(gpu, options, passed)
            ?? FromCompiler(gpu, driverVersion, options, passed)
            ?? FromAssembly(gpu, options, passed)
            ?? throw new CudaKernelImageException(gpu.ToString(), $"{string.Join("; ", passed)}.");
    }

    private static KernelChoice? FromFolder(KernelArchitecture gpu, KernelLibraryOptions options, List<string> passed)
    {
        if (options.ImagesAt() is not var (folder, byName))
        {
            return null;
        }

        if (!byName)
        {
            // PTX in a folder that the user did not name is no better than what NVRTC makes for this GPU, so only cubins count.
            return KernelImages.Open(folder) is { } beside ? Take(beside, $"from {folder}", gpu, false, options, passed) : null;
        }

        KernelImages images = KernelImages.Open(folder)
            ?? throw new CudaKernelImageException(gpu.ToString(), $"{folder}, asked for by name, has no {KernelImages.Manifest}.");
        return Take(images, $"from {folder}", gpu, true, options, passed)
            ?? throw new CudaKernelImageException(gpu.ToString(), $"{passed[^1]}, and was asked for by name.");
    }

    private static KernelChoice? FromCompiler(KernelArchitecture gpu, int driverVersion, KernelLibraryOptions options, List<string> passed)
    {
        if (NoCompiler(gpu, driverVersion, options, out string compiler) is { } why)
        {
            passed.Add(why);
            return null;
        }

        return new KernelChoice(Told($"{compiler} for {gpu.Native}", passed), gpu.Native) { Compiler = compiler };
    }

    private static KernelChoice? FromAssembly(KernelArchitecture gpu, KernelLibraryOptions options, List<string> passed)
    {
        if (options.BuiltIn is { } builtIn)
        {
            return Take(builtIn, "built in", gpu, true, options, passed);
        }

        passed.Add("no PTX was built into this Tiller");
        return null;
    }

    private static KernelChoice? Take(KernelImages images, string where, KernelArchitecture gpu, bool ptx, KernelLibraryOptions options,
        List<string> passed)
    {
        if (images.SourcesHash != options.Sources.Hash)
        {
            passed.Add($"{images.Place} was built from other sources");
            return null;
        }

        if (images.Pick(options.Sources, gpu, ptx) is not { Count: > 0 } picked)
        {
            passed.Add($"{images.Place} has nothing for {gpu}, only {images.Describe()}");
            return null;
        }

        // Names the worst image: PTX, if any source has only PTX, and then the lowest architecture.
        KernelImage least = picked.Values.OrderByDescending(image => image.IsPtx)
            .ThenBy(image => (image.Architecture.Only, image.Architecture.Major, image.Architecture.Minor)).First();
        string origin = least.IsPtx
            ? $"PTX for {least.Architecture} {where}, made by {least.Compiler}, compiled by the driver"
            : $"image for {least.Architecture} {where}, made by {least.Compiler}";
        return new KernelChoice(Told(origin, passed), least.Architecture) { Images = (images, picked) };
    }

    private static string Told(string origin, List<string> passed) => passed.Count > 0 ? $"{origin} ({string.Join("; ", passed)})" : origin;

    // The reason why NVRTC cannot compile for this GPU and driver; null if it can.
    private static string? NoCompiler(KernelArchitecture gpu, int driverVersion, KernelLibraryOptions options, out string compiler)
    {
        compiler = "";
        if (!options.UseRuntimeCompiler)
        {
            return "run-time compilation is off";
        }

        NvrtcVersion nvrtc;
        try
        {
            nvrtc = NvrtcVersion.Ask(options);
        }
        catch (CudaLibraryMissingException)
        {
            return "no NVRTC";
        }
        catch (CudaException e)
        {
            return $"NVRTC does not start: {e.Message}";
        }

        compiler = nvrtc.ToString();
        return nvrtc.Refuses(gpu)
            ?? (nvrtc.Major > driverVersion / 1000
                ? string.Create(CultureInfo.InvariantCulture, $"{nvrtc} is newer than the driver, which takes images of CUDA {driverVersion / 1000}")
                : null);
    }
}
