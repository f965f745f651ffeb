// The host CUDA: a shared library with the driver, NVRTC, cuBLAS, cuBLASLt and cuSOLVER entry points that Tiller.Interop binds,
// running kernels on the CPU. A test instrument: it shows that managed code, launch arguments, graphs and kernel logic are right;
// it cannot show timing, memory ordering between blocks, or what a real driver refuses.
//
// One lock covers every call; streams run their work at once, in order.
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

// One step of a stream: run now, or kept in a graph.
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
    bool queued = false;      // work that on a GPU may be running still: nobody has waited for everything since
    long long eagerFrees = 0; // of memory or graphs in the meantime
    std::string lastFault; // what ended a launch, in words
};
State& state();

enum class Need { Nothing, Driver, Context, Release };

// Opens every entry point: takes the lock, counts the call, and gives the error that it must answer with at once, if any.
// A release does its work all the same and then answers with the error, as CUDA's do.
struct Call
{
    std::unique_lock<std::recursive_mutex> lock;
    int error;
    explicit Call(Need need, const char* function = __builtin_FUNCTION());
};

bool isSticky(int code);
int raise(int code); // remembers a sticky code, gives it back

// cuBLAS, cuSOLVER and NVRTC have their own codes: out of memory, failed execution.
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
void noteFree();                        // of memory or a graph
bool forbiddenByCapture();              // a call that no capture allows: invalidates the captures that forbid it

bool insideAllocation(std::uint64_t pointer, std::size_t bytes);
int checkGuards();                      // writes just outside an allocation: IllegalAddress
bool insideMapping(std::uint64_t address); // of device memory, with what rounds it up to pages
std::size_t liveMemory();

const KernelEntry* findKernel(const std::string& name);
bool sourceIsKnown(const std::string& source);
int runGrid(const KernelEntry& kernel, void** parameters, const unsigned grid[3], const unsigned block[3], std::size_t sharedBytes,
            bool dependent);
}
