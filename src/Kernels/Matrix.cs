namespace Tiller.Kernels;

/// <summary>How the numbers of a weight matrix are stored, in the order of the kernels.</summary>
public enum WeightType
{
    /// <summary>float32.</summary>
    F32,

    /// <summary>IEEE half.</summary>
    F16,

    /// <summary>bfloat16: the upper half of a float32.</summary>
    BF16,
}

/// <summary>View of a weight matrix in its stored type // (Rows, Columns), row-major: y = W x has Rows numbers.</summary>
/// <param name="Address">First element, on the device; 0 when absent.</param>
/// <param name="Type">Its numbers.</param>
/// <param name="Rows">Outputs.</param>
/// <param name="Columns">Inputs.</param>
internal readonly record struct Matrix(nint Address, WeightType Type, int Rows, int Columns)
{
    /// <summary>Bytes of one element.</summary>
    public int ElementSizeInBytes => Type == WeightType.F32 ? 4 : 2;

    /// <summary>Bytes of the whole matrix.</summary>
    public long SizeInBytes => (long)Rows * Columns * ElementSizeInBytes;
}
