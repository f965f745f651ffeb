// Finds races in the kernels: two accesses by two threads to the same bytes, at least one of them a write, with nothing between them that makes a GPU
// do one before the other. Only the following orders them: a barrier of the block; __syncwarp of a whole warp; a fence, an atomic count and a fence,
// from one block to another that counts later; the end of a kernel, for which a kernel in programmatic dependent launch must wait. A shuffle only
// exchanges its values and orders nothing else; that warps or blocks happen to run one after another here orders nothing either. So what is found
// depends on which accesses are made, but not on the order in which they are made.
//
// The kernels are compiled with -fsanitize=thread, and this file takes the place of ThreadSanitizer's library. For every two bytes of device and
// shared memory it keeps which thread wrote them last and which have read them since (FastTrack, Flanagan & Freund 2009, with one time for all of a
// block, which counts its barriers). It does not check single bytes, which are only flags that any number of threads may set, nor pinned memory, nor
// work in several streams.
#include "races.h"
#include "hostcuda.h"
#include "host_device.h"
#include <cstdio>
#include <cstring>
#include <dlfcn.h>

// This library's first byte, and the bounds of its variables, which include static shared memory.
extern __attribute__((visibility("hidden"))) char __ehdr_start, __bss_start, _end;

namespace tillerhost::races
{
namespace
{
constexpr unsigned warpLanes = 32, mostThreads = 1024;
constexpr std::uint16_t severalLanes = 0x4000, severalWarps = 0x8000; // in Access.thread: lanes of the warp in the low bits; all warps

// Time counts blocks and barriers over all launches: one value of it is one phase of one block.
struct Access
{
    std::uint32_t time;
    std::uint16_t thread, warpTime;
    std::uint32_t place; // the offset of the access in this library's code
};
struct Cell
{
    Access write, read;
    std::uint32_t readBefore; // the time of the last read by a block before that of `read`
};
constexpr unsigned cellBytes = 2;

constexpr std::uintptr_t pageBytes = 4096;
using Cells = std::vector<Cell>;
std::unordered_map<std::uintptr_t, Cells>& pages()
{
    static auto& all = *new std::unordered_map<std::uintptr_t, Cells>;
    return all;
}
struct Remembered
{
    std::uintptr_t page = 0;
    Cell* cells = nullptr; // null: not device memory
};
Remembered remembered[4096];
Cells dynamicCells, staticCells;
std::uintptr_t dynamicFirst, dynamicEnd;

std::uint32_t now = 1, blockFirst, launchFirst, chainFirst;
bool active, dependent, serialized = true, anyWaited;
bool waited[mostThreads];
std::uint16_t warpTime[mostThreads / warpLanes];

// What a block had done when one of its threads counted: its earlier phases, and that thread's accesses in the current phase.
struct Release
{
    std::uint32_t first, time;
    std::uint16_t thread;
};
std::unordered_map<const void*, std::vector<Release>>& releases()
{
    static auto& all = *new std::unordered_map<const void*, std::vector<Release>>;
    return all;
}
std::vector<Release> toAcquire, acquired; // to be acquired by the last thread that counted; acquired by this block
std::uint32_t acquiredAt;
std::uint16_t acquirer;
std::uint32_t fencedAt[mostThreads];

bool ordersWithinPhase(const Access& earlier, unsigned thread)
{
    const unsigned warp = thread / warpLanes;
    if (earlier.thread == thread) { return true; }
    if (earlier.thread & severalWarps) { return false; }
    const unsigned earlierWarp = earlier.thread & severalLanes ? earlier.thread & ~severalLanes : earlier.thread / warpLanes;
    return earlierWarp == warp && earlier.warpTime != warpTime[warp];
}

bool ordersBetweenBlocks(std::uint32_t time, unsigned writer, unsigned thread)
{
    if (acquired.empty() || (acquirer != thread && acquiredAt == now)) { return false; }
    for (const Release& r : acquired)
    {
        if (time >= r.first && (time < r.time || (time == r.time && writer == r.thread))) { return true; }
    }
    return false;
}

bool ordered(const Access& earlier, unsigned thread, bool shared)
{
    if (earlier.time == now) { return ordersWithinPhase(earlier, thread); }
    if (earlier.time >= blockFirst || shared) { return true; }
    if (earlier.time >= launchFirst) { return ordersBetweenBlocks(earlier.time, earlier.thread, thread); }
    return earlier.time < chainFirst || waited[thread];
}

std::string sourceOf(std::uint32_t place)
{
    std::string line = "+" + std::to_string(place);
    char command[4400];
    Dl_info library = {};
    dladdr(&__ehdr_start, &library);
    std::snprintf(command, sizeof command, "addr2line -s -e '%s' %#x", library.dli_fname, place - 1); // of the call, not of the instruction after it
    if (FILE* tool = popen(command, "r"))
    {
        char text[512];
        if (std::fgets(text, sizeof text, tool)) { line = text; }
        pclose(tool);
    }
    return line.substr(0, line.find_first_of(" \n")); // without the discriminator that addr2line adds
}

std::string nameOf(unsigned thread)
{
    if (thread & severalWarps) { return "several warps"; }
    return thread & severalLanes ? "several lanes of warp " + std::to_string(thread & ~severalLanes) : "thread " + std::to_string(thread);
}

[[noreturn]] void report(const char* verb, std::uintptr_t address, bool shared, unsigned thread, std::uint32_t place, const char* earlierVerb,
                         const Access& earlier)
{
    const char* missing = earlier.time == now ? "no barrier between"
        : earlier.time >= launchFirst         ? "in another block"
                                              : "in an earlier kernel that was not waited for";
    char text[1024];
    std::snprintf(text, sizeof text, "race: thread %u at %s %s %s memory %#lx, which %s at %s %s, %s", thread, sourceOf(place).c_str(), verb,
                  shared ? "shared" : "device", (unsigned long)address, nameOf(earlier.thread).c_str(), sourceOf(earlier.place).c_str(),
                  earlierVerb, missing);
    fault(LaunchFailed, text);
}

Cell* cellsOf(std::uintptr_t page)
{
    Remembered& entry = remembered[page & 4095];
    if (entry.page != page)
    {
        entry.page = page;
        const auto known = pages().find(page);
        entry.cells = known != pages().end() ? known->second.data()
            : insideMapping(page * pageBytes) ? pages().emplace(page, Cells(pageBytes / cellBytes)).first->second.data()
                                              : nullptr;
    }
    return entry.cells;
}

void look(Cell& cell, std::uintptr_t address, unsigned thread, bool write, bool shared, std::uint32_t place)
{
    if (cell.write.time && !ordered(cell.write, thread, shared))
    {
        report(write ? "writes" : "reads", address, shared, thread, place, "wrote", cell.write);
    }
    const std::uint16_t warp = std::uint16_t(thread / warpLanes);
    if (write)
    {
        if (cell.read.time && !ordered(cell.read, thread, shared)) { report("writes", address, shared, thread, place, "read", cell.read); }
        if (!shared && cell.readBefore >= launchFirst && cell.readBefore < blockFirst && !ordersBetweenBlocks(cell.readBefore, severalWarps, thread))
        {
            report("writes", address, shared, thread, place, "read", {cell.readBefore, severalWarps, 0, cell.read.place});
        }
        cell.write = {now, std::uint16_t(thread), warpTime[warp], place};
        return;
    }
    Access& read = cell.read;
    if (read.time == now && read.thread != thread)
    {
        // Lanes that read before the last barrier of the whole warp are dropped: a later write comes after them, or races with the newer read too.
        const bool sameWarp = !(read.thread & severalWarps)
            && (read.thread & severalLanes ? read.thread & ~severalLanes : read.thread / warpLanes) == warp;
        if (!sameWarp) { read.thread = severalWarps; }
        else { read = {now, read.warpTime == warpTime[warp] ? std::uint16_t(severalLanes | warp) : std::uint16_t(thread), warpTime[warp], place}; }
        return;
    }
    if (read.time < blockFirst) { cell.readBefore = read.time; }
    read = {now, std::uint16_t(thread), warpTime[warp], place};
}

void access(std::uintptr_t address, std::size_t bytes, bool write, unsigned thread, const void* from)
{
    if (!active) { return; } // this comes from the initialization of static objects
    const auto place = std::uint32_t(static_cast<const char*>(from) - &__ehdr_start);
    for (std::uintptr_t at = address / cellBytes * cellBytes; at < address + bytes; at += cellBytes)
    {
        if (at - dynamicFirst < dynamicEnd - dynamicFirst)
        {
            look(dynamicCells[(at - dynamicFirst) / cellBytes], at, thread, write, true, place);
        }
        else if (at - std::uintptr_t(&__bss_start) < std::uintptr_t(&_end - &__bss_start))
        {
            look(staticCells[(at - std::uintptr_t(&__bss_start)) / cellBytes], at, thread, write, true, place);
        }
        else if (Cell* cells = cellsOf(at / pageBytes))
        {
            if (write && dependent && !waited[thread])
            {
                fault(LaunchFailed, ("thread " + std::to_string(thread) + " at " + sourceOf(place)
                                     + " writes device memory before it waits for the kernel before this one").c_str());
            }
            look(cells[at % pageBytes / cellBytes], at, thread, write, false, place);
        }
        else { return; }
    }
}
}

void serialize() { serialized = true; }

void launchBegins(bool mayOverlap, const void* shared, std::size_t sharedBytes)
{
    launchFirst = blockFirst = ++now;
    dependent = mayOverlap;
    if (!mayOverlap || serialized) { chainFirst = launchFirst; }
    serialized = anyWaited = false;
    dynamicFirst = std::uintptr_t(shared);
    dynamicEnd = dynamicFirst + sharedBytes;
    if (dynamicCells.size() < sharedBytes / cellBytes + 1) { dynamicCells.resize(sharedBytes / cellBytes + 1); }
    if (staticCells.empty()) { staticCells.resize(std::size_t(&_end - &__bss_start) / cellBytes + 1); }
    releases().clear();
    active = true;
}
void launchEnds()
{
    active = false;
    if (dependent && !anyWaited) { fault(LaunchFailed, "no thread waits for the kernel before this one, so that the next one may run beside it"); }
}
void blockBegins()
{
    blockFirst = ++now;
    std::memset(waited, 0, sizeof waited);
    std::memset(warpTime, 0, sizeof warpTime);
    acquired.clear();
}
void threadWaits(unsigned thread) { waited[thread] = anyWaited = true; }
void barrier()
{
    ++now;
    bool any = false;
    for (const bool one : waited) { any |= one; }
    if (any) { std::memset(waited, 1, sizeof waited); }
}
void warpBarrier(unsigned warp) { warpTime[warp]++; }
void fence(unsigned thread)
{
    fencedAt[thread] = now;
    if (!toAcquire.empty() && acquirer == thread)
    {
        acquired = std::move(toAcquire);
        acquiredAt = now;
    }
    toAcquire.clear();
}
void counted(unsigned thread, const void* counter)
{
    auto& all = releases()[counter];
    toAcquire = all;
    acquirer = std::uint16_t(thread);
    if (fencedAt[thread] == now) { all.push_back({blockFirst, now, std::uint16_t(thread)}); }
}
void copied(unsigned thread, const void* to, const void* from, std::size_t bytes, bool landed)
{
    if (!landed) { access(std::uintptr_t(from), bytes, false, thread, __builtin_return_address(0)); }
    access(std::uintptr_t(to), bytes, true, thread, __builtin_return_address(0));
}
void forget(std::uint64_t first, std::size_t bytes)
{
    for (std::uintptr_t page = first / pageBytes; page <= (first + bytes) / pageBytes; page++) { pages().erase(page); }
    for (Remembered& entry : remembered) { entry = {}; }
}
}

using namespace tillerhost;

#define TILLER_ACCESS(name, bytes, write)                                                                                       \
    extern "C" void __tsan_##name(void* address)                                                                                \
    {                                                                                                                           \
        races::access(std::uintptr_t(address), bytes, write, threadId(), __builtin_return_address(0));                          \
    }
TILLER_ACCESS(read2, 2, false)
TILLER_ACCESS(read4, 4, false)
TILLER_ACCESS(read8, 8, false)
TILLER_ACCESS(read16, 16, false)
TILLER_ACCESS(write2, 2, true)
TILLER_ACCESS(write4, 4, true)
TILLER_ACCESS(write8, 8, true)
TILLER_ACCESS(write16, 16, true)
TILLER_ACCESS(unaligned_read2, 2, false)
TILLER_ACCESS(unaligned_read4, 4, false)
TILLER_ACCESS(unaligned_read8, 8, false)
TILLER_ACCESS(unaligned_read16, 16, false)
TILLER_ACCESS(unaligned_write2, 2, true)
TILLER_ACCESS(unaligned_write4, 4, true)
TILLER_ACCESS(unaligned_write8, 8, true)
TILLER_ACCESS(unaligned_write16, 16, true)
extern "C" void __tsan_read1(void*) {}
extern "C" void __tsan_write1(void*) {}
extern "C" void __tsan_read_range(void* address, std::size_t bytes)
{
    races::access(std::uintptr_t(address), bytes, false, threadId(), __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* address, std::size_t bytes)
{
    races::access(std::uintptr_t(address), bytes, true, threadId(), __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
