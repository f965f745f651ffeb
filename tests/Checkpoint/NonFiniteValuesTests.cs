using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

/// <summary>NaN and infinities of every type are counted, and nothing else is.</summary>
public sealed class NonFiniteValuesTests
{
    // Little-endian: NaN, both infinities, the largest finite number, a denormal and zero, as far as the type has them.
    [TestCase(TensorType.F32, 3, "0000C07F 0000807F 000080FF FFFF7F7F 01000000 00000000")]
    [TestCase(TensorType.BF16, 3, "C17F 807F 80FF 7F7F 0100 0000")]
    [TestCase(TensorType.F16, 3, "017E 007C 00FC FF7B 0100 0000")]
    [TestCase(TensorType.F64, 3, "000000000000F87F 000000000000F07F 000000000000F0FF FFFFFFFFFFFFEF7F 0100000000000000 0000000000000000")]
    [TestCase(TensorType.C64, 2, "0000C07F0000803F 0000803F000080FF 0000803F0000803F")]
    [TestCase(TensorType.F8E5M2, 3, "7C FC 7E 7B 01 00")]
    [TestCase(TensorType.F8E4M3, 2, "7F FF 7E FE 01 00")]
    [TestCase(TensorType.F8E8M0, 1, "FF FE 7F 00")]
    [TestCase(TensorType.F8E4M3Fnuz, 1, "80 FF 7F 00")]
    [TestCase(TensorType.F8E5M2Fnuz, 1, "80 FF 7C 00")]
    [TestCase(TensorType.I32, 0, "0000807F FFFFFFFF")]
    [TestCase(TensorType.U8, 0, "80 FF 7C 7F")]
    [TestCase(TensorType.Bool, 0, "01 07")]
    public void Each_type_has_its_own(TensorType type, int expected, string hex)
    {
        string[] values = hex.Split(' ');
        using var folder = new TemporaryFolder();
        byte[] data = Convert.FromHexString(string.Concat(values));
        SafetensorsWriter.Write(folder[CheckpointFolder.SingleFileName], new Dictionary<string, string>(StringComparer.Ordinal),
            [new TensorData("t", type, [values.Length], data)]);
        using var checkpoint = CheckpointFolder.Open(folder.Path);
        Assert.That(NonFiniteValues.Count(checkpoint, checkpoint.Tensors[0]), Is.EqualTo(expected));
    }

    [Test]
    public void A_tensor_of_several_chunks_is_read_to_its_end_and_can_be_given_up()
    {
        using var folder = new TemporaryFolder();
        byte[] data = new byte[(9 << 20) + 4];
        foreach (int at in new[] { 0, 4 << 20, (8 << 20) - 4, data.Length - 4 })
        {
            BitConverter.TryWriteBytes(data.AsSpan(at), float.NaN);
        }

        SafetensorsWriter.Write(folder[CheckpointFolder.SingleFileName], new Dictionary<string, string>(StringComparer.Ordinal),
            [new TensorData("t", TensorType.F32, [data.Length / 4], data)]);
        using var checkpoint = CheckpointFolder.Open(folder.Path);
        Assert.That(NonFiniteValues.Count(checkpoint, checkpoint.Tensors[0]), Is.EqualTo(4));
        Assert.That(() => NonFiniteValues.Count(checkpoint, checkpoint.Tensors[0], new CancellationToken(canceled: true)),
            Throws.InstanceOf<OperationCanceledException>());
    }
}
