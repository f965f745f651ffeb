namespace Tiller.Kernels;

/// <summary>
/// What kernels and launchers do for a reason that only a measurement on a GPU can confirm (docs/cuda.md). All of it is on; what is turned off is done
/// as it was before, so that one process can compare the two. Results keep every bit, unless a member says otherwise. A recorded step keeps the choices
/// that it was recorded with.
/// </summary>
internal sealed record KernelVariants
{
    /// <summary>All of it.</summary>
    public static KernelVariants Default { get; } = new();

    /// <summary>
    /// Sums of tensor cores are added up in float32 every 32 depths, and the library's every <see cref="LinearShape.LibraryDepth"/>: tensor cores cut off
    /// what they add, so that long sums of theirs shrink. Without it products of many rows are less exact.
    /// </summary>
    public bool FlushedSums { get; init; } = true;

    /// <summary>
    /// A kernel for few rows brings the weights after those in flight to the second-level cache before it waits for the kernel ahead of it, so that the memory
    /// works while that one ends.
    /// </summary>
    public bool Prefetch { get; init; } = true;

    /// <summary>Shared memory is all of what a multiprocessor can make of it for every kernel alike: where two differ, no block of the next one begins before the last of this one has ended.</summary>
    public bool OneCarveout { get; init; } = true;

    /// <summary>Attention reads the table of rows, and keys and values below their own positions, before the kernel ahead of it has ended.</summary>
    public bool EarlyKeys { get; init; } = true;

    /// <summary>Norms before the maps of few rows are loaded before the kernel ahead has ended, and rows four loads at a time.</summary>
    public bool NormBatch { get; init; } = true;
}

/// <summary>One of <see cref="KernelVariants"/>, as a measurement compares it with its absence.</summary>
/// <param name="Name">What rows call it.</param>
/// <param name="Predicted">Speed without it over speed with it, as predicted before any measurement.</param>
/// <param name="ManyRows">Whether it tells on passes of more than <see cref="LinearKernels.FewRows"/> rows, or on steps of few.</param>
/// <param name="Without">All others.</param>
internal sealed record KernelVariant(string Name, string Predicted, bool ManyRows, KernelVariants Without)
{
    /// <summary>Every one there is.</summary>
    public static IReadOnlyList<KernelVariant> All { get; } =
    [
        new("prefetch", "0.94 to 0.97", ManyRows: false, new() { Prefetch = false }),
        new("one carve-out", "0.90 to 1.00", ManyRows: false, new() { OneCarveout = false }),
        new("early keys", "0.96 to 0.97", ManyRows: false, new() { EarlyKeys = false }),
        new("norm batch", "0.98", ManyRows: false, new() { NormBatch = false }),
        new("flushed sums", "1.00 to 1.15", ManyRows: true, new() { FlushedSums = false }),
    ];
}
