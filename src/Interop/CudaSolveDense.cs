namespace Tiller.Interop;

/// <summary>
/// cuSOLVER's dense factorisations on one stream, in double or float, column-major. Each call waits and returns LAPACK's info; 0 means success. They
/// cannot be captured. Workspaces grow to the largest requested size and are kept.
/// </summary>
public sealed unsafe class CudaSolveDense : CudaHandle
{
    private readonly CudaStream stream;
    private readonly CudaDeviceVariable<int> info;
    private CudaDeviceVariable<byte>? workspace;
    private byte[] hostWorkspace = [];
    private nint parameters;

    /// <summary>Creates a handle on a stream.</summary>
    /// <exception cref="CudaLibraryMissingException">There is no cuSOLVER.</exception>
    public CudaSolveDense(PrimaryContext context, CudaStream stream)
        : base(context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CudaLibraryResolver.Load(CudaLibraryResolver.Cusolver);
        this.stream = stream;
        info = new CudaDeviceVariable<int>(context, 1, "cuSOLVER info");
        try
        {
            context.Enter();
            nint created;
            Check(CusolverApi.cusolverDnCreate(&created), nameof(CusolverApi.cusolverDnCreate));
            Own(created);
            Check(CusolverApi.cusolverDnSetStream(created, stream.Native), nameof(CusolverApi.cusolverDnSetStream));
            Check(CusolverApi.cusolverDnCreateParams(&created), nameof(CusolverApi.cusolverDnCreateParams));
            parameters = created;
        }
        catch
        {
            Dispose();
            info.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Factors A = L·L' or U'·U in place, A symmetric (n, n). Info i > 0 means that the leading minor of order i is not positive definite.
    /// </summary>
    public int Potrf(CublasFillMode uplo, long n, CudaDataType type, nint a, long lda)
    {
        Context.Enter();
        nuint device, host;
        Check(CusolverApi.cusolverDnXpotrf_bufferSize(Native, parameters, uplo, n, type, a, lda, type, &device, &host),
            nameof(CusolverApi.cusolverDnXpotrf_bufferSize), n);
        Reserve(device, host);
        fixed (byte* h = hostWorkspace)
        {
            Check(CusolverApi.cusolverDnXpotrf(Native, parameters, uplo, n, type, a, lda, type, workspace!.DevicePointer, (nuint)workspace.Length, h,
                (nuint)hostWorkspace.Length, info.DevicePointer), nameof(CusolverApi.cusolverDnXpotrf), n);
            return ReadInfo();
        }
    }

    /// <summary>Solves A·X = B in place of B (n, columns), with the factor from <see cref="Potrf"/>.</summary>
    public int Potrs(CublasFillMode uplo, long n, long columns, CudaDataType type, nint a, long lda, nint b, long ldb)
    {
        Context.Enter();
        Check(CusolverApi.cusolverDnXpotrs(Native, parameters, uplo, n, columns, type, a, lda, type, b, ldb, info.DevicePointer),
            nameof(CusolverApi.cusolverDnXpotrs), n);
        return ReadInfo();
    }

    private protected override bool Release(nint native)
    {
        if (parameters != 0)
        {
            _ = CusolverApi.cusolverDnDestroyParams(parameters);
        }

        bool released = CusolverApi.cusolverDnDestroy(native) == 0;
        workspace?.Dispose();
        info.Dispose();
        return released;
    }

    private void Reserve(nuint deviceBytes, nuint hostBytes)
    {
        if (workspace is null || (nuint)workspace.Length < deviceBytes)
        {
            workspace?.Dispose();
            workspace = null;
            workspace = new CudaDeviceVariable<byte>(Context, Math.Max(1, (long)deviceBytes), "cuSOLVER workspace");
        }

        if ((nuint)hostWorkspace.Length < hostBytes)
        {
            hostWorkspace = GC.AllocateUninitializedArray<byte>(checked((int)hostBytes), pinned: true);
        }
    }

    // The call's work is on the stream: waits for it, then reads info.
    private int ReadInfo()
    {
        stream.Synchronize();
        int value = 0;
        info.CopyToHost(new Span<int>(ref value));
        return value;
    }

    private void Check(int status, string call, long size = 0)
    {
        if (status != 0)
        {
            throw Context.FailLibrary(status, StatusName(status), status == AllocFailed, call, size == 0 ? null : $"a matrix of {size} rows");
        }
    }

    private const int AllocFailed = 2;

    private static string StatusName(int status) => status switch
    {
        1 => "CUSOLVER_STATUS_NOT_INITIALIZED",
        AllocFailed => "CUSOLVER_STATUS_ALLOC_FAILED",
        3 => "CUSOLVER_STATUS_INVALID_VALUE",
        4 => "CUSOLVER_STATUS_ARCH_MISMATCH",
        5 => "CUSOLVER_STATUS_MAPPING_ERROR",
        6 => "CUSOLVER_STATUS_EXECUTION_FAILED",
        7 => "CUSOLVER_STATUS_INTERNAL_ERROR",
        8 => "CUSOLVER_STATUS_MATRIX_TYPE_NOT_SUPPORTED",
        9 => "CUSOLVER_STATUS_NOT_SUPPORTED",
        _ => $"cusolverStatus_t {status}",
    };
}
