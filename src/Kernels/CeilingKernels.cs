using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>What a GPU can do at most: reading memory, multiply-adds on registers, and launching. For benchmarks; kernels in ceilings.cu.</summary>
internal sealed class CeilingKernels
{
    /// <summary>Threads of a block.</summary>
    public const int Threads = 256;

    /// <summary>Chains of multiply-adds of one thread.</summary>
    public const int Chains = 8;

    private readonly CudaKernel _read;
    private readonly CudaKernel _multiply32;
    private readonly CudaKernel _multiply64;
    private readonly CudaKernel _nothing;
    private readonly int _multiprocessors;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    /// <param name="multiprocessors">Of the device: sets the grids.</param>
    public CeilingKernels(Func<string, CudaKernel> kernel, int multiprocessors)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        ArgumentOutOfRangeException.ThrowIfLessThan(multiprocessors, 1);
        _read = kernel("tillerRead");
        _multiply32 = kernel("tillerMultiply32");
        _multiply64 = kernel("tillerMultiply64");
        _nothing = kernel("tillerNothing");
        _multiprocessors = multiprocessors;

        // As many as are resident at once: each takes an equal share of the work, and none comes in a second wave.
        ReadBlocks = multiprocessors * _read.MaxBlocksPerMultiprocessor(Threads);
        SingleBlocks = multiprocessors * _multiply32.MaxBlocksPerMultiprocessor(Threads);
        DoubleBlocks = multiprocessors * _multiply64.MaxBlocksPerMultiprocessor(Threads);
    }

    /// <summary>Blocks of <see cref="Read"/>.</summary>
    public int ReadBlocks { get; }

    /// <summary>Blocks of <see cref="MultiplySingle"/>.</summary>
    public int SingleBlocks { get; }

    /// <summary>Blocks of <see cref="MultiplyDouble"/>.</summary>
    public int DoubleBlocks { get; }

    /// <summary>Reads a buffer, each byte once a pass.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="buffer">16-byte aligned.</param>
    /// <param name="sizeInBytes">A multiple of 16.</param>
    /// <param name="passes">Times over.</param>
    /// <param name="sums">
    /// Result: sums of 32-bit words, modulo 2³²; together that of the buffer, times the passes // (<see cref="ReadBlocks"/>), uint.
    /// </param>
    public void Read(CudaStream stream, nint buffer, long sizeInBytes, int passes, nint sums)
    {
        var p = new ReadParameters { Buffer = buffer, Sums = sums, Words = sizeInBytes / 16, Passes = passes };
        _read.Launch(new CudaLaunch(ReadBlocks, 1, 1, Threads, Programmatic: true), stream, p);
    }

    /// <summary>
    /// x ← a x + b in float32, <paramref name="rounds"/> times in <see cref="Chains"/> chains of every thread: 2 · Chains · rounds FLOPs a thread.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="a">a.</param>
    /// <param name="b">b.</param>
    /// <param name="rounds">Steps of each chain, from x = chain + thread of the block on.</param>
    /// <param name="results">Result: the sum of a thread's chains // (<see cref="SingleBlocks"/> · <see cref="Threads"/>), float.</param>
    public void MultiplySingle(CudaStream stream, double a, double b, int rounds, nint results)
        => Multiply(_multiply32, SingleBlocks, stream, a, b, rounds, results);

    /// <summary>As <see cref="MultiplySingle"/> in float64.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="a">a.</param>
    /// <param name="b">b.</param>
    /// <param name="rounds">Steps of each chain.</param>
    /// <param name="results">Result // (<see cref="DoubleBlocks"/> · <see cref="Threads"/>), double.</param>
    public void MultiplyDouble(CudaStream stream, double a, double b, int rounds, nint results)
        => Multiply(_multiply64, DoubleBlocks, stream, a, b, rounds, results);

    /// <summary>A kernel of one block a multiprocessor that does nothing.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="programmatic">Whether it may start before the one ahead of it has ended.</param>
    public void Nothing(CudaStream stream, bool programmatic) =>
        _nothing.Launch(new CudaLaunch(_multiprocessors, 1, 1, Threads, Programmatic: programmatic), stream, 0);

    private static void Multiply(CudaKernel kernel, int blocks, CudaStream stream, double a, double b, int rounds, nint results)
    {
        var p = new MultiplyParameters { Results = results, A = a, B = b, Rounds = rounds };
        kernel.Launch(new CudaLaunch(blocks, 1, 1, Threads, Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ReadParameters
    {
        public nint Buffer;
        public nint Sums;
        public long Words;
        public int Passes;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct MultiplyParameters
    {
        public nint Results;
        public double A;
        public double B;
        public int Rounds;
    }
}
