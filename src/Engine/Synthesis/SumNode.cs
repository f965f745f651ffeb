using System.Numerics;

namespace Tiller.Synthesis;

/// <summary>
/// A node of the binary tree in which a float64 sum over blocks of prompts is taken (docs/math.md §1): the sum over the blocks First ..
/// First + Count − 1. Its first half has the largest power of two of blocks that leaves the second one any. Whoever computes neighbouring blocks
/// keeps the few largest nodes among them, and the sum of all is the same bits however the blocks were divided.
/// </summary>
/// <param name="First">The first block.</param>
/// <param name="Count">Number of blocks, at least one.</param>
internal readonly record struct SumNode(int First, int Count)
{
    /// <summary>The two nodes below one of at least two blocks.</summary>
    public (SumNode Left, SumNode Right) Halves
    {
        get
        {
            int left = 1 << BitOperations.Log2((uint)(Count - 1));
            return (new SumNode(First, left), new SumNode(First + left, Count - left));
        }
    }

    /// <summary>Number of sums that are under way at once while this one is taken.</summary>
    public int Depth => Count <= 1 ? Count : Math.Max(Halves.Left.Depth, 1 + Halves.Right.Depth);

    /// <summary>The sum over all blocks.</summary>
    public static SumNode Root(int blocks) => new(0, blocks);

    /// <summary>The largest nodes among neighbouring blocks, in order.</summary>
    /// <param name="blocks">Number of all blocks.</param>
    /// <param name="own">The neighbours.</param>
    public static IReadOnlyList<SumNode> Within(int blocks, Range own)
    {
        var found = new List<SumNode>();
        var (begin, count) = own.GetOffsetAndLength(blocks);
        if (count > 0)
        {
            Add(Root(blocks));
        }

        return found;

        void Add(SumNode node)
        {
            if (node.First >= begin && node.First + node.Count <= begin + count)
            {
                found.Add(node);
            }
            else if (node.First < begin + count && node.First + node.Count > begin)
            {
                var (left, right) = node.Halves;
                Add(left);
                Add(right);
            }
        }
    }

    /// <summary>Takes the sum.</summary>
    /// <param name="known">The sum of a node; null for one that is the sum of its halves. Asked from the first block to the last.</param>
    /// <param name="add">Adds the sums of two halves.</param>
    public T Sum<T>(Func<SumNode, T?> known, Func<T, T, T> add)
        where T : class
    {
        if (known(this) is { } sum)
        {
            return sum;
        }

        var (left, right) = Halves;
        var first = left.Sum(known, add);
        return add(first, right.Sum(known, add));
    }
}
