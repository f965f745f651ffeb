using System.Runtime.Intrinsics;

namespace Tiller.Ops;

/// <summary>Keys or values of one key/value head at one layer, as they are stored // (positions, E).</summary>
internal readonly unsafe struct KvRows(nint address, KvType type, int size)
{
    /// <summary>Address of the first number, in the device's address space.</summary>
    public nint Address => address;

    /// <summary>Size of one position in bytes.</summary>
    public int RowInBytes => size * SizeInBytes(type);

    /// <summary>Size of one stored number in bytes.</summary>
    public static int SizeInBytes(KvType type) => type == KvType.F32 ? 4 : 2;

    /// <summary>The rows from a position on.</summary>
    public KvRows From(nint position) => new(address + (position * RowInBytes), type, size);

    /// <summary>How many numbers <see cref="Read"/> writes for so many positions: none if they are stored as float32.</summary>
    public long Widened(int positions) => type == KvType.F32 ? 0 : (long)positions * size;

    /// <summary>Returns some positions as float32 // (count, E): where they are stored, or else in <paramref name="widened"/>.</summary>
    public float* Read(int first, int count, float* widened)
    {
        nint from = address + ((nint)first * RowInBytes);
        if (type == KvType.F32)
        {
            return (float*)from;
        }

        nint n = (nint)count * size, i = 0;
        for (; i <= n - 16; i += 16)
        {
            Bf16Weight.LoadInOrder((byte*)from + (2 * i), out var lower, out var upper);
            lower.Store(widened + i);
            upper.Store(widened + i + 8);
        }

        for (; i < n; i++)
        {
            widened[i] = Bf16Weight.LoadOne((byte*)from + (2 * i));
        }

        return widened;
    }

    /// <summary>Stores the numbers of one position // (E).</summary>
    public void Write(int position, float* numbers)
    {
        nint to = address + ((nint)position * RowInBytes);
        if (type == KvType.F32)
        {
            Buffer.MemoryCopy(numbers, (void*)to, RowInBytes, RowInBytes);
            return;
        }

        int i = 0;
        for (; i <= size - 8; i += 8)
        {
            var rounded = Rounded(Vector256.Load(numbers + i));
            Vector128.Narrow(rounded.GetLower(), rounded.GetUpper()).Store((ushort*)to + i);
        }

        for (; i < size; i++)
        {
            ((ushort*)to)[i] = (ushort)Rounded(Vector256.Create(numbers[i])).ToScalar();
        }
    }

    // The upper halves of the nearest bfloat16 numbers, ties to even. NaN stays NaN.
    private static Vector256<uint> Rounded(Vector256<float> x)
    {
        var bits = x.AsUInt32();
        var upper = bits >>> 16;
        var nearest = (bits + Vector256.Create(0x7FFFu) + (upper & Vector256<uint>.One)) >>> 16;
        return Vector256.ConditionalSelect(Vector256.Equals(x, x).AsUInt32(), nearest, upper | Vector256.Create(0x40u));
    }
}
