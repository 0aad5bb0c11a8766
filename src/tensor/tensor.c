/* Dtypes, shapes, conversions and comparison. */
#include <pquant/tensor.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static const struct {
    const char *name;
    size_t size;
} dtype_info[PQ_DTYPE_COUNT] = {
    [PQ_F32] = {"float32", 4}, [PQ_F16] = {"float16", 2}, [PQ_BF16] = {"bfloat16", 2},
    [PQ_F64] = {"float64", 8}, [PQ_S8] = {"int8", 1},     [PQ_U8] = {"uint8", 1},
    [PQ_S16] = {"int16", 2},   [PQ_S32] = {"int32", 4},   [PQ_S64] = {"int64", 8},
    [PQ_BOOL] = {"bool", 1},
};

size_t pq_dtype_size(pq_dtype t) { return (unsigned)t < PQ_DTYPE_COUNT ? dtype_info[t].size : 0; }

const char *pq_dtype_name(pq_dtype t)
{
    return (unsigned)t < PQ_DTYPE_COUNT ? dtype_info[t].name : "?";
}

int64_t pq_shape_count(const pq_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0) return -1;
        if (__builtin_mul_overflow(n, s->dim[i], &n)) return -1;
    }
    return n;
}

bool pq_shape_equal(const pq_shape *a, const pq_shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

const char *pq_shape_text(const pq_shape *s, char *text, size_t size)
{
    size_t at = 0;
    int n = snprintf(text, size, "[");
    for (int i = 0; i < s->rank && n >= 0 && (at += (size_t)n) < size; i++)
        n = snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)s->dim[i]);
    if (n >= 0 && s->rank) at += (size_t)n;
    if (!s->rank) at = (size_t)n;
    if (at < size) snprintf(text + at, size - at, "]");
    return text;
}

pq_status pq_tensor_new(pq_ctx *ctx, pq_tensor *out, pq_dtype dtype, const pq_shape *shape)
{
    char text[128];
    int64_t n = pq_shape_count(shape);
    memset(out, 0, sizeof *out);
    if (n < 0 || (uint64_t)n > SIZE_MAX / 16)
        return pq_fail(ctx, PQ_E_INVALID, "no tensor can have the shape %s",
                       pq_shape_text(shape, text, sizeof text));
    pq_status st = pq_buf_new(ctx, &out->buf, (size_t)n * pq_dtype_size(dtype));
    if (st != PQ_OK) return st;
    out->dtype = dtype;
    out->shape = *shape;
    return PQ_OK;
}

void pq_tensor_clear(pq_tensor *t)
{
    pq_buf_unref(t->buf);
    memset(t, 0, sizeof *t);
}

float pq_f16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v;
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 0x3ffu;
    if (e == 31)
        v.u = sign | 0x7f800000u | m << 13;
    else if (e)
        v.u = sign | (e + 112) << 23 | m << 13;
    else {
        v.f = (float)m * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}

uint16_t pq_f32_to_f16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {f};
    uint16_t sign = (uint16_t)(v.u >> 16 & 0x8000u);
    uint32_t a = v.u & 0x7fffffffu;
    if (a > 0x7f800000u) return sign | 0x7e00u;
    if (a >= 0x477ff000u) return sign | 0x7c00u; /* rounds past 65504 */
    if (a < 0x38800000u) {                       /* subnormal: let the FPU round half to even */
        v.u = a;
        v.f += 0.5f; /* ulp of [0.5, 1) is 2^-24, that of half subnormals */
        return sign | (uint16_t)(v.u - 0x3f000000u);
    }
    a += 0xfffu + (a >> 13 & 1u);
    return sign | (uint16_t)((a - 0x38000000u) >> 13);
}

double pq_element(pq_dtype t, const void *data, size_t i)
{
    switch (t) {
    case PQ_F32: return ((const float *)data)[i];
    case PQ_F16: return pq_f16_to_f32(((const uint16_t *)data)[i]);
    case PQ_BF16: return pq_bf16_to_f32(((const uint16_t *)data)[i]);
    case PQ_F64: return ((const double *)data)[i];
    case PQ_S8: return ((const int8_t *)data)[i];
    case PQ_U8: return ((const uint8_t *)data)[i];
    case PQ_S16: return ((const int16_t *)data)[i];
    case PQ_S32: return ((const int32_t *)data)[i];
    case PQ_S64: return (double)((const int64_t *)data)[i];
    case PQ_BOOL: return ((const uint8_t *)data)[i] != 0;
    case PQ_DTYPE_COUNT: break;
    }
    return NAN;
}

void pq_to_f32(float *dst, pq_dtype t, const void *src, size_t n)
{
    if (t == PQ_F32)
        memcpy(dst, src, n * sizeof *dst);
    else
        for (size_t i = 0; i < n; i++) dst[i] = (float)pq_element(t, src, i);
}

pq_compare pq_compare_f32(const float *a, const float *b, size_t n)
{
    pq_compare c = {0};
    double sum_abs = 0, sum_sq = 0, signal = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (d > c.max_abs || isnan(d)) c.max_abs = d; /* a NaN sticks */
        sum_abs += d;
        sum_sq += d * d;
        signal += (double)a[i] * (double)a[i];
    }
    c.mean_abs = n ? sum_abs / (double)n : 0;
    c.mse = n ? sum_sq / (double)n : 0;
    c.sqnr_db = sum_sq == 0 ? INFINITY : 10 * log10(signal / sum_sq);
    return c;
}
