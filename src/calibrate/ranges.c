/* ranges.json. */
#include <math.h>
#include <string.h>

#include <pquant/calibrate.h>

#include "base/json.h"
#include "base/mem.h"

static const char *const names[] = {"auto", "max", "percentile", "entropy", "mse"};

const char *pq_calibrator_name(pq_calibrator c) { return (unsigned)c < 5 ? names[c] : "?"; }

pq_status pq_calibrator_parse(pq_ctx *ctx, pq_calibrator *out, const char *name)
{
    for (unsigned i = 0; i < 5; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (pq_calibrator)i;
            return PQ_OK;
        }
    return pq_fail(ctx, PQ_E_INVALID,
                   "calibrator '%s', expected auto, max, percentile, entropy or mse", name);
}

void pq_ranges_free(pq_ranges *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->n; i++) pq_free(r->range[i].name);
    pq_free(r->range);
    pq_free(r);
}

const pq_range *pq_ranges_find(const pq_ranges *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->range[i].name, name) == 0) return &r->range[i];
    return NULL;
}

/* Members that older files lack, and values of no channels. */
static const char *const seen_key[] = {"rms", "kurtosis", "outlier"};
enum { N_SEEN = sizeof seen_key / sizeof *seen_key };

static float seen(const pq_range *x, int k)
{
    return k == 0 ? x->rms : k == 1 ? x->kurtosis : x->outlier;
}

static pq_status load_seen(pq_ctx *ctx, pq_range *x, const cJSON *o)
{
    float *const to[N_SEEN] = {&x->rms, &x->kurtosis, &x->outlier};
    double v;
    for (int k = 0; k < N_SEEN; k++) {
        if (!cJSON_HasObjectItem(o, seen_key[k])) continue;
        const pq_status st = pq_json_number(ctx, &v, o, seen_key[k], "tensors");
        if (st != PQ_OK) return st;
        if (!(v >= 0 && v <= 3.4e38))
            return pq_fail(ctx, PQ_E_FORMAT, "'%s' is %g, expected a finite number of at least 0",
                           seen_key[k], v);
        *to[k] = (float)v;
    }
    return PQ_OK;
}

pq_status pq_ranges_save(pq_ctx *ctx, const pq_ranges *r, const char *path)
{
    cJSON *doc = cJSON_CreateObject(), *list = NULL;
    bool ok = cJSON_AddStringToObject(doc, "graph_hash", r->graph_hash) &&
              cJSON_AddStringToObject(doc, "calibrator", pq_calibrator_name(r->calibrator)) &&
              cJSON_AddNumberToObject(doc, "images", (double)r->n_images) &&
              (list = cJSON_AddArrayToObject(doc, "tensors")) != NULL;
    for (size_t i = 0; ok && i < r->n; i++) {
        const pq_range *x = &r->range[i];
        cJSON *o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "name", x->name) &&
             cJSON_AddNumberToObject(o, "min", (double)x->min) &&
             cJSON_AddNumberToObject(o, "max", (double)x->max) &&
             cJSON_AddNumberToObject(o, "amax", (double)x->amax) &&
             cJSON_AddNumberToObject(o, "lo", (double)x->lo) &&
             cJSON_AddNumberToObject(o, "hi", (double)x->hi) &&
             cJSON_AddStringToObject(o, "method", pq_calibrator_name(x->method));
        for (int k = 0; ok && k < N_SEEN; k++)
            ok = seen(x, k) == 0 || cJSON_AddNumberToObject(o, seen_key[k], (double)seen(x, k));
    }
    pq_status st = ok ? pq_json_save(ctx, doc, path) : pq_json_check(ctx, NULL);
    cJSON_Delete(doc);
    return st;
}

static pq_status load_range(pq_ctx *ctx, pq_range *x, const cJSON *o)
{
    static const char *const key[] = {"min", "max", "amax", "lo", "hi"};
    float *const to[] = {&x->min, &x->max, &x->amax, &x->lo, &x->hi};
    const char *name, *by;
    double v;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &name, o, "name", "tensors"));
    for (int i = 0; i < 5; i++) {
        PQ_TRY(pq_json_number(ctx, &v, o, key[i], name));
        *to[i] = (float)v;
    }
    if (!(x->amax > 0) || !(x->lo <= 0) || !(x->hi >= 0) || !(x->hi > x->lo) ||
        !isfinite(x->amax) || !isfinite(x->hi) || !isfinite(x->lo)) {
        st = pq_fail(ctx, PQ_E_FORMAT,
                     "tensor '%s': amax %g, lo %g, hi %g, expected amax > 0 and lo <= 0 <= hi",
                     name, (double)x->amax, (double)x->lo, (double)x->hi);
        goto out;
    }
    PQ_TRY(pq_json_string(ctx, &by, o, "method", name));
    PQ_TRY(pq_calibrator_parse(ctx, &x->method, by));
    PQ_TRY(pq_prefix(ctx, load_seen(ctx, x, o), "%s", name));
    st = pq_strdup(ctx, &x->name, name);
out:
    return st;
}

pq_status pq_ranges_load(pq_ctx *ctx, pq_ranges **out, const char *path)
{
    cJSON *doc = NULL;
    const cJSON *list, *o;
    pq_ranges *r = NULL;
    const char *text;
    int64_t n;
    pq_status st;
    *out = NULL;
    if ((st = pq_json_load(ctx, &doc, path)) != PQ_OK) return st;
    PQ_TRY(pq_alloc(ctx, &r, 1, sizeof *r));
    PQ_TRY(pq_json_string(ctx, &text, doc, "graph_hash", "ranges"));
    if (strlen(text) != 64) {
        st = pq_fail(ctx, PQ_E_FORMAT, "graph_hash '%.70s', expected 64 digits", text);
        goto out;
    }
    memcpy(r->graph_hash, text, 65);
    PQ_TRY(pq_json_string(ctx, &text, doc, "calibrator", "ranges"));
    PQ_TRY(pq_calibrator_parse(ctx, &r->calibrator, text));
    PQ_TRY(pq_json_int(ctx, &n, doc, "images", "ranges"));
    r->n_images = (size_t)n;
    PQ_TRY(pq_json_array(ctx, &list, doc, "tensors", "ranges"));
    PQ_TRY(pq_alloc(ctx, &r->range, (size_t)cJSON_GetArraySize(list), sizeof *r->range));
    cJSON_ArrayForEach(o, list) PQ_TRY(load_range(ctx, &r->range[r->n++], o));
    *out = r;
    r = NULL;
out:
    pq_ranges_free(r);
    cJSON_Delete(doc);
    if (st == PQ_E_INVALID) st = PQ_E_FORMAT; /* a calibrator that does not exist */
    return pq_prefix(ctx, st, "%s", path);
}
