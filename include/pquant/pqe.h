/**
 * @file pqe.h
 * The compiled-engine file: folded graph, plan and weights in one, read without any other file.
 *
 *     bytes 0-127    "PQE\r\n\x1a\n\0", u32 version 1, u32 0, u64 header bytes, u64 payload bytes,
 *                    SHA-256 of all that follows (64 hexadecimal digits), zeros
 *     header         JSON, padded with spaces to a multiple of 64 bytes: family, opset, meta,
 *                    values, inputs, outputs, nodes with their attributes and precisions, the
 *                    plan's scheme, base precision and tensors
 *     payload        constants, each at a multiple of 64 bytes
 *
 * Numbers are little-endian. Weights of INT8 nodes stand as int8 with one float scale per output
 * channel and are read as float constants q * scale, together with the scale that makes q of them
 * again; every other constant stands as it is. Corrections of weights are part of the constants.
 */
#ifndef PQUANT_PQE_H
#define PQUANT_PQE_H

#include <pquant/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Does a file that begins so claim to be a .pqe? */
PQ_API bool pq_pqe_is(const void *data, size_t bytes);

/**
 * Write g under plan. The file appears when it is complete; the same input gives the same bytes.
 * Errors: as pq_plan_bind; INVALID (a graph with removed nodes: pq_graph_compact), IO, NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_pqe_save(pq_ctx *ctx, const char *path, const pq_graph *g,
                                         const pq_plan *plan);
/**
 * Read both back. Sessions compiled of them compute bit for bit what those of the saved pair do.
 * The graph has a hash of its own (its INT8 weights are rounded), which is the plan's too.
 * Memory: *g and *plan are yours, NULL on error; constants view the mapped file.
 * Errors: IO; FORMAT (what, found, expected: everything is checked); NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_pqe_load(pq_ctx *ctx, pq_graph **g, pq_plan **plan,
                                         const char *path);

#ifdef __cplusplus
}
#endif
#endif
