namespace Tiller.Kernels;

/// <summary>Stored type of a weight matrix. The values are those of the kernels.</summary>
public enum WeightType
{
    /// <summary>float32.</summary>
    F32,

    /// <summary>IEEE half precision.</summary>
    F16,

    /// <summary>bfloat16: the upper half of a float32.</summary>
    BF16,
}

/// <summary>View of a weight matrix in its stored type // (Rows, Columns), row-major: y = W x has Rows numbers.</summary>
/// <param name="Address">Address of the first element, on the device; 0 if absent.</param>
/// <param name="Type">Type of an element.</param>
/// <param name="Rows">Number of outputs.</param>
/// <param name="Columns">Number of inputs.</param>
internal readonly record struct Matrix(nint Address, WeightType Type, int Rows, int Columns)
{
    /// <summary>Size of an element in bytes.</summary>
    public int ElementSizeInBytes => Type == WeightType.F32 ? 4 : 2;

    /// <summary>Size of the matrix in bytes.</summary>
    public long SizeInBytes => (long)Rows * Columns * ElementSizeInBytes;
}
