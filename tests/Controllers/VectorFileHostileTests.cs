using System.Text;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;

namespace Tiller.Tests.Controllers;

/// <summary>Vector files of other programs that are broken or hostile (docs/hostile-inputs.md, section 10).</summary>
public sealed class VectorFileHostileTests
{
    private const int L = 4;
    private const int D = 3;
    private const string SteeringVector = """{"model_type":"m","directions":{"1":[1,0,2],"2":[0,-1,0.5]},"explained_variances":{"1":0.5}}""";

    private static byte[] ControlVector { get; } = Written();

    [Test]
    public void Row1_a_file_that_is_cut_short_is_refused()
    {
        // The last numbers are padded.
        for (int length = 0; length < ControlVector.Length - 20; length++)
        {
            Assert.That(Fault(ControlVector[..length]), Is.EqualTo(ControllerFault.Schema), $"{length} bytes of a control vector");
        }

        for (int length = 0; length < SteeringVector.Length; length++)
        {
            Assert.That(Fault(SteeringVector[..length]), Is.EqualTo(ControllerFault.Schema), $"{length} bytes of a steering vector");
        }

        foreach (string other in new[]
        {
            "[]", "3", "{}", """{"directions":[]}""", """{"directions":{"1":{}}}""", """{"directions":{"\ud800":[1,2,3]}}""",
        })
        {
            Assert.That(Fault(other), Is.EqualTo(ControllerFault.Schema).Or.EqualTo(ControllerFault.ModelMismatch), other);
        }
    }

    [Test]
    public void Row2_numbers_beyond_the_file_are_refused_without_their_memory()
    {
        const string Key = "general.architecture";
        int pair = Find(Key), tensor = Find("direction.1");
        int[] wide = [8, 16, pair - 8, pair + Key.Length + 4, tensor - 8, tensor + 11 + 4, tensor + 11 + 4 + 8 + 4];
        foreach (int at in wide)
        {
            foreach (ulong value in new ulong[] { 1ul << 31, 1ul << 32, 1ul << 62, 1ul << 63, ulong.MaxValue, 65537, 4097 })
            {
                byte[] broken = [.. ControlVector];
                BitConverter.TryWriteBytes(broken.AsSpan(at), value);
                long before = GC.GetAllocatedBytesForCurrentThread();
                ControllerFault[] refusals = [ControllerFault.Schema, ControllerFault.Shape, ControllerFault.ModelMismatch];
                Assert.That(Fault(broken), Is.AnyOf(refusals.Cast<object>().ToArray()), $"{value} at {at}");
                Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(1 << 20), $"{value} at {at}");
            }
        }

        // An array of arrays of arrays.
        byte[] nested =
        [
            .. ControlVector[..16], .. BitConverter.GetBytes(1ul), .. BitConverter.GetBytes(1ul), (byte)'a', .. BitConverter.GetBytes(9u),
            .. Enumerable.Range(0, 40).SelectMany(_ => (byte[])[.. BitConverter.GetBytes(9u), .. BitConverter.GetBytes(1ul)]),
        ];
        Assert.That(Fault(nested), Is.EqualTo(ControllerFault.Schema));
        string deep = new string('[', 40) + new string(']', 40);
        Assert.That(Fault("{\"directions\":{\"1\":" + deep + "}}"), Is.EqualTo(ControllerFault.Schema));
    }

    [Test]
    public void Row3_directions_of_another_model_are_refused()
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That(Fault(ControlVector, width: D + 1), Is.EqualTo(ControllerFault.ModelMismatch));
            Assert.That(Fault(ControlVector, layers: 1), Is.EqualTo(ControllerFault.Shape));
            Assert.That(Fault(SteeringVector, width: D + 1), Is.EqualTo(ControllerFault.ModelMismatch));
            Assert.That(Fault(SteeringVector, layers: 2), Is.EqualTo(ControllerFault.ModelMismatch));
            Assert.That(Fault(Encoding.Latin1.GetString(ControlVector).Replace("direction.2", "direction.1", StringComparison.Ordinal)),
                Is.EqualTo(ControllerFault.Schema), "one twice");
            Assert.That(Fault(SteeringVector.Replace("\"2\"", "\"1\"", StringComparison.Ordinal)), Is.EqualTo(ControllerFault.Schema), "one twice");
            Assert.That(Fault("""{"directions":{}}"""), Is.EqualTo(ControllerFault.Idle));
            Assert.That(Fault("""{"directions":{"1":[0,0,0]}}"""), Is.EqualTo(ControllerFault.Idle));
            Assert.That(Fault("""{"directions":{"1":[0,"1",0]}}"""), Is.EqualTo(ControllerFault.Schema));
            Assert.That(Fault("""{"directions":{"-1":[0,1,0]}}"""), Is.EqualTo(ControllerFault.ModelMismatch));
        }

        byte[] quantised = [.. ControlVector];
        BitConverter.TryWriteBytes(quantised.AsSpan(Find("direction.1") + 11 + 4 + 8), 8u);
        Assert.That(Fault(quantised), Is.EqualTo(ControllerFault.Schema));
    }

    [Test]
    public void Row4_a_number_that_is_not_finite_is_named()
    {
        foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            byte[] broken = [.. ControlVector];
            BitConverter.TryWriteBytes(broken.AsSpan(broken.Length - 32 + 4), bad);
            var e = Assert.Throws<ControllerException>(() => Read(broken))!;
            Assert.That((e.Fault, e.Layer, e.Index), Is.EqualTo((ControllerFault.NonFinite, (int?)2, (int?)1)), $"{bad}");
        }

        string beyond = SteeringVector.Replace("0.5]", "1e39]", StringComparison.Ordinal);
        var large = Assert.Throws<ControllerException>(() => Read(Encoding.UTF8.GetBytes(beyond)))!;
        Assert.That((large.Fault, large.Layer, large.Index), Is.EqualTo((ControllerFault.NonFinite, (int?)2, (int?)2)));
        Assert.That(Fault("""{"directions":{"1":[3e38,3e38,0]}}"""), Is.EqualTo(ControllerFault.NonFinite), "a length beyond float32");
    }

    [Test]
    public void Row5_a_flipped_bit_is_read_or_refused_and_a_file_too_large_is_refused()
    {
        int accepted = 0;
        foreach (byte[] whole in new[] { ControlVector, Encoding.UTF8.GetBytes(SteeringVector) })
        {
            for (int bit = 0; bit < 8 * whole.Length; bit++)
            {
                byte[] broken = [.. whole];
                broken[bit / 8] ^= (byte)(1 << (bit % 8));
                try
                {
                    var method = Read(broken).Method;
                    Assert.That(method.Feature.V.SelectMany(v => v), Has.All.Matches<float>(float.IsFinite), $"bit {bit}");
                    accepted++;
                }
                catch (ControllerException)
                {
                    // A bit of the tables.
                }
            }
        }

        Assert.That(accepted, Is.GreaterThan(100), "neither format has a checksum");
        byte[] large = new byte[(64 << 20) + 1];
        "GGUF"u8.CopyTo(large);
        Assert.That(Fault(large), Is.EqualTo(ControllerFault.LimitExceeded));
        large[0] = (byte)' ';
        Assert.That(Fault(large), Is.EqualTo(ControllerFault.LimitExceeded));
    }

    private static int Find(string text) => ControlVector.AsSpan().IndexOf(Encoding.UTF8.GetBytes(text));

    private static ControllerFault? Fault(string file, int layers = L, int width = D) => Fault(Encoding.Latin1.GetBytes(file), layers, width);

    private static ControllerFault? Fault(byte[] file, int layers = L, int width = D)
    {
        try
        {
            Read(file, layers, width);
            return null;
        }
        catch (ControllerException e)
        {
            return e.Fault;
        }
    }

    private static Controller Read(byte[] file, int layers = L, int width = D) => ControlVectorFile.IsGguf(file)
        ? ControlVectorFile.Read(file, use: null, "demo", "00", layers, width)
        : SteeringVectorFile.Read(file, VectorUse.LlamaCpp, "demo", "00", layers, width);

    private static byte[] Written()
    {
        float[][] rows = [.. Enumerable.Range(0, L + 1).Select(k => (float[])[0.5f, -k, 1])];
        var controller = new Controller(
            new OpenLoopAddition(Feature.FromDifference(rows), new LayerSet(1, 2)),
            new ControllerSource
            {
                ModelName = "demo", ModelFingerprint = "00", Positive = new PromptSet("11", 8), Negative = new PromptSet("22", 9),
            });
        using var stream = new MemoryStream();
        ControlVectorFile.Write(stream, controller);
        return stream.ToArray();
    }
}
