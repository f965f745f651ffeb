using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;
using Tiller.Bench;
using Tiller.Cpu;
using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tool;

/// <summary>The devices of this machine.</summary>
/// <param name="Cpu">Model of the processor.</param>
/// <param name="Threads">Default number of threads.</param>
/// <param name="InstructionSets">Vector instruction sets that the engine uses on the processor.</param>
/// <param name="Cuda">The CUDA devices, or why there are none.</param>
/// <param name="Libraries">The CUDA libraries, found or not.</param>
/// <param name="Kernels">For each CUDA device, the origin of its kernels or why it has none.</param>
internal sealed record DevicesFound(
    string Cpu, int Threads, IReadOnlyList<string> InstructionSets, CudaDeviceList Cuda, IReadOnlyList<CudaLibraryInfo> Libraries,
    IReadOnlyList<KernelsFound> Kernels);

/// <summary>The origin of a device's kernels.</summary>
/// <param name="Origin"><see cref="KernelLibrary.Origin"/>; null if there are no kernels.</param>
/// <param name="Problem">Why there are no kernels; null if there are.</param>
internal sealed record KernelsFound(string? Origin, string? Problem);

/// <summary><c>tiller devices</c>.</summary>
internal static class DevicesRun
{
    public static int Run(Terminal terminal, DevicesRequest request)
    {
        var found = Find();
        if (request.Json)
        {
            DevicesOutput.WriteJson(terminal, found);
        }
        else
        {
            DevicesOutput.WriteText(terminal, found);
        }

        return ExitCode.Ok;
    }

    private static DevicesFound Find()
    {
        var cuda = CudaDevices.List();
        return new DevicesFound(
            ProcFile.Text("/proc/cpuinfo", "model name") ?? RuntimeInformation.ProcessArchitecture.ToString(),
            Environment.ProcessorCount,
            InstructionSets(),
            cuda,
            CudaLibraries.List(),
            [.. cuda.Devices.Select(device => KernelsFor(device, cuda.DriverVersion))]);
    }

    private static KernelsFound KernelsFor(CudaDeviceInfo device, int driverVersion)
    {
        try
        {
            return new KernelsFound(KernelLibrary.OriginFor(device, driverVersion), null);
        }
        catch (TillerException e)
        {
            return new KernelsFound(null, OptionNames.Of(e.Message));
        }
    }

    private static string[] InstructionSets() =>
    [
        .. new[] { ("AVX", Avx.IsSupported), ("AVX2", Avx2.IsSupported), ("FMA", Fma.IsSupported), ("AVX-512", Avx512.Code != Avx512Code.None),
            ("AdvSimd", AdvSimd.IsSupported) }
            .Where(set => set.Item2).Select(set => set.Item1),
    ];
}
