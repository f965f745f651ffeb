using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Tiller.Kernels;

namespace Tiller.Cpu;

/// <summary>The compiler of the products in vectors of 512 bits. The bits of the results do not depend on it.</summary>
internal enum Avx512Code
{
    /// <summary>None: the products use vectors of 256 bits.</summary>
    None,

    /// <summary>.NET's just-in-time compiler, on a processor with AVX-512, or its ahead-of-time compiler for processors with AVX-512 only.</summary>
    Managed,

    /// <summary>The C compiler (Avx512.c), in a program built ahead of time that also runs on processors without AVX-512.</summary>
    Native,
}

/// <summary>
/// The products of <see cref="CpuLinear"/> in vectors of 512 bits, and whether they are available. .NET compiles a program ahead of time either with
/// AVX-512, so that it needs such a processor, or without. A program without it is therefore linked with the same products in C
/// (Tiller.Engine.targets).
/// </summary>
internal static unsafe partial class Avx512
{
    private const string Library = "tiller_avx512";

    /// <summary>The code in use. Tests set it. A product that has begun continues with the code that it began with.</summary>
    public static Avx512Code Code { get; set; } = Best();

    /// <summary>
    /// Whether .NET itself compiles these products: whether it may use the AVX-512 instructions. DOTNET_PreferredVectorBitWidth has no effect on it,
    /// since it limits only the width that .NET chooses for its own vectors.
    /// </summary>
    public static bool IsManaged => Avx512F.IsSupported && Avx512DQ.IsSupported;

    /// <summary>Sums of four rows of W with up to four pairs of rows of x; see Avx512.c and <see cref="CpuLinear"/>.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_dots")]
    public static partial void Dots(WeightType type, int pairs, byte* w, nint stride, int outputs, byte* ahead, float* x, nint steps, float* sums);

    /// <summary>Computes C (+)= A B for a multiple of twelve rows.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_tiles")]
    public static partial void Tiles(float* a, nint aStride, int rows, float* b, nint depth, float* c, nint cStride, int add);

    /// <summary>Computes C += A' B for a multiple of eight rows, as <see cref="PanelTiles.Columns"/> does.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_columns")]
    public static partial void Columns(float* a, nint stride, int rows, float* b, nint bStride, nint depth, float* c);

    /// <summary>Runs rounds of twelve multiply-adds on float32 registers, to measure the processor.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_chains_single")]
    public static partial double ChainsSingle(nint rounds, double start);

    /// <summary>Runs rounds of twelve multiply-adds on float64 registers, to measure the processor.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_chains_double")]
    public static partial double ChainsDouble(nint rounds, double start);

    /// <summary>Whether the processor and the operating system support the functions above; 0 if not.</summary>
    [LibraryImport(Library, EntryPoint = "tiller_avx512_supported")]
    internal static partial int Supported();

    // DOTNET_EnableAVX512=0 turns AVX-512 off under the just-in-time compiler, and here in a program built ahead of time. Other settings that turn it
    // off under the just-in-time compiler, such as DOTNET_EnableHWIntrinsic=0, have no effect on such a program.
    private static Avx512Code Best() =>
        IsManaged ? Avx512Code.Managed
        : RuntimeFeature.IsDynamicCodeSupported || Environment.GetEnvironmentVariable("DOTNET_EnableAVX512") is "0" ? Avx512Code.None
        : HasNative() ? Avx512Code.Native : Avx512Code.None;

    // False if the program was linked without Avx512.c, or the processor lacks AVX-512. `tiller devices` and `tiller bench` show which vectors are in
    // use.
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
