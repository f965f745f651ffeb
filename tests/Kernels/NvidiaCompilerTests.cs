using System.Text.Json;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Kernels;

/// <summary>The kernels and NVIDIA's own compiler, where it is: as <c>tiller kernels --compile</c> gets it, in a process of its own.</summary>
[Parallelizable(ParallelScope.All)]
public class NvidiaCompilerTests
{
    [TestCase("sm_80", Explicit = true, Reason = "A minute of two processors; ptxas assembles its PTX in every build.")]
    [TestCase("sm_90a")]
    public async Task Nvrtc_compiles_every_source_without_spills(string architecture)
    {
        if (NvidiaToolkit.Libraries is not { } libraries || Directory.GetFiles(libraries, "libnvrtc.so.*").Length == 0)
        {
            Assert.Ignore("NVIDIA's NVRTC is not here: run tools/gpu/compilers.sh, or name its folder in TILLER_TEST_NVIDIA.");
            return;
        }

        using var folder = new ImageFolder();
        using var program = Tool.Program.StartIn(
            [(CudaLibraryResolver.FolderVariable, libraries), (KernelCache.FolderVariable, folder["cache"])], "kernels", "--compile",
            architecture, "--json");
        var (code, output, error) = await Tool.Program.Ended(program);
        Assert.That(code, Is.Zero, error);
        using var json = JsonDocument.Parse(output);
        JsonElement[] built = [.. json.RootElement.EnumerateArray()];
        Assert.That(built.Select(f => f.GetProperty("source").GetString()), Is.EqualTo(KernelSources.BuiltIn.Files));
        KernelCache cache = KernelCache.Open(folder["cache"]);
        string? cuobjdump = NvidiaToolkit.Tool("cuobjdump");
        var spilt = new List<string>();
        foreach (JsonElement file in built)
        {
            byte[] image = cache.Read(Path.GetFileName(file.GetProperty("file").GetString()!))!;
            Assert.That(image, Has.Length.EqualTo(file.GetProperty("sizeInBytes").GetInt32()));
            Assert.That(image.AsSpan(0, 4).SequenceEqual("\u007fELF"u8), Is.True, "a cubin is an ELF file");
            if (cuobjdump is not null)
            {
                string source = file.GetProperty("source").GetString()!, cubin = folder[Path.ChangeExtension(source, ".cubin")];
                await File.WriteAllBytesAsync(cubin, image);
                (int exitCode, string told) = HostCuda.Run("cmake", [$"-DIMAGE={cubin}", $"-DSOURCE={Repository.Path("src", "Kernels", source)}",
                    $"-DCUOBJDUMP={cuobjdump}", "-P", Repository.Path("src", "Kernels", "check-image.cmake")]);
                if (exitCode != 0)
                {
                    spilt.Add(told);
                }
            }
        }

        Assert.That(spilt, Is.Empty);
    }
}
