using System.Runtime.InteropServices;
using Tiller.Checkpoint;

namespace Tiller.Tool.Running;

/// <summary>A tensor with numbers that are not finite.</summary>
/// <param name="Name">The tensor.</param>
/// <param name="Count">NaN and infinities in it.</param>
/// <param name="First">Index of the first.</param>
internal sealed record NonFiniteTensor(string Name, long Count, long First);

/// <summary>Looks at every number of a checkpoint, block by block.</summary>
internal static class WeightCheck
{
    private const int BlockInBytes = 1 << 20;

    /// <summary>The tensors that hold NaN or infinities; types without either are passed over.</summary>
    public static IReadOnlyList<NonFiniteTensor> Run(CheckpointFolder folder, CancellationToken cancellationToken)
    {
        var found = new List<NonFiniteTensor>();
        byte[] block = new byte[BlockInBytes];
        foreach (TensorInfo tensor in folder.Tensors.Where(t => t.Type is TensorType.F16 or TensorType.BF16 or TensorType.F32 or TensorType.F64))
        {
            int size = tensor.Type.BitsPerElement() / 8;
            long count = 0, first = -1;
            for (long done = 0; done < tensor.SizeInBytes; done += BlockInBytes)
            {
                cancellationToken.ThrowIfCancellationRequested();
                Span<byte> part = block.AsSpan(0, (int)Math.Min(BlockInBytes, tensor.SizeInBytes - done));
                folder.Read(tensor, done, part);
                for (int i = 0; i < part.Length; i += size)
                {
                    if (!IsFinite(part[i..], tensor.Type))
                    {
                        first = count++ == 0 ? (done + i) / size : first;
                    }
                }
            }

            if (count > 0)
            {
                found.Add(new NonFiniteTensor(tensor.Name, count, first));
            }
        }

        return found;
    }

    // An exponent of ones alone.
    private static bool IsFinite(ReadOnlySpan<byte> number, TensorType type) => type switch
    {
        TensorType.F16 => (MemoryMarshal.Read<ushort>(number) & 0x7C00) != 0x7C00,
        TensorType.BF16 => (MemoryMarshal.Read<ushort>(number) & 0x7F80) != 0x7F80,
        TensorType.F32 => float.IsFinite(MemoryMarshal.Read<float>(number)),
        _ => double.IsFinite(MemoryMarshal.Read<double>(number)),
    };
}
