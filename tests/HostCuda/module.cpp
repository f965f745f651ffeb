// Kernels that TILLER_KERNEL registers, modules that contain them, launches, and NVRTC, whose images only name a source.
// A module is loaded from such an image, or from PTX, of which only the `.entry` names are read.
#include "hostcuda.h"
#include "host_device.h"
#include <algorithm>
#include <string_view>

using namespace tillerhost;

namespace
{
constexpr std::string_view imagePrefix = "TILLER HOST CUDA IMAGE ";

struct Function
{
    const KernelEntry* kernel = nullptr;
    int dynamicSharedBytes = 48 << 10, sharedCarveout = -1;
};
struct Module : Object
{
    std::vector<std::string> names;
    std::map<std::string, Function> functions;
};
std::map<void*, Module*> functionOwners;

struct LaunchAttribute // CUlaunchAttribute
{
    static constexpr unsigned programmaticStreamSerialization = 6;
    alignas(8) unsigned id;
    alignas(8) int value;
    unsigned char rest[56];
};

struct LaunchConfig // CUlaunchConfig
{
    unsigned grid[3], block[3], sharedBytes;
    void* stream;
    const LaunchAttribute* attributes;
    unsigned attributeCount;
};

struct Program : Object
{
    std::string name, source, log, image;
};

std::map<std::string, KernelEntry>& kernels()
{
    static auto& all = *new std::map<std::string, KernelEntry>;
    return all;
}

std::vector<std::string> entriesOf(std::string_view image)
{
    std::vector<std::string> names;
    if (image.starts_with(imagePrefix))
    {
        for (const auto& [name, kernel] : kernels())
        {
            if (kernel.source == image.substr(imagePrefix.size())) { names.push_back(name); }
        }
        return names;
    }
    if (image.find(".version") == image.npos) { return names; }
    constexpr std::string_view entry = ".entry ";
    for (auto at = image.find(entry); at != image.npos; at = image.find(entry, at))
    {
        at += entry.size();
        names.emplace_back(image.substr(at, image.find('(', at) - at));
    }
    return names;
}

Function* findFunction(void* handle) { return functionOwners.contains(handle) ? static_cast<Function*>(handle) : nullptr; }

int copyOut(const std::string& text, char* to)
{
    std::memcpy(to, text.c_str(), text.size() + 1);
    return 0;
}
Program* findProgram(void* handle) { return find<Program>(handle); }
int nvrtcStatus(int code) { return code == Success ? 0 : code == OutOfMemory ? 1 : 11; }
}

namespace tillerhost
{
bool registerKernel(const KernelEntry& entry)
{
    if (!kernels().emplace(entry.name, entry).second)
    {
        std::fprintf(stderr, "tiller host CUDA: two kernels are named %s\n", entry.name);
        std::abort();
    }
    return true;
}
const KernelEntry* findKernel(const std::string& name)
{
    const auto at = kernels().find(name);
    return at == kernels().end() ? nullptr : &at->second;
}
bool sourceIsKnown(const std::string& source)
{
    return std::any_of(kernels().begin(), kernels().end(), [&](const auto& pair) { return pair.second.source == source; });
}
}

HOST_CUDA int cuModuleLoadDataEx(void** module, const char* image, unsigned, const int*, void**)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    if (forbiddenByCapture()) { return CaptureUnsupported; }
    if (!image) { return InvalidValue; }
    auto names = entriesOf(image);
    if (names.empty()) { return std::string_view(image).starts_with(imagePrefix) ? NoBinaryForGpu : InvalidImage; }
    Module* m = make<Module>();
    m->names = std::move(names);
    *module = m;
    return Success;
}
HOST_CUDA int cuModuleUnload(void* module)
{
    Call call(Need::Release);
    if (Module* m = find<Module>(module))
    {
        std::erase_if(functionOwners, [m](const auto& pair) { return pair.second == m; });
        destroy<Module>(module);
        return call.error;
    }
    return call.error ? call.error : InvalidHandle;
}
HOST_CUDA int cuModuleGetFunction(void** function, void* module, const char* name)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Module* m = find<Module>(module);
    if (!m) { return InvalidHandle; }
    const KernelEntry* kernel = findKernel(name);
    if (!kernel || std::find(m->names.begin(), m->names.end(), name) == m->names.end()) { return NotFound; }
    Function& f = m->functions[name];
    f.kernel = kernel;
    functionOwners[&f] = m;
    *function = &f;
    return Success;
}
HOST_CUDA int cuFuncGetAttribute(int* value, int attribute, void* function)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    const Function* f = findFunction(function);
    if (!f) { return InvalidHandle; }
    switch (attribute) // CUfunction_attribute
    {
        case 0: *value = 1024; break;                    // MAX_THREADS_PER_BLOCK
        case 4: *value = 32; break;                      // NUM_REGS
        case 8: *value = f->dynamicSharedBytes; break;   // MAX_DYNAMIC_SHARED_SIZE_BYTES
        case 9: *value = f->sharedCarveout; break;       // PREFERRED_SHARED_MEMORY_CARVEOUT
        default: *value = 0; break;
    }
    return Success;
}
HOST_CUDA int cuFuncSetAttribute(void* function, int attribute, int value)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Function* f = findFunction(function);
    if (!f) { return InvalidHandle; }
    switch (attribute)
    {
        case 8:
            if (value < 0 || value > 227 << 10) { return InvalidValue; }
            f->dynamicSharedBytes = value;
            return Success;
        case 9:
            if (value < -1 || value > 100) { return InvalidValue; }
            f->sharedCarveout = value;
            return Success;
        default: return InvalidValue; // the others can only be read, or need clusters
    }
}
HOST_CUDA int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int blockSize, std::size_t)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    if (!findFunction(function)) { return InvalidHandle; }
    if (blockSize < 1 || blockSize > 1024) { return InvalidValue; }
    *blocks = 2048 / ((blockSize + 31) / 32 * 32);
    return Success;
}
HOST_CUDA int cuLaunchKernelEx(const LaunchConfig* config, void* function, void** parameters, void** extra)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    const Function* f = findFunction(function);
    Stream* stream = findStream(config->stream);
    if (!f || !stream) { return InvalidHandle; }
    const auto [gx, gy, gz] = config->grid;
    const auto [bx, by, bz] = config->block;
    const bool gridHolds = gx >= 1 && gx <= 0x7fffffff && gy >= 1 && gy <= 65535 && gz >= 1 && gz <= 65535;
    const bool blockHolds = bx >= 1 && bx <= 1024 && by >= 1 && by <= 1024 && bz >= 1 && bz <= 64 && bx * by * bz <= 1024;
    if (!gridHolds || !blockHolds || int(config->sharedBytes) > f->dynamicSharedBytes || extra) { return InvalidValue; }
    if (config->attributeCount && !config->attributes) { return InvalidValue; }
    // As in CUDA, parameters are read at the launch, so the caller's memory need not outlive it.
    const KernelEntry* kernel = f->kernel;
    auto values = std::make_shared<std::vector<std::vector<unsigned char>>>();
    for (int i = 0; i < kernel->parameters; i++)
    {
        const auto* from = static_cast<const unsigned char*>(parameters[i]);
        values->emplace_back(from, from + kernel->sizes[i]);
    }
    const LaunchConfig copy = *config;
    const bool dependent = std::any_of(copy.attributes, copy.attributes + copy.attributeCount,
                                       [](const LaunchAttribute& a) { return a.id == LaunchAttribute::programmaticStreamSerialization && a.value; });
    const auto run = [=]
    {
        std::vector<void*> pointers;
        for (auto& value : *values) { pointers.push_back(value.data()); }
        return runGrid(*kernel, pointers.data(), copy.grid, copy.block, copy.sharedBytes, dependent);
    };
    const int error = runOrRecord(*stream, {Node::Kernel, run});
    // As on a GPU, a fault in a kernel is reported by a later call.
    return isSticky(error) ? int(Success) : error;
}

HOST_CUDA int nvrtcVersion(int* major, int* minor)
{
    Call call(Need::Nothing);
    *major = 13;
    *minor = 99; // no NVRTC has this version, so caches that depend on the version keep these images apart
    return nvrtcStatus(call.error);
}
HOST_CUDA int nvrtcGetNumSupportedArchs(int* count)
{
    Call call(Need::Nothing);
    *count = 2;
    return nvrtcStatus(call.error);
}
HOST_CUDA int nvrtcGetSupportedArchs(int* architectures)
{
    Call call(Need::Nothing);
    architectures[0] = 80;
    architectures[1] = 90;
    return nvrtcStatus(call.error);
}
HOST_CUDA const char* nvrtcGetErrorString(int code) { return code == 0 ? "NVRTC_SUCCESS" : code == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
HOST_CUDA int nvrtcCreateProgram(void** program, const char* source, const char* name, int, const char* const*, const char* const*)
{
    Call call(Need::Nothing);
    if (call.error) { return nvrtcStatus(call.error); }
    Program* p = make<Program>();
    p->source = source;
    p->name = name ? name : "default_program";
    *program = p;
    return 0;
}
HOST_CUDA int nvrtcDestroyProgram(void** program)
{
    Call call(Need::Nothing);
    const bool known = destroy<Program>(*program);
    *program = nullptr;
    return known ? nvrtcStatus(call.error) : 4;
}
// A source compiles if a source of its name was built into this library and if it contains the names of all kernels of that source.
HOST_CUDA int nvrtcCompileProgram(void* program, int, const char* const*)
{
    Call call(Need::Nothing);
    if (call.error) { return nvrtcStatus(call.error); }
    Program* p = findProgram(program);
    if (!p) { return 4; }
    if (!sourceIsKnown(p->name))
    {
        p->log = p->name + ": error: this source is not built into the host CUDA; it knows the .cu files of its CMake lists";
        return 6;
    }
    for (const auto& [name, kernel] : kernels())
    {
        if (kernel.source == p->name && p->source.find(name) == p->source.npos)
        {
            p->log = p->name + ": error: the host CUDA was built from another version of this source, with the kernel " + name + "; build it again";
            return 6;
        }
    }
    p->image = std::string(imagePrefix) + p->name;
    return 0;
}
HOST_CUDA int nvrtcGetProgramLogSize(void* program, std::size_t* bytes)
{
    Call call(Need::Nothing);
    Program* p = findProgram(program);
    if (!p) { return 4; }
    *bytes = p->log.size() + 1;
    return nvrtcStatus(call.error);
}
HOST_CUDA int nvrtcGetProgramLog(void* program, char* log)
{
    Call call(Need::Nothing);
    Program* p = findProgram(program);
    return !p ? 4 : call.error ? nvrtcStatus(call.error) : copyOut(p->log, log);
}
HOST_CUDA int nvrtcGetCUBINSize(void* program, std::size_t* bytes)
{
    Call call(Need::Nothing);
    Program* p = findProgram(program);
    if (!p || p->image.empty()) { return 4; }
    *bytes = p->image.size() + 1;
    return nvrtcStatus(call.error);
}
HOST_CUDA int nvrtcGetCUBIN(void* program, char* image)
{
    Call call(Need::Nothing);
    Program* p = findProgram(program);
    return !p || p->image.empty() ? 4 : call.error ? nvrtcStatus(call.error) : copyOut(p->image, image);
}
HOST_CUDA int nvrtcGetPTXSize(void* program, std::size_t* bytes) { return nvrtcGetCUBINSize(program, bytes); }
HOST_CUDA int nvrtcGetPTX(void* program, char* image) { return nvrtcGetCUBIN(program, image); }
