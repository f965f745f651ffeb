using System.Text.Json;
using Tiller.Interop;
using Tiller.Tests.Interop;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller devices</c> where there is a device.</summary>
public class DevicesTests : HostCudaTest
{
    [Test]
    public async Task The_host_cuda_says_that_it_is_no_gpu()
    {
        var run = await ToolRun.Of("devices");
        string[] told = ["cpu ", "cuda:0", "Tiller host CUDA (not a GPU)", "sm_90", "8.0 GiB", "CUDA 13.0", "NVRTC", "cuBLASLt", "cuSOLVER",
            "libtillerhostcuda.so"];
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(told, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)), run.Output);
    }

    [Test]
    public async Task Json_tells_devices_libraries_and_where_kernels_come_from()
    {
        var run = await ToolRun.Of("devices", "--json");
        var cuda = run.Json.GetProperty("cuda");
        var device = cuda.GetProperty("devices").EnumerateArray().Single();
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Json.GetProperty("cpu").GetProperty("threads").GetInt32(), Is.EqualTo(Environment.ProcessorCount));
            Assert.That(cuda.GetProperty("driver").GetString(), Is.EqualTo("13.0"));
            Assert.That(cuda.GetProperty("reason").ValueKind, Is.EqualTo(JsonValueKind.Null));
            Assert.That(device.GetProperty("device").GetString(), Is.EqualTo("cuda:0"));
            Assert.That(device.GetProperty("architecture").GetString(), Is.EqualTo("sm_90"));
            Assert.That(device.GetProperty("memoryInBytes").GetInt64(), Is.EqualTo(8L << 30));
            Assert.That(device.GetProperty("kernels").GetString(), Is.EqualTo("NVRTC 13.99 for sm_90a"));
            Assert.That(cuda.GetProperty("libraries").EnumerateArray().Select(l => l.GetProperty("name").GetString()),
                Is.EqualTo(["driver", "NVRTC", "cuBLAS", "cuBLASLt", "cuSOLVER"]));
            Assert.That(cuda.GetProperty("libraries").EnumerateArray().Select(l => l.GetProperty("file").GetString()),
                Has.All.EndsWith("libtillerhostcuda.so"));
        }
    }

    [Test]
    public async Task No_device_is_told_with_the_reason()
    {
        HostCuda.SetDeviceCount(0);
        var text = await ToolRun.Of("devices");
        var json = await ToolRun.Of("devices", "--json");
        Assert.That((text.Code, json.Code), Is.EqualTo((ExitCode.Ok, ExitCode.Ok)));
        Assert.That(text.Output, Does.Contain("No CUDA device").And.Contain("CUDA_VISIBLE_DEVICES"));
        Assert.That(json.Json.GetProperty("cuda").GetProperty("reason").GetString(), Does.Contain("CUDA_VISIBLE_DEVICES"));
    }

    [Test]
    public async Task Without_nvrtc_only_what_needs_it_is_missing()
    {
        using var scratch = new Scratch();
        File.CreateSymbolicLink(scratch["libcuda.so.1"], Path.Combine(HostCuda.Folder, "libtillerhostcuda.so"));
        var cuda = (await In(scratch["."])).GetProperty("cuda");
        var device = cuda.GetProperty("devices").EnumerateArray().Single();
        var nvrtc = cuda.GetProperty("libraries").EnumerateArray().Single(l => l.GetProperty("name").GetString() == "NVRTC");
        Assert.That(device.GetProperty("name").GetString(), Is.EqualTo("Tiller host CUDA (not a GPU)"));
        if (nvrtc.GetProperty("file").GetString() is { } installed)
        {
            Assert.Ignore($"This machine has an NVRTC of its own, {installed}.");
        }

        Assert.That(nvrtc.GetProperty("lookedIn").EnumerateArray().Select(l => l.GetString()), Has.Some.Contains("/usr/local/cuda"));
        Assert.That(device.GetProperty("kernels").GetString() ?? device.GetProperty("noKernels").GetString(), Does.Contain("no NVRTC"));
    }

    /// <summary>What the program tells in a process that finds its CUDA libraries in a folder.</summary>
    internal static async Task<JsonElement> In(string folder)
    {
        using var program = Program.StartWith($"{CudaLibraryResolver.FolderVariable}={folder}", "devices", "--json");
        using var json = await JsonDocument.ParseAsync(program.StandardOutput.BaseStream);
        await program.WaitForExitAsync();
        Assert.That(program.ExitCode, Is.Zero);
        return json.RootElement.Clone();
    }
}

/// <summary><c>tiller devices</c> where there is none.</summary>
public class NoDevicesTests
{
    [Test]
    public async Task Without_a_driver_the_places_are_told_and_the_cpu_is_there()
    {
        using var scratch = new Scratch();
        var found = await DevicesTests.In(scratch["."]);
        var cuda = found.GetProperty("cuda");
        Assert.That(found.GetProperty("cpu").GetProperty("name").GetString(), Is.Not.Empty);
        if (cuda.GetProperty("libraries")[0].GetProperty("file").GetString() is { } installed)
        {
            Assert.Ignore($"This machine has a driver, {installed}.");
        }

        Assert.That(cuda.GetProperty("devices").GetArrayLength(), Is.Zero);
        Assert.That(cuda.GetProperty("reason").GetString(), Does.StartWith("No NVIDIA driver").And.Contain(scratch["."]));
        Assert.That(cuda.GetProperty("driver").ValueKind, Is.EqualTo(JsonValueKind.Null));
    }
}
