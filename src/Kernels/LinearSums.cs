using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>
/// Partial sums that a linear map leaves in scratch memory for the next kernel to add up, without bias and residual. The default is none: the map has
/// written its result. The layout is that of <c>TillerSums</c> of sums.cuh.
/// </summary>
/// <param name="Partial">Address of the partial sums // (Parts, Rows, Columns).</param>
/// <param name="Bias">Address of the bias of the first <paramref name="Values"/> rows // (Columns), or 0.</param>
/// <param name="Residual">Address of the residual // (Rows, Columns), or 0.</param>
/// <param name="Parts">Number of parts; 0 if there are no partial sums.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Columns">Number of outputs.</param>
/// <param name="Values">Number of value rows.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct LinearSums(nint Partial, nint Bias, nint Residual, int Parts, int Rows, int Columns, int Values);

/// <summary>The panels (panels.cuh) from which a linear map on tensor cores reads its input, at the beginning of its scratch memory.</summary>
/// <param name="Address">Address of the first panel.</param>
/// <param name="Tiles">Number of tiles of eight rows.</param>
/// <param name="Exact">Number of tiles with three pieces, which come first.</param>
internal readonly record struct LinearPanels(nint Address, int Tiles, int Exact);
