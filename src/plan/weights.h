/** @file weights.h  Lists of corrected weights, and the safetensors file that keeps them. */
#ifndef PQ_PLAN_WEIGHTS_H
#define PQ_PLAN_WEIGHTS_H

#include <pquant/plan.h>

#include "base/json.h"

/** Write <stem>.weights.safetensors beside json_path. *name: that file's name, yours (pq_free), for
 *  the JSON's {"file", "sha256"} entry, as is hex. Errors: IO, NOMEM. */
PQ_MUST_USE pq_status pq_weights_save(pq_ctx *ctx, char **name, char hex[65],
                                      const pq_plan_weight *w, size_t n, const char *json_path);
/** Read the file that such an entry names. Memory: *w is yours (pq_weights_free).
 *  Errors: IO; FORMAT (hash, name, anything in the file). */
PQ_MUST_USE pq_status pq_weights_load(pq_ctx *ctx, pq_plan_weight **w, size_t *n,
                                      const cJSON *entry, const char *json_path);
void pq_weights_free(pq_plan_weight *w, size_t n);

#endif
