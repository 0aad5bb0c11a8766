/**
 * @file pass.h
 * Graph in, graph out: each pass edits in place, keeps the function computed, and leaves a valid
 * graph on every error.
 */
#ifndef PQUANT_PASS_H
#define PQUANT_PASS_H

#include <pquant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/** All passes below in order until nothing changes, then inference, compaction, numbering of the
 *  quantizable operators. What every command runs after pq_read. Errors: as below. */
PQ_API PQ_MUST_USE pq_status pq_pass_all(pq_ctx *ctx, pq_graph *g);

/** Evaluate nodes whose inputs are all constant (and Shape of static shapes). */
PQ_API PQ_MUST_USE pq_status pq_pass_fold_constants(pq_ctx *ctx, size_t *folded, pq_graph *g);
/**
 * Fold inference-mode batch normalisation into the convolution before it.
 *     w'[o,i,y,x] = w[o,i,y,x] * s[o]              s[o] = gamma[o] / sqrt(var[o] + eps)
 *     b'[o]       = beta[o] + (b[o] - mean[o]) * s[o]
 * Shapes w OIHW; b, gamma, beta, mean, var [O].  Units: s is computed in double.
 * Memory: new weights belong to g.  Errors: FORMAT (a vector is not [O], var + eps <= 0), NOMEM.
 * Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
 */
PQ_API PQ_MUST_USE pq_status pq_pass_fold_bn(pq_ctx *ctx, size_t *folded, pq_graph *g);
/** RepConv: sum of parallel convolutions (3x3, 1x1, identity batch norm) of one input into one
 *  3x3 convolution. Source: Ding et al. 2021, arXiv:2101.03697. */
PQ_API PQ_MUST_USE pq_status pq_pass_reparam(pq_ctx *ctx, size_t *fused, pq_graph *g);
/** x * Sigmoid(x) into Silu, then an activation that alone reads a Conv, ConvTranspose, Gemm or Add
 *  into its attr.act. The fused node keeps its name, its output value the activation's name. */
PQ_API PQ_MUST_USE pq_status pq_pass_fuse_act(pq_ctx *ctx, size_t *fused, pq_graph *g);
/** Four stride-2 slices and their concat into Focus (top-left, bottom-left, top-right,
 * bottom-right). */
PQ_API PQ_MUST_USE pq_status pq_pass_fuse_focus(pq_ctx *ctx, size_t *fused, pq_graph *g);
/** Remove Identity, no-op casts and reshapes, and nodes nobody reads. */
PQ_API PQ_MUST_USE pq_status pq_pass_dead_code(pq_ctx *ctx, size_t *removed, pq_graph *g);

#ifdef __cplusplus
}
#endif
#endif
