/** @file mincut.h  Least cut between two terminals of a small graph with real capacities. */
#ifndef PQ_SELECT_MINCUT_H
#define PQ_SELECT_MINCUT_H

#include "base/mem.h"

typedef struct pq_cut pq_cut;

/** n nodes beside the two terminals; room for n_edges calls of pq_cut_edge. Memory: yours. */
PQ_MUST_USE pq_status pq_cut_new(pq_ctx *ctx, pq_cut **out, size_t n, size_t n_edges);
void pq_cut_free(pq_cut *c);
/** Cost of node a on the sink's side (upper) minus that on the source's, any sign. */
void pq_cut_node(pq_cut *c, size_t a, double on_sink_side);
/** Cost >= 0 of a on the source's side with b on the sink's. */
void pq_cut_edge(pq_cut *c, size_t a, size_t b, double cost);
/**
 * Solve once. sink_side[a] says on which side of a least cut node a is.
 * Source: Dinic 1970, with capacities below 1e-12 of the largest taken for nought.
 */
void pq_cut_solve(pq_cut *c, bool *sink_side);

#endif
