namespace Tiller.Interop;

/// <summary>
/// cuBLAS on one stream, with its own workspace of 32 MiB so that its calls can be captured. Matrices are column-major with a leading dimension, as
/// in NVIDIA's API; a row-major product C = A·B is the column-major product C' = B'·A'. Scalars are on the host.
/// </summary>
public sealed unsafe class CudaBlas : CudaHandle
{
    internal const int WorkspaceInBytes = 32 << 20;

    private readonly CudaDeviceVariable<byte> workspace;

    /// <summary>Creates a handle on a stream.</summary>
    /// <exception cref="CudaLibraryMissingException">There is no cuBLAS.</exception>
    public CudaBlas(PrimaryContext context, CudaStream stream)
        : base(context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CudaLibraryResolver.Load(CudaLibraryResolver.Cublas);
        workspace = new CudaDeviceVariable<byte>(context, WorkspaceInBytes, "cuBLAS workspace");
        try
        {
            context.Enter();
            nint created;
            Check(context, CublasApi.cublasCreate_v2(&created), nameof(CublasApi.cublasCreate_v2));
            Own(created);
            // The stream must be set first, because setting it resets the workspace.
            Check(context, CublasApi.cublasSetStream_v2(created, stream.Native), nameof(CublasApi.cublasSetStream_v2));
            Check(context, CublasApi.cublasSetWorkspace_v2(created, workspace.DevicePointer, WorkspaceInBytes),
                nameof(CublasApi.cublasSetWorkspace_v2));
        }
        catch
        {
            Dispose();
            workspace.Dispose();
            throw;
        }
    }

    /// <summary>Computes C ← α·op(A)·op(B) + β·C in double; op(A) is (m, k), op(B) is (k, n).</summary>
    public void Dgemm(CublasOperation transposeA, CublasOperation transposeB, int m, int n, int k, double alpha, nint a, int lda, nint b, int ldb,
        double beta, nint c, int ldc)
    {
        Context.Enter();
        Check(Context, CublasApi.cublasDgemm_v2(Native, transposeA, transposeB, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc),
            nameof(CublasApi.cublasDgemm_v2), m, n, k);
    }

    internal static void Check(PrimaryContext context, int status, string call)
    {
        if (status != 0)
        {
            throw context.FailLibrary(status, StatusName(status), status == AllocFailed, call, null);
        }
    }

    internal static void Check(PrimaryContext context, int status, string call, long m, long n, long k)
    {
        if (status != 0)
        {
            throw context.FailLibrary(status, StatusName(status), status == AllocFailed, call, $"m {m}, n {n}, k {k}");
        }
    }

    private const int AllocFailed = 3;

    private static string StatusName(int status) => status switch
    {
        1 => "CUBLAS_STATUS_NOT_INITIALIZED",
        AllocFailed => "CUBLAS_STATUS_ALLOC_FAILED",
        7 => "CUBLAS_STATUS_INVALID_VALUE",
        8 => "CUBLAS_STATUS_ARCH_MISMATCH",
        11 => "CUBLAS_STATUS_MAPPING_ERROR",
        13 => "CUBLAS_STATUS_EXECUTION_FAILED",
        14 => "CUBLAS_STATUS_INTERNAL_ERROR",
        15 => "CUBLAS_STATUS_NOT_SUPPORTED",
        16 => "CUBLAS_STATUS_LICENSE_ERROR",
        _ => $"cublasStatus_t {status}",
    };

    private protected override bool Release(nint native)
    {
        bool released = CublasApi.cublasDestroy_v2(native) == 0;
        workspace.Dispose();
        return released;
    }
}
