namespace Tiller.Synthesis;

/// <summary>The kind of failure of a Riccati recursion.</summary>
public enum RiccatiFault
{
    /// <summary>A number is out of its range.</summary>
    Range,

    /// <summary>An input holds NaN or an infinity.</summary>
    NonFinite,

    /// <summary>Shapes do not fit together.</summary>
    Shape,

    /// <summary>A state cost is not symmetric.</summary>
    NotSymmetric,

    /// <summary>A state cost has a negative eigenvalue, or S + rI lost its positive pivots to rounding.</summary>
    NotPositiveDefinite,
}

/// <summary>A Riccati recursion got invalid numbers or reached a numerical limit. The message names the layer and the entry.</summary>
public sealed class RiccatiException : TillerException
{
    private RiccatiException(RiccatiFault fault, string message)
        : base(message)
    {
        Fault = fault;
    }

    /// <summary>The kind of failure.</summary>
    public RiccatiFault Fault { get; }

    /// <summary>Layer k of the failure; null if no layer is at fault.</summary>
    public int? Layer { get; private init; }

    /// <summary>Row of the offending entry, or the failed pivot; null if there is none.</summary>
    public int? Row { get; private init; }

    /// <summary>Column of the offending entry; null if there is none.</summary>
    public int? Column { get; private init; }

    internal static RiccatiException Range(string name, double value, string rule) =>
        new(RiccatiFault.Range, $"The weight {name} is {value}; it must be {rule}.");

    internal static RiccatiException NonFinite(string what, int layer, int row, int column, double value) =>
        new(RiccatiFault.NonFinite, $"{what} at layer {layer} holds {value} at row {row}, column {column}; every entry must be finite. " +
            "A half-precision overflow in the forward pass or a damaged checkpoint are the usual causes.")
        { Layer = layer, Row = row, Column = column };

    internal static RiccatiException Shape(string what, int layer, string expected, string actual) =>
        new(RiccatiFault.Shape, $"{what} at layer {layer} is {actual}, expected {expected}.") { Layer = layer };

    internal static RiccatiException NotSymmetric(int layer, int row, int column, double error) =>
        new(RiccatiFault.NotSymmetric, $"The state cost Q at layer {layer} is not symmetric: entries ({row}, {column}) and ({column}, {row}) " +
            $"differ by {error:G3} of its largest entry; the limit is 1e-10. Pass (Q + Q')/2 for its symmetric part.")
        { Layer = layer, Row = row, Column = column };

    internal static RiccatiException IndefiniteCost(int layer, int pivot) =>
        new(RiccatiFault.NotPositiveDefinite, $"The state cost Q at layer {layer} has a negative eigenvalue (pivot {pivot}); a cost must be " +
            "positive semidefinite, for instance C C'.")
        { Layer = layer, Row = pivot };

    internal static RiccatiException FailedPivot(int layer, int pivot, double value, double r, double largest) =>
        new(RiccatiFault.NotPositiveDefinite, $"Cholesky of S + rI at layer {layer} failed at pivot {pivot} ({value:G3}) with r = {r:G3} and " +
            $"largest diagonal entry {largest:G3}. Likely causes: r is below the rounding error of S (raise r, or lower q and qf), a state cost " +
            "of low rank solved densely (use the factored form), or a Jacobian with huge entries.")
        { Layer = layer, Row = pivot };
}
