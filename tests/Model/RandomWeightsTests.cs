using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Model;

/// <summary>Weights for measurements: a pattern that is sent once and repeated where it is.</summary>
public sealed class RandomWeightsTests
{
    // Longer than the pattern of 64 MiB, in bf16.
    private const int Rows = 300_000;

    [TestCase(TensorType.BF16)]
    [TestCase(TensorType.F32)]
    public void All_are_finite_none_is_left_out_and_rows_differ(TensorType type)
    {
        const int D = 128;
        using var ops = Devices.Open(Device.Cpu, 2);
        using var weights = ModelWeights.Random(ops, Config(D, Rows), type);
        float scale = 2 / MathF.Sqrt(D);
        float[] all = Read(ops, weights.Embedding);
        Assert.That(all.Max(Math.Abs), Is.InRange(0.99f * scale, scale));
        int zeros = all.Count(v => v == 0);
        Assert.That(zeros, Is.LessThan(all.Length / 1000), "zeros are what the memory held before");

        // A row and the one a pattern later hold the same numbers, not at the same places.
        var rows = new HashSet<string>(StringComparer.Ordinal);
        for (int i = 0; i < Rows; i += 7)
        {
            Assert.That(rows.Add(Convert.ToHexString(SHA256.HashData(MemoryMarshal.AsBytes(all.AsSpan(i * D, D))))), Is.True, $"row {i}");
        }

        Assert.That(Read(ops, weights.Blocks[1].Down), Is.Not.EqualTo(Read(ops, weights.Blocks[0].Down)));
    }

    [Test]
    public void A_norm_of_gemma_is_around_one()
    {
        var c = BenchShape.Parse("gemma-2-2b").Config with { L = 1, V = 64, D = 64, F = 96, Windows = [0] };
        using var ops = Devices.Open(Device.Cpu, 1);
        using var weights = ModelWeights.Random(ops, c, TensorType.BF16);
        float[] norm = new float[c.D];
        ops.DownloadRow(weights.Norm, 0, norm);
        Assert.That(norm, Is.All.InRange(0.7, 1.3));
        Assert.That(norm.Distinct().Count(), Is.GreaterThan(32));
    }

    private static float[] Read(DeviceOps ops, Matrix m)
    {
        byte[] bytes = new byte[m.SizeInBytes];
        ops.Download(m.Address, bytes);
        return m.Type == WeightType.F32
            ? MemoryMarshal.Cast<byte, float>(bytes).ToArray()
            : [.. MemoryMarshal.Cast<byte, ushort>(bytes).ToArray().Select(v => BitConverter.UInt32BitsToSingle((uint)v << 16))];
    }

    internal static ModelConfig Config(int d, int rows) => BenchShape.Parse($"2,{d},96,4,2,16,{rows}").Config;
}

/// <summary>The same on CUDA: what goes there does not grow with the weights.</summary>
public sealed class CudaRandomWeightsTests : CudaTest
{
    [Test]
    public void Weights_beyond_the_pattern_are_copied_on_the_device()
    {
        HostCuda.Require(); // which counts the calls
        long[] few = Sent(600_000), many = Sent(1_100_000);
        Assert.That(many[0], Is.EqualTo(few[0]), "copies from the host");
        Assert.That(many[1], Is.GreaterThan(few[1]), "copies on the device");

        // 64 MiB in chunks of 4, and the vectors: a norm for each half of two blocks, the last one, the frequencies.
        Assert.That(few[0], Is.EqualTo(16 + 5 + 1));

        static long[] Sent(int rows)
        {
            string[] calls = ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoDAsync_v2"];
            using var ops = Devices.Open(Device.Cuda(), 1);
            long[] before = [.. calls.Select(HostCuda.CallsOf)];
            using var weights = ModelWeights.Random(ops, RandomWeightsTests.Config(64, rows), TensorType.BF16);
            return [.. calls.Select((call, i) => HostCuda.CallsOf(call) - before[i])];
        }
    }

    [Test]
    public void They_are_the_cpus()
    {
        var c = RandomWeightsTests.Config(64, 3000);
        using var host = Devices.Open(Device.Cpu, 1);
        using var device = Devices.Open(Device.Cuda(), 1);
        using var expected = ModelWeights.Random(host, c, TensorType.BF16);
        using var actual = ModelWeights.Random(device, c, TensorType.BF16);
        foreach (var (a, b) in new[] { (actual.Embedding, expected.Embedding), (actual.Blocks[1].GateUp, expected.Blocks[1].GateUp) })
        {
            byte[] there = new byte[a.SizeInBytes], here = new byte[b.SizeInBytes];
            device.Download(a.Address, there);
            host.Download(b.Address, here);
            Assert.That(there, Is.EqualTo(here));
        }
    }
}
