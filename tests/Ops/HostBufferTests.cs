using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Ops;

namespace Tiller.Tests.Ops;

/// <summary>When memory that the collector does not see makes it collect.</summary>
[NonParallelizable]
public sealed unsafe partial class HostBufferTests
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

    [TestCase(2 << 20)]
    [TestCase(Size)]
    public void A_buffer_that_is_discarded_while_it_is_copied_never_doubles_the_memory(int size)
    {
        const int Slices = 8, HugePage = 2 << 20;
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("only on Linux are parts of a buffer given back");
        }

        using HostBuffer from = new(size), to = new(size);
        new Span<byte>((void*)from.Address, size).Fill(7);
        Assert.That(Resident(from), Is.EqualTo(size));
        to.Discard(size);
        Assert.That(Resident(to), Is.Zero);
        int slice = size / Slices;
        for (int begin = 0; begin < size; begin += slice)
        {
            new Span<byte>((void*)(from.Address + begin), slice).CopyTo(new Span<byte>((void*)(to.Address + begin), slice));
            from.Discard(begin + slice);
            Assert.That(Resident(from) + Resident(to), Is.LessThanOrEqualTo(size + slice + HugePage));
        }

        Assert.That(new Span<byte>((void*)to.Address, size).IndexOfAnyExcept((byte)7), Is.EqualTo(-1));
        Assert.That(Resident(from), Is.Zero);
    }

    private static int Resident(HostBuffer buffer)
    {
        int page = Environment.SystemPageSize;
        byte[] pages = new byte[buffer.SizeInBytes / page];
        fixed (byte* p = pages)
        {
            Assert.That(InCore(buffer.Address, (nuint)buffer.SizeInBytes, p), Is.Zero);
        }

        return page * pages.Count(state => (state & 1) != 0);
    }

    [LibraryImport("libc", EntryPoint = "mincore")]
    private static partial int InCore(nint address, nuint length, byte* pages);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Forget() => _ = new HostBuffer(Size);
}
