/** @file suppress.h  The rules by which candidates become boxes, for the host and for devices: the
 * same bits everywhere. Compiled without contraction. */
#ifndef PQ_ENGINE_SUPPRESS_H
#define PQ_ENGINE_SUPPRESS_H

#include <pquant/engine.h>

#include "base/expf.h"

#ifdef __CUDACC__
#define PQ_RULE static __host__ __device__ __forceinline__
#else
#define PQ_RULE static inline
#endif

/** Small key = high score, then low index; no two are equal. */
PQ_RULE uint64_t pq_score_key(float score, uint32_t index)
{
    uint32_t u;
    score += 0.0f; /* -0 and 0 are equal */
    memcpy(&u, &score, sizeof u);
    u = u >> 31 ? ~u : u | 0x80000000u; /* orders as the floats do */
    return (uint64_t)~u << 32 | index;
}

/** The score again, but for the sign of zero. */
PQ_RULE float pq_score_of_key(uint64_t key)
{
    uint32_t u = ~(uint32_t)(key >> 32);
    float score;
    u = u >> 31 ? u & 0x7fffffffu : ~u;
    memcpy(&score, &u, sizeof score);
    return score;
}

PQ_RULE bool pq_box_is_finite(const pq_box *b)
{
    return b->x1 - b->x1 == 0 && b->y1 - b->y1 == 0 && b->x2 - b->x2 == 0 && b->y2 - b->y2 == 0;
}

PQ_RULE double pq_box_area(const pq_box *b) { return (b->x2 - b->x1) * (b->y2 - b->y1); }

/** IoU = inter / (area_a + area_b - inter + 1e-9) > iou. Finite corners. */
PQ_RULE bool pq_box_overlaps(const pq_box *a, double area_a, const pq_box *b, double area_b,
                             double iou)
{
    const double w = fmin(a->x2, b->x2) - fmax(a->x1, b->x1);
    const double h = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    const double inter = w > 0 && h > 0 ? w * h : 0;
    return !(inter / (area_a + area_b - inter + 1e-9) <= iou);
}

/** YOLOX's cells lie in grids of strides 8, 16 and 32, one behind the other, row by row. */
PQ_RULE int64_t pq_yolox_cells(int h, int w)
{
    int64_t cells = 0;
    for (int stride = 8; stride <= 32; stride *= 2) cells += (int64_t)(h / stride) * (w / stride);
    return cells;
}

/** Its x, y, log w, log h of a cell, the input being h x w. What is no number, or more than e^87
 *  cells, becomes a box that is not finite. */
PQ_RULE pq_box pq_yolox_box(const float o[4], int64_t cell, int h, int w)
{
    int stride = 8;
    for (; stride < 32 && cell >= (int64_t)(h / stride) * (w / stride); stride *= 2)
        cell -= (int64_t)(h / stride) * (w / stride);
    const int columns = w / stride;
    const double x = ((double)o[0] + (double)(cell % columns)) * stride;
    const double y = ((double)o[1] + (double)(cell / columns)) * stride;
    const double half_w = (double)(o[2] <= 87 ? pq_expf(o[2]) : INFINITY) * stride / 2;
    const double half_h = (double)(o[3] <= 87 ? pq_expf(o[3]) : INFINITY) * stride / 2;
    const pq_box box = {x - half_w, y - half_h, x + half_w, y + half_h};
    return box;
}

#endif
