/**
 * @file kernels.h
 * From the names of a runtime's kernels back to the nodes of the graph.
 *
 * Runtimes fuse and rename, but keep the beginning: "a/conv" becomes "a/conv_nhwc", "a/conv/act",
 * "a/conv/WithoutBiases", or bears the name of the value it writes. So the longest known name is
 * taken of which the kernel's name is a continuation behind '/', '_' or '.'. A convolution that
 * took in a scale or an activation may bear that one's name.
 */
#ifndef PQ_ENGINE_FOREIGN_KERNELS_H
#define PQ_ENGINE_FOREIGN_KERNELS_H

#include <pquant/engine.h>

#include "graph/name_map.h"

/** The facts about a graph that outlive it in a session. */
typedef struct pq_kernel_names {
    pq_arena *arena;
    pq_name_map map; /* names of nodes, of what they write, and of their constants -> node */
    struct pq_kernel_node {
        const char *name;
        int64_t macs;
        bool weighted;            /* Conv, ConvTranspose, Gemm, MatMul with constant weights */
        uint32_t weighted_before; /* index of the weighted node that this one may be fused into */
    } * node;
    size_t n_nodes;
} pq_kernel_names;

PQ_MUST_USE pq_status pq_kernel_names_init(pq_ctx *ctx, pq_kernel_names *k, const pq_graph *g);
void pq_kernel_names_clear(pq_kernel_names *k);
/** NULL where no node is known by the beginning of that name; *rest (may be NULL): what follows. */
const struct pq_kernel_node *pq_kernel_find(const pq_kernel_names *k, const char *kernel,
                                            const char **rest);

/** What a kernel is for. */
typedef enum pq_kernel_role {
    PQ_KERNEL_OTHER,
    PQ_KERNEL_COMPUTES, /* the arithmetic of a weighted node */
    PQ_KERNEL_CONVERTS, /* from one precision to another: called PQ_LAYER_CONVERT */
    PQ_KERNEL_REORDERS  /* from one layout to another: called PQ_LAYER_REORDER */
} pq_kernel_role;

/** Fill a layer: node as found (else the kernel's own name), op and impl as the runtime has them;
 *  macs where it computes. What bears the name of a pair ("…/q", "…/dq") converts, whatever it is.
 */
void pq_kernel_layer(pq_layer *out, const pq_kernel_names *k, const char *kernel, const char *op,
                     const char *impl, pq_kernel_role role);

#endif
