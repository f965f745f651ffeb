using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>CUDA driver API, libcuda (cuda.h). The entry points are those of CUDA 12.0 and later.</summary>
internal static unsafe partial class DriverApi
{
    public const string Library = CudaLibraryResolver.Driver;

    static DriverApi() => CudaLibraryResolver.Register();

    [LibraryImport(Library)]
    public static partial CUresult cuInit(uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuDriverGetVersion(int* driverVersion);

    [LibraryImport(Library)]
    public static partial CUresult cuGetErrorName(CUresult error, byte** name);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGetCount(int* count);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGet(int* device, int ordinal);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGetName(byte* name, int length, int device);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, int device);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceTotalMem_v2(nuint* bytes, int device);

    [LibraryImport(Library)]
    public static partial CUresult cuDevicePrimaryCtxRetain(nint* context, int device);

    [LibraryImport(Library)]
    public static partial CUresult cuDevicePrimaryCtxRelease_v2(int device);

    [LibraryImport(Library)]
    public static partial CUresult cuCtxSetCurrent(nint context);

    [LibraryImport(Library)]
    public static partial CUresult cuCtxSynchronize();

    [LibraryImport(Library)]
    public static partial CUresult cuMemGetInfo_v2(nuint* free, nuint* total);

    [LibraryImport(Library)]
    public static partial CUresult cuMemAlloc_v2(nint* pointer, nuint bytes);

    [LibraryImport(Library)]
    public static partial CUresult cuMemFree_v2(nint pointer);

    [LibraryImport(Library)]
    public static partial CUresult cuMemHostAlloc(nint* pointer, nuint bytes, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuMemFreeHost(nint pointer);

    [LibraryImport(Library)]
    public static partial CUresult cuMemsetD8Async(nint pointer, byte value, nuint count, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyHtoD_v2(nint destination, void* source, nuint bytes);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyDtoH_v2(void* destination, nint source, nuint bytes);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyHtoDAsync_v2(nint destination, void* source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyDtoHAsync_v2(void* destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyDtoDAsync_v2(nint destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamCreate(nint* stream, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamDestroy_v2(nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamSynchronize(nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamQuery(nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamBeginCapture_v2(nint stream, int mode);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamEndCapture(nint stream, nint* graph);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamIsCapturing(nint stream, int* status);

    [LibraryImport(Library)]
    public static partial CUresult cuEventCreate(nint* event_, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuEventDestroy_v2(nint event_);

    [LibraryImport(Library)]
    public static partial CUresult cuEventRecord(nint event_, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuEventSynchronize(nint event_);

    [LibraryImport(Library)]
    public static partial CUresult cuEventElapsedTime(float* milliseconds, nint start, nint end);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleLoadDataEx(nint* module, byte* image, uint optionCount, int* options, void** values);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleUnload(nint module);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleGetFunction(nint* function, nint module, byte* name);

    [LibraryImport(Library)]
    public static partial CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, nint function);

    [LibraryImport(Library)]
    public static partial CUresult cuFuncSetAttribute(nint function, CUfunction_attribute attribute, int value);

    [LibraryImport(Library)]
    public static partial CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, nint function, int blockSize, nuint dynamicSharedBytes);

    [LibraryImport(Library)]
    public static partial CUresult cuLaunchKernelEx(CUlaunchConfig* config, nint function, void** parameters, void** extra);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphDestroy(nint graph);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphGetNodes(nint graph, nint* nodes, nuint* count);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphInstantiateWithFlags(nint* exec, nint graph, ulong flags);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphExecDestroy(nint exec);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphLaunch(nint exec, nint stream);
}
