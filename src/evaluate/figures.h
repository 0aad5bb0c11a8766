/** @file figures.h  The 12 figures as JSON. */
#ifndef PQ_EVALUATE_FIGURES_H
#define PQ_EVALUATE_FIGURES_H

#include <pquant/evaluate.h>

#include "base/json.h"

/** {"AP": …, …, "ARl": …}, 0 .. 1. Memory: *out is yours (cJSON_Delete), NULL on error.
 *  Errors: NOMEM. */
PQ_MUST_USE pq_status pq_figures_to_json(pq_ctx *ctx, cJSON **out, const pq_figures *f);

#endif
