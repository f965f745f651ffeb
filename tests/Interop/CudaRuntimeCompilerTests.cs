using System.Text;
using Tiller.Interop;

namespace Tiller.Tests.Interop;

public class CudaRuntimeCompilerTests : HostCudaTest
{
    private static readonly Dictionary<string, string> NoHeaders = [];

    [Test]
    public void VersionIsKnown() => Assert.That(CudaRuntimeCompiler.Version.Major, Is.GreaterThanOrEqualTo(12));

    [Test]
    public void ASourceThatIsNotBuiltInIsACompileError() =>
        Assert.That(() => CudaRuntimeCompiler.Compile("nosuch.cu", "", NoHeaders, "sm_90"),
            Throws.TypeOf<CudaCompilationException>().With.Property("Log").Contains("nosuch.cu: error"));

    [Test]
    public void ASourceThatLostItsKernelsIsACompileError() =>
        Assert.That(() => CudaRuntimeCompiler.Compile("transpose.cu", "// empty", NoHeaders, "sm_90"),
            Throws.TypeOf<CudaCompilationException>().With.Property("Log").Contains("tillerTestTranspose"));

    [Test]
    public void PtxIsLoadedByItsEntryNames()
    {
        using var context = new PrimaryContext();
        byte[] ptx = Encoding.UTF8.GetBytes(".version 8.0\n.target sm_80\n.visible .entry tillerTestTranspose(\n)\n{ ret; }\n");
        using var module = new CudaModule(context, ptx, "transpose.ptx");
        Assert.That(module.GetKernel("tillerTestTranspose").Name, Is.EqualTo("tillerTestTranspose"));
        Assert.That(() => module.GetKernel("tillerTestVectorAdd"), Throws.TypeOf<CudaException>());
    }
}
