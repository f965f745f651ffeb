namespace Tiller.Kernels;

/// <summary>
/// What kernels and launchers do for a reason that only a measurement on a GPU can confirm (docs/cuda.md). What is predicted to gain is on; what is
/// turned off is done another way, so that one process can compare the two. Results keep every bit, unless a member says otherwise. A recorded step
/// keeps the choices that it was recorded with.
/// </summary>
internal sealed record KernelVariants
{
    /// <summary>All that is predicted to gain.</summary>
    public static KernelVariants Default { get; } = new();

    /// <summary>
    /// Sums of tensor cores are added up in float32 every 32 depths, and the library's every <see cref="LinearShape.LibraryDepth"/>: tensor cores cut
    /// off what they add, so that long sums of theirs shrink. Without it products of many rows are less exact.
    /// </summary>
    public bool FlushedSums { get; init; } = true;

    /// <summary>
    /// A kernel for few rows brings the weights after those in flight to the second-level cache before it waits for the kernel ahead of it, so that
    /// the memory works while that one ends.
    /// </summary>
    public bool Prefetch { get; init; } = true;

    /// <summary>
    /// Shared memory is all of what a multiprocessor can make of it for every kernel alike: where two differ, no block of the next one begins before
    /// the last of this one has ended.
    /// </summary>
    public bool OneCarveout { get; init; } = true;

    /// <summary>Attention reads the table of rows, and keys and values below their own positions, before the kernel ahead of it has ended.</summary>
    public bool EarlyKeys { get; init; } = true;

    /// <summary>Norms before the maps of few rows are loaded before the kernel ahead has ended, and rows four loads at a time.</summary>
    public bool NormBatch { get; init; } = true;

    /// <summary>
    /// A steered row's sensors are read by four blocks beside queries, keys and values, and |u_k| is taken beside gate and up. Without it one block
    /// does both beside queries, keys and values, which of a law with many terms takes longer than they do.
    /// </summary>
    public bool SpreadSteering { get; init; } = true;

    /// <summary>
    /// Between maps of 9 to 128 rows on the tensor cores, norms write the panels that the next map reads, and what comes after a map adds up its
    /// partial sums: six launches of a plain block less.
    /// </summary>
    public bool FoldedSteps { get; init; } = true;

    /// <summary>
    /// Prompts go through the blocks in passes of 1024 rows, not 256. Sums differ in their last bits, as the library's depend on the number of rows.
    /// </summary>
    public bool WidePasses { get; init; } = true;

    /// <summary>
    /// Jacobians push panels of up to 2048 directions through a block, not of up to 464. Sums differ in their last bits, as those of prompts do.
    /// </summary>
    public bool WidePanels { get; init; } = true;

    /// <summary>
    /// The library gets the pieces of all rows under each other, as one product that reads W once, and the pieces' results are added up by a kernel:
    /// three sums of every number go through memory where one does without it. Off. Sums differ in their last bits.
    /// </summary>
    public bool StackedPieces { get; init; }
}

/// <summary>What a choice of <see cref="KernelVariants"/> is seen in.</summary>
[Flags]
internal enum VariantWork
{
    /// <summary>Steps of up to <see cref="LinearKernels.FewRows"/> rows.</summary>
    Steps = 1,

    /// <summary>Steps of more rows, tangents among them.</summary>
    Tangents = 2,

    /// <summary>Prompts of more rows.</summary>
    Prompts = 4,

    /// <summary>Steps of up to <see cref="LinearKernels.FewRows"/> rows, with a law of sixteen terms a block.</summary>
    Laws = 8,

    /// <summary>Jacobians of a block, whose directions go through the library's products.</summary>
    Jacobians = 16,
}

/// <summary>One change of <see cref="KernelVariants.Default"/>, as a measurement compares the two.</summary>
/// <param name="Name">What rows call it: without this, or with that.</param>
/// <param name="Predicted">Speed so over speed by default, as predicted before any measurement.</param>
/// <param name="SeenIn">Work that differs.</param>
/// <param name="Choice">The changed choices.</param>
internal sealed record KernelVariant(string Name, string Predicted, VariantWork SeenIn, KernelVariants Choice)
{
    /// <summary>Every one there is.</summary>
    public static IReadOnlyList<KernelVariant> All { get; } =
    [
        new("without prefetch", "0.94 to 0.97", VariantWork.Steps, new() { Prefetch = false }),
        new("without one carve-out", "0.90 to 1.00", VariantWork.Steps, new() { OneCarveout = false }),
        new("without early keys", "0.96 to 0.97", VariantWork.Steps, new() { EarlyKeys = false }),
        new("without norm batch", "0.98", VariantWork.Steps, new() { NormBatch = false }),
        new("without spread steering", "0.90", VariantWork.Laws, new() { SpreadSteering = false }),
        new("without folded steps", "0.80 to 0.95", VariantWork.Tangents, new() { FoldedSteps = false }),
        new("without wide passes", "0.65 to 0.75", VariantWork.Prompts, new() { WidePasses = false }),
        new("without wide panels", "0.60 to 0.85", VariantWork.Jacobians, new() { WidePanels = false }),
        new(
            "without flushed sums", "1.00 to 1.15", VariantWork.Tangents | VariantWork.Prompts | VariantWork.Jacobians,
            new() { FlushedSums = false }),
        new("with stacked pieces", "0.75 to 1.05", VariantWork.Prompts | VariantWork.Jacobians, new() { StackedPieces = true }),
    ];
}
