using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>cuBLAS (cublas_api.h), column-major. Results are cublasStatus_t.</summary>
internal static unsafe partial class CublasApi
{
    public const string Library = CudaLibraryResolver.Cublas;

    static CublasApi() => CudaLibraryResolver.Register();

    [LibraryImport(Library)]
    public static partial int cublasCreate_v2(nint* handle);

    [LibraryImport(Library)]
    public static partial int cublasDestroy_v2(nint handle);

    [LibraryImport(Library)]
    public static partial int cublasSetStream_v2(nint handle, nint stream);

    [LibraryImport(Library)]
    public static partial int cublasSetWorkspace_v2(nint handle, nint workspace, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasDgemm_v2(
        nint handle, CublasOperation transposeA, CublasOperation transposeB, int m, int n, int k, double* alpha, nint a, int lda, nint b,
        int ldb, double* beta, nint c, int ldc);
}
