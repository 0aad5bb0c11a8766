/** @file json.h  cJSON with checked access: messages name the path of the member, found and
 * expected kind. Documents nested deeper than cJSON's limit are refused by it. */
#ifndef PQ_BASE_JSON_H
#define PQ_BASE_JSON_H

#include <cjson/cJSON.h>

#include "base/ctx.h"

/** Parse a file. Release with cJSON_Delete. Errors: IO, FORMAT (with byte offset), NOMEM. */
PQ_MUST_USE pq_status pq_json_load(pq_ctx *ctx, cJSON **out, const char *path);
PQ_MUST_USE pq_status pq_json_parse(pq_ctx *ctx, cJSON **out, const char *text, size_t n,
                                    const char *what);
/** Write to path, indented, atomically. Errors: IO, NOMEM. */
PQ_MUST_USE pq_status pq_json_save(pq_ctx *ctx, const cJSON *doc, const char *path);

/** Typed members of an object. `what` names the object in messages ("annotations[3]").
 *  Errors: FORMAT where missing or of another kind. */
PQ_MUST_USE pq_status pq_json_number(pq_ctx *ctx, double *out, const cJSON *obj, const char *key,
                                     const char *what);
PQ_MUST_USE pq_status pq_json_int(pq_ctx *ctx, int64_t *out, const cJSON *obj, const char *key,
                                  const char *what);
/** Borrowed string. */
PQ_MUST_USE pq_status pq_json_string(pq_ctx *ctx, const char **out, const cJSON *obj,
                                     const char *key, const char *what);
PQ_MUST_USE pq_status pq_json_array(pq_ctx *ctx, const cJSON **out, const cJSON *obj,
                                    const char *key, const char *what);
/** cJSON_Add…ToObject return NULL without memory; collect that in one place. */
PQ_MUST_USE pq_status pq_json_check(pq_ctx *ctx, const cJSON *made);

#endif
