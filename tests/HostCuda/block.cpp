// Runs a grid: its blocks one after another, and the threads of a block as fibers that yield at barriers and warp-wide operations. A warp runs as far
// as it can before the next one runs: so its stacks stay in the cache, and code that lacks a barrier reads values that are not written yet.
// If every thread that has not ended waits for one that cannot arrive, that is reported; a GPU would hang.
#include "hostcuda.h"
#include "host_device.h"
#include "races.h"
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace tillerhost
{
uint3 currentThread, currentBlock, blockSize, gridSize;

namespace
{
constexpr std::size_t stackBytes = 256 << 10, stackGuard = 4096;

struct Context
{
#if defined(__x86_64__)
    void* stackPointer = nullptr;
#else
    ucontext_t context;
#endif
    void* shadow = nullptr; // AddressSanitizer's
};

// An asynchronous copy to shared memory that has begun. The data are written when the kernel waits for its group, and not before.
struct Copy
{
    void* to;
    const void* from;
    unsigned group;
};

struct Thread
{
    Context context;
    char* stack = nullptr;
    uint3 index;
    unsigned mask; // of the warp operation that it waits for
    WarpOperation operation;
    Exchange exchange;
    std::vector<Copy> copies;
    unsigned groups; // of copies, that are closed
};

// Sets of lanes: those that can run, that wait for a warp operation, and that wait at the block's barrier. `gone` are the lanes that have ended or
// do not exist.
struct Warp
{
    unsigned ready, exchanging, atBarrier, gone;
};

constexpr unsigned mostThreads = 1024;
Context scheduler;
std::vector<Thread> threads;
Warp warps[mostThreads / 32];
Thread* running = nullptr;
unsigned living, atBarrier, warpCount;
bool fromScheduler;
const KernelEntry* kernelRunning;
void** parametersRunning;
void* sharedRunning;
const void* schedulerStack;
std::size_t schedulerStackBytes;

thread_local bool inKernel = false;
thread_local sigjmp_buf faultReturn;
void* faultAddress;
struct sigaction previousSegv, previousBus;

#if defined(__x86_64__)
// Saves the callee-saved registers of the System V x86-64 ABI on the old stack and restores them from the new one.
extern "C" void tillerHostSwitch(void** save, void* load);
asm(R"(
.text
.globl tillerHostSwitch
.hidden tillerHostSwitch
.type tillerHostSwitch, @function
tillerHostSwitch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size tillerHostSwitch, .-tillerHostSwitch
)");
#endif

void switchContext(Context& from, Context& to, [[maybe_unused]] const void* bottom, [[maybe_unused]] std::size_t bytes, [[maybe_unused]] bool last)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(last ? nullptr : &from.shadow, bottom, bytes);
#endif
#if defined(__x86_64__)
    tillerHostSwitch(&from.stackPointer, to.stackPointer);
#else
    swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.shadow, nullptr, nullptr);
#endif
}

unsigned self() { return unsigned(running - threads.data()); }

void resume(unsigned thread, Context& from, bool last)
{
    running = &threads[thread];
    currentThread = running->index;
    switchContext(from, running->context, running->stack, stackBytes, last);
}

// Runs the next lane of this warp that can run, otherwise one of the next warp that has any, otherwise the scheduler.
void giveWay(bool last = false)
{
    Thread& from = *running;
    const unsigned lane = self() % 32, first = self() / 32;
    const unsigned after = warps[first].ready & (lane == 31 ? 0 : ~0u << (lane + 1));
    for (unsigned i = 0; i < warpCount; i++)
    {
        const unsigned warp = first + i < warpCount ? first + i : first + i - warpCount;
        const unsigned ready = i == 0 && after ? after : warps[warp].ready;
        if (ready)
        {
            resume(32 * warp + unsigned(__builtin_ctz(ready)), from.context, last);
            return;
        }
    }
    switchContext(from.context, scheduler, schedulerStack, schedulerStackBytes, last);
}

void releaseBarrier()
{
    races::barrier();
    for (unsigned i = 0; i < warpCount; i++)
    {
        warps[i].ready |= warps[i].atBarrier;
        warps[i].atBarrier = 0;
    }
    atBarrier = 0;
}

void explain(const char* what)
{
    const auto text = [](unsigned n) { return std::to_string(n); };
    state().lastFault = std::string(kernelRunning->name)
        + ", block (" + text(currentBlock.x) + ", " + text(currentBlock.y) + ", " + text(currentBlock.z) + "): " + what;
    std::fprintf(stderr, "tiller host CUDA: %s\n", state().lastFault.c_str());
}

void threadMain()
{
#if defined(__SANITIZE_ADDRESS__)
    // There are no local variables here: this frame never ends, so their red zones would stay.
    static const void* bottom;
    static std::size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (fromScheduler) { schedulerStack = bottom, schedulerStackBytes = bytes; }
#endif
    fromScheduler = false;
    kernelRunning->invoke(kernelRunning->function, parametersRunning);
    Warp& warp = warps[self() / 32];
    const unsigned lane = 1u << self() % 32;
    warp.ready &= ~lane;
    warp.gone |= lane;
    if (--living > 0 && atBarrier == living) { releaseBarrier(); }
    giveWay(true);
    std::abort();
}

void prepare(Thread& thread)
{
    if (!thread.stack)
    {
        void* mapped = mmap(nullptr, stackBytes + stackGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED) { fault(OutOfMemory, "no memory for the stack of a kernel thread"); }
        mprotect(mapped, stackGuard, PROT_NONE);
        thread.stack = static_cast<char*>(mapped) + stackGuard;
    }
    thread.copies.clear();
    thread.groups = 0;
    thread.context.shadow = nullptr;
#if defined(__x86_64__)
    // Six registers that are zero, the return address, and a slot that makes rsp = 8 mod 16 on entry.
    void** top = reinterpret_cast<void**>(thread.stack + stackBytes);
    top[-1] = nullptr;
    top[-2] = reinterpret_cast<void*>(&threadMain);
    for (int i = 3; i <= 8; i++) { top[-i] = nullptr; }
    thread.context.stackPointer = top - 8;
#else
    getcontext(&thread.context.context);
    thread.context.context.uc_stack = {thread.stack, 0, stackBytes};
    makecontext(&thread.context.context, &threadMain, 0);
#endif
}

void runBlock(const unsigned block[3])
{
    const unsigned count = living = block[0] * block[1] * block[2];
    warpCount = (count + 31) / 32;
    atBarrier = 0;
    for (unsigned i = 0; i < count; i++)
    {
        prepare(threads[i]);
        threads[i].index = {i % block[0], i / block[0] % block[1], i / (block[0] * block[1])};
    }
    for (unsigned i = 0; i < warpCount; i++)
    {
        const unsigned lanes = count - 32 * i < 32 ? (1u << (count - 32 * i)) - 1 : ~0u;
        warps[i] = {lanes, 0, 0, ~lanes};
    }
    races::blockBegins();
    fromScheduler = true;
    resume(0, scheduler, false);
    if (living > 0) { fault(LaunchFailed, "threads wait at a barrier or warp operation that the others never reach"); }
}

void onFault(int signal, siginfo_t* info, void* context)
{
    if (inKernel)
    {
        faultAddress = info->si_addr;
        siglongjmp(faultReturn, IllegalAddress);
    }
    const struct sigaction& previous = signal == SIGBUS ? previousBus : previousSegv;
    if (previous.sa_flags & SA_SIGINFO) { previous.sa_sigaction(signal, info, context); }
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) { previous.sa_handler(signal); }
    else
    {
        sigaction(signal, &previous, nullptr); // the access is repeated and ends the process, as it would without this library
    }
}

void catchFaults()
{
    static const bool once = []
    {
        struct sigaction action = {};
        action.sa_sigaction = &onFault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        sigaction(SIGSEGV, &action, &previousSegv);
        sigaction(SIGBUS, &action, &previousBus);
        return true;
    }();
    (void)once;
}
}

void fault(int code, const char* what)
{
    explain(what);
    siglongjmp(faultReturn, code);
}

void blockBarrier()
{
    if (++atBarrier == living)
    {
        releaseBarrier();
        return;
    }
    Warp& warp = warps[self() / 32];
    const unsigned lane = 1u << self() % 32;
    warp.ready &= ~lane;
    warp.atBarrier |= lane;
    giveWay();
}

unsigned laneId() { return self() % 32; }
unsigned threadId() { return self(); }
Exchange& exchange() { return running->exchange; }
void* dynamicShared() { return sharedRunning; }

void warpOperation(unsigned mask, WarpOperation operation)
{
    Warp& warp = warps[self() / 32];
    Thread* const first = &threads[self() & ~31u];
    const unsigned lane = 1u << self() % 32;
    if (!(mask & lane)) { fault(LaunchFailed, "a thread calls a warp operation whose mask leaves it out"); }
    if (mask & warp.gone) { fault(LaunchFailed, "a warp operation's mask names a lane that has ended or never was"); }
    running->mask = mask;
    running->operation = operation;
    warp.exchanging |= lane;
    Exchange* lanes[32];
    bool complete = (warp.exchanging & mask) == mask;
    for (unsigned rest = mask; complete && rest; rest &= rest - 1)
    {
        const unsigned i = unsigned(__builtin_ctz(rest));
        complete = first[i].mask == mask && first[i].operation == operation;
        lanes[i] = &first[i].exchange;
    }
    if (!complete)
    {
        warp.ready &= ~lane;
        giveWay();
        return;
    }
    operation(lanes, mask);
    if (operation == &nothing && mask == ~warp.gone) { races::warpBarrier(self() / 32); }
    warp.exchanging &= ~mask;
    warp.ready |= mask;
}

void waitForPredecessor() { races::threadWaits(self()); }

void fence() { races::fence(self()); }

unsigned atomicIncrement(unsigned* counter, unsigned last)
{
    races::counted(self(), counter);
    const unsigned before = *counter;
    *counter = before >= last ? 0 : before + 1;
    return before;
}

void copyAsync(void* to, const void* from)
{
    races::copied(self(), to, from, copyBytes, false);
    running->copies.push_back({to, from, running->groups});
}

void commitCopies() { running->groups++; }

void waitForCopies(unsigned pending)
{
    auto& copies = running->copies;
    std::size_t landed = 0;
    for (; landed < copies.size() && copies[landed].group + pending < running->groups; landed++)
    {
        races::copied(self(), copies[landed].to, copies[landed].from, copyBytes, true);
        std::memcpy(copies[landed].to, copies[landed].from, copyBytes);
    }
    copies.erase(copies.begin(), copies.begin() + std::ptrdiff_t(landed));
}

int runGrid(const KernelEntry& kernel, void** parameters, const unsigned grid[3], const unsigned block[3], std::size_t sharedBytes,
            bool dependent)
{
    catchFaults();
    if (threads.empty()) { threads.resize(mostThreads); }
    // Dynamic shared memory holds NaN at the start of each block. After it there is a pattern that is checked, or bytes that AddressSanitizer guards.
    std::unique_ptr<void, decltype(&std::free)> shared(std::aligned_alloc(128, (sharedBytes + 127) / 128 * 128 + 128), &std::free);
    char* const sharedEnd = static_cast<char*>(shared.get()) + (sharedBytes + 127) / 128 * 128;
    kernelRunning = &kernel;
    parametersRunning = parameters;
    sharedRunning = sharedEnd - (sharedBytes + 15) / 16 * 16;
    blockSize = {block[0], block[1], block[2]};
    gridSize = {grid[0], grid[1], grid[2]};
    std::memset(sharedEnd, 0xA5, 128);
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(sharedEnd, 128);
#endif
    const int faulted = sigsetjmp(faultReturn, 1);
    if (faulted == 0)
    {
        inKernel = true;
        races::launchBegins(dependent, sharedRunning, sharedBytes);
        for (unsigned z = 0; z < grid[2]; z++)
        {
            for (unsigned y = 0; y < grid[1]; y++)
            {
                for (unsigned x = 0; x < grid[0]; x++)
                {
                    std::memset(sharedRunning, 0xFF, sharedBytes);
                    currentBlock = {x, y, z};
                    runBlock(block);
                }
            }
        }
        races::launchEnds();
#if !defined(__SANITIZE_ADDRESS__)
        for (int i = 0; i < 128; i++)
        {
            if (static_cast<unsigned char>(sharedEnd[i]) != 0xA5) { fault(IllegalAddress, "a write past the end of dynamic shared memory"); }
        }
#endif
    }
    inKernel = false;
    if (faultAddress)
    {
        char what[96];
        std::snprintf(what, sizeof what, "thread (%u, %u, %u): illegal access to %p",
                      currentThread.x, currentThread.y, currentThread.z, faultAddress);
        explain(what);
        faultAddress = nullptr;
    }
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(sharedEnd, 128);
    if (faulted != 0)
    {
        // The threads left their stacks without returning, so the red zones of their frames are still marked.
        for (const Thread& thread : threads)
        {
            if (thread.stack) { __asan_unpoison_memory_region(thread.stack, stackBytes); }
        }
    }
#endif
    return raise(faulted == 0 ? checkGuards() : faulted);
}
}
