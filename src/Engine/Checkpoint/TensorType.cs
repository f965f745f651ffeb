namespace Tiller.Checkpoint;

/// <summary>
/// Element types of the safetensors format, in the order that the format's serializer uses: descending order of types is descending order of
/// alignment. Source: the format's reference implementation, <c>Dtype</c>.
/// </summary>
public enum TensorType
{
    /// <summary>One byte, 0 or 1.</summary>
    Bool,

    /// <summary>OCP MX FP4 (E2M1), 4 bits.</summary>
    F4,

    /// <summary>OCP MX FP6, 2 exponent and 3 mantissa bits.</summary>
    F6E2M3,

    /// <summary>OCP MX FP6, 3 exponent and 2 mantissa bits.</summary>
    F6E3M2,

    /// <summary>Unsigned byte.</summary>
    U8,

    /// <summary>Signed byte.</summary>
    I8,

    /// <summary>FP8 with 5 exponent bits.</summary>
    F8E5M2,

    /// <summary>FP8 with 4 exponent bits.</summary>
    F8E4M3,

    /// <summary>OCP MX scale, exponent only.</summary>
    F8E8M0,

    /// <summary>FP8 with 4 exponent bits, finite, unsigned zero.</summary>
    F8E4M3Fnuz,

    /// <summary>FP8 with 5 exponent bits, finite, unsigned zero.</summary>
    F8E5M2Fnuz,

    /// <summary>Signed 16-bit integer.</summary>
    I16,

    /// <summary>Unsigned 16-bit integer.</summary>
    U16,

    /// <summary>IEEE half precision.</summary>
    F16,

    /// <summary>The upper half of an IEEE single.</summary>
    BF16,

    /// <summary>Signed 32-bit integer.</summary>
    I32,

    /// <summary>Unsigned 32-bit integer.</summary>
    U32,

    /// <summary>IEEE single precision.</summary>
    F32,

    /// <summary>Complex number of two IEEE singles.</summary>
    C64,

    /// <summary>IEEE double precision.</summary>
    F64,

    /// <summary>Signed 64-bit integer.</summary>
    I64,

    /// <summary>Unsigned 64-bit integer.</summary>
    U64,
}

/// <summary>Sizes and names of <see cref="TensorType"/>.</summary>
public static class TensorTypes
{
    // Indexed by TensorType: the name in a header, bits of one element.
    private static readonly (string Name, int Bits)[] Table =
    [
        ("BOOL", 8), ("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("U8", 8), ("I8", 8), ("F8_E5M2", 8), ("F8_E4M3", 8), ("F8_E8M0", 8),
        ("F8_E4M3FNUZ", 8), ("F8_E5M2FNUZ", 8), ("I16", 16), ("U16", 16), ("F16", 16), ("BF16", 16), ("I32", 32), ("U32", 32), ("F32", 32),
        ("C64", 64), ("F64", 64), ("I64", 64), ("U64", 64),
    ];

    /// <summary>Every type, in the order of the enumeration.</summary>
    public static IReadOnlyList<TensorType> All { get; } = Enum.GetValues<TensorType>();

    /// <summary>Size of one element in bits: 4, 6, 8, 16, 32 or 64.</summary>
    public static int BitsPerElement(this TensorType type) => Table[(int)type].Bits;

    /// <summary>The type's name in a safetensors header, such as <c>BF16</c> or <c>F8_E4M3</c>.</summary>
    public static string SpecName(this TensorType type) => Table[(int)type].Name;

    /// <summary>Finds the type of a name. Names are case-sensitive.</summary>
    /// <returns>False if the format has no such type.</returns>
    public static bool TryParse(string name, out TensorType type)
    {
        for (int i = 0; i < Table.Length; i++)
        {
            if (string.Equals(Table[i].Name, name, StringComparison.Ordinal))
            {
                type = (TensorType)i;
                return true;
            }
        }

        type = default;
        return false;
    }
}
