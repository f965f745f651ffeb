using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>cuBLASLt (cublasLt.h), column-major. Results are cublasStatus_t.</summary>
internal static unsafe partial class CublasLtApi
{
    public const string Library = CudaLibraryResolver.CublasLt;

    static CublasLtApi() => CudaLibraryResolver.Register();

    [LibraryImport(Library)]
    public static partial int cublasLtCreate(nint* handle);

    [LibraryImport(Library)]
    public static partial int cublasLtDestroy(nint handle);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescCreate(nint* description, CublasComputeType computeType, CudaDataType scaleType);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescDestroy(nint description);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescSetAttribute(nint description, int attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutCreate(nint* layout, CudaDataType type, ulong rows, ulong columns, long ld);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutDestroy(nint layout);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceCreate(nint* preference);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceDestroy(nint preference);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceSetAttribute(nint preference, int attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulAlgoGetHeuristic(
        nint handle, nint description, nint a, nint b, nint c, nint d, nint preference, int asked,
        cublasLtMatmulHeuristicResult_t* results, int* found);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmul(
        nint handle, nint description, void* alpha, nint a, nint layoutA, nint b, nint layoutB, void* beta, nint c, nint layoutC, nint d,
        nint layoutD, cublasLtMatmulAlgo_t* algorithm, nint workspace, nuint workspaceBytes, nint stream);
}
