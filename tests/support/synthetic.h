/** @file synthetic.h  DAMO-YOLO of every family without a checkpoint: weights by formula, as
 *  shared/golden/README.md describes them, and the expected outputs. */
#ifndef PQ_TESTS_SUPPORT_SYNTHETIC_H
#define PQ_TESTS_SUPPORT_SYNTHETIC_H

#include <cjson/cJSON.h>

#include "read/pth.h"

/** Path below the shared folder (PQ_SHARED or ../shared) into text; false where there is no such
 * file. */
bool pq_test_shared(char *text, size_t size, const char *name);

/** golden/synthetic/<model>.json; model is T, S, M, L, Ns, Nm, Nl or N. Release with cJSON_Delete.
 */
PQ_MUST_USE pq_status pq_test_synthetic_golden(pq_ctx *ctx, cJSON **out, const char *model);
/** Its state dict, without the keys that begin with `without` (NULL: all). */
PQ_MUST_USE pq_status pq_test_synthetic_state(pq_ctx *ctx, pq_state **out, const cJSON *golden,
                                              const char *without);
/** The graph in its training form, batch 1; h = w = 0: the family's own size. */
PQ_MUST_USE pq_status pq_test_synthetic_read(pq_ctx *ctx, pq_graph **out, const char *model,
                                             int64_t h, int64_t w);
/** The input pattern [1, 3, h, w], 0 .. 255. Yours to clear. */
PQ_MUST_USE pq_status pq_test_synthetic_input(pq_ctx *ctx, pq_tensor *out, int64_t h, int64_t w);

#endif
