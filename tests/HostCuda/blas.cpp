// cuBLAS and cuBLASLt for column-major matrices, with alpha and beta on the host. OpenBLAS multiplies float and double matrices; products of bfloat16
// matrices are summed with the rounding of tensor cores.
#include "hostcuda.h"
#include "tensor_cores.h"
#include <cstring>

using namespace tillerhost;

extern "C" void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*, const float*, const int*,
                       const float*, float*, const int*);
extern "C" void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*, const double*, const int*, const double*,
                       const int*, const double*, double*, const int*);

namespace
{
enum : int { R32F = 0, R64F = 1, R16BF = 14 }; // cudaDataType
enum : int { InvalidStatus = 7, NotSupported = 15 };

struct Blas : Object
{
    Stream* stream = &state().defaultStream;
};
struct BlasLt : Object {};

struct Operand
{
    std::uint64_t pointer;
    int type, ld;
};
struct Gemm
{
    int transposeA, transposeB, m, n, k;
    double alpha, beta;
    Operand a, b, c, d;
};

std::size_t sizeOf(int type) { return type == R64F ? 8 : type == R32F ? 4 : 2; }
bool known(int type) { return type == R64F || type == R32F || type == R16BF; }

bool inside(const Operand& x, int rows, int columns)
{
    const std::size_t elements = rows && columns ? std::size_t(x.ld) * std::size_t(columns - 1) + std::size_t(rows) : 0;
    return x.ld >= rows && (elements == 0 || insideAllocation(x.pointer, elements * sizeOf(x.type)));
}

// A packed float or double copy, column-major with ld = rows.
template <class T> std::vector<T> widened(const Operand& x, int rows, int columns)
{
    std::vector<T> values(std::size_t(rows) * std::size_t(columns));
    for (int j = 0; j < columns; j++)
    {
        for (int i = 0; i < rows; i++)
        {
            const std::size_t at = std::size_t(j) * std::size_t(x.ld) + std::size_t(i);
            T value;
            if (x.type == R64F) { value = T(reinterpret_cast<const double*>(x.pointer)[at]); }
            else if (x.type == R32F) { value = T(reinterpret_cast<const float*>(x.pointer)[at]); }
            else
            {
                const std::uint32_t bits = std::uint32_t(reinterpret_cast<const std::uint16_t*>(x.pointer)[at]) << 16;
                float f;
                std::memcpy(&f, &bits, 4);
                value = T(f);
            }
            values[std::size_t(j) * std::size_t(rows) + std::size_t(i)] = value;
        }
    }
    return values;
}

template <class T> void store(const Operand& x, int rows, int columns, const std::vector<T>& values)
{
    for (int j = 0; j < columns; j++)
    {
        for (int i = 0; i < rows; i++)
        {
            const std::size_t at = std::size_t(j) * std::size_t(x.ld) + std::size_t(i);
            const T value = values[std::size_t(j) * std::size_t(rows) + std::size_t(i)];
            if (x.type == R64F) { reinterpret_cast<double*>(x.pointer)[at] = double(value); }
            else if (x.type == R32F) { reinterpret_cast<float*>(x.pointer)[at] = float(value); }
            else
            {
                const float f = float(value);
                std::uint32_t bits;
                std::memcpy(&bits, &f, 4);
                // Rounds to nearest, ties to even. NaN stays NaN: the top bit of its fraction is set.
                const bool nan = (bits & 0x7fffffff) > 0x7f800000;
                bits = nan ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
                reinterpret_cast<std::uint16_t*>(x.pointer)[at] = std::uint16_t(bits >> 16);
            }
        }
    }
}

void multiply(const char* ta, const char* tb, const Gemm& g, float alpha, const float* a, int lda, const float* b, int ldb, float beta, float* c)
{
    sgemm_(ta, tb, &g.m, &g.n, &g.k, &alpha, a, &lda, b, &ldb, &beta, c, &g.m);
}
void multiply(const char* ta, const char* tb, const Gemm& g, double alpha, const double* a, int lda, const double* b, int ldb, double beta, double* c)
{
    dgemm_(ta, tb, &g.m, &g.n, &g.k, &alpha, a, &lda, b, &ldb, &beta, c, &g.m);
}

template <class T> int compute(const Gemm& g)
{
    const int rowsA = g.transposeA ? g.k : g.m, rowsB = g.transposeB ? g.n : g.k;
    const auto a = widened<T>(g.a, rowsA, g.transposeA ? g.m : g.k);
    const auto b = widened<T>(g.b, rowsB, g.transposeB ? g.k : g.n);
    auto c = g.beta == 0 ? std::vector<T>(std::size_t(g.m) * std::size_t(g.n)) : widened<T>(g.c, g.m, g.n);
    multiply(g.transposeA ? "T" : "N", g.transposeB ? "T" : "N", g, T(g.alpha), a.data(), rowsA, b.data(), rowsB, T(g.beta), c.data());
    store(g.d, g.m, g.n, c);
    return Success;
}

// The sums of products begin at zero and add 16 depths at a time; alpha and beta are applied afterwards, in float32.
int computeOnTensorCores(const Gemm& g)
{
    const auto a = widened<float>(g.a, g.transposeA ? g.k : g.m, g.transposeA ? g.m : g.k);
    const auto b = widened<float>(g.b, g.transposeB ? g.n : g.k, g.transposeB ? g.k : g.n);
    auto c = g.beta == 0 ? std::vector<float>(std::size_t(g.m) * std::size_t(g.n)) : widened<float>(g.c, g.m, g.n);
    const auto m = std::size_t(g.m), n = std::size_t(g.n), depth = std::size_t(g.k);
    std::vector<float> left(depth * tensorCoreLanes); // eight rows of op(A), depth by depth
    for (std::size_t i = 0; i < m; i += tensorCoreLanes)
    {
        for (std::size_t k = 0; k < depth; k++)
        {
            for (std::size_t l = 0; l < tensorCoreLanes; l++)
            {
                left[k * tensorCoreLanes + l] = i + l >= m ? 0.0f : g.transposeA ? a[(i + l) * depth + k] : a[k * m + i + l];
            }
        }
        for (std::size_t j = 0; j < n; j++)
        {
            float sums[tensorCoreLanes] = {};
            for (std::size_t first = 0; first < depth; first += tensorCoreDepths)
            {
                float products[tensorCoreDepths][tensorCoreLanes] = {};
                for (std::size_t k = 0; k < tensorCoreDepths && first + k < depth; k++)
                {
                    const float right = g.transposeB ? b[(first + k) * n + j] : b[j * depth + first + k];
                    for (std::size_t l = 0; l < tensorCoreLanes; l++) { products[k][l] = left[(first + k) * tensorCoreLanes + l] * right; }
                }
                addOnTensorCores(sums, products);
            }
            for (std::size_t l = 0; l < tensorCoreLanes && i + l < m; l++)
            {
                float& at = c[j * m + i + l];
                at = g.beta == 0 ? float(g.alpha) * sums[l] : float(g.alpha) * sums[l] + float(g.beta) * at;
            }
        }
    }
    store(g.d, g.m, g.n, c);
    return Success;
}

int gemm(Stream& stream, const Gemm& g)
{
    if (!known(g.a.type) || g.a.type != g.b.type || !known(g.d.type) || g.c.type != g.d.type) { return NotSupported; }
    if (g.m < 0 || g.n < 0 || g.k < 0 || (g.transposeA | g.transposeB) > 1) { return InvalidStatus; }
    if (g.m == 0 || g.n == 0) { return 0; }
    const auto run = [=]
    {
        const bool held = inside(g.a, g.transposeA ? g.k : g.m, g.transposeA ? g.m : g.k)
                       && inside(g.b, g.transposeB ? g.n : g.k, g.transposeB ? g.k : g.n) && inside(g.c, g.m, g.n) && inside(g.d, g.m, g.n);
        if (!held) { return raise(IllegalAddress); }
        return g.d.type == R64F ? compute<double>(g) : g.a.type == R16BF ? computeOnTensorCores(g) : compute<float>(g);
    };
    return blasStatus(runOrRecord(stream, {Node::Library, run}));
}

template <class T> double scalar(const void* p) { return double(*static_cast<const T*>(p)); }

struct Layout : Object
{
    int type;
    std::uint64_t rows, columns;
    std::int64_t ld;
};
struct Description : Object
{
    int compute, scale, transposeA = 0, transposeB = 0;
};
struct Preference : Object
{
    std::uint64_t workspaceBytes = 0;
    std::uint32_t alignments[4] = {256, 256, 256, 256}; // of A, B, C and D, as the caller promises them
};
struct Heuristic // cublasLtMatmulHeuristicResult_t
{
    std::uint64_t algorithm[8];
    std::size_t workspaceBytes;
    int state;
    float waves;
    int reserved[4];
};

template <class T> int release(void* handle)
{
    Call call(Need::Nothing);
    return destroy<T>(handle) ? blasStatus(call.error) : InvalidStatus;
}
}

HOST_CUDA int cublasCreate_v2(void** handle)
{
    Call call(Need::Context);
    if (call.error) { return blasStatus(call.error); }
    *handle = make<Blas>();
    return 0;
}
HOST_CUDA int cublasDestroy_v2(void* handle) { return release<Blas>(handle); }
HOST_CUDA int cublasSetStream_v2(void* handle, void* stream)
{
    Call call(Need::Context);
    if (call.error) { return blasStatus(call.error); }
    Blas* blas = find<Blas>(handle);
    Stream* on = findStream(stream);
    if (!blas || !on) { return InvalidStatus; }
    blas->stream = on;
    return 0;
}
HOST_CUDA int cublasSetWorkspace_v2(void* handle, std::uint64_t workspace, std::size_t bytes)
{
    Call call(Need::Context);
    if (call.error) { return blasStatus(call.error); }
    return find<Blas>(handle) && insideAllocation(workspace, bytes) ? 0 : InvalidStatus;
}
HOST_CUDA int cublasDgemm_v2(void* handle, int transposeA, int transposeB, int m, int n, int k, const double* alpha, std::uint64_t a, int lda,
                             std::uint64_t b, int ldb, const double* beta, std::uint64_t c, int ldc)
{
    Call call(Need::Context);
    if (call.error) { return blasStatus(call.error); }
    Blas* blas = find<Blas>(handle);
    if (!blas) { return 1; }
    const Operand result{c, R64F, ldc};
    return gemm(*blas->stream, {transposeA, transposeB, m, n, k, *alpha, *beta, {a, R64F, lda}, {b, R64F, ldb}, result, result});
}

HOST_CUDA int cublasLtCreate(void** handle)
{
    Call call(Need::Context);
    if (call.error) { return blasStatus(call.error); }
    *handle = make<BlasLt>();
    return 0;
}
HOST_CUDA int cublasLtDestroy(void* handle) { return release<BlasLt>(handle); }
HOST_CUDA int cublasLtMatmulDescCreate(void** description, int computeType, int scaleType)
{
    Call call(Need::Nothing);
    if (call.error) { return blasStatus(call.error); }
    Description* d = make<Description>();
    d->compute = computeType;
    d->scale = scaleType;
    *description = d;
    return 0;
}
HOST_CUDA int cublasLtMatmulDescDestroy(void* description) { return release<Description>(description); }
HOST_CUDA int cublasLtMatmulDescSetAttribute(void* description, int attribute, const void* value, std::size_t bytes)
{
    Call call(Need::Nothing);
    if (call.error) { return blasStatus(call.error); }
    Description* d = find<Description>(description);
    if (!d || bytes != 4) { return InvalidStatus; }
    switch (attribute) // cublasLtMatmulDescAttributes_t
    {
        case 3: std::memcpy(&d->transposeA, value, 4); return 0;
        case 4: std::memcpy(&d->transposeB, value, 4); return 0;
        default: return NotSupported;
    }
}
HOST_CUDA int cublasLtMatrixLayoutCreate(void** layout, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t ld)
{
    Call call(Need::Nothing);
    if (call.error) { return blasStatus(call.error); }
    Layout* l = make<Layout>();
    l->type = type;
    l->rows = rows;
    l->columns = columns;
    l->ld = ld;
    *layout = l;
    return 0;
}
HOST_CUDA int cublasLtMatrixLayoutDestroy(void* layout) { return release<Layout>(layout); }
HOST_CUDA int cublasLtMatmulPreferenceCreate(void** preference)
{
    Call call(Need::Nothing);
    if (call.error) { return blasStatus(call.error); }
    *preference = make<Preference>();
    return 0;
}
HOST_CUDA int cublasLtMatmulPreferenceDestroy(void* preference) { return release<Preference>(preference); }
HOST_CUDA int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, std::size_t bytes)
{
    Call call(Need::Nothing);
    if (call.error) { return blasStatus(call.error); }
    Preference* p = find<Preference>(preference);
    if (!p) { return InvalidStatus; }
    if (attribute == 1 && bytes == 8) // cublasLtMatmulPreferenceAttributes_t: MAX_WORKSPACE_BYTES
    {
        std::memcpy(&p->workspaceBytes, value, 8);
        return 0;
    }
    if (attribute < 5 || attribute > 8 || bytes != 4) { return InvalidStatus; } // MIN_ALIGNMENT_A_BYTES to D
    std::memcpy(&p->alignments[attribute - 5], value, 4);
    return 0;
}
HOST_CUDA int cublasLtMatmulAlgoGetHeuristic(void* handle, void* description, void* a, void* b, void* c, void* d, void* preference, int asked,
                                             Heuristic* results, int* found)
{
    Call call(Need::Nothing);
    if (call.error) { return blasStatus(call.error); }
    const Preference* p = find<Preference>(preference);
    if (!find<BlasLt>(handle) || !find<Description>(description) || !p || asked < 1) { return InvalidStatus; }
    for (void* layout : {a, b, c, d})
    {
        if (!find<Layout>(layout)) { return InvalidStatus; }
    }
    results[0] = {};
    std::memcpy(results[0].algorithm, p->alignments, sizeof p->alignments);
    *found = 1;
    return 0;
}
HOST_CUDA int cublasLtMatmul(void* handle, void* description, const void* alpha, std::uint64_t a, void* layoutA, std::uint64_t b, void* layoutB,
                             const void* beta, std::uint64_t c, void* layoutC, std::uint64_t d, void* layoutD, const void* algorithm,
                             std::uint64_t workspace, std::size_t workspaceBytes, void* stream)
{
    Call call(Need::Context);
    if (call.error) { return blasStatus(call.error); }
    const Description* how = find<Description>(description);
    const Layout *la = find<Layout>(layoutA), *lb = find<Layout>(layoutB), *lc = find<Layout>(layoutC), *ld = find<Layout>(layoutD);
    Stream* on = findStream(stream);
    if (!find<BlasLt>(handle) || !how || !la || !lb || !lc || !ld || !on) { return InvalidStatus; }
    if (workspaceBytes && !insideAllocation(workspace, workspaceBytes)) { return InvalidStatus; }
    // The algorithm was chosen for operands that are aligned as the preference says.
    if (!algorithm) { return InvalidStatus; }
    std::uint32_t alignments[4];
    std::memcpy(alignments, algorithm, sizeof alignments);
    const std::uint64_t operands[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
    {
        if (alignments[i] == 0 || operands[i] % alignments[i] != 0) { return InvalidStatus; }
    }
    const auto m = int(ld->rows), n = int(ld->columns), k = int(how->transposeA ? la->rows : la->columns);
    if (int(how->transposeA ? la->columns : la->rows) != m || int(how->transposeB ? lb->rows : lb->columns) != n
        || int(how->transposeB ? lb->columns : lb->rows) != k)
    {
        return InvalidStatus;
    }
    const bool wide = how->scale == R64F;
    return gemm(*on, {how->transposeA, how->transposeB, m, n, k, wide ? scalar<double>(alpha) : scalar<float>(alpha),
                      wide ? scalar<double>(beta) : scalar<float>(beta), {a, la->type, int(la->ld)}, {b, lb->type, int(lb->ld)},
                      {c, lc->type, int(lc->ld)}, {d, ld->type, int(ld->ld)}});
}
