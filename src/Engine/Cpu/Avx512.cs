using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Tiller.Kernels;

namespace Tiller.Cpu;

/// <summary>Who compiled the products in vectors of 512 bits; the bits do not depend on it.</summary>
internal enum Avx512Code
{
    /// <summary>Nobody: vectors of 256 bits.</summary>
    None,

    /// <summary>.NET, which takes the instructions for certain: the just-in-time compiler on a processor that has them.</summary>
    Managed,

    /// <summary>The C compiler that linked a program built ahead of time (Avx512.c), for processors with and without them.</summary>
    Native,
}

/// <summary>
/// The products of <see cref="CpuLinear"/> in vectors of 512 bits, and whether there are any. .NET compiles a program ahead of time with AVX-512 for
/// certain, so that it runs nowhere else, or without it; hence such a program is linked with the same products in C (Tiller.Engine.targets).
/// </summary>
internal static unsafe partial class Avx512
{
    private const string Library = "tiller_avx512";

    /// <summary>The code in use. Tests set it; a product that has begun keeps the one it began with.</summary>
    public static Avx512Code Code { get; set; } = Best();

    /// <summary>Whether .NET itself compiles these products here.</summary>
    public static bool IsManaged => Avx512F.IsSupported && Avx512DQ.IsSupported;

    /// <summary>Sums of four rows of W with up to four pairs of rows of x: see Avx512.c and <see cref="CpuLinear"/>.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_dots")]
    public static partial void Dots(WeightType type, int pairs, byte* w, nint stride, int outputs, float* x, nint steps, float* sums);

    /// <summary>C (+)= A B for a multiple of twelve rows.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_tiles")]
    public static partial void Tiles(float* a, nint aStride, int rows, float* b, nint depth, float* c, nint cStride, int add);

    /// <summary>C += A' B for a multiple of eight rows: see <see cref="PanelTiles.Columns"/>.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_columns")]
    public static partial void Columns(float* a, nint stride, int rows, float* b, nint depth, float* c);

    /// <summary>Twelve multiply-adds a round on registers of float32, which measures the processor.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_chains_single")]
    public static partial double ChainsSingle(nint rounds, double start);

    /// <summary>As <see cref="ChainsSingle"/>, of float64.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_chains_double")]
    public static partial double ChainsDouble(nint rounds, double start);

    /// <summary>Whether the processor and the system have what the functions above take.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_supported")]
    internal static partial int Supported();

    // DOTNET_EnableAVX512=0, which keeps the just-in-time compiler from AVX-512, keeps a program built ahead of time from it too.
    private static Avx512Code Best() =>
        IsManaged ? Avx512Code.Managed
        : RuntimeFeature.IsDynamicCodeSupported || Environment.GetEnvironmentVariable("DOTNET_EnableAVX512") is "0" ? Avx512Code.None
        : HasNative() ? Avx512Code.Native : Avx512Code.None;

    // A program that was linked without the file has none of its functions; `tiller devices` and `tiller bench` tell which vectors are used.
    private static bool HasNative()
    {
        try
        {
            return Supported() != 0;
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            return false;
        }
    }
}
