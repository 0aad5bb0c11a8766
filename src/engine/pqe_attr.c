/* Attributes and exact numbers as JSON. */
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pqe_internal.h"

enum { EXACT = 53 }; /* bits of an integer that a JSON number carries */

cJSON *pqe_int(int64_t v)
{
    char text[32];
    if (v >= -(INT64_C(1) << EXACT) && v <= INT64_C(1) << EXACT)
        return cJSON_CreateNumber((double)v);
    snprintf(text, sizeof text, "%" PRId64, v);
    return cJSON_CreateString(text);
}

cJSON *pqe_float(float v)
{
    if (isnan(v)) return cJSON_CreateString("nan");
    if (isinf(v)) return cJSON_CreateString(v > 0 ? "inf" : "-inf");
    if (v == 0 && signbit(v)) return cJSON_CreateString("-0");
    return cJSON_CreateNumber((double)v);
}

pq_status pqe_get_int(pq_ctx *ctx, int64_t *out, const cJSON *v, const char *what, int64_t low,
                      int64_t high)
{
    char *end;
    *out = 0;
    if (cJSON_IsNumber(v) && v->valuedouble == rint(v->valuedouble) &&
        fabs(v->valuedouble) <= (double)(INT64_C(1) << EXACT))
        *out = (int64_t)v->valuedouble;
    else if (cJSON_IsString(v) && v->valuestring[0]) {
        errno = 0;
        *out = strtoll(v->valuestring, &end, 10);
        if (*end || errno)
            return pq_fail(ctx, PQ_E_FORMAT, "%s: '%.40s', expected an integer", what,
                           v->valuestring);
    } else
        return pq_fail(ctx, PQ_E_FORMAT, "%s: no integer", what);
    if (*out >= low && *out <= high) return PQ_OK;
    return pq_fail(ctx, PQ_E_FORMAT, "%s: %" PRId64 ", expected %" PRId64 " to %" PRId64, what,
                   *out, low, high);
}

pq_status pqe_get_float(pq_ctx *ctx, float *out, const cJSON *v, const char *what)
{
    *out = 0;
    if (cJSON_IsNumber(v) && fabs(v->valuedouble) <= (double)FLT_MAX) {
        *out = (float)v->valuedouble;
        return PQ_OK;
    }
    if (cJSON_IsString(v)) {
        static const struct {
            const char *name;
            float value;
        } special[] = {{"nan", NAN}, {"inf", INFINITY}, {"-inf", -INFINITY}, {"-0", -0.0f}};
        for (size_t i = 0; i < sizeof special / sizeof *special; i++)
            if (strcmp(v->valuestring, special[i].name) == 0) {
                *out = special[i].value;
                return PQ_OK;
            }
    }
    return pq_fail(ctx, PQ_E_FORMAT, "%s: no float", what);
}

/* ---- attributes ---- */

enum kind { K_INT64, K_INT, K_BOOL, K_FLOAT };

/* limit: of an int, which is an enumeration or a count below it. Every member of pq_attr. */
static const struct field {
    const char *name;
    enum kind kind;
    size_t at;
    int n, limit;
} fields[] = {
    {"kernel", K_INT64, offsetof(pq_attr, window.kernel), 2, 0},
    {"stride", K_INT64, offsetof(pq_attr, window.stride), 2, 0},
    {"dilation", K_INT64, offsetof(pq_attr, window.dilation), 2, 0},
    {"pad", K_INT64, offsetof(pq_attr, window.pad), 4, 0},
    {"out_pad", K_INT64, offsetof(pq_attr, window.out_pad), 2, 0},
    {"groups", K_INT64, offsetof(pq_attr, window.groups), 1, 0},
    {"ceil_mode", K_BOOL, offsetof(pq_attr, window.ceil_mode), 1, 0},
    {"count_include_pad", K_BOOL, offsetof(pq_attr, window.count_include_pad), 1, 0},
    {"act", K_INT, offsetof(pq_attr, act), 1, PQ_ACT_TANH + 1},
    {"alpha", K_FLOAT, offsetof(pq_attr, alpha), 1, 0},
    {"beta", K_FLOAT, offsetof(pq_attr, beta), 1, 0},
    {"trans_a", K_BOOL, offsetof(pq_attr, trans_a), 1, 0},
    {"trans_b", K_BOOL, offsetof(pq_attr, trans_b), 1, 0},
    {"eps", K_FLOAT, offsetof(pq_attr, eps), 1, 0},
    {"axis", K_INT64, offsetof(pq_attr, axis), 1, 0},
    {"keepdims", K_BOOL, offsetof(pq_attr, keepdims), 1, 0},
    {"n_axes", K_INT, offsetof(pq_attr, n_axes), 1, PQ_MAX_RANK + 1},
    {"axes", K_INT64, offsetof(pq_attr, axes), PQ_MAX_RANK, 0},
    {"perm", K_INT64, offsetof(pq_attr, perm), PQ_MAX_RANK, 0},
    {"begin", K_INT64, offsetof(pq_attr, begin), PQ_MAX_RANK, 0},
    {"step", K_INT64, offsetof(pq_attr, step), PQ_MAX_RANK, 0},
    {"pad_value", K_FLOAT, offsetof(pq_attr, pad_value), 1, 0},
    {"largest", K_BOOL, offsetof(pq_attr, largest), 1, 0},
    {"last", K_BOOL, offsetof(pq_attr, last), 1, 0},
    {"fmod", K_BOOL, offsetof(pq_attr, fmod), 1, 0},
    {"center", K_BOOL, offsetof(pq_attr, center), 1, 0},
    {"batch_dims", K_INT64, offsetof(pq_attr, batch_dims), 1, 0},
    {"to", K_INT, offsetof(pq_attr, to), 1, PQ_DTYPE_COUNT},
    {"resize", K_INT, offsetof(pq_attr, resize), 1, PQ_RESIZE_LINEAR + 1},
    {"coord", K_INT, offsetof(pq_attr, coord), 1, PQ_COORD_ALIGN_CORNERS + 1},
    {"nearest", K_INT, offsetof(pq_attr, nearest), 1, PQ_NEAREST_CEIL + 1},
    {"scale", K_FLOAT, offsetof(pq_attr, scale), 2, 0},
    {"levels", K_INT, offsetof(pq_attr, levels), 1, 9},
    {"reg_max", K_INT, offsetof(pq_attr, reg_max), 1, 1 << 16},
    {"strides", K_INT64, offsetof(pq_attr, strides), 8, 0},
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static size_t element_size(enum kind k)
{
    switch (k) {
    case K_INT64: return sizeof(int64_t);
    case K_INT: return sizeof(int);
    case K_BOOL: return sizeof(bool);
    default: return sizeof(float);
    }
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i]) return false;
    return true;
}

static cJSON *element_json(enum kind k, const uint8_t *p)
{
    int64_t i64;
    int i;
    bool b;
    float f;
    switch (k) {
    case K_INT64: memcpy(&i64, p, sizeof i64); return pqe_int(i64);
    case K_INT: memcpy(&i, p, sizeof i); return pqe_int(i);
    case K_BOOL: memcpy(&b, p, sizeof b); return cJSON_CreateBool(b);
    default: memcpy(&f, p, sizeof f); return pqe_float(f);
    }
}

cJSON *pqe_attr_json(const pq_attr *a)
{
    cJSON *o = cJSON_CreateObject();
    for (int i = 0; o && i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        const uint8_t *p = (const uint8_t *)a + f->at;
        const size_t size = element_size(f->kind);
        if (all_zero(p, size * (size_t)f->n)) continue;
        cJSON *v = f->n == 1 ? element_json(f->kind, p) : cJSON_CreateArray();
        bool ok = v != NULL;
        for (int k = 0; ok && f->n > 1 && k < f->n; k++)
            ok = cJSON_AddItemToArray(v, element_json(f->kind, p + size * (size_t)k));
        if (ok && cJSON_AddItemToObject(o, f->name, v)) continue;
        cJSON_Delete(v);
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

static pq_status parse_element(pq_ctx *ctx, const struct field *f, uint8_t *p, const cJSON *v,
                               const char *what)
{
    int64_t i64;
    float x;
    pq_status st = PQ_OK;
    switch (f->kind) {
    case K_INT64:
        st = pqe_get_int(ctx, &i64, v, what, INT64_MIN, INT64_MAX);
        memcpy(p, &i64, sizeof i64);
        break;
    case K_INT: {
        st = pqe_get_int(ctx, &i64, v, what, 0, f->limit - 1);
        const int i = (int)i64;
        memcpy(p, &i, sizeof i);
        break;
    }
    case K_BOOL: {
        if (!cJSON_IsBool(v)) return pq_fail(ctx, PQ_E_FORMAT, "%s: no boolean", what);
        const bool b = cJSON_IsTrue(v);
        memcpy(p, &b, sizeof b);
        break;
    }
    case K_FLOAT:
        st = pqe_get_float(ctx, &x, v, what);
        memcpy(p, &x, sizeof x);
        break;
    }
    return st;
}

static pq_status parse_field(pq_ctx *ctx, const struct field *f, pq_attr *out, const cJSON *v,
                             const char *node)
{
    char what[200];
    uint8_t *p = (uint8_t *)out + f->at;
    const cJSON *e;
    snprintf(what, sizeof what, "node '%.120s': %s", node, f->name);
    if (f->n == 1) return parse_element(ctx, f, p, v, what);
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != f->n)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: not %d numbers", what, f->n);
    cJSON_ArrayForEach(e, v)
    {
        pq_status st = parse_element(ctx, f, p, e, what);
        if (st != PQ_OK) return st;
        p += element_size(f->kind);
    }
    return PQ_OK;
}

pq_status pqe_attr_parse(pq_ctx *ctx, pq_attr *out, const cJSON *o, const char *node)
{
    const cJSON *v;
    memset(out, 0, sizeof *out);
    cJSON_ArrayForEach(v, o)
    {
        int i = 0;
        while (i < N_FIELDS && strcmp(fields[i].name, v->string) != 0) i++;
        if (i == N_FIELDS)
            return pq_fail(ctx, PQ_E_FORMAT, "node '%.120s': no attribute '%.40s'", node,
                           v->string);
        pq_status st = parse_field(ctx, &fields[i], out, v, node);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}
