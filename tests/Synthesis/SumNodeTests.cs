using Tiller.Features;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>The order of sums over blocks of prompts, which must not depend on how the blocks are divided.</summary>
public sealed class SumNodeTests
{
    [Test]
    public void However_neighbouring_blocks_are_divided_the_sum_is_the_same_bits()
    {
        var random = new Random(1);
        for (int blocks = 1; blocks <= 40; blocks++)
        {
            double[] numbers = [.. Enumerable.Range(0, blocks).Select(_ => random.NextDouble() * Math.Pow(10, random.Next(-12, 12)))];
            double whole = Sum(SumNode.Root(blocks), node => node.Count == 1 ? [numbers[node.First]] : null);
            Assert.That(whole, Is.EqualTo(numbers.Sum()).Within(1e-12 * numbers.Sum()));
            for (int count = 1; count <= blocks + 3; count++)
            {
                var kept = new Dictionary<SumNode, double>();
                for (int i = 0; i < count; i++)
                {
                    var own = new Shard(i, count).Of(blocks);
                    var nodes = SumNode.Within(blocks, own);
                    Assert.That(nodes.Sum(node => node.Count), Is.EqualTo(own.GetOffsetAndLength(blocks).Length));
                    Assert.That(nodes, Has.Count.AtMost(2 * Math.Max(1, Math.Ceiling(Math.Log2(blocks)))), "few sums, not one for each block");
                    foreach (var node in nodes)
                    {
                        kept.Add(node, Sum(node, leaf => leaf.Count == 1 ? [numbers[leaf.First]] : null));
                    }
                }

                Assert.That(Sum(SumNode.Root(blocks), node => kept.TryGetValue(node, out double sum) ? [sum] : null), Is.EqualTo(whole));
            }
        }

        static double Sum(SumNode node, Func<SumNode, double[]?> known) => node.Sum<double[]>(known, (a, b) => [a[0] + b[0]])[0];
    }

    [Test]
    public void Blocks_are_taken_in_order_and_the_depth_is_the_number_of_sums_at_once()
    {
        for (int blocks = 1; blocks <= 70; blocks++)
        {
            var asked = new List<int>();
            int most = Most(SumNode.Root(blocks), before: 0);
            Assert.That((asked, most), Is.EqualTo((Enumerable.Range(0, blocks).ToList(), SumNode.Root(blocks).Depth)).AsCollection);

            int Most(SumNode node, int before)
            {
                if (node.Count == 1)
                {
                    asked.Add(node.First);
                    return before + 1;
                }

                var (left, right) = node.Halves;
                return Math.Max(Most(left, before), Most(right, before + 1));
            }
        }
    }

    [Test]
    public void No_block_has_prompts_of_two_lists()
    {
        Assert.That(PromptBlocks.Of(9, 0, 8, 3), Is.EqualTo(new[] { 0..8, 8..9, 9..17, 17..20 }));
        Assert.That(new[] { 0, 1, 8, 9 }.Select(PromptBlocks.CountOf), Is.EqualTo(new[] { 0, 1, 1, 2 }));
    }
}
