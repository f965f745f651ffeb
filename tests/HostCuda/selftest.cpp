// Runs the test kernels through the driver's entry points without .NET, so that sanitizers see the whole process.
//   hostcuda-selftest            runs every kernel with awkward sizes; exit code 0
//   hostcuda-selftest overrun    a kernel writes past a shared array, and AddressSanitizer ends the process
//   hostcuda-selftest races      tells kernels that lack a barrier, a fence or a wait from those that have it; exit code 0
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C"
{
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuDevicePrimaryCtxRelease_v2(int);
int cuCtxSetCurrent(void*);
int cuCtxSynchronize();
int cuMemAlloc_v2(std::uint64_t*, std::size_t);
int cuMemFree_v2(std::uint64_t);
int cuMemcpyHtoD_v2(std::uint64_t, const void*, std::size_t);
int cuMemcpyDtoH_v2(void*, std::uint64_t, std::size_t);
int cuModuleLoadDataEx(void**, const char*, unsigned, const int*, void**);
int cuModuleUnload(void*);
int cuModuleGetFunction(void**, void*, const char*);
std::int64_t tillerHostCudaLiveAllocations();
const char* tillerHostCudaLastFault();
void tillerHostCudaReset();

struct Attribute
{
    alignas(8) unsigned id;
    alignas(8) int value;
    unsigned char rest[56];
};
struct Config
{
    unsigned grid[3], block[3], sharedBytes;
    void* stream;
    const Attribute* attributes;
    unsigned attributeCount;
};
int cuLaunchKernelEx(const Config*, void*, void**, void**);
}

#define CHECK(condition)                                                     \
    if (!(condition))                                                        \
    {                                                                        \
        std::fprintf(stderr, "selftest line %d: %s\n", __LINE__, #condition); \
        std::exit(1);                                                        \
    }

namespace
{
struct Buffer
{
    std::uint64_t pointer = 0;
    explicit Buffer(std::size_t bytes) { CHECK(cuMemAlloc_v2(&pointer, bytes) == 0); }
    ~Buffer() { CHECK(cuMemFree_v2(pointer) == 0); }
};

void* functionOf(void* module, const char* name)
{
    void* function;
    CHECK(cuModuleGetFunction(&function, module, name) == 0);
    return function;
}
void* moduleOf(const char* source)
{
    char image[128];
    std::snprintf(image, sizeof image, "TILLER HOST CUDA IMAGE %s", source);
    void* module;
    CHECK(cuModuleLoadDataEx(&module, image, 0, nullptr, nullptr) == 0);
    return module;
}

void vectorAdd(int n)
{
    void* module = moduleOf("vector_add.cu");
    std::vector<float> a(std::size_t(n), 1.5f), b(std::size_t(n), 2.0f), c(a);
    const std::size_t bytes = std::size_t(n) * 4;
    Buffer da(bytes), db(bytes), dc(bytes);
    CHECK(cuMemcpyHtoD_v2(da.pointer, a.data(), bytes) == 0 && cuMemcpyHtoD_v2(db.pointer, b.data(), bytes) == 0);
    float scale = 0.5f;
    void* parameters[] = {&dc.pointer, &da.pointer, &db.pointer, &scale, &n};
    const Config config{{unsigned(n + 127) / 128, 1, 1}, {128, 1, 1}, 0, nullptr, nullptr, 0};
    CHECK(cuLaunchKernelEx(&config, functionOf(module, "tillerTestVectorAdd"), parameters, nullptr) == 0 && cuCtxSynchronize() == 0);
    CHECK(cuMemcpyDtoH_v2(c.data(), dc.pointer, bytes) == 0);
    for (float value : c) { CHECK(value == 2.5f); }
    CHECK(cuModuleUnload(module) == 0);
}

void blockSum(int n)
{
    void* module = moduleOf("block_sum.cu");
    std::vector<float> x(std::size_t(n) * 3, 0.25f), sums(3);
    Buffer dx(x.size() * 4), ds(12);
    CHECK(cuMemcpyHtoD_v2(dx.pointer, x.data(), x.size() * 4) == 0);
    struct { std::uint64_t sums, x; int n; } p{ds.pointer, dx.pointer, n};
    void* parameters[] = {&p};
    const Config config{{3, 1, 1}, {256, 1, 1}, 0, nullptr, nullptr, 0};
    CHECK(cuLaunchKernelEx(&config, functionOf(module, "tillerTestBlockSum"), parameters, nullptr) == 0 && cuCtxSynchronize() == 0);
    CHECK(cuMemcpyDtoH_v2(sums.data(), ds.pointer, 12) == 0);
    for (float sum : sums) { CHECK(sum == 0.25f * float(n)); }
    CHECK(cuModuleUnload(module) == 0);
}

void transpose(int rows, int columns, unsigned sharedBytes)
{
    void* module = moduleOf("transpose.cu");
    std::vector<float> x(std::size_t(rows) * std::size_t(columns)), y(x.size());
    for (std::size_t i = 0; i < x.size(); i++) { x[i] = float(i); }
    Buffer dx(x.size() * 4), dy(x.size() * 4);
    CHECK(cuMemcpyHtoD_v2(dx.pointer, x.data(), x.size() * 4) == 0);
    void* parameters[] = {&dy.pointer, &dx.pointer, &rows, &columns};
    const Config config{{unsigned(columns + 31) / 32, unsigned(rows + 31) / 32, 1}, {32, 8, 1}, sharedBytes, nullptr, nullptr, 0};
    CHECK(cuLaunchKernelEx(&config, functionOf(module, "tillerTestTranspose"), parameters, nullptr) == 0 && cuCtxSynchronize() == 0);
    CHECK(cuMemcpyDtoH_v2(y.data(), dy.pointer, y.size() * 4) == 0);
    for (int r = 0; r < rows; r++)
    {
        for (int c = 0; c < columns; c++)
        {
            CHECK(y[std::size_t(c) * std::size_t(rows) + std::size_t(r)] == x[std::size_t(r) * std::size_t(columns) + std::size_t(c)]);
        }
    }
    CHECK(cuModuleUnload(module) == 0);
}

struct Race
{
    const char* kernel;
    unsigned blocks, threads;
    int wrong, launches;
    const char* told; // part of the fault's text; empty if there is no fault; null if none is reported but the result is zero, which is wrong
};
constexpr Race races[] = {
    {"tillerTestRaceInBlock", 1, 64, 0, 1, ""},
    {"tillerTestRaceInBlock", 1, 64, 1, 1, "no barrier between"},
    {"tillerTestRaceInBlock", 1, 64, 2, 1, "no barrier between"},
    {"tillerTestRaceInWarp", 1, 32, 0, 1, ""},
    {"tillerTestRaceInWarp", 1, 32, 1, 1, "no barrier between"},
    {"tillerTestRaceOfBlocks", 2, 64, 0, 1, ""},
    {"tillerTestRaceOfBlocks", 2, 64, 1, 1, "in another block"},
    {"tillerTestRaceOfBlocks", 2, 64, 2, 1, "in another block"},
    {"tillerTestRaceOfBlocks", 2, 64, 3, 1, "in another block"},
    {"tillerTestRaceOfWrites", 2, 64, 0, 1, ""},
    {"tillerTestRaceOfWrites", 2, 64, 1, 1, "in another block"},
    {"tillerTestRaceOfKernels", 1, 64, 0, 2, ""},
    {"tillerTestRaceOfKernels", 1, 64, 1, 2, "in an earlier kernel that was not waited for"},
    {"tillerTestRaceOfKernels", 1, 64, 2, 2, "writes device memory before it waits"},
    {"tillerTestRaceOfKernels", 1, 64, 3, 2, "no thread waits for the kernel before this one"},
    {"tillerTestRaceOfCopies", 1, 16, 0, 1, ""},
    {"tillerTestRaceOfCopies", 1, 16, 1, 1, nullptr},
    {"tillerTestRaceOfCopies", 1, 16, 2, 1, "no barrier between"},
};

bool tells(const Race& race)
{
    void* context;
    tillerHostCudaReset();
    CHECK(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 && cuCtxSetCurrent(context) == 0);
    void* module = moduleOf("races.cu");
    std::vector<float> data(128, 0.5f), out(128);
    const unsigned zero = 0;
    Buffer dataThere(512), outThere(512), counter(4);
    CHECK(cuMemcpyHtoD_v2(dataThere.pointer, data.data(), 512) == 0 && cuMemcpyHtoD_v2(counter.pointer, &zero, 4) == 0);
    CHECK(cuMemcpyHtoD_v2(outThere.pointer, data.data(), 512) == 0);
    struct { std::uint64_t out, data, counter; int wrong; } p{outThere.pointer, dataThere.pointer, counter.pointer, race.wrong};
    void* parameters[] = {&p};
    const Attribute programmatic{6, 1, {}};
    const Config config{{race.blocks, 1, 1}, {race.threads, 1, 1}, 0, nullptr, &programmatic, 1};
    bool faulted = false;
    for (int i = 0; i < race.launches && !faulted; i++)
    {
        CHECK(cuLaunchKernelEx(&config, functionOf(module, race.kernel), parameters, nullptr) == 0);
        faulted = *tillerHostCudaLastFault() != 0;
    }
    const std::string told = tillerHostCudaLastFault();
    tillerHostCudaReset();
    CHECK(cuInit(0) == 0 && cuCtxSetCurrent(context) == 0 && cuMemcpyDtoH_v2(out.data(), outThere.pointer, 512) == 0);
    CHECK(cuModuleUnload(module) == 0 && cuDevicePrimaryCtxRelease_v2(0) == 0);
    std::printf("%s %d: %s\n", race.kernel, race.wrong, told.c_str());
    return race.told && *race.told ? told.find(race.told) != told.npos : !faulted && (race.told ? out[0] > 0 : out[0] == 0);
}
}

int main(int argc, char** argv)
{
    if (argc > 1 && std::strcmp(argv[1], "races") == 0)
    {
        for (const Race& race : races) { CHECK(tells(race)); }
        CHECK(tillerHostCudaLiveAllocations() == 0);
        std::puts("host CUDA tells races");
        return 0;
    }

    void* context;
    CHECK(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 && cuCtxSetCurrent(context) == 0);
    if (argc > 1 && std::strcmp(argv[1], "overrun") == 0)
    {
        transpose(32, 32, 64);
        return 0;
    }
    for (int n : {1, 31, 33, 127, 4097})
    {
        vectorAdd(n);
        blockSum(n);
        transpose(n, n % 64 + 1, 32 * 33 * 4);
    }
    CHECK(cuDevicePrimaryCtxRelease_v2(0) == 0);
    CHECK(tillerHostCudaLiveAllocations() == 0);
    std::puts("host CUDA selftest passed");
    return 0;
}
