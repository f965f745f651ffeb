using System.Text;
using Tiller.Controllers;

namespace Tiller.Tests.Serving;

/// <summary>llama.cpp's control vectors as controllers.</summary>
public sealed class ControlVectorTests
{
    private static int D => RunningServer.Model.Config.D;

    private static int L => RunningServer.Model.Config.L;

    [TestCase(0u)]
    [TestCase(1u)]
    public void A_direction_is_added_behind_its_block_as_often_as_lambda_says(uint type)
    {
        float[] direction = [.. Enumerable.Range(0, D).Select(i => (float)(Half)((i % 7) - 3))];
        var law = ControlVectorFile.Read(File([("direction.1", direction)], type), RunningServer.Model).ToLaw(2);
        var term = law.Terms.Single();
        Assert.That((term.Layer, term.C, law.Sensors.Count), Is.EqualTo((1, 2f, 0)));
        Assert.That(term.W.Zip(direction).All(pair => Math.Abs(pair.First - pair.Second) < 1e-5), Is.True);
    }

    [Test]
    public void Every_cut_of_a_file_is_refused()
    {
        byte[] whole = File([("direction.1", new float[D]), ("direction.2", [1, .. new float[D - 1]])], 0);
        Assert.That(ControlVectorFile.Read(whole, RunningServer.Model).Method.Layers.Count, Is.EqualTo(L));
        for (int length = 0; length < whole.Length; length++)
        {
            byte[] cut = whole[..length];
            Assert.That(() => ControlVectorFile.Read(cut, RunningServer.Model), Throws.TypeOf<ControllerException>(), $"{length} bytes");
        }
    }

    private static IEnumerable<TestCaseData> Wrong() =>
    [
        new TestCaseData(File([("direction.0", new float[D])], 0), ControllerFault.Schema).SetArgDisplayNames("block 0"),
        new TestCaseData(File([("embedding", new float[D])], 0), ControllerFault.Schema).SetArgDisplayNames("another tensor"),
        new TestCaseData(File([("direction.999", new float[D])], 0), ControllerFault.ModelMismatch).SetArgDisplayNames("a block too many"),
        new TestCaseData(File([("direction.1", new float[D + 1])], 0), ControllerFault.ModelMismatch).SetArgDisplayNames("another width"),
        new TestCaseData(File([("direction.1", [float.NaN, .. new float[D - 1]])], 0), ControllerFault.NonFinite).SetArgDisplayNames("NaN"),
        new TestCaseData(File([("direction.1", new float[D])], 0), ControllerFault.Idle).SetArgDisplayNames("nothing but zeros"),
        new TestCaseData(File([("direction.1", new float[D])], 8), ControllerFault.Schema).SetArgDisplayNames("a quantised type"),
        new TestCaseData(File([("direction.1", new float[D])], 0, "llama"), ControllerFault.Schema).SetArgDisplayNames("a model"),
        new TestCaseData(File([("direction.1", new float[D])], 0, version: 4), ControllerFault.UnsupportedVersion).SetArgDisplayNames("version 4"),
    ];

    [TestCaseSource(nameof(Wrong))]
    public void What_is_no_control_vector_of_the_model_is_refused(byte[] file, ControllerFault fault) =>
        Assert.That(
            () => ControlVectorFile.Read(file, RunningServer.Model), Throws.TypeOf<ControllerException>().With.Property("Fault").EqualTo(fault));

    private static byte[] File((string Name, float[] Values)[] tensors, uint type, string architecture = "controlvector", uint version = 3)
    {
        var bytes = new MemoryStream();
        using var to = new BinaryWriter(bytes);
        to.Write("GGUF"u8);
        to.Write(version);
        to.Write((ulong)tensors.Length);
        to.Write(3ul);
        Text("general.architecture");
        to.Write(8u);
        Text(architecture);
        Text("controlvector.layer_count");
        to.Write(4u);
        to.Write((uint)tensors.Length);
        Text("tags");
        to.Write(9u);
        to.Write(8u);
        to.Write(2ul);
        Text("a");
        Text("b");
        ulong offset = 0;
        foreach (var (name, values) in tensors)
        {
            Text(name);
            to.Write(1u);
            to.Write((ulong)values.Length);
            to.Write(type);
            to.Write(offset);
            offset += (ulong)values.Length * 4;
        }

        to.Write(new byte[(32 - (bytes.Length % 32)) % 32]);
        foreach (float value in tensors.SelectMany(t => type == 1 ? [.. t.Values, .. new float[t.Values.Length]] : t.Values))
        {
            if (type == 1)
            {
                to.Write((Half)value);
            }
            else
            {
                to.Write(value);
            }
        }

        return bytes.ToArray();

        void Text(string text)
        {
            to.Write((ulong)text.Length);
            to.Write(Encoding.UTF8.GetBytes(text));
        }
    }
}
