/* cJSON with checked access. */
#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

pq_status pq_json_parse(pq_ctx *ctx, cJSON **out, const char *text, size_t n, const char *what)
{
    const char *end = NULL;
    *out = cJSON_ParseWithLengthOpts(text, n, &end, 0);
    if (*out) return PQ_OK;
    size_t at = end && end >= text ? (size_t)(end - text) : 0;
    return pq_fail(ctx, PQ_E_FORMAT, "%s: not JSON at byte %zu of %zu", what, at, n);
}

pq_status pq_json_load(pq_ctx *ctx, cJSON **out, const char *path)
{
    pq_buf *b;
    *out = NULL;
    pq_status st = pq_file_map(ctx, &b, path);
    if (st != PQ_OK) return st;
    st = pq_json_parse(ctx, out, pq_buf_data(b), pq_buf_bytes(b), path);
    pq_buf_unref(b);
    return st;
}

pq_status pq_json_save(pq_ctx *ctx, const cJSON *doc, const char *path)
{
    char *text = cJSON_Print(doc);
    if (!text) return pq_fail(ctx, PQ_E_NOMEM, "%s: no memory for the JSON text", path);
    pq_out f;
    pq_status st = pq_out_open(ctx, &f, path);
    if (st == PQ_OK) {
        fputs(text, f.f);
        fputc('\n', f.f);
        st = pq_out_commit(ctx, &f);
    }
    cJSON_free(text);
    return st;
}

static const char *kind(const cJSON *v)
{
    if (!v) return "nothing";
    if (cJSON_IsString(v)) return "a string";
    if (cJSON_IsNumber(v)) return "a number";
    if (cJSON_IsArray(v)) return "an array";
    if (cJSON_IsObject(v)) return "an object";
    return cJSON_IsNull(v) ? "null" : "a boolean";
}

static pq_status wrong(pq_ctx *ctx, const cJSON *v, const char *key, const char *what,
                       const char *expected)
{
    return pq_fail(ctx, PQ_E_FORMAT, "%s: member '%s' is %s, expected %s", what, key, kind(v),
                   expected);
}

pq_status pq_json_number(pq_ctx *ctx, double *out, const cJSON *obj, const char *key,
                         const char *what)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    *out = 0;
    if (!cJSON_IsNumber(v)) return wrong(ctx, v, key, what, "a number");
    *out = v->valuedouble;
    return PQ_OK;
}

pq_status pq_json_int(pq_ctx *ctx, int64_t *out, const cJSON *obj, const char *key,
                      const char *what)
{
    double d;
    *out = 0;
    pq_status st = pq_json_number(ctx, &d, obj, key, what);
    if (st != PQ_OK) return st;
    if (d != floor(d) || fabs(d) > 9007199254740992.0)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: member '%s' is %g, expected an integer", what, key,
                       d);
    *out = (int64_t)d;
    return PQ_OK;
}

pq_status pq_json_string(pq_ctx *ctx, const char **out, const cJSON *obj, const char *key,
                         const char *what)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    *out = NULL;
    if (!cJSON_IsString(v)) return wrong(ctx, v, key, what, "a string");
    *out = v->valuestring;
    return PQ_OK;
}

pq_status pq_json_array(pq_ctx *ctx, const cJSON **out, const cJSON *obj, const char *key,
                        const char *what)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    *out = NULL;
    if (!cJSON_IsArray(v)) return wrong(ctx, v, key, what, "an array");
    *out = v;
    return PQ_OK;
}

pq_status pq_json_check(pq_ctx *ctx, const cJSON *made)
{
    return made ? PQ_OK : pq_fail(ctx, PQ_E_NOMEM, "no memory for a JSON value");
}
