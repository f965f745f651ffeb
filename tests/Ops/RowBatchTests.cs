using Tiller.Ops;
using Tiller.Tests.Decode;
using Tiller.Tests.Model;

namespace Tiller.Tests.Ops;

public sealed class RowBatchTests
{
    [Test]
    public void Steered_rows_of_a_sequence_are_counted_across_the_plain_rows_between_them()
    {
        var model = TestModels.Load("qwen2-bf16");
        var law = Laws.Random(model, seed: 1);
        var first = model.NewSteering(law);
        var second = model.NewSteering(law);
        using KvCache mine = model.NewCache(), another = model.NewCache();
        mine.Reserve(8, used: 0);
        another.Reserve(8, used: 0);

        var rows = new RowBatch();
        rows.Add(1, 0, mine, first);
        rows.Add(1, 1, mine);
        rows.Add(1, 2, mine);
        rows.Add(1, 3, mine, first);
        rows.Add(1, 4, mine, first);
        rows.Add(1, 0, another, second);
        rows.Add(1, 1, another);
        rows.Add(1, 2, another, second);
        Assert.That(Enumerable.Range(0, rows.Values).Where(i => rows[i].Steering is not null).Select(i => rows[i].Slot),
            Is.EqualTo(new[] { 0, 1, 2, 0, 1 }));
        first.Release();
        second.Release();
    }
}
