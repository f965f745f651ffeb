using Tiller.Features;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Features;

internal sealed class NonFiniteStateTests
{
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
