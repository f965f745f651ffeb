using Tiller.Bench;
using Tiller.Ops;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>How directions are divided among panels, lanes and blocks.</summary>
public sealed class PassPlanTests
{
    // Where there are blocks enough, nearly every caller has a lane, of 128 columns or more.
    [TestCase("demo", 1, 10, 1, 1, 1, 128)]
    [TestCase("demo", 2, 1, 1, 2, 2, 64)]
    [TestCase("demo", 2, 10, 2, 1, 2, 128)]
    [TestCase("demo", 4, 3, 3, 1, 3, 128)]
    [TestCase("demo", 16, 10, 10, 1, 10, 128)]
    [TestCase("smollm2-135m", 2, 30, 1, 4, 2, 144)]
    [TestCase("smollm2-135m", 8, 30, 2, 4, 8, 144)]
    [TestCase("smollm2-135m", 16, 30, 5, 3, 15, 192)]
    [TestCase("llama-3.2-1b", 2, 16, 1, 10, 2, 208)]
    [TestCase("llama-3.2-1b", 64, 16, 6, 10, 60, 208)]
    public void Narrow_panels_of_one_block_give_way_to_wide_ones_of_several(
        string shape, int callers, int blocks, int together, int panels, int lanes, int largest)
    {
        var c = BenchShape.Parse(shape).Config;
        var plan = PassPlan.Of(c, c.D, callers, DeviceOps.UsualJacobianRows, blocks);
        int widest = Enumerable.Range(0, lanes).Max(plan.Largest);
        Assert.That((plan.Blocks, plan.Panels, plan.Lanes, widest), Is.EqualTo((together, panels, lanes, largest)));
    }

    [Test]
    public void Every_direction_of_every_block_is_in_one_panel_and_every_panel_fits_its_lane()
    {
        var c = BenchShape.Parse("demo").Config;
        foreach (int directions in new[] { 1, 63, 64, 100, 128, 200, 416, 576, 2048, 4097 })
        {
            foreach (int callers in new[] { 1, 2, 3, 5, 16, 64 })
            {
                foreach (int blocks in new[] { 1, 2, 7, 100 })
                {
                    var plan = PassPlan.Of(c, directions, callers, DeviceOps.UsualJacobianRows, blocks);
                    string what = $"{directions} directions, {callers} callers, {blocks} blocks: {plan}";
                    Assert.That(plan.Blocks, Is.InRange(1, Math.Min(callers, blocks)), what);
                    Assert.That(plan.Lanes, Is.InRange(1, callers), what);
                    for (int block = 0; block < plan.Blocks; block++)
                    {
                        int next = 0;
                        for (int i = block * plan.Panels; i < (block + 1) * plan.Panels; i++)
                        {
                            var (first, count) = plan.Panel(i);
                            Assert.That((first, count), Is.EqualTo((next, count)), what);
                            Assert.That(count, Is.InRange(1, plan.Largest(i % plan.Lanes)), what);
                            next += count;
                        }

                        Assert.That(next, Is.EqualTo(directions), what);
                    }
                }
            }
        }
    }
}
