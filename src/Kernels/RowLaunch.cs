namespace Tiller.Kernels;

/// <summary>
/// How rows are divided into blocks of threads. It depends only on the columns, so that a row's bits do not depend on its neighbours.
/// </summary>
internal static class RowLaunch
{
    /// <summary>Threads in a block that computes one row, with four columns per thread: whole warps, at most 1024.</summary>
    public static int ThreadsPerRow(int columns) => Math.Clamp((columns + 127) / 128 * 32, 32, 1024);

    /// <summary>Number of blocks of size <paramref name="each"/> that <paramref name="count"/> items need.</summary>
    public static int Blocks(long count, int each) => checked((int)((count + each - 1) / each));
}
