/* The fitted model: predicting, and latency.json. */
#include <pquant/latency.h>

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

void pq_latency_free(pq_latency *l)
{
    if (!l) return;
    pq_free(l->ms);
    pq_free(l->edge);
    pq_free(l);
}

double pq_latency_predict(const pq_latency *l, const uint8_t *label)
{
    double ms = l->ms_fixed;
    for (size_t u = 0; u < l->n_units; u++) ms += l->ms[u * (size_t)l->n_labels + label[u]];
    for (size_t i = 0; i < l->n_edges; i++)
        if (label[l->edge[i].a] != label[l->edge[i].b]) ms += l->edge[i].ms;
    return ms;
}

/* ---- latency.json ---- */

static const char *const fit_key[] = {
    "r2",      "error",   "error95",  "prior_error",    "noise",
    "full_ms", "int8_ms", "alpha_ms", "beta_ms_per_mb", "seconds"};
enum { N_FIT = sizeof fit_key / sizeof *fit_key };

static void fit_members(pq_latency_fit *f, double *to[N_FIT])
{
    double *const all[N_FIT] = {
        &f->r2,      &f->error,   &f->error95,  &f->prior_error,    &f->noise,
        &f->full_ms, &f->int8_ms, &f->alpha_ms, &f->beta_ms_per_mb, &f->seconds};
    memcpy(to, all, sizeof all);
}

static bool add_fit(cJSON *doc, const pq_latency *l)
{
    pq_latency_fit copy = l->fit;
    double *member[N_FIT];
    cJSON *o = cJSON_AddObjectToObject(doc, "fit");
    fit_members(&copy, member);
    bool ok = cJSON_AddNumberToObject(o, "plans", (double)l->fit.n_plans) != NULL;
    for (int i = 0; ok && i < N_FIT; i++)
        ok = cJSON_AddNumberToObject(o, fit_key[i], *member[i]) != NULL;
    return ok;
}

static bool add_terms(cJSON *doc, const pq_latency *l)
{
    cJSON *units = cJSON_AddArrayToObject(doc, "units"),
          *edges = cJSON_AddArrayToObject(doc, "edges");
    for (size_t u = 0; u < l->n_units; u++)
        if (!cJSON_AddItemToArray(
                units, cJSON_CreateDoubleArray(l->ms + u * (size_t)l->n_labels, l->n_labels)))
            return false;
    for (size_t i = 0; i < l->n_edges; i++) {
        const pq_latency_edge *e = &l->edge[i];
        const double v[] = {(double)e->a, (double)e->b, e->conversions, e->mb, e->ms};
        if (!cJSON_AddItemToArray(edges, cJSON_CreateDoubleArray(v, 5))) return false;
    }
    return units && edges;
}

pq_status pq_latency_save(pq_ctx *ctx, const pq_latency *l, const char *path)
{
    cJSON *doc = cJSON_CreateObject();
    const bool ok = cJSON_AddStringToObject(doc, "context", l->context) &&
                    cJSON_AddNumberToObject(doc, "labels", l->n_labels) &&
                    cJSON_AddNumberToObject(doc, "ms_fixed", l->ms_fixed) && add_fit(doc, l) &&
                    add_terms(doc, l);
    const pq_status st = ok ? pq_json_save(ctx, doc, path) : pq_json_check(ctx, NULL);
    cJSON_Delete(doc);
    return st;
}

/* n finite numbers. */
static pq_status load_row(pq_ctx *ctx, double *to, const cJSON *row, int n, const char *what,
                          size_t at)
{
    const cJSON *v;
    int i = 0;
    if (!cJSON_IsArray(row) || cJSON_GetArraySize(row) != n)
        return pq_fail(ctx, PQ_E_FORMAT, "%s %zu: expected %d numbers", what, at, n);
    cJSON_ArrayForEach(v, row)
    {
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
            return pq_fail(ctx, PQ_E_FORMAT, "%s %zu: expected %d finite numbers", what, at, n);
        to[i++] = v->valuedouble;
    }
    return PQ_OK;
}

static pq_status load_edge(pq_ctx *ctx, pq_latency *l, const cJSON *row)
{
    double v[5];
    const double n = (double)l->n_units;
    pq_status st = load_row(ctx, v, row, 5, "edge", l->n_edges);
    if (st != PQ_OK) return st;
    if (!(v[0] >= 0 && v[0] < n && v[1] >= 0 && v[1] < n) || v[0] != floor(v[0]) ||
        v[1] != floor(v[1]) || v[0] == v[1])
        return pq_fail(ctx, PQ_E_FORMAT,
                       "edge %zu: units %g and %g, expected two different ones below %zu",
                       l->n_edges, v[0], v[1], l->n_units);
    if (v[2] < 0 || v[3] < 0 || v[4] < 0)
        return pq_fail(ctx, PQ_E_FORMAT,
                       "edge %zu: %g conversions, %g MB, %g ms, expected at least 0", l->n_edges,
                       v[2], v[3], v[4]);
    l->edge[l->n_edges++] = (pq_latency_edge){(size_t)v[0], (size_t)v[1], v[2], v[3], v[4]};
    return PQ_OK;
}

static pq_status load_fit(pq_ctx *ctx, pq_latency_fit *f, const cJSON *doc)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(doc, "fit");
    double *member[N_FIT];
    int64_t plans;
    pq_status st;
    if (!cJSON_IsObject(o)) return pq_fail(ctx, PQ_E_FORMAT, "member 'fit': expected an object");
    fit_members(f, member);
    PQ_TRY(pq_json_int(ctx, &plans, o, "plans", "fit"));
    if (plans < 0)
        return pq_fail(ctx, PQ_E_FORMAT, "fit: %lld plans, expected at least 0", (long long)plans);
    f->n_plans = (size_t)plans;
    for (int i = 0; i < N_FIT; i++) {
        PQ_TRY(pq_json_number(ctx, member[i], o, fit_key[i], "fit"));
        if (!isfinite(*member[i]))
            return pq_fail(ctx, PQ_E_FORMAT, "fit: '%s' is not finite", fit_key[i]);
    }
out:
    return st;
}

static pq_status load_head(pq_ctx *ctx, pq_latency *l, const cJSON *doc)
{
    const char *context;
    int64_t labels;
    pq_status st;
    PQ_TRY(pq_json_string(ctx, &context, doc, "context", "latency"));
    if (strlen(context) != 64) {
        st = pq_fail(ctx, PQ_E_FORMAT, "context '%.70s', expected 64 digits", context);
        goto out;
    }
    memcpy(l->context, context, 65);
    PQ_TRY(pq_json_int(ctx, &labels, doc, "labels", "latency"));
    if (labels < 2 || labels > 4) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%lld labels, expected 2 .. 4", (long long)labels);
        goto out;
    }
    l->n_labels = (int)labels;
    PQ_TRY(pq_json_number(ctx, &l->ms_fixed, doc, "ms_fixed", "latency"));
    if (!isfinite(l->ms_fixed)) st = pq_fail(ctx, PQ_E_FORMAT, "'ms_fixed' is not finite");
out:
    return st;
}

static pq_status load(pq_ctx *ctx, pq_latency *l, const cJSON *doc)
{
    const cJSON *units, *edges, *row;
    pq_status st;
    PQ_TRY(load_head(ctx, l, doc));
    PQ_TRY(load_fit(ctx, &l->fit, doc));
    PQ_TRY(pq_json_array(ctx, &units, doc, "units", "latency"));
    PQ_TRY(pq_json_array(ctx, &edges, doc, "edges", "latency"));
    const size_t n_labels = (size_t)l->n_labels;
    PQ_TRY(pq_alloc(ctx, &l->ms, (size_t)cJSON_GetArraySize(units), n_labels * sizeof *l->ms));
    PQ_TRY(pq_alloc(ctx, &l->edge, (size_t)cJSON_GetArraySize(edges), sizeof *l->edge));
    cJSON_ArrayForEach(row, units)
    {
        PQ_TRY(load_row(ctx, l->ms + l->n_units * n_labels, row, l->n_labels, "unit", l->n_units));
        l->n_units++;
    }
    cJSON_ArrayForEach(row, edges) PQ_TRY(load_edge(ctx, l, row));
out:
    return st;
}

pq_status pq_latency_load(pq_ctx *ctx, pq_latency **out, const char *path)
{
    cJSON *doc = NULL;
    pq_latency *l = NULL;
    pq_status st;
    *out = NULL;
    if ((st = pq_json_load(ctx, &doc, path)) != PQ_OK) return st;
    st = pq_alloc(ctx, &l, 1, sizeof *l);
    if (st == PQ_OK) st = pq_prefix(ctx, load(ctx, l, doc), "%s", path);
    cJSON_Delete(doc);
    if (st == PQ_OK)
        *out = l;
    else
        pq_latency_free(l);
    return st;
}
