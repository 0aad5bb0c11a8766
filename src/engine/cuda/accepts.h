/** @file accepts.h  What the cuda engine can run. In the library rather than in the module, so that
 *  plans can be made where there is no GPU. */
#ifndef PQ_ENGINE_CUDA_ACCEPTS_H
#define PQ_ENGINE_CUDA_ACCEPTS_H

#include <pquant/engine.h>

/** As pq_engine.accepts. */
bool pq_cuda_accepts(const pq_graph *g, const pq_node *n, pq_precision p, const char **why);

#endif
