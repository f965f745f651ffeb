using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Interop;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tests.Decode;
using Tiller.Tests.Interop;
using Tiller.Tests.Model;

namespace Tiller.Tests.Cuda;

/// <summary>
/// What a device does when its memory ends or a kernel faults, where nothing is told to fail: on a GPU the fault is noticed later, by whatever comes
/// next.
/// </summary>
public sealed class CudaLossTests : CudaTest
{
    private static LoadOptions OnCuda => new() { Device = Device.Cuda() };

    [Test]
    public void Weights_larger_than_the_device_are_refused_and_smaller_ones_then_load()
    {
        var huge = BenchShape.Parse("2000,16384,65536,128,8,128,256000").Config;
        var e = Assert.Throws<DeviceMemoryException>(() => LanguageModel.WithRandomWeights(huge, TensorType.BF16, OnCuda))!;
        Assert.That(e.NeedInBytes, Is.GreaterThan(e.HaveInBytes).And.GreaterThan(1L << 40));
        Assert.That(e.Message, Does.Contain("cuda:0"));
        using var model = LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda);
        using var session = new Session(model, Laws.Random(model, 1));
        Assert.That(session.Prefill([3]).ToArray(), Is.All.Matches<float>(float.IsFinite));
    }

    [Test]
    [Category(TakesAllMemory)]
    public void A_context_that_outgrows_the_memory_stops_one_session_and_not_the_others()
    {
        using var model = LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda);
        using Session small = new(model), again = new(model), large = new(model);
        float[] expected = [];
        foreach (var session in new[] { small, again })
        {
            session.Prefill([3, 4]);
            session.Step(5);
            session.Step(6); // the step is recorded
        }

        expected = small.Step(7).ToArray();
        large.Prefill([3]);
        using (new FullDevice())
        {
            Assert.That(() => Decode(large, 400), Throws.TypeOf<DeviceMemoryException>());
            Assert.That(again.Step(7).ToArray(), Is.EqualTo(expected));
        }

        int stopped = large.Length;
        Decode(large, 20);
        Assert.That(large.Length, Is.EqualTo(stopped + 20));
    }

    [Test]
    [Category(EndsTheDevice)]
    public void A_kernel_that_faults_beside_a_text_ends_it_and_no_answer_follows()
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var model = LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda);
        using var session = new Session(model);
        var options = new GenerationOptions { MaxNewTokens = 400, StopIds = [], Law = Laws.Random(model, 1) };
        using var generation = new Generation(model, [3, 4, 5], options);
        session.Prefill([3, 4, 5]);
        generation.MoveNext();
        Assert.That(CudaKernelTests.Store(module, stream, pointer: 0, index: 0), Is.EqualTo(typeof(CudaDeviceLostException)));
        Assert.That(() => generation.MoveNext(), Throws.TypeOf<CudaDeviceLostException>());
        Assert.That(() => session.Step(6), Throws.TypeOf<CudaDeviceLostException>());
        Assert.That(() => new Session(model).Prefill([3]), Throws.TypeOf<CudaDeviceLostException>());
        Assert.That(
            () => LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda),
            Throws.InstanceOf<CudaException>().Or.InstanceOf<DeviceUnavailableException>());
    }

    private static void Decode(Session session, int tokens)
    {
        for (int i = 0; i < tokens; i++)
        {
            session.Step(7);
        }
    }
}
