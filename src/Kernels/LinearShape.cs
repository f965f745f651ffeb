namespace Tiller.Kernels;

/// <summary>
/// Divides the sums of a linear map into parts, so that a GPU has enough parallel work. The division depends only on the shape of W, never on the
/// rows:
/// parts determine the order of a sum, and a row's bits must not depend on its neighbours. The numbers are for the 132 multiprocessors of an H100 or
/// H200; other GPUs use the same divisions and get the same results.
/// </summary>
internal static class LinearShape
{
    /// <summary>Number of multiprocessors that the divisions are made for.</summary>
    public const int Multiprocessors = 132;

    /// <summary>Outputs in a block of linear_rows.cu.</summary>
    public const int RowsTile = 256;

    /// <summary>Columns in a block of linear_few_transposed.cu, and in a step of linear.cuh.</summary>
    public const int FewStep = 256;

    /// <summary>Depth of a panel: the number of columns of x in it.</summary>
    public const int PanelDepth = 32;

    /// <summary>
    /// Number of terms that cuBLASLt's tensor cores sum in one product if every bit matters. They truncate half a unit in the last place for every 16
    /// terms, which is 1.2e-6 of a sum of this length. Every further product reads and writes the sums again.
    /// </summary>
    public const int LibraryDepth = 1024;

    private const int FewBlocks = 2 * Multiprocessors;
    private const int FewOutputs = 32;      // in a block if its warps share no outputs
    private const int MaxSegmentRows = 1024; // eight rows of y then take 32 KiB of shared memory
    private const int LeastSegmentRows = 32;  // four for each warp of a block

    /// <summary>
    /// Number of warps that share an output: the smallest of 1, 2 and 4 that gives each multiprocessor two blocks and each warp a step.
    /// </summary>
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
    /// Bytes of each row of W that a block prefetches to the L2 cache before it waits for the previous kernel: 64 KiB for all rows of a block, which
    /// is 17 MB for all blocks that can be resident by then. The L2 cache of an H100 has 50 MB.
    /// </summary>
    public static int FewPrefetchInBytes(int parts) => (64 << 10) / FewOutputs * parts;

    /// <summary>Number of columns of x that are in shared memory at a time: tillerDotChunk of linear.cuh.</summary>
    public static int FewChunk(int rows, int columns) => rows >= 4
        ? 16384 / rows
        : Math.Min(16384 / rows / 2048 * 2048, Divide(columns, FewStep) * FewStep);

    /// <summary>Number of rows of W in a segment of the transposed map for few rows.</summary>
    public static int SegmentRows(int outputs, int columns)
    {
        int segments = Math.Clamp(FewBlocks / Divide(columns, FewStep), 1, Math.Max(1, outputs / LeastSegmentRows));
        return Math.Min(Divide(outputs, segments), MaxSegmentRows);
    }

    /// <summary>Number of parts into which the depth is divided for 9 to 128 rows: the number that minimises the traffic of memory.</summary>
    /// <param name="outputs">Number of outputs.</param>
    /// <param name="depth">Length of the sums.</param>
    public static int RowsParts(int outputs, int depth)
    {
        const double Rows = 32; // of a typical batch; each partial sum is written and read once
        int tiles = Divide(outputs, RowsTile), most = Math.Clamp(Divide(depth, PanelDepth) / 4, 1, 64), best = 1;
        double least = double.PositiveInfinity;
        for (int parts = 1; parts <= most; parts++)
        {
            // In the last round, some multiprocessors may be idle and read nothing.
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

    /// <summary>Number of tiles of eight rows in a panel. It is even, because the kernel computes two tiles at a time.</summary>
    public static int PanelTiles(int rows) => 2 * Divide(rows, 16);

    /// <summary>
    /// Bytes of the panels of one depth block, for <paramref name="rows"/> rows. Tiles that contain one of the first <paramref name="values"/> rows
    /// have three pieces, the others two.
    /// </summary>
    public static int PanelBlockInBytes(int rows, int values) => 512 * ((2 * PanelTiles(rows)) + PanelTiles(values));

    /// <summary>Bytes of the panels for rows of <paramref name="depth"/> numbers.</summary>
    public static long PanelsInBytes(int rows, int values, int depth) => (long)Divide(depth, PanelDepth) * PanelBlockInBytes(rows, values);

    /// <summary>Number of depth blocks of panels in shared memory at a time: at most 48 KiB, and a multiple of the blocks in flight.</summary>
    public static int PanelChunk(int rows, int values)
    {
        int ahead = rows <= 64 ? 4 : 2;
        return Math.Max(ahead, (48 << 10) / PanelBlockInBytes(rows, values) / ahead * ahead);
    }

    /// <summary>⌈a / b⌉.</summary>
    public static int Divide(int a, int b) => (a + b - 1) / b;
}
