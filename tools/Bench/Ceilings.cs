using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Tiller.Tensors;

namespace Tiller.Bench;

/// <summary>
/// What the machine can do at most, measured beside the engine: reading and copying a buffer, and multiply-adds on registers. Threads
/// are those of the engine's own pool.
/// </summary>
internal sealed unsafe class Ceilings : IDisposable
{
    /// <summary>Largest buffer: far larger than any cache, small against the memory.</summary>
    public const long MaxBufferInBytes = 512L << 20;

    private const long MinBufferInBytes = 256L << 10;
    private const int PartsPerThread = 16;
    private const long BytesPerRun = 16L << 20;
    private const int FmaRounds = 20_000;

    private readonly WorkerPool _pool;
    private byte* _buffer;
    private long _size;

    /// <summary>Starts the threads.</summary>
    public Ceilings(int threads) => _pool = new WorkerPool(threads);

    /// <summary>Threads that share every measurement.</summary>
    public int Threads => _pool.Threads;

    /// <summary>The size of buffer that stands for a working set.</summary>
    public static long BufferFor(double workingSet) => (long)Math.Clamp(workingSet, MinBufferInBytes, MaxBufferInBytes) / 4096 * 4096;

    /// <summary>Bytes per second read from a buffer of <paramref name="size"/> bytes, once.</summary>
    public double Read(long size) => Sweep(size, &ReadPart, bytesCounted: size);

    /// <summary>Bytes per second copied from one half of a buffer to the other, each byte counted once.</summary>
    public double Copy(long size) => Sweep(size, &CopyPart, bytesCounted: size / 2);

    /// <summary>FLOP/s of fused multiply-adds on registers.</summary>
    public double Peak(Precision precision)
    {
        var job = default(Job);
        long begin = Stopwatch.GetTimestamp();
        if (precision == Precision.Single)
        {
            _pool.Run(PartsPerThread * Threads, ref job, &SinglePart);
        }
        else
        {
            _pool.Run(PartsPerThread * Threads, ref job, &DoublePart);
        }

        double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        int lanes = 32 / (precision == Precision.Single ? sizeof(float) : sizeof(double));
        return 2.0 * RegisterChains.Count * lanes * FmaRounds * PartsPerThread * Threads / seconds;
    }

    /// <summary>Gives the buffer back; the next measurement takes a new one.</summary>
    public void Release()
    {
        NativeMemory.AlignedFree(_buffer);
        _buffer = null;
        _size = 0;
    }

    public void Dispose()
    {
        Release();
        _pool.Dispose();
    }

    private double Sweep(long size, delegate*<ref Job, int, void> part, double bytesCounted)
    {
        Reserve(size);

        // A buffer in cache is swept often enough to make starting the threads not matter, each thread keeping its own part.
        int sweeps = (int)Math.Max(1, BytesPerRun / size);
        int parts = sweeps > 1 ? Threads : PartsPerThread * Threads;
        var job = new Job { Buffer = _buffer, Size = size, Parts = parts, Sweeps = sweeps };
        long begin = Stopwatch.GetTimestamp();
        _pool.Run(parts, ref job, part);
        return bytesCounted * sweeps / Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    private void Reserve(long size)
    {
        if (size <= _size)
        {
            return;
        }

        Release();
        _buffer = (byte*)NativeMemory.AlignedAlloc((nuint)size, 4096);
        _size = size;
        NativeMemory.Fill(_buffer, (nuint)size, 1);
    }

    private static void ReadPart(ref Job job, int part)
    {
        var (begin, count) = job.Slice(part, job.Size);
        for (int i = 0; i < job.Sweeps; i++)
        {
            Sink.Take(SumOfFourStreams(job.Buffer + begin, count));
        }
    }

    private static void CopyPart(ref Job job, int part)
    {
        var (begin, count) = job.Slice(part, job.Size / 2);
        for (int i = 0; i < job.Sweeps; i++)
        {
            Buffer.MemoryCopy(job.Buffer + begin, job.Buffer + (job.Size / 2) + begin, count, count);
        }
    }

    private static void SinglePart(ref Job job, int part) => Sink.Take(RegisterChains.Single(FmaRounds, 0.5f + part));

    private static void DoublePart(ref Job job, int part) => Sink.Take(RegisterChains.Double(FmaRounds, 0.5 + part));

    // Four streams, as a linear map reads several rows of weights at once.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float SumOfFourStreams(byte* p, long count)
    {
        nint quarter = (nint)(count / 4 / 64 * 64);
        byte* q = p + quarter, r = q + quarter, s = r + quarter;
        Vector256<uint> a = default, b = default, c = default, d = default, e = default, f = default, g = default, h = default;
        for (nint i = 0; i < quarter; i += 64)
        {
            a |= Vector256.Load((uint*)(p + i));
            b |= Vector256.Load((uint*)(p + i + 32));
            c |= Vector256.Load((uint*)(q + i));
            d |= Vector256.Load((uint*)(q + i + 32));
            e |= Vector256.Load((uint*)(r + i));
            f |= Vector256.Load((uint*)(r + i + 32));
            g |= Vector256.Load((uint*)(s + i));
            h |= Vector256.Load((uint*)(s + i + 32));
        }

        return Vector256.Sum((a | b | c | d | e | f | g | h) & Vector256.Create(1u));
    }

    private struct Job
    {
        public byte* Buffer;
        public long Size;
        public int Parts;
        public int Sweeps;

        public readonly (nint Begin, long Count) Slice(int part, long size)
        {
            long each = size / Parts / 64 * 64;
            return ((nint)(part * each), each);
        }
    }
}

/// <summary>Chains of multiply-adds that depend on nothing but themselves; enough of them to hide the latency.</summary>
internal static class RegisterChains
{
    /// <summary>Chains side by side.</summary>
    public const int Count = 12;

    /// <summary>x ← x·m + b on twelve float32 vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Single(int rounds, float start)
    {
        var m = Vector256.Create(0.999f);
        var b = Vector256.Create(0.001f);
        var x0 = Vector256.Create(start);
        Vector256<float> x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0, x6 = x0, x7 = x0, x8 = x0, x9 = x0, x10 = x0, x11 = x0;
        for (int i = 0; i < rounds; i++)
        {
            x0 = Vector256.FusedMultiplyAdd(x0, m, b);
            x1 = Vector256.FusedMultiplyAdd(x1, m, b);
            x2 = Vector256.FusedMultiplyAdd(x2, m, b);
            x3 = Vector256.FusedMultiplyAdd(x3, m, b);
            x4 = Vector256.FusedMultiplyAdd(x4, m, b);
            x5 = Vector256.FusedMultiplyAdd(x5, m, b);
            x6 = Vector256.FusedMultiplyAdd(x6, m, b);
            x7 = Vector256.FusedMultiplyAdd(x7, m, b);
            x8 = Vector256.FusedMultiplyAdd(x8, m, b);
            x9 = Vector256.FusedMultiplyAdd(x9, m, b);
            x10 = Vector256.FusedMultiplyAdd(x10, m, b);
            x11 = Vector256.FusedMultiplyAdd(x11, m, b);
        }

        return Vector256.Sum(x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11);
    }

    /// <summary>x ← x·m + b on twelve float64 vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Double(int rounds, double start)
    {
        var m = Vector256.Create(0.999);
        var b = Vector256.Create(0.001);
        var x0 = Vector256.Create(start);
        Vector256<double> x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0, x6 = x0, x7 = x0, x8 = x0, x9 = x0, x10 = x0, x11 = x0;
        for (int i = 0; i < rounds; i++)
        {
            x0 = Vector256.FusedMultiplyAdd(x0, m, b);
            x1 = Vector256.FusedMultiplyAdd(x1, m, b);
            x2 = Vector256.FusedMultiplyAdd(x2, m, b);
            x3 = Vector256.FusedMultiplyAdd(x3, m, b);
            x4 = Vector256.FusedMultiplyAdd(x4, m, b);
            x5 = Vector256.FusedMultiplyAdd(x5, m, b);
            x6 = Vector256.FusedMultiplyAdd(x6, m, b);
            x7 = Vector256.FusedMultiplyAdd(x7, m, b);
            x8 = Vector256.FusedMultiplyAdd(x8, m, b);
            x9 = Vector256.FusedMultiplyAdd(x9, m, b);
            x10 = Vector256.FusedMultiplyAdd(x10, m, b);
            x11 = Vector256.FusedMultiplyAdd(x11, m, b);
        }

        return Vector256.Sum(x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11);
    }
}

/// <summary>Takes results that nobody reads, so that they are computed.</summary>
internal static class Sink
{
    private static double s_last;

    public static void Take(double value) => Volatile.Write(ref s_last, value);
}
