namespace Tiller.Kernels;

/// <summary>
/// How the sums of a linear map are cut into parts so that a GPU has enough to do. A cut depends on the shape of W alone, never on the rows at hand:
/// parts fix the order of a sum, and a row's bits must not change with its neighbours. Written for the 132 multiprocessors of an H100 or H200; other
/// GPUs take the same cuts and get the same numbers.
/// </summary>
internal static class LinearShape
{
    /// <summary>Multiprocessors that the cuts are made for.</summary>
    public const int Multiprocessors = 132;

    /// <summary>Outputs of a block of linear_rows.cu.</summary>
    public const int RowsTile = 256;

    /// <summary>Columns of a block of linear_few_transposed.cu, and of a step of linear.cuh.</summary>
    public const int FewStep = 256;

    /// <summary>Depths of a panel.</summary>
    public const int PanelDepth = 32;

    /// <summary>
    /// Depths that the library's tensor cores sum at a time where every bit counts: they cut off half a unit in the last place for every 16, which
    /// makes 1.2e-6 of a sum, and each product more reads and writes the sums again.
    /// </summary>
    public const int LibraryDepth = 1024;

    private const int FewBlocks = 2 * Multiprocessors;
    private const int FewOutputs = 32;      // of a block whose warps share none
    private const int MaxSegmentRows = 1024; // 32 KiB of shared memory for eight rows of y
    private const int LeastSegmentRows = 32;  // four for each warp

    /// <summary>Warps that share an output: 1, 2 or 4, the fewest that give two blocks to a multiprocessor and each warp a step.</summary>
    public static int FewParts(int outputs, int columns)
    {
        int parts = 1;
        while (parts < 4 && Divide(outputs * parts, FewOutputs) < FewBlocks - 8 && columns > FewStep * parts)
        {
            parts *= 2;
        }

        return parts;
    }

    /// <summary>
    /// Bytes of each row of W that a block brings to the second-level cache before it waits for the kernel ahead: 64 KiB of all its rows, 17 MB of
    /// the blocks that can be there by then, of a cache of 50.
    /// </summary>
    public static int FewPrefetchInBytes(int parts) => (64 << 10) / FewOutputs * parts;

    /// <summary>Columns of x staged at a time: tillerDotChunk of linear.cuh.</summary>
    public static int FewChunk(int rows, int columns) => rows >= 4
        ? 16384 / rows
        : Math.Min(16384 / rows / 2048 * 2048, Divide(columns, FewStep) * FewStep);

    /// <summary>Rows of W in a segment of the transposed map for few rows.</summary>
    public static int SegmentRows(int outputs, int columns)
    {
        int segments = Math.Clamp(FewBlocks / Divide(columns, FewStep), 1, Math.Max(1, outputs / LeastSegmentRows));
        return Math.Min(Divide(outputs, segments), MaxSegmentRows);
    }

    /// <summary>Parts of the depth for 9 to 128 rows: those that take the least time if memory is what is waited for.</summary>
    /// <param name="outputs">Columns of the result.</param>
    /// <param name="depth">Length of the sums.</param>
    public static int RowsParts(int outputs, int depth)
    {
        const double Rows = 32; // of a typical batch, for what partial sums cost: written and read once each
        int tiles = Divide(outputs, RowsTile), most = Math.Clamp(Divide(depth, PanelDepth) / 4, 1, 64), best = 1;
        double least = double.PositiveInfinity;
        for (int parts = 1; parts <= most; parts++)
        {
            // Multiprocessors idle in the last round read nothing.
            double rounds = Divide(tiles * parts, Multiprocessors), idle = rounds * Multiprocessors / ((double)tiles * parts);
            double bytes = (idle * 2 * outputs * (double)depth) + (parts > 1 ? parts * Rows * 8 * outputs : 0);
            if (bytes < least)
            {
                least = bytes;
                best = parts;
            }
        }

        return best;
    }

    /// <summary>Tiles of eight rows in a panel; an even number, for the kernel takes two at a time.</summary>
    public static int PanelTiles(int rows) => 2 * Divide(rows, 16);

    /// <summary>
    /// Bytes of a block of panels: of <paramref name="rows"/> rows the tiles that the first <paramref name="values"/> lie in have three pieces, the
    /// others two.
    /// </summary>
    public static int PanelBlockInBytes(int rows, int values) => 512 * ((2 * PanelTiles(rows)) + PanelTiles(values));

    /// <summary>Bytes of panels for rows of <paramref name="depth"/> numbers.</summary>
    public static long PanelsInBytes(int rows, int values, int depth) => (long)Divide(depth, PanelDepth) * PanelBlockInBytes(rows, values);

    /// <summary>Panels' blocks staged at a time: 48 KiB at most, a multiple of the blocks in flight.</summary>
    public static int PanelChunk(int rows, int values)
    {
        int ahead = rows <= 64 ? 4 : 2;
        return Math.Max(ahead, (48 << 10) / PanelBlockInBytes(rows, values) / ahead * ahead);
    }

    /// <summary>⌈a / b⌉.</summary>
    public static int Divide(int a, int b) => (a + b - 1) / b;
}
