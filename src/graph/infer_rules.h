/** @file infer_rules.h  What the rules of shape inference share: access to the inputs of one node,
 * checks with messages, numbers known before the network runs. */
#ifndef PQ_GRAPH_INFER_RULES_H
#define PQ_GRAPH_INFER_RULES_H

#include "graph/infer.h"

enum {
    PQ_INFER_MAX_WINDOW = 1 << 20
}; /* largest kernel, stride, dilation or pad taken seriously */

typedef struct pq_infer_scope {
    pq_ctx *ctx;
    const pq_inference *inf;
    pq_graph *g;
    pq_node *n;
} pq_infer_scope;

static inline pq_value *pq_infer_in(const pq_infer_scope *s, int i) { return pq_in(s->g, s->n, i); }
static inline const pq_shape *pq_infer_shape(const pq_infer_scope *s, int i)
{
    return &pq_in(s->g, s->n, i)->shape;
}
static inline bool pq_infer_has(const pq_infer_scope *s, int i)
{
    return i < s->n->n_in && s->n->in[i] != PQ_NONE;
}

/** Set dtype and shape of output i. */
pq_status pq_infer_set(const pq_infer_scope *s, int i, pq_dtype dtype, const pq_shape *shape);
/** Errors: FORMAT; UNSUPPORTED where the data input of an image operator is not an image. */
PQ_MUST_USE pq_status pq_infer_want_rank(const pq_infer_scope *s, int i, int rank);
PQ_MUST_USE pq_status pq_infer_want_float(const pq_infer_scope *s, int i);

/** Input i as a tensor, at most max integers, or one number, known before the network runs.
 *  Errors: UNSUPPORTED (not constant), FORMAT. */
PQ_MUST_USE pq_status pq_infer_known(const pq_infer_scope *s, int i, pq_tensor *out);
PQ_MUST_USE pq_status pq_infer_ints(const pq_infer_scope *s, int i, int64_t *out, int max, int *n);
PQ_MUST_USE pq_status pq_infer_scalar(const pq_infer_scope *s, int i, double *out);

/** Bring an axis into 0 .. rank-1. */
PQ_MUST_USE pq_status pq_infer_axis(const pq_infer_scope *s, int64_t *axis, int rank);
/** attr.axes from input 1 if there is one, each brought into 0 .. rank-1, without repetition. */
PQ_MUST_USE pq_status pq_infer_axes(const pq_infer_scope *s, int rank);
PQ_MUST_USE pq_status pq_infer_broadcast(const pq_infer_scope *s, pq_shape *out, const pq_shape *a,
                                         const pq_shape *b);

/** Rules of the operators that move elements, and of Shape, ConstantOfShape, Range (infer_move.c).
 */
PQ_MUST_USE pq_status pq_infer_move(const pq_infer_scope *s);
/** Rules of Gather and its kind, and of what answers with indices (infer_index.c). */
PQ_MUST_USE pq_status pq_infer_index(const pq_infer_scope *s);

#endif
