/** @file expf.h  e^x in float32 by a fixed sequence of steps, each rounded as IEEE 754 says: the
 * same bits on every processor, GPUs included, so that what is quantized behind it has the same
 * level. */
#ifndef PQ_BASE_EXPF_H
#define PQ_BASE_EXPF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define PQ_EXPF static __host__ __device__ __forceinline__
#else
#define PQ_EXPF static inline
#endif

/** Off by less than 0.9 units in the last place. Beyond -87 .. 87 the value there; of NaN any. 2^k
 * e^r with |r| <= ln 2 / 2, which is x less k ln 2 in two parts (Cody and Waite 1980); a polynomial
 * of least largest error for e^r. */
PQ_EXPF float pq_expf(float x)
{
    const float rounding = 0x1.8p23f; /* in a sum's low bits k is an integer */
    x = fminf(fmaxf(x, -87.0f), 87.0f);
    const float t = fmaf(x, 0x1.715476p+0f, rounding), k = t - rounding;
    const float r = fmaf(k, 0x1.05c610p-29f, fmaf(k, -0x1.62e430p-1f, x));
    float p = 0x1.6a2256p-10f;
    p = fmaf(p, r, 0x1.123b02p-7f);
    p = fmaf(p, r, 0x1.5558f8p-5f);
    p = fmaf(p, r, 0x1.55549p-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    uint32_t bits, exponent;
    memcpy(&bits, &p, sizeof bits);
    memcpy(&exponent, &t, sizeof exponent);
    bits += exponent << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

#endif
