/** @file device.cuh  Device functions shared by all kernels: numbers in and out of their stored
 *  forms, activations. Compiled without contraction (-fmad=false),
 * so that the order of the float steps is the one written, which is ref's. */
#ifndef PQ_ENGINE_CUDA_DEVICE_CUH
#define PQ_ENGINE_CUDA_DEVICE_CUH

#include "base/expf.h"
#include "engine/cuda/primitives.cuh"
#include "engine/cuda/shared.h"

/* ---- activations ---- */

/* ref's, bit for bit. */
static __device__ __forceinline__ float sigmoid_exact(float x)
{
    return reciprocal(1.0f + pq_expf(-x));
}

static __device__ __forceinline__ float sigmoid_fast(float x)
{
    return reciprocal_fast(1.0f + exp_fast(-x));
}

/* All of them. Not inlined, here and below: what is rare is called, so that the common path of a
 * kernel is a few KiB of code. At batch 1 each block runs it once, and fetching it is the cost. */
static __device__ __noinline__ float activate_one(int act, float alpha, float beta, bool exact,
                                                  float x)
{
    switch (act) {
    case PQ_ACT_NONE: return x;
    case PQ_ACT_RELU: return relu(x);
    case PQ_ACT_LEAKY_RELU: return x > 0 ? x : alpha * x;
    case PQ_ACT_CLIP: x = x < alpha ? alpha : x; return x > beta ? beta : x;
    case PQ_ACT_SIGMOID: return !(x == x) ? x : exact ? sigmoid_exact(x) : sigmoid_fast(x);
    case PQ_ACT_SILU: return x * (exact ? sigmoid_exact(x) : sigmoid_fast(x));
    case PQ_ACT_HARD_SIGMOID: return fmaxf(0.0f, fminf(1.0f, fmaf(alpha, x, beta)));
    case PQ_ACT_HARD_SWISH: return x * fmaxf(0.0f, fminf(1.0f, fmaf(1.0f / 6, x, 0.5f)));
    default: return tanhf(x);
    }
}

static __device__ __forceinline__ float activate_as(const pq_cu_act &a, float x, bool exact)
{
    return activate_one(a.act, a.alpha, a.beta, exact, x);
}

/* The same of several values, the usual ones in place. */
template <int N>
static __device__ __forceinline__ void activate(const pq_cu_act &a, bool exact, float (&y)[N])
{
    if (a.act == PQ_ACT_NONE) return;
    if (a.act == PQ_ACT_RELU) {
#pragma unroll
        for (int i = 0; i < N; i++) y[i] = relu(y[i]);
    } else if (a.act == PQ_ACT_SILU && exact) {
#pragma unroll
        for (int i = 0; i < N; i++) y[i] = y[i] * sigmoid_exact(y[i]);
    } else if (a.act == PQ_ACT_SILU) {
#pragma unroll
        for (int i = 0; i < N; i++) y[i] = y[i] * sigmoid_fast(y[i]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) y[i] = activate_as(a, y[i], exact);
    }
}

/* ---- stored forms ---- */

static __device__ __noinline__ float load_one(const pq_cu_form &f, const uint8_t *data, int64_t at)
{
    switch (f.dtype) {
    case PQ_S8: return (float)(((const int8_t *)data)[at] - f.zp) * f.scale;
    case PQ_U8: return (float)(data[at] - f.zp) * f.scale;
    case PQ_F16: return __half2float(((const __half *)data)[at]);
    default: return ((const float *)data)[at];
    }
}

/* Byte i of four stored levels, less the zero point: the low bits of 2^23 are the integer. */
static __device__ __forceinline__ float level(const pq_cu_form &f, unsigned q, int i)
{
    const bool sign = f.dtype == PQ_S8;
    const unsigned bits =
        __byte_perm(sign ? q ^ 0x80808080u : q, 0x4b000000u, 0x7440u + (unsigned)i);
    return __int_as_float((int)bits) - (0x1p23f + (float)(f.zp + (sign ? 128 : 0)));
}

/* Eight channels that lie aligned; lanes behind the last channel hold anything. */
static __device__ __forceinline__ void load8(const pq_cu_form &f, const uint8_t *data, int64_t at,
                                             float y[8])
{
    if (f.dtype == PQ_F16) {
        const uint4 v = *(const uint4 *)(data + 2 * at);
        const __half2 *h = (const __half2 *)&v;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 t = __half22float2(h[i]);
            y[2 * i] = t.x;
            y[2 * i + 1] = t.y;
        }
    } else if (f.dtype == PQ_F32) {
        const float4 a = *(const float4 *)(data + 4 * at),
                     b = *(const float4 *)(data + 4 * at + 16);
        y[0] = a.x, y[1] = a.y, y[2] = a.z, y[3] = a.w;
        y[4] = b.x, y[5] = b.y, y[6] = b.z, y[7] = b.w;
    } else {
        const uint2 v = *(const uint2 *)(data + at);
#pragma unroll
        for (int i = 0; i < 8; i++) y[i] = level(f, i < 4 ? v.x : v.y, i % 4) * f.scale;
    }
}

static __device__ __forceinline__ void load_some(const pq_cu_form &f, const uint8_t *data,
                                                 int64_t at, int n, bool vector, float y[8])
{
    if (vector) {
        load8(f, data, at, y);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) y[i] = i < n ? load_one(f, data, at + i) : 0.0f;
}

/* x + ROUNDING - ROUNDING is rintf(x) for |x| < 2^22, and the low bits of x + ROUNDING are that
 * integer's: the instructions that convert have a quarter of an addition's rate, or less. */
#define ROUNDING 0x1.8p23f

/* The least level less the zero point; the highest is 255 above. */
static __device__ __forceinline__ float lowest(const pq_cu_form &f)
{
    return (f.dtype == PQ_S8 ? -128.0f : 0.0f) - (float)f.zp;
}

/* Values as levels from lo to hi, with ROUNDING. */
template <int N>
static __device__ __forceinline__ void as_levels(float lo, float hi, float inv, float (&t)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) t[i] = fmaxf(lo, fminf(hi, t[i] * inv)) + ROUNDING;
}

static __device__ __noinline__ float4 silu_exact(float a, float b, float c, float d)
{
    return make_float4(a * sigmoid_exact(a), b * sigmoid_exact(b), c * sigmoid_exact(c),
                       d * sigmoid_exact(d));
}

static __device__ __forceinline__ void silu_exactly(float (&y)[4])
{
    const float4 v = silu_exact(y[0], y[1], y[2], y[3]);
    y[0] = v.x, y[1] = v.y, y[2] = v.z, y[3] = v.w;
}

static __device__ __forceinline__ void silu_fast(float (&y)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) y[i] = y[i] * sigmoid_fast(y[i]);
}

static __device__ __forceinline__ void round_to_half(float (&y)[4])
{
    const float2 a = __half22float2(__floats2half2_rn(y[0], y[1])),
                 b = __half22float2(__floats2half2_rn(y[2], y[3]));
    y[0] = a.x, y[1] = a.y, y[2] = b.x, y[3] = b.y;
}

/* As as_levels; returns how far from its level the farthest is, 0.5 at a tie. */
static __device__ __forceinline__ float as_levels_near(float lo, float hi, float inv, float (&t)[4])
{
    float far = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float in = fmaxf(lo, fminf(hi, t[i] * inv));
        t[i] = in + ROUNDING;
        far = fmaxf(far, fabsf(in - (t[i] - ROUNDING)));
    }
    return far;
}

/* Values as levels less the zero point, with ROUNDING, and back. */
template <int N>
static __device__ __forceinline__ void to_levels(const pq_cu_form &f, float inv, float (&t)[N])
{
    as_levels(lowest(f), lowest(f) + 255.0f, inv, t);
}

template <int N> static __device__ __forceinline__ void from_levels(float scale, float (&t)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) t[i] = (t[i] - ROUNDING) * scale;
}

/* Two levels with zero point 0 and four with any, which to_levels left, as bytes. */
static __device__ __forceinline__ unsigned bytes2(float a, float b)
{
    return __byte_perm((unsigned)__float_as_int(a), (unsigned)__float_as_int(b), 0x0040);
}

static __device__ __forceinline__ unsigned bytes4(const float t[4], int zp)
{
    const unsigned v = __byte_perm(bytes2(t[0], t[1]), bytes2(t[2], t[3]), 0x5410),
                   z = (unsigned)(zp & 255) * 0x01010101u;
    return ((v & 0x7f7f7f7fu) + (z & 0x7f7f7f7fu)) ^ ((v ^ z) & 0x80808080u);
}

/* Eight numbers as they are stored; words as many as their type takes. */
struct stored8 {
    uint4 v[2];
};

static __device__ __forceinline__ stored8 pack8(const pq_cu_form &f, const float t[8])
{
    stored8 s;
    if (f.dtype == PQ_F16) {
        __half2 *h = (__half2 *)s.v;
#pragma unroll
        for (int i = 0; i < 4; i++) h[i] = __floats2half2_rn(t[2 * i], t[2 * i + 1]);
    } else if (f.dtype == PQ_F32) {
        float4 *x = (float4 *)s.v;
        x[0] = make_float4(t[0], t[1], t[2], t[3]);
        x[1] = make_float4(t[4], t[5], t[6], t[7]);
    } else {
        s.v[0].x = bytes4(t, f.zp);
        s.v[0].y = bytes4(t + 4, f.zp);
    }
    return s;
}

static __device__ __noinline__ void put_some(int dtype, uint8_t *data, int64_t at, int n, stored8 s)
{
#pragma unroll 1
    for (int i = 0; i < n; i++)
        if (dtype == PQ_F16)
            ((uint16_t *)data)[at + i] = ((const uint16_t *)s.v)[i];
        else if (dtype == PQ_F32)
            ((float *)data)[at + i] = ((const float *)s.v)[i];
        else
            data[at + i] = ((const uint8_t *)s.v)[i];
}

static __device__ __forceinline__ void put8(int dtype, uint8_t *data, int64_t at, int n,
                                            bool vector, const stored8 &s)
{
    if (!vector) {
        put_some(dtype, data, at, n, s);
    } else if (dtype == PQ_F16) {
        *(uint4 *)(data + 2 * at) = s.v[0];
    } else if (dtype == PQ_F32) {
        *(uint4 *)(data + 4 * at) = s.v[0];
        *(uint4 *)(data + 4 * at + 16) = s.v[1];
    } else
        *(uint2 *)(data + at) = make_uint2(s.v[0].x, s.v[0].y);
}

/* What float16, and quantizing and back, on the way to a place make of values; then levels, with
 * ROUNDING, where the place has them. */
static __device__ __forceinline__ void pass8(const pq_cu_dest &d, float (&t)[8])
{
    if (d.round16) {
#pragma unroll
        for (int i = 0; i < 8; i++) t[i] = __half2float(__float2half_rn(t[i]));
    }
    const bool back = d.pre.scale != 0;
    const pq_cu_form f = back ? d.pre : d.form;
    if (f.scale == 0) return;
    to_levels(f, back ? d.pre_inv : d.inv, t);
    if (!back) return;
    from_levels(f.scale, t);
    if (d.form.scale != 0) to_levels(d.form, d.inv, t);
}

/* The first element that pixel m has in a place; the others of its square follow. */
static __device__ __forceinline__ int64_t place_of(const pq_cu_dest &d, const pq_cu_pixels &px,
                                                   int m)
{
    int64_t at = m;
    if (d.up > 1) {
        const int row = pq_cu_quotient(m, &px.by_w), x = m - row * px.w; /* row of all images */
        at = (int64_t)row * d.up * px.w * d.up + x * d.up;
    }
    return at * d.pitch;
}

/* Behind the last channel that is written. Where what follows is padding it is written as well:
 * sectors of 32 bytes that are written in part take twice the time. */
static __device__ __forceinline__ int last_of(const pq_cu_dest &d)
{
    return d.spare ? d.first + d.pitch : d.last;
}

/* Channels c .. c + 7 of pixel m to a place, if they belong there. n: how many of the eight exist.
 */
static __device__ __forceinline__ void store_at(const pq_cu_dest &d, const pq_cu_pixels &px, int m,
                                                int c, int n, const float y[8])
{
    const int first = d.first, last = d.last, up = d.up;
    if (c < first || c >= last_of(d)) return;
    const int left = last - c < n ? last - c : n;
    float t[8];
#pragma unroll
    for (int i = 0; i < 8; i++) t[i] = y[i];
    pass8(d, t);
    const pq_cu_form form = d.form;
    if (left < 8) { /* padding, which conv_mma takes to be finite */
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i >= left) t[i] = form.scale != 0 ? ROUNDING : 0;
    }
    const stored8 s = pack8(form, t);
    const bool vector = d.vector && (left == 8 || d.spare);
    uint8_t *const data = (uint8_t *)d.data;
    const int pitch = d.pitch;
    int64_t at = place_of(d, px, m) + (c - first);
#pragma unroll 1
    for (int j = 0; j < up; j++, at += (int64_t)(px.w - 1) * up * pitch)
#pragma unroll 1
        for (int i = 0; i < up; i++, at += pitch) put8(form.dtype, data, at, left, vector, s);
}

/* To everywhere they belong. Places are chosen by a number, and what is read of one then costs as
 * much as several elements: nothing is, for each element. */
static __device__ __forceinline__ void store8(const pq_cu_dest *dest, int n_dest,
                                              const pq_cu_pixels &px, int m, int c, int n,
                                              const float y[8])
{
#pragma unroll 1
    for (int k = 0; k < n_dest; k++) store_at(dest[k], px, m, c, n, y);
}

/* Activation, residual, activation of the sum, and out: ref's order. */
static __device__ __forceinline__ void finish8(const pq_cu_conv &p, int m, int c, int n,
                                               float (&y)[8])
{
    activate(p.act, p.exact, y);
    if (p.residual) {
        const pq_cu_form &f = p.residual_form;
        const pq_cu_form levels = {f.dtype, f.scale != 0 ? 1.0f : 0.0f, f.zp};
        float r[8];
        load_some(levels, p.residual, (int64_t)m * p.residual_pitch + c, n, p.residual_vector, r);
#pragma unroll
        for (int i = 0; i < 8; i++) /* one rounding for scale and sum */
            y[i] = f.scale != 0 ? fmaf(r[i], f.scale, y[i]) : y[i] + r[i];
        activate(p.sum_act, p.exact, y);
    }
    /* What the first place is comes with the instructions; most have no other. */
    if (p.n_dest > 0) store_at(p.dest[0], p.out, m, c, n, y);
    store8(p.dest + 1, p.n_dest - 1, p.out, m, c, n, y);
}

#endif
