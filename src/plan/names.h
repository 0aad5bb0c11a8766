/** @file names.h  Sorted names of a graph, to look many up. Borrowed from the graph. */
#ifndef PQ_PLAN_NAMES_H
#define PQ_PLAN_NAMES_H

#include <pquant/graph.h>

typedef struct pq_names {
    struct pq_name {
        const char *name;
        uint32_t id;
    } * entry;
    size_t n;
} pq_names;

PQ_MUST_USE pq_status pq_names_of_values(pq_ctx *ctx, pq_names *out, const pq_graph *g);
PQ_MUST_USE pq_status pq_names_of_nodes(pq_ctx *ctx, pq_names *out, const pq_graph *g);
void pq_names_clear(pq_names *n);
/** PQ_NONE if absent. */
uint32_t pq_names_find(const pq_names *n, const char *name);

/** Conv, ConvTranspose, Gemm or MatMul. */
bool pq_op_is_weighted(pq_op op);
/** Passes values on unchanged, from its first input: runs on stored integers as they are. */
bool pq_node_moves(const pq_node *n);

#endif
