using System.Diagnostics;
using System.Globalization;
using Tiller.Interop;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>What bounds a step.</summary>
internal enum CeilingKind
{
    /// <summary>Reading memory.</summary>
    Read,

    /// <summary>Copying memory.</summary>
    Copy,

    /// <summary>From page-locked memory of the host to a device.</summary>
    Upload,

    /// <summary>Multiply-adds in float32.</summary>
    Fma32,

    /// <summary>Multiply-adds in float64.</summary>
    Fma64,

    /// <summary>Products of bf16 matrices by the library, float32 sums.</summary>
    Gemm16,

    /// <summary>Products of float64 matrices by the library.</summary>
    Gemm64,
}

/// <summary>One ceiling, to be measured.</summary>
/// <param name="Kind">Of what.</param>
/// <param name="Threads">Threads that share it; 1 on a device.</param>
/// <param name="SizeInBytes">Buffer gone through; 0 for arithmetic.</param>
/// <param name="Passes">
/// Products made for one of the work's: a float32 row goes through bf16 weights as two or three bf16 numbers (docs/math.md §10).
/// </param>
internal readonly record struct Ceiling(CeilingKind Kind, int Threads, long SizeInBytes, double Passes = 1);

/// <summary>What runs a bench: its ceilings, its memory, and how a step on it is timed.</summary>
internal abstract class Machine : IDisposable
{
    /// <summary>Its name for <c>--device</c>: cpu or cuda:N.</summary>
    public abstract Device Device { get; }

    /// <summary>What it is, as rows and errors call it.</summary>
    public abstract string Name { get; }

    /// <summary>Ceilings that <c>bench ceilings</c> prints.</summary>
    public abstract IReadOnlyList<Ceiling> Ceilings { get; }

    /// <summary>What a sample fills with runs, in seconds, so that what happens at its two ends does not count.</summary>
    public abstract double SampleSeconds { get; }

    /// <summary>Bytes that are kept for the runtime, the buffers of the ceilings and what else is small.</summary>
    protected abstract double ReserveInBytes { get; }

    /// <summary>Opens what a request names.</summary>
    /// <exception cref="TillerException">It is not there.</exception>
    public static Machine Open(BenchRequest request) => OrdinalOf(request) switch
    {
        { } ordinal => new CudaMachine(ordinal, request.Type),
        null => new CpuMachine(request.ThreadCount),
    };

    /// <summary>Number of the CUDA device that a request names, null for the CPU.</summary>
    /// <exception cref="BenchException">The measurement is the CPU's alone, and a CUDA device was asked for.</exception>
    public static int? OrdinalOf(BenchRequest request)
    {
        bool onCpuAlone = request.Mode is BenchMode.Tokenize;
        if (onCpuAlone)
        {
            return request.Device?.CudaOrdinal is null ? null : throw new BenchException(
                $"{request.Mode.ToString().ToLowerInvariant()} runs on the CPU whatever runs the model, and {request.Device} was asked for. "
                + "Leave --device out.");
        }

        var device = request.Device ?? Devices.Default;
        return device.IsAuto && CudaDevices.List().Devices.Count > 0 ? 0 : device.CudaOrdinal;
    }

    /// <summary>What bounds the bytes of a work.</summary>
    public abstract Ceiling MemoryOf(Work work);

    /// <summary>What bounds the FLOPs of a work.</summary>
    public abstract Ceiling ArithmeticOf(Work work);

    /// <summary>Bytes or FLOPs per second, measured once; FLOPs are those of the work, however many passes the machine makes for them.</summary>
    public abstract double Measure(Ceiling ceiling);

    /// <summary>How rows call a ceiling.</summary>
    public abstract string NameOf(Ceiling ceiling);

    /// <summary>Seconds of one run, the mean of runs that follow each other without a wait; <see cref="Work.Prepare"/> is not counted.</summary>
    /// <param name="work">What is timed.</param>
    /// <param name="runs">How many, at most <see cref="Work.MaxRuns"/>.</param>
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

    /// <summary>Waits until all that was started is done.</summary>
    public abstract void Wait();

    /// <summary>Bytes that there is room for.</summary>
    public abstract long AvailableInBytes();

    /// <summary>Gives the ceilings' memory back; the next measurement takes it anew.</summary>
    public abstract void Release();

    /// <summary>Compares the bytes that a measurement needs with those the machine has to give, before anything is allocated.</summary>
    /// <param name="needInBytes">Weights, caches and scratch.</param>
    /// <exception cref="DeviceMemoryException">There is no room.</exception>
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

    /// <summary>Ends it.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>A buffer's size as rows call it.</summary>
    protected static string Size(long sizeInBytes, long cacheInBytes) =>
        string.Create(CultureInfo.InvariantCulture, $"{sizeInBytes / 1048576.0:0.#} MiB{(sizeInBytes <= cacheInBytes ? " in cache" : "")}");
}
