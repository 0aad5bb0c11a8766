/** @file ref.h  The plain engine's inner pieces. Slots are dense NCHW. */
#ifndef PQ_ENGINE_REF_H
#define PQ_ENGINE_REF_H

#include "engine/program.h"
#include "engine/weights.h"

typedef struct ref_weights {
    const float *f;     /* float weights (rounded to bfloat16 for BF16 nodes), or */
    const int8_t *q;    /* integer weights */
    const float *scale; /* with q: per output channel */
    const float *bias;  /* NULL: none. Gemm: [n] */
} ref_weights;

/** What happens to a sum: act, then plus residual, then sum_act. */
typedef struct ref_epilogue {
    pq_act act, sum_act;
    float alpha, beta, sum_alpha, sum_beta;
    const pq_slot *residual; /* NULL: none */
    const void *residual_data;
} ref_epilogue;

/** Stores real y as element `at` of slot s: rounds half to even, saturates. */
void pq_ref_store(void *dst, size_t at, const pq_slot *s, float y);

PQ_MUST_USE pq_status pq_ref_conv(pq_ctx *ctx, const pq_node *node, const ref_weights *wt,
                                  const ref_epilogue *e, const pq_slot *in, const void *x,
                                  const pq_slot *out, void *y);
PQ_MUST_USE pq_status pq_ref_matmul(pq_ctx *ctx, const pq_graph *g, const pq_node *node,
                                    const ref_weights *wt, const ref_epilogue *e, const pq_slot *in,
                                    const void *x, const pq_slot *out, void *y);

#endif
