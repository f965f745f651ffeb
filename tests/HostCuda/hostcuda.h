// The host CUDA: a shared library that has the entry points of the driver, NVRTC, cuBLAS, cuBLASLt and cuSOLVER which Tiller.Interop binds, and that
// runs kernels on the CPU. It is a test instrument: it shows whether managed code, launch arguments, graphs and the logic of kernels are right. It
// cannot show timing, the order of memory accesses between blocks, or what a real driver refuses.
//
// One lock covers every call. Streams run their work at once and in order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#define HOST_CUDA extern "C" __attribute__((visibility("default")))

namespace tillerhost
{
struct KernelEntry;

// CUresult values (cuda.h).
enum : int
{
    Success = 0, InvalidValue = 1, OutOfMemory = 2, NotInitialized = 3, NoDevice = 100, InvalidDevice = 101, InvalidImage = 200,
    InvalidContext = 201, NoBinaryForGpu = 209, InvalidHandle = 400, IllegalState = 401, NotFound = 500, NotReady = 600, IllegalAddress = 700,
    LaunchFailed = 719, CaptureUnsupported = 900, CaptureInvalidated = 901,
};

struct Object
{
    virtual ~Object() = default;
};

// One step of a stream, which is run at once or kept in a graph.
struct Node
{
    enum Kind { Kernel, Copy, Set, Library } kind;
    std::function<int()> run;
};

struct Graph : Object
{
    std::vector<Node> nodes;
};

struct Capture
{
    std::vector<Node> nodes;
    void* origin = nullptr;
    int mode = 0;
    bool invalid = false, ended = false;
};

struct Stream : Object
{
    std::shared_ptr<Capture> capture;
    bool capturing() const { return capture && !capture->ended; }
};

struct State
{
    std::recursive_mutex lock;
    std::unordered_map<void*, std::unique_ptr<Object>> objects;
    std::vector<std::weak_ptr<Capture>> captures;
    Stream defaultStream;
    bool initialized = false;
    int sticky = 0, contexts = 0;
    int driverVersion = 13000, devices = 1;
    std::size_t deviceBytes = 0, deviceBytesAllowed = std::size_t(8) << 30;
    long long calls = 0, failAt = 0;
    std::unordered_map<std::string, long long> callsOf; // by entry point
    int failCode = 0;
    bool queued = false;      // whether work was queued since the last wait for all work: on a GPU it might still run
    long long eagerFrees = 0; // how often memory or graphs were released while `queued`
    std::string lastFault;    // a description of the last fault that ended a launch
};
State& state();

enum class Need { Nothing, Driver, Context, Release };

// Every entry point begins with this: it takes the lock, counts the call, and says which error the call must return at once, if any.
// A call that releases something does so all the same and then returns the error, as CUDA's calls do.
struct Call
{
    std::unique_lock<std::recursive_mutex> lock;
    int error;
    explicit Call(Need need, const char* function = __builtin_FUNCTION());
};

bool isSticky(int code);
int raise(int code); // remembers a sticky code; returns the code

// cuBLAS, cuSOLVER and NVRTC have their own codes for success, for lack of memory and for a failure.
inline int blasStatus(int code) { return code == Success ? 0 : code == OutOfMemory ? 3 : 13; }
inline int solverStatus(int code) { return code == Success ? 0 : code == OutOfMemory ? 2 : 6; }

template <class T, class... A> T* make(A&&... a)
{
    auto object = std::make_unique<T>(std::forward<A>(a)...);
    T* handle = object.get();
    state().objects.emplace(handle, std::move(object));
    return handle;
}
template <class T> T* find(void* handle)
{
    const auto at = state().objects.find(handle);
    return at == state().objects.end() ? nullptr : dynamic_cast<T*>(at->second.get());
}
template <class T> bool destroy(void* handle) { return find<T>(handle) && state().objects.erase(handle) == 1; }

Stream* findStream(void* handle);       // null is the default stream
int runOrRecord(Stream& stream, Node node);
void noteFree();                        // memory or a graph is being released
bool forbiddenByCapture();              // whether a capture forbids the current call; if so, invalidates that capture

bool insideAllocation(std::uint64_t pointer, std::size_t bytes);
int checkGuards();                      // IllegalAddress if something was written just outside an allocation
bool insideMapping(std::uint64_t address); // whether an address is in the pages of device memory
std::size_t liveMemory();

const KernelEntry* findKernel(const std::string& name);
bool sourceIsKnown(const std::string& source);
int runGrid(const KernelEntry& kernel, void** parameters, const unsigned grid[3], const unsigned block[3], std::size_t sharedBytes,
            bool dependent);
}
