using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>
/// cuBLASLt matrix products with FP32 (or, for double, FP64) sums, column-major. The algorithm is chosen once for each shape and kept, so that a
/// shape always uses the same one. Only one thread and one stream may use it at a time, because the calls share a workspace of 32 MiB.
/// </summary>
public sealed unsafe class CudaBlasLt : CudaHandle
{
    /// <summary>
    /// Alignment of the operands in bytes. Only algorithms that need no larger alignment are chosen; by default the library would assume 256.
    /// </summary>
    public const int AlignmentInBytes = 16;

    private const int TransA = 3, TransB = 4; // cublasLtMatmulDescAttributes_t
    private const int MaxWorkspaceBytes = 1, MinAlignmentA = 5, MinAlignmentD = 8; // cublasLtMatmulPreferenceAttributes_t

    private readonly CudaDeviceVariable<byte> workspace;
    private readonly Dictionary<Shape, Plan> plans = [];

    /// <summary>Creates a handle.</summary>
    /// <exception cref="CudaLibraryMissingException">There is no cuBLASLt.</exception>
    public CudaBlasLt(PrimaryContext context)
        : base(context)
    {
        CudaLibraryResolver.Load(CudaLibraryResolver.CublasLt);
        workspace = new CudaDeviceVariable<byte>(context, CudaBlas.WorkspaceInBytes, "cuBLASLt workspace");
        try
        {
            context.Enter();
            nint created;
            CudaBlas.Check(context, CublasLtApi.cublasLtCreate(&created), nameof(CublasLtApi.cublasLtCreate));
            Own(created);
        }
        catch
        {
            workspace.Dispose();
            throw;
        }
    }

    /// <summary>Number of shapes whose algorithm is kept, for tests.</summary>
    internal int PlanCount => plans.Count;

    /// <summary>
    /// Computes C ← α·op(A)·op(B) + β·C; op(A) is (m, k), op(B) is (k, n). A and B have the same type; the type of C may differ. All matrices start
    /// at multiples of <see cref="AlignmentInBytes"/>. For a known shape nothing is allocated.
    /// </summary>
    /// <exception cref="ArgumentException">A matrix is not aligned.</exception>
    public void Matmul(CublasOperation transposeA, CublasOperation transposeB, int m, int n, int k, double alpha, nint a, int lda, nint b, int ldb,
        CudaDataType typeAB, double beta, nint c, int ldc, CudaDataType typeC, CudaStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CheckAlignment(a, nameof(a));
        CheckAlignment(b, nameof(b));
        CheckAlignment(c, nameof(c));
        Context.Enter();
        var shape = new Shape(transposeA, transposeB, m, n, k, lda, ldb, ldc, typeAB, typeC);
        if (!plans.TryGetValue(shape, out Plan? plan))
        {
            plan = new Plan(Context, Native, shape);
            plans.Add(shape, plan);
        }

        float alpha32 = (float)alpha, beta32 = (float)beta;
        bool wide = typeC == CudaDataType.R64F;
        cublasLtMatmulAlgo_t algorithm = plan.Algorithm;
        CudaBlas.Check(Context, CublasLtApi.cublasLtMatmul(Native, plan.Description, wide ? &alpha : &alpha32, a, plan.LayoutA, b, plan.LayoutB,
            wide ? &beta : &beta32, c, plan.LayoutC, c, plan.LayoutC, &algorithm, workspace.DevicePointer, CudaBlas.WorkspaceInBytes, stream.Native),
            nameof(CublasLtApi.cublasLtMatmul), m, n, k);
    }

    private static void CheckAlignment(nint address, string name)
    {
        if (address % AlignmentInBytes != 0)
        {
            throw new ArgumentException($"A matrix of a product starts at a multiple of {AlignmentInBytes} bytes, this one at 0x{address:x}.", name);
        }
    }

    private protected override bool Release(nint native)
    {
        foreach (Plan plan in plans.Values)
        {
            plan.Release();
        }

        plans.Clear();
        bool released = CublasLtApi.cublasLtDestroy(native) == 0;
        workspace.Dispose();
        return released;
    }

    [StructLayout(LayoutKind.Auto)]
    private readonly record struct Shape(CublasOperation TransposeA, CublasOperation TransposeB, int M, int N, int K, int LdA, int LdB, int LdC,
        CudaDataType TypeAB, CudaDataType TypeC);

    /// <summary>The descriptors of one shape and its chosen algorithm.</summary>
    private sealed class Plan
    {
        private nint description, layoutA, layoutB, layoutC;

        public Plan(PrimaryContext context, nint handle, in Shape s)
        {
            try
            {
                Create(context, handle, s);
            }
            catch
            {
                Release();
                throw;
            }
        }

        public nint Description => description;

        public nint LayoutA => layoutA;

        public nint LayoutB => layoutB;

        public nint LayoutC => layoutC;

        public cublasLtMatmulAlgo_t Algorithm { get; private set; }

        public void Release()
        {
            _ = layoutA == 0 ? 0 : CublasLtApi.cublasLtMatrixLayoutDestroy(layoutA);
            _ = layoutB == 0 ? 0 : CublasLtApi.cublasLtMatrixLayoutDestroy(layoutB);
            _ = layoutC == 0 ? 0 : CublasLtApi.cublasLtMatrixLayoutDestroy(layoutC);
            _ = description == 0 ? 0 : CublasLtApi.cublasLtMatmulDescDestroy(description);
            layoutA = layoutB = layoutC = description = 0;
        }

        private void Create(PrimaryContext context, nint handle, in Shape s)
        {
            bool wide = s.TypeC == CudaDataType.R64F;
            nint made;
            CudaBlas.Check(context, CublasLtApi.cublasLtMatmulDescCreate(&made, wide ? CublasComputeType.F64 : CublasComputeType.F32,
                wide ? CudaDataType.R64F : CudaDataType.R32F), nameof(CublasLtApi.cublasLtMatmulDescCreate));
            description = made;
            CublasOperation a = s.TransposeA, b = s.TransposeB;
            CudaBlas.Check(context, CublasLtApi.cublasLtMatmulDescSetAttribute(description, TransA, &a, sizeof(int)),
                nameof(CublasLtApi.cublasLtMatmulDescSetAttribute));
            CudaBlas.Check(context, CublasLtApi.cublasLtMatmulDescSetAttribute(description, TransB, &b, sizeof(int)),
                nameof(CublasLtApi.cublasLtMatmulDescSetAttribute));
            layoutA = Layout(context, s.TypeAB, a == CublasOperation.NonTranspose ? s.M : s.K, a == CublasOperation.NonTranspose ? s.K : s.M, s.LdA);
            layoutB = Layout(context, s.TypeAB, b == CublasOperation.NonTranspose ? s.K : s.N, b == CublasOperation.NonTranspose ? s.N : s.K, s.LdB);
            layoutC = Layout(context, s.TypeC, s.M, s.N, s.LdC);
            CudaBlas.Check(context, CublasLtApi.cublasLtMatmulPreferenceCreate(&made), nameof(CublasLtApi.cublasLtMatmulPreferenceCreate));
            nint preference = made;
            try
            {
                ulong bytes = CudaBlas.WorkspaceInBytes;
                CudaBlas.Check(context, CublasLtApi.cublasLtMatmulPreferenceSetAttribute(preference, MaxWorkspaceBytes, &bytes, sizeof(ulong)),
                    nameof(CublasLtApi.cublasLtMatmulPreferenceSetAttribute));
                uint alignment = AlignmentInBytes;
                for (int attribute = MinAlignmentA; attribute <= MinAlignmentD; attribute++)
                {
                    CudaBlas.Check(context, CublasLtApi.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment, sizeof(uint)),
                        nameof(CublasLtApi.cublasLtMatmulPreferenceSetAttribute));
                }

                cublasLtMatmulHeuristicResult_t best;
                int found = 0;
                const string Call = nameof(CublasLtApi.cublasLtMatmulAlgoGetHeuristic);
                CudaBlas.Check(context, CublasLtApi.cublasLtMatmulAlgoGetHeuristic(handle, description, layoutA, layoutB, layoutC, layoutC,
                    preference, 1, &best, &found), Call, s.M, s.N, s.K);
                CudaBlas.Check(context, found > 0 ? best.state : 15, Call, s.M, s.N, s.K); // 15: no algorithm supports this shape
                Algorithm = best.algo;
            }
            finally
            {
                _ = CublasLtApi.cublasLtMatmulPreferenceDestroy(preference);
            }
        }

        private static nint Layout(PrimaryContext context, CudaDataType type, int rows, int columns, int ld)
        {
            nint layout;
            CudaBlas.Check(context, CublasLtApi.cublasLtMatrixLayoutCreate(&layout, type, (ulong)rows, (ulong)columns, ld),
                nameof(CublasLtApi.cublasLtMatrixLayoutCreate));
            return layout;
        }
    }
}
