using Tiller.Bench;
using Tiller.Model;

namespace Tiller.Tests.Tool;

/// <summary>Shapes of known models.</summary>
public class BenchShapeTests
{
    // Parameters as the models' publishers count them, a tied head once.
    private static readonly Dictionary<string, long> s_parameters = new(StringComparer.Ordinal)
    {
        ["smollm2-135m"] = 134_515_008,
        ["llama-3.2-1b"] = 1_235_814_400,
        ["gemma-2-2b"] = 2_614_341_888,
        ["qwen2.5-3b"] = 3_085_938_688,
        ["llama-3-8b"] = 8_030_261_248,
        ["qwen2.5-14b"] = 14_770_033_664,
        ["gemma-3-1b"] = 999_885_952,
        ["olmo-2-1b"] = 1_484_916_736,
        ["phi-3-mini"] = 3_821_079_552,
        ["smollm3-3b"] = 3_075_098_624,
        ["granite-3.1-2b"] = 2_533_531_648,
    };

    private static IEnumerable<string> Names => BenchShape.Names.Where(static x => x != "demo");

    [TestCaseSource(nameof(Names))]
    public void A_shape_has_as_many_parameters_as_the_model_of_its_name(string name) =>
        Assert.That(ModelWeights.Tensors(BenchShape.Parse(name).Config).Sum(static x => x.Shape.Aggregate(1L, static (a, b) => a * b)),
            Is.EqualTo(s_parameters[name]));
}
