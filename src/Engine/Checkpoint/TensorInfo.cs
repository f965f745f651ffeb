using System.Globalization;

namespace Tiller.Checkpoint;

/// <summary>One tensor of a safetensors file: its name, type, shape and position. It holds no data.</summary>
public sealed class TensorInfo
{
    internal TensorInfo(string name, TensorType type, long[] shape, long begin, long end)
    {
        Name = name;
        Type = type;
        Shape = shape;
        Begin = begin;
        End = end;
    }

    /// <summary>Name in the file. It is an opaque string and never used as a path.</summary>
    public string Name { get; }

    /// <summary>Type of the elements.</summary>
    public TensorType Type { get; }

    /// <summary>
    /// Dimensions, slowest first; empty for a scalar. The format's dimensions are unsigned. A dimension of 2^63 or more, which only a tensor without
    /// elements can have, is a negative number here.
    /// </summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>First byte, counted from the start of the file's data section.</summary>
    public long Begin { get; }

    /// <summary>One past the last byte, counted from the start of the file's data section.</summary>
    public long End { get; }

    /// <summary>Size of the tensor in bytes.</summary>
    public long SizeInBytes => End - Begin;

    /// <summary>Number of elements, the product of <see cref="Shape"/>.</summary>
    public long ElementCount => (long)((UInt128)SizeInBytes * 8 / (uint)Type.BitsPerElement());

    /// <summary>The shape as people write it, such as <c>(704, 64)</c>.</summary>
    public string ShapeText => Format(Shape);

    /// <summary>Whether the shape is exactly <paramref name="shape"/>.</summary>
    public bool HasShape(ReadOnlySpan<long> shape)
    {
        if (shape.Length != Shape.Count)
        {
            return false;
        }

        for (int i = 0; i < shape.Length; i++)
        {
            if (shape[i] != Shape[i])
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Name, type and shape for people.</summary>
    public override string ToString() => $"{Quoted.Text(Name)} {Type.SpecName()} {ShapeText}";

    internal static string Format(IEnumerable<long> shape)
        => "(" + string.Join(", ", shape.Select(n => unchecked((ulong)n).ToString(CultureInfo.InvariantCulture))) + ")";
}
