namespace Tiller.Kernels;

/// <summary>
/// Optional parts of kernels and launchers, whose benefit only a measurement on a GPU can confirm (docs/cuda.md). Those that are predicted to gain
/// are on. If a part is off, the same work is done another way, so that one process can compare the two. Results keep every bit, unless a member says
/// otherwise. A recorded step keeps the choices with which it was recorded.
/// </summary>
internal sealed record KernelVariants
{
    /// <summary>All parts that are predicted to gain.</summary>
    public static KernelVariants Default { get; } = new();

    /// <summary>
    /// Sums of tensor cores are added up in float32 after every 32 terms, and those of cuBLASLt after every <see cref="LinearShape.LibraryDepth"/>
    /// terms.
    /// Tensor cores truncate, so that their long sums shrink. Without this part, products of many rows are less exact.
    /// </summary>
    public bool FlushedSums { get; init; } = true;

    /// <summary>
    /// Before a kernel for few rows waits for the previous kernel, it prefetches the weights that follow its first loads to the L2 cache. So the
    /// memory is busy while the previous kernel ends.
    /// </summary>
    public bool Prefetch { get; init; } = true;

    /// <summary>
    /// All kernels request the largest possible share of shared memory. If two kernels requested different shares, no block of the second could start
    /// before the last block of the first has ended.
    /// </summary>
    public bool OneCarveout { get; init; } = true;

    /// <summary>Attention reads the table of rows, and keys and values below their own positions, before the previous kernel has ended.</summary>
    public bool EarlyKeys { get; init; } = true;

    /// <summary>
    /// In norms before the maps of few rows, weights are loaded before the previous kernel has ended, and rows with four loads at a time.
    /// </summary>
    public bool NormBatch { get; init; } = true;

    /// <summary>
    /// Four blocks, beside those of queries, keys and values, read the sensors of a steered row, and |u_k| is computed beside gate and up. Without
    /// this part, one block beside queries, keys and values does both; if a law has many terms, that block takes longer than all others.
    /// </summary>
    public bool SpreadSteering { get; init; } = true;

    /// <summary>
    /// Between maps of 9 to 128 rows on tensor cores, norms write the panels that the next map reads, and the kernel after a map adds up its partial
    /// sums.
    /// This saves six launches in a plain block.
    /// </summary>
    public bool FoldedSteps { get; init; } = true;

    /// <summary>
    /// Prompts go through the blocks in passes of 1024 rows instead of 256. Sums differ in their last bits, because those of cuBLASLt depend on the
    /// number of rows.
    /// </summary>
    public bool WidePasses { get; init; } = true;

    /// <summary>
    /// The panels of a Jacobian have up to 2048 directions instead of up to 464. Sums differ in their last bits, because those of cuBLASLt depend on
    /// the number of rows.
    /// </summary>
    public bool WidePanels { get; init; } = true;

    /// <summary>
    /// cuBLASLt gets the bf16 pieces of all rows, one below the other, in one product that reads W once, and a kernel adds up the pieces' results. So
    /// two or three sums of every number go through memory instead of one. Off by default. Sums differ in their last bits.
    /// </summary>
    public bool StackedPieces { get; init; }
}

/// <summary>Kinds of work on which <see cref="KernelVariants"/> have an effect.</summary>
[Flags]
internal enum VariantWork
{
    /// <summary>Steps of up to <see cref="LinearKernels.FewRows"/> rows.</summary>
    Steps = 1,

    /// <summary>Steps of more rows, including tangents.</summary>
    Tangents = 2,

    /// <summary>Prompts, with more rows.</summary>
    Prompts = 4,

    /// <summary>Steps of up to <see cref="LinearKernels.FewRows"/> rows, with a law of sixteen terms per block.</summary>
    Laws = 8,

    /// <summary>Jacobians of a block.</summary>
    Jacobians = 16,
}

/// <summary>A change of <see cref="KernelVariants.Default"/> that a measurement compares with the default.</summary>
/// <param name="Name">Its name in results, which begins with "without" or "with".</param>
/// <param name="Predicted">The ratio of its speed to the default's speed, predicted before any measurement.</param>
/// <param name="SeenIn">Kinds of work on which the change has an effect.</param>
/// <param name="Choice">The changed choices.</param>
internal sealed record KernelVariant(string Name, string Predicted, VariantWork SeenIn, KernelVariants Choice)
{
    /// <summary>All changes.</summary>
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
