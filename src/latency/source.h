/** @file source.h  Times of the engine itself: plans compiled side by side and run in turn. */
#ifndef PQ_LATENCY_SOURCE_H
#define PQ_LATENCY_SOURCE_H

#include <pquant/latency.h>

/** Borrows opts. The time of each plan is its median ratio to the first in the same round, times
 *  the first's median. */
pq_latency_source pq_latency_engine_source(pq_latency_opts *opts);

#endif
