/* corrections.json and the weights beside it. In the weights file "equal/NAME" is an equalised
 * constant, "fix/NAME" a reconstructed one, "encoding/NAME" the gain, shift, back and level of a
 * value's channels, [4, C]. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <pquant/correct.h>

#include "base/mem.h"
#include "plan/weights.h"

/* ---- writing ---- */

static pq_status name_it(pq_ctx *ctx, pq_plan_weight *to, const char *kind, const char *name)
{
    return pq_asprintf(ctx, &to->name, "%s/%s", kind, name);
}

static pq_status share(pq_ctx *ctx, pq_plan_weight *to, const char *kind, const pq_plan_weight *w)
{
    to->data = w->data;
    to->scale = w->scale;
    pq_buf_ref(to->data.buf);
    pq_buf_ref(to->scale.buf);
    return name_it(ctx, to, kind, w->name);
}

static pq_status pack(pq_ctx *ctx, pq_plan_weight *to, const pq_encoding *e)
{
    const pq_shape shape = PQ_SHAPE(4, (int64_t)e->n);
    pq_status st = pq_tensor_new(ctx, &to->data, PQ_F32, &shape);
    if (st != PQ_OK) return st;
    float *x = pq_tensor_data(&to->data);
    memcpy(x, e->gain, e->n * sizeof *x);
    memcpy(x + e->n, e->shift, e->n * sizeof *x);
    memcpy(x + 2 * e->n, e->back, e->n * sizeof *x);
    memcpy(x + 3 * e->n, e->level, e->n * sizeof *x);
    return name_it(ctx, to, "encoding", e->value);
}

static pq_status collect(pq_ctx *ctx, pq_plan_weight **out, size_t *n, const pq_corrections *c)
{
    pq_status st;
    *n = 0;
    PQ_TRY(pq_alloc(ctx, out, c->n_equal + c->n_encodings + 2 * c->n_fixes, sizeof **out));
    for (size_t i = 0; i < c->n_equal; i++)
        PQ_TRY(share(ctx, &(*out)[(*n)++], "equal", &c->equal[i]));
    for (size_t i = 0; i < c->n_encodings; i++) PQ_TRY(pack(ctx, &(*out)[(*n)++], &c->encoding[i]));
    for (size_t i = 0; i < c->n_fixes; i++) {
        const pq_fix *f = &c->fix[i];
        if (f->weight.data.buf) PQ_TRY(share(ctx, &(*out)[(*n)++], "fix", &f->weight));
        if (f->bias.data.buf) PQ_TRY(share(ctx, &(*out)[(*n)++], "fix", &f->bias));
    }
out:
    return st;
}

static const char *const stage_name[PQ_STAGES] = {"plain", "equalized", "reencoded", "all"};

static bool add_checked(cJSON *doc, const pq_checked *k)
{
    cJSON *o = cJSON_AddObjectToObject(doc, "checked"), *list;
    bool ok = cJSON_AddNumberToObject(o, "images", (double)k->n_images) != NULL;
    for (int i = 0; ok && i < PQ_STAGES; i++)
        ok = k->error[i] < 0 || cJSON_AddNumberToObject(o, stage_name[i], k->error[i]);
    ok = ok && (list = cJSON_AddArrayToObject(o, "dropped")) != NULL;
    for (int i = 0; ok && i < PQ_STAGES; i++)
        ok = !k->dropped[i] || cJSON_AddItemToArray(list, cJSON_CreateString(stage_name[i]));
    return ok;
}

static bool add_lists(cJSON *doc, const pq_corrections *c)
{
    cJSON *list = cJSON_AddArrayToObject(doc, "equalized"), *o;
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < c->n_flat; i++) {
        const pq_equalized *f = &c->flat[i];
        o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "value", f->value) &&
             cJSON_AddNumberToObject(o, "bits_before", f->bits_before) &&
             cJSON_AddNumberToObject(o, "bits", f->bits);
    }
    ok = ok && (list = cJSON_AddArrayToObject(doc, "encodings")) != NULL;
    for (size_t i = 0; ok && i < c->n_encodings; i++) {
        const pq_encoding *e = &c->encoding[i];
        o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "value", e->value) &&
             cJSON_AddNumberToObject(o, "error_before", e->error_before) &&
             cJSON_AddNumberToObject(o, "error", e->error) &&
             cJSON_AddNumberToObject(o, "seconds", e->seconds);
    }
    ok = ok && (list = cJSON_AddArrayToObject(doc, "operators")) != NULL;
    for (size_t i = 0; ok && i < c->n_fixes; i++) {
        const pq_fix *f = &c->fix[i];
        o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "node", f->node) &&
             (!f->weight.name || cJSON_AddStringToObject(o, "weight", f->weight.name)) &&
             (!f->bias.name || cJSON_AddStringToObject(o, "bias", f->bias.name)) &&
             cJSON_AddNumberToObject(o, "error_before", f->error_before) &&
             cJSON_AddNumberToObject(o, "error_bias", f->error_bias) &&
             cJSON_AddNumberToObject(o, "error", f->error) &&
             cJSON_AddNumberToObject(o, "seconds", f->seconds);
    }
    return ok;
}

pq_status pq_corrections_save(pq_ctx *ctx, const pq_corrections *c, const char *path)
{
    cJSON *doc = cJSON_CreateObject(), *o;
    pq_plan_weight *w = NULL;
    char *name = NULL, hex[65];
    size_t n = 0;
    pq_status st;
    PQ_TRY(collect(ctx, &w, &n, c));
    PQ_TRY(pq_weights_save(ctx, &name, hex, w, n, path));
    bool ok = cJSON_AddStringToObject(doc, "graph_hash", c->graph_hash) &&
              cJSON_AddStringToObject(doc, "scheme", c->scheme == PQ_SCHEME_U8 ? "u8" : "s8") &&
              (o = cJSON_AddArrayToObject(doc, "seconds")) != NULL;
    for (int i = 0; ok && i < 3; i++)
        ok = cJSON_AddItemToArray(o, cJSON_CreateNumber(c->seconds[i]));
    ok = ok && (o = cJSON_AddObjectToObject(doc, "weights")) != NULL &&
         cJSON_AddStringToObject(o, "file", name) && cJSON_AddStringToObject(o, "sha256", hex) &&
         add_checked(doc, &c->checked) && add_lists(doc, c);
    st = ok ? pq_json_save(ctx, doc, path) : pq_json_check(ctx, NULL);
out:
    cJSON_Delete(doc);
    pq_free(name);
    pq_weights_free(w, n);
    return st;
}

/* ---- reading ---- */

typedef struct source {
    pq_ctx *ctx;
    pq_plan_weight *w;
    size_t n;
} source;

/* Takes "kind/name" out of what was read. */
static pq_status take(const source *s, pq_plan_weight *to, const char *kind, const char *name)
{
    const size_t n_kind = strlen(kind);
    for (size_t i = 0; i < s->n; i++) {
        pq_plan_weight *w = &s->w[i];
        if (!w->data.buf || strncmp(w->name, kind, n_kind) != 0 || w->name[n_kind] != '/' ||
            strcmp(w->name + n_kind + 1, name) != 0)
            continue;
        to->data = w->data;
        to->scale = w->scale;
        w->data = w->scale = (pq_tensor){0};
        return pq_strdup(s->ctx, &to->name, name);
    }
    return pq_fail(s->ctx, PQ_E_FORMAT, "no tensor '%s/%s' in the weights file", kind, name);
}

static pq_status load_equal(const source *s, pq_corrections *c)
{
    pq_status st = pq_alloc(s->ctx, &c->equal, s->n, sizeof *c->equal);
    for (size_t i = 0; st == PQ_OK && i < s->n; i++)
        if (strncmp(s->w[i].name, "equal/", 6) == 0)
            st = take(s, &c->equal[c->n_equal++], "equal", s->w[i].name + 6);
    return st;
}

static pq_status unpack(pq_ctx *ctx, pq_encoding *e, const pq_plan_weight *w)
{
    const pq_shape *s = &w->data.shape;
    float **const to[4] = {&e->gain, &e->shift, &e->back, &e->level};
    if (s->rank != 2 || s->dim[0] != 4)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor 'encoding/%s': expected [4, channels]", w->name);
    const float *x = pq_tensor_data(&w->data);
    e->n = (size_t)s->dim[1];
    for (size_t i = 0; i < 4 * e->n; i++)
        if (!isfinite(x[i]) || (i < e->n && x[i] == 0))
            return pq_fail(ctx, PQ_E_FORMAT, "tensor 'encoding/%s': element %zu is %g", w->name, i,
                           (double)x[i]);
    for (size_t k = 0; k < 4; k++) {
        pq_status st = pq_alloc(ctx, to[k], e->n, sizeof **to[k]);
        if (st != PQ_OK) return st;
        memcpy(*to[k], x + k * e->n, e->n * sizeof **to[k]);
    }
    return PQ_OK;
}

static pq_status load_encoding(const source *s, pq_encoding *e, const cJSON *o)
{
    pq_plan_weight w = {0};
    const char *value;
    pq_status st;
    PQ_TRY(pq_json_string(s->ctx, &value, o, "value", "encodings"));
    PQ_TRY(pq_json_number(s->ctx, &e->error_before, o, "error_before", value));
    PQ_TRY(pq_json_number(s->ctx, &e->error, o, "error", value));
    PQ_TRY(pq_json_number(s->ctx, &e->seconds, o, "seconds", value));
    PQ_TRY(take(s, &w, "encoding", value));
    PQ_TRY(pq_strdup(s->ctx, &e->value, value));
    st = unpack(s->ctx, e, &w);
out:
    pq_free(w.name);
    pq_tensor_clear(&w.data);
    pq_tensor_clear(&w.scale);
    return st;
}

static pq_status load_flat(pq_ctx *ctx, pq_equalized *f, const cJSON *o)
{
    const char *value;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &value, o, "value", "equalized"));
    PQ_TRY(pq_json_number(ctx, &f->bits_before, o, "bits_before", value));
    PQ_TRY(pq_json_number(ctx, &f->bits, o, "bits", value));
    st = pq_strdup(ctx, &f->value, value);
out:
    return st;
}

static pq_status load_fix(const source *s, pq_fix *f, const cJSON *o)
{
    const char *node, *name;
    pq_status st;
    PQ_TRY(pq_json_string(s->ctx, &node, o, "node", "operators"));
    PQ_TRY(pq_json_number(s->ctx, &f->error_before, o, "error_before", node));
    PQ_TRY(pq_json_number(s->ctx, &f->error_bias, o, "error_bias", node));
    PQ_TRY(pq_json_number(s->ctx, &f->error, o, "error", node));
    PQ_TRY(pq_json_number(s->ctx, &f->seconds, o, "seconds", node));
    PQ_TRY(pq_strdup(s->ctx, &f->node, node));
    if (cJSON_GetObjectItemCaseSensitive(o, "weight")) {
        PQ_TRY(pq_json_string(s->ctx, &name, o, "weight", node));
        PQ_TRY(take(s, &f->weight, "fix", name));
    }
    if (cJSON_GetObjectItemCaseSensitive(o, "bias")) {
        PQ_TRY(pq_json_string(s->ctx, &name, o, "bias", node));
        PQ_TRY(take(s, &f->bias, "fix", name));
    }
out:
    return st;
}

static pq_status load_head(pq_ctx *ctx, pq_corrections *c, const cJSON *doc)
{
    const char *hash, *scheme;
    const cJSON *list, *x;
    int i = 0;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &hash, doc, "graph_hash", "corrections"));
    PQ_TRY(pq_json_string(ctx, &scheme, doc, "scheme", "corrections"));
    PQ_TRY(pq_json_array(ctx, &list, doc, "seconds", "corrections"));
    if (strlen(hash) != 64 || (strcmp(scheme, "s8") != 0 && strcmp(scheme, "u8") != 0))
        return pq_fail(ctx, PQ_E_FORMAT,
                       "graph_hash '%.70s' and scheme '%.20s', expected 64 digits and s8 or u8",
                       hash, scheme);
    memcpy(c->graph_hash, hash, 65);
    c->scheme = strcmp(scheme, "u8") == 0 ? PQ_SCHEME_U8 : PQ_SCHEME_S8;
    cJSON_ArrayForEach(x, list) if (i < 3 && cJSON_IsNumber(x)) c->seconds[i++] = x->valuedouble;
out:
    return st;
}

static pq_status load_checked(pq_ctx *ctx, pq_checked *k, const cJSON *doc)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(doc, "checked"), *list, *x;
    double images;
    pq_status st;
    PQ_TRY(pq_json_number(ctx, &images, o, "images", "checked"));
    if (!(images >= 0 && images < 1e9))
        return pq_fail(ctx, PQ_E_FORMAT, "checked: %g images", images);
    k->n_images = (size_t)images;
    for (int i = 0; i < PQ_STAGES; i++) {
        k->error[i] = -1;
        if (cJSON_GetObjectItemCaseSensitive(o, stage_name[i]))
            PQ_TRY(pq_json_number(ctx, &k->error[i], o, stage_name[i], "checked"));
    }
    PQ_TRY(pq_json_array(ctx, &list, o, "dropped", "checked"));
    cJSON_ArrayForEach(x, list) for (int i = 0; i < PQ_STAGES;
                                     i++) if (cJSON_IsString(x) &&
                                              strcmp(x->valuestring, stage_name[i]) == 0)
        k->dropped[i] = true;
out:
    return st;
}

static pq_status load(pq_ctx *ctx, pq_corrections *c, const cJSON *doc, const char *path)
{
    source s = {.ctx = ctx};
    const cJSON *list, *o;
    pq_status st;
    PQ_TRY(load_head(ctx, c, doc));
    PQ_TRY(load_checked(ctx, &c->checked, doc));
    PQ_TRY(
        pq_weights_load(ctx, &s.w, &s.n, cJSON_GetObjectItemCaseSensitive(doc, "weights"), path));
    PQ_TRY(load_equal(&s, c));
    PQ_TRY(pq_json_array(ctx, &list, doc, "equalized", "corrections"));
    PQ_TRY(pq_alloc(ctx, &c->flat, (size_t)cJSON_GetArraySize(list), sizeof *c->flat));
    cJSON_ArrayForEach(o, list) PQ_TRY(load_flat(ctx, &c->flat[c->n_flat++], o));
    PQ_TRY(pq_json_array(ctx, &list, doc, "encodings", "corrections"));
    PQ_TRY(pq_alloc(ctx, &c->encoding, (size_t)cJSON_GetArraySize(list), sizeof *c->encoding));
    cJSON_ArrayForEach(o, list) PQ_TRY(load_encoding(&s, &c->encoding[c->n_encodings++], o));
    PQ_TRY(pq_json_array(ctx, &list, doc, "operators", "corrections"));
    PQ_TRY(pq_alloc(ctx, &c->fix, (size_t)cJSON_GetArraySize(list), sizeof *c->fix));
    cJSON_ArrayForEach(o, list) PQ_TRY(load_fix(&s, &c->fix[c->n_fixes++], o));
out:
    pq_weights_free(s.w, s.n);
    return st;
}

pq_status pq_corrections_load(pq_ctx *ctx, pq_corrections **out, const char *path)
{
    cJSON *doc = NULL;
    pq_corrections *c = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_json_load(ctx, &doc, path));
    PQ_TRY(pq_alloc(ctx, &c, 1, sizeof *c));
    st = pq_prefix(ctx, load(ctx, c, doc, path), "%s", path);
    if (st != PQ_OK) goto out;
    *out = c;
    c = NULL;
out:
    pq_corrections_free(c);
    cJSON_Delete(doc);
    return st;
}
