/** @file run.h  Runs a graph node by node, slowly: convolutions here with double sums, the rest by
 *  graph/eval.h. The truth for tests of passes and readers, where no engine is wanted. */
#ifndef PQ_TESTS_SUPPORT_RUN_H
#define PQ_TESTS_SUPPORT_RUN_H

#include <pquant/graph.h>

/** in: one tensor per graph input. out: one per graph output, yours to clear; untouched on error.
 */
PQ_MUST_USE pq_status pq_test_run(pq_ctx *ctx, pq_tensor *out, const pq_graph *g,
                                  const pq_tensor *in);

#endif
