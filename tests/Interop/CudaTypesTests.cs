using System.Runtime.CompilerServices;
using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>Sizes and offsets of the structs that cross the boundary, as cuda.h and cublasLt.h lay them out on 64-bit systems.</summary>
public unsafe class CudaTypesTests
{
    [Test]
    public void StructsHaveNvidiasSizes()
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That(Unsafe.SizeOf<CUlaunchConfig>(), Is.EqualTo(56));
            Assert.That(Unsafe.SizeOf<CUlaunchAttribute>(), Is.EqualTo(72));
            Assert.That(Unsafe.SizeOf<cublasLtMatmulAlgo_t>(), Is.EqualTo(64));
            Assert.That(Unsafe.SizeOf<cublasLtMatmulHeuristicResult_t>(), Is.EqualTo(96));
        }
    }

    [Test]
    public void FieldsLieWhereNvidiaPutsThem()
    {
        CUlaunchConfig config;
        CUlaunchAttribute attribute;
        cublasLtMatmulHeuristicResult_t result;
        using (Assert.EnterMultipleScope())
        {
            Assert.That((byte*)&config.sharedMemBytes - (byte*)&config, Is.EqualTo(24));
            Assert.That((byte*)&config.hStream - (byte*)&config, Is.EqualTo(32));
            Assert.That((byte*)&config.attrs - (byte*)&config, Is.EqualTo(40));
            Assert.That((byte*)&config.numAttrs - (byte*)&config, Is.EqualTo(48));
            Assert.That((byte*)&attribute.programmaticStreamSerializationAllowed - (byte*)&attribute, Is.EqualTo(8));
            Assert.That((byte*)&result.workspaceSize - (byte*)&result, Is.EqualTo(64));
            Assert.That((byte*)&result.state - (byte*)&result, Is.EqualTo(72));
            Assert.That((byte*)&result.wavesCount - (byte*)&result, Is.EqualTo(76));
        }
    }

    [Test]
    public void NoBindingIsMarshalled() =>
        Assert.That(typeof(CUlaunchConfig).Assembly.GetCustomAttributes(typeof(DisableRuntimeMarshallingAttribute), false), Is.Not.Empty);
}
