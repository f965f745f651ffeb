using System.Text.Json;

namespace Tiller.Tool;

/// <summary>How <c>tiller devices</c> tells what it found.</summary>
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

        // What was looked for in vain is told at length for the driver alone: without it, nothing else matters.
        foreach (var library in found.Libraries.Where(l => l.Reason is null || found.Cuda.Reason is null))
        {
            Row(library.Name, library.File ?? library.Reason!.Message);
        }

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{VisibleText.Of(value)}");
    }

    public static void WriteJson(Terminal terminal, DevicesFound found) => Json.Write(terminal.Output, json =>
    {
        json.WriteStartObject();
        json.WriteStartObject("cpu");
        json.WriteString("name", found.Cpu);
        json.WriteNumber("threads", found.Threads);
        Strings(json, "instructionSets", found.InstructionSets);
        json.WriteEndObject();
        json.WriteStartObject("cuda");
        json.WriteString("driver", found.Cuda.DriverVersion > 0 ? Version(found.Cuda.DriverVersion) : null);
        json.WriteString("reason", found.Cuda.Reason?.Message);
        json.WriteStartArray("devices");
        foreach (var (device, kernels) in found.Cuda.Devices.Zip(found.Kernels))
        {
            json.WriteStartObject();
            json.WriteString("device", $"cuda:{device.Ordinal}");
            json.WriteString("name", device.Name);
            json.WriteString("architecture", $"sm_{device.ComputeCapabilityMajor}{device.ComputeCapabilityMinor}");
            json.WriteNumber("multiprocessors", device.MultiprocessorCount);
            json.WriteNumber("memoryInBytes", device.TotalInBytes);
            json.WriteNumber("l2CacheInBytes", device.L2CacheInBytes);
            json.WriteString("kernels", kernels.Origin);
            json.WriteString("noKernels", kernels.Problem);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("libraries");
        foreach (var library in found.Libraries)
        {
            json.WriteStartObject();
            json.WriteString("name", library.Name);
            json.WriteString("file", library.File);
            Strings(json, "lookedIn", library.Reason?.LookedIn ?? []);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteEndObject();
    });

    private static string Version(int version) => $"{version / 1000}.{version % 1000 / 10}";

    private static void Strings(Utf8JsonWriter json, string name, IReadOnlyList<string> values)
    {
        json.WriteStartArray(name);
        foreach (string value in values)
        {
            json.WriteStringValue(value);
        }

        json.WriteEndArray();
    }
}
