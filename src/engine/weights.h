/** @file weights.h  Weighted nodes as plain numbers, the same for every engine of ours. */
#ifndef PQ_ENGINE_WEIGHTS_H
#define PQ_ENGINE_WEIGHTS_H

#include "engine/program.h"

/** Float weights as stored in the graph (borrowed) and bias (borrowed; NULL if none). */
const float *pq_weight_data(const pq_graph *g, const pq_node *n);
const float *pq_bias_data(const pq_graph *g, const pq_node *n);

/** s8 weights and channel scales of an INT8 node. Memory: yours (pq_free). */
PQ_MUST_USE pq_status pq_step_quantize(pq_ctx *ctx, int8_t **q, float **scale, const pq_program *p,
                                       const pq_node *n);

#endif
