/**
 * @file outputs.h
 * Outputs that a runtime cannot write in place.
 *
 * Shapes of ours are static and a network gives out float32. Behind NonMaxSuppression or NonZero a
 * runtime has as many rows as it finds, where we have as many as there can be; and indices stay
 * integers in a file. Such an output is the runtime's to allocate: what it holds becomes the first
 * part of ours along each dimension, as floats, and the rest is NaN (PQ_ABSENT in graph.h).
 */
#ifndef PQ_ENGINE_FOREIGN_OUTPUTS_H
#define PQ_ENGINE_FOREIGN_OUTPUTS_H

#include <pquant/graph.h>

typedef struct pq_foreign_output {
    pq_dtype dtype; /* in the file */
    bool taken;     /* the runtime allocates it */
} pq_foreign_output;

/** One per output of the graph. Memory: *out is yours (pq_free). Errors: UNSUPPORTED (an input that
 *  is not float32, an output of another type than float32, integers or bool), NOMEM. */
PQ_MUST_USE pq_status pq_foreign_outputs(pq_ctx *ctx, pq_foreign_output **out, const pq_graph *g);

/** Fill `to`, float32 of static shape, with elements of `dtype` and shape dim[rank]. Errors: ENGINE
 *  (they do not fit; name is the output's). */
PQ_MUST_USE pq_status pq_foreign_take(pq_ctx *ctx, pq_tensor *to, const char *name, pq_dtype dtype,
                                      const int64_t *dim, size_t rank, const void *from);

#endif
