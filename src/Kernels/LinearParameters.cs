using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary><c>TillerLinearFew</c> of linear_few.cu, which explains the fields.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LinearFewParameters
{
    public nint X, W, Bias, Residual, Y;
    public int Rows, Columns, Outputs, Values, Parts, Wide, Prefetch;
}

/// <summary><c>TillerLinearFewTransposed</c> of linear_few_transposed.cu, which explains the fields.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LinearFewTransposedParameters
{
    public nint Y, W, X;
    public int Rows, Columns, Outputs, Segment, Wide;
}

/// <summary><c>TillerLinearRows</c> of linear_rows.cu, which explains the fields.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LinearRowsParameters
{
    public nint Panels, W, Bias, Residual, Y;
    public int Rows, Depth, Outputs, Tiles, Exact, Chunk, Values, Flushed;
}

/// <summary><c>TillerLinearSplit</c> of linear_split.cu, which explains the fields.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LinearSplitParameters
{
    public nint X, Split;
    public int Rows, Columns, Values, Tiles, Exact;
}

/// <summary><c>TillerLinearMerge</c> of linear_merge.cu, which explains the fields.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LinearMergeParameters
{
    public nint Partial, Bias, Residual, Y;
    public int Rows, Columns, Parts, Values, Whole;
}
