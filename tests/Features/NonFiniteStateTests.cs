using System.Runtime.InteropServices;
using Tiller.Features;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Features;

internal sealed class NonFiniteStateTests
{
    // The last block's output is large but finite, and the difference of two such states is not.
    [Test]
    public void Means_that_differ_by_more_than_float32_holds_are_refused_by_layer()
    {
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        int last = TestModels.Load("llama2-f32").Config.L - 1;
        string[] texts = ["The sea", "A dog"];
        double largest = texts.Max(t => LastBlock(TestModels.Load("llama2-f32"), t).Max(Math.Abs));
        Scale(checkpoint, $"model.layers.{last}.mlp.down_proj.weight", 2e38 / largest);
        using var model = LanguageModel.Load(checkpoint.Save());
        var error = Assert.Throws<ContrastSetException>(() => FeatureMeasurement.Measure(model, new ContrastSet([texts[0]], [texts[1]])))!;
        Assert.That(error.Message, Does.Contain($"at layer {last + 1}"));
    }

    // W_down · gated: what the last block's feed-forward adds to a prompt's last token, with attention's share within the noise of the scale.
    private static double[] LastBlock(LanguageModel model, string text)
    {
        var c = model.Config;
        int[] ids = model.Tokenizer.Encode(text);
        double[] states = Probe.Run(model, ids, CancellationToken.None).States;
        int at = (ids.Length - 1) * c.D;
        return [.. Enumerable.Range(0, c.D).Select(i => states[(c.L * ids.Length * c.D) + at + i] - states[((c.L - 1) * ids.Length * c.D) + at + i])];
    }

    private static void Scale(EditableCheckpoint checkpoint, string name, double scale)
    {
        var tensor = checkpoint.Tensors[name];
        float[] values = MemoryMarshal.Cast<byte, float>(tensor.Data.Span).ToArray();
        checkpoint.Tensors[name] = tensor with { Data = MemoryMarshal.AsBytes(Array.ConvertAll(values, x => (float)(x * scale)).AsSpan()).ToArray() };
    }

    // Methods that read every token name the embedding as block 0's input, and a block as its own output.
    [TestCase("model.embed_tokens.weight", 0, "entering block 0")]
    [TestCase("model.layers.1.mlp.down_proj.weight", 2, "leaving block 1")]
    public void A_state_of_any_token_is_named_by_where_it_was_computed(string name, int layer, string says)
    {
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        var tensor = checkpoint.Tensors[name];
        float[] values = MemoryMarshal.Cast<byte, float>(tensor.Data.Span).ToArray();
        Array.Fill(values, float.NaN);
        checkpoint.Tensors[name] = tensor with { Data = MemoryMarshal.AsBytes(values.AsSpan()).ToArray() };
        using var model = LanguageModel.Load(checkpoint.Save());
        var error = Assert.Throws<NonFiniteStateException>(() =>
        {
            using var states = new TokenStates(model, [[3, 5], [4]], CancellationToken.None);
            states.Advance(CancellationToken.None);
            states.Advance(CancellationToken.None);
        })!;
        Assert.That((error.Prompt, error.Position, error.Layer), Is.EqualTo(((int?)0, 0, layer)));
        Assert.That(error.Message, Does.Contain(says));
    }

    [TestCase(float.NaN)]
    [TestCase(float.PositiveInfinity)]
    public void A_weight_that_is_not_finite_is_found_at_its_block(float value)
    {
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        const string Name = "model.layers.3.mlp.down_proj.weight";
        var tensor = checkpoint.Tensors[Name];
        byte[] data = tensor.Data.ToArray();
        BitConverter.TryWriteBytes(data.AsSpan(4 * 17), value);
        checkpoint.Tensors[Name] = tensor with { Data = data };
        using var model = LanguageModel.Load(checkpoint.Save());
        var error = Assert.Throws<NonFiniteStateException>(() => FeatureMeasurement.Measure(model, new ContrastSet(["The sea"], ["A dog"])))!;
        Assert.That((error.Prompt, error.Position, error.Layer), Is.EqualTo(((int?)0, 0, 4)));
        Assert.That(error.Message, Does.Contain("leaving block 3"));
        Assert.That(Tiller.Tool.ExitCode.Of(error), Is.EqualTo(Tiller.Tool.ExitCode.Numerical));
    }
}
