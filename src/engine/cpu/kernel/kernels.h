/**
 * @file kernels.h
 * The cpu engine's own inner loops, compiled once per instruction set from one C source.
 *
 * Integer results equal the `ref` engine's bit for bit: a real is x * (1 / scale), rounded half to
 * even, plus the zero point, saturated; a stored integer reads as (q - zero_point) * scale.
 * Exponentials are a polynomial: relative error below 4e-7 in [-87, 88].
 * Pointers need no alignment; nothing is read or written past the given counts; no threads.
 */
#ifndef PQ_ENGINE_CPU_KERNELS_H
#define PQ_ENGINE_CPU_KERNELS_H

#include <pquant/graph.h>

/** How a quantized buffer is to be understood. */
typedef struct pq_grid {
    float scale, inverse; /* inverse = 1.0f / scale */
    int32_t zero_point;
    bool is_signed;
} pq_grid;

typedef struct pq_conv_q8 { /* one output row block of an integer convolution, NHWC */
    int64_t c, h, w, o, oh, ow, groups;
    const pq_window *window;
} pq_conv_q8;

typedef struct pq_cpu_kernels {
    const char *isa;
    /* n elements, same layout */
    void (*quantize)(uint8_t *dst, const float *x, size_t n, pq_grid g);
    void (*dequantize)(float *dst, const uint8_t *x, size_t n, pq_grid g);
    void (*requantize)(uint8_t *dst, const uint8_t *x, size_t n, pq_grid from, pq_grid to);
    void (*to_bf16)(uint16_t *dst, const float *x, size_t n);
    void (*from_bf16)(float *dst, const uint16_t *x, size_t n);
    void (*add)(float *dst, const float *a, const float *b, size_t n);
    void (*add_scaled)(float *dst, const float *a, const uint8_t *b, size_t n, pq_grid g);
    void (*multiply)(float *dst, const float *a, const float *b, size_t n);
    void (*multiply_scalar)(float *dst, const float *a, float b, size_t n);
    void (*activate)(float *dst, const float *x, size_t n, pq_act act, float alpha, float beta);
    /* dst[i] = max(dst[i], x[i]) */
    void (*max_s8)(int8_t *dst, const int8_t *x, size_t n);
    void (*max_u8)(uint8_t *dst, const uint8_t *x, size_t n);
    void (*max_f32)(float *dst, const float *x, size_t n);
    /* One row of Focus: two input rows [w] of each of c planes to one output row [w/2, 4c], NHWC.
     * plane: elements between planes. */
    void (*focus_row)(float *dst, const float *top, const float *bottom, int64_t c, int64_t w,
                      size_t plane);
    void (*focus_row_q8)(uint8_t *dst, const float *top, const float *bottom, int64_t c, int64_t w,
                         size_t plane, pq_grid g);
    /* Anchors of one image and level: reg [n, 4, bins] -> boxes [n, 4] (x1 y1 x2 y2), the first at
     * column x0, row y0 of a map `width` wide. Softmax expectation, Li et al. 2020,
     * arXiv:2006.04388. */
    void (*dfl_boxes)(float *boxes, const float *reg, size_t n, int bins, float stride, int64_t x0,
                      int64_t y0, int64_t width);
    /* Exact sums for processors whose u8 x s8 instruction saturates: row oy of output, channels
     * [0, o), weights [o][kh][kw][c/groups] as int16. */
    void (*conv_row)(int32_t *sum, const pq_conv_q8 *v, const uint8_t *x, bool is_signed,
                     int32_t zero_point, const int16_t *weight, int64_t oy);
    void (*max_bf16)(uint16_t *dst, const uint16_t *x, size_t n);
    void (*focus_row_bf16)(uint16_t *dst, const float *top, const float *bottom, int64_t c,
                           int64_t w, size_t plane);
    /* n rows of `bytes` that lie side by side to rows `pitch` bytes apart. */
    void (*copy_rows)(uint8_t *dst, size_t pitch, const uint8_t *x, size_t bytes, size_t n);
} pq_cpu_kernels;

extern const pq_cpu_kernels pq_cpu_kernels_base, pq_cpu_kernels_avx2, pq_cpu_kernels_avx512;

/** The best set for this processor, PQ_CPU_MASK obeyed. */
const pq_cpu_kernels *pq_cpu_kernels_best(void);

#endif
