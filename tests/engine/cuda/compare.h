/** @file compare.h  The cuda engine beside ref, on a device or on the emulator. */
#ifndef PQ_TESTS_ENGINE_CUDA_COMPARE_H
#define PQ_TESTS_ENGINE_CUDA_COMPARE_H

#include "engine/cuda/cuda.h"
#include "graphs.h"

typedef struct tally {
    size_t elements, unequal;
    size_t persistent; /* launches whose blocks take several tiles */
    size_t stems;      /* that make Focus for themselves */
    double worst;      /* |a - b| / max|a| */
    uint64_t seed;
} tally;

/** Runs both on one input and counts where the outputs differ. force may be NULL; where it asks for
 *  slots apart, the bytes behind every slot must be as they were. Ends the test on failure. */
void compare_engines(tally *t, pq_ctx *ctx, const pq_graph *g, const pq_plan *plan,
                     const pq_tensor *in, const cu_force *force, uint64_t seed);
/** The same for a random input, with ranges seen on it: all INT8 (share 1), none (0) or
 *  some; then all three precisions where the base is float16. */
void compare_planned(tally *t, pq_ctx *ctx, const pq_graph *g, double share, pq_scheme scheme,
                     pq_precision base, const cu_force *force, uint64_t seed);
void compare_show(const char *what, const tally *t);
/** A number in the environment, else `otherwise`. */
int compare_number(const char *name, int otherwise);
/** Runs the tests, or skips where there is no device. Returns main's result. */
int compare_main(const struct CMUnitTest *tests, size_t n);

#endif
