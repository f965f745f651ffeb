using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Tiller.Cpu;

/// <summary>
/// Memory that is needed next. While the processor works on what is in its cache, the memory would be idle; so a loop asks for a few lines after
/// every <see cref="Rows"/> rows. If it asked for all at once, its own reads would wait behind them.
/// </summary>
internal unsafe struct ReadAhead
{
    /// <summary>Rows of a loop between two calls of <see cref="Ask"/>.</summary>
    public const int Rows = 8;

    private const int LineInBytes = 64;

    private readonly byte* _end;
    private readonly int _sizeInBytes;
    private byte* _next;

    /// <summary>Divides some memory, or none if the address is 0, among a number of calls.</summary>
    public ReadAhead(nint address, int sizeInBytes, int calls)
    {
        _next = (byte*)address;
        _end = address == 0 ? null : _next + sizeInBytes;
        _sizeInBytes = (((sizeInBytes + calls - 1) / Math.Max(1, calls)) + LineInBytes - 1) / LineInBytes * LineInBytes;
    }

    /// <summary>Asks for the next lines, if any are left.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Ask()
    {
        if (_next < _end && Sse.IsSupported)
        {
            byte* until = _next + _sizeInBytes;
            for (; _next < until; _next += LineInBytes)
            {
                Sse.Prefetch1(_next);
            }
        }
    }
}
