// The driver's initialization, devices, primary context and errors, and the switches for tests.
#include "hostcuda.h"
#include <cstring>

using namespace tillerhost;

namespace
{
// Its address is the CUcontext, which must not be null. There is one device, so there is one primary context.
char primary;
thread_local void* current = nullptr;

struct Named
{
    int code;
    const char* name;
};
constexpr Named names[] = {
    {0, "CUDA_SUCCESS"},
    {1, "CUDA_ERROR_INVALID_VALUE"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY"},
    {3, "CUDA_ERROR_NOT_INITIALIZED"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE"},
    {100, "CUDA_ERROR_NO_DEVICE"},
    {101, "CUDA_ERROR_INVALID_DEVICE"},
    {200, "CUDA_ERROR_INVALID_IMAGE"},
    {201, "CUDA_ERROR_INVALID_CONTEXT"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE"},
    {220, "CUDA_ERROR_NVLINK_UNCORRECTABLE"},
    {400, "CUDA_ERROR_INVALID_HANDLE"},
    {401, "CUDA_ERROR_ILLEGAL_STATE"},
    {500, "CUDA_ERROR_NOT_FOUND"},
    {600, "CUDA_ERROR_NOT_READY"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT"},
    {710, "CUDA_ERROR_ASSERT"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
};

const Named* named(int code)
{
    for (const Named& n : names)
    {
        if (n.code == code) { return &n; }
    }
    return nullptr;
}
}

namespace tillerhost
{
State& state()
{
    static State& only = *new State; // outlives every static destructor of the process
    return only;
}

bool isSticky(int code)
{
    switch (code)
    {
        case 214: case 220: case 700: case 702: case 710: case 714: case 715: case 716: case 717: case 718: case 719: return true;
        default: return false;
    }
}

int raise(int code)
{
    if (isSticky(code) && !state().sticky) { state().sticky = code; }
    return code;
}

Call::Call(Need need, const char* function) : lock(state().lock), error(Success)
{
    State& s = state();
    s.calls++;
    s.callsOf[function]++;
    if (s.failAt > 0 && --s.failAt == 0) { error = raise(s.failCode); }
    else if (s.sticky && need != Need::Nothing) { error = s.sticky; }
    else if (!s.initialized && need != Need::Nothing) { error = NotInitialized; }
    else if (need == Need::Context && (!current || s.contexts == 0)) { error = InvalidContext; }
}
}

HOST_CUDA int cuInit(unsigned)
{
    Call call(Need::Nothing);
    if (call.error) { return call.error; }
    if (state().devices == 0) { return NoDevice; }
    state().initialized = true;
    return Success;
}
HOST_CUDA int cuDriverGetVersion(int* version)
{
    Call call(Need::Nothing);
    *version = state().driverVersion;
    return call.error;
}
HOST_CUDA int cuDeviceGetCount(int* count)
{
    Call call(Need::Driver);
    *count = state().devices;
    return call.error;
}
HOST_CUDA int cuDeviceGet(int* device, int ordinal)
{
    Call call(Need::Driver);
    if (call.error) { return call.error; }
    if (ordinal < 0 || ordinal >= state().devices) { return InvalidDevice; }
    *device = ordinal;
    return Success;
}
HOST_CUDA int cuDeviceGetName(char* name, int bytes, int)
{
    Call call(Need::Driver);
    if (call.error) { return call.error; }
    if (bytes <= 0) { return InvalidValue; }
    std::strncpy(name, "Tiller host CUDA (not a GPU)", std::size_t(bytes) - 1);
    name[bytes - 1] = 0;
    return Success;
}
HOST_CUDA int cuDeviceTotalMem_v2(std::size_t* bytes, int)
{
    Call call(Need::Driver);
    *bytes = state().deviceBytesAllowed;
    return call.error;
}
HOST_CUDA int cuDeviceGetAttribute(int* value, int attribute, int)
{
    Call call(Need::Driver);
    if (call.error) { return call.error; }
    switch (attribute) // CUdevice_attribute; the sizes are those of sm_90, with two multiprocessors
    {
        case 1: *value = 1024; break;          // MAX_THREADS_PER_BLOCK
        case 8: *value = 48 << 10; break;      // MAX_SHARED_MEMORY_PER_BLOCK
        case 10: *value = 32; break;           // WARP_SIZE
        case 16: *value = 2; break;            // MULTIPROCESSOR_COUNT
        case 38: *value = 50 << 20; break;     // L2_CACHE_SIZE
        case 39: *value = 2048; break;         // MAX_THREADS_PER_MULTIPROCESSOR
        case 75: *value = 9; break;            // COMPUTE_CAPABILITY_MAJOR
        case 76: *value = 0; break;            // COMPUTE_CAPABILITY_MINOR
        case 81: *value = 228 << 10; break;    // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        case 97: *value = 227 << 10; break;    // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        default: *value = 0; break;
    }
    return Success;
}
HOST_CUDA int cuDevicePrimaryCtxRetain(void** context, int device)
{
    Call call(Need::Driver);
    if (call.error) { return call.error; }
    if (device < 0 || device >= state().devices) { return InvalidDevice; }
    state().contexts++;
    *context = &primary;
    return Success;
}
HOST_CUDA int cuDevicePrimaryCtxRelease_v2(int)
{
    Call call(Need::Release);
    if (state().contexts == 0) { return InvalidContext; }
    state().contexts--;
    return call.error;
}
HOST_CUDA int cuCtxSetCurrent(void* context)
{
    Call call(Need::Driver);
    if (call.error) { return call.error; }
    if (context && (context != &primary || state().contexts == 0)) { return InvalidContext; }
    current = context;
    return Success;
}
HOST_CUDA int cuCtxSynchronize()
{
    Call call(Need::Context);
    return call.error ? call.error : forbiddenByCapture() ? CaptureUnsupported : Success;
}
HOST_CUDA int cuGetErrorName(int code, const char** text)
{
    const Named* n = named(code);
    *text = n ? n->name : nullptr;
    return n ? Success : InvalidValue;
}

// The number of memory allocations, pinned allocations, contexts, streams, events, modules, graphs and library handles that are not released.
HOST_CUDA std::int64_t tillerHostCudaLiveAllocations()
{
    const std::lock_guard lock(state().lock);
    return std::int64_t(liveMemory() + state().objects.size() + std::size_t(state().contexts));
}
HOST_CUDA std::int64_t tillerHostCudaCalls()
{
    const std::lock_guard lock(state().lock);
    return state().calls;
}
HOST_CUDA std::int64_t tillerHostCudaCallsOf(const char* function)
{
    const std::lock_guard lock(state().lock);
    const auto at = state().callsOf.find(function);
    return at == state().callsOf.end() ? 0 : at->second;
}
// How often memory or a graph was released that queued work might still use, because there was no wait for all work in between.
HOST_CUDA std::int64_t tillerHostCudaEagerFrees()
{
    const std::lock_guard lock(state().lock);
    return state().eagerFrees;
}
// A description of the last fault that ended a launch, with the kernel and the block; empty if there was none since the reset. The text stays valid
// until the next fault.
HOST_CUDA const char* tillerHostCudaLastFault()
{
    const std::lock_guard lock(state().lock);
    return state().lastFault.c_str();
}
// Makes the n-th call from now (1 is the next) fail with this CUresult; 0 cancels that.
HOST_CUDA void tillerHostCudaFailAt(std::int64_t n, int code)
{
    const std::lock_guard lock(state().lock);
    state().failAt = n;
    state().failCode = code;
}
HOST_CUDA void tillerHostCudaSetDriverVersion(int version)
{
    const std::lock_guard lock(state().lock);
    state().driverVersion = version;
}
HOST_CUDA void tillerHostCudaSetDeviceCount(int count)
{
    const std::lock_guard lock(state().lock);
    state().devices = count;
}
HOST_CUDA void tillerHostCudaSetMemory(std::int64_t bytes)
{
    const std::lock_guard lock(state().lock);
    state().deviceBytesAllowed = std::size_t(bytes);
}
// Resets sticky errors, which on a GPU last until the process ends, the switches, and the counters of calls. What is allocated stays allocated.
HOST_CUDA void tillerHostCudaReset()
{
    const std::lock_guard lock(state().lock);
    State& s = state();
    s.sticky = s.failCode = 0;
    s.calls = s.failAt = 0;
    s.callsOf.clear();
    s.lastFault.clear();
    s.initialized = false;
    s.driverVersion = 13000;
    s.devices = 1;
    s.deviceBytesAllowed = std::size_t(8) << 30;
}
