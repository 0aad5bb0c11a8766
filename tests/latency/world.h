/** @file world.h  A network, and an engine whose times follow a known law: nothing is run. */
#ifndef PQ_TESTS_LATENCY_WORLD_H
#define PQ_TESTS_LATENCY_WORLD_H

#include <pquant/latency.h>

#include "support/small.h"

enum { WORLD_MOST_OPS = 64, WORLD_FULL_MS = 40 };

typedef struct world {
    pq_small small;
    size_t n_ops;
    double save[WORLD_MOST_OPS][4]; /* ms less at a label than at 0 */
    double alpha, beta;             /* where neighbours differ: per conversion, per MB */
    double noise;                   /* relative, by a hash of labels and of the call */
    double layer_error;             /* times by layer are wrong by up to this part */
    bool no_layers;
    size_t calls, timed, fail_at; /* plans timed; call of time() that fails, 0: none */
    pq_engine engine;
    pq_latency_source source;
    pq_latency_opts opts;
} world;

/** A chain of n convolutions of 8 channels, every fourth at half the size of the one before. */
void world_chain(world *w, size_t n, int n_labels);
/** For a graph made by hand in w->small, its outputs declared. */
void world_begin(world *w, int n_labels);
void world_end(world *w);
/** The law for a chain: labels by quant_index. */
double world_ms(const world *w, const uint8_t *label);

#endif
