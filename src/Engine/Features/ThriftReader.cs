namespace Tiller.Features;

/// <summary>Kinds of values in Thrift's compact protocol.</summary>
internal enum ThriftKind
{
    Stop = 0,
    True = 1,
    False = 2,
    Byte = 3,
    I16 = 4,
    I32 = 5,
    I64 = 6,
    Double = 7,
    Binary = 8,
    List = 9,
    Set = 10,
    Map = 11,
    Struct = 12,
}

/// <summary>
/// Reads Thrift's compact protocol, in which Parquet writes its metadata. Nothing is read beyond the end of the bytes, no list is longer than the
/// rest of the bytes, and skipped values may be nested at most <see cref="MaxDepth"/> deep.
/// </summary>
internal ref struct ThriftReader(ReadOnlySpan<byte> bytes)
{
    private const int MaxDepth = 32;

    private readonly ReadOnlySpan<byte> _bytes = bytes;

    /// <summary>Number of bytes read so far.</summary>
    public int Position { get; private set; }

    /// <summary>Reads the header of the next field of a struct.</summary>
    /// <param name="field">In: number of the previous field, 0 before the first. Out: number of this field.</param>
    /// <returns>Kind of the field; <see cref="ThriftKind.Stop"/> at the end of the struct.</returns>
    public ThriftKind Next(ref int field)
    {
        byte head = Take(1)[0];
        var kind = (ThriftKind)(head & 15);
        if (kind != ThriftKind.Stop)
        {
            field = head >> 4 is var delta and > 0 ? field + delta : (short)Signed();
        }

        return kind;
    }

    /// <summary>Reads a 32-bit integer.</summary>
    public int Int32(ThriftKind kind)
    {
        Expect(kind is ThriftKind.I32 or ThriftKind.I16, kind);
        return checked((int)Signed());
    }

    /// <summary>Reads a 64-bit integer.</summary>
    public long Int64(ThriftKind kind)
    {
        Expect(kind is ThriftKind.I64 or ThriftKind.I32, kind);
        return Signed();
    }

    /// <summary>Reads a Boolean, which is coded in its kind.</summary>
    public static bool Boolean(ThriftKind kind)
    {
        Expect(kind is ThriftKind.True or ThriftKind.False, kind);
        return kind == ThriftKind.True;
    }

    /// <summary>Reads bytes that are preceded by their length.</summary>
    public ReadOnlySpan<byte> Binary(ThriftKind kind)
    {
        Expect(kind == ThriftKind.Binary, kind);
        return Take(Unsigned());
    }

    /// <summary>Checks that a struct begins here; its fields follow.</summary>
    public static void Struct(ThriftKind kind) => Expect(kind == ThriftKind.Struct, kind);

    /// <summary>Reads the header of a list of structs.</summary>
    /// <returns>Number of structs that follow.</returns>
    public int Structs(ThriftKind kind)
    {
        Expect(kind == ThriftKind.List, kind);
        int count = ListHead(out ThriftKind element);
        Expect(element == ThriftKind.Struct, element);
        return count;
    }

    /// <summary>Skips a value.</summary>
    public void Skip(ThriftKind kind, int depth = 0)
    {
        if (depth > MaxDepth)
        {
            throw new InvalidDataException($"values are nested more than {MaxDepth} deep");
        }

        switch (kind)
        {
            case ThriftKind.True or ThriftKind.False:
                break;
            case ThriftKind.Byte:
                Take(1);
                break;
            case ThriftKind.I16 or ThriftKind.I32 or ThriftKind.I64:
                Unsigned();
                break;
            case ThriftKind.Double:
                Take(8);
                break;
            case ThriftKind.Binary:
                Take(Unsigned());
                break;
            case ThriftKind.List or ThriftKind.Set:
                for (int left = ListHead(out ThriftKind element); left > 0; left--)
                {
                    SkipElement(element, depth);
                }

                break;
            case ThriftKind.Map:
                int pairs = Count(Unsigned());
                byte kinds = pairs > 0 ? Take(1)[0] : (byte)0;
                for (; pairs > 0; pairs--)
                {
                    SkipElement((ThriftKind)(kinds >> 4), depth);
                    SkipElement((ThriftKind)(kinds & 15), depth);
                }

                break;
            case ThriftKind.Struct:
                int field = 0;
                while (Next(ref field) is var inner and not ThriftKind.Stop)
                {
                    Skip(inner, depth + 1);
                }

                break;
            default:
                throw new InvalidDataException($"there is no kind of value {(int)kind}");
        }
    }

    // In a list or map, a Boolean is a byte.
    private void SkipElement(ThriftKind kind, int depth) =>
        Skip(kind is ThriftKind.True or ThriftKind.False ? ThriftKind.Byte : kind, depth + 1);

    private int ListHead(out ThriftKind element)
    {
        byte head = Take(1)[0];
        element = (ThriftKind)(head & 15);
        return Count(head >> 4 is var count and < 15 ? (ulong)count : Unsigned());
    }

    // Every element takes at least one byte.
    private readonly int Count(ulong count) => count <= (ulong)(_bytes.Length - Position)
        ? (int)count
        : throw new InvalidDataException($"a list of {count} values is longer than what is left");

    private ulong Unsigned()
    {
        int position = Position;
        ulong value = VariableInteger.Read(_bytes, ref position);
        Position = position;
        return value;
    }

    private long Signed()
    {
        int position = Position;
        long value = VariableInteger.ReadSigned(_bytes, ref position);
        Position = position;
        return value;
    }

    private ReadOnlySpan<byte> Take(ulong count)
    {
        if (count > (ulong)(_bytes.Length - Position))
        {
            throw new InvalidDataException("a value extends beyond the end of the bytes");
        }

        ReadOnlySpan<byte> taken = _bytes.Slice(Position, (int)count);
        Position += (int)count;
        return taken;
    }

    private static void Expect(bool isSo, ThriftKind kind)
    {
        if (!isSo)
        {
            throw new InvalidDataException($"a value is of the unexpected kind {kind}");
        }
    }
}
