/* One source for all instruction sets: PQ_ISA names the table, the compiler's flags do the rest. */
#include "engine/cpu/kernel/kernels.h"

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

static void to_bf16(uint16_t *restrict dst, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        const uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16, nan = u >> 16 | 0x40u;
        dst[i] = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
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

static void max_f32(float *restrict dst, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = x[i] > dst[i] ? x[i] : dst[i];
}

/* The patches in channel order: top-left, bottom-left, top-right, bottom-right. */
static void focus_row(float *restrict dst, const float *restrict top, const float *restrict bottom,
                      int64_t c, int64_t w, size_t plane)
{
    for (int64_t k = 0; k < c; k++) {
        const float *t = top + (size_t)k * plane, *b = bottom + (size_t)k * plane;
        for (int64_t x = 0; x < w / 2; x++) {
            float *d = dst + 4 * c * x + k;
            d[0] = t[2 * x];
            d[c] = b[2 * x];
            d[2 * c] = t[2 * x + 1];
            d[3 * c] = b[2 * x + 1];
        }
    }
}

static void focus_row_q8(uint8_t *restrict dst, const float *restrict top,
                         const float *restrict bottom, int64_t c, int64_t w, size_t plane,
                         pq_grid g)
{
    enum { CHUNK = 512 };
    uint8_t t[CHUNK], b[CHUNK];
    for (int64_t x0 = 0; x0 < w; x0 += CHUNK) {
        const int64_t n = w - x0 < CHUNK ? w - x0 : CHUNK;
        for (int64_t k = 0; k < c; k++) {
            quantize(t, top + (size_t)k * plane + x0, (size_t)n, g);
            quantize(b, bottom + (size_t)k * plane + x0, (size_t)n, g);
            uint8_t *d = dst + 2 * c * x0 + k;
            for (int64_t x = 0; x < n / 2; x++, d += 4 * c) {
                d[0] = t[2 * x];
                d[c] = b[2 * x];
                d[2 * c] = t[2 * x + 1];
                d[3 * c] = b[2 * x + 1];
            }
        }
    }
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

static void dfl_boxes(float *boxes, const float *reg, size_t n, int bins, float stride, int64_t x0,
                      int64_t y0, int64_t width)
{
    enum { MOST = 4 * 64 };
    float e[MOST];
    for (size_t a = 0; a < n; a++, reg += 4 * bins, boxes += 4) {
        float d[4];
        const int m = 4 * bins <= MOST ? 4 * bins : 0;
        for (int i = 0; i < m; i++) e[i] = exp_poly(reg[i] < 80.0f ? reg[i] : 80.0f);
        for (int s = 0; s < 4; s++) {
            float sum = 0, dot = 0;
            for (int i = 0; i < bins && m; i++) {
                sum += e[s * bins + i];
                dot += e[s * bins + i] * (float)i;
            }
            /* Safe while nothing was clipped and the sum has not lost its digits. */
            d[s] = sum > 1e-20f && sum < 1e34f ? dot / sum
                                               : expectation(reg + (ptrdiff_t)s * bins, bins);
        }
        const float px = (float)x0 * stride, py = (float)y0 * stride;
        boxes[0] = px - d[0] * stride;
        boxes[1] = py - d[1] * stride;
        boxes[2] = px + d[2] * stride;
        boxes[3] = py + d[3] * stride;
        if (++x0 == width) x0 = 0, y0++;
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
    STRING(PQ_ISA), quantize,     dequantize,      requantize, to_bf16, from_bf16, add,
    add_scaled,     multiply,     multiply_scalar, activate,   max_s8,  max_u8,    max_f32,
    focus_row,      focus_row_q8, dfl_boxes,       conv_row};
