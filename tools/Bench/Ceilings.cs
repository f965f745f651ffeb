using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Tiller.Cpu;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>
/// The limits of the CPU, measured beside the engine: reading and copying a buffer, and multiply-adds on registers. Each is the best of several ways,
/// on threads that are tied to a processor each.
/// </summary>
internal sealed unsafe class Ceilings : IDisposable
{
    /// <summary>Size of the largest buffer: far larger than any cache, and much smaller than the memory.</summary>
    public const long MaxBufferInBytes = 256L << 20;

    /// <summary>Size of the two buffers of the largest size, one in small pages and one in huge ones.</summary>
    public const long AllBuffersInBytes = 2 * MaxBufferInBytes;

    private const long MinBufferInBytes = 256L << 10;

    // A run takes some milliseconds, so that the start of the threads does not matter.
    private const long BytesPerRun = 256L << 20;
    private const int FmaRounds = 1_600_000;
    private const int Passes = 20_000;
    private const double LongestPassing = 0.05;

    private readonly PinnedThreads _threads;
    private readonly Dictionary<(bool Copies, long Size), BestOf> _sweeps = [];
    private readonly Dictionary<Precision, BestOf> _peaks = [];

    // In small pages, and in huge ones where the system has them.
    private byte* _small;
    private HostBuffer? _huge;
    private long _size;

    /// <summary>Starts the threads.</summary>
    public Ceilings(int threads) => _threads = new PinnedThreads(threads);

    /// <summary>The buffer size that represents a working set.</summary>
    public static long BufferFor(double workingSet) => (long)Math.Clamp(workingSet, MinBufferInBytes, MaxBufferInBytes) / 4096 * 4096;

    /// <summary>Measures the bytes per second of reading a buffer of <paramref name="size"/> bytes.</summary>
    public double Read(long size) => Sweeps(size, copies: false).Measure();

    /// <summary>Measures the bytes per second of copying one half of a buffer to the other; each byte counts once.</summary>
    public double Copy(long size) => Sweeps(size, copies: true).Measure();

    /// <summary>Measures the FLOP/s of fused multiply-adds on registers.</summary>
    public double Peak(Precision precision)
    {
        if (!_peaks.TryGetValue(precision, out var best))
        {
            _peaks.Add(precision, best = Chains(precision));
        }

        return best.Measure();
    }

    /// <summary>
    /// Measures the nanoseconds that a line of the cache takes from the first thread to the last and back, divided by two. Processors that share a
    /// cache need much less than others; a virtual machine may change from one to the other at any time.
    /// </summary>
    public double PassNs()
    {
        // The two take turns to write the next number, until there are enough or one of them has waited too long for its turn.
        int* line = stackalloc int[64 / sizeof(int) * 2];
        int* turn = (int*)(((nint)line + 63) / 64 * 64);
        *turn = 0;
        double seconds = _threads.Run(thread =>
        {
            int self = thread == 0 ? 0 : 1;
            if (self == 1 && thread < _threads.Count - 1)
            {
                return;
            }

            long until = Stopwatch.GetTimestamp() + (long)(LongestPassing * Stopwatch.Frequency);
            for (int next = self, seen; next < Passes; next += 2)
            {
                for (int waits = 0; (seen = Volatile.Read(ref *turn)) != next;)
                {
                    if (seen < 0 || (++waits % 1024 == 0 && Stopwatch.GetTimestamp() > until))
                    {
                        Volatile.Write(ref *turn, seen < 0 ? seen : -Math.Max(1, next));
                        return;
                    }
                }

                Volatile.Write(ref *turn, next + 1);
            }
        });
        return seconds * 1e9 / Math.Abs(*turn);
    }

    /// <summary>Frees the buffers. The next measurement allocates new ones.</summary>
    public void Release()
    {
        NativeMemory.AlignedFree(_small);
        _small = null;
        _huge?.Dispose();
        _huge = null;
        _size = 0;
    }

    public void Dispose()
    {
        Release();
        _threads.Dispose();
    }

    private BestOf Sweeps(long size, bool copies)
    {
        Reserve(size);
        if (!_sweeps.TryGetValue((copies, size), out var best))
        {
            List<Func<double>> ways = [];
            foreach (bool huge in new[] { false, true })
            {
                ways.AddRange(copies ? [() => Copy(size, huge)]
                    : ReadKernel.All.Select<ReadKernel, Func<double>>(way => () => Read(size, huge, way)));
            }

            _sweeps.Add((copies, size), best = new BestOf(ways));
        }

        return best;
    }

    private double Read(long size, bool huge, ReadKernel kernel)
    {
        long each = Share(size);
        return Rate(each, thread =>
        {
            byte* p = Start(huge) + (thread * each);
            for (int i = 0; i < SweepsOf(size); i++)
            {
                Sink.Take(kernel.Read(p, (nint)each));
            }
        }) * SweepsOf(size);
    }

    private double Copy(long size, bool huge)
    {
        long each = Share(size / 2);
        return Rate(each, thread =>
        {
            byte* p = Start(huge) + (thread * each);
            for (int i = 0; i < SweepsOf(size); i++)
            {
                Buffer.MemoryCopy(p, p + (size / 2), each, each);
            }
        }) * SweepsOf(size);
    }

    private byte* Start(bool huge) => huge ? (byte*)_huge!.Address : _small;

    // A thread's part of a buffer. If the buffer fits a cache, every thread keeps its part from sweep to sweep.
    private long Share(long size) => size / _threads.Count / 1024 * 1024;

    private static int SweepsOf(long size) => (int)Math.Max(1, BytesPerRun / size);

    // Amounts per second of a task in which each thread does the same amount.
    private double Rate(double amount, Action<int> body) => amount * _threads.Count / _threads.Run(body);

    private void Reserve(long size)
    {
        if (size <= _size)
        {
            return;
        }

        Release();
        _small = (byte*)NativeMemory.AlignedAlloc((nuint)size, 4096);
        _huge = new HostBuffer(size);
        _size = size;
        NativeMemory.Fill(_small, (nuint)size, 1);
        NativeMemory.Fill((void*)_huge.Address, (nuint)size, 1);
    }

    private BestOf Chains(Precision precision) => precision == Precision.Single
        ? OfWidths(
            () => Chains<Single256, Vector256<float>>(8), () => Chains<Single512, Vector512<float>>(16), () => Chains(Avx512.ChainsSingle, 16))
        : OfWidths(
            () => Chains<Double256, Vector256<double>>(4), () => Chains<Double512, Vector512<double>>(8), () => Chains(Avx512.ChainsDouble, 8));

    // The widest vectors that the engine uses are not the fastest on every processor.
    private static BestOf OfWidths(Func<double> narrow, Func<double> managed, Func<double> native) => new(Avx512.Code switch
    {
        Avx512Code.None => [narrow],
        Avx512Code.Managed => [narrow, managed],
        _ => [narrow, native],
    });

    private double Chains(Func<nint, double, double> native, int lanes) =>
        Rate(FlopsOf(lanes), thread => Sink.Take(native(FmaRounds, 0.5 + thread)));

    private double Chains<TFma, TVector>(int lanes)
        where TFma : struct, IFma<TVector>
        where TVector : struct =>
        Rate(FlopsOf(lanes), thread => Sink.Take(RegisterChains.Run<TFma, TVector>(FmaRounds, 0.5 + thread)));

    private static double FlopsOf(int lanes) => 2.0 * RegisterChains.Count * lanes * FmaRounds;
}

/// <summary>Consumes results that are not used otherwise, so that they are computed.</summary>
internal static class Sink
{
    private static double s_last;

    public static void Take(double value) => Volatile.Write(ref s_last, value);
}
