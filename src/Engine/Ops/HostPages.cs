using System.Runtime.InteropServices;

namespace Tiller.Ops;

/// <summary>
/// Zeroed pages directly from Linux. Freed pages return to the system at once, whatever other threads allocate. Large ranges use huge pages if the
/// system grants them, so that reading weights needs fewer address translations; these pages are not touched before they are filled.
/// </summary>
internal static unsafe partial class HostPages
{
    /// <summary>Size in bytes from which memory is mapped directly.</summary>
    public const long WorthMapping = 1 << 20;

    // Size in bytes from which huge pages are requested.
    private const long WorthHugePages = 4 << 20;
    private const nuint HugePage = 2 << 20;

    // Linux, asm-generic/mman.h.
    private const int ReadWrite = 0x1 | 0x2;
    private const int PrivateAnonymous = 0x2 | 0x20;
    private const int Populate = 0x8000;
    private const int AdviseUnneeded = 4;
    private const int AdviseHugePages = 14;

    public static bool IsSupported => OperatingSystem.IsLinux();

    /// <summary>Maps at least <paramref name="sizeInBytes"/>, aligned to a page; 0 when the system refuses.</summary>
    public static nint Map(long sizeInBytes)
    {
        nuint size = Rounded(sizeInBytes);
        if (sizeInBytes < WorthHugePages)
        {
            // One call populates all pages; a page fault for each small page would cost several times as much.
            nint pages = MapPages(0, size, ReadWrite, PrivateAnonymous | Populate, -1, 0);
            return pages == -1 ? 0 : pages;
        }

        nint start = MapPages(0, size + HugePage, ReadWrite, PrivateAnonymous, -1, 0);
        if (start == -1)
        {
            return 0;
        }

        nint aligned = (nint)(((nuint)start + HugePage - 1) / HugePage * HugePage);
        nuint before = (nuint)(aligned - start);
        if (before > 0)
        {
            _ = UnmapPages(start, before);
        }

        if (before < HugePage)
        {
            _ = UnmapPages(aligned + (nint)size, HugePage - before);
        }

        // If the system refuses, the pages stay small.
        _ = Advise(aligned, size, AdviseHugePages);
        return aligned;
    }

    public static void Unmap(nint address, long sizeInBytes) => _ = UnmapPages(address, Rounded(sizeInBytes));

    /// <summary>
    /// Returns the pages before <paramref name="end"/> to the system. The range stays mapped and is zero there when it is read again.
    /// </summary>
    public static void Discard(nint address, long sizeInBytes, long end)
    {
        nuint page = sizeInBytes < WorthHugePages ? (nuint)Environment.SystemPageSize : HugePage;
        _ = Advise(address, (nuint)end / page * page, AdviseUnneeded);
    }

    private static nuint Rounded(long sizeInBytes)
    {
        nuint page = sizeInBytes < WorthHugePages ? (nuint)Environment.SystemPageSize : HugePage;
        return ((nuint)sizeInBytes + page - 1) / page * page;
    }

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial nint MapPages(nint address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int UnmapPages(nint address, nuint length);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(nint address, nuint length, int advice);
}
