using Tiller.Kernels;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Kernels;

/// <summary>Tests of kernels run the images that the engine would, and compile nothing where there are some.</summary>
public sealed class KernelTestImagesTests : ElementKernelTest
{
    [Test]
    public void A_kernel_comes_from_the_folder_that_is_named()
    {
        if (OnGpu)
        {
            Assert.Ignore("The host CUDA alone loads images that only name their kernels.");
        }

        using ImageFolder folder = new ImageFolder().With(KernelSources.BuiltIn, ["sm_90a.cubin"]);
        long compiled = HostCuda.CallsOf("nvrtcCompileProgram");
        Environment.SetEnvironmentVariable(KernelLibrary.ImageFolderVariable, folder.Path);
        try
        {
            Load(k => new NormKernels(k));
            Assert.That(HostCuda.CallsOf("nvrtcCompileProgram"), Is.EqualTo(compiled));
            File.WriteAllText(folder["gate.sm_90a.cubin"], "damaged");
            Assert.That(() => Load(k => new GateKernels(k)), Throws.TypeOf<KernelImagesException>());
        }
        finally
        {
            Environment.SetEnvironmentVariable(KernelLibrary.ImageFolderVariable, "off");
        }
    }
}
