/** @file graphs.h  Random small networks of every operator that the engines treat specially, with
 *  ranges and plans for them. Made from a seed, so that a failure can be repeated. */
#ifndef PQ_TESTS_ENGINE_GRAPHS_H
#define PQ_TESTS_ENGINE_GRAPHS_H

#include <pquant/calibrate.h>

#include "support/small.h"

/** A network of about n_nodes operators: convolutions of odd sizes (groups, depthwise, dilated),
 *  transposed ones, products, sums with activations, Concat, MaxPool, nearest Resize, activations.
 *  Ends the test on failure; release with pq_small_end. */
void graphs_random(pq_small *s, uint64_t seed, int n_nodes);

/** One random input of g, -2 .. 2. Yours to clear. */
void graphs_input(pq_tensor *out, pq_ctx *ctx, const pq_graph *g, uint64_t seed);

/** Ranges of every float value of g, as seen on that input. */
void graphs_ranges(pq_ranges **out, pq_ctx *ctx, const pq_graph *g, const pq_tensor *in);

/** Each operator INT8 with probability `share` where the engine takes it so, else `base`. */
void graphs_plan(pq_plan **out, pq_ctx *ctx, const pq_graph *g, const pq_ranges *r,
                 const pq_engine *engine, double share, pq_scheme scheme, pq_precision base,
                 uint64_t seed);

#endif
