using System.Text.Json.Serialization;

namespace Tiller.Tool;

/// <summary>Prints the result of <c>tiller devices</c>.</summary>
internal static class DevicesOutput
{
    public static void WriteText(Terminal terminal, DevicesFound found)
    {
        string sets = found.InstructionSets.Count > 0 ? string.Join(", ", found.InstructionSets) : "no vector instruction sets";
        Row("cpu", $"{found.Cpu}, {found.Threads} thread{(found.Threads == 1 ? "" : "s")}, {sets}");
        foreach (var (device, kernels) in found.Cuda.Devices.Zip(found.Kernels))
        {
            Row($"cuda:{device.Ordinal}",
                $"{device.Name}, sm_{device.ComputeCapabilityMajor}{device.ComputeCapabilityMinor}, {device.MultiprocessorCount} multiprocessors, "
                + $"{device.TotalInBytes / 1073741824.0:F1} GiB, driver for CUDA {Version(found.Cuda.DriverVersion)}");
            Row("  kernels", kernels.Origin ?? kernels.Problem!);
        }

        if (found.Cuda.Reason is { } reason)
        {
            Row("cuda", reason.Message);
        }

        // The searched places are printed for a missing driver only, because without a driver nothing else matters.
        foreach (var library in found.Libraries.Where(l => l.Reason is null || found.Cuda.Reason is null))
        {
            Row(library.Name, library.File ?? library.Reason!.Message);
        }

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{VisibleText.Of(value)}");
    }

    public static void WriteJson(Terminal terminal, DevicesFound found)
    {
        var cuda = new CudaJson(
            found.Cuda.DriverVersion > 0 ? Version(found.Cuda.DriverVersion) : null,
            found.Cuda.Reason?.Message,
            [.. found.Cuda.Devices.Zip(found.Kernels, static (device, kernels) => new CudaDeviceJson(
                $"cuda:{device.Ordinal}", device.Name, $"sm_{device.ComputeCapabilityMajor}{device.ComputeCapabilityMinor}",
                device.MultiprocessorCount, device.TotalInBytes, device.L2CacheInBytes, kernels.Origin, kernels.Problem))],
            [.. found.Libraries.Select(static x => new LibraryJson(x.Name, x.File, x.Reason?.LookedIn ?? []))]);
        var told = new DevicesJson(new CpuJson(found.Cpu, found.Threads, found.InstructionSets), cuda);
        Json.Write(terminal.Output, told, DevicesJsonContext.Default.DevicesJson);
    }

    private static string Version(int version) => $"{version / 1000}.{version % 1000 / 10}";
}

/// <summary>The JSON of <c>devices</c>.</summary>
internal sealed record DevicesJson(CpuJson Cpu, CudaJson Cuda);

/// <summary>The processor.</summary>
internal sealed record CpuJson(string Name, int Threads, IReadOnlyList<string> InstructionSets);

/// <summary>The driver and its devices, or why there is none.</summary>
internal sealed record CudaJson(string? Driver, string? Reason, IReadOnlyList<CudaDeviceJson> Devices, IReadOnlyList<LibraryJson> Libraries);

/// <summary>A CUDA device, and the origin of its kernels.</summary>
internal sealed record CudaDeviceJson(
    string Device, string Name, string Architecture, int Multiprocessors, long MemoryInBytes, long L2CacheInBytes,
    string? Kernels, string? NoKernels);

/// <summary>A CUDA library, or the places where it was searched.</summary>
internal sealed record LibraryJson(string Name, string? File, IReadOnlyList<string> LookedIn);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(DevicesJson))]
internal sealed partial class DevicesJsonContext : JsonSerializerContext;
