/** @file device.cuh  Device functions shared by all kernels: numbers in and out of their stored
 *  forms, activations. Compiled without contraction (-fmad=false),
 * so that the order of the float steps is the one written, which is ref's. */
#ifndef PQ_ENGINE_CUDA_DEVICE_CUH
#define PQ_ENGINE_CUDA_DEVICE_CUH

#include "engine/cuda/primitives.cuh"
#include "engine/cuda/shared.h"

/* ---- activations ---- */

/* e^x rounded as glibc's expf rounds it: 2^(k/32) from a table, a cubic in double. glibc 2.28 and
 * later; from Arm's optimized routines, exp2f_data.c. The bits of 2^(i/32) less i << 47. */
static __constant__ const unsigned long long exp_table[32] = {
    0x3ff0000000000000, 0x3fefd9b0d3158574, 0x3fefb5586cf9890f, 0x3fef9301d0125b51,
    0x3fef72b83c7d517b, 0x3fef54873168b9aa, 0x3fef387a6e756238, 0x3fef1e9df51fdee1,
    0x3fef06fe0a31b715, 0x3feef1a7373aa9cb, 0x3feedea64c123422, 0x3feece086061892d,
    0x3feebfdad5362a27, 0x3feeb42b569d4f82, 0x3feeab07dd485429, 0x3feea47eb03a5585,
    0x3feea09e667f3bcd, 0x3fee9f75e8ec5f74, 0x3feea11473eb0187, 0x3feea589994cce13,
    0x3feeace5422aa0db, 0x3feeb737b0cdc5e5, 0x3feec49182a3f090, 0x3feed503b23e255d,
    0x3feee89f995ad3ad, 0x3feeff76f2fb5e47, 0x3fef199bdd85529c, 0x3fef3720dcef9069,
    0x3fef5818dcfba487, 0x3fef7c97337b9b5f, 0x3fefa4afa2a490da, 0x3fefd0765b6e4540};

static __device__ __noinline__ float exp_exact(float x)
{
    if (!(x == x)) return x;
    if (x > 0x1.62e42ep6f) return __int_as_float(0x7f800000);
    if (x < -0x1.9fe368p6f) return 0.0f;
    const double z = 0x1.71547652b82fep+0 * 32 * (double)x;
    const double kd = rint(z), r = z - kd;
    const long long k = (long long)kd;
    const unsigned long long t = exp_table[k & 31] + ((unsigned long long)k << 47);
    const double s = __longlong_as_double((long long)t);
    const double p = fma(0x1.c6af84b912394p-5 / 32 / 32 / 32, r, 0x1.ebfce50fac4f3p-3 / 32 / 32);
    const double r2 = r * r;
    const double y = fma(0x1.62e42ff0c52d6p-1 / 32, r, 1.0);
    return (float)(fma(p, r2, y) * s);
}

template <bool EXACT> static __device__ __forceinline__ float exp_of(float x)
{
    return EXACT ? exp_exact(x) : __expf(x);
}

template <bool EXACT> static __device__ __forceinline__ float sigmoid_of(float x)
{
    const float d = 1.0f + exp_of<EXACT>(-x);
    return EXACT ? 1.0f / d : __fdividef(1.0f, d);
}

/* All of them. Not inlined, here and below: what is rare is called, so that the common path of a
 * kernel is a few KiB of code. At batch 1 each block runs it once, and fetching it is the cost. */
static __device__ __noinline__ float activate_one(int act, float alpha, float beta, bool exact,
                                                  float x)
{
    switch (act) {
    case PQ_ACT_NONE: return x;
    case PQ_ACT_RELU: return x <= 0 ? 0 : x;
    case PQ_ACT_LEAKY_RELU: return x > 0 ? x : alpha * x;
    case PQ_ACT_CLIP: x = x < alpha ? alpha : x; return x > beta ? beta : x;
    case PQ_ACT_SIGMOID: return exact ? sigmoid_of<true>(x) : sigmoid_of<false>(x);
    case PQ_ACT_SILU: return exact ? x / (1.0f + exp_exact(-x)) : x * sigmoid_of<false>(x);
    case PQ_ACT_HARD_SIGMOID: return fmaxf(0.0f, fminf(1.0f, fmaf(alpha, x, beta)));
    case PQ_ACT_HARD_SWISH: return x * fmaxf(0.0f, fminf(1.0f, fmaf(1.0f / 6, x, 0.5f)));
    default: return tanhf(x);
    }
}

static __device__ __forceinline__ float activate_as(const pq_cu_act &a, float x, bool exact)
{
    return activate_one(a.act, a.alpha, a.beta, exact, x);
}

/* The same of eight values, the usual ones in place. */
static __device__ __forceinline__ void activate8(const pq_cu_act &a, bool exact, float y[8])
{
    if (a.act == PQ_ACT_NONE) return;
    if (a.act == PQ_ACT_RELU) {
#pragma unroll
        for (int i = 0; i < 8; i++) y[i] = y[i] <= 0 ? 0 : y[i];
    } else if (a.act == PQ_ACT_SILU && !exact) {
#pragma unroll
        for (int i = 0; i < 8; i++) y[i] = y[i] * sigmoid_of<false>(y[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) y[i] = activate_as(a, y[i], exact);
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
        const uint8_t *b = (const uint8_t *)&v;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int q = f.dtype == PQ_S8 ? (int)(int8_t)b[i] : (int)b[i];
            y[i] = (float)(q - f.zp) * f.scale;
        }
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

static __device__ __forceinline__ int quantize(float y, float inv, const pq_cu_form &f)
{
    const float q = rintf(y * inv) + (float)f.zp;
    const float lo = f.dtype == PQ_S8 ? -128.0f : 0.0f, hi = f.dtype == PQ_S8 ? 127.0f : 255.0f;
    return (int)fmaxf(lo, fminf(hi, q));
}

static __device__ __noinline__ void store_one(const pq_cu_form &f, float inv, uint8_t *data,
                                              int64_t at, float y)
{
    switch (f.dtype) {
    case PQ_S8:
    case PQ_U8: data[at] = (uint8_t)quantize(y, inv, f); break;
    case PQ_F16: ((__half *)data)[at] = __float2half_rn(y); break;
    default: ((float *)data)[at] = y;
    }
}

/* Places are chosen by a number, and what is read of one costs as much as several elements: here
 * and below nothing is, for each element. */
static __device__ __forceinline__ void write8(const pq_cu_dest &d, int64_t at, int n,
                                              const float y[8])
{
    uint8_t *data = (uint8_t *)d.data;
    if (!d.vector || (n < 8 && !d.spare)) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < n) store_one(d.form, d.inv, data, at + i, y[i]);
        return;
    }
    if (d.form.dtype == PQ_F16) {
        uint4 v;
        __half2 *h = (__half2 *)&v;
#pragma unroll
        for (int i = 0; i < 4; i++) h[i] = __floats2half2_rn(y[2 * i], y[2 * i + 1]);
        *(uint4 *)(data + 2 * at) = v;
    } else if (d.form.dtype == PQ_F32) {
        *(float4 *)(data + 4 * at) = make_float4(y[0], y[1], y[2], y[3]);
        *(float4 *)(data + 4 * at + 16) = make_float4(y[4], y[5], y[6], y[7]);
    } else {
        const pq_cu_form f = d.form;
        const float inv = d.inv;
        uint2 v = make_uint2(0, 0);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v.x |= (unsigned)(quantize(y[i], inv, f) & 255) << 8 * i;
            v.y |= (unsigned)(quantize(y[4 + i], inv, f) & 255) << 8 * i;
        }
        *(uint2 *)(data + at) = v;
    }
}

/* What float16, and quantizing and back, on the way to a place make of values. */
static __device__ __forceinline__ void pass8(const pq_cu_dest &d, float t[8])
{
    if (d.round16) {
#pragma unroll
        for (int i = 0; i < 8; i++) t[i] = __half2float(__float2half_rn(t[i]));
    }
    const pq_cu_form f = d.pre;
    const float inv = d.pre_inv;
    if (f.scale != 0) {
#pragma unroll
        for (int i = 0; i < 8; i++) t[i] = (float)(quantize(t[i], inv, f) - f.zp) * f.scale;
    }
}

/* Channels c .. c + 7 of pixel m to everywhere they belong. n: how many of the eight exist. */
static __device__ __forceinline__ void store8(const pq_cu_dest *dest, int n_dest,
                                              const pq_cu_pixels &px, int m, int c, int n,
                                              const float y[8])
{
#pragma unroll 1
    for (int k = 0; k < n_dest; k++) {
        const pq_cu_dest &d = dest[k];
        const int first = d.first, last = d.last, up = d.up;
        if (c < first || c >= last) continue;
        const int left = last - c < n ? last - c : n;
        float t[8];
#pragma unroll
        for (int i = 0; i < 8; i++) t[i] = y[i];
        pass8(d, t);
        if (left < 8) { /* padding, which conv_mma takes to be finite */
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (i >= left) t[i] = 0;
        }
        const int64_t pitch = d.pitch;
        int64_t to = m;
        if (up > 1) {
            const int row = m / px.w, x = m - row * px.w; /* row counts through all images */
            to = (int64_t)row * up * px.w * up + x * up;
        }
#pragma unroll 1
        for (int j = 0; j < up; j++)
#pragma unroll 1
            for (int i = 0; i < up; i++)
                write8(d, (to + (int64_t)j * px.w * up + i) * pitch + (c - first), left, t);
    }
}

/* Which of the eight could the error of the fast SiLU put into another level? One in some ten
 * thousands; bit i for element i. The error is below 6e-7 of a positive value and 2e-7 for a
 * negative argument (CUDA's bounds of __expf and __fdividef, at the worst argument); half as much
 * again, and the rounding of the level itself, are allowed for. `most`: of the SiLU of the eight.
 */
static __device__ __forceinline__ unsigned near_ties(const pq_cu_conv &p, int c, const float y[8],
                                                     float most)
{
    unsigned near = 0;
#pragma unroll 1
    for (int k = 0; k < p.n_dest; k++) {
        const pq_cu_dest &d = p.dest[k];
        if (c < d.first || c >= d.last) continue;
        const float inv = d.pre.scale != 0 ? d.pre_inv : d.inv;
        const float bound = 0.5f - (fmaf(most, 9e-7f, 3e-7f) * inv + 2e-5f);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (!(fabsf(y[i] * inv - rintf(y[i] * inv)) < bound)) near |= 1u << i;
    }
    return near;
}

/* Sum and residual of one element, exactly. Blocks wait for their slowest warp, and a layer for its
 * slowest block: so for the element that needs it alone. */
static __device__ __noinline__ float finish_one(const pq_cu_conv &p, float x, float r)
{
    const float y = activate_as(p.act, x, true);
    if (!p.residual) return y;
    const float f = p.residual_form.scale;
    return activate_as(p.sum_act, f != 0 ? fmaf(r, f, y) : y + r, true);
}

/* One warp, before there is anything to do: its code and the table of exp_exact come near, which
 * costs more than what they compute, and hides behind the launch before. */
static __device__ __forceinline__ void fetch_exact(const pq_cu_conv &p, int lane)
{
    if (p.guarded) use(finish_one(p, (float)lane * -0.0217f, 0.0f));
}

static __device__ __forceinline__ float most_of(const float y[8])
{
    float most = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) most = fmaxf(most, fabsf(y[i]));
    return most;
}

/* Activation, residual, activation of the sum, and out: ref's order. */
static __device__ __forceinline__ void finish8(const pq_cu_conv &p, int m, int c, int n,
                                               const float x[8])
{
    const bool exact = p.exact && !p.guarded;
    float y[8], r[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        y[i] = x[i];
        r[i] = 0;
    }
    activate8(p.act, exact, y);
    float most = most_of(y);
    if (p.residual) {
        const pq_cu_form &f = p.residual_form;
        const pq_cu_form levels = {f.dtype, f.scale != 0 ? 1.0f : 0.0f, f.zp};
        load_some(levels, p.residual, (int64_t)m * p.residual_pitch + c, n, p.residual_vector, r);
#pragma unroll
        for (int i = 0; i < 8; i++) /* one rounding for scale and sum */
            y[i] = f.scale != 0 ? fmaf(r[i], f.scale, y[i]) : y[i] + r[i];
        activate8(p.sum_act, exact, y);
        if (p.sum_act.act == PQ_ACT_SILU) most = most_of(y);
    }
    if (p.guarded) {
        const unsigned near = near_ties(p, c, y, most);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (near >> i & 1) y[i] = finish_one(p, x[i], r[i]);
    }
    store8(p.dest, p.n_dest, p.out, m, c, n, y);
}

#endif
