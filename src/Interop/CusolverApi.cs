using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>cuSOLVER's dense 64-bit API (cusolverDn.h), column-major. Results are cusolverStatus_t.</summary>
internal static unsafe partial class CusolverApi
{
    public const string Library = CudaLibraryResolver.Cusolver;

    static CusolverApi() => CudaLibraryResolver.Register();

    [LibraryImport(Library)]
    public static partial int cusolverDnCreate(nint* handle);

    [LibraryImport(Library)]
    public static partial int cusolverDnDestroy(nint handle);

    [LibraryImport(Library)]
    public static partial int cusolverDnSetStream(nint handle, nint stream);

    [LibraryImport(Library)]
    public static partial int cusolverDnCreateParams(nint* parameters);

    [LibraryImport(Library)]
    public static partial int cusolverDnDestroyParams(nint parameters);

    [LibraryImport(Library)]
    public static partial int cusolverDnXpotrf_bufferSize(
        nint handle, nint parameters, CublasFillMode uplo, long n, CudaDataType typeA, nint a, long lda, CudaDataType computeType,
        nuint* deviceBytes, nuint* hostBytes);

    [LibraryImport(Library)]
    public static partial int cusolverDnXpotrf(
        nint handle, nint parameters, CublasFillMode uplo, long n, CudaDataType typeA, nint a, long lda, CudaDataType computeType,
        nint workspace, nuint workspaceBytes, void* hostWorkspace, nuint hostBytes, nint info);

    [LibraryImport(Library)]
    public static partial int cusolverDnXpotrs(
        nint handle, nint parameters, CublasFillMode uplo, long n, long columns, CudaDataType typeA, nint a, long lda, CudaDataType typeB,
        nint b, long ldb, nint info);
}
