using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Kernels for benchmarks that measure the limits of a GPU: reading memory, multiply-adds on registers, and launching. Kernels in ceilings.cu.
/// </summary>
internal sealed class CeilingKernels
{
    /// <summary>Threads in a block.</summary>
    public const int Threads = 256;

    /// <summary>Independent chains of multiply-adds in a thread.</summary>
    public const int Chains = 8;

    private readonly CudaKernel _read;
    private readonly CudaKernel _multiply32;
    private readonly CudaKernel _multiply64;
    private readonly CudaKernel _nothing;
    private readonly int _multiprocessors;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    /// <param name="multiprocessors">Number of the device's multiprocessors, which determines the grids.</param>
    public CeilingKernels(Func<string, CudaKernel> kernel, int multiprocessors)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        ArgumentOutOfRangeException.ThrowIfLessThan(multiprocessors, 1);
        _read = kernel("tillerRead");
        _multiply32 = kernel("tillerMultiply32");
        _multiply64 = kernel("tillerMultiply64");
        _nothing = kernel("tillerNothing");
        _multiprocessors = multiprocessors;

        // As many blocks as can be resident together. Each has an equal share of the work, and no block waits for a second wave.
        ReadBlocks = multiprocessors * _read.MaxBlocksPerMultiprocessor(Threads);
        SingleBlocks = multiprocessors * _multiply32.MaxBlocksPerMultiprocessor(Threads);
        DoubleBlocks = multiprocessors * _multiply64.MaxBlocksPerMultiprocessor(Threads);
    }

    /// <summary>Number of blocks of <see cref="Read"/>.</summary>
    public int ReadBlocks { get; }

    /// <summary>Number of blocks of <see cref="MultiplySingle"/>.</summary>
    public int SingleBlocks { get; }

    /// <summary>Number of blocks of <see cref="MultiplyDouble"/>.</summary>
    public int DoubleBlocks { get; }

    /// <summary>Reads every byte of a buffer once in each pass.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="buffer">The buffer, 16-byte aligned and a multiple of 16 bytes long.</param>
    /// <param name="passes">Number of passes.</param>
    /// <param name="sums">
    /// Result: a sum of 32-bit words modulo 2³² for each block // (<see cref="ReadBlocks"/>), uint. All together are the buffer's sum times the
    /// passes.
    /// </param>
    public void Read(CudaStream stream, DeviceSpan<byte> buffer, int passes, DeviceSpan<uint> sums)
    {
        Debug.Assert(buffer.Address % 16 == 0 && buffer.Length % 16 == 0, "buffer // 16-byte words");
        Debug.Assert(sums.Length >= ReadBlocks, "sums // (blocks)");
        var p = new ReadParameters { Buffer = buffer.Address, Sums = sums.Address, Words = buffer.Length / 16, Passes = passes };
        _read.Launch(new CudaLaunch(ReadBlocks, 1, 1, Threads, Programmatic: true), stream, p);
    }

    /// <summary>
    /// x ← a x + b in float32, <paramref name="rounds"/> times in each of the <see cref="Chains"/> chains of every thread: 2 · Chains · rounds FLOPs
    /// per thread.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="a">The factor a.</param>
    /// <param name="b">The summand b.</param>
    /// <param name="rounds">Number of steps of each chain. A chain starts with x = its index + the thread's index in its block.</param>
    /// <param name="results">Result: the sum of a thread's chains // (<see cref="SingleBlocks"/> · <see cref="Threads"/>), float.</param>
    public void MultiplySingle(CudaStream stream, double a, double b, int rounds, DeviceSpan<float> results)
        => Multiply(_multiply32, SingleBlocks, stream, a, b, rounds, results);

    /// <summary>The same as <see cref="MultiplySingle"/> in float64.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="a">The factor a.</param>
    /// <param name="b">The summand b.</param>
    /// <param name="rounds">Number of steps of each chain.</param>
    /// <param name="results">Result // (<see cref="DoubleBlocks"/> · <see cref="Threads"/>), double.</param>
    public void MultiplyDouble(CudaStream stream, double a, double b, int rounds, DeviceSpan<double> results)
        => Multiply(_multiply64, DoubleBlocks, stream, a, b, rounds, results);

    /// <summary>Launches a kernel that does nothing, with one block for each multiprocessor.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="programmatic">Whether the kernel may start before the previous one has ended.</param>
    public void Nothing(CudaStream stream, bool programmatic) =>
        _nothing.Launch(new CudaLaunch(_multiprocessors, 1, 1, Threads, Programmatic: programmatic), stream, 0);

    private static void Multiply<T>(CudaKernel kernel, int blocks, CudaStream stream, double a, double b, int rounds, DeviceSpan<T> results)
        where T : unmanaged
    {
        Debug.Assert(results.Length >= (long)blocks * Threads, "results // (blocks · threads)");
        var p = new MultiplyParameters { Results = results.Address, A = a, B = b, Rounds = rounds };
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
