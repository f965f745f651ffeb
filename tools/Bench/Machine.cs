using System.Diagnostics;
using System.Globalization;
using Tiller.Interop;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>Kinds of ceilings that limit a step.</summary>
internal enum CeilingKind
{
    /// <summary>Reading memory.</summary>
    Read,

    /// <summary>Copying memory.</summary>
    Copy,

    /// <summary>Uploading from page-locked host memory to a device.</summary>
    Upload,

    /// <summary>Multiply-adds in float32.</summary>
    Fma32,

    /// <summary>Multiply-adds in float64.</summary>
    Fma64,

    /// <summary>Products of bf16 matrices by the library, with float32 sums.</summary>
    Gemm16,

    /// <summary>Products of float64 matrices by the library.</summary>
    Gemm64,
}

/// <summary>One ceiling.</summary>
/// <param name="Kind">Kind of the ceiling.</param>
/// <param name="Threads">Number of threads that share it; 1 on a device.</param>
/// <param name="SizeInBytes">Size of the buffer; 0 for arithmetic.</param>
/// <param name="Passes">
/// Number of bf16 products for one product of the work: with bf16 weights, a float32 row is split into two or three bf16 numbers (docs/math.md §10).
/// </param>
internal readonly record struct Ceiling(CeilingKind Kind, int Threads, long SizeInBytes, double Passes = 1);

/// <summary>A machine to be measured: its ceilings, its memory, and the timing of a step.</summary>
internal abstract class Machine : IDisposable
{
    /// <summary>Name of the device as in <c>--device</c>: cpu or cuda:N.</summary>
    public abstract Device Device { get; }

    /// <summary>Description of the machine, for rows and errors.</summary>
    public abstract string Name { get; }

    /// <summary>Ceilings that <c>bench ceilings</c> prints.</summary>
    public abstract IReadOnlyList<Ceiling> Ceilings { get; }

    /// <summary>Minimum length of a sample in seconds, so that effects at its two ends do not matter.</summary>
    public abstract double SampleSeconds { get; }

    /// <summary>Most rows that its device pushes through a block at once (<see cref="DeviceOps.JacobianRows"/>).</summary>
    public virtual int JacobianRows => DeviceOps.UsualJacobianRows;

    /// <summary>Memory in bytes reserved for the runtime, the buffers of the ceilings and other small objects.</summary>
    protected abstract double ReserveInBytes { get; }

    /// <summary>Opens the machine that a request names.</summary>
    /// <exception cref="TillerException">There is no such device.</exception>
    public static Machine Open(BenchRequest request) => OrdinalOf(request) switch
    {
        { } ordinal => new CudaMachine(ordinal, request.Type),
        null => new CpuMachine(request.ThreadCount),
    };

    /// <summary>Number of the CUDA device that a request names; null for the CPU.</summary>
    /// <exception cref="BenchException">The measurement is possible on the CPU only, but a CUDA device was requested.</exception>
    public static int? OrdinalOf(BenchRequest request)
    {
        bool onCpuAlone = request.Mode is BenchMode.Tokenize;
        if (onCpuAlone)
        {
            return request.Device?.CudaOrdinal is null ? null : throw new BenchException(
                $"{request.Mode.ToString().ToLowerInvariant()} always runs on the CPU, but {request.Device} was requested. "
                + "Leave --device out.");
        }

        var device = request.Device ?? Devices.Default;
        return device.IsAuto && CudaDevices.List().Devices.Count > 0 ? 0 : device.CudaOrdinal;
    }

    /// <summary>The ceiling for the bytes of a work.</summary>
    public abstract Ceiling MemoryOf(Work work);

    /// <summary>The ceiling for the FLOPs of a work.</summary>
    public abstract Ceiling ArithmeticOf(Work work);

    /// <summary>Measures a ceiling once, in bytes or FLOPs per second. FLOPs are those of the work, however many passes the machine needs.</summary>
    public abstract double Measure(Ceiling ceiling);

    /// <summary>Name of a ceiling, for rows.</summary>
    public abstract string NameOf(Ceiling ceiling);

    /// <summary>
    /// Measures the seconds of one run, the mean over consecutive runs without a wait between. <see cref="Work.Prepare"/> does not count.
    /// </summary>
    /// <param name="work">The work to time.</param>
    /// <param name="runs">Number of runs, at most <see cref="Work.MaxRuns"/>.</param>
    public double Time(Work work, int runs)
    {
        work.Prepare?.Invoke(runs);
        if (work.Clock is { } clock)
        {
            return clock(work);
        }

        Wait();
        long begin = Stopwatch.GetTimestamp();
        for (int i = 0; i < runs; i++)
        {
            work.Run();
        }

        Wait();
        return Stopwatch.GetElapsedTime(begin).TotalSeconds / runs;
    }

    /// <summary>Waits until all started work has finished.</summary>
    public abstract void Wait();

    /// <summary>Available memory in bytes.</summary>
    public abstract long AvailableInBytes();

    /// <summary>Frees the memory of the ceilings. The next measurement allocates it again.</summary>
    public abstract void Release();

    /// <summary>Checks before any allocation that the machine has enough memory for a measurement.</summary>
    /// <param name="needInBytes">Size of weights, caches and scratch memory.</param>
    /// <exception cref="DeviceMemoryException">There is not enough memory.</exception>
    public void Require(double needInBytes)
    {
        long have = AvailableInBytes();
        double need = needInBytes + ReserveInBytes;
        if (need > have)
        {
            throw new DeviceMemoryException(Device.ToString(), need >= long.MaxValue ? long.MaxValue : (long)need, have);
        }
    }

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases the machine.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>Formats the size of a buffer for rows.</summary>
    protected static string Size(long sizeInBytes, long cacheInBytes) =>
        string.Create(CultureInfo.InvariantCulture, $"{sizeInBytes / 1048576.0:0.#} MiB{(sizeInBytes <= cacheInBytes ? " in cache" : "")}");
}
