using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Bench;

/// <summary>
/// The limits of a CUDA device by the device's own clock: reading, copying, uploading, multiply-adds on registers, products by the library, and the
/// time from one node of a graph to the next. The length of a run is increased once until it takes a millisecond.
/// </summary>
internal sealed class CudaCeilings : IDisposable
{
    /// <summary>Size of one upload in bytes.</summary>
    public const long UploadInBytes = 64L << 20;

    private const long MinBufferInBytes = 256L << 10;
    private const long MaxBufferInBytes = 4L << 30;
    private const int MaxPasses = 1 << 14;
    private const int MaxRounds = 1 << 18;
    private const int Nodes = 256;
    private const double EnoughMs = 1;

    private readonly PrimaryContext _context;
    private readonly CudaStream _stream;
    private readonly CudaEvent _begin;
    private readonly CudaEvent _end;
    private readonly KernelLibrary _library;
    private readonly CeilingKernels _kernels;
    private readonly CudaBlas? _blas;
    private readonly CudaBlasLt? _blasLt;
    private readonly Dictionary<CeilingKey, int> _counts = [];
    private readonly Dictionary<bool, CudaGraphExec> _graphs = [];
    private CudaDeviceVariable<byte>? _buffer;
    private CudaDeviceVariable<byte>? _results;
    private CudaPinnedHostMemory<byte>? _pinned;
    private CeilingKey _content; // the matrices in the buffer

    /// <summary>Loads the kernels.</summary>
    public CudaCeilings(PrimaryContext context)
    {
        _context = context;
        try
        {
            _stream = new CudaStream(context);
            _begin = new CudaEvent(context);
            _end = new CudaEvent(context);
            _library = new KernelLibrary(context);
            _kernels = new CeilingKernels(_library.Get, context.Device.MultiprocessorCount);
            try
            {
                _blas = new CudaBlas(context, _stream);
                _blasLt = new CudaBlasLt(context);
            }
            catch (CudaLibraryMissingException)
            {
                _blas?.Dispose();
                _blas = null;
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Whether cuBLAS is available.</summary>
    public bool HasLibrary => _blasLt is not null;

    /// <summary>Number of rows of the bf16 matrices; known after the measurement.</summary>
    public int Gemm16Size => _counts.GetValueOrDefault(new(CeilingKind.Gemm16, 0));

    /// <summary>Number of rows of the float64 matrices; known after the measurement.</summary>
    public int Gemm64Size => _counts.GetValueOrDefault(new(CeilingKind.Gemm64, 0));

    /// <summary>The buffer size that represents a working set.</summary>
    /// <param name="workingSet">Size of the working set in bytes.</param>
    /// <param name="free">Free memory in bytes, of which an eighth may be used.</param>
    public static long BufferFor(double workingSet, long free) =>
        (long)Math.Clamp(workingSet, MinBufferInBytes, Math.Max(MinBufferInBytes, Math.Min(MaxBufferInBytes, PowerOf2Below(free / 8)))) / 4096 * 4096;

    /// <summary>Measures the bytes per second of reading a buffer of <paramref name="size"/> bytes.</summary>
    public double Read(long size)
    {
        Reserve(size);
        var sums = Results<uint>(_kernels.ReadBlocks);
        var buffer = new DeviceSpan<byte>(_buffer!.DevicePointer, size);
        int passes = Calibrate(new(CeilingKind.Read, size), 1, MaxPasses, Run);
        return 1000.0 * size * passes / Run(passes);

        double Run(int n) => Ms(() => _kernels.Read(_stream, buffer, n, sums));
    }

    /// <summary>Measures the bytes per second, read and written, of copying one half of a buffer to the other.</summary>
    public double Copy(long size)
    {
        Reserve(size);
        _content = default;
        long half = size / 2;
        int times = Calibrate(new(CeilingKind.Copy, size), 1, MaxPasses, Several);
        return 1000.0 * 2 * half * times / Several(times);

        double Several(int n) => Ms(() =>
        {
            for (int i = 0; i < n; i++)
            {
                _stream.CopyWithinDevice(_buffer!.DevicePointer, _buffer.DevicePointer + (nint)half, half);
            }
        });
    }

    /// <summary>Measures the bytes per second of uploads from page-locked host memory.</summary>
    public double Upload()
    {
        Reserve(UploadInBytes);
        _content = default;
        if (_pinned is null)
        {
            _pinned = new CudaPinnedHostMemory<byte>(_context, UploadInBytes);
            new Random(1).NextBytes(_pinned.Span());
        }

        return 1000.0 * UploadInBytes / Ms(() => _stream.CopyToDevice(_buffer!.DevicePointer, _pinned, 0, (int)UploadInBytes));
    }

    /// <summary>Measures the FLOP/s of multiply-adds on registers.</summary>
    public double Multiply(Precision precision)
    {
        const double A = 0.999, B = 0.001;
        bool single = precision == Precision.Single;
        long threads = (long)CeilingKernels.Threads * (single ? _kernels.SingleBlocks : _kernels.DoubleBlocks);
        var singles = single ? Results<float>(threads) : default;
        var doubles = single ? default : Results<double>(threads);
        int rounds = Calibrate(new(single ? CeilingKind.Fma32 : CeilingKind.Fma64, 0), 16, MaxRounds, Run);
        return 1000.0 * 2 * CeilingKernels.Chains * rounds * threads / Run(rounds);

        double Run(int n) => Ms(() =>
        {
            if (single)
            {
                _kernels.MultiplySingle(_stream, A, B, n, singles);
            }
            else
            {
                _kernels.MultiplyDouble(_stream, A, B, n, doubles);
            }
        });
    }

    /// <summary>Measures the FLOP/s of a product of random bf16 matrices by cuBLASLt, with sums and result in float32.</summary>
    public double Gemm16()
    {
        int n = Calibrate(new(CeilingKind.Gemm16, 0), 64, 8192, Run);
        return 2000.0 * n * n * n / Run(n);

        double Run(int n)
        {
            long square = (long)n * n;
            Reserve(8 * square);
            nint a = _buffer!.DevicePointer, b = a + (nint)(2 * square), c = b + (nint)(2 * square);

            // Magnitudes are between 1 and 2; sign and mantissa are random.
            Matrices(new(CeilingKind.Gemm16, n), 4 * square, Product, static bytes =>
            {
                foreach (ref ushort value in MemoryMarshal.Cast<byte, ushort>(bytes))
                {
                    value = (ushort)(0x3F80 | (value & 0x807F));
                }
            });
            return Ms(Product);

            void Product() => _blasLt!.Matmul(
                CublasOperation.Transpose, CublasOperation.NonTranspose, n, n, n, 1, a, n, b, n, CudaDataType.R16BF, 0, c, n,
                CudaDataType.R32F, _stream);
        }
    }

    /// <summary>Measures the FLOP/s of a product of random float64 matrices by cuBLAS.</summary>
    public double Gemm64()
    {
        int n = Calibrate(new(CeilingKind.Gemm64, 0), 64, 4096, Run);
        return 2000.0 * n * n * n / Run(n);

        double Run(int n)
        {
            long square = (long)n * n;
            Reserve(24 * square);
            nint a = _buffer!.DevicePointer, b = a + (nint)(8 * square), c = b + (nint)(8 * square);
            Matrices(new(CeilingKind.Gemm64, n), 16 * square, Product, static bytes =>
            {
                foreach (ref ulong value in MemoryMarshal.Cast<byte, ulong>(bytes))
                {
                    value = 0x3FF0000000000000 | (value & 0x800FFFFFFFFFFFFF);
                }
            });
            return Ms(Product);

            void Product() => _blas!.Dgemm(CublasOperation.NonTranspose, CublasOperation.NonTranspose, n, n, n, 1, a, n, b, n, 0, c, n);
        }
    }

    /// <summary>Measures the microseconds from one node of a graph to the next, for kernels that do nothing.</summary>
    public double NodeUs(bool programmatic)
    {
        if (!_graphs.TryGetValue(programmatic, out var graph))
        {
            using var recorded = _stream.Capture(() =>
            {
                for (int i = 0; i < Nodes; i++)
                {
                    _kernels.Nothing(_stream, programmatic);
                }
            });
            graph = recorded.Instantiate();
            _graphs.Add(programmatic, graph);
            graph.Launch(_stream);
        }

        return 1000.0 * Ms(() => graph.Launch(_stream)) / Nodes;
    }

    /// <summary>Frees the memory. The next measurement allocates it again.</summary>
    public void Release()
    {
        _buffer?.Dispose();
        _buffer = null;
        _results?.Dispose();
        _results = null;
        _pinned?.Dispose();
        _pinned = null;
    }

    public void Dispose()
    {
        Release();
        foreach (var graph in _graphs.Values)
        {
            graph.Dispose();
        }

        _graphs.Clear();
        _blasLt?.Dispose();
        _blas?.Dispose();
        _library?.Dispose();
        _end?.Dispose();
        _begin?.Dispose();
        _stream?.Dispose();
    }

    private static long PowerOf2Below(long n) => n < 1 ? 0 : 1L << System.Numerics.BitOperations.Log2((ulong)n);

    // Doubles the count until a run takes long enough.
    private int Calibrate(CeilingKey key, int least, int most, Func<int, double> runMs)
    {
        if (!_counts.TryGetValue(key, out int count))
        {
            count = least;
            runMs(count); // the first run of a kernel loads it
            while (runMs(count) < EnoughMs && count < most && Fits(key.Kind, 2L * count))
            {
                count *= 2;
            }

            _counts.Add(key, count);
        }

        return count;
    }

    private bool Fits(CeilingKind kind, long n) => kind switch
    {
        CeilingKind.Gemm16 => 8 * n * n < _context.GetMemoryInfo().FreeInBytes / 4,
        CeilingKind.Gemm64 => 24 * n * n < _context.GetMemoryInfo().FreeInBytes / 4,
        _ => true,
    };

    private double Ms(Action run)
    {
        _begin.Record(_stream);
        run();
        _end.Record(_stream);
        _end.Synchronize();
        return CudaEvent.ElapsedMs(_begin, _end);
    }

    private void Reserve(long size)
    {
        if (_buffer is null || _buffer.Length < size)
        {
            _buffer?.Dispose();
            _buffer = null;
            _buffer = new CudaDeviceVariable<byte>(_context, size, "buffer of the ceilings");
            Fill(_buffer.DevicePointer, size, static _ => { });
        }
    }

    private DeviceSpan<T> Results<T>(long count)
        where T : unmanaged
    {
        long size = Unsafe.SizeOf<T>() * count;
        if (_results is null || _results.Length < size)
        {
            _results?.Dispose();
            _results = null;
            _results = new CudaDeviceVariable<byte>(_context, size, "results of the ceilings");
        }

        return new(_results.DevicePointer, count);
    }

    // Writes the factors and chooses the library's algorithm, if the buffer does not hold the factors already.
    private void Matrices(CeilingKey content, long size, Action product, BytesEdit edit)
    {
        if (_content != content)
        {
            Fill(_buffer!.DevicePointer, size, edit);
            _content = content;
            product();
        }
    }

    // Repeats one block of random bytes, because zeros would draw less power than real data.
    private void Fill(nint to, long size, BytesEdit edit)
    {
        byte[] block = new byte[Math.Min(size, 1 << 20) / 8 * 8];
        new Random(1).NextBytes(block);
        edit(block);
        _stream.CopyToDevice(to, block);
        for (long done = block.Length; done < size; done *= 2)
        {
            _stream.CopyWithinDevice(to, to + (nint)done, Math.Min(done, size - done));
        }

        _stream.Synchronize();
        _content = default;
    }

    private delegate void BytesEdit(Span<byte> bytes);

    private readonly record struct CeilingKey(CeilingKind Kind, long SizeInBytes);
}
