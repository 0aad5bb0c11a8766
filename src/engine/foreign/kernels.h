/**
 * @file kernels.h
 * From the names of a runtime's kernels back to the nodes of the graph.
 *
 * Runtimes fuse and rename, but keep the beginning: "a/conv" becomes "a/conv_nhwc", "a/conv/act",
 * "a/conv/WithoutBiases", or bears the name of the value it writes. So the longest known name is
 * taken of which the kernel's name is a continuation behind '/', '_' or '.'.
 */
#ifndef PQ_ENGINE_FOREIGN_KERNELS_H
#define PQ_ENGINE_FOREIGN_KERNELS_H

#include <pquant/engine.h>

#include "graph/name_map.h"

/** Runtimes run a file whose inputs and outputs are float32. Errors: UNSUPPORTED (one that is not).
 */
PQ_MUST_USE pq_status pq_foreign_check_outputs(pq_ctx *ctx, const pq_graph *g);

/** The facts about a graph that outlive it in a session. */
typedef struct pq_kernel_names {
    pq_arena *arena;
    pq_name_map map; /* names of nodes, of what they write, and of their constants -> node */
    struct pq_kernel_node {
        const char *name;
        int64_t macs;
        bool weighted; /* Conv, ConvTranspose, Gemm, MatMul with constant weights */
        bool quantizable;
    } * node;
    size_t n_nodes;
} pq_kernel_names;

PQ_MUST_USE pq_status pq_kernel_names_init(pq_ctx *ctx, pq_kernel_names *k, const pq_graph *g);
void pq_kernel_names_clear(pq_kernel_names *k);
/** NULL where no node is known by the beginning of that name. */
const struct pq_kernel_node *pq_kernel_find(const pq_kernel_names *k, const char *kernel);

/** Fill a layer: node as found (else the kernel's own name), op and impl as the runtime has them;
 *  macs where `computes` says that this kernel does the node's arithmetic. */
void pq_kernel_layer(pq_layer *out, const pq_kernel_names *k, const char *kernel, const char *op,
                     const char *impl, bool computes);

#endif
