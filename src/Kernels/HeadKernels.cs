using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Settings of the draw of a row's next token, in the layout of the kernels: <c>TillerSampling</c> of sampling.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal record struct DeviceSampling
{
    /// <summary>State of the random sequence, initially the seed. Every draw advances it.</summary>
    public ulong Random;

    /// <summary>
    /// Address of a word for each token: the sign bit is set if the token occurs in the prompt or the text so far, and the other bits count its
    /// occurrences in the text // (V). 0 if the logits are not adjusted.
    /// </summary>
    public nint Tally;

    /// <summary>Address of the numbers to be added to the logits // (V); 0 for none. Requires <see cref="Tally"/>.</summary>
    public nint Bias;

    /// <summary>Divides the logits; 0 takes the largest logit.</summary>
    public float Temperature;

    /// <summary>Keeps the most probable tokens until their sum reaches this probability; 1 keeps all.</summary>
    public float TopP;

    /// <summary>Keeps tokens whose probability is at least this fraction of the largest; 0 keeps all.</summary>
    public float MinP;

    /// <summary>Divides positive logits, and multiplies negative ones, of tokens that occur in the prompt or the text; 1 changes nothing.</summary>
    public float Repetition;

    /// <summary>Subtracted from the logits of tokens that occur in the text.</summary>
    public float Presence;

    /// <summary>Subtracted from the logit of a token once for each occurrence in the text.</summary>
    public float Frequency;

    /// <summary>Keeps the K largest logits and those equal to the K-th; 0 keeps all.</summary>
    public int TopK;

    /// <summary>1 + the number of most probable tokens that the softmax reports; 0 if the softmax is not computed.</summary>
    public int Softmax;
}

/// <summary>A new value for a word of a tally: <c>TillerTallyChange</c> of head.cu.</summary>
[StructLayout(LayoutKind.Sequential)]
internal record struct TallyChange
{
    /// <summary>Address of the word, on the device.</summary>
    public nint Address;

    /// <summary>The new value.</summary>
    public int Word;

    /// <summary>Padding.</summary>
    public int Reserved;
}

/// <summary>
/// A ring for the tokens of consecutive steps, on the device or in pinned host memory. Step n uses the lines of n % <see cref="Capacity"/>.
/// </summary>
/// <param name="Lines">
/// For each step and row a line: the id, then as floats, for a row with a law, α // (sensors), |u_k| // (stages), |x_k| // (stages) and, of every
/// point of edits, |Δz| // (points) // (Capacity, rows, Width).
/// </param>
/// <param name="Width">Words in a line: 1 for the id alone, or enough for the law that needs the most.</param>
/// <param name="Capacity">Number of steps in the ring.</param>
/// <param name="Count">Number of steps so far // (1).</param>
internal readonly record struct TokenRing(DeviceSpan<int> Lines, int Width, int Capacity, DeviceSpan<int> Count);

/// <summary>
/// Draws the next token from logits, and makes the next row from the token, without the host. Kernels in head.cu, sample.cu and softmax.cu.
/// </summary>
internal sealed unsafe class HeadKernels
{
    /// <summary>The largest vocabulary that can be sampled from.</summary>
    public const int MaxVocabulary = 1 << 20;

    private const int Chunk = 2048;
    private const int GroupsPerChunk = 16;

    private readonly CudaKernel _softCap;
    private readonly CudaKernel _scan;
    private readonly CudaKernel _pick;
    private readonly CudaKernel _filter;
    private readonly CudaKernel _draw;
    private readonly CudaKernel _advance;
    private readonly CudaKernel _tally;
    private readonly CudaKernel _softmax;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public HeadKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _softCap = kernel("tillerSoftCap");
        _scan = kernel("tillerHeadScan");
        _pick = kernel("tillerHeadPick");
        _filter = kernel("tillerSampleFilter");
        _draw = kernel("tillerSampleDraw");
        _advance = kernel("tillerAdvance");
        _tally = kernel("tillerTally");
        _softmax = kernel("tillerSoftmaxTop");
    }

    /// <summary>Bytes of scratch memory that <see cref="ArgMax"/> or <see cref="Sample"/> needs. It must be 16-byte aligned.</summary>
    /// <param name="rows">Number of rows of logits.</param>
    /// <param name="V">Size of the vocabulary.</param>
    /// <param name="draws">Whether tokens are sampled. If not, only the largest logits are taken.</param>
    public static long ScratchSizeInBytes(int rows, int V, bool draws) => Carve(0, rows, V, draws, out _);

    /// <summary>z = cap tanh(z / cap), in place.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="logits">Logits // (rows, V); if there are no rows, nothing is launched.</param>
    /// <param name="cap">Bound of the logits.</param>
    public void SoftCap(CudaStream stream, Floats logits, float cap)
    {
        long count = (long)logits.Rows * logits.Columns;
        if (count == 0)
        {
            return;
        }

        var p = new SoftCapParameters { Z = logits.Address, Count = count, Cap = cap };
        _softCap.Launch(new CudaLaunch(RowLaunch.Blocks(count, 1024), 1, 1, 256, Programmatic: true), stream, p);
    }

    /// <summary>
    /// For each row, the lowest id of the largest logit. If a logit is NaN or +∞, ~id of the first such logit; if all logits are −∞, ~0.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="logits">Logits // (rows, V), V at most <see cref="MaxVocabulary"/>.</param>
    /// <param name="ids">Result // (rows); for none nothing is launched.</param>
    /// <param name="scratch">Scratch memory of <see cref="ScratchSizeInBytes"/>.</param>
    public void ArgMax(CudaStream stream, Floats logits, DeviceSpan<int> ids, DeviceSpan<byte> scratch)
    {
        if (ids.Length > 0)
        {
            Pick(stream, Parameters(logits, default, ids, scratch), (int)ids.Length);
        }
    }

    /// <summary>
    /// Draws each row's next token with the same filters, tie rules and random sequence as the engine's sampler on the CPU. If a row's draw fails,
    /// its id is negative as in <see cref="ArgMax"/>. The logits do not change.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="logits">Logits // (rows, V), V at most <see cref="MaxVocabulary"/>.</param>
    /// <param name="sampling">Settings of each row // (rows). Their random states advance.</param>
    /// <param name="ids">Result // (rows); for none nothing is launched.</param>
    /// <param name="scratch">Scratch memory of <see cref="ScratchSizeInBytes"/>.</param>
    public void Sample(CudaStream stream, Floats logits, DeviceSpan<DeviceSampling> sampling, DeviceSpan<int> ids, DeviceSpan<byte> scratch)
    {
        int rows = (int)ids.Length;
        if (rows == 0)
        {
            return;
        }

        Debug.Assert(!sampling.IsAbsent && sampling.Length >= rows, "sampling // (rows)");
        var p = Parameters(logits, sampling, ids, scratch);
        Pick(stream, p, rows);
        _filter.Launch(new CudaLaunch(checked(rows * p.Chunks), 1, 1, 256, Programmatic: true), stream, p);
        _draw.Launch(new CudaLaunch(rows, 1, 1, 512, Programmatic: true), stream, p);
    }

    /// <summary>
    /// Makes the drawn tokens the rows of the next step: the id, position + 1, and the next state of the row's law (<see
    /// cref="DeviceSteering.Next"/>), to which the errors are copied. Writes the ids and the values that the laws read and computed to the next lines
    /// of the ring. A row with a negative id becomes a row with token 0; its line shows the negative id.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows, which are changed in place // (rows); if there are none, nothing is launched.</param>
    /// <param name="ids">Result of <see cref="ArgMax"/> or <see cref="Sample"/> // (rows).</param>
    /// <param name="ring">The ring for the lines.</param>
    public void Advance(CudaStream stream, DeviceSpan<DeviceRow> rows, DeviceSpan<int> ids, in TokenRing ring)
    {
        int count = (int)rows.Length;
        if (count == 0)
        {
            return;
        }

        Debug.Assert(ids.Length == count, "ids // (rows)");
        Debug.Assert(ring.Lines.Length >= (long)ring.Capacity * count * ring.Width && ring.Count.Length == 1, "the ring // (capacity, rows, width)");
        var p = new AdvanceParameters
        {
            Rows = rows.Address,
            Ids = ids.Address,
            Ring = ring.Lines.Address,
            Count = ring.Count.Address,
            RowCount = count,
            Width = ring.Width,
            Capacity = ring.Capacity,
        };
        _advance.Launch(new CudaLaunch(1, 1, 1, 256 * (count < 2 ? 1 : count < 4 ? 2 : 4), Programmatic: true), stream, p);
    }

    /// <summary>Writes words of tallies. Their addresses are all different.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="changes">The words; for none nothing is launched.</param>
    public void Tally(CudaStream stream, DeviceSpan<TallyChange> changes)
    {
        if (changes.Length > 0)
        {
            var (from, count) = (changes.Address, (int)changes.Length);
            void** parameters = stackalloc void*[] { &from, &count };
            _tally.Launch(new CudaLaunch(RowLaunch.Blocks(count, 256), 1, 1, 256, Programmatic: true), stream, parameters);
        }
    }

    /// <summary>
    /// Computes the softmax of the unadjusted logits for rows that ask for it and whose id is not negative. Other lines do not change.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="logits">Logits // (rows, V).</param>
    /// <param name="sampling">Settings of each row, which say whether it asks for the softmax and for how many tokens // (rows).</param>
    /// <param name="ids">Result of <see cref="ArgMax"/> or <see cref="Sample"/> // (rows); if there are none, nothing is launched.</param>
    /// <param name="lines">Result // (rows), on the device or in pinned host memory.</param>
    public void Softmax(CudaStream stream, Floats logits, DeviceSpan<DeviceSampling> sampling, DeviceSpan<int> ids, DeviceSpan<SoftmaxLine> lines)
    {
        int rows = (int)ids.Length;
        if (rows == 0)
        {
            return;
        }

        Debug.Assert(logits.Holds(rows, logits.Columns) && sampling.Length >= rows && lines.Length >= rows, "logits, sampling and lines // (rows)");
        var p = new SoftmaxParameters
        {
            Logits = logits.Address,
            Sampling = sampling.Address,
            Ids = ids.Address,
            Lines = lines.Address,
            V = logits.Columns,
        };
        _softmax.Launch(new CudaLaunch(rows, 1, 1, 512, Programmatic: true), stream, p);
    }

    private void Pick(CudaStream stream, HeadParameters p, int rows)
    {
        _scan.Launch(new CudaLaunch(checked(rows * p.Chunks), 1, 1, 256, Programmatic: true), stream, p);
        _pick.Launch(new CudaLaunch(rows, 1, 1, 256, Programmatic: true), stream, p);
    }

    private static HeadParameters Parameters(Floats logits, DeviceSpan<DeviceSampling> sampling, DeviceSpan<int> ids, DeviceSpan<byte> scratch)
    {
        int rows = (int)ids.Length, v = logits.Columns;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(v, MaxVocabulary);
        Debug.Assert(logits.Holds(rows, v), "logits // (rows, V)");
        long size = Carve(scratch.Address, rows, v, !sampling.IsAbsent, out var carved);
        Debug.Assert(scratch.Length >= size, "scratch of ScratchSizeInBytes");
        return new HeadParameters
        {
            Logits = logits.Address,
            Sampling = sampling.Address,
            Ids = ids.Address,
            Scratch = carved,
            V = v,
            Chunks = RowLaunch.Blocks(v, Chunk),
        };
    }

    private static long Carve(nint scratch, int rows, int v, bool draws, out HeadScratch s)
    {
        long chunks = (long)rows * RowLaunch.Blocks(v, Chunk), size = 0;
        nint Take(long count, int elementSizeInBytes)
        {
            nint at = scratch + (nint)size;
            size += (count * elementSizeInBytes + 15) / 16 * 16;
            return at;
        }

        s = new HeadScratch
        {
            ChunkMax = Take(chunks, 4),
            ChunkTop = Take(chunks, 4),
            ChunkBad = Take(chunks, 4),
            GroupMax = Take(chunks * GroupsPerChunk, 4),
            ChunkSum = Take(chunks, 8),
            ChunkCount = Take(chunks, 4),
            Max = Take(rows, 4),
            Top = Take(rows, 4),
            Floor = Take(rows, 4),
            Candidates = Take(draws ? chunks * Chunk : 0, 8),
            Dense = Take(draws ? chunks * Chunk : 0, 8),
            Adjusted = Take(draws ? (long)rows * v : 0, 4),
        };
        return size;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SoftCapParameters
    {
        public nint Z;
        public long Count;
        public float Cap;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct HeadScratch
    {
        public nint ChunkMax;
        public nint ChunkTop;
        public nint ChunkBad;
        public nint GroupMax;
        public nint ChunkSum;
        public nint ChunkCount;
        public nint Candidates;
        public nint Dense;
        public nint Adjusted;
        public nint Max;
        public nint Top;
        public nint Floor;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct HeadParameters
    {
        public nint Logits;
        public nint Sampling;
        public nint Ids;
        public HeadScratch Scratch;
        public int V;
        public int Chunks;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SoftmaxParameters
    {
        public nint Logits;
        public nint Sampling;
        public nint Ids;
        public nint Lines;
        public int V;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct AdvanceParameters
    {
        public nint Rows;
        public nint Ids;
        public nint Ring;
        public nint Count;
        public int RowCount;
        public int Width;
        public int Capacity;
    }
}
