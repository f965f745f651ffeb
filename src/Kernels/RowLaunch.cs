namespace Tiller.Kernels;

/// <summary>How rows are laid out over blocks; a function of the columns alone, so that a row's bits do not depend on its neighbours.</summary>
internal static class RowLaunch
{
    /// <summary>Threads of a block that has one row, four columns a thread: whole warps, at most 1024.</summary>
    public static int ThreadsPerRow(int columns) => Math.Clamp((columns + 127) / 128 * 32, 32, 1024);

    /// <summary>Blocks of <paramref name="each"/> that hold <paramref name="count"/>.</summary>
    public static int Blocks(long count, int each) => checked((int)((count + each - 1) / each));
}
