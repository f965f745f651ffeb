// cuSOLVER's 64-bit dense calls for float and double, implemented with OpenBLAS's LAPACK. As in cuSOLVER, info is in device memory.
#include "hostcuda.h"
#include <cstring>

using namespace tillerhost;

extern "C" void spotrf_(const char*, const int*, float*, const int*, int*);
extern "C" void dpotrf_(const char*, const int*, double*, const int*, int*);
extern "C" void spotrs_(const char*, const int*, const int*, const float*, const int*, float*, const int*, int*);
extern "C" void dpotrs_(const char*, const int*, const int*, const double*, const int*, double*, const int*, int*);

namespace
{
enum : int { R32F = 0, R64F = 1 };
constexpr int invalidStatus = 3, notInitialized = 1;

struct Solver : Object
{
    Stream* stream = &state().defaultStream;
};
struct Parameters : Object {};

std::size_t sizeOf(int type) { return type == R64F ? 8 : 4; }
std::size_t matrixBytes(std::int64_t rows, std::int64_t columns, std::int64_t ld, int type)
{
    return rows && columns ? (std::size_t(ld) * std::size_t(columns - 1) + std::size_t(rows)) * sizeOf(type) : 0;
}
bool inside(std::uint64_t p, std::size_t bytes) { return bytes == 0 || insideAllocation(p, bytes); }
const char* triangle(int uplo) { return uplo == 0 ? "L" : "U"; } // cublasFillMode_t

// cuSOLVER refuses a stream that is being captured; everything else runs at once.
template <class Work> int solve(void* handle, bool argumentsHold, bool memoryHolds, std::uint64_t info, Work work)
{
    Call call(Need::Context);
    if (call.error) { return solverStatus(call.error); }
    const Solver* solver = find<Solver>(handle);
    if (!solver) { return notInitialized; }
    if (!argumentsHold || solver->stream->capturing()) { return invalidStatus; }
    if (!memoryHolds || !insideAllocation(info, 4)) { return solverStatus(raise(IllegalAddress)); }
    int result = 0;
    work(&result);
    std::memcpy(reinterpret_cast<void*>(info), &result, 4);
    return 0;
}
int bufferSizes(void* handle, std::size_t* device, std::size_t* host)
{
    Call call(Need::Context);
    if (call.error) { return solverStatus(call.error); }
    if (!find<Solver>(handle)) { return notInitialized; }
    *device = 1024;
    *host = 256;
    return 0;
}
bool known(int type, int compute) { return (type == R32F || type == R64F) && type == compute; }
bool workspaceHolds(std::uint64_t device, std::size_t deviceBytes, const void* host, std::size_t hostBytes)
{
    return deviceBytes >= 1024 && hostBytes >= 256 && host && insideAllocation(device, deviceBytes);
}
template <class T> T* at(std::uint64_t p) { return reinterpret_cast<T*>(p); }
}

HOST_CUDA int cusolverDnCreate(void** handle)
{
    Call call(Need::Context);
    if (call.error) { return solverStatus(call.error); }
    *handle = make<Solver>();
    return 0;
}
HOST_CUDA int cusolverDnDestroy(void* handle)
{
    Call call(Need::Nothing);
    return destroy<Solver>(handle) ? solverStatus(call.error) : notInitialized;
}
HOST_CUDA int cusolverDnSetStream(void* handle, void* stream)
{
    Call call(Need::Context);
    if (call.error) { return solverStatus(call.error); }
    Solver* solver = find<Solver>(handle);
    Stream* on = findStream(stream);
    if (!solver || !on) { return invalidStatus; }
    solver->stream = on;
    return 0;
}
HOST_CUDA int cusolverDnCreateParams(void** parameters)
{
    Call call(Need::Nothing);
    if (call.error) { return solverStatus(call.error); }
    *parameters = make<Parameters>();
    return 0;
}
HOST_CUDA int cusolverDnDestroyParams(void* parameters)
{
    Call call(Need::Nothing);
    return destroy<Parameters>(parameters) ? solverStatus(call.error) : invalidStatus;
}
HOST_CUDA int cusolverDnXpotrf_bufferSize(void* handle, void*, int, std::int64_t, int, std::uint64_t, std::int64_t, int, std::size_t* device,
                                          std::size_t* host)
{
    return bufferSizes(handle, device, host);
}
HOST_CUDA int cusolverDnXpotrf(void* handle, void*, int uplo, std::int64_t n, int type, std::uint64_t a, std::int64_t lda, int compute,
                               std::uint64_t workspace, std::size_t workspaceBytes, void* hostWorkspace, std::size_t hostBytes, std::uint64_t info)
{
    const bool memory = inside(a, matrixBytes(n, n, lda, type)) && workspaceHolds(workspace, workspaceBytes, hostWorkspace, hostBytes);
    return solve(handle, known(type, compute) && lda >= n, memory, info, [&](int* result)
    {
        const int size = int(n), stride = int(lda);
        if (type == R64F) { dpotrf_(triangle(uplo), &size, at<double>(a), &stride, result); }
        else { spotrf_(triangle(uplo), &size, at<float>(a), &stride, result); }
    });
}
HOST_CUDA int cusolverDnXpotrs(void* handle, void*, int uplo, std::int64_t n, std::int64_t columns, int type, std::uint64_t a, std::int64_t lda,
                               int typeB, std::uint64_t b, std::int64_t ldb, std::uint64_t info)
{
    const bool memory = inside(a, matrixBytes(n, n, lda, type)) && inside(b, matrixBytes(n, columns, ldb, type));
    return solve(handle, known(type, typeB) && lda >= n && ldb >= n, memory, info, [&](int* result)
    {
        const int size = int(n), count = int(columns), strideA = int(lda), strideB = int(ldb);
        if (type == R64F) { dpotrs_(triangle(uplo), &size, &count, at<double>(a), &strideA, at<double>(b), &strideB, result); }
        else { spotrs_(triangle(uplo), &size, &count, at<float>(a), &strideA, at<float>(b), &strideB, result); }
    });
}
