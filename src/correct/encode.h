/** @file encode.h  Re-encoding of the channels of one value, through an activation that lets no
 *  factor pass. */
#ifndef PQ_CORRECT_ENCODE_H
#define PQ_CORRECT_ENCODE_H

#include <pquant/correct.h>

/** Weights [O, I/groups, H, W] and bias of who reads a re-encoded value: columns by `back`, bias by
 *  `level`. bias may be NULL. */
void pq_encode_columns(float *w, float *bias, const pq_graph *g, const pq_node *n,
                       const pq_encoding *e);
/** Weights and bias of who writes it: rows by `gain`, bias by `shift`. */
void pq_encode_rows(float *w, float *bias, const pq_shape *shape, const pq_encoding *e);

/** The range that goes with an encoding. */
typedef struct pq_encoded_range {
    float lo, hi;
} pq_encoded_range;

/** May value v be re-encoded? Written by a convolution with SiLU or HardSwish, read by convolutions
 *  alone, all with constants of their own. */
bool pq_encode_applies(const pq_graph *g, pq_value_id v);

/**
 * Find the encoding of v, if one pays.
 * @param z pre-activations of the operator that writes v: n images of [C, H, W].
 * @param gain least factor by which the error must fall.
 * *found false: as it is does as well; *out is empty then. *seen: largest error relative to the
 * variance that the plain encoding has.
 * Memory: arrays of *out are the caller's. Threads: over channels. Errors: NOMEM.
 */
PQ_MUST_USE pq_status pq_encode_find(pq_ctx *ctx, bool *found, pq_encoding *out,
                                     pq_encoded_range *range, const pq_graph *g, pq_value_id v,
                                     const float *z, size_t n_images, pq_scheme scheme,
                                     uint64_t seed, const pq_range *plain);

#endif
