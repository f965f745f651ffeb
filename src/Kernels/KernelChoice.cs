using System.Globalization;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Where the kernels of one GPU come from, by what is at hand: (1) a folder of images made for it ahead of time, (2) NVRTC, which compiles the sources for
/// it, (3) the PTX in this assembly, which the driver compiles.
/// </summary>
internal sealed class KernelChoice
{
    private KernelChoice(string origin, KernelArchitecture architecture)
    {
        Origin = origin;
        Architecture = architecture;
    }

    /// <summary>What was taken, and why nothing better.</summary>
    public string Origin { get; }

    /// <summary>What the kernels are for.</summary>
    public KernelArchitecture Architecture { get; }

    /// <summary>Ahead-of-time images, and the one taken of every source; null for NVRTC.</summary>
    public (KernelImages From, IReadOnlyDictionary<string, KernelImage> Of)? Images { get; private init; }

    /// <summary>NVRTC's version, where <see cref="Images"/> is null.</summary>
    public (int Major, int Minor) Compiler { get; private init; }

    /// <summary>Chooses for a GPU.</summary>
    /// <exception cref="CudaKernelImageException">There is nothing that it can run.</exception>
    /// <exception cref="KernelImagesException">A folder of images is damaged.</exception>
    public static KernelChoice For(CudaDeviceInfo device, int driverVersion, KernelLibraryOptions options)
    {
        var gpu = new KernelArchitecture(device.ComputeCapabilityMajor, device.ComputeCapabilityMinor);
        var passed = new List<string>();
        string? named = options.ImageFolder ?? Environment.GetEnvironmentVariable(KernelLibrary.ImageFolderVariable);
        if (named != "off")
        {
            bool byName = !string.IsNullOrEmpty(named);
            string folder = byName ? Path.GetFullPath(named!) : Path.Combine(options.ProgramFolder, "kernels");
            KernelImages? images = KernelImages.Open(folder);
            if (images is null && byName)
            {
                throw new CudaKernelImageException(gpu.ToString(), $"{folder}, asked for by name, has no {KernelImages.Manifest}.");
            }

            if (images is not null)
            {
                if (Take(images, $"from {folder}", out string problem) is { } taken)
                {
                    return taken;
                }

                passed.Add(byName ? throw new CudaKernelImageException(gpu.ToString(), $"{problem}, and it was asked for by name.") : problem);
            }
        }

        if (NoCompiler(options, driverVersion, out (int Major, int Minor) version) is { } why)
        {
            passed.Add(why);
        }
        else
        {
            KernelArchitecture native = gpu.Native;
            return new KernelChoice(Told(string.Create(CultureInfo.InvariantCulture, $"NVRTC {version.Major}.{version.Minor} for {native}"), passed), native) { Compiler = version };
        }

        if (options.BuiltIn is not { } builtIn)
        {
            passed.Add("no PTX was built into this Tiller");
        }
        else if (Take(builtIn, "built in", out string problem) is { } taken)
        {
            return taken;
        }
        else
        {
            passed.Add(problem);
        }

        throw new CudaKernelImageException(gpu.ToString(), $"{string.Join("; ", passed)}.");

        KernelChoice? Take(KernelImages images, string where, out string problem)
        {
            problem = "";
            if (images.SourcesHash != options.Sources.Hash)
            {
                problem = $"{images.Place} was built from other sources";
                return null;
            }

            if (images.Pick(options.Sources, gpu) is not { Count: > 0 } picked)
            {
                problem = $"{images.Place} has {images.Describe()}, none of which {gpu} runs";
                return null;
            }

            // The least of what was picked: PTX if any file is only there as PTX.
            KernelImage least = picked.Values.OrderByDescending(image => image.IsPtx).ThenBy(image => (image.Architecture.Only, image.Architecture.Major, image.Architecture.Minor)).First();
            string origin = least.IsPtx
                ? $"PTX for {least.Architecture} {where}, made by {least.Compiler}, compiled by the driver"
                : $"image for {least.Architecture} {where}, made by {least.Compiler}";
            return new KernelChoice(Told(origin, passed), least.Architecture) { Images = (images, picked) };
        }
    }

    private static string Told(string origin, List<string> passed) => passed.Count > 0 ? $"{origin} ({string.Join("; ", passed)})" : origin;

    // Null if NVRTC can compile for this GPU and driver.
    private static string? NoCompiler(KernelLibraryOptions options, int driverVersion, out (int Major, int Minor) version)
    {
        version = default;
        if (!options.UseRuntimeCompiler)
        {
            return "run-time compilation is off";
        }

        try
        {
            version = options.CompilerVersion();
        }
        catch (CudaLibraryMissingException)
        {
            return "no NVRTC";
        }
        catch (CudaException e)
        {
            return $"NVRTC does not start: {e.Message}";
        }

        string name = string.Create(CultureInfo.InvariantCulture, $"NVRTC {version.Major}.{version.Minor}");
        return version.Major < CudaDriverTooOldException.Minimum / 1000 ? $"{name} is older than 12.0"
            : version.Major > driverVersion / 1000 ? string.Create(CultureInfo.InvariantCulture, $"{name} is newer than the driver, which takes images of CUDA {driverVersion / 1000}")
            : null;
    }
}
