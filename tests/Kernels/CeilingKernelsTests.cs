using System.Runtime.InteropServices;
using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class CeilingKernelsTests : ElementKernelTest
{
    [TestCase(1, 1)]
    [TestCase(31, 3)]
    [TestCase(4097, 1)]
    [TestCase(70_001, 2)]
    public void EveryWordIsReadInEveryPass(int words16, int passes)
    {
        var kernels = New();
        byte[] bytes = new byte[16 * words16];
        new Random(words16).NextBytes(bytes);
        var sums = PoisonedSpan<uint>(kernels.ReadBlocks + 1);
        kernels.Read(Stream, SendSpan(bytes), passes, sums);
        uint[] actual = Receive(sums);
        uint expected = 0;
        foreach (uint word in MemoryMarshal.Cast<byte, uint>(bytes))
        {
            expected += word;
        }

        Assert.That(actual[..^1].Aggregate(0u, (sum, s) => sum + s), Is.EqualTo((uint)passes * expected));
        Assert.That(actual[^1], Is.EqualTo(uint.MaxValue), "nothing is written past the end");
    }

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(33)]
    public void ChainsMultiplyAndAdd(int rounds)
    {
        const double A = 0.75, B = 0.1;
        var kernels = New();
        int threads = kernels.SingleBlocks * CeilingKernels.Threads, doubleThreads = kernels.DoubleBlocks * CeilingKernels.Threads;
        var singles = PoisonedSpan<float>(threads + 1);
        var doubles = PoisonedSpan<double>(doubleThreads + 1);
        kernels.MultiplySingle(Stream, A, B, rounds, singles);
        kernels.MultiplyDouble(Stream, A, B, rounds, doubles);
        float[] single = Receive(singles);
        double[] wide = Receive(doubles);
        for (int thread = 0; thread < Math.Min(threads, doubleThreads); thread += 251)
        {
            float sum32 = 0;
            double sum64 = 0;
            for (int chain = 0; chain < CeilingKernels.Chains; chain++)
            {
                float x = chain + (thread % CeilingKernels.Threads);
                double y = x;
                for (int i = 0; i < rounds; i++)
                {
                    (x, y) = (MathF.FusedMultiplyAdd(x, (float)A, (float)B), Math.FusedMultiplyAdd(y, A, B));
                }

                (sum32, sum64) = (sum32 + x, sum64 + y);
            }

            Assert.That((single[thread], wide[thread]), Is.EqualTo((sum32, sum64)), $"thread {thread}");
        }

        Assert.That((single[^1], wide[^1]), Is.EqualTo((float.NaN, double.NaN)), "nothing is written past the end");
    }

    [TestCase(false)]
    [TestCase(true)]
    public void NodesOfAGraphThatDoNothing(bool programmatic)
    {
        var kernels = New();
        using var graph = Stream.Capture(() =>
        {
            for (int i = 0; i < 5; i++)
            {
                kernels.Nothing(Stream, programmatic);
            }
        });
        Assert.That(graph.NodeCount, Is.EqualTo(5));
        using var ready = graph.Instantiate();
        ready.Launch(Stream);
        Stream.Synchronize();
    }

    private CeilingKernels New() => Load(k => new CeilingKernels(k, Context.Device.MultiprocessorCount));
}
