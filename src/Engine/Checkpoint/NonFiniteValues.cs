using System.Runtime.InteropServices;

namespace Tiller.Checkpoint;

/// <summary>Counts the values of a tensor that are NaN or infinite. The format allows them, and loading does not check for them.</summary>
public static class NonFiniteValues
{
    private const int ChunkInBytes = 4 << 20;

    /// <summary>
    /// Reads a whole tensor and counts its NaN and infinite values. The two parts of a complex number count separately. Types without NaN and
    /// infinities give 0.
    /// </summary>
    /// <param name="folder">The checkpoint.</param>
    /// <param name="tensor">One of its tensors.</param>
    /// <param name="cancellationToken">Checked between chunks of 4 MiB.</param>
    /// <exception cref="SafetensorsException">The file can no longer be read.</exception>
    public static long Count(CheckpointFolder folder, TensorInfo tensor, CancellationToken cancellationToken = default)
    {
        byte[] chunk = GC.AllocateUninitializedArray<byte>((int)Math.Min(ChunkInBytes, tensor.SizeInBytes));
        long count = 0;
        for (long at = 0; at < tensor.SizeInBytes; at += chunk.Length)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var bytes = chunk.AsSpan(0, (int)Math.Min(chunk.Length, tensor.SizeInBytes - at));
            folder.Read(tensor, at, bytes);
            count += Count(tensor.Type, bytes);
        }

        return count;
    }

    // NaN and infinities have all exponent bits set, in the types that follow IEEE 754.
    private static long Count(TensorType type, ReadOnlySpan<byte> bytes) => type switch
    {
        TensorType.F16 => WithBits<ushort>(MemoryMarshal.Cast<byte, ushort>(bytes), 0x7C00),
        TensorType.BF16 => WithBits<ushort>(MemoryMarshal.Cast<byte, ushort>(bytes), 0x7F80),
        TensorType.F32 or TensorType.C64 => WithBits<uint>(MemoryMarshal.Cast<byte, uint>(bytes), 0x7F80_0000),
        TensorType.F64 => WithBits<ulong>(MemoryMarshal.Cast<byte, ulong>(bytes), 0x7FF0_0000_0000_0000),
        TensorType.F8E5M2 => WithBits<byte>(bytes, 0x7C),
        TensorType.F8E4M3 => WithBits<byte>(bytes, 0x7F),
        TensorType.F8E8M0 => bytes.Count((byte)0xFF),
        TensorType.F8E4M3Fnuz or TensorType.F8E5M2Fnuz => bytes.Count((byte)0x80),
        _ => 0,
    };

    private static long WithBits<T>(ReadOnlySpan<T> values, T bits)
        where T : struct, System.Numerics.IBinaryInteger<T>
    {
        long count = 0;
        foreach (T value in values)
        {
            count += (value & bits) == bits ? 1 : 0;
        }

        return count;
    }
}
