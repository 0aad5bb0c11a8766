/** @file parallel.h  Coarse data parallelism (images, layers): plain threads, one context each.
 *  Inside an engine the CPU kernels use OpenMP, the pool that oneDNN uses too; a worker of
 *  pq_parallel runs them on one thread. */
#ifndef PQ_BASE_PARALLEL_H
#define PQ_BASE_PARALLEL_H

#include "base/ctx.h"

/** Handles item i on worker w (0 .. workers-1); each worker has its own ctx for errors. */
typedef pq_status (*pq_work_fn)(pq_ctx *ctx, void *user, size_t item, int worker);

/** Runs fn for items 0 .. n-1 on up to n_threads threads, handed out in order. Progress (if stage
 *  is not NULL) is reported from the calling thread's context. The first failure stops the hand-out
 * and is returned with its message. */
PQ_MUST_USE pq_status pq_parallel(pq_ctx *ctx, const char *stage, int n_threads, size_t n,
                                  pq_work_fn fn, void *user);
/** Processors this process may run on; at least 1. */
int pq_cpu_count(void);

#endif
