/* plan.json and the corrected weights beside it (a safetensors file: 8 bytes little-endian length
 * of a JSON header, the header, the tensors' bytes; github.com/huggingface/safetensors). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/plan.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"

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

static pq_status add_tensor(pq_ctx *ctx, cJSON *header, const char *name, const char *suffix,
                            const pq_tensor *t, size_t *offset)
{
    char *key = NULL;
    pq_status st = pq_asprintf(ctx, &key, "%s%s", name, suffix);
    if (st != PQ_OK) return st;
    const size_t bytes = pq_buf_bytes(t->buf);
    cJSON *o = cJSON_AddObjectToObject(header, key), *shape, *span;
    pq_free(key);
    if (!cJSON_AddStringToObject(o, "dtype", "F32") ||
        !(shape = cJSON_AddArrayToObject(o, "shape")) ||
        !(span = cJSON_AddArrayToObject(o, "data_offsets")))
        return pq_json_check(ctx, NULL);
    for (int i = 0; i < t->shape.rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape.dim[i]));
    cJSON_AddItemToArray(span, cJSON_CreateNumber((double)*offset));
    cJSON_AddItemToArray(span, cJSON_CreateNumber((double)(*offset + bytes)));
    *offset += bytes;
    return PQ_OK;
}

static void put(pq_out *f, pq_sha256 *hash, const void *data, size_t n)
{
    pq_sha256_add(hash, data, n);
    fwrite(data, 1, n, f->f);
}

static pq_status save_weights(pq_ctx *ctx, const pq_plan *p, const char *path, char hex[65])
{
    pq_status st;
    pq_out f = {0};
    pq_sha256 hash;
    char *text = NULL;
    size_t offset = 0;
    cJSON *header = cJSON_CreateObject();
    PQ_TRY(pq_json_check(ctx, header));
    for (size_t i = 0; i < p->n_weights; i++) {
        PQ_TRY(add_tensor(ctx, header, p->weight[i].name, "", &p->weight[i].data, &offset));
        if (p->weight[i].scale.buf)
            PQ_TRY(
                add_tensor(ctx, header, p->weight[i].name, "@scale", &p->weight[i].scale, &offset));
    }
    text = cJSON_PrintUnformatted(header);
    if (!text) {
        st = pq_fail(ctx, PQ_E_NOMEM, "%s: no memory for its header", path);
        goto out;
    }
    PQ_TRY(pq_out_open(ctx, &f, path));
    pq_sha256_init(&hash);
    const uint64_t n = strlen(text);
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)(n >> 8 * i);
    put(&f, &hash, length, 8);
    put(&f, &hash, text, (size_t)n);
    for (size_t i = 0; i < p->n_weights; i++) {
        const pq_plan_weight *w = &p->weight[i];
        put(&f, &hash, pq_tensor_data(&w->data), pq_buf_bytes(w->data.buf));
        if (w->scale.buf) put(&f, &hash, pq_tensor_data(&w->scale), pq_buf_bytes(w->scale.buf));
    }
    pq_sha256_hex(&hash, hex);
    st = pq_out_commit(ctx, &f);
out:
    pq_out_abort(&f);
    cJSON_free(text);
    cJSON_Delete(header);
    return st;
}

static char *beside(pq_ctx *ctx, pq_status *st, const char *path, const char *name)
{
    char *dir = NULL, *out = NULL;
    *st = pq_strdup(ctx, &dir, path);
    if (*st != PQ_OK) return NULL;
    dir[pq_path_base(path) - path] = 0;
    *st = pq_path_join(ctx, &out, dir, name);
    pq_free(dir);
    return out;
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
    char *stem = NULL, *name = NULL, *file = NULL, hex[65] = "";
    pq_status st;
    if (p->n_weights) {
        PQ_TRY(pq_path_stem(ctx, &stem, path));
        PQ_TRY(pq_asprintf(ctx, &name, "%s.weights.safetensors", stem));
        file = beside(ctx, &st, path, name);
        if (st != PQ_OK) goto out;
        PQ_TRY(save_weights(ctx, p, file, hex));
    }
    st = write_json(ctx, p, path, name, hex);
out:
    pq_free(stem);
    pq_free(name);
    pq_free(file);
    return st;
}

static pq_status load_tensor(pq_ctx *ctx, pq_tensor *out, const cJSON *o, const uint8_t *data,
                             size_t n_data)
{
    const cJSON *shape, *span, *v;
    const char *dtype;
    pq_shape s = {0};
    pq_status st = pq_json_string(ctx, &dtype, o, "dtype", o->string);
    if (st == PQ_OK) st = pq_json_array(ctx, &shape, o, "shape", o->string);
    if (st == PQ_OK) st = pq_json_array(ctx, &span, o, "data_offsets", o->string);
    if (st != PQ_OK) return st;
    if (strcmp(dtype, "F32") != 0)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': dtype '%s', expected 'F32'", o->string,
                       dtype);
    cJSON_ArrayForEach(v, shape)
    {
        if (s.rank == PQ_MAX_RANK || !cJSON_IsNumber(v) || v->valuedouble < 0 ||
            v->valuedouble > 1e9)
            return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': bad shape", o->string);
        s.dim[s.rank++] = (int64_t)v->valuedouble;
    }
    const cJSON *b = cJSON_GetArrayItem(span, 0), *e = cJSON_GetArrayItem(span, 1);
    const int64_t n = pq_shape_count(&s);
    const double begin = cJSON_IsNumber(b) ? b->valuedouble : -1;
    const double end = cJSON_IsNumber(e) ? e->valuedouble : -1;
    if (n < 0 || begin < 0 || begin > (double)n_data || (uint64_t)n > (n_data - (size_t)begin) / 4)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': lies outside the file's %zu bytes",
                       o->string, n_data);
    if (end != begin + 4 * (double)n)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': ends at byte %.0f, expected %.0f", o->string,
                       end, begin + 4 * (double)n);
    st = pq_tensor_new(ctx, out, PQ_F32, &s);
    if (st == PQ_OK) memcpy(pq_tensor_data(out), data + (size_t)begin, (size_t)n * 4);
    return st;
}

/* "name@scale" belongs to the weight "name", which stands before it. */
static pq_status load_scale(pq_ctx *ctx, pq_plan *p, const cJSON *o, size_t n_name,
                            const uint8_t *data, size_t n_data)
{
    pq_tensor *to = NULL;
    for (size_t i = 0; i < p->n_weights; i++)
        if (strlen(p->weight[i].name) == n_name &&
            memcmp(p->weight[i].name, o->string, n_name) == 0)
            to = &p->weight[i].scale;
    if (!to || to->buf)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': %s, expected one scale behind its weight",
                       o->string, to ? "a second scale" : "no such weight");
    pq_status st = load_tensor(ctx, to, o, data, n_data);
    const float *s = st == PQ_OK ? pq_tensor_data(to) : NULL;
    for (int64_t i = 0; st == PQ_OK && i < pq_shape_count(&to->shape); i++)
        if (!isfinite(s[i]) || s[i] <= 0)
            return pq_fail(ctx, PQ_E_FORMAT,
                           "tensor '%s': element %" PRId64 " is %g, expected "
                           "above 0",
                           o->string, i, (double)s[i]);
    return st;
}

static pq_status parse_weights(pq_ctx *ctx, pq_plan *p, const uint8_t *d, size_t n,
                               const char *path)
{
    static const char suffix[] = "@scale";
    const size_t n_suffix = sizeof suffix - 1;
    pq_status st = PQ_OK;
    uint64_t length = 0;
    for (int i = 0; i < 8 && n >= 8; i++) length |= (uint64_t)d[i] << 8 * i;
    if (n < 8 || length > n - 8)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: truncated, header of %" PRIu64 " bytes in %zu", path,
                       length, n);
    const uint8_t *data = d + 8 + length;
    const size_t n_data = n - 8 - (size_t)length;
    cJSON *header = NULL;
    PQ_TRY(pq_json_parse(ctx, &header, (const char *)d + 8, (size_t)length, path));
    if (!cJSON_IsObject(header)) {
        st = pq_fail(ctx, PQ_E_FORMAT, "header is no JSON object");
        goto out;
    }
    PQ_TRY(pq_alloc(ctx, &p->weight, (size_t)cJSON_GetArraySize(header), sizeof *p->weight));
    for (const cJSON *o = header->child; o; o = o->next) {
        const size_t n_name = strlen(o->string);
        if (strcmp(o->string, "__metadata__") == 0) continue;
        if (n_name > n_suffix && strcmp(o->string + n_name - n_suffix, suffix) == 0) {
            PQ_TRY(load_scale(ctx, p, o, n_name - n_suffix, data, n_data));
            continue;
        }
        pq_plan_weight *w = &p->weight[p->n_weights++];
        PQ_TRY(pq_strdup(ctx, &w->name, o->string));
        PQ_TRY(load_tensor(ctx, &w->data, o, data, n_data));
    }
out:
    cJSON_Delete(header);
    return pq_prefix(ctx, st, "%s", path);
}

static pq_status load_weights(pq_ctx *ctx, pq_plan *p, const cJSON *o, const char *path)
{
    const char *name, *want;
    char *file = NULL, hex[65];
    pq_buf *bytes = NULL;
    pq_sha256 hash;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &name, o, "file", "weights"));
    PQ_TRY(pq_json_string(ctx, &want, o, "sha256", "weights"));
    if (strchr(name, '/')) {
        st = pq_fail(ctx, PQ_E_FORMAT, "weights file '%s', expected a name in the plan's folder",
                     name);
        goto out;
    }
    file = beside(ctx, &st, path, name);
    if (st != PQ_OK) goto out;
    PQ_TRY(pq_file_map(ctx, &bytes, file));
    pq_sha256_init(&hash);
    pq_sha256_add(&hash, pq_buf_data(bytes), pq_buf_bytes(bytes));
    pq_sha256_hex(&hash, hex);
    if (strcmp(hex, want) != 0) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: SHA-256 %.12s, expected %.12s as in the plan", file,
                     hex, want);
        goto out;
    }
    st = parse_weights(ctx, p, pq_buf_data(bytes), pq_buf_bytes(bytes), file);
out:
    pq_free(file);
    pq_buf_unref(bytes);
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
    if (cJSON_IsObject(w)) PQ_TRY(load_weights(ctx, p, w, path));
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
