using System.Numerics;
using System.Numerics.Tensors;
using Tiller.Cpu;

namespace Tiller.Synthesis;

/// <summary>
/// Products of square matrices with single vectors in host memory, float64 or float32. Matrices are in column-major order // (D, D). Threads share
/// the rows or columns; the bits do not depend on their number.
/// </summary>
internal static class SquareProduct
{
    // A part reads half a megabyte or so. Smaller matrices are not worth another thread.
    private const int NumbersOfPart = 1 << 16;

    /// <summary>Adds M x to <paramref name="sum"/>.</summary>
    public static void Push<T>(T[] m, ReadOnlyMemory<T> x, Memory<T> sum)
        where T : struct, IFloatingPointIeee754<T>
    {
        int width = x.Length;
        Share(width, width, (begin, count) =>
        {
            var inputs = x.Span;
            var part = sum.Span.Slice(begin, count);
            for (int j = 0; j < width; j++)
            {
                if (!T.IsZero(inputs[j]))
                {
                    TensorPrimitives.MultiplyAdd(m.AsSpan((j * width) + begin, count), inputs[j], part, part);
                }
            }
        });
    }

    /// <summary>M' x.</summary>
    public static void Pull<T>(T[] m, ReadOnlyMemory<T> x, Memory<T> product)
        where T : struct, IFloatingPointIeee754<T>
    {
        int width = x.Length;
        Share(width, width, (begin, count) =>
        {
            for (int j = begin; j < begin + count; j++)
            {
                product.Span[j] = TensorPrimitives.Dot(m.AsSpan(j * width, width), x.Span);
            }
        });
    }

    /// <summary>Threads share a range, in parts that are worth one.</summary>
    /// <param name="length">The length of the range.</param>
    /// <param name="each">Numbers read for each of its elements.</param>
    /// <param name="part">Receives a part's begin and its length.</param>
    public static void Share(int length, int each, Action<int, int> part)
    {
        int parts = (int)Math.Clamp((long)length * each / NumbersOfPart, 1, Math.Clamp(length, 1, 8));
        if (parts == 1)
        {
            part(0, length);
            return;
        }

        CpuOps.Shared.ForEach(parts, i =>
        {
            int begin = (int)((long)length * i / parts), end = (int)((long)length * (i + 1) / parts);
            part(begin, end - begin);
        });
    }
}
