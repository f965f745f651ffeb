// Device memory. Each allocation has its own mapping, between two regions of 1 MiB where every access faults. Its first 4 MiB hold NaN until
// something is written there. The bytes between the allocation and these regions hold a pattern, and every launch checks all of those after it and up
// to 64 of those before it. A mapping that was freed stays inaccessible for a while.
#include "hostcuda.h"
#include "races.h"
#include <cstring>
#include <deque>
#include <sys/mman.h>

using namespace tillerhost;

namespace
{
constexpr std::size_t page = 4096, zone = 1 << 20, guardBytes = 64, quarantine = 512, poisonedBytes = 4 << 20;
constexpr unsigned char guardPattern = 0xA5;

struct Allocation
{
    char* mapping;
    std::size_t mappingBytes, bytes;
};

std::map<std::uint64_t, Allocation> allocations; // by the address of the first byte
std::map<void*, std::size_t> pinned;
std::deque<Allocation> freed;

bool guardsHold(std::uint64_t start, const Allocation& a)
{
    const auto* first = reinterpret_cast<const unsigned char*>(start);
    for (const unsigned char* p = first + a.bytes; p < reinterpret_cast<unsigned char*>(a.mapping) + a.mappingBytes - zone; p++)
    {
        if (*p != guardPattern) { return false; }
    }
    const auto* opened = reinterpret_cast<const unsigned char*>(a.mapping) + zone;
    for (std::size_t i = 1; i <= guardBytes && first - i >= opened; i++)
    {
        if (first[-std::ptrdiff_t(i)] != guardPattern) { return false; }
    }
    return true;
}

int copy(std::uint64_t to, std::uint64_t from, std::size_t bytes)
{
    if (bytes) { std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes); }
    return Success;
}

int copyNow(std::uint64_t to, bool toDevice, std::uint64_t from, bool fromDevice, std::size_t bytes)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    if (forbiddenByCapture()) { return CaptureUnsupported; }
    if ((toDevice && !insideAllocation(to, bytes)) || (fromDevice && !insideAllocation(from, bytes))) { return InvalidValue; }
    return copy(to, from, bytes);
}

int copyLater(std::uint64_t to, bool toDevice, std::uint64_t from, bool fromDevice, std::size_t bytes, void* stream,
              const char* function = __builtin_FUNCTION())
{
    Call call(Need::Context, function);
    if (call.error) { return call.error; }
    Stream* on = findStream(stream);
    if (!on) { return InvalidHandle; }
    const auto run = [=]
    {
        const bool held = (!toDevice || insideAllocation(to, bytes)) && (!fromDevice || insideAllocation(from, bytes));
        return held ? copy(to, from, bytes) : raise(InvalidValue);
    };
    return runOrRecord(*on, {Node::Copy, run});
}
}

namespace tillerhost
{
bool insideAllocation(std::uint64_t pointer, std::size_t bytes)
{
    auto after = allocations.upper_bound(pointer);
    if (after == allocations.begin()) { return false; }
    const auto& [start, a] = *--after;
    return pointer - start <= a.bytes && bytes <= a.bytes - (pointer - start);
}

int checkGuards()
{
    for (const auto& [start, a] : allocations)
    {
        if (!guardsHold(start, a)) { return IllegalAddress; }
    }
    return Success;
}

bool insideMapping(std::uint64_t address)
{
    auto after = allocations.upper_bound(address + page - 1);
    if (after == allocations.begin()) { return false; }
    const Allocation& a = (--after)->second;
    const auto first = reinterpret_cast<std::uint64_t>(a.mapping) + zone;
    return address >= first && address < first + a.mappingBytes - 2 * zone;
}

std::size_t liveMemory() { return allocations.size() + pinned.size(); }
}

HOST_CUDA int cuMemGetInfo_v2(std::size_t* free, std::size_t* total)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    *total = state().deviceBytesAllowed;
    *free = *total - state().deviceBytes;
    return Success;
}

HOST_CUDA int cuMemAlloc_v2(std::uint64_t* pointer, std::size_t bytes)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    if (forbiddenByCapture()) { return CaptureUnsupported; }
    if (bytes == 0) { return InvalidValue; }
    if (bytes > state().deviceBytesAllowed - state().deviceBytes) { return OutOfMemory; }
    const std::size_t body = (bytes + 15) / 16 * 16, opened = (body + page - 1) / page * page, mappingBytes = opened + 2 * zone;
    void* mapping = mmap(nullptr, mappingBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) { return OutOfMemory; }
    char* const first = static_cast<char*>(mapping) + zone;
    if (mprotect(first, opened, PROT_READ | PROT_WRITE) != 0)
    {
        munmap(mapping, mappingBytes);
        return OutOfMemory;
    }
    char* const start = first + opened - body;
    std::memset(first, guardPattern, std::size_t(start - first));
    std::memset(start, 0xFF, bytes < poisonedBytes ? bytes : poisonedBytes); // larger ones are workspaces, or weights that will be uploaded
    std::memset(start + bytes, guardPattern, body - bytes);
    *pointer = reinterpret_cast<std::uint64_t>(start);
    allocations.emplace(*pointer, Allocation{static_cast<char*>(mapping), mappingBytes, bytes});
    state().deviceBytes += bytes;
    races::forget(*pointer, bytes);
    return Success;
}

HOST_CUDA int cuMemFree_v2(std::uint64_t pointer)
{
    Call call(Need::Release);
    noteFree();
    const auto at = allocations.find(pointer);
    if (at == allocations.end()) { return call.error ? call.error : InvalidValue; }
    const int held = guardsHold(pointer, at->second) ? Success : raise(IllegalAddress);
    state().deviceBytes -= at->second.bytes;
    mprotect(at->second.mapping, at->second.mappingBytes, PROT_NONE);
    madvise(at->second.mapping, at->second.mappingBytes, MADV_DONTNEED);
    freed.push_back(at->second);
    races::forget(pointer, at->second.bytes);
    allocations.erase(at);
    if (freed.size() > quarantine)
    {
        munmap(freed.front().mapping, freed.front().mappingBytes);
        freed.pop_front();
    }
    return call.error ? call.error : held;
}

HOST_CUDA int cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    if (forbiddenByCapture()) { return CaptureUnsupported; }
    if (bytes == 0) { return InvalidValue; }
    *pointer = std::aligned_alloc(page, (bytes + page - 1) / page * page);
    if (!*pointer) { return OutOfMemory; }
    pinned.emplace(*pointer, bytes);
    return Success;
}

HOST_CUDA int cuMemFreeHost(void* pointer)
{
    Call call(Need::Release);
    noteFree();
    const bool known = pinned.erase(pointer) == 1;
    if (known) { std::free(pointer); }
    return call.error ? call.error : known ? Success : InvalidValue;
}

HOST_CUDA int cuMemcpyHtoD_v2(std::uint64_t to, const void* from, std::size_t bytes)
{
    return copyNow(to, true, reinterpret_cast<std::uint64_t>(from), false, bytes);
}
HOST_CUDA int cuMemcpyDtoH_v2(void* to, std::uint64_t from, std::size_t bytes)
{
    return copyNow(reinterpret_cast<std::uint64_t>(to), false, from, true, bytes);
}
HOST_CUDA int cuMemcpyHtoDAsync_v2(std::uint64_t to, const void* from, std::size_t bytes, void* stream)
{
    return copyLater(to, true, reinterpret_cast<std::uint64_t>(from), false, bytes, stream);
}
HOST_CUDA int cuMemcpyDtoHAsync_v2(void* to, std::uint64_t from, std::size_t bytes, void* stream)
{
    return copyLater(reinterpret_cast<std::uint64_t>(to), false, from, true, bytes, stream);
}
HOST_CUDA int cuMemcpyDtoDAsync_v2(std::uint64_t to, std::uint64_t from, std::size_t bytes, void* stream)
{
    return copyLater(to, true, from, true, bytes, stream);
}
HOST_CUDA int cuMemsetD8Async(std::uint64_t to, unsigned char value, std::size_t count, void* stream)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Stream* on = findStream(stream);
    if (!on) { return InvalidHandle; }
    const auto run = [=]
    {
        if (!insideAllocation(to, count)) { return raise(InvalidValue); }
        std::memset(reinterpret_cast<void*>(to), value, count);
        return int(Success);
    };
    return runOrRecord(*on, {Node::Set, run});
}
