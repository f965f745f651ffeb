using System.IO.Compression;
using System.Runtime.Versioning;
using Tiller.Kernels;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Kernels;

/// <summary>The scripts that CMake runs when it makes kernel images.</summary>
public class KernelBuildTests
{
    private const string Source = "// y = x\n#include \"platform.cuh\"\nextern \"C\" __global__ void k(float* y) {}\nTILLER_KERNEL(k)\n";
    private const string Ptx = ".version 8.0\n.target sm_80\n.extern .shared .align 16 .b8 tile[];\n.visible .entry k(\n\t.param .u64 "
        + "k_param_0\n)\n{\n\tret;\n}\n";

    [Test]
    public void PtxThatIsWholePasses() => Assert.That(Check(Source, Ptx), Is.Empty);

    [TestCase("\t.local .align 4 .b8 \t__local_depot0[64];\n")]
    [TestCase("\tst.local.u32 \t[%rd4], %r9;\n")]
    [TestCase("\tld.local.v4.f32 \t{%f1, %f2, %f3, %f4}, [%rd4];\n")]
    public void LocalMemoryMustBeAnnounced(string line)
    {
        string ptx = Ptx.Replace("\tret;", line + "\tret;", StringComparison.Ordinal);
        Assert.That(Check(Source, ptx), Does.Contain("local memory"));
        Assert.That(Check("// local memory: 64 bytes, the rare path\n" + Source, ptx), Is.Empty);
        Assert.That(Check("// local memory: \n" + Source, ptx), Does.Contain("local memory"));
    }

    // NVIDIA's tools are played by a script that says what they say: 72 bytes of one kernel, none of the other.
    [TestCase("a.sm_80.ptx", "PTXAS", "", ExpectedResult = false)]
    [TestCase("a.sm_80.ptx", "PTXAS", "// local memory: 72 bytes, sums\n", ExpectedResult = true)]
    [TestCase("a.sm_80.ptx", "PTXAS", "// local memory of PTX: 80 bytes, sums\n", ExpectedResult = true)]
    [TestCase("a.sm_80.cubin", "CUOBJDUMP", "", ExpectedResult = false)]
    [TestCase("a.sm_80.cubin", "CUOBJDUMP", "// local memory: 71 bytes, sums\n", ExpectedResult = false)]
    [TestCase("a.sm_80.cubin", "CUOBJDUMP", "// local memory of PTX: 80 bytes, sums\n", ExpectedResult = false)]
    [TestCase("a.sm_80.cubin", "CUOBJDUMP", "// local memory: 8 bytes, a\n// local memory: 72 bytes, sums\n", ExpectedResult = true)]
    [TestCase("a.sm_80.cubin", "UNUSED_CLI", "", ExpectedResult = true)]
    [UnsupportedOSPlatform("windows")]
    [Platform(Exclude = "Win", Reason = "A shell script")]
    public bool SpillsMustBeAnnouncedInBytes(string image, string tool, string announcement)
    {
        const string Says = """
            #!/bin/sh
            case "$1" in
            -res-usage) printf ' Function k:\n  REG:128 STACK:72 SHARED:0 LOCAL:0\n Function l:\n  REG:9 STACK:0 SHARED:0 LOCAL:0\n' ;;
            *) printf 'ptxas info    : Function properties for k\n    72 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads\n' >&2
               printf 'ptxas info    : Function properties for l\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n' >&2 ;;
            esac
            """;
        using var folder = new ImageFolder();
        File.WriteAllText(folder["tool"], Says.ReplaceLineEndings("\n"));
        File.SetUnixFileMode(folder["tool"], UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        (bool passed, string output) = Check(folder, announcement + Source, Ptx, image, $"-D{tool}={folder["tool"]}");
        Assert.That(passed || output.Contains("72", StringComparison.Ordinal), Is.True, output);
        return passed;
    }

    [Test]
    public void AFunctionThatNothingDefinesIsRefused() =>
        Assert.That(Check(Source, ".extern .func  (.param .b32 func_retval0) nowhere\n(\n\t.param .b32 nowhere_param_0\n)\n;\n" + Ptx),
            Does.Contain("nowhere"));

    [Test]
    public void TheManifestIsOfTheEmbeddedSourcesAndListsWhatIsThere()
    {
        using var folder = new ImageFolder();
        File.WriteAllText(folder["a.sm_80.ptx"], Ptx);
        File.WriteAllText(folder["a.sm_90a.cubin"], "cubin");
        File.WriteAllText(folder["old.sm_80.ptx"], Ptx);
        File.WriteAllText(folder["images.txt"], "a.sm_80.ptx\na.sm_90a.cubin\n");
        Run("manifest.cmake", $"-DFOLDER={folder.Path}", $"-DSOURCES={Repository.Path("src", "Kernels")}", $"-DIMAGES={folder["images.txt"]}",
            "-DPTX_COMPILER=clang-19.1.7", "-DCUBIN_COMPILER=nvcc-13.0");
        KernelImages images = folder.Open();
        Assert.That(images.SourcesHash, Is.EqualTo(KernelSources.BuiltIn.Hash));
        Assert.That(images.Images.Select(i => (i.File, i.Compiler)), Is.EqualTo([("a.sm_80.ptx", "clang-19.1.7"), ("a.sm_90a.cubin", "nvcc-13.0")]));
        Assert.That(images.Images.Select(i => images.Read(i).Length), Is.EqualTo([Ptx.Length, 5]));
        Assert.That(folder.Entries, Does.Not.Contain("old.sm_80.ptx"));
        using var zip = ZipFile.OpenRead(folder["ptx.zip"]);
        Assert.That(zip.Entries.Select(e => (e.FullName, e.Length)), Is.EqualTo([("a.sm_80.ptx", (long)Ptx.Length)]));
    }

    // What check-image.cmake says of them; nothing if it passes.
    private static string Check(string source, string ptx)
    {
        using var folder = new ImageFolder();
        return Check(folder, source, ptx, "a.sm_80.ptx").Output;
    }

    // An image that passes stays, and nothing is said of it.
    private static (bool Passed, string Output) Check(ImageFolder folder, string source, string content, string image, params string[] definitions)
    {
        File.WriteAllText(folder["a.cu"], source);
        File.WriteAllText(folder[image], content);
        (int exitCode, string output) =
            HostCuda.Run("cmake", [$"-DIMAGE={folder[image]}", $"-DSOURCE={folder["a.cu"]}", .. definitions, "-P", Script("check-image.cmake")]);
        Skip(exitCode);
        Assert.That(File.Exists(folder[image]), Is.EqualTo(exitCode == 0));
        Assert.That(output.Length == 0, Is.EqualTo(exitCode == 0));
        return (exitCode == 0, output);
    }

    private static void Run(string script, params string[] definitions)
    {
        (int exitCode, string output) = HostCuda.Run("cmake", [.. definitions, "-P", Script(script)]);
        Skip(exitCode);
        Assert.That(exitCode, Is.Zero, output);
    }

    private static void Skip(int exitCode)
    {
        if (exitCode == -1)
        {
            Assert.Ignore("cmake is not installed: run tools/setup.sh.");
        }
    }

    private static string Script(string name) => Repository.Path("src", "Kernels", name);
}
