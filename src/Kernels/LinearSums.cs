using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>
/// What a linear map leaves in scratch for the kernel after it: sums in parts, still without bias and residual. The default is none: the result is
/// where it belongs. <c>TillerSums</c> of sums.cuh.
/// </summary>
/// <param name="Partial">(Parts, Rows, Columns).</param>
/// <param name="Bias">Of the first <paramref name="Values"/> rows // (Columns), or 0.</param>
/// <param name="Residual">(Rows, Columns), or 0.</param>
/// <param name="Parts">How many, 0 for none.</param>
/// <param name="Rows">Of the map.</param>
/// <param name="Columns">Its outputs.</param>
/// <param name="Values">Value rows.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct LinearSums(nint Partial, nint Bias, nint Residual, int Parts, int Rows, int Columns, int Values);

/// <summary>Where a linear map on the tensor cores reads its input, as panels (panels.cuh): the beginning of its scratch.</summary>
/// <param name="Address">First panel.</param>
/// <param name="Tiles">Tiles of eight rows.</param>
/// <param name="Exact">Of them, those with three pieces.</param>
internal readonly record struct LinearPanels(nint Address, int Tiles, int Exact);
