using System.Diagnostics;
using Tiller.Interop;

namespace Tiller.Tests.Interop;

public class CudaGraphTests : CudaTest
{
    [Test]
    public void AGraphRunsWhatWasCapturedEachTimeItIsLaunched()
    {
        using var job = new Job();
        using CudaGraph graph = job.Stream.Capture(() => job.Add(1));
        Assert.That(job.Read(), Is.All.Zero, "a capture runs nothing");
        Assert.That(graph.NodeCount, Is.EqualTo(2));
        using CudaGraphExec exec = graph.Instantiate();
        for (int i = 0; i < 3; i++)
        {
            exec.Launch(job.Stream);
        }

        Assert.That(job.Read(), Is.All.EqualTo(6));
    }

    [Test]
    public void AForbiddenCallBreaksTheCaptureAndTheStreamWorksAfterwards()
    {
        using var job = new Job();
        Assert.That(() => job.Stream.Capture(() => new CudaDeviceVariable<float>(job.Context, 1).Dispose()),
            Throws.TypeOf<CudaException>().With.Property("Code").EqualTo(900));
        job.Stream.BeginCapture();
        Assert.That(job.Stream.IsCapturing, Is.True);
        Assert.That(job.Stream.Synchronize, Throws.TypeOf<CudaException>().With.Property("Code").EqualTo(900));
        Assert.That(job.Stream.EndCapture, Throws.TypeOf<CudaException>().With.Property("Code").EqualTo(901));
        Assert.That(job.Stream.IsCapturing, Is.False);
        job.Add(1);
        Assert.That(job.Read(), Is.All.EqualTo(2));
    }

    [Test]
    public void EventsMeasureTime()
    {
        using var job = new Job();
        using CudaEvent start = new(job.Context), end = new(job.Context), untimed = new(job.Context, timing: false);

        // What lies between the events, and what they lie between; both clocks count milliseconds, and do not agree to the last digit.
        long before = Stopwatch.GetTimestamp();
        start.Record(job.Stream);
        start.Synchronize();
        long begin = Stopwatch.GetTimestamp();
        Thread.Sleep(20);
        double least = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
        end.Record(job.Stream);
        end.Synchronize();
        double most = Stopwatch.GetElapsedTime(before).TotalMilliseconds;
        Assert.That(CudaEvent.ElapsedMs(start, end), Is.InRange((0.95 * least) - 1, (1.05 * most) + 1));
        Assert.That(() => CudaEvent.ElapsedMs(start, untimed), Throws.TypeOf<CudaException>());
        Assert.That(job.Stream.Query(), Is.True);
    }

    /// <summary>x += 2 · amount, as two kernels, over 100 elements that start at zero.</summary>
    private sealed class Job : IDisposable
    {
        private const int N = 100;
        private readonly CudaModule module;
        private readonly CudaKernel kernel;
        private readonly CudaDeviceVariable<float> x, ones;

        public Job()
        {
            Context = new PrimaryContext();
            Stream = new CudaStream(Context);
            module = TestKernels.Load(Context, "vector_add.cu");
            kernel = module.GetKernel("tillerTestVectorAdd");
            x = new CudaDeviceVariable<float>(Context, N);
            ones = new CudaDeviceVariable<float>(Context, N);
            x.ClearAsync(Stream);
            ones.CopyToDevice([.. Enumerable.Repeat(1f, N)]);
        }

        public PrimaryContext Context { get; }

        public CudaStream Stream { get; }

        public void Add(float amount)
        {
            for (int i = 0; i < 2; i++)
            {
                CudaKernelTests.Add(kernel, Stream, x.DevicePointer, x.DevicePointer, ones.DevicePointer, amount, N);
            }
        }

        public float[] Read()
        {
            Stream.Synchronize();
            float[] values = new float[N];
            x.CopyToHost(values);
            return values;
        }

        public void Dispose()
        {
            ones.Dispose();
            x.Dispose();
            module.Dispose();
            Stream.Dispose();
            Context.Dispose();
        }
    }
}
