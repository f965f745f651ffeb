// The products of CpuLinear in vectors of 512 bits, for programs built ahead of time. .NET's ahead-of-time compiler uses AVX-512 either always or
// never; this file is chosen at run time. The C# code (CpuLinear, PanelTiles) does the same operations in the same order, so that the bits agree.
//
//   dots     s_ij = Σ_k w_ik x_jk for at most 4 rows of W as stored // (outputs, K) and 2 · pairs rows of x, arranged by CpuLinear.Pairs;
//            a vector holds two rows of x; every weight is read and widened once for all rows of x
//   tiles    C (+)= A B           A // (rows, depth), B // (depth, 16), C // (rows, 16); rows is a multiple of 12
//   columns  C += A' B            A // (depth, rows), B // (depth, 16), C // (rows, 16); rows is a multiple of 8
#include <immintrin.h>
#include <stdint.h>

#define WIDE __attribute__((target("avx512f,avx512dq,fma")))
#define INLINE static inline __attribute__((always_inline, target("avx512f,avx512dq,fma")))

enum { STEP_INPUTS = 16, STEP_NUMBERS = 32, OUTPUTS_AT_ONCE = 4, TILE_ROWS = 12, TILE_COLUMNS = 16, COLUMNS_ROWS = 8, LINE_IN_BYTES = 64 };

// The values of WeightType.
enum { F32, F16, BF16 };

// a and b of IStoredWeight.Load, each repeated in both halves of the vector.
typedef struct {
    __m512 a, b;
} weights;

INLINE __m512i both_halves(const uint8_t *p)
{
    return _mm512_broadcast_i32x8(_mm256_loadu_si256((const __m256i *)p));
}

// Converts the float16 in the upper 16 bits of each lane to float32, as F16Weight.Widen does.
INLINE __m512 widen(__m512i upper)
{
    __m512i magnitude = _mm512_srli_epi32(_mm512_and_si512(upper, _mm512_set1_epi32(0x7FFF0000)), 3);
    __m512i scaled = _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_castsi512_ps(_mm512_set1_epi32((112 + 127) << 23))));
    __mmask16 special = _mm512_cmpge_epu32_mask(magnitude, _mm512_set1_epi32(0x0F800000));
    scaled = _mm512_mask_or_epi32(scaled, special, scaled, _mm512_set1_epi32(0x7F800000));
    return _mm512_castsi512_ps(_mm512_or_si512(scaled, _mm512_and_si512(upper, _mm512_set1_epi32(INT32_MIN))));
}

INLINE weights load(int type, const uint8_t *p)
{
    if (type == F32) {
        return (weights){_mm512_castsi512_ps(both_halves(p)), _mm512_castsi512_ps(both_halves(p + 32))};
    }

    __m512i pairs = both_halves(p), even = _mm512_slli_epi32(pairs, 16), odd = _mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000));
    return type == BF16 ? (weights){_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)} : (weights){widen(even), widen(odd)};
}

INLINE __m512 add(weights w, __m512 xa, __m512 xb, __m512 sum)
{
    return _mm512_fmadd_ps(w.b, xb, _mm512_fmadd_ps(w.a, xa, sum));
}

// Sums of two neighbours: two of a, then two of b, in each quarter.
INLINE __m512 neighbours(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}

INLINE void dots(
    int type, int pairs, const uint8_t *w, intptr_t stride, int outputs, const uint8_t *ahead, const float *x, intptr_t steps, float *sums)
{
    const intptr_t step = type == F32 ? 64 : 32;
    const uint8_t *w0 = w, *w1 = w + (outputs > 1 ? stride : 0), *w2 = w + (outputs > 2 ? 2 * stride : 0), *w3 = w + (outputs > 3 ? 3 * stride : 0);
    __m512 s[4][OUTPUTS_AT_ONCE];
#pragma GCC unroll 4
    for (int j = 0; j < pairs; j++) {
        s[j][0] = s[j][1] = s[j][2] = s[j][3] = _mm512_setzero_ps();
    }

    for (intptr_t k = 0; k < steps; k++) {
        weights v0 = load(type, w0), v1 = load(type, w1), v2 = load(type, w2), v3 = load(type, w3);

        // In the order of the memory: four rows side by side would be slower by a tenth.
        if (step == LINE_IN_BYTES || k % 2 == 0) {
            _mm_prefetch((const char *)ahead, _MM_HINT_T1);
            _mm_prefetch((const char *)ahead + LINE_IN_BYTES, _MM_HINT_T1);
            _mm_prefetch((const char *)ahead + 2 * LINE_IN_BYTES, _MM_HINT_T1);
            _mm_prefetch((const char *)ahead + 3 * LINE_IN_BYTES, _MM_HINT_T1);
            ahead += OUTPUTS_AT_ONCE * LINE_IN_BYTES;
        }

#pragma GCC unroll 4
        for (int j = 0; j < pairs; j++) {
            __m512 xa = _mm512_loadu_ps(x + STEP_NUMBERS * j), xb = _mm512_loadu_ps(x + STEP_NUMBERS * j + STEP_INPUTS);
            s[j][0] = add(v0, xa, xb, s[j][0]);
            s[j][1] = add(v1, xa, xb, s[j][1]);
            s[j][2] = add(v2, xa, xb, s[j][2]);
            s[j][3] = add(v3, xa, xb, s[j][3]);
        }

        x += STEP_NUMBERS * pairs;
        w0 += step;
        w1 += step;
        w2 += step;
        w3 += step;
    }

#pragma GCC unroll 4
    for (int j = 0; j < pairs; j++) {
        // As VectorMath.SumEach in each half. A quarter of a vector then holds one sum of each output.
        __m512 quarters = neighbours(neighbours(s[j][0], s[j][1]), neighbours(s[j][2], s[j][3]));
        __m512 both = _mm512_add_ps(_mm512_shuffle_f32x4(quarters, quarters, 0x08), _mm512_shuffle_f32x4(quarters, quarters, 0x0D));
        _mm256_storeu_ps(sums + 8 * j, _mm512_castps512_ps256(both));
    }
}

#define DOTS(TYPE, PAIRS)                                                                                                                            \
    WIDE static void dots_##TYPE##_##PAIRS(                                                                                                          \
        const uint8_t *w, intptr_t stride, int outputs, const uint8_t *ahead, const float *x, intptr_t steps, float *sums)                           \
    {                                                                                                                                                \
        dots(TYPE, PAIRS, w, stride, outputs, ahead, x, steps, sums);                                                                                \
    }

DOTS(F32, 1)
DOTS(F32, 2)
DOTS(F32, 3)
DOTS(F32, 4)
DOTS(F16, 1)
DOTS(F16, 2)
DOTS(F16, 3)
DOTS(F16, 4)
DOTS(BF16, 1)
DOTS(BF16, 2)
DOTS(BF16, 3)
DOTS(BF16, 4)

// Whether the processor and the operating system support the functions below.
int tiller_avx512_supported(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
}

void tiller_avx512_dots(
    int type, int pairs, const uint8_t *w, intptr_t stride, int outputs, const uint8_t *ahead, const float *x, intptr_t steps, float *sums)
{
    static void (*const all[3][4])(const uint8_t *, intptr_t, int, const uint8_t *, const float *, intptr_t, float *) = {
        {dots_F32_1, dots_F32_2, dots_F32_3, dots_F32_4},
        {dots_F16_1, dots_F16_2, dots_F16_3, dots_F16_4},
        {dots_BF16_1, dots_BF16_2, dots_BF16_3, dots_BF16_4},
    };
    all[type][pairs - 1](w, stride, outputs, ahead, x, steps, sums);
}

WIDE void tiller_avx512_tiles(const float *a, intptr_t a_stride, int rows, const float *b, intptr_t depth, float *c, intptr_t c_stride, int add_to)
{
    for (int n = 0; n < rows; n += TILE_ROWS, a += TILE_ROWS * a_stride, c += TILE_ROWS * c_stride) {
        __m512 s[TILE_ROWS];
#pragma GCC unroll 12
        for (int i = 0; i < TILE_ROWS; i++) {
            s[i] = _mm512_setzero_ps();
        }

        for (intptr_t k = 0; k < depth; k++) {
            __m512 x = _mm512_loadu_ps(b + TILE_COLUMNS * k);
#pragma GCC unroll 12
            for (int i = 0; i < TILE_ROWS; i++) {
                s[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[i * a_stride + k]), x, s[i]);
            }
        }

#pragma GCC unroll 12
        for (int i = 0; i < TILE_ROWS; i++) {
            float *row = c + i * c_stride;
            _mm512_storeu_ps(row, add_to ? _mm512_add_ps(s[i], _mm512_loadu_ps(row)) : s[i]);
        }
    }
}

WIDE void tiller_avx512_columns(const float *a, intptr_t stride, int rows, const float *b, intptr_t b_stride, intptr_t depth, float *c)
{
    for (int n = 0; n < rows; n += COLUMNS_ROWS, a += COLUMNS_ROWS, c += COLUMNS_ROWS * TILE_COLUMNS) {
        __m512 s[COLUMNS_ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < COLUMNS_ROWS; i++) {
            s[i] = _mm512_loadu_ps(c + TILE_COLUMNS * i);
        }

        const float *line = a;
        for (intptr_t k = 0; k < depth; k++, line += stride) {
            __m512 x = _mm512_loadu_ps(b + b_stride * k);
#pragma GCC unroll 8
            for (int i = 0; i < COLUMNS_ROWS; i++) {
                s[i] = _mm512_fmadd_ps(_mm512_set1_ps(line[i]), x, s[i]);
            }
        }

#pragma GCC unroll 8
        for (int i = 0; i < COLUMNS_ROWS; i++) {
            _mm512_storeu_ps(c + TILE_COLUMNS * i, s[i]);
        }
    }
}

// Measures the processor's FLOP/s: a round is 12 fused multiply-adds on registers, each independent of the others.
#define CHAINS(NAME, NUMBER, VECTOR, SET1, FMADD, SUM)                                                                                               \
    WIDE double NAME(intptr_t rounds, double start)                                                                                                  \
    {                                                                                                                                                \
        VECTOR m = SET1((NUMBER)0.999), b = SET1((NUMBER)0.001), x0 = SET1((NUMBER)start);                                                           \
        VECTOR x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0, x6 = x0, x7 = x0, x8 = x0, x9 = x0, x10 = x0, x11 = x0;                                  \
        for (intptr_t i = 0; i < rounds; i++) {                                                                                                      \
            x0 = FMADD(x0, m, b);                                                                                                                    \
            x1 = FMADD(x1, m, b);                                                                                                                    \
            x2 = FMADD(x2, m, b);                                                                                                                    \
            x3 = FMADD(x3, m, b);                                                                                                                    \
            x4 = FMADD(x4, m, b);                                                                                                                    \
            x5 = FMADD(x5, m, b);                                                                                                                    \
            x6 = FMADD(x6, m, b);                                                                                                                    \
            x7 = FMADD(x7, m, b);                                                                                                                    \
            x8 = FMADD(x8, m, b);                                                                                                                    \
            x9 = FMADD(x9, m, b);                                                                                                                    \
            x10 = FMADD(x10, m, b);                                                                                                                  \
            x11 = FMADD(x11, m, b);                                                                                                                  \
            /* Keeps the compiler from computing equal chains only once. */                                                                         \
            __asm__ volatile("" : "+v"(x0), "+v"(x1), "+v"(x2), "+v"(x3), "+v"(x4), "+v"(x5), "+v"(x6), "+v"(x7), "+v"(x8), "+v"(x9), "+v"(x10),     \
                             "+v"(x11));                                                                                                             \
        }                                                                                                                                            \
        return SUM(x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11);                                                                     \
    }

CHAINS(tiller_avx512_chains_single, float, __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps)
CHAINS(tiller_avx512_chains_double, double, __m512d, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_reduce_add_pd)
