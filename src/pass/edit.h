/** @file edit.h  Small steps that several passes share. */
#ifndef PQ_PASS_EDIT_H
#define PQ_PASS_EDIT_H

#include <pquant/pass.h>

#include "base/ctx.h"

/** The live node that makes v, NULL for inputs and constants. */
pq_node *pq_edit_producer(const pq_graph *g, pq_value_id v);
/** The same, where one node alone reads v and v is no graph output; else NULL. */
pq_node *pq_edit_private_producer(const pq_graph *g, pq_value_id v);
/** Let node `to` make the (single) output of node `from`, which dies. */
void pq_edit_take_output(pq_graph *g, pq_node *to, pq_node *from);

/** Float constant v as an array, NULL if it is anything else. */
const float *pq_edit_floats(const pq_graph *g, pq_value_id v);
/** A node's input i, PQ_NONE where it has none. */
static inline pq_value_id pq_edit_in(const pq_node *n, int i)
{
    return i < n->n_in ? n->in[i] : PQ_NONE;
}

/** Replacing a node's constants in two steps, so that several change together or not at all.
 *  First: room for n inputs, new constants (float32, called after the node). Errors: NOMEM. */
PQ_MUST_USE pq_status pq_edit_widen(pq_ctx *ctx, pq_graph *g, pq_node *node, int n);
PQ_MUST_USE pq_status pq_edit_new_const(pq_ctx *ctx, pq_value_id *out, pq_graph *g,
                                        const pq_node *node, const char *suffix,
                                        const pq_shape *shape, pq_buf *data);
/** Then: input i becomes v, which takes over the name of a constant that nobody else reads. */
void pq_edit_set_const(pq_graph *g, pq_node *node, int i, pq_value_id v);

#endif
