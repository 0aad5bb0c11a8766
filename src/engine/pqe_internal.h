/** @file pqe_internal.h  What writing and reading a .pqe share: the layout and the attributes. */
#ifndef PQ_ENGINE_PQE_INTERNAL_H
#define PQ_ENGINE_PQE_INTERNAL_H

#include <pquant/pqe.h>

#include "base/json.h"

enum {
    PQE_PREAMBLE = 128,
    PQE_ALIGN = 64,
    PQE_VERSION = 1,
    PQE_AT_VERSION = 8,
    PQE_AT_HEADER = 16,
    PQE_AT_PAYLOAD = 24,
    PQE_AT_HASH = 32
};
extern const uint8_t pqe_magic[8];

static inline uint64_t pqe_padded(uint64_t n)
{
    return (n + PQE_ALIGN - 1) / PQE_ALIGN * PQE_ALIGN;
}

/** Integers and floats that JSON numbers cannot carry exactly become strings. NULL: no memory. */
cJSON *pqe_int(int64_t v);
cJSON *pqe_float(float v);
/** Errors: FORMAT. */
PQ_MUST_USE pq_status pqe_get_int(pq_ctx *ctx, int64_t *out, const cJSON *v, const char *what,
                                  int64_t low, int64_t high);
PQ_MUST_USE pq_status pqe_get_float(pq_ctx *ctx, float *out, const cJSON *v, const char *what);

/** An object of the attributes that are not all zero. NULL: no memory. */
cJSON *pqe_attr_json(const pq_attr *a);
/** Errors: FORMAT (unknown member, wrong kind, out of its enumeration). */
PQ_MUST_USE pq_status pqe_attr_parse(pq_ctx *ctx, pq_attr *out, const cJSON *o, const char *node);

#endif
