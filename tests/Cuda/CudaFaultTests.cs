using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Interop;
using Tiller.Model;
using Tiller.Tests.Checkpoint;
using Tiller.Tests.Decode;
using Tiller.Tests.Interop;
using Tiller.Tests.Model;

namespace Tiller.Tests.Cuda;

/// <summary>
/// A CUDA call fails, once each, anywhere between opening the device and saving a controller: a typed error, nothing left on the device,
/// the file that was there still there, and a smaller job works afterwards.
/// </summary>
public sealed class CudaFaultTests : HostCudaTest
{
    private const int OutOfMemory = 2;
    private const int IllegalAddress = 700;

    // A prime, so that calls of every kind are met; 1 fails every call in turn (hours on the host CUDA).
    private static int Stride => int.TryParse(Environment.GetEnvironmentVariable("TILLER_FAULT_STRIDE"), out int stride) ? stride : 197;

    private static LoadOptions OnCuda => new() { Device = Device.Cuda() };

    [TestCase(OutOfMemory)]
    [TestCase(IllegalAddress)]
    public void Every_call_may_fail(int code)
    {
        using var folder = new TemporaryFolder();
        string file = folder["law.tiller"];
        Job(file);
        byte[] saved = File.ReadAllBytes(file);
        HostCuda.Reset();
        Job(file);
        long calls = HostCuda.Calls;
        int threw = 0;
        for (long n = 1; n <= calls; n += n < 200 && Stride > 13 ? 13 : Stride)
        {
            HostCuda.Reset();
            HostCuda.FailAt(n, code);
            try
            {
                Job(file);
            }
            catch (TillerException e)
            {
                threw++;
                Assert.That(e, Is.InstanceOf<CudaException>().Or.InstanceOf<Tiller.Ops.DeviceMemoryException>()
                    .Or.InstanceOf<Tiller.Model.DeviceUnavailableException>(), $"call {n} of {calls}");
                Assert.That(e.Message, Is.Not.Empty);
            }

            Assert.That(HostCuda.LiveAllocations, Is.Zero, $"call {n} of {calls} leaks");
            Assert.That(File.ReadAllBytes(file), Is.EqualTo(saved), $"call {n} of {calls}: the controller is whole");
            Assert.That(Directory.GetFiles(folder.Path), Has.Length.EqualTo(1));
            HostCuda.Reset();
            Smaller();
        }

        Assert.That(threw, Is.Positive);
    }

    [Test]
    public void A_token_whose_calls_fail_is_drawn_again_and_is_the_same()
    {
        using var model = LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda);
        var options = new GenerationOptions
        {
            MaxNewTokens = 3,
            StopIds = [],
            Law = Laws.Random(model, 1),
            Sampling = new SamplingOptions { Temperature = 1, Seed = 3 },
        };
        int failures = 0;
        int[] expected = Ids(0, out long calls);
        for (long n = 1; n <= calls; n += 11)
        {
            Assert.That(Ids(n, out _), Is.EqualTo(expected), $"call {n} of {calls}");
        }

        Assert.That(failures, Is.Positive);

        int[] Ids(long failAt, out long calls)
        {
            using var generation = new Generation(model, [3, 4, 5], options);
            generation.MoveNext();
            long before = HostCuda.Calls;
            HostCuda.FailAt(failAt, OutOfMemory);
            while (generation.Current.StopReason is null)
            {
                try
                {
                    generation.MoveNext();
                }
                catch (CudaException)
                {
                    failures++;
                }
            }

            HostCuda.FailAt(0, 0);
            calls = HostCuda.Calls - before;
            return generation.NewIds.ToArray();
        }
    }

    [Test]
    public void A_sticky_error_ends_the_device_and_no_answer_follows_it()
    {
        using var model = LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda);
        using var session = new Session(model);
        session.Prefill([3, 4, 5]);
        HostCuda.FailAt(30, IllegalAddress);
        Assert.That(() => Decode(session, 40), Throws.TypeOf<CudaDeviceLostException>());
        Assert.That(() => session.Step(6), Throws.TypeOf<CudaDeviceLostException>());
        Assert.That(() => new Session(model), Throws.TypeOf<CudaDeviceLostException>());
    }

    [Test]
    public void Weights_that_do_not_fit_are_refused_with_need_and_have()
    {
        HostCuda.SetMemory((32 << 20) + 300_000); // cuBLASLt has its workspace
        var e = Assert.Throws<Tiller.Ops.DeviceMemoryException>(() => LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda))!;
        Assert.That(e.NeedInBytes, Is.GreaterThan(e.HaveInBytes).And.GreaterThan(300_000));
        Assert.That(e.Message, Does.Contain("cuda:0"));
        HostCuda.SetMemory(64 << 20);
        Smaller();
    }

    private static void Job(string file)
    {
        using var model = LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda);
        var contrast = new ContrastSet([.. TestModels.Texts("llama3-bf16", "positive").Take(1)],
            [.. TestModels.Texts("llama3-bf16", "negative").Take(1)]);
        var fit = ControllerFit.Run(model, contrast, new FitOptions { Cost = FitCost.Feature });
        using var generation = new Generation(model, [3, 4, 5], new GenerationOptions
        {
            MaxNewTokens = 4,
            StopIds = [],
            Law = fit.Controller.ToLaw(1),
        });
        while (generation.MoveNext())
        {
        }

        fit.Controller.Save(file);
    }

    private static void Smaller()
    {
        using var model = LanguageModel.Load(TestModels.Folder("llama3-bf16"), OnCuda);
        using var session = new Session(model, Laws.Random(model, 1));
        Assert.That(session.Prefill([3]).ToArray(), Is.All.Matches<float>(float.IsFinite));
    }

    private static void Decode(Session session, int tokens)
    {
        for (int i = 0; i < tokens; i++)
        {
            session.Step(7);
        }
    }
}
