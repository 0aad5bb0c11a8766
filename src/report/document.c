/* The report as a JSON document: what the page says, and nothing that it does not. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "report/report.h"

/* Rows of the table by the name that "precisions" has, and the one that "results" has. */
static const char *const row_name[3][3] = {{"fp32", "full precision", "Full precision"},
                                           {"int8", "all-INT8", "All-INT8"},
                                           {"partial", "partial", "Partial"}};

const char *pq_report_row_title(const char *name)
{
    for (int i = 0; name && i < 3; i++)
        if (strcmp(row_name[i][0], name) == 0) return row_name[i][2];
    return name ? name : "";
}

const char *pq_report_metric(const cJSON *doc)
{
    const char *text = pq_field_text(doc, "metric");
    return text ? text : "mAP";
}

/* The first of the two that has a number. */
static double either(double a, double b) { return isfinite(a) ? a : b; }

static bool add_row(cJSON *list, const char *name, const cJSON *p, const cJSON *r,
                    const cJSON *base)
{
    static const char *const copied[] = {"drop_low", "drop_high"};
    const cJSON *figures = pq_field(p, "figures") ? pq_field(p, "figures") : pq_field(r, "figures");
    const double ap = either(pq_field_number(p, "AP"), pq_field_number(figures, "AP"));
    double ms = either(pq_field_number(p, "ms"), pq_field_number(r, "median_ms"));
    if (!(ms > 0)) ms = NAN;
    cJSON *o = pq_put_row(list);
    bool ok = o && pq_put_text(o, "name", name) && pq_put_number(o, "AP", ap) &&
              pq_put_number(o, "ms", ms) &&
              pq_put_number(o, "speedup", base ? pq_field_number(base, "ms") / ms : 1) &&
              pq_put_number(
                  o, "drop",
                  either(pq_field_number(p, "drop"), base ? pq_field_number(base, "AP") - ap : 0));
    for (size_t i = 0; ok && i < sizeof copied / sizeof *copied; i++)
        ok = pq_put_number(o, copied[i], pq_field_number(p, copied[i]));
    return ok &&
           pq_put_number(o, "int8_mac_share",
                         either(pq_field_number(p, "int8_mac_share"),
                                pq_field_number(r, "int8_mac_share"))) &&
           pq_put_number(o, "kept",
                         either(pq_field_number(p, "kept"), pq_field_number(r, "kept"))) &&
           pq_put_copy(o, "figures", figures);
}

/* The name that "precisions" has for a row of either list. */
static const char *plain_name(const char *name)
{
    for (int i = 0; name && i < 3; i++)
        if (strcmp(name, row_name[i][1]) == 0) return row_name[i][0];
    return name;
}

static const cJSON *find_row(const cJSON *list, const char *name)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, list)
    {
        const char *own = plain_name(pq_field_text(v, "name"));
        if (own && strcmp(own, name) == 0) return v;
    }
    return NULL;
}

/* In the order of "precisions", then what "results" alone has. */
static bool add_rows(cJSON *doc, const cJSON *run)
{
    const cJSON *p = pq_field(run, "precisions"), *r = pq_field(run, "results"), *v;
    const cJSON *const lists[2] = {p, r};
    cJSON *list = cJSON_AddArrayToObject(doc, "precisions");
    bool ok = list != NULL;
    for (int k = 0; k < 2; k++) cJSON_ArrayForEach(v, lists[k])
        {
            const char *name = plain_name(pq_field_text(v, "name"));
            if (!ok || !name || pq_field_find(list, "name", name)) continue;
            ok = add_row(list, name, find_row(p, name), find_row(r, name),
                         pq_field_find(list, "name", row_name[0][0]));
        }
    return ok;
}

static bool add_operators(cJSON *doc, const pq_run_files *f)
{
    static const char *const numbers[] = {"AP_quantized", "AP_reverted", "damage", "damage_low",
                                          "damage_high",  "ms_saved",    "unit",   "macs"};
    static const char *const texts[] = {"advice", "kind"};
    const cJSON *v, *from = pq_field_list(f->run, "operators");
    const cJSON *fixes = pq_field_list(f->corrections, "operators");
    if (!from) return true;
    cJSON *list = cJSON_AddArrayToObject(doc, "operators");
    bool ok = list != NULL;
    double i = 0;
    cJSON_ArrayForEach(v, from)
    {
        const char *type = pq_field_text(v, "op");
        cJSON *o = ok ? pq_put_row(list) : NULL;
        ok = o && pq_put_number(o, "index", either(pq_field_number(v, "index"), i++)) &&
             pq_put_text(o, "name", pq_field_text(v, "name")) &&
             pq_put_text(o, "type", type ? type : pq_field_text(v, "type")) &&
             pq_put_copy(o, "shape", pq_field(v, "shape")) &&
             pq_put_text(o, "precision", pq_field_text(v, "precision"));
        for (size_t k = 0; ok && k < sizeof numbers / sizeof *numbers; k++)
            ok = pq_put_number(o, numbers[k], pq_field_number(v, numbers[k]));
        for (size_t k = 0; ok && k < sizeof texts / sizeof *texts; k++)
            ok = pq_put_text(o, texts[k], pq_field_text(v, texts[k]));
        if (ok && cJSON_IsBool(pq_field(v, "noise")))
            ok = cJSON_AddBoolToObject(o, "noise", pq_field_true(v, "noise")) != NULL;
        const cJSON *fix = ok ? pq_field_find(fixes, "node", pq_field_text(v, "name")) : NULL;
        ok = ok && pq_put_number(o, "error_before", pq_field_number(fix, "error_before")) &&
             pq_put_number(o, "error", pq_field_number(fix, "error"));
        if (!ok) break;
    }
    return ok;
}

static bool add_corrections(cJSON *doc, const pq_run_files *f)
{
    static const char *const parts[] = {"encodings", "operators", "seconds"};
    const cJSON *summary = pq_field(f->run, "corrections");
    if (!summary && !f->corrections) return true;
    cJSON *o = cJSON_AddObjectToObject(doc, "corrections");
    bool ok = o && pq_put_copy(o, "summary", cJSON_IsObject(summary) ? summary : NULL);
    for (size_t i = 0; ok && i < sizeof parts / sizeof *parts; i++)
        ok = pq_put_copy(o, parts[i], pq_field_list(f->corrections, parts[i]));
    return ok;
}

static bool add_verdict(cJSON *doc, const cJSON *run)
{
    cJSON *o = cJSON_AddObjectToObject(doc, "verdict");
    const cJSON *v, *list = pq_field(doc, "operators");
    double n = 0, int8 = 0;
    cJSON_ArrayForEach(v, list)
    {
        const char *p = pq_field_text(v, "precision");
        n++;
        int8 += p && strcmp(p, "int8") == 0;
    }
    return o && pq_put_text(o, "text", pq_field_text(run, "verdict")) &&
           pq_put_number(o, "status", pq_field_number(run, "status")) &&
           pq_put_copy(o, "time_ran_out", pq_field(run, "time_ran_out")) &&
           pq_put_number(o, "operators", n) && pq_put_number(o, "int8", int8);
}

/* What the run was, under one member, for the header and for repeating it. */
static bool add_run(cJSON *doc, const pq_run_files *f, const char *folder)
{
    static const char *const copied[] = {
        "command", "command_line", "model",          "family",      "graph_hash",     "pquant",
        "machine", "engine",       "scheme",         "calibration", "postprocessing", "max_drop",
        "seed",    "seeds",        "annotations",    "data",        "options",        "resize",
        "jpeg",    "images",       "max_latency_ms", "versions"};
    const cJSON *run = f->run;
    cJSON *o = cJSON_AddObjectToObject(doc, "run");
    bool ok = o && pq_put_text(o, "folder", folder);
    for (size_t i = 0; ok && i < sizeof copied / sizeof *copied; i++)
        ok = pq_put_copy(o, copied[i], pq_field(run, copied[i]));
    return ok && (!f->n_measured || (pq_put_number(o, "measurements", (double)f->n_measured) &&
                                     pq_put_number(o, "measuring_seconds", f->seconds)));
}

static pq_status build(pq_ctx *ctx, cJSON *doc, const pq_run_files *f, const char *folder)
{
    const cJSON *audit = pq_field(f->run, "audit"), *model = pq_field(f->run, "latency_model");
    if (!cJSON_IsObject(model)) model = NULL;
    const bool ok =
        cJSON_AddNumberToObject(doc, "pquant_report", 1) &&
        cJSON_AddStringToObject(doc, "metric", pq_field(f->run, "score") ? "signal" : "mAP") &&
        add_run(doc, f, folder) && add_rows(doc, f->run) &&
        pq_put_copy(doc, "front", pq_field_list(f->run, "front")) &&
        pq_put_copy(doc, "latency_model", model) && add_operators(doc, f) &&
        add_verdict(doc, f->run) && add_corrections(doc, f) &&
        pq_put_copy(doc, "audit", cJSON_IsObject(audit) ? audit : NULL) &&
        cJSON_AddArrayToObject(doc, "missing");
    return ok ? PQ_OK : pq_json_check(ctx, NULL);
}

static pq_status say_missing(pq_ctx *ctx, cJSON *doc, const char *what, const char *why)
{
    cJSON *o = why ? pq_put_row(cJSON_GetObjectItemCaseSensitive(doc, "missing")) : NULL;
    if (!why || (o && pq_put_text(o, "what", what) && pq_put_text(o, "why", why))) return PQ_OK;
    return pq_json_check(ctx, NULL);
}

static pq_status check_opts(pq_ctx *ctx, const pq_report_opts *o, const cJSON *run,
                            const char *folder)
{
    char hash[65];
    const char *expected = pq_field_text(run, "graph_hash");
    if ((o->before || o->after) && (!o->before || !o->after || !o->coco || !o->images))
        return pq_fail(ctx, PQ_E_INVALID,
                       "detections without the other precision's, the ground "
                       "truth or the images");
    if (!o->graph) return PQ_OK;
    pq_graph_hash(o->graph, hash);
    if (expected && strcmp(hash, expected) != 0)
        return pq_fail(ctx, PQ_E_INVALID, "%s: run of graph %.12s, expected that of the model, %s",
                       folder, expected, hash);
    return PQ_OK;
}

pq_status pq_report_new(pq_ctx *ctx, pq_report **out, const char *folder,
                        const pq_report_opts *opts)
{
    const pq_report_opts none = {0}, *o = opts ? opts : &none;
    pq_run_files f = {0};
    pq_report *r = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_run_files_load(ctx, &f, folder));
    PQ_TRY(check_opts(ctx, o, f.run, folder));
    PQ_TRY(pq_alloc(ctx, &r, 1, sizeof *r));
    r->doc = cJSON_CreateObject();
    PQ_TRY(pq_json_check(ctx, r->doc));
    PQ_TRY(build(ctx, r->doc, &f, folder));
    if (o->graph) PQ_TRY(pq_report_add_network(ctx, r->doc, &f, o->graph, o->plan));
    PQ_TRY(say_missing(ctx, r->doc, "the network's map and the ranges of its operators",
                       o->graph ? NULL : o->why_no_graph));
    if (o->before) PQ_TRY(pq_report_add_detections(ctx, r, o));
    PQ_TRY(say_missing(ctx, r->doc, "detections before and after",
                       o->before ? NULL : o->why_no_detections));
    *out = r;
    r = NULL;
out:
    pq_run_files_clear(&f);
    pq_report_free(r);
    return st;
}

void pq_report_free(pq_report *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->n_pictures; i++) pq_free(r->picture[i].jpeg);
    pq_free(r->picture);
    pq_free(r->text);
    cJSON_Delete(r->doc);
    pq_free(r);
}

const cJSON *pq_report_json(const pq_report *r) { return r->doc; }

const char *pq_report_text(const pq_report *r) { return r->text ? r->text : ""; }

pq_status pq_report_save_json(pq_ctx *ctx, const pq_report *r, const char *path)
{
    return pq_json_save(ctx, r->doc, path);
}
