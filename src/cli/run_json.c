/* run.json: everything that a run decided and what it depended on. */
#include <stdio.h>
#include <string.h>

#include <pquant/advice.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/audit.h"
#include "cli/work.h"

static bool add_images(cJSON *to, const char *key, const pq_dataset *d)
{
    cJSON *list = cJSON_AddArrayToObject(to, key);
    for (size_t i = 0; list && i < d->n; i++)
        if (!cJSON_AddItemToArray(list, cJSON_CreateString(pq_path_base(d->sample[i].path))))
            return false;
    return list != NULL;
}

static bool add_machine(cJSON *to, const cli_work *w)
{
    pq_engine_info info;
    cJSON *m = cJSON_AddObjectToObject(to, "machine"), *e = cJSON_AddObjectToObject(to, "engine");
    if (w->engine->probe(w->ctx, &info) != PQ_OK) return false;
    return cJSON_AddStringToObject(m, "device", info.device) &&
           cli_add_number(m, "threads", pq_ctx_threads(w->ctx)) &&
           cJSON_AddStringToObject(e, "name", w->engine->name) &&
           cJSON_AddStringToObject(e, "version", info.version) &&
           cJSON_AddStringToObject(to, "pquant", PQ_VERSION_STRING);
}

static bool add_drop(cJSON *o, const pq_measured *m)
{
    return cli_add_number(o, "AP", m->figures.v[PQ_FIG_AP]) && cli_add_number(o, "drop", m->drop) &&
           cli_add_number(o, "drop_low", m->low) && cli_add_number(o, "drop_high", m->high);
}

static bool add_rows(cJSON *to, const cli_outcome *o)
{
    cJSON *list = cJSON_AddArrayToObject(to, "precisions");
    for (size_t i = 0; list && i < o->n_rows; i++) {
        const cli_row *r = &o->row[i];
        cJSON *x = cJSON_CreateObject(), *f;
        if (!cJSON_AddItemToArray(list, x) || !cJSON_AddStringToObject(x, "name", r->name) ||
            !add_drop(x, &r->measured) || !(f = cJSON_AddObjectToObject(x, "figures")) ||
            !cli_add_figures(f, &r->measured.figures) || !cli_add_number(x, "ms", r->ms) ||
            !cli_add_number(x, "speedup", o->row[0].ms / r->ms) ||
            !cli_add_number(x, "int8_mac_share", r->int8_mac_share) ||
            !cli_add_number(x, "kept", (double)r->n_kept))
            return false;
    }
    return list != NULL;
}

static const char *label_name(const cli_work *w, uint8_t label)
{
    return pq_precision_name(label == PQ_LABEL_INT8   ? PQ_PREC_INT8
                             : label == PQ_LABEL_HALF ? w->half
                                                      : PQ_PREC_FP32);
}

static bool add_score(cJSON *x, const cli_decision *d, size_t unit)
{
    const pq_score *s = &d->scores->unit[unit];
    const pq_problem *p = &d->model.problem;
    bool ok = cli_add_number(x, "unit", (double)unit);
    if (ok && s->screened) ok = cli_add_number(x, "error", s->error);
    if (ok && s->measured)
        ok = cli_add_number(x, "AP_quantized", s->ap_quantized) &&
             cli_add_number(x, "AP_reverted", s->ap_reverted);
    const bool by_ap = s->measured || s->aside;
    if (ok && by_ap)
        ok = cli_add_number(x, "damage_low", s->low) && cli_add_number(x, "damage_high", s->high) &&
             cJSON_AddBoolToObject(x, "noise", s->low <= 0 && s->high >= 0) != NULL;
    if (!ok || (!s->screened && !by_ap)) return ok;
    const size_t n = (size_t)p->n_labels;
    ok = cJSON_AddStringToObject(x, "kind", by_ap ? "map" : "proxy") &&
         cli_add_number(x, "damage", p->n_units ? p->damage[unit * n + n - 1] : s->damage);
    if (ok && d->latency) ok = cli_add_number(x, "ms_saved", cli_ms_saved(d, unit));
    return ok;
}

/* Why it is sensitive and what was tried, for those that are kept or doubtful. */
static bool add_advice(cJSON *x, const cli_work *w, const cli_decision *d, size_t op)
{
    const pq_score *s = &d->scores->unit[d->scores->units.of[op]];
    pq_advice a;
    if (!s->measured && d->choice.label[op] == PQ_LABEL_INT8) return true;
    return pq_advise(w->ctx, &a, w->model.graph, w->calibration.ranges, w->calibration.corrections,
                     w->scheme, (int)op) == PQ_OK &&
           cJSON_AddStringToObject(x, "advice", a.text) != NULL;
}

static bool add_operators(cJSON *to, const cli_work *w, const cli_decision *d)
{
    const pq_graph *g = w->model.graph;
    cJSON *list = cJSON_AddArrayToObject(to, "operators");
    const size_t n = pq_graph_quantizable_count(g);
    char text[96];
    for (size_t i = 0; list && i < n; i++) {
        const pq_node *node = &g->node[pq_graph_quantizable(g, (int)i)];
        cJSON *x = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(list, x) || !cli_add_number(x, "index", (double)i) ||
            !cJSON_AddStringToObject(x, "name", node->name) ||
            !cJSON_AddStringToObject(x, "op", node->type) ||
            !cJSON_AddStringToObject(
                x, "shape", pq_shape_text(&g->value[node->out[0]].shape, text, sizeof text)) ||
            !cli_add_number(x, "macs", (double)pq_node_macs(g, node)) ||
            !cJSON_AddStringToObject(x, "precision", label_name(w, d->choice.label[i])) ||
            !add_score(x, d, d->scores->units.of[i]) || !add_advice(x, w, d, i))
            return false;
    }
    return list != NULL;
}

/* An assignment, a character an operator: "0" full precision, "h" half, "1" INT8. */
static bool add_labels(cJSON *x, const uint8_t *label, size_t n)
{
    char *bits = cJSON_malloc(n + 1);
    if (!bits) return false;
    for (size_t k = 0; k < n; k++) bits[k] = "0h1"[label[k]];
    bits[n] = 0;
    const bool ok = cJSON_AddStringToObject(x, "int8", bits) != NULL;
    cJSON_free(bits);
    return ok;
}

/* A point that the model alone knows: its time in the measure of the table's rows. */
static bool add_predicted(cJSON *list, const cli_decision *d, const struct pq_front_point *q,
                          double scale)
{
    const size_t n = d->scores->units.n_ops;
    uint8_t *label = cJSON_malloc(n);
    cJSON *x = cJSON_CreateObject();
    double kept = 0;
    bool ok = cJSON_AddItemToArray(list, x) && label;
    if (ok) pq_model_label(&d->model, &d->scores->units, q->x, label);
    for (size_t k = 0; ok && k < n; k++) kept += label[k] != PQ_LABEL_INT8;
    ok = ok && cli_add_number(x, "drop", q->damage) && cli_add_number(x, "ms", scale * q->ms) &&
         cli_add_number(x, "kept", kept) && add_labels(x, label, n) &&
         cJSON_AddTrueToObject(x, "predicted");
    cJSON_free(label);
    return ok;
}

/* The corners of the front that was searched, the slowest first. */
static bool add_predicted_front(cJSON *to, const cli_outcome *o)
{
    enum { MOST = 40 };
    const cli_decision *d = o->decision;
    const pq_front *f = &d->predicted;
    size_t n_hull = 0, at = 0;
    cJSON *list;
    for (size_t i = 0; i < f->n; i++) n_hull += f->at[i].hull;
    if (!n_hull || !(o->row[0].ms > 0) || !(d->latency->fit.full_ms > 0)) return true;
    if (!(list = cJSON_AddArrayToObject(to, "front"))) return false;
    for (size_t i = 0; i < f->n; i++) {
        if (!f->at[i].hull || at++ % ((n_hull + MOST - 1) / MOST)) continue;
        if (!add_predicted(list, d, &f->at[i], o->row[0].ms / d->latency->fit.full_ms))
            return false;
    }
    return true;
}

static bool add_front(cJSON *to, const cli_outcome *o)
{
    const cli_decision *d = o->decision;
    cJSON *list;
    if (!d->n_front) return add_predicted_front(to, o);
    if (!(list = cJSON_AddArrayToObject(to, "front"))) return false;
    for (size_t i = 0; i < d->n_front; i++) {
        const pq_choice *c = &d->front[i];
        cJSON *x = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(list, x)) return false;
        if (!(add_drop(x, &c->measured) && cli_add_number(x, "ms", d->front_ms[i]) &&
              cli_add_number(x, "predicted_drop", c->predicted) &&
              cli_add_number(x, "predicted_ms", c->ms) &&
              cli_add_number(x, "full_ms", d->front_full_ms) &&
              cli_add_number(x, "predicted_full_ms", d->latency->fit.full_ms) &&
              cli_add_number(x, "kept", (double)c->n_kept) && add_labels(x, c->label, c->n) &&
              cJSON_AddBoolToObject(x, "chosen", memcmp(c->label, d->choice.label, c->n) == 0)))
            return false;
    }
    return true;
}

static bool add_latency(cJSON *to, const cli_decision *d)
{
    cJSON *x;
    if (!d->latency) return true;
    const pq_latency_fit *f = &d->latency->fit;
    return (x = cJSON_AddObjectToObject(to, "latency_model")) != NULL &&
           cli_add_number(x, "plans", (double)f->n_plans) && cli_add_number(x, "r2", f->r2) &&
           cli_add_number(x, "median_error", f->error) &&
           cli_add_number(x, "error_95", f->error95) &&
           cli_add_number(x, "prior_error", f->prior_error) &&
           cli_add_number(x, "noise", f->noise) &&
           cli_add_number(x, "conversion_ms", f->alpha_ms) &&
           cli_add_number(x, "conversion_ms_per_mb", f->beta_ms_per_mb) &&
           cli_add_number(x, "seconds", f->seconds);
}

static bool add_calibration(cJSON *to, const cli_work *w)
{
    cJSON *c = cJSON_AddObjectToObject(to, "calibration");
    const pq_ranges *r = w->calibration.ranges;
    return cJSON_AddStringToObject(c, "calibrator", pq_calibrator_name(r->calibrator)) &&
           cli_add_number(c, "images", (double)r->n_images) &&
           (!w->c->calib_data || cJSON_AddStringToObject(c, "folder", w->c->calib_data));
}

static bool add_postprocessing(cJSON *to, const pq_head *h)
{
    cJSON *c = cJSON_AddObjectToObject(to, "postprocessing");
    return cli_add_number(c, "conf_thres", h->conf) && cli_add_number(c, "iou_thres", h->iou) &&
           cli_add_number(c, "max_det", h->max_det);
}

/* What it takes to read the same again, and to repeat it. */
static bool add_options(cJSON *to, const cli_common *c)
{
    cJSON *line = c->argc ? cJSON_AddArrayToObject(to, "command_line") : NULL;
    bool ok = line || !c->argc;
    for (int i = 0; ok && i < c->argc; i++)
        ok = cJSON_AddItemToArray(line, cJSON_CreateString(c->argv[i]));
    cJSON *o = ok ? cJSON_AddObjectToObject(to, "options") : NULL;
    return o && (!c->data || cJSON_AddStringToObject(to, "data", c->data)) &&
           (!c->sidecar || cJSON_AddStringToObject(o, "sidecar", c->sidecar)) &&
           (!c->config || cJSON_AddStringToObject(o, "config", c->config)) &&
           (!c->img_size || cJSON_AddStringToObject(o, "img_size", c->img_size)) &&
           (!c->batch || cli_add_number(o, "batch", (double)c->batch));
}

static bool add_data(cJSON *to, const cli_work *w)
{
    return (w->data.coco
                ? cJSON_AddStringToObject(to, "annotations", w->c->ann)
                : cJSON_AddStringToObject(to, "score", "1 - noise / signal of the outputs")) &&
           cJSON_AddStringToObject(to, "resize", "OpenCV INTER_LINEAR, 8 bits") &&
           cJSON_AddStringToObject(to, "jpeg", "libjpeg-turbo, accurate DCT") &&
           add_images(to, "images", w->data.images);
}

cJSON *cli_run_json(const cli_work *w, const cli_outcome *o)
{
    char hash[65];
    cJSON *doc = cJSON_CreateObject();
    pq_graph_hash(w->model.graph, hash);
    bool ok = cJSON_AddStringToObject(doc, "command", o->command) &&
              cJSON_AddStringToObject(doc, "verdict", o->verdict) &&
              cli_add_number(doc, "status", o->status) &&
              cJSON_AddBoolToObject(doc, "time_ran_out", o->decision->choice.cut) &&
              cJSON_AddStringToObject(doc, "model", w->model.path) &&
              cJSON_AddStringToObject(doc, "family", w->model.graph->family) &&
              cJSON_AddStringToObject(doc, "graph_hash", hash) && add_machine(doc, w) &&
              add_rows(doc, o) && add_front(doc, o) && add_latency(doc, o->decision) &&
              cJSON_AddStringToObject(doc, "scheme", w->scheme == PQ_SCHEME_U8 ? "u8" : "s8") &&
              add_calibration(doc, w) && cli_add_corrections(doc, w->calibration.corrections) &&
              add_postprocessing(doc, &w->model.head);
    if (ok && o->budget->max_latency > 0)
        ok = cli_add_number(doc, "max_latency_ms", o->budget->max_latency);
    else if (ok)
        ok = cli_add_number(doc, "max_drop", o->budget->max_drop * 100);
    ok = ok && (!o->audit || cli_add_audit(doc, o->audit)) && add_operators(doc, w, o->decision) &&
         add_options(doc, w->c) && add_data(doc, w);
    if (ok) return doc;
    cJSON_Delete(doc);
    return NULL;
}
