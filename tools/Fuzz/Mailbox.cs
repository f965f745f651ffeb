using System.IO.MemoryMappedFiles;

namespace Tiller.Fuzz;

/// <summary>
/// Memory shared by both processes, with the input that the child is reading, so that the parent knows it if the child dies or hangs.
/// </summary>
internal sealed unsafe class Mailbox : IDisposable
{
    private const int Capacity = 8 << 20;
    private const int Header = 16; // i64 number of the input, or 0 between inputs; i32 length

    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _start;

    public Mailbox(string path)
    {
        _file = MemoryMappedFile.CreateFromFile(path, FileMode.OpenOrCreate, mapName: null, Capacity);
        _view = _file.CreateViewAccessor();
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _start);
    }

    /// <summary>Number of the present input, counted from 1; 0 between inputs.</summary>
    public long Current => Volatile.Read(ref *(long*)_start);

    /// <summary>The present input.</summary>
    public byte[] Input
        => new ReadOnlySpan<byte>(_start + Header, Math.Clamp(Volatile.Read(ref *(int*)(_start + 8)), 0, Capacity - Header)).ToArray();

    public void Begin(long number, ReadOnlySpan<byte> input)
    {
        input.CopyTo(new Span<byte>(_start + Header, Capacity - Header));
        Volatile.Write(ref *(int*)(_start + 8), input.Length);
        Volatile.Write(ref *(long*)_start, number);
    }

    public void End() => Volatile.Write(ref *(long*)_start, 0);

    public void Dispose()
    {
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _file.Dispose();
    }
}
