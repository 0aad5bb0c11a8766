/** @file effect.h  How much an error in each channel of a value changes what is computed from it.
 */
#ifndef PQ_CALIBRATE_EFFECT_H
#define PQ_CALIBRATE_EFFECT_H

#include <pquant/graph.h>

/**
 * Per value, a weight for each channel (dimension 1 of rank 4), or NULL where all count alike: the
 * squared weights with which the operators behind it read the channel,
 *     g[c] = sum over readers of sum_o,kh,kw w[o,c,kh,kw]^2 / sum_all w^2,
 * passed on backwards through operators that keep channels apart, and scaled to 1 .. 65535.
 * Memory: clear with pq_effect_clear.
 */
typedef struct pq_effect {
    uint16_t **channel; /* per value */
    size_t n_values;
} pq_effect;
PQ_MUST_USE pq_status pq_effect_new(pq_ctx *ctx, pq_effect *out, const pq_graph *g);
void pq_effect_clear(pq_effect *e);

#endif
