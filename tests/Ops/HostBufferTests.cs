using System.Runtime.CompilerServices;
using Tiller.Ops;

namespace Tiller.Tests.Ops;

/// <summary>When memory that the collector does not see makes it collect.</summary>
[NonParallelizable]
public sealed class HostBufferTests
{
    private const int Size = 16 << 20;

    [Test]
    public void Buffers_that_are_disposed_of_ask_for_no_collection()
    {
        int before = GC.CollectionCount(GC.MaxGeneration);
        for (int i = 0; i < 1000; i++)
        {
            new HostBuffer(Size).Dispose();
        }

        Assert.That(GC.CollectionCount(GC.MaxGeneration) - before, Is.LessThanOrEqualTo(1), "of 16 GB in all");
    }

    [Test]
    public void Buffers_that_nobody_disposes_of_are_collected_before_they_are_many()
    {
        long before = HostBuffer.LiveInBytes, most = 0;
        for (int i = 0; i < 256; i++)
        {
            Forget();
            GC.WaitForPendingFinalizers();
            most = Math.Max(most, HostBuffer.LiveInBytes - before);
        }

        Assert.That(most, Is.LessThanOrEqualTo(1L << 30), "of 4 GB in all");
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Forget() => _ = new HostBuffer(Size);
}
