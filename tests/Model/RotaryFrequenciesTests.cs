using System.Text;
using Tiller.Checkpoint;
using Tiller.Model;

namespace Tiller.Tests.Model;

/// <summary>Rotary tables against values worked out by hand from the definitions.</summary>
public class RotaryFrequenciesTests
{
    // θ 10,000 and four pairs: 1, 0.1, 0.01, 0.001.
    private const string Shape =
        "\"hidden_size\":16,\"num_attention_heads\":2,\"num_key_value_heads\":2,\"num_hidden_layers\":4,\"max_position_embeddings\":4096";

    [Test]
    public void Plain() => AssertTables("llama", "null", "", [[1, 0.1, 0.01, 0.001, 1, 1, 1, 1]]);

    [Test]
    public void Linear_divides_all() => AssertTables("qwen2", """{"type":"linear","factor":4}""", "", [[0.25, 0.025, 0.0025, 0.00025, 1, 1, 1, 1]]);

    // Pairs of 32 turns and of one in 4,096 positions: 8 ln(4096/64π)/(2 ln 10000) = 1.309 and 8 ln(4096/2π)/(2 ln 10000) = 2.814, so the ramp is
    // from 1 to 3.
    [Test]
    public void Yarn_keeps_the_fast_pairs_divides_the_slow_ones_and_has_a_ramp_between() =>
        AssertTables("llama", """{"rope_type":"yarn","factor":4}""", "",
            [[1, 0.1, 0.5 * (0.01 + 0.0025), 0.00025, .. Enumerable.Repeat((0.1 * Math.Log(4)) + 1, 4)]]);

    // Layers with a window of their own base, or without positions, have tables of their own as well.
    [TestCaseSource(nameof(Families))]
    public void Every_family_is_rescaled_linearly_and_by_yarn(string family, bool hasYarn)
    {
        const string More = ",\"head_dim\":8,\"rope_theta\":10000,\"sliding_window_pattern\":2";
        Assert.That(Tables(family, """{"rope_type":"linear","factor":4}""", More), Has.One.EqualTo(
            new[] { 0.25, 0.025, 0.0025, 0.00025, 1, 1, 1, 1 }).Within(5e-5).Percent);
        if (hasYarn)
        {
            double[] yarn = [1, 0.1, 0.5 * (0.01 + 0.0025), 0.00025, .. Enumerable.Repeat((0.1 * Math.Log(4)) + 1, 4)];
            Assert.That(Tables(family, """{"rope_type":"yarn","factor":4}""", More), Has.One.EqualTo(yarn).Within(5e-5).Percent);
        }
    }

    [Test]
    public void Yarn_with_a_ramp_between_pairs()
    {
        double low = 8 * Math.Log(4096 / (64 * Math.PI)) / (2 * Math.Log(10000)), high = 8 * Math.Log(4096 / (2 * Math.PI)) / (2 * Math.Log(10000));
        double ramp = (2 - low) / (high - low);
        AssertTables(
            "mistral", """{"rope_type":"yarn","factor":4,"truncate":false,"attention_factor":0.75}""", "",
            [[1, 0.1, 0.01 * ((1 - ramp) + (ramp / 4)), 0.00025, .. Enumerable.Repeat(0.75, 4)]]);
    }

    [Test]
    public void Yarn_with_two_scales_has_their_ratio() =>
        AssertTables(
            "llama", """{"rope_type":"yarn","factor":4,"mscale":2,"mscale_all_dim":1}""", "",
            [[1, 0.1, 0.00625, 0.00025, .. Enumerable.Repeat(((0.2 * Math.Log(4)) + 1) / ((0.1 * Math.Log(4)) + 1), 4)]]);

    // A quarter of eight numbers is turned: one pair; the amplitude is sqrt(1 + ln 4 / ln 1024).
    [Test]
    public void Long_rope_has_a_table_for_short_texts_and_one_for_long_ones()
    {
        double amplitude = Math.Sqrt(1 + (Math.Log(4) / Math.Log(1024)));
        AssertTables(
            "phi3", """{"type":"su","short_factor":[1.25],"long_factor":[8]}""",
                ""","original_max_position_embeddings":1024,"partial_rotary_factor":0.25""",
            [[0.8, 0, 0, 0, amplitude, 1, 1, 1], [0.125, 0, 0, 0, amplitude, 1, 1, 1]]);
    }

    [Test]
    public void A_layer_without_positions_has_a_table_that_turns_nothing() =>
        AssertTables("smollm3", "null", ",\"rope_theta\":10000,\"no_rope_layers\":[1,0,1,0]",
            [[1, 0.1, 0.01, 0.001, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]]);

    [Test]
    public void Windowed_layers_have_a_base_of_their_own_that_nothing_rescales() =>
        AssertTables(
            "gemma3_text", """{"rope_type":"linear","factor":8}""", ",\"head_dim\":8,\"rope_theta\":160000,\"sliding_window_pattern\":2",
            [[1, 0.1, 0.01, 0.001, 1, 1, 1, 1], [0.125, 1 / 160.0, 1 / 3200.0, 1 / 64000.0, 1, 1, 1, 1]]);

    // In Phi-3's files "yarn" is an old name of LongRoPE.
    private static IEnumerable<TestCaseData> Families => ModelFamily.All.Select(family => new TestCaseData(family.Name, !family.HasLongRope));

    private static void AssertTables(string family, string scaling, string more, double[][] expected) =>
        Assert.That(Tables(family, scaling, more), Is.EqualTo(expected).Within(5e-5).Percent);

    private static double[][] Tables(string family, string scaling, string more)
    {
        string json = $$"""{"model_type":"{{family}}",{{Shape}},"rope_scaling":{{scaling}}{{more}}}""";
        float[] all = RotaryFrequencies.Compute(ModelConfigReader.Parse(Encoding.UTF8.GetBytes(json)));
        return [.. all.Select(value => (double)value).Chunk(8)];
    }
}
