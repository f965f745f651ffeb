using Tiller.Law;

namespace Tiller.Tests.Law;

public sealed class LayerSetTests
{
    [TestCase("4-9", "4-9", 6)]
    [TestCase("8-8", "8-8", 1)]
    [TestCase("1-3,8-9", "1-3,8-9", 5)]
    [TestCase("8-9,1-3", "1-3,8-9", 5)]
    [TestCase("1-3,4-5", "1-5", 5)]
    [TestCase("1-6,2-3,5-8", "1-8", 8)]
    [TestCase("0-0,2-2,4-4", "0-0,2-2,4-4", 3)]
    [TestCase("0-2147483647,5-6", "0-2147483647", int.MinValue)]
    public void Ranges_are_read_in_any_order_and_written_in_one(string text, string expected, int count)
    {
        Assert.That(LayerSet.TryParse(text, out var layers));
        Assert.That(layers!.ToString(), Is.EqualTo(expected));
        Assert.That(LayerSet.TryParse(expected, out var again));
        Assert.That((again!.Equals(layers), again.GetHashCode()), Is.EqualTo((true, layers.GetHashCode())));
        if (count > 0)
        {
            Assert.That(layers.Count, Is.EqualTo(count));
            Assert.That(layers.Blocks, Is.Ordered.And.Exactly(count).Items);
            Assert.That(Enumerable.Range(0, 20).Where(layers.Contains), Is.EqualTo(layers.Blocks));
            Assert.That((layers.First, layers.Last), Is.EqualTo((layers.Blocks.First(), layers.Blocks.Last())));
            Assert.That(layers.Ranges.SelectMany(r => Enumerable.Range(r.First, r.Last - r.First + 1)), Is.EqualTo(layers.Blocks));
        }
    }

    [TestCase("")]
    [TestCase(null)]
    [TestCase("5")]
    [TestCase("5-3")]
    [TestCase("1-3,9-8")]
    [TestCase("1-3,")]
    [TestCase(",1-3")]
    [TestCase("1-3,,8-9")]
    [TestCase("1-3;8-9")]
    [TestCase("1-3, 8-9")]
    [TestCase("-1-3")]
    [TestCase("1-2-3")]
    [TestCase("+1-3")]
    [TestCase("1-3.0")]
    [TestCase("1-2147483648")]
    [TestCase("all")]
    public void Anything_else_is_no_set_of_layers(string? text)
        => Assert.That((LayerSet.TryParse(text, out var layers), layers), Is.EqualTo((false, (LayerSet?)null)));

    [Test]
    public void Ranges_that_are_none_are_refused()
    {
        Assert.That(() => new LayerSet(3, 2), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => new LayerSet(-1, 2), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => new LayerSet(new LayerRange(0, 1), new LayerRange(4, 3)), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => new LayerSet(), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void Sets_are_equal_by_their_blocks()
    {
        var set = new LayerSet(new LayerRange(8, 9), new LayerRange(1, 3));
        Assert.That(set, Is.EqualTo(new LayerSet(new LayerRange(1, 2), new LayerRange(3, 3), new LayerRange(8, 9))));
        Assert.That(set, Is.Not.EqualTo(new LayerSet(1, 9)).And.Not.EqualTo(new LayerSet(1, 3)));
        Assert.That(set.From(1).ToString(), Is.EqualTo("0-2,7-8"));
    }
}
