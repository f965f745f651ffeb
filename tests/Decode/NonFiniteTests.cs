using System.Runtime.InteropServices;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>NaN and infinities, in weights or made by steering too hard, are found where they begin: token and block.</summary>
public sealed class NonFiniteTests(string device) : OnEveryDevice(device)
{
    protected override IReadOnlyList<string> OnHostCuda => ["qwen3-f32"];

    protected override IReadOnlyList<string> Checked => OnHostCuda;

    private static readonly int[] s_prompt = [3, 4, 5, 6, 7];

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Tiny))]
    public void A_weight_that_is_not_finite_is_named_by_its_block(string family)
    {
        foreach (string name in new[] { "mlp.down_proj", "mlp.gate_proj", "self_attn.o_proj", "self_attn.v_proj", "input_layernorm" })
        {
            using var checkpoint = new EditableCheckpoint(family);
            Spoil(checkpoint, $"model.layers.2.{name}.weight", 3);
            using var model = TestModels.LoadFrom(checkpoint.Save());
            using var generation = new Generation(model, s_prompt);
            var error = Assert.Throws<NonFiniteStateException>(() => generation.MoveNext())!;
            Assert.That((error.Prompt, error.Position, error.Layer), Is.EqualTo(((int?)null, 0, 3)), name);
            Assert.That(error.Message, Does.StartWith("Token 1: the state leaving block 2 is NaN").And.Contain("NonFiniteValues.Count"));
            Assert.That(error.InnerException, Is.InstanceOf<NonFiniteLogitsException>());
        }
    }

    [TestCase("llama2-f32", 0)]
    [TestCase("llama2-f32", 4)]
    [TestCase("qwen3-f32", 2)]
    public void A_token_whose_embedding_is_not_finite_is_named_by_its_position(string family, int position)
    {
        using var checkpoint = new EditableCheckpoint(family);
        SpoilEmbedding(checkpoint, s_prompt[position]);
        using var model = TestModels.LoadFrom(checkpoint.Save());
        using var generation = new Generation(model, s_prompt);
        var error = Assert.Throws<NonFiniteStateException>(() => generation.MoveNext())!;
        Assert.That((error.Position, error.Layer), Is.EqualTo((position, 0)));
        Assert.That(error.Message, Does.Contain("entering block 0"));
    }

    [Test]
    [OnGpuOnly]
    public void A_token_in_a_later_pass_of_a_long_prompt_is_named()
    {
        using var checkpoint = new EditableCheckpoint("demo");
        SpoilEmbedding(checkpoint, 700);
        using var model = TestModels.LoadFrom(checkpoint.Save());
        int[] ids = [.. Enumerable.Range(0, 600).Select(i => i == 300 ? 700 : 3 + (i % 50))];
        foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All })
        {
            foreach (var law in new[] { null, Laws.Random(model, 1), Laws.LooksBack(model, 2) })
            {
                using var generation = new Generation(model, ids, new GenerationOptions { Law = law, SteeredTokens = tokens });
                var error = Assert.Throws<NonFiniteStateException>(() => generation.MoveNext())!;
                Assert.That((error.Position, error.Layer), Is.EqualTo((300, 0)));
            }
        }
    }

    [TestCase("llama2-f32")]
    [TestCase("qwen3-f32")]
    public void A_generated_token_is_named_by_its_position(string family)
    {
        int third;
        using (var generation = new Generation(TestModels.Load(family), s_prompt))
        {
            while (generation.NewIds.Length < 3 && generation.MoveNext())
            {
            }

            third = generation.NewIds[2];
            Assert.That(s_prompt.Concat(generation.NewIds[..2].ToArray()), Has.None.EqualTo(third), "the token is new");
        }

        using var checkpoint = new EditableCheckpoint(family);
        SpoilEmbedding(checkpoint, third);
        using var model = TestModels.LoadFrom(checkpoint.Save());
        using var spoilt = new Generation(model, s_prompt);
        for (int i = 0; i < 3; i++)
        {
            Assert.That(spoilt.MoveNext(), Is.True);
        }

        var error = Assert.Throws<NonFiniteStateException>(() => spoilt.MoveNext())!;
        Assert.That((error.Position, error.Layer), Is.EqualTo((s_prompt.Length + 2, 0)));
    }

    [TestCase("llama2-f32", "lm_head.weight")]
    [TestCase("llama2-f32", "model.norm.weight")]
    public void Finite_states_leave_the_error_at_the_logits(string family, string name)
    {
        using var checkpoint = new EditableCheckpoint(family);
        Spoil(checkpoint, name, 3);
        using var model = TestModels.LoadFrom(checkpoint.Save());
        using var generation = new Generation(model, s_prompt);
        Assert.That(() => generation.MoveNext(), Throws.TypeOf<NonFiniteLogitsException>());
        Assert.That(() => Likelihood.LogProbability(model, s_prompt, [8, 9]), Throws.TypeOf<NonFiniteLogitsException>());
    }

    [Test]
    public void Likelihood_names_token_and_block_too()
    {
        using var checkpoint = new EditableCheckpoint("qwen3-f32");
        SpoilEmbedding(checkpoint, 9);
        using var model = TestModels.LoadFrom(checkpoint.Save());
        var error = Assert.Throws<NonFiniteStateException>(() => Likelihood.LogProbability(model, s_prompt, [8, 9, 10]))!;
        Assert.That((error.Position, error.Layer), Is.EqualTo((s_prompt.Length + 1, 0)));
        Assert.That(double.IsFinite(Likelihood.LogProbability(model, s_prompt, [8, 10])), "without that token");
    }

    [Test]
    public void A_session_with_finite_states_says_so()
    {
        using var session = new Session(TestModels.Demo, Laws.LooksBack(TestModels.Demo, 1), SteeredTokens.All);
        session.Prefill(s_prompt);
        session.Step(8);
        Assert.That(session.FindNonFinite([8]), Is.Null);
        Assert.That(() => session.FindNonFinite([1, 2, 3, 4, 5, 6, 7]), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    // β = λ μ at every layer; the first steered block pushes the state beyond what a norm can square, so the next one gives NaN.
    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_strength_that_overflows_float32_is_an_error_and_not_a_text(string family)
    {
        var model = TestModels.Load(family);
        var feature = Laws.RandomFeature(model, 3);
        foreach (double lambda in IsCuda ? [1e30] : new[] { 1e20, 1e30, -1e30, 1e37 })
        {
            foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All })
            {
                foreach (var law in new[] { new Proportional(feature).Compile(lambda), new SPid(feature, 0.3, 0.05, 0.2).Compile(lambda),
                    new OpenLoopAddition(feature).Compile(lambda) })
                {
                    using var generation = new Generation(model, s_prompt, new GenerationOptions { Law = law, SteeredTokens = tokens });
                    var error = Assert.Throws<NonFiniteStateException>(() => generation.MoveNext(), $"λ {lambda}")!;
                    Assert.That(error.Position, Is.EqualTo(tokens == SteeredTokens.All ? 0 : s_prompt.Length - 1));
                    Assert.That(error.Layer, Is.InRange(1, 2));
                    Assert.That(error.Message, Does.Contain("lower λ or bound the effort"));
                }
            }
        }
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_bound_on_the_effort_keeps_any_strength_finite(string family)
    {
        var model = TestModels.Load(family);
        var law = new Proportional(Laws.RandomFeature(model, 3)).Compile(1e37, maxEffort: 1);
        using var generation = new Generation(model, s_prompt, new GenerationOptions
        {
            Law = law,
            SteeredTokens = SteeredTokens.All,
            MaxNewTokens = 5,
            StopIds = [],
        });
        while (generation.MoveNext())
        {
        }

        Assert.That(generation.NewIds.Length, Is.EqualTo(5));
    }

    [Test]
    public void A_setpoint_that_does_not_fit_is_refused_with_its_layer()
    {
        var feature = Feature.FromDifference([[1f, 0], [20f, 0], [30f, 0]]);
        var error = Assert.Throws<SteeringOverflowException>(() => new Proportional(feature).Compile(1e38))!;
        Assert.That(error.Layer, Is.EqualTo(1));
        Assert.That(error.Message, Does.Contain("λ = 1E+38"));
        Assert.That(() => new SPid(feature, 3e38, 3e38, 0).Compile(1), Throws.TypeOf<SteeringOverflowException>());
    }

    internal static void SpoilEmbedding(EditableCheckpoint checkpoint, int id)
    {
        var tensor = checkpoint.Tensors["model.embed_tokens.weight"];
        Spoil(checkpoint, tensor.Name, id * (int)tensor.Shape[1]);
    }

    /// <summary>Makes one number NaN.</summary>
    private static void Spoil(EditableCheckpoint checkpoint, string name, int index)
    {
        var tensor = checkpoint.Tensors[name];
        byte[] data = tensor.Data.ToArray();
        if (tensor.Type == TensorType.F32)
        {
            MemoryMarshal.Cast<byte, float>(data.AsSpan())[index] = float.NaN;
        }
        else
        {
            // All exponent bits and one of the fraction, in F16 and in BF16.
            MemoryMarshal.Cast<byte, ushort>(data.AsSpan())[index] = 0x7FC1;
        }

        checkpoint.Tensors[name] = tensor with { Data = data };
    }
}
