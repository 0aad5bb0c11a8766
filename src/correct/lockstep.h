/** @file lockstep.h  A network run node by node over some images, twice side by side: exactly, and
 *  as a plan makes it. */
#ifndef PQ_CORRECT_LOCKSTEP_H
#define PQ_CORRECT_LOCKSTEP_H

#include <pquant/correct.h>

typedef struct pq_lockstep {
    const pq_engine *engine;
    const pq_graph *g; /* batch 1 */
    size_t n;          /* images */
    int threads;
    bool *needed;   /* per node: a convolution, or something that one depends on */
    float **exact;  /* per value: [n] maps, NULL where not alive */
    float **actual; /* the same under the plan; may be the same memory */
    uint32_t *left; /* per value: nodes that still read it */
} pq_lockstep;

/** What one run of a node differs in from the graph's own. */
typedef struct pq_lockstep_opts {
    bool no_act;                  /* without the fused activation */
    const float *weight, *bias;   /* NULL: the graph's */
    const pq_plan_tensor **grids; /* per input: read Q(x); NULL, or entries NULL: x */
} pq_lockstep_opts;

/** Bytes of feature maps that one image takes where most are alive. Errors: NOMEM. */
PQ_MUST_USE pq_status pq_lockstep_bytes(pq_ctx *ctx, size_t *bytes, const pq_graph *g);
/** Errors: those of the images; UNSUPPORTED (values inside that are not float32); NOMEM. */
PQ_MUST_USE pq_status pq_lockstep_new(pq_ctx *ctx, pq_lockstep *out, const pq_engine *engine,
                                      const pq_graph *g, const pq_dataset *data,
                                      const pq_prep *prep);
void pq_lockstep_clear(pq_lockstep *l);
/** Run node i on `from` (exact or actual). out: n_out maps for n images each, yours (pq_free). */
PQ_MUST_USE pq_status pq_lockstep_run(pq_ctx *ctx, const pq_lockstep *l, size_t i,
                                      float *const *from, const pq_lockstep_opts *opts,
                                      float **out);
/** Free what node i was the last to read. */
void pq_lockstep_leave(pq_lockstep *l, size_t i);

#endif
