/** @file grid.h  Reals as a plan's grid leaves them. */
#ifndef PQ_CORRECT_GRID_H
#define PQ_CORRECT_GRID_H

#include <pquant/plan.h>

/** A plan's tensor, prepared. */
typedef struct pq_steps {
    float scale, inverse, least, most; /* levels counted from the zero point */
} pq_steps;

static inline pq_steps pq_steps_of(const pq_plan_tensor *t)
{
    const float zero = (float)t->zero_point;
    return (pq_steps){t->scale, 1 / t->scale, (t->dtype == PQ_U8 ? 0.0f : -128.0f) - zero,
                      (t->dtype == PQ_U8 ? 255.0f : 127.0f) - zero};
}

/** x^ of x. Adding 1.5 * 2^23 rounds to the nearest integer, half to even, without a call. */
static inline float pq_steps_round(float x, pq_steps s)
{
    const float magic = 12582912.0f;
    float q = x * s.inverse;
    q = q < s.least ? s.least : q > s.most ? s.most : q;
    return ((q + magic) - magic) * s.scale;
}

#endif
