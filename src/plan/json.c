/* plan.json. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/plan.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "plan/weights.h"

/* Shortest text that reads back as the same float. */
static cJSON *float_json(float f)
{
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f) break;
    }
    return cJSON_CreateRaw(text);
}

static pq_status write_json(pq_ctx *ctx, const pq_plan *p, const char *path, const char *weights,
                            const char *hex)
{
    pq_status st = PQ_OK;
    cJSON *doc = cJSON_CreateObject(), *list, *o;
    bool ok = cJSON_AddStringToObject(doc, "graph_hash", p->graph_hash) &&
              cJSON_AddStringToObject(doc, "scheme", p->scheme == PQ_SCHEME_U8 ? "u8" : "s8") &&
              cJSON_AddStringToObject(doc, "base", pq_precision_name(p->base)) &&
              (!p->rounds_outputs || cJSON_AddTrueToObject(doc, "rounds_outputs"));
    if (ok && weights)
        ok = (o = cJSON_AddObjectToObject(doc, "weights")) != NULL &&
             cJSON_AddStringToObject(o, "file", weights) &&
             cJSON_AddStringToObject(o, "sha256", hex);
    else if (ok)
        ok = cJSON_AddNullToObject(doc, "weights") != NULL;
    ok = ok && (list = cJSON_AddArrayToObject(doc, "nodes")) != NULL;
    for (size_t i = 0; ok && i < p->n_nodes; i++) {
        o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "name", p->node[i].name) &&
             cJSON_AddStringToObject(o, "type", p->node[i].type) &&
             cJSON_AddBoolToObject(o, "quantizable", p->node[i].quantizable) &&
             cJSON_AddStringToObject(o, "precision", pq_precision_name(p->node[i].precision));
    }
    ok = ok && (list = cJSON_AddArrayToObject(doc, "tensors")) != NULL;
    for (size_t i = 0; ok && i < p->n_tensors; i++) {
        const pq_plan_tensor *t = &p->tensor[i];
        o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "name", t->name) &&
             cJSON_AddStringToObject(o, "dtype", pq_dtype_name(t->dtype)) &&
             cJSON_AddItemToObject(o, "scale", float_json(t->scale)) &&
             cJSON_AddNumberToObject(o, "zero_point", t->zero_point);
    }
    st = ok ? pq_json_save(ctx, doc, path) : pq_json_check(ctx, NULL);
    cJSON_Delete(doc);
    return st;
}

pq_status pq_plan_save(pq_ctx *ctx, const pq_plan *p, const char *path)
{
    char *name = NULL, hex[65] = "";
    pq_status st = PQ_OK;
    if (p->n_weights) st = pq_weights_save(ctx, &name, hex, p->weight, p->n_weights, path);
    if (st == PQ_OK) st = write_json(ctx, p, path, name, hex);
    pq_free(name);
    return st;
}

static pq_status parse_node(pq_ctx *ctx, pq_plan_node *n, const cJSON *o)
{
    const char *name, *type, *precision;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &name, o, "name", "nodes"));
    PQ_TRY(pq_json_string(ctx, &type, o, "type", name));
    PQ_TRY(pq_json_string(ctx, &precision, o, "precision", name));
    PQ_TRY(pq_precision_parse(ctx, &n->precision, precision));
    n->quantizable = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "quantizable"));
    PQ_TRY(pq_strdup(ctx, &n->name, name));
    PQ_TRY(pq_strdup(ctx, &n->type, type));
out:
    return st;
}

static pq_status parse_tensor(pq_ctx *ctx, pq_plan_tensor *t, const cJSON *o, pq_scheme scheme)
{
    const char *name, *dtype;
    double scale;
    int64_t zp;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &name, o, "name", "tensors"));
    PQ_TRY(pq_json_string(ctx, &dtype, o, "dtype", name));
    PQ_TRY(pq_json_number(ctx, &scale, o, "scale", name));
    PQ_TRY(pq_json_int(ctx, &zp, o, "zero_point", name));
    t->dtype = scheme == PQ_SCHEME_U8 ? PQ_U8 : PQ_S8;
    t->scale = (float)scale;
    t->zero_point = (int32_t)zp;
    if (strcmp(dtype, pq_dtype_name(t->dtype)) != 0)
        st = pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': dtype '%s', expected '%s'", name, dtype,
                     pq_dtype_name(t->dtype));
    else if (!isfinite(t->scale) || t->scale <= 0)
        st = pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': scale %g, expected above 0", name, scale);
    else if (scheme == PQ_SCHEME_S8 ? zp != 0 : zp < 0 || zp > 255)
        st = pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': zero point %" PRId64 ", expected %s", name, zp,
                     scheme == PQ_SCHEME_S8 ? "0" : "0 to 255");
    else
        st = pq_strdup(ctx, &t->name, name);
out:
    return st;
}

static pq_status parse(pq_ctx *ctx, pq_plan *p, const cJSON *doc, const char *path)
{
    const char *hash, *scheme, *base;
    const cJSON *list, *o;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &hash, doc, "graph_hash", "plan"));
    PQ_TRY(pq_json_string(ctx, &scheme, doc, "scheme", "plan"));
    if (strlen(hash) != 64 || (strcmp(scheme, "s8") != 0 && strcmp(scheme, "u8") != 0)) {
        st = pq_fail(ctx, PQ_E_FORMAT,
                     "graph_hash '%.70s' and scheme '%.20s', expected 64 digits and s8 or u8", hash,
                     scheme);
        goto out;
    }
    memcpy(p->graph_hash, hash, 65);
    p->scheme = strcmp(scheme, "u8") == 0 ? PQ_SCHEME_U8 : PQ_SCHEME_S8;
    if (cJSON_GetObjectItemCaseSensitive(doc, "base")) {
        PQ_TRY(pq_json_string(ctx, &base, doc, "base", "plan"));
        PQ_TRY(pq_precision_parse(ctx, &p->base, base));
    }
    p->rounds_outputs = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(doc, "rounds_outputs"));
    PQ_TRY(pq_json_array(ctx, &list, doc, "nodes", "plan"));
    PQ_TRY(pq_alloc(ctx, &p->node, (size_t)cJSON_GetArraySize(list), sizeof *p->node));
    cJSON_ArrayForEach(o, list) PQ_TRY(parse_node(ctx, &p->node[p->n_nodes++], o));
    PQ_TRY(pq_json_array(ctx, &list, doc, "tensors", "plan"));
    PQ_TRY(pq_alloc(ctx, &p->tensor, (size_t)cJSON_GetArraySize(list), sizeof *p->tensor));
    cJSON_ArrayForEach(o, list) PQ_TRY(parse_tensor(ctx, &p->tensor[p->n_tensors++], o, p->scheme));
    const cJSON *w = cJSON_GetObjectItemCaseSensitive(doc, "weights");
    if (cJSON_IsObject(w)) PQ_TRY(pq_weights_load(ctx, &p->weight, &p->n_weights, w, path));
out:
    return st;
}

pq_status pq_plan_load(pq_ctx *ctx, pq_plan **out, const char *path)
{
    cJSON *doc = NULL;
    pq_plan *p = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_json_load(ctx, &doc, path));
    PQ_TRY(pq_alloc(ctx, &p, 1, sizeof *p));
    st = pq_prefix(ctx, parse(ctx, p, doc, path), "%s", path);
    if (st != PQ_OK) goto out;
    *out = p;
    p = NULL;
out:
    pq_plan_free(p);
    cJSON_Delete(doc);
    return st;
}
