/** @file equalize.h  Exact cross-layer equalisation of a float network. */
#ifndef PQ_CORRECT_EQUALIZE_H
#define PQ_CORRECT_EQUALIZE_H

#include <pquant/correct.h>

/**
 * Divide channels by powers of two in the weights that write them and multiply in those that read
 * them, in place (new constants). Channels that must keep a common factor (the operands of a sum,
 * say) move together; those that reach an operator which lets no factor pass stay.
 * @param reach per value: [channels] typical largest magnitudes, or NULL where not known.
 * @param changed out: constants that were replaced (ids of g), [g->n_values], may be NULL.
 * @param flat out: per value [g->n_values] the bits of pq_equalized, whose name stays NULL; bits
 *        differ where channels were scaled apart. May be NULL.
 * Errors: NOMEM.
 */
PQ_MUST_USE pq_status pq_equalize(pq_ctx *ctx, pq_graph *g, float *const *reach, bool *changed,
                                  pq_equalized *flat);

/** Typical largest magnitude of each channel of each value of rank 4: the mean over images of the
 *  largest in one image. (*out)[v] is NULL for other values. Memory: pq_reach_free.
 *  Errors: those of running g on the images. */
PQ_MUST_USE pq_status pq_reach_new(pq_ctx *ctx, float ***out, const pq_engine *engine,
                                   const pq_graph *g, const pq_dataset *data, const pq_prep *prep,
                                   size_t max_images);
void pq_reach_free(float **reach, size_t n_values);

#endif
