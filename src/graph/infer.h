/** @file infer.h  Shape inference one node at a time, for readers that need shapes while they
 * build. Small results that follow from constants (the Shape -> Gather -> Concat chains in front of
 * a Reshape) are evaluated on the way and remembered in a pq_inference, not in the graph. */
#ifndef PQ_GRAPH_INFER_H
#define PQ_GRAPH_INFER_H

#include <pquant/graph.h>

/** Results known before the network runs, by value; zero-initialise, release with _clear. */
typedef struct pq_inference {
    pq_tensor *known; /* buf NULL: not known */
    size_t n_known;
} pq_inference;

void pq_inference_clear(pq_inference *inf);

/** The tensor behind value v if it is a constant or was evaluated. *out borrows: do not clear it.
 */
bool pq_inference_find(const pq_inference *inf, const pq_graph *g, pq_value_id v, pq_tensor *out);

/** dtype and shape of the outputs of one node whose inputs are inferred, and its attributes brought
 *  into their normal form (axes counted from the front, Slice, Pad, Clip and Resize from their
 *  constant inputs). Errors: as pq_graph_infer. */
PQ_MUST_USE pq_status pq_infer_node(pq_ctx *ctx, pq_inference *inf, pq_graph *g, pq_node_id id);

/** The rule of the node's operator alone; pq_infer_node adds the evaluation and the node's name in
 *  messages. */
PQ_MUST_USE pq_status pq_infer_rule(pq_ctx *ctx, const pq_inference *inf, pq_graph *g, pq_node *n);

#endif
