// y_m = W x_m for 1 to 8 rows m at once, with W read once and FP32 products and sums: the loop that the kernels of decoding share.
//
// A block of 256 threads computes 32 / parts outputs. `parts` (1, 2 or 4) warps share an output, and each of them sums every parts-th step of
// 256 weights. A warp has four outputs, so that a number of x loaded from shared memory is used for four weights. A lane has eight
// weights of a step, and 128 bytes in flight: two steps of four outputs, or one step of f32.
// Order of a sum: a lane's weights in the order of columns, the lanes in a fixed tree, the parts in order. It depends only on the shape of W,
// so a row's bits do not depend on the other rows or on their number.
//
// A kernel does, in this order (as tillerDotRows below; a fused kernel has its own `stage`, `ready` and `epilogue`):
//   TillerDots d; d.start(...)      loads the first weights; W does not depend on the previous kernel
//   d.prefetch(...)                 prefetches the next weights to the L2 cache, so that the memory is busy while the previous kernel ends
//   tillerWaitForPredecessor()
//   for each chunk of columns: copy x to shared memory, barrier, d.accumulate, barrier
//   d.finish                        sums of all rows and outputs of the block in shared memory, barrier, epilogue
#pragma once
#include "memory.cuh"
#include "numbers.cuh"

constexpr int tillerDotThreads = 256;
constexpr int tillerDotStep = 256;      // columns in a step: 32 lanes of eight weights
constexpr int tillerDotOutputs = 4;     // outputs of a warp
constexpr int tillerDotChunkUnit = 2048; // chunks are multiples of it, so that up to four parts have whole groups of up to two steps
constexpr int tillerDotFirstBlocks = 264; // blocks that can be resident before the previous kernel has ended: two on each of 132 multiprocessors

// Number of columns in shared memory at a time, at most 64 KiB. Launchers compute the same number.
static __device__ __forceinline__ int tillerDotChunk(int rows, int columns)
{
    const int most = 16384 / rows / tillerDotChunkUnit * tillerDotChunkUnit;
    // From four rows on, their distance in shared memory is a constant, so that their addresses take no registers.
    return rows >= 4 ? most : tillerMin(most, (columns + tillerDotStep - 1) / tillerDotStep * tillerDotStep);
}

// A lane's eight weights of the step at column `at`; zero beyond the end of the row.
template <class W> static __device__ __forceinline__ typename W::Eight tillerLoadEight(const unsigned char* row, int at, int columns, bool wide);
static __device__ __forceinline__ TillerEight16 tillerWideEight(TillerBF16, const void* p, int left) { return {tillerLoad16(p, left > 0)}; }
static __device__ __forceinline__ TillerEight16 tillerWideEight(TillerF16, const void* p, int left) { return {tillerLoad16(p, left > 0)}; }
static __device__ __forceinline__ TillerEight32 tillerWideEight(TillerF32, const void* p, int left)
{
    return {tillerLoad16(p, left > 0), tillerLoad16(static_cast<const unsigned char*>(p) + 512, left > 128)};
}
template <class W> static __device__ __forceinline__ TillerEight16 tillerLoadEight16(const unsigned char* row, int at, int columns, bool wide)
{
    const int k = at + W::first(int(threadIdx.x) % 32, 0), left = columns - k;
    const unsigned short* p = reinterpret_cast<const unsigned short*>(row) + k;
    if (wide) { return tillerWideEight(W{}, p, left); }
    return {{tillerPair16(p, left), tillerPair16(p + 2, left - 2), tillerPair16(p + 4, left - 4), tillerPair16(p + 6, left - 6)}};
}
template <> __device__ __forceinline__ TillerEight16 tillerLoadEight<TillerBF16>(const unsigned char* row, int at, int columns, bool wide)
{
    return tillerLoadEight16<TillerBF16>(row, at, columns, wide);
}
template <> __device__ __forceinline__ TillerEight16 tillerLoadEight<TillerF16>(const unsigned char* row, int at, int columns, bool wide)
{
    return tillerLoadEight16<TillerF16>(row, at, columns, wide);
}
static __device__ __forceinline__ unsigned tillerWordOrZero(const unsigned* p, bool wanted) { return wanted ? *p : 0u; }
template <> __device__ __forceinline__ TillerEight32 tillerLoadEight<TillerF32>(const unsigned char* row, int at, int columns, bool wide)
{
    const int k = at + TillerF32::first(int(threadIdx.x) % 32, 0), left = columns - k;
    const unsigned* p = reinterpret_cast<const unsigned*>(row) + k;
    if (wide) { return tillerWideEight(TillerF32{}, p, left); }
    return {{tillerWordOrZero(p, left > 0), tillerWordOrZero(p + 1, left > 1), tillerWordOrZero(p + 2, left > 2), tillerWordOrZero(p + 3, left > 3)},
            {tillerWordOrZero(p + 128, left > 128), tillerWordOrZero(p + 129, left > 129), tillerWordOrZero(p + 130, left > 130),
             tillerWordOrZero(p + 131, left > 131)}};
}

// Sums over a warp of n = 4, 8, 16 or 32 numbers at once: lane l gets the sum of number l / (32 / n). Every number is added up in the same
// tree, lanes 16 apart first, so that the bits do not depend on n.
template <int n> static __device__ __forceinline__ float tillerWarpSums(float (&v)[n])
{
    const int lane = int(threadIdx.x) % 32;
    int live = n;
    TILLER_UNROLL
    for (int apart = 16; apart > 0; apart >>= 1)
    {
        const bool upper = (lane & apart) != 0;
        const int half = live / 2;
        if (live > 1)
        {
            TILLER_UNROLL
            for (int i = 0; i < n / 2; i++)
            {
                if (i < half)
                {
                    const float a = v[i], b = v[i + half];
                    v[i] = (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, apart);
                }
            }
            live = half;
        }
        else { v[0] += __shfl_xor_sync(0xffffffffu, v[0], apart); }
    }
    return v[0];
}

template <class W, int R> struct TillerDots
{
    // Steps in flight. Eight rows have half as many, so that two blocks fit on a multiprocessor: their arithmetic takes longer than the loads.
    static constexpr int steps = R == 8 && sizeof(typename W::Eight) == 16 ? 1 : 32 / int(sizeof(typename W::Eight));
    const unsigned char* w;
    unsigned rows[tillerDotOutputs]; // where the rows of w begin, in units of 16 bytes if `wide`, otherwise in rows
    typename W::Eight ahead[steps][tillerDotOutputs];
    float sums[R][tillerDotOutputs];
    int columns, parts, at; // `at` is the first column of this warp's next step
    bool wide, live;

    // w // (outputs, columns). The block's outputs start at `first`. `wide`: rows of w start at multiples of 16 bytes.
    __device__ __forceinline__ void start(const void* w, int outputs, int columns, int first, int parts, bool wide)
    {
        const int own = int(threadIdx.x) / 32 / parts * tillerDotOutputs;
        // A row beyond the last is a second copy of the last, which is not stored.
        start(w, columns, parts, wide, first + own < outputs, [&](int j) { return tillerMin(first + j, outputs - 1); });
    }

    // The same for any choice of rows: output j of the block is row rowOf(j) of w. `live`: this warp has outputs.
    template <class RowOf> __device__ __forceinline__ void start(const void* w, int columns, int parts, bool wide, bool live, RowOf rowOf)
    {
        const int warp = int(threadIdx.x) / 32;
        this->w = static_cast<const unsigned char*>(w);
        this->columns = columns;
        this->parts = parts;
        this->wide = wide;
        this->live = live;
        at = warp % parts * tillerDotStep;
        TILLER_UNROLL
        for (int o = 0; o < tillerDotOutputs; o++)
        {
            rows[o] = unsigned(rowOf(warp / parts * tillerDotOutputs + o)) * (wide ? unsigned(columns) * W::size / 16 : 1);
            TILLER_UNROLL
            for (int m = 0; m < R; m++) { sums[m][o] = 0; }
        }
        if (!live || !wide) { return; }
        TILLER_UNROLL
        for (int u = 0; u < steps; u++)
        {
            TILLER_UNROLL
            for (int o = 0; o < tillerDotOutputs; o++)
            {
                ahead[u][o] = load<true>(o, at + u * parts * tillerDotStep);
            }
        }
    }

    // Prefetches the next `bytes` of each of the block's rows of w. The first warp that shares a row does it, one lane for each row. Before
    // `accumulate`.
    __device__ __forceinline__ void prefetch(int bytes) const
    {
        const int lane = int(threadIdx.x) % 32, begin = steps * parts * tillerDotStep * W::size, end = tillerMin(begin + bytes, columns * W::size);
        if (!live || !wide || at != 0 || begin >= end) { return; }
        TILLER_UNROLL
        for (int o = 0; o < tillerDotOutputs; o++)
        {
            if (lane == o) { tillerPrefetch(w + 16ull * rows[o] + begin, unsigned(end - begin)); }
        }
    }

    // Eight weights of output o in the step at column `at`. W has less than 64 GiB, so that one word can address it in units of 16 bytes.
    template <bool wideRows> __device__ __forceinline__ typename W::Eight load(int o, int at) const
    {
        if (!wideRows) { return tillerLoadEight<W>(w + (long long)rows[o] * columns * W::size, at, columns, false); }
        const int k = at + W::first(int(threadIdx.x) % 32, 0);
        return tillerWideEight(W{}, w + 16ull * (rows[o] + unsigned(k) * W::size / 16), columns - k);
    }

    // Adds the columns [begin, end). x // (R, chunk) in shared memory: column k of row m is at m * chunk + W::slot(k - begin), with zeros from
    // `columns` to the next multiple of a step. begin is a multiple of tillerDotChunkUnit.
    __device__ __forceinline__ void accumulate(const float* x, int chunk, int begin, int end)
    {
        // There are two loops, so that neither needs the other's registers, and no load needs a branch.
        if (wide) { add<true>(x, chunk, begin, end); }
        else { add<false>(x, chunk, begin, end); }
    }
    // Rows that do not start at multiples of 16 bytes are loaded when they are used.
    template <bool inFlight> __device__ __forceinline__ void add(const float* x, int chunk, int begin, int end)
    {
        const int lane = int(threadIdx.x) % 32;
        constexpr int group = inFlight ? steps : 1;
        while (live && at < end)
        {
            TILLER_UNROLL
            for (int u = 0; u < group; u++)
            {
                const int step = at + u * parts * tillerDotStep;
                if (step >= columns) { continue; }
                const float* from = x + (step - begin) + 4 * lane;
                typename W::Eight now[tillerDotOutputs];
                TILLER_UNROLL
                for (int o = 0; o < tillerDotOutputs; o++)
                {
                    if (inFlight)
                    {
                        now[o] = ahead[u][o];
                        ahead[u][o] = load<true>(o, step + steps * parts * tillerDotStep);
                    }
                    else { now[o] = load<false>(o, step); }
                }
                TILLER_UNROLL
                for (int h = 0; h < 2; h++)
                {
                    float w[tillerDotOutputs][4];
                    TILLER_UNROLL
                    for (int o = 0; o < tillerDotOutputs; o++) { W::quad(now[o], h, w[o]); }
                    TILLER_UNROLL
                    for (int m = 0; m < R; m++)
                    {
                        const float4 v = *reinterpret_cast<const float4*>(from + m * chunk + 128 * h);
                        TILLER_UNROLL
                        for (int o = 0; o < tillerDotOutputs; o++)
                        {
                            sums[m][o] = tillerFma(w[o][0], v.x, sums[m][o]);
                            sums[m][o] = tillerFma(w[o][1], v.y, sums[m][o]);
                            sums[m][o] = tillerFma(w[o][2], v.z, sums[m][o]);
                            sums[m][o] = tillerFma(w[o][3], v.w, sums[m][o]);
                        }
                    }
                }
            }
            at += group * parts * tillerDotStep;
        }
    }

    // Writes the block's sums to scratch // 32 R floats, shared. sumOf(scratch, m, j) then gives the sum of row m and output `first + j`.
    __device__ __forceinline__ void finish(float* scratch)
    {
        const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, tile = 32 / parts;
        float v[R * tillerDotOutputs];
        TILLER_UNROLL
        for (int i = 0; i < R * tillerDotOutputs; i++) { v[i] = sums[i / tillerDotOutputs][i % tillerDotOutputs]; }
        const float sum = tillerWarpSums<R * tillerDotOutputs>(v);
        constexpr int lanes = 32 / (R * tillerDotOutputs);
        const int i = lane / lanes;
        if (lane % lanes == 0)
        {
            scratch[(warp % parts * R + i / tillerDotOutputs) * tile + warp / parts * tillerDotOutputs + i % tillerDotOutputs] = sum;
        }
        __syncthreads();
    }
    __device__ __forceinline__ float sumOf(const float* scratch, int m, int j) const
    {
        const int tile = 32 / parts;
        float sum = scratch[m * tile + j];
        for (int part = 1; part < parts; part++) { sum += scratch[(part * R + m) * tile + j]; }
        return sum;
    }
};

// Four numbers of a row of x from column k on, which is a multiple of four; zeros beyond the end.
static __device__ __forceinline__ float4 tillerFour(const float* row, int k, int columns)
{
    if (columns % 4 == 0) { return k < columns ? *reinterpret_cast<const float4*>(row + k) : float4{0, 0, 0, 0}; }
    return {k < columns ? row[k] : 0.0f, k + 1 < columns ? row[k + 1] : 0.0f, k + 2 < columns ? row[k + 2] : 0.0f,
            k + 3 < columns ? row[k + 3] : 0.0f};
}

// Fills the columns [begin, end) of R rows of a chunk from four(m, k), which gives zeros beyond the rows' end. A thread has eight loads in flight, or
// four for eight rows: weights and sums leave no registers for more.
template <class W, int R, class Four> static __device__ __forceinline__ void tillerStage(float* x, int chunk, int begin, int end, Four four)
{
    constexpr int several = R < 4 ? R : 4, batch = R < 8 ? 8 / R : 1;
    for (int k = begin + 4 * int(threadIdx.x); k < end; k += batch * 4 * tillerDotThreads)
    {
        TILLER_UNROLL_BY(1)
        for (int first = 0; first < R; first += several)
        {
            float4 v[batch][several];
            TILLER_UNROLL
            for (int i = 0; i < batch * several; i++)
            {
                const int at = k + i / several * 4 * tillerDotThreads;
                v[i / several][i % several] = at < end ? four(first + i % several, at) : float4{0, 0, 0, 0};
            }
            TILLER_UNROLL
            for (int i = 0; i < batch * several; i++)
            {
                const int at = k + i / several * 4 * tillerDotThreads;
                if (at < end) { *reinterpret_cast<float4*>(x + (first + i % several) * chunk + W::slot(at - begin)) = v[i / several][i % several]; }
            }
        }
    }
}

// Computes one block of y = x W'. One thread finishes row m and output n: it calls ready(m, n) before the sums, to load what will be added, and
// epilogue(m, n, sum) after them. All threads call stage(x, chunk, begin, end), which fills a chunk. prefetch: bytes of a row, 0 for none.
template <class W, int R, class Stage, class Ready, class Epilogue>
static __device__ __forceinline__ void tillerDotRows(
    const void* w, int outputs, int columns, int parts, bool wide, int prefetch, int tile, Stage stage, Ready ready, Epilogue epilogue)
{
    TILLER_DYNAMIC_SHARED(float, x);
    __shared__ float scratch[32 * R];
    const int block = 32 / parts, first = tile * block, chunk = tillerDotChunk(R, columns);
    const int m = int(threadIdx.x) / block, n = first + int(threadIdx.x) % block; // R * block <= 256
    const bool own = m < R && n < outputs;
    TillerDots<W, R> dots;
    dots.start(w, outputs, columns, first, parts, wide);
    if (prefetch > 0 && tile < tillerDotFirstBlocks) { dots.prefetch(prefetch); }
    tillerWaitForPredecessor();
    if (own) { ready(m, n); }
    for (int begin = 0; begin < columns; begin += chunk)
    {
        const int end = tillerMin(begin + chunk, (columns + tillerDotStep - 1) / tillerDotStep * tillerDotStep);
        if (begin > 0) { __syncthreads(); }
        stage(x, chunk, begin, end);
        __syncthreads();
        if (begin + chunk >= columns) { tillerReleaseSuccessor(); }
        dots.accumulate(x, chunk, begin, end);
    }
    dots.finish(scratch);
    if (own) { epilogue(m, n, dots.sumOf(scratch, m, n - first)); }
}
