/** @file rebuild.h  One operator's weights and bias on their grid, so that on quantized inputs it
 *  gives what it gave on exact ones. */
#ifndef PQ_CORRECT_REBUILD_H
#define PQ_CORRECT_REBUILD_H

#include <pquant/correct.h>

#include "correct/spots.h"

typedef struct pq_rebuild_opts {
    const float *x;           /* inputs under the plan: n images of [C, H, W] */
    const pq_plan_tensor *t;  /* grid they are read on */
    const float *z;           /* what the exact operator gives before its activation: [O, OH, OW] */
    const pq_encoding *coded; /* how the output is to be encoded, or NULL */
    const float *w, *bias;    /* weights in float, encodings included; bias may be NULL */
    size_t n_images;
    const pq_spots *spots;
    uint64_t seed;
    bool round;        /* choose the integers; else the nearest */
    bool correct_bias; /* choose the bias */
} pq_rebuild_opts;

/** Memory: *out's members are the caller's; node and names are not set. Errors: NOMEM. */
PQ_MUST_USE pq_status pq_rebuild(pq_ctx *ctx, pq_fix *out, const pq_graph *g, const pq_node *n,
                                 const pq_rebuild_opts *o);

#endif
