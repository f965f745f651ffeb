using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>NVRTC, run-time compilation of CUDA C++ (nvrtc.h). Results are nvrtcResult.</summary>
internal static unsafe partial class NvrtcApi
{
    public const string Library = CudaLibraryResolver.Nvrtc;

    static NvrtcApi() => CudaLibraryResolver.Register();

    [LibraryImport(Library)]
    public static partial int nvrtcVersion(int* major, int* minor);

    [LibraryImport(Library)]
    public static partial int nvrtcGetNumSupportedArchs(int* count);

    [LibraryImport(Library)]
    public static partial int nvrtcGetSupportedArchs(int* architectures);

    [LibraryImport(Library)]
    public static partial int nvrtcCreateProgram(nint* program, byte* source, byte* name, int headerCount, byte** headers, byte** includeNames);

    [LibraryImport(Library)]
    public static partial int nvrtcDestroyProgram(nint* program);

    [LibraryImport(Library)]
    public static partial int nvrtcCompileProgram(nint program, int optionCount, byte** options);

    [LibraryImport(Library)]
    public static partial int nvrtcGetProgramLogSize(nint program, nuint* bytes);

    [LibraryImport(Library)]
    public static partial int nvrtcGetProgramLog(nint program, byte* log);

    [LibraryImport(Library)]
    public static partial int nvrtcGetCUBINSize(nint program, nuint* bytes);

    [LibraryImport(Library)]
    public static partial int nvrtcGetCUBIN(nint program, byte* image);

    [LibraryImport(Library)]
    public static partial int nvrtcGetPTXSize(nint program, nuint* bytes);

    [LibraryImport(Library)]
    public static partial int nvrtcGetPTX(nint program, byte* image);
}
