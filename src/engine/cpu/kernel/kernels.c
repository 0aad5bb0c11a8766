/* One source for all instruction sets: PQ_ISA names the table, the compiler's flags do the rest. */
#include "engine/cpu/kernel/kernels.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif
#include <math.h>
#include <string.h>

#define CONCAT2(a, b) a##b
#define CONCAT(a, b) CONCAT2(a, b)
#define STRING2(a) #a
#define STRING(a) STRING2(a)

#ifdef __FMA__
#define FMA(a, b, c) fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c)) /* inside the polynomial only: no call of libm's fmaf */
#endif

static inline uint8_t to_grid(float x, pq_grid g, float lo, float hi)
{
    float q = rintf(x * g.inverse) + (float)g.zero_point;
    q = q < lo ? lo : q;
    q = q > hi ? hi : q;
    return (uint8_t)(int32_t)q;
}

static void quantize(uint8_t *restrict dst, const float *restrict x, size_t n, pq_grid g)
{
    const float lo = g.is_signed ? -128.0f : 0.0f, hi = g.is_signed ? 127.0f : 255.0f;
    for (size_t i = 0; i < n; i++) dst[i] = to_grid(x[i], g, lo, hi);
}

static void dequantize(float *restrict dst, const uint8_t *restrict x, size_t n, pq_grid g)
{
    if (g.is_signed)
        for (size_t i = 0; i < n; i++) dst[i] = (float)((int8_t)x[i] - g.zero_point) * g.scale;
    else
        for (size_t i = 0; i < n; i++) dst[i] = (float)(x[i] - g.zero_point) * g.scale;
}

static void requantize(uint8_t *restrict dst, const uint8_t *restrict x, size_t n, pq_grid from,
                       pq_grid to)
{
    const float lo = to.is_signed ? -128.0f : 0.0f, hi = to.is_signed ? 127.0f : 255.0f;
    if (from.is_signed)
        for (size_t i = 0; i < n; i++)
            dst[i] = to_grid((float)((int8_t)x[i] - from.zero_point) * from.scale, to, lo, hi);
    else
        for (size_t i = 0; i < n; i++)
            dst[i] = to_grid((float)(x[i] - from.zero_point) * from.scale, to, lo, hi);
}

static inline uint16_t bf16_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    const uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16, nan = u >> 16 | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

static void to_bf16(uint16_t *restrict dst, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = bf16_of(x[i]);
}

static void from_bf16(float *restrict dst, const uint16_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)x[i] << 16;
        memcpy(&dst[i], &u, 4);
    }
}

static void add(float *dst, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = a[i] + b[i];
}

static void add_scaled(float *dst, const float *a, const uint8_t *b, size_t n, pq_grid g)
{
    if (g.is_signed)
        for (size_t i = 0; i < n; i++)
            dst[i] = fmaf((float)((int8_t)b[i] - g.zero_point), g.scale, a[i]);
    else
        for (size_t i = 0; i < n; i++) dst[i] = fmaf((float)(b[i] - g.zero_point), g.scale, a[i]);
}

static void multiply(float *dst, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = a[i] * b[i];
}

static void multiply_scalar(float *dst, const float *a, float b, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = a[i] * b;
}

/* e^x = 2^k e^r, |r| <= ln2/2, the polynomial of Cephes' expf. */
static inline float exp_poly(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float k = rintf(x * 1.44269504f);
    float r = FMA(k, -0.693359375f, x);
    r = FMA(k, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = FMA(p, r, 1.3981999507e-3f);
    p = FMA(p, r, 8.3334519073e-3f);
    p = FMA(p, r, 4.1665795894e-2f);
    p = FMA(p, r, 1.6666665459e-1f);
    p = FMA(p, r, 5.0000001201e-1f);
    p = FMA(p, r * r, r) + 1.0f;
    const int32_t bits = ((int32_t)k + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

static void activate(float *dst, const float *x, size_t n, pq_act act, float alpha, float beta)
{
    switch (act) {
    case PQ_ACT_NONE:
        if (dst != x) memcpy(dst, x, n * sizeof *dst);
        break;
    case PQ_ACT_RELU:
        for (size_t i = 0; i < n; i++) dst[i] = x[i] > 0 ? x[i] : 0;
        break;
    case PQ_ACT_LEAKY_RELU:
        for (size_t i = 0; i < n; i++) dst[i] = x[i] > 0 ? x[i] : alpha * x[i];
        break;
    case PQ_ACT_CLIP:
        for (size_t i = 0; i < n; i++) dst[i] = x[i] < alpha ? alpha : x[i] > beta ? beta : x[i];
        break;
    case PQ_ACT_SIGMOID:
        for (size_t i = 0; i < n; i++) dst[i] = 1.0f / (1.0f + exp_poly(-x[i]));
        break;
    case PQ_ACT_SILU:
        for (size_t i = 0; i < n; i++) dst[i] = x[i] / (1.0f + exp_poly(-x[i]));
        break;
    case PQ_ACT_HARD_SIGMOID:
        for (size_t i = 0; i < n; i++) {
            const float y = alpha * x[i] + beta;
            dst[i] = y < 0 ? 0 : y > 1 ? 1 : y;
        }
        break;
    case PQ_ACT_HARD_SWISH:
        for (size_t i = 0; i < n; i++) {
            const float y = x[i] * (1.0f / 6) + 0.5f;
            dst[i] = x[i] * (y < 0 ? 0 : y > 1 ? 1 : y);
        }
        break;
    case PQ_ACT_TANH:
        for (size_t i = 0; i < n; i++) dst[i] = 1.0f - 2.0f / (1.0f + exp_poly(2 * x[i]));
        break;
    }
}

static void max_s8(int8_t *restrict dst, const int8_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = x[i] > dst[i] ? x[i] : dst[i];
}

static void max_u8(uint8_t *restrict dst, const uint8_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = x[i] > dst[i] ? x[i] : dst[i];
}

/* Bits of a bfloat16 in an order that int16 compares. Its own inverse. */
static inline int16_t ordered(int16_t b) { return (int16_t)(b ^ (b >> 15 & 0x7fff)); }

static void max_bf16(uint16_t *restrict dst, const uint16_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int16_t a = ordered((int16_t)dst[i]), b = ordered((int16_t)x[i]);
        dst[i] = (uint16_t)ordered(b > a ? b : a);
    }
}

static void max_f32(float *restrict dst, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = x[i] > dst[i] ? x[i] : dst[i];
}

/* ---- Focus ---- */

static inline uint32_t as_f32(float x, pq_grid g)
{
    uint32_t u;
    (void)g;
    memcpy(&u, &x, 4);
    return u;
}
static inline uint16_t as_bf16(float x, pq_grid g)
{
    (void)g;
    return bf16_of(x);
}
static inline uint8_t as_s8(float x, pq_grid g) { return to_grid(x, g, -128.0f, 127.0f); }
static inline uint8_t as_u8(float x, pq_grid g) { return to_grid(x, g, 0.0f, 255.0f); }

/*
 * The patches in channel order: top-left, bottom-left, top-right, bottom-right. So column x of the
 * input, left or right, gives 2c neighbours of the output: its top pixel, then its bottom one.
 * With three planes those are three pairs, and a row is a three-way interleave of pairs, which
 * compilers turn into shuffles.
 */
#define FOCUS(name, T, PAIR, BITS, convert)                                                        \
    static void name##_3(T *dst, const float *top, const float *bottom, int64_t w, size_t plane,   \
                         pq_grid g)                                                                \
    {                                                                                              \
        enum { CHUNK = 256 };                                                                      \
        PAIR p[3][CHUNK], all[3 * CHUNK];                                                          \
        for (int64_t x0 = 0; x0 < w; x0 += CHUNK) {                                                \
            const int64_t n = w - x0 < CHUNK ? w - x0 : CHUNK;                                     \
            const float *t = top + x0, *b = bottom + x0;                                           \
            for (int64_t x = 0; x < n; x++) {                                                      \
                const size_t i = (size_t)x;                                                        \
                p[0][x] = (PAIR)((PAIR)convert(t[i], g) | (PAIR)convert(t[i + plane], g) << BITS); \
                p[1][x] =                                                                          \
                    (PAIR)((PAIR)convert(t[i + 2 * plane], g) | (PAIR)convert(b[i], g) << BITS);   \
                p[2][x] = (PAIR)((PAIR)convert(b[i + plane], g) |                                  \
                                 (PAIR)convert(b[i + 2 * plane], g) << BITS);                      \
            }                                                                                      \
            for (int64_t x = 0; x < n; x++) {                                                      \
                all[3 * x] = p[0][x];                                                              \
                all[3 * x + 1] = p[1][x];                                                          \
                all[3 * x + 2] = p[2][x];                                                          \
            }                                                                                      \
            memcpy(dst + 6 * x0, all, (size_t)(3 * n) * sizeof *all);                              \
        }                                                                                          \
    }                                                                                              \
    static void name##_any(T *dst, const float *top, const float *bottom, int64_t c, int64_t w,    \
                           size_t plane, pq_grid g)                                                \
    {                                                                                              \
        for (int64_t x = 0; x < w; x++)                                                            \
            for (int64_t k = 0; k < c; k++) {                                                      \
                const size_t i = (size_t)k * plane + (size_t)x;                                    \
                const PAIR a = (PAIR)convert(top[i], g), b = (PAIR)convert(bottom[i], g);          \
                memcpy(dst + 2 * c * x + k, &a, sizeof *dst);                                      \
                memcpy(dst + 2 * c * x + c + k, &b, sizeof *dst);                                  \
            }                                                                                      \
    }

FOCUS(focus_f32, float, uint64_t, 32, as_f32)
FOCUS(focus_bf16, uint16_t, uint32_t, 16, as_bf16)
FOCUS(focus_s8, uint8_t, uint16_t, 8, as_s8)
FOCUS(focus_u8, uint8_t, uint16_t, 8, as_u8)

static void focus_row(float *dst, const float *top, const float *bottom, int64_t c, int64_t w,
                      size_t plane)
{
    const pq_grid none = {0};
    if (c == 3)
        focus_f32_3(dst, top, bottom, w, plane, none);
    else
        focus_f32_any(dst, top, bottom, c, w, plane, none);
}

static void focus_row_bf16(uint16_t *dst, const float *top, const float *bottom, int64_t c,
                           int64_t w, size_t plane)
{
    const pq_grid none = {0};
    if (c == 3)
        focus_bf16_3(dst, top, bottom, w, plane, none);
    else
        focus_bf16_any(dst, top, bottom, c, w, plane, none);
}

static void focus_row_q8(uint8_t *dst, const float *top, const float *bottom, int64_t c, int64_t w,
                         size_t plane, pq_grid g)
{
    if (c == 3 && g.is_signed)
        focus_s8_3(dst, top, bottom, w, plane, g);
    else if (c == 3)
        focus_u8_3(dst, top, bottom, w, plane, g);
    else if (g.is_signed)
        focus_s8_any(dst, top, bottom, c, w, plane, g);
    else
        focus_u8_any(dst, top, bottom, c, w, plane, g);
}

/* ---- rows ---- */

/* Blocks of B bytes, the last one ending with the row. */
#define COPY_BLOCKS(name, B)                                                                       \
    static void name(uint8_t *restrict dst, size_t pitch, const uint8_t *restrict x, size_t bytes, \
                     size_t n)                                                                     \
    {                                                                                              \
        for (size_t r = 0; r < n; r++, dst += pitch, x += bytes) {                                 \
            for (size_t i = 0; i + B < bytes; i += B) memcpy(dst + i, x + i, B);                   \
            memcpy(dst + bytes - B, x + bytes - B, B);                                             \
        }                                                                                          \
    }
COPY_BLOCKS(copy_blocks_16, 16)
COPY_BLOCKS(copy_blocks_64, 64)

static void copy_rows(uint8_t *dst, size_t pitch, const uint8_t *x, size_t bytes, size_t n)
{
    if (pitch == bytes)
        memcpy(dst, x, bytes * n);
    else if (bytes >= 64 && bytes <= 1024)
        copy_blocks_64(dst, pitch, x, bytes, n);
    else if (bytes >= 16 && bytes < 64)
        copy_blocks_16(dst, pitch, x, bytes, n);
    else
        for (size_t r = 0; r < n; r++) memcpy(dst + r * pitch, x + r * bytes, bytes);
}

/* Softmax expectation with the maximum taken off: for logits so low that every e^x vanishes. */
static float expectation(const float *x, int bins)
{
    float top = x[0], sum = 0, dot = 0;
    for (int i = 1; i < bins; i++) top = x[i] > top ? x[i] : top;
    for (int i = 0; i < bins; i++) {
        const float e = exp_poly(x[i] - top);
        sum += e;
        dot += e * (float)i;
    }
    return dot / sum;
}

enum { MOST_BINS = 64, AT_ONCE = 8 };

#ifdef __AVX2__
/* Sums of e^x and of i e^x over each of four sides are a product with a constant matrix: w[i] says
 * what element i of a row adds to the eight of them. AT_ONCE rows, so that additions overlap. */
static void sum_bins(float (*sum)[8], const float *e, float (*w)[8], int bins)
{
    const int row = 4 * bins;
    __m256 acc[AT_ONCE];
    for (int a = 0; a < AT_ONCE; a++) acc[a] = _mm256_setzero_ps();
    for (int i = 0; i < row; i++) {
        const __m256 v = _mm256_loadu_ps(w[i]);
        for (int a = 0; a < AT_ONCE; a++)
            acc[a] = _mm256_fmadd_ps(_mm256_broadcast_ss(e + a * row + i), v, acc[a]);
    }
    for (int a = 0; a < AT_ONCE; a++) _mm256_storeu_ps(sum[a], acc[a]);
}
#else
static void sum_bins(float (*sum)[8], const float *e, float (*w)[8], int bins)
{
    memset(sum, 0, AT_ONCE * sizeof *sum);
    for (int a = 0; a < AT_ONCE; a++, e += 4 * bins)
        for (int i = 0; i < bins; i++)
            for (int s = 0; s < 4; s++) {
                sum[a][s] += e[s * bins + i] * w[i][0];
                sum[a][s + 4] += e[s * bins + i] * w[i][4];
            }
}
#endif

static void sum_weights(float (*w)[8], int bins)
{
    for (int i = 0; i < 4 * bins; i++)
        for (int j = 0; j < 8; j++)
            w[i][j] = i / bins != j % 4 ? 0.0f : j < 4 ? 1.0f : (float)(i % bins);
}

static void dfl_boxes(float *boxes, const float *reg, size_t n, int bins, float stride, int64_t x0,
                      int64_t y0, int64_t width)
{
    float e[AT_ONCE * 4 * MOST_BINS] = {0}, w[4 * MOST_BINS][8], sum[AT_ONCE][8];
    const int row = 4 * bins;
    const bool fits = bins <= MOST_BINS;
    if (fits) sum_weights(w, bins);
    for (size_t begin = 0; begin < n; begin += AT_ONCE) {
        const size_t m = n - begin < AT_ONCE ? n - begin : AT_ONCE;
        const float *x = reg + begin * (size_t)row;
        for (size_t i = 0; fits && i < m * (size_t)row; i++)
            e[i] = exp_poly(x[i] < 80.0f ? x[i] : 80.0f);
        if (fits) sum_bins(sum, e, w, bins);
        for (size_t a = 0; a < m; a++, x += row, boxes += 4) {
            float d[4];
            /* Safe while nothing was clipped and the sum has not lost its digits. */
            for (int s = 0; s < 4; s++)
                d[s] = fits && sum[a][s] > 1e-20f && sum[a][s] < 1e34f
                           ? sum[a][s + 4] / sum[a][s]
                           : expectation(x + (ptrdiff_t)s * bins, bins);
            const float px = (float)x0 * stride, py = (float)y0 * stride;
            boxes[0] = px - d[0] * stride;
            boxes[1] = py - d[1] * stride;
            boxes[2] = px + d[2] * stride;
            boxes[3] = py + d[3] * stride;
            if (++x0 == width) x0 = 0, y0++;
        }
    }
}

static inline int32_t dot_s8(const uint8_t *x, const int16_t *w, int64_t n)
{
    int32_t s = 0;
    for (int64_t i = 0; i < n; i++) s += (int16_t)(int8_t)x[i] * w[i];
    return s;
}

static inline int32_t dot_u8(const uint8_t *x, const int16_t *w, int64_t n)
{
    int32_t s = 0;
    for (int64_t i = 0; i < n; i++) s += (int16_t)x[i] * w[i];
    return s;
}

static inline int32_t total(const int16_t *w, int64_t n)
{
    int32_t s = 0;
    for (int64_t i = 0; i < n; i++) s += w[i];
    return s;
}

static void conv_row(int32_t *sum, const pq_conv_q8 *v, const uint8_t *x, bool is_signed,
                     int32_t zero_point, const int16_t *weight, int64_t oy)
{
    const pq_window *k = v->window;
    const int64_t cg = v->c / v->groups, og = v->o / v->groups;
    memset(sum, 0, (size_t)(v->ow * v->o) * sizeof *sum);
    for (int64_t ky = 0; ky < k->kernel[0]; ky++) {
        const int64_t iy = oy * k->stride[0] + ky * k->dilation[0] - k->pad[0];
        if (iy < 0 || iy >= v->h) continue;
        for (int64_t kx = 0; kx < k->kernel[1]; kx++)
            for (int64_t o = 0; o < v->o; o++) {
                const int16_t *w = weight + ((o * k->kernel[0] + ky) * k->kernel[1] + kx) * cg;
                const int32_t offset = zero_point ? zero_point * total(w, cg) : 0;
                for (int64_t ox = 0; ox < v->ow; ox++) {
                    const int64_t ix = ox * k->stride[1] + kx * k->dilation[1] - k->pad[1];
                    if (ix < 0 || ix >= v->w) continue;
                    const uint8_t *p = x + (iy * v->w + ix) * v->c + o / og * cg;
                    sum[ox * v->o + o] +=
                        (is_signed ? dot_s8(p, w, cg) : dot_u8(p, w, cg)) - offset;
                }
            }
    }
}

const pq_cpu_kernels CONCAT(pq_cpu_kernels_, PQ_ISA) = {
    STRING(PQ_ISA), quantize,     dequantize,      requantize, to_bf16,  from_bf16,      add,
    add_scaled,     multiply,     multiply_scalar, activate,   max_s8,   max_u8,         max_f32,
    focus_row,      focus_row_q8, dfl_boxes,       conv_row,   max_bf16, focus_row_bf16, copy_rows};
