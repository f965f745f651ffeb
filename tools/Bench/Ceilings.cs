using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Tiller.Cpu;

namespace Tiller.Bench;

/// <summary>
/// The limits of the CPU, measured beside the engine: reading and copying a buffer, and multiply-adds on registers. The threads are those of the
/// engine's own pool.
/// </summary>
internal sealed unsafe class Ceilings : IDisposable
{
    /// <summary>Size of the largest buffer: far larger than any cache, and much smaller than the memory.</summary>
    public const long MaxBufferInBytes = 512L << 20;

    private const long MinBufferInBytes = 256L << 10;
    private const int PartsPerThread = 16;

    // A run takes some milliseconds, so that the start of the threads does not matter.
    private const long BytesPerRun = 256L << 20;
    private const int FmaRounds = 100_000;

    private readonly WorkerPool _pool;
    private byte* _buffer;
    private long _size;

    /// <summary>Starts the threads.</summary>
    public Ceilings(int threads) => _pool = new WorkerPool(threads);

    /// <summary>Number of threads that share every measurement.</summary>
    public int Threads => _pool.Threads;

    /// <summary>The buffer size that represents a working set.</summary>
    public static long BufferFor(double workingSet) => (long)Math.Clamp(workingSet, MinBufferInBytes, MaxBufferInBytes) / 4096 * 4096;

    /// <summary>Measures the bytes per second of reading a buffer of <paramref name="size"/> bytes.</summary>
    public double Read(long size) => Sweep(size, &ReadPart, bytesCounted: size);

    /// <summary>Measures the bytes per second of copying one half of a buffer to the other; each byte counts once.</summary>
    public double Copy(long size) => Sweep(size, &CopyPart, bytesCounted: size / 2);

    /// <summary>Measures the FLOP/s of fused multiply-adds on registers, with the widest vectors that the engine uses.</summary>
    public double Peak(Precision precision)
    {
        var wide = Avx512.Code;
        int lanes = (wide == Avx512Code.None ? 32 : 64) / (precision == Precision.Single ? sizeof(float) : sizeof(double));
        var job = default(Job);
        long begin = Stopwatch.GetTimestamp();
        _pool.Run(PartsPerThread * Threads, ref job, (precision, wide) switch
        {
            (Precision.Single, Avx512Code.None) => &FmaPart<Single256, Vector256<float>>,
            (Precision.Single, Avx512Code.Managed) => &FmaPart<Single512, Vector512<float>>,
            (Precision.Single, _) => &NativeSinglePart,
            (_, Avx512Code.None) => &FmaPart<Double256, Vector256<double>>,
            (_, Avx512Code.Managed) => &FmaPart<Double512, Vector512<double>>,
            _ => &NativeDoublePart,
        });
        return 2.0 * RegisterChains.Count * lanes * FmaRounds * PartsPerThread * Threads / Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    /// <summary>Frees the buffer. The next measurement allocates a new one.</summary>
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

        // If the buffer fits a cache, every thread keeps its own part.
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

    private static void FmaPart<TFma, TVector>(ref Job job, int part)
        where TFma : struct, IFma<TVector>
        where TVector : struct =>
        Sink.Take(RegisterChains.Run<TFma, TVector>(FmaRounds, 0.5 + part));

    private static void NativeSinglePart(ref Job job, int part) => Sink.Take(Avx512.ChainsSingle(FmaRounds, 0.5 + part));

    private static void NativeDoublePart(ref Job job, int part) => Sink.Take(Avx512.ChainsDouble(FmaRounds, 0.5 + part));

    // Four streams, because a linear map reads several rows of weights at once.
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

/// <summary>Consumes results that are not used otherwise, so that they are computed.</summary>
internal static class Sink
{
    private static double s_last;

    public static void Take(double value) => Volatile.Write(ref s_last, value);
}
