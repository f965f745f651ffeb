using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Linear maps of float32 rows by a stored weight matrix, forward and transposed. There are three classes by the number of rows M:
/// <list type="bullet">
/// <item>1 to 8 rows, any stored type: float32 products, W is read once (linear_few.cu, linear_few_transposed.cu).</item>
/// <item>From 9 rows on, bf16: tensor cores on rows that are split into bf16 pieces (docs/math.md §10); W is read once for every 128 rows
/// (linear_rows.cu).</item>
/// <item>From <see cref="LibraryRows"/> rows on, bf16, if there is a <see cref="CudaBlasLt"/>: a product by cuBLASLt for each piece.</item>
/// </list>
/// A value row has three pieces, which represent float32 exactly. A tangent or cotangent row has two pieces, which are 16 bits: this is two thirds of
/// the work, and the mean error of a product is 2.6e-6. Weights in f16 and f32, and bf16 matrices whose number of columns is not a multiple of 8, use
/// the first class with eight rows at a time for any M. This is correct, but W is read ⌈M/8⌉ times. Within a class, the bits of a row's result depend
/// only on that row and W (cuBLASLt's also on M, by which it chooses its algorithm). Nothing is allocated, so launches can be captured; those of
/// cuBLASLt only after one launch of the same shape outside a capture, which chooses the algorithm. Addresses are on the device, and matrices are
/// 64-byte aligned.
/// </summary>
internal sealed class LinearKernels
{
    /// <summary>Maximum number of rows in the first class.</summary>
    public const int FewRows = 8;

    /// <summary>Maximum number of rows in one pass over W on tensor cores.</summary>
    public const int GroupRows = 128;

    /// <summary>
    /// Number of rows from which cuBLASLt is used. For so many rows, the kernels of this folder would read W twice. Arithmetic limits such products,
    /// and cuBLASLt's kernels, which are made for square tiles, are faster at it.
    /// </summary>
    public const int LibraryRows = 256;

    private const int Threads = 256;
    private const int StagedInBytes = 64 << 10, PanelsInBytes = 96 << 10;
    private static readonly string[] s_types = ["F32", "F16", "BF16"];
    private static readonly int[] s_groups = [16, 32, 64, GroupRows];

    private readonly CudaBlasLt? blas;
    private readonly CudaKernel[] few = new CudaKernel[3 * 4], fewTransposed = new CudaKernel[3 * 4]; // [type, log2 rows]
    private readonly CudaKernel[] rowsForward = new CudaKernel[4], rowsTransposed = new CudaKernel[4];
    private readonly CudaKernel splitPanels, splitMatrices, merge;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">A kernel by its name.</param>
    /// <param name="blas">
    /// cuBLASLt for many rows. Without it (the default), they use the kernels of this folder, <see cref="GroupRows"/> at a time.
    /// </param>
    public LinearKernels(Func<string, CudaKernel> kernel, CudaBlasLt? blas = null)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        this.blas = blas;
        for (int i = 0; i < few.Length; i++)
        {
            string instance = $"{s_types[i / 4]}x{1 << i % 4}";
            few[i] = kernel("tillerLinearFew" + instance);
            few[i].MaxDynamicSharedInBytes = StagedInBytes;
            fewTransposed[i] = kernel("tillerLinearFewTransposed" + instance);
        }

        for (int i = 0; i < s_groups.Length; i++)
        {
            rowsForward[i] = kernel($"tillerLinearRows{s_groups[i]}");
            rowsTransposed[i] = kernel($"tillerLinearRowsTransposed{s_groups[i]}");
            rowsForward[i].MaxDynamicSharedInBytes = rowsTransposed[i].MaxDynamicSharedInBytes = PanelsInBytes;
        }

        splitPanels = kernel("tillerLinearSplitPanels");
        splitMatrices = kernel("tillerLinearSplitMatrices");
        merge = kernel("tillerLinearMerge");
    }

    /// <summary>Optional parts of the launches, which a measurement can switch off.</summary>
    public KernelVariants Variants { get; set; } = KernelVariants.Default;

    /// <summary>
    /// Number of bf16 products for one product of float32 rows, averaged over the rows of a map: three for a value row, two for a tangent or
    /// cotangent row. The kernels of this folder compute sixteen rows together, values first, and make three products for all sixteen if one is a
    /// value row.
    /// </summary>
    /// <param name="rows">Numbers of value rows and of tangent or cotangent rows.</param>
    public static double PassesOf(RowCounts rows)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rows.Values);
        ArgumentOutOfRangeException.ThrowIfNegative(rows.Tangents);
        int total = rows.Total;
        return 2 + (total >= LibraryRows ? (double)rows.Values / total
            : (double)LinearShape.PanelTiles(rows.Values) / LinearShape.PanelTiles(Math.Max(1, total)));
    }

    /// <summary>
    /// Bytes of scratch memory that suffice for <see cref="Forward"/> with up to this number of rows of each kind, and for <see cref="Transposed"/>
    /// with up to their total. All maps of a stream can share the largest scratch memory, because nothing is kept in it between calls.
    /// </summary>
    /// <param name="counts">Numbers of value rows and of tangent or cotangent rows.</param>
    /// <param name="w">Weights // (N, K).</param>
    /// <param name="isTransposed">Whether <see cref="Transposed"/> is used at all.</param>
    public long ScratchInBytes(RowCounts counts, in Matrix w, bool isTransposed = true)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(counts.Values);
        ArgumentOutOfRangeException.ThrowIfNegative(counts.Tangents);
        int rows = counts.Total, values = counts.Values, segments = LinearShape.Divide(w.Rows, LinearShape.SegmentRows(w.Rows, w.Columns));
        long bytes = isTransposed && segments > 1 ? 4L * segments * Math.Min(rows, FewRows) * w.Columns : 0;
        if (rows > FewRows && OnTensorCores(w))
        {
            int group = Math.Min(rows, GroupRows);
            bytes = Math.Max(bytes, PanelsAndPartialInBytes(group, Math.Min(values, group), w.Rows, w.Columns));
            bytes = isTransposed ? Math.Max(bytes, PanelsAndPartialInBytes(group, 0, w.Columns, w.Rows)) : bytes;
        }

        long forward = PiecesInBytes(rows, values, w.Columns, w.Rows), transposed = isTransposed ? PiecesInBytes(rows, 0, w.Rows, w.Columns) : 0;
        return ByLibrary(rows, w) ? Math.Max(bytes, Math.Max(forward, transposed)) : bytes;
    }

    /// <summary>
    /// Whether <see cref="Forward"/> of these rows reads panels, which is so if it computes all of them at once on tensor cores. Then the previous
    /// kernel may write the panels, and the next kernel may add up the partial sums.
    /// </summary>
    /// <param name="counts">Numbers of value rows and tangent rows.</param>
    /// <param name="w">Weights // (N, K).</param>
    public bool TakesPanels(RowCounts counts, in Matrix w) => Variants.FoldedSteps && counts.Total is > FewRows and <= GroupRows && OnTensorCores(w);

    /// <summary>The panels that <see cref="Forward"/> reads, if <see cref="TakesPanels"/>.</summary>
    /// <param name="counts">Numbers of value rows and tangent rows.</param>
    /// <param name="scratch">The scratch memory that <see cref="Forward"/> will get.</param>
    public static LinearPanels PanelsOf(RowCounts counts, DeviceSpan<byte> scratch) =>
        new(scratch.Address, LinearShape.PanelTiles(counts.Total), LinearShape.PanelTiles(counts.Values));

    /// <summary>y = x W' (+ bias) (+ residual), for each row.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="x">
    /// Rows, values first // (values + tangents, w.Columns); absent if they are already in <see cref="PanelsOf"/>.
    /// </param>
    /// <param name="counts">Numbers of value rows and tangent rows.</param>
    /// <param name="w">Weights // (N, K).</param>
    /// <param name="y">Result // (values + tangents, w.Rows).</param>
    /// <param name="scratch">Scratch memory of <see cref="ScratchInBytes"/>, 64-byte aligned.</param>
    /// <param name="bias">Bias of value rows // (1, w.Rows), or absent.</param>
    /// <param name="residual">(values + tangents, w.Rows), or absent. It may be <paramref name="y"/>, unless partial sums are left.</param>
    /// <param name="leaves">Whether the caller's next kernel adds up partial sums, if <see cref="TakesPanels"/>.</param>
    /// <returns>The partial sums that were left. There are none if <paramref name="leaves"/> is false, or if the shape needs none.</returns>
    public LinearSums Forward(CudaStream stream, Floats x, RowCounts counts, in Matrix w, Floats y, DeviceSpan<byte> scratch, Floats bias = default,
        Floats residual = default, bool leaves = false)
    {
        int rows = counts.Total;
        bool folds = TakesPanels(counts, w), ready = x.IsAbsent;
        Debug.Assert(ready ? folds : x.Holds(rows, w.Columns), "x // (values + tangents, K), or panels");
        Debug.Assert(y.Holds(rows, w.Rows), "y // (values + tangents, N)");
        Debug.Assert(bias.IsAbsent || bias.Holds(1, w.Rows), "bias // (1, N)");
        Debug.Assert(residual.IsAbsent || residual.Holds(rows, w.Rows), "residual // (values + tangents, N)");
        Debug.Assert(scratch.Length >= ScratchInBytes(counts, w, isTransposed: false), "scratch of ScratchInBytes");
        var end = new Ending(y.Address, counts.Values, bias.Address, residual.Address);
        if (rows <= FewRows || !OnTensorCores(w))
        {
            Few(stream, x.Address, rows, w, end);
        }
        else if (ByLibrary(rows, w))
        {
            ByLibrary(stream, transposed: false, x.Address, rows, w, end, scratch.Address);
        }
        else
        {
            for (int begin = 0; begin < rows; begin += GroupRows)
            {
                int count = Math.Min(GroupRows, rows - begin);
                nint from = ready ? 0 : x.Address + Bytes(begin, w.Columns);
                LinearSums sums = Rows(stream, rowsForward, from, count, w.Address, w.Rows, w.Columns, end.From(begin, w.Rows), scratch.Address);
                if (leaves && folds)
                {
                    return sums;
                }

                Merge(stream, sums, y.Address + Bytes(begin, w.Rows));
            }
        }

        return default;
    }

    /// <summary>x = y W for each row, which is a cotangent.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="y">Rows // (M, w.Rows).</param>
    /// <param name="rows">The number M of rows.</param>
    /// <param name="w">Weights // (N, K).</param>
    /// <param name="x">Result // (M, w.Columns).</param>
    /// <param name="scratch">Scratch memory of <see cref="ScratchInBytes"/>, 64-byte aligned.</param>
    public void Transposed(CudaStream stream, Floats y, int rows, in Matrix w, Floats x, DeviceSpan<byte> scratch)
    {
        Debug.Assert(y.Holds(rows, w.Rows) && x.Holds(rows, w.Columns), "y // (M, N), x // (M, K)");
        Debug.Assert(scratch.Length >= ScratchInBytes(new RowCounts(0, rows), w), "scratch of ScratchInBytes");
        if (rows > FewRows && ByLibrary(rows, w))
        {
            ByLibrary(stream, transposed: true, y.Address, rows, w, new Ending(x.Address), scratch.Address);
            return;
        }

        bool onTensorCores = rows > FewRows && OnTensorCores(w);
        int most = onTensorCores ? GroupRows : FewRows;
        for (int begin = 0; begin < rows; begin += most)
        {
            int count = Math.Min(most, rows - begin);
            nint from = y.Address + Bytes(begin, w.Rows), to = x.Address + Bytes(begin, w.Columns);
            if (onTensorCores)
            {
                Merge(stream, Rows(stream, rowsTransposed, from, count, w.Address, w.Columns, w.Rows, new Ending(to), scratch.Address), to);
            }
            else
            {
                FewTransposed(stream, from, count, w, to, scratch.Address);
            }
        }
    }

    /// <summary>y += x.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="x">Summand // (rows, N).</param>
    /// <param name="rows">Number of rows; if it is 0, nothing is launched.</param>
    /// <param name="y">Result // (rows, N).</param>
    public void Add(CudaStream stream, Floats x, int rows, Floats y)
    {
        Debug.Assert(x.Holds(rows, x.Columns) && y.Holds(rows, x.Columns), "x and y // (rows, N)");
        if (rows > 0)
        {
            Merge(stream, x.Address, parts: 1, rows, x.Columns, new Ending(y.Address, Residual: y.Address), whole: rows);
        }
    }

    private static bool OnTensorCores(in Matrix w) => w.Type == WeightType.BF16 && w.Columns % 8 == 0 && w.Address % 16 == 0;

    // Bytes of all pieces and, with StackedPieces, of their sums.
    private long PiecesInBytes(int rows, int values, int depth, int outputs) =>
        ((2L * rows) + values) * ((2L * depth) + (Variants.StackedPieces ? 4L * outputs : 0));

    // cuBLASLt's tensor-core kernels require that every leading dimension is a multiple of 16 bytes.
    private bool ByLibrary(int rows, in Matrix w) => blas is not null && rows >= LibraryRows && OnTensorCores(w) && w.Rows % 8 == 0;

    private static nint Bytes(int rows, int columns) => 4 * (nint)rows * columns;

    // The kernel that adds up a map's partial sums may at the same time write the panels of the map's outputs.
    private static long PanelsAndPartialInBytes(int rows, int values, int outputs, int depth)
    {
        long partial = PartialInBytes(rows, outputs, depth);
        return LinearShape.PanelsInBytes(rows, values, partial > 0 ? Math.Max(outputs, depth) : depth) + partial;
    }

    private static long PartialInBytes(int rows, int outputs, int depth)
    {
        int parts = LinearShape.RowsParts(outputs, depth);
        return parts > 1 ? parts * Bytes(rows, outputs) : 0;
    }

    internal static bool IsWide(in Matrix w) => (long)w.Columns * (w.Type == WeightType.F32 ? 4 : 2) % 16 == 0 && w.Address % 16 == 0;

    // Index of the kernel for 1, 2, 4 or 8 rows that has room for these rows.
    internal static int Instance(WeightType type, int rows) => (4 * (int)type) + (rows <= 1 ? 0 : rows <= 2 ? 1 : rows <= 4 ? 2 : 3);

    private void Few(CudaStream stream, nint x, int rows, in Matrix w, in Ending end)
    {
        if (rows == 0)
        {
            return;
        }

        int instance = Instance(w.Type, rows), group = 1 << instance % 4, parts = LinearShape.FewParts(w.Rows, w.Columns);
        var shape = new CudaLaunch(LinearShape.Divide(rows, group), LinearShape.Divide(w.Rows, 32 / parts), 1, Threads,
            SharedInBytes: 4 * group * LinearShape.FewChunk(group, w.Columns), Programmatic: true);
        few[instance].Launch(shape, stream, new LinearFewParameters
        {
            X = x,
            W = w.Address,
            Bias = end.Bias,
            Residual = end.Residual,
            Y = end.Y,
            Rows = rows,
            Columns = w.Columns,
            Outputs = w.Rows,
            Values = end.Values,
            Parts = parts,
            Wide = IsWide(w) ? 1 : 0,
            Prefetch = Variants.Prefetch ? LinearShape.FewPrefetchInBytes(parts) : 0,
        });
    }

    private void FewTransposed(CudaStream stream, nint y, int rows, in Matrix w, nint x, nint scratch)
    {
        int instance = Instance(w.Type, rows), segment = LinearShape.SegmentRows(w.Rows, w.Columns), segments = LinearShape.Divide(w.Rows, segment);
        var shape = new CudaLaunch(LinearShape.Divide(w.Columns, LinearShape.FewStep), segments, 1, Threads,
            SharedInBytes: 4 * segment << instance % 4, Programmatic: true);
        fewTransposed[instance].Launch(shape, stream, new LinearFewTransposedParameters
        {
            Y = y,
            W = w.Address,
            X = segments > 1 ? scratch : x,
            Rows = rows,
            Columns = w.Columns,
            Outputs = w.Rows,
            Segment = segment,
            Wide = IsWide(w) ? 1 : 0,
        });
        if (segments > 1)
        {
            Merge(stream, scratch, segments, rows, w.Columns, new Ending(x), whole: rows);
        }
    }

    // x is 0 if its panels are already in scratch memory.
    private LinearSums Rows(CudaStream stream, CudaKernel[] kernels, nint x, int rows, nint w, int outputs, int depth, in Ending end, nint scratch)
    {
        int values = Math.Min(rows, end.Values), tiles = LinearShape.PanelTiles(rows), exact = LinearShape.PanelTiles(values);
        int parts = LinearShape.RowsParts(outputs, depth), chunk = LinearShape.PanelChunk(rows, values);
        if (x != 0)
        {
            int panels = LinearShape.Divide(depth, LinearShape.PanelDepth) * tiles;
            splitPanels.Launch(new CudaLaunch(LinearShape.Divide(panels, 8), 1, 1, Threads, Programmatic: true), stream,
                new LinearSplitParameters { X = x, Split = scratch, Rows = rows, Columns = depth, Values = values, Tiles = tiles, Exact = exact });
        }

        nint partial = scratch + (nint)(PanelsAndPartialInBytes(rows, values, outputs, depth) - PartialInBytes(rows, outputs, depth));
        bool direct = parts == 1;
        CudaKernel kernel = kernels[rows <= 16 ? 0 : rows <= 32 ? 1 : rows <= 64 ? 2 : 3];
        var shape = new CudaLaunch(LinearShape.Divide(outputs, LinearShape.RowsTile), parts, 1, Threads,
            SharedInBytes: 2 * chunk * LinearShape.PanelBlockInBytes(rows, values), Programmatic: true);
        kernel.Launch(shape, stream, new LinearRowsParameters
        {
            Panels = scratch,
            W = w,
            Bias = direct ? end.Bias : 0,
            Residual = direct ? end.Residual : 0,
            Y = direct ? end.Y : partial,
            Rows = rows,
            Depth = depth,
            Outputs = outputs,
            Tiles = tiles,
            Exact = exact,
            Chunk = chunk,
            Values = end.Values,
            Flushed = Variants.FlushedSums ? 1 : 0,
        });
        return direct ? default : new LinearSums
        {
            Partial = partial,
            Bias = end.Bias,
            Residual = end.Residual,
            Parts = parts,
            Rows = rows,
            Columns = outputs,
            Values = end.Values,
        };
    }

    private void ByLibrary(CudaStream stream, bool transposed, nint x, int rows, in Matrix w, in Ending end, nint scratch)
    {
        var (outputs, depth) = transposed ? (w.Columns, w.Rows) : (w.Rows, w.Columns);
        if (Variants.StackedPieces)
        {
            Split(stream, x, rows, end.Values, depth, scratch);
            nint sums = scratch + (nint)(2 * ((2L * rows) + end.Values) * depth);
            Multiply(stream, transposed, w, scratch, (2 * rows) + end.Values, Variants.FlushedSums ? LinearShape.LibraryDepth : depth,
                prepared: false,
                sums);
            Merge(stream, sums, end.Values > 0 ? 3 : 2, rows, outputs, end, whole: end.Values > 0 ? end.Values : rows);
            return;
        }

        bool prepared = end.Bias != 0 || end.Residual != 0;
        if (end.Bias != 0 || (end.Residual != 0 && end.Residual != end.Y))
        {
            Merge(stream, partial: 0, parts: 0, rows, outputs, end, whole: rows);
        }

        Split(stream, x, rows, end.Values, depth, scratch);
        LibraryPieces(stream, transposed, w, rows, end.Values, scratch, prepared, end.Y);
    }

    // Adds the products of all pieces: middle, low (of values), high. The high piece is 2^8 times as large as the middle one. It is multiplied in
    // products of few terms, because only its sums are large enough for the truncation in tensor cores to matter.
    private void LibraryPieces(CudaStream stream, bool transposed, in Matrix w, int rows, int values, nint pieces, bool prepared, nint result)
    {
        int depth = transposed ? w.Rows : w.Columns;
        nint pieceInBytes = Bytes(rows, depth) / 2;
        foreach (int piece in values > 0 ? (ReadOnlySpan<int>)[1, 2, 0] : [1, 0])
        {
            Multiply(stream, transposed, w, pieces + (piece * pieceInBytes), piece < 2 ? rows : values,
                piece == 0 && Variants.FlushedSums ? LinearShape.LibraryDepth : depth, prepared, result);
            prepared = true;
        }
    }

    // result (+)= x W' or x W for bf16 rows x, with at most `step` terms in each sum of a product.
    private void Multiply(CudaStream stream, bool transposed, in Matrix w, nint x, int rows, int step, bool prepared, nint result)
    {
        int outputs = transposed ? w.Columns : w.Rows, depth = transposed ? w.Rows : w.Columns;
        for (int begin = 0; begin < depth; begin += step)
        {
            // In column-major order: Y' (N, M) = W (N, K) X' (K, M); transposed, X' (K, M) = W' (K, N) Y' (N, M).
            nint from = w.Address + (2 * (nint)begin * (transposed ? w.Columns : 1));
            blas!.Matmul(transposed ? CublasOperation.NonTranspose : CublasOperation.Transpose, CublasOperation.NonTranspose, outputs, rows,
                Math.Min(step, depth - begin), 1, from, w.Columns, x + (2 * begin), depth, CudaDataType.R16BF, prepared || begin > 0 ? 1 : 0, result,
                outputs, CudaDataType.R32F, stream);
        }
    }

    private void Split(CudaStream stream, nint x, int rows, int values, int columns, nint scratch) =>
        splitMatrices.Launch(new CudaLaunch((int)((((long)rows * columns / 8) + Threads - 1) / Threads), 1, 1, Threads, Programmatic: true), stream,
            new LinearSplitParameters { X = x, Split = scratch, Rows = rows, Columns = columns, Values = values });

    private void Merge(CudaStream stream, in LinearSums sums, nint y)
    {
        if (sums.Parts > 0)
        {
            Merge(stream, sums.Partial, sums.Parts, sums.Rows, sums.Columns, new Ending(y, sums.Values, sums.Bias, sums.Residual), whole: sums.Rows);
        }
    }

    private void Merge(CudaStream stream, nint partial, int parts, int rows, int columns, in Ending end, int whole) =>
        merge.Launch(new CudaLaunch(rows, LinearShape.Divide(columns, Threads), 1, Threads, Programmatic: true), stream, new LinearMergeParameters
        {
            Partial = partial,
            Bias = end.Bias,
            Residual = end.Residual,
            Y = end.Y,
            Rows = rows,
            Columns = columns,
            Parts = parts,
            Values = end.Values,
            Whole = whole,
        });

    /// <summary>The destination of a map's sums, with the bias and the residual that are added.</summary>
    [StructLayout(LayoutKind.Auto)]
    private readonly record struct Ending(nint Y, int Values = 0, nint Bias = 0, nint Residual = 0)
    {
        public Ending From(int row, int columns) =>
            new(Y + Bytes(row, columns), Math.Max(0, Values - row), Bias, Residual == 0 ? 0 : Residual + Bytes(row, columns));
    }
}
