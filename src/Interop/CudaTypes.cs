using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>Result of a driver call (cuda.h). Only the codes that Tiller distinguishes have names here.</summary>
internal enum CUresult
{
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_STUB_LIBRARY = 34,

    // 35 and 36 are codes of the runtime API, without names in cuda.h of CUDA 12.4. Wrappers of a driver (MPS, compatibility packages) may return
    // them.
    CUDA_ERROR_INSUFFICIENT_DRIVER = 35,
    CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER = 36,
    CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
    CUDA_ERROR_ECC_UNCORRECTABLE = 214,
    CUDA_ERROR_INVALID_PTX = 218,
    CUDA_ERROR_NVLINK_UNCORRECTABLE = 220,
    CUDA_ERROR_JIT_COMPILER_NOT_FOUND = 221,
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_TIMEOUT = 702,
    CUDA_ERROR_ASSERT = 710,
    CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
    CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
    CUDA_ERROR_MISALIGNED_ADDRESS = 716,
    CUDA_ERROR_INVALID_ADDRESS_SPACE = 717,
    CUDA_ERROR_INVALID_PC = 718,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
    CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE = 804,
}

/// <summary>Device properties for cuDeviceGetAttribute (cuda.h).</summary>
public enum CUdevice_attribute
{
    /// <summary>Maximum number of threads in a block.</summary>
    MaxThreadsPerBlock = 1,

    /// <summary>Number of threads in a warp.</summary>
    WarpSize = 10,

    /// <summary>Number of streaming multiprocessors.</summary>
    MultiprocessorCount = 16,

    /// <summary>Size of the L2 cache in bytes.</summary>
    L2CacheSize = 38,

    /// <summary>Maximum number of resident threads per multiprocessor.</summary>
    MaxThreadsPerMultiprocessor = 39,

    /// <summary>X of compute capability X.Y.</summary>
    ComputeCapabilityMajor = 75,

    /// <summary>Y of compute capability X.Y.</summary>
    ComputeCapabilityMinor = 76,

    /// <summary>Bytes of shared memory per multiprocessor.</summary>
    MaxSharedMemoryPerMultiprocessor = 81,

    /// <summary>Bytes of shared memory per block that a kernel may request.</summary>
    MaxSharedMemoryPerBlockOptin = 97,
}

/// <summary>Kernel properties for cuFuncGetAttribute (cuda.h).</summary>
public enum CUfunction_attribute
{
    /// <summary>Maximum number of threads in a block, limited by the registers that the kernel needs.</summary>
    MaxThreadsPerBlock = 0,

    /// <summary>Bytes of static shared memory.</summary>
    SharedSizeBytes = 1,

    /// <summary>Bytes of local memory per thread: spills and indexed arrays.</summary>
    LocalSizeBytes = 3,

    /// <summary>Registers per thread.</summary>
    NumRegs = 4,

    /// <summary>Maximum size in bytes of a launch's dynamic shared memory; may be set.</summary>
    MaxDynamicSharedSizeBytes = 8,

    /// <summary>Preferred size of the shared memory, in percent of the maximum; -1 for the driver's choice; may be set.</summary>
    PreferredSharedMemoryCarveout = 9,
}

/// <summary>Element types of cuBLAS and cuSOLVER operands (library_types.h).</summary>
public enum CudaDataType
{
    /// <summary>32-bit float.</summary>
    R32F = 0,

    /// <summary>64-bit float.</summary>
    R64F = 1,

    /// <summary>IEEE half.</summary>
    R16F = 2,

    /// <summary>bfloat16.</summary>
    R16BF = 14,
}

/// <summary>cublasOperation_t.</summary>
public enum CublasOperation
{
    /// <summary>The matrix as stored.</summary>
    NonTranspose = 0,

    /// <summary>Its transpose.</summary>
    Transpose = 1,
}

/// <summary>cublasFillMode_t: the triangle that stores a symmetric matrix or a factor, column-major.</summary>
public enum CublasFillMode
{
    /// <summary>Lower triangle.</summary>
    Lower = 0,

    /// <summary>Upper triangle.</summary>
    Upper = 1,
}

/// <summary>cublasComputeType_t: the precision of products and sums.</summary>
public enum CublasComputeType
{
    /// <summary>FP32 accumulation.</summary>
    F32 = 68,

    /// <summary>FP64 accumulation.</summary>
    F64 = 70,
}

/// <summary>CUlaunchAttribute: an id and 64 bytes of value.</summary>
[StructLayout(LayoutKind.Explicit, Size = 72)]
internal struct CUlaunchAttribute
{
    public const uint ProgrammaticStreamSerialization = 6;

    [FieldOffset(0)]
    public uint id;

    [FieldOffset(8)]
    public int programmaticStreamSerializationAllowed;
}

/// <summary>CUlaunchConfig.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct CUlaunchConfig
{
    public uint gridDimX;
    public uint gridDimY;
    public uint gridDimZ;
    public uint blockDimX;
    public uint blockDimY;
    public uint blockDimZ;
    public uint sharedMemBytes;
    public nint hStream;
    public CUlaunchAttribute* attrs;
    public uint numAttrs;
}

[InlineArray(8)]
internal struct EightWords
{
    private ulong first;
}

[InlineArray(4)]
internal struct FourInts
{
    private int first;
}

/// <summary>cublasLtMatmulAlgo_t: an opaque algorithm choice.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct cublasLtMatmulAlgo_t
{
    public EightWords data;
}

/// <summary>cublasLtMatmulHeuristicResult_t.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct cublasLtMatmulHeuristicResult_t
{
    public cublasLtMatmulAlgo_t algo;
    public nuint workspaceSize;
    public int state;
    public float wavesCount;
    public FourInts reserved;
}
