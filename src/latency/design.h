/** @file design.h  Which plans are timed. */
#ifndef PQ_LATENCY_DESIGN_H
#define PQ_LATENCY_DESIGN_H

#include "latency/terms.h"

/**
 * Random assignment number `index`, the same at any time: precisions change in segments of the
 * network's order whose mean length is anything from one operator to a third of all, and the part
 * that is INT8 is spread over 0 .. 1, more of it above a half, where good plans are.
 * x: [n_units].
 */
PQ_MUST_USE pq_status pq_design_random(pq_ctx *ctx, const pq_terms *t, size_t index, uint8_t *x);
/** All units at `label`, or as near as they can. */
void pq_design_uniform(const pq_terms *t, uint8_t label, uint8_t *x);
/** Labels of units to labels of operators [n_ops]. */
void pq_design_spread(const pq_terms *t, const uint8_t *x, uint8_t *label);

#endif
