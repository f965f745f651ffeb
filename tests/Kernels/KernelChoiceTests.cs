using System.Text;
using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

/// <summary>Where kernels come from, for any GPU: by what is at hand, without one.</summary>
public class KernelChoiceTests
{
    private const int Cuda12 = 12040, Cuda13 = 13000;
    private static readonly string[] s_ptx = ["sm_80.ptx", "sm_90a.ptx"];

    // NVRTC 13.0 and nothing else.
    private static readonly KernelLibraryOptions s_here = new()
    {
        Sources = ImageFolder.TestSources,
        ImageFolder = "",
        ProgramFolder = Repository.Path("tests"),
        BuiltIn = null,
        Compiler = () => (13, 0, [75, 80, 86, 89, 90, 100, 120]),
    };

    // Images of CMake with nvcc, on every kind of GPU. CUDA C++ Programming Guide: a cubin runs on its major number from its minor number on.
    [TestCase(8, 0, "image for sm_80")]
    [TestCase(8, 6, "image for sm_80")]
    [TestCase(8, 9, "image for sm_89")]
    [TestCase(9, 0, "image for sm_90a")]
    [TestCase(10, 0, "PTX for sm_80")]
    [TestCase(12, 0, "PTX for sm_80")]
    public void TheNearestImageIsTaken(int major, int minor, string origin)
    {
        using ImageFolder images = new ImageFolder().With(ImageFolder.TestSources, ["sm_80.cubin", "sm_89.cubin", "sm_90a.cubin", .. s_ptx]);
        Assert.That(Choose(major, minor, Cuda13, s_here with { ImageFolder = images.Path }).Origin, Does.StartWith(origin).And.Contain(images.Path));
    }

    [TestCase(8, 0, "sm_80")]
    [TestCase(8, 9, "sm_80")]
    [TestCase(9, 0, "sm_90a")]
    [TestCase(10, 0, "sm_80")]
    [TestCase(10, 3, "sm_80")]
    [TestCase(12, 1, "sm_80")]
    public void OfThePtxSm90aIsForThatAlone(int major, int minor, string architecture)
    {
        using ImageFolder builtIn = new ImageFolder().With(ImageFolder.TestSources, s_ptx);
        KernelChoice choice = Choose(major, minor, Cuda13, s_here with { BuiltIn = builtIn.Open(), Compiler = Missing });
        Assert.That(choice.Origin, Is.EqualTo($"PTX for {architecture} built in, made by clang-19, compiled by the driver (no NVRTC)"));
        Assert.That(choice.Images!.Value.Of["transpose.cu"].File, Is.EqualTo($"transpose.{architecture}.ptx"));
    }

    [Test]
    public void ImagesBesideTheProgramComeBeforeNvrtcAndNvrtcBeforePtx()
    {
        using ImageFolder builtIn = new ImageFolder().With(ImageFolder.TestSources, s_ptx);
        using var program = new ImageFolder();
        var options = s_here with { ProgramFolder = program.Path, BuiltIn = builtIn.Open() };
        Assert.That(Choose(9, 0, Cuda13, options).Origin, Is.EqualTo("NVRTC 13.0 for sm_90a"));
        Assert.That(Choose(9, 0, Cuda13, options with { UseRuntimeCompiler = false }).Origin,
            Does.StartWith("PTX for sm_90a built in").And.EndsWith("(run-time compilation is off)"));

        using ImageFolder images = new ImageFolder().With(ImageFolder.TestSources, ["sm_90a.cubin", "sm_80.ptx"]);
        Directory.Move(images.Path, program["kernels"]);
        Assert.That(Choose(9, 0, Cuda13, options).Origin, Is.EqualTo($"image for sm_90a from {program["kernels"]}, made by nvcc-13.0"));
        Assert.That(Choose(10, 0, Cuda13, options).Origin,
            Does.StartWith("NVRTC 13.0 for sm_100 (").And.Contain("has nothing for sm_100, only cubin for sm_90a; PTX for sm_80"));
        Assert.That(Choose(9, 0, Cuda13, options with { ImageFolder = "off" }).Origin, Is.EqualTo("NVRTC 13.0 for sm_90a"));
        Directory.Move(program["kernels"], images.Path);
    }

    [Test]
    public void ImagesOfOtherSourcesAreLeftAside()
    {
        using ImageFolder builtIn = new ImageFolder().With(ImageFolder.TestSources, s_ptx, sourcesHash: new string('0', 64));
        Assert.That(() => Choose(9, 0, Cuda13, s_here with { BuiltIn = builtIn.Open(), Compiler = Missing }),
            Throws.TypeOf<CudaKernelImageException>().With.Message.Contains("which is sm_90").And.Message.Contains("no NVRTC").And.Message.Contains(
                "other sources"));
        Assert.That(() => Choose(9, 0, Cuda13, s_here with { ImageFolder = builtIn.Path }),
            Throws.TypeOf<CudaKernelImageException>().With.Message.Contains(builtIn.Path).And.Message.Contains("asked for by name"));
    }

    [Test]
    public void AFolderAskedForByNameMustHaveImagesForTheGpu()
    {
        using var empty = new ImageFolder();
        using ImageFolder hopper = new ImageFolder().With(ImageFolder.TestSources, ["sm_90a.cubin", "sm_90a.ptx"]);
        Assert.That(() => Choose(9, 0, Cuda13, s_here with { ImageFolder = empty.Path }),
            Throws.TypeOf<CudaKernelImageException>().With.Message.Contains(empty.Path).And.Message.Contains(KernelImages.Manifest));
        Assert.That(() => Choose(8, 6, Cuda13, s_here with { ImageFolder = hopper.Path }),
            Throws.TypeOf<CudaKernelImageException>().With.Message.Contains("sm_86").And.Message.Contains("only cubin for sm_90a; PTX for sm_90a"));
    }

    [Test]
    public void NothingAtHandNamesTheGpuAndWhatThereIs()
    {
        using ImageFolder hopper = new ImageFolder().With(ImageFolder.TestSources, ["sm_90a.ptx"]);
        Assert.That(() => Choose(8, 6, Cuda13, s_here with { BuiltIn = hopper.Open(), Compiler = Missing }),
            Throws.TypeOf<CudaKernelImageException>().With.Property("Architecture").EqualTo("sm_86")
                .And.Message.Contains("which is sm_86").And.Message.Contains("no NVRTC").And.Message.Contains("PTX for sm_90a"));
        Assert.That(() => Choose(9, 0, Cuda13, s_here with { Compiler = Missing }),
            Throws.TypeOf<CudaKernelImageException>().With.Message.Contains("no PTX was built into"));
    }

    // NVRTC that cannot help: too old, newer than the driver, without this architecture, broken; and a GPU without bf16.
    [TestCase(9, 0, Cuda13, 11, 8, "NVRTC 11.8 is older than 12.0")]
    [TestCase(9, 0, Cuda12, 13, 0, "NVRTC 13.0 is newer than the driver, which takes images of CUDA 12")]
    [TestCase(10, 3, Cuda13, 13, 0, "NVRTC 13.0 does not know sm_103")]
    [TestCase(7, 5, Cuda13, 13, 0, "the kernels need sm_80 or later")]
    [TestCase(9, 0, Cuda13, 0, 0, "NVRTC does not start: no entry")]
    public void NvrtcThatDoesNotFitIsLeftAside(int major, int minor, int driver, int nvrtcMajor, int nvrtcMinor, string why)
    {
        var options = s_here with
        {
            Compiler = () => nvrtcMajor > 0 ? (nvrtcMajor, nvrtcMinor, [75, 80, 86, 90, 100]) : throw new CudaException("no entry"),
        };
        Assert.That(() => Choose(major, minor, driver, options), Throws.TypeOf<CudaKernelImageException>().With.Message.Contains(why));
    }

    [TestCase("sm_80", 8, 0, false)]
    [TestCase("sm_90a", 9, 0, true)]
    [TestCase("sm_103", 10, 3, false)]
    [TestCase("sm_120a", 12, 0, true)]
    public void ArchitecturesAreRead(string text, int major, int minor, bool only)
    {
        Assert.That(KernelArchitecture.Parse(text), Is.EqualTo(new KernelArchitecture(major, minor, only)));
        Assert.That(KernelArchitecture.Parse(text).ToString(), Is.EqualTo(text));
    }

    [TestCase("sm_9")]
    [TestCase("sm_90b")]
    [TestCase("sm_1000")]
    [TestCase("compute_90")]
    [TestCase("sm_-1")]
    [TestCase("a")]
    public void OtherNamesAreNoArchitectures(string text) => Assert.That(KernelArchitecture.Parse(text), Is.Null);

    [TestCase("")]
    [TestCase("tiller kernels 2\nsources 0000000000000000000000000000000000000000000000000000000000000000\n")]
    [TestCase("tiller kernels 1\nsources 00\n")]
    [TestCase("tiller kernels 1\nsources 0000000000000000000000000000000000000000000000000000000000000000\nsomething else\n")]
    [TestCase("tiller kernels 1\nsources "
        + "0000000000000000000000000000000000000000000000000000000000000000\n0000000000000000000000000000000000000000000000000000000000000000 "
        + "clang-19 a.sm_80.exe\n")]
    [TestCase("tiller kernels 1\nsources "
        + "0000000000000000000000000000000000000000000000000000000000000000\n0000000000000000000000000000000000000000000000000000000000000000 "
        + "clang-19 ../a.sm_80.ptx\n")]
    public void ADamagedManifestIsAnErrorThatNamesTheFolder(string manifest)
    {
        using var folder = new ImageFolder();
        File.WriteAllBytes(folder[KernelImages.Manifest], Encoding.UTF8.GetBytes(manifest));
        Assert.That(() => KernelImages.Open(folder.Path), Throws.TypeOf<KernelImagesException>().With.Message.StartsWith(folder.Path));
    }

    [Test]
    public void ADamagedOrMissingImageIsAnErrorThatNamesTheFile()
    {
        using ImageFolder folder = new ImageFolder().With(ImageFolder.TestSources, ["sm_80.ptx"]);
        KernelImages images = folder.Open();
        KernelImage image = images.Images.Single(i => i.Source == "transpose.cu");
        Assert.That(images.Read(image), Is.EqualTo(File.ReadAllBytes(folder[image.File])));
        File.AppendAllText(folder[image.File], " ");
        Assert.That(() => images.Read(image),
            Throws.TypeOf<KernelImagesException>().With.Message.Contains(image.File).And.Message.Contains("SHA-256"));
        File.Delete(folder[image.File]);
        Assert.That(() => images.Read(image),
            Throws.TypeOf<KernelImagesException>().With.Message.Contains(image.File).And.Message.Contains("cannot be read"));
    }

    private static (int Major, int Minor, int[] Architectures) Missing() => throw new CudaLibraryMissingException("libnvrtc", []);

    private static KernelChoice Choose(int major, int minor, int driver, KernelLibraryOptions options) =>
        KernelChoice.For(new CudaDeviceInfo(0, "a GPU", major, minor, 132, 1L << 37, 50 << 20, 227 << 10), driver, options);
}
