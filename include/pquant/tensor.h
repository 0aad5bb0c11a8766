/**
 * @file tensor.h
 * Element types, shapes and dense tensors.
 *
 * Tensors are dense and row-major. Images and feature maps outside an engine are NCHW
 * [n, c, h, w]; what layout an engine uses inside is its own affair.
 */
#ifndef PQUANT_TENSOR_H
#define PQUANT_TENSOR_H

#include <pquant/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pq_dtype {
    PQ_F32 = 0,
    PQ_F16,
    PQ_BF16,
    PQ_F64,
    PQ_S8,
    PQ_U8,
    PQ_S16,
    PQ_S32,
    PQ_S64,
    PQ_BOOL,
    PQ_DTYPE_COUNT
} pq_dtype;

#define PQ_MAX_RANK 8

/** rank 0 is a scalar (one element). Only dim[0 .. rank-1] mean anything. */
typedef struct pq_shape {
    int rank;
    int64_t dim[PQ_MAX_RANK];
} pq_shape;

/** Bytes per element. */
PQ_API size_t pq_dtype_size(pq_dtype t);
/** "float32", "int8", … as NumPy calls them. */
PQ_API const char *pq_dtype_name(pq_dtype t);

/** Number of elements; 1 for a scalar; -1 if a dimension is negative or the product overflows. */
PQ_API int64_t pq_shape_count(const pq_shape *s);
PQ_API bool pq_shape_equal(const pq_shape *a, const pq_shape *b);
/** Writes "[1, 3, 640, 640]" into text (size bytes, always terminated) and returns text. */
PQ_API const char *pq_shape_text(const pq_shape *s, char *text, size_t size);
/** PQ_SHAPE(1, 3, 640, 640): a pq_shape value. */
#define PQ_SHAPE(...)                                                                              \
    ((pq_shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})

/** A dense tensor that owns one reference of its buffer. Zero-initialise before first use. */
typedef struct pq_tensor {
    pq_dtype dtype;
    pq_shape shape;
    pq_buf *buf;
} pq_tensor;

/** Zeroed tensor. Memory: release with pq_tensor_clear. Errors: NOMEM, INVALID (bad shape). */
PQ_API PQ_MUST_USE pq_status pq_tensor_new(pq_ctx *ctx, pq_tensor *out, pq_dtype dtype,
                                           const pq_shape *shape);
PQ_API void pq_tensor_clear(pq_tensor *t);
static inline void *pq_tensor_data(const pq_tensor *t) { return t->buf ? pq_buf_data(t->buf) : 0; }

/** Scalar conversions; f32 -> f16 and bf16 round half to even, NaN stays NaN. */
PQ_API float pq_f16_to_f32(uint16_t h);
PQ_API uint16_t pq_f32_to_f16(float f);
static inline float pq_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)h << 16};
    return v.f;
}
static inline uint16_t pq_f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

/** Element i of data as a double, for any dtype. */
PQ_API double pq_element(pq_dtype t, const void *data, size_t i);
/** n elements of any dtype to float. */
PQ_API void pq_to_f32(float *dst, pq_dtype t, const void *src, size_t n);

/** How two float arrays differ: what tests and sensitivity both report. */
typedef struct pq_compare {
    double max_abs;  /* max |a - b| */
    double mean_abs; /* mean |a - b| */
    double mse;      /* mean (a - b)^2 */
    double sqnr_db;  /* 10 log10(sum a^2 / sum (a - b)^2); INFINITY where equal */
} pq_compare;
PQ_API pq_compare pq_compare_f32(const float *a, const float *b, size_t n);

#ifdef __cplusplus
}
#endif
#endif
