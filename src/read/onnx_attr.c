/* ONNX node attributes by name, checked. */
#include <string.h>

#include "base/ctx.h"
#include "read/onnx_internal.h"

const Onnx__AttributeProto *pq_onnx_find_attr(const Onnx__NodeProto *p, const char *name)
{
    for (size_t i = 0; i < p->n_attribute; i++)
        if (p->attribute[i]->name && strcmp(p->attribute[i]->name, name) == 0)
            return p->attribute[i];
    return NULL;
}

/* Old writers leave the type out; then the member that is there decides. */
static pq_status want(pq_ctx *ctx, const Onnx__AttributeProto *a,
                      Onnx__AttributeProto__AttributeType type, bool present)
{
    if (a->has_type ? a->type == type : present) return PQ_OK;
    return pq_fail(ctx, PQ_E_FORMAT, "attribute '%s' has the type %d, expected %d", a->name,
                   a->has_type ? (int)a->type : 0, (int)type);
}

pq_status pq_onnx_int(pq_ctx *ctx, int64_t *out, const Onnx__NodeProto *p, const char *name)
{
    const Onnx__AttributeProto *a = pq_onnx_find_attr(p, name);
    if (!a) return PQ_OK;
    pq_status st = want(ctx, a, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, a->has_i);
    if (st == PQ_OK) *out = a->i;
    return st;
}

pq_status pq_onnx_float(pq_ctx *ctx, float *out, const Onnx__NodeProto *p, const char *name)
{
    const Onnx__AttributeProto *a = pq_onnx_find_attr(p, name);
    if (!a) return PQ_OK;
    pq_status st = want(ctx, a, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT, a->has_f);
    if (st == PQ_OK) *out = a->f;
    return st;
}

pq_status pq_onnx_flag(pq_ctx *ctx, bool *out, const Onnx__NodeProto *p, const char *name)
{
    int64_t v = *out;
    pq_status st = pq_onnx_int(ctx, &v, p, name);
    *out = v != 0;
    return st;
}

pq_status pq_onnx_int_list(pq_ctx *ctx, int64_t *out, int max, int *n, const Onnx__NodeProto *p,
                           const char *name)
{
    const Onnx__AttributeProto *a = pq_onnx_find_attr(p, name);
    if (!a) return PQ_OK;
    pq_status st = want(ctx, a, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS, a->n_ints > 0);
    if (st != PQ_OK) return st;
    if (a->n_ints > (size_t)max)
        return pq_fail(ctx, PQ_E_FORMAT, "attribute '%s' has %zu integers, expected at most %d",
                       name, a->n_ints, max);
    for (size_t i = 0; i < a->n_ints; i++) out[i] = a->ints[i];
    *n = (int)a->n_ints;
    return PQ_OK;
}

pq_status pq_onnx_ints(pq_ctx *ctx, int64_t *out, int n, const Onnx__NodeProto *p, const char *name)
{
    int64_t v[16];
    int found = -1;
    pq_status st = pq_onnx_int_list(ctx, v, 16, &found, p, name);
    if (st != PQ_OK || found < 0) return st;
    if (found != n)
        return pq_fail(ctx, PQ_E_UNSUPPORTED,
                       "attribute '%s' has %d integers, expected %d: only images of two dimensions "
                       "are supported",
                       name, found, n);
    memcpy(out, v, (size_t)n * sizeof *out);
    return PQ_OK;
}

pq_status pq_onnx_word(pq_ctx *ctx, int *out, const Onnx__NodeProto *p, const char *name,
                       const char *const words[])
{
    const Onnx__AttributeProto *a = pq_onnx_find_attr(p, name);
    if (!a) return PQ_OK;
    pq_status st = want(ctx, a, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING, a->has_s);
    if (st != PQ_OK) return st;
    for (int i = 0; words[i]; i++)
        if (strlen(words[i]) == a->s.len && memcmp(words[i], a->s.data, a->s.len) == 0) {
            *out = i;
            return PQ_OK;
        }
    return pq_fail(ctx, PQ_E_UNSUPPORTED, "%s '%.*s' is not supported", name,
                   a->s.len > 64 ? 64 : (int)a->s.len, (const char *)a->s.data);
}
