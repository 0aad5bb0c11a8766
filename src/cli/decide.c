/* Which precisions: screening, the latency model, AP where it counts, then the search. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/work.h"

void cli_decision_clear(cli_decision *d)
{
    for (size_t i = 0; i < d->n_front; i++) pq_choice_clear(&d->front[i]);
    pq_free(d->front);
    pq_free(d->front_ms);
    pq_front_clear(&d->predicted);
    pq_choice_clear(&d->choice);
    pq_scores_free(d->scores);
    pq_latency_free(d->latency);
    pq_model_clear(&d->model);
    *d = (cli_decision){0};
}

double cli_ms_saved(const cli_decision *d, size_t unit)
{
    const pq_problem *p = &d->model.problem;
    const size_t n = (size_t)p->n_labels;
    return d->latency ? p->ms[unit * n] - p->ms[unit * n + n - 1] : (double)NAN;
}

/* The assignment of a plan file; its scales are those of this run's calibration. */
static pq_status from_plan(cli_work *w, uint8_t *label, const char *path)
{
    const pq_graph *g = w->model.graph;
    pq_plan *p = NULL;
    pq_binding b = {0};
    pq_status st = pq_plan_load(w->ctx, &p, path);
    if (st == PQ_OK) st = pq_plan_bind(w->ctx, &b, p, g);
    for (size_t i = 0; st == PQ_OK && i < g->n_nodes; i++)
        if (!g->node[i].dead && g->node[i].quant_index >= 0)
            label[g->node[i].quant_index] = b.precision[i] == PQ_PREC_INT8 ? PQ_LABEL_INT8
                                            : b.precision[i] == w->half && w->half != PQ_PREC_FP32
                                                ? PQ_LABEL_HALF
                                                : PQ_LABEL_FULL;
    pq_binding_clear(&b);
    pq_plan_free(p);
    return st;
}

static pq_status from_preset(cli_work *w, uint8_t *label, size_t n, const char *name)
{
    bool *int8;
    pq_status st = pq_alloc(w->ctx, &int8, n, 1);
    if (st == PQ_OK) st = pq_preset(w->ctx, int8, n, name);
    for (size_t i = 0; st == PQ_OK && i < n; i++)
        label[i] = int8[i] ? PQ_LABEL_INT8 : PQ_LABEL_FULL;
    pq_free(int8);
    return st;
}

static pq_status given(cli_work *w, cli_decision *d, const cli_budget *b)
{
    const size_t n = pq_graph_quantizable_count(w->model.graph);
    uint8_t *label = NULL;
    pq_status st;
    PQ_TRY(pq_sweep(w->ctx, &d->scores, w->meter, PQ_SWEEP_NONE));
    PQ_TRY(pq_alloc(w->ctx, &label, n, 1));
    PQ_TRY(b->preset ? from_preset(w, label, n, b->preset) : from_plan(w, label, b->plan));
    st = pq_choose_given(w->ctx, &d->choice, w->meter, w->model.graph, label, b->max_drop);
out:
    pq_free(label);
    return st;
}

/* ---- times ---- */

static pq_status plan_of(pq_ctx *ctx, void *user, const uint8_t *label, pq_plan **out)
{
    const cli_work *w = user;
    const size_t n = pq_graph_quantizable_count(w->model.graph);
    uint8_t *own = NULL;
    pq_status st = pq_alloc(ctx, &own, n, 1);
    for (size_t i = 0; st == PQ_OK && i < n; i++)
        own[i] = w->half == PQ_PREC_FP32 && label[i] ? PQ_LABEL_INT8 : label[i];
    if (st == PQ_OK) st = pq_meter_plan(ctx, out, w->meter, own);
    pq_free(own);
    return st;
}

static pq_status measure_latency(cli_work *w, cli_decision *d)
{
    const pq_units *u = &d->scores->units;
    size_t *unit = NULL;
    uint8_t *allowed = NULL;
    char *journal = NULL, *path = NULL, key[80];
    pq_status st;
    const int n_labels = w->half == PQ_PREC_FP32 ? 2 : PQ_LABELS;
    snprintf(key, sizeof key, "%s %s", w->scheme == PQ_SCHEME_U8 ? "u8" : "s8",
             pq_precision_name(w->half));
    PQ_TRY(pq_alloc(w->ctx, &unit, u->n_ops, sizeof *unit));
    PQ_TRY(pq_alloc(w->ctx, &allowed, u->n, 1));
    for (size_t i = 0; i < u->n_ops; i++) unit[i] = u->of[i];
    for (size_t i = 0; i < u->n; i++)
        allowed[i] = (uint8_t)((1 << (u->fixed[i] ? n_labels - 1 : n_labels)) - 1);
    PQ_TRY(pq_path_join(w->ctx, &journal, w->out, "latency.jsonl"));
    PQ_TRY(pq_path_join(w->ctx, &path, w->out, "latency.json"));
    const double left = w->deadline > 0 ? w->deadline - cli_now() : 240;
    const pq_latency_opts o = {.engine = w->engine,
                               .graph = w->model.graph,
                               .n_labels = n_labels,
                               .plan = plan_of,
                               .plan_user = w,
                               .unit = unit,
                               .n_units = u->n,
                               .allowed = allowed,
                               .key = key,
                               .threads = (int)w->c->threads,
                               .runs = 9,
                               .journal = journal,
                               .seconds = fmax(1, fmin(45, left / 4))};
    PQ_TRY(pq_latency_measure(w->ctx, &d->latency, &o));
    st = pq_latency_save(w->ctx, d->latency, path);
out:
    pq_free(unit);
    pq_free(allowed);
    pq_free(journal);
    pq_free(path);
    return st;
}

static pq_status latency_of(pq_ctx *ctx, void *user, const uint8_t *label, double *ms)
{
    cli_work *w = user;
    pq_plan *plan = NULL;
    pq_status st = pq_meter_plan(ctx, &plan, w->meter, label);
    const pq_plan *const one[] = {plan};
    if (st == PQ_OK) st = cli_latency(w, one, 1, 20, ms);
    pq_plan_free(plan);
    return st;
}

/* ---- sensitivities ---- */

/* When a share of the time that is left ends; 0: there is no limit. */
static double share_end(const cli_work *w, double share)
{
    const double now = cli_now();
    return w->deadline > 0 ? now + share * fmax(0, w->deadline - now) : 0;
}

/* AP of the units that could decide: those whose screened damage is at least a third of the budget,
 * the most of them first. The others' damage is below what AP on this many images can tell. */
static pq_status refine(cli_work *w, cli_decision *d, const cli_budget *b)
{
    enum { MOST = 12 };
    const size_t n = d->scores->units.n;
    bool *wanted = NULL;
    pq_status st;
    PQ_TRY(pq_model_make(w->ctx, &d->model, d->scores, NULL, 0));
    PQ_TRY(pq_alloc(w->ctx, &wanted, n, 1));
    for (size_t k = 0; k < MOST; k++) {
        size_t best = n;
        double most = b->max_drop / 3;
        for (size_t u = 0; u < n; u++) {
            const double damage = d->model.damage[2 * u + 1];
            if (wanted[u] || d->scores->units.fixed[u] || d->scores->aside[u] || damage <= most)
                continue;
            best = u;
            most = damage;
        }
        if (best == n) break;
        wanted[best] = true;
    }
    pq_model_clear(&d->model);
    const double old = pq_meter_set_deadline(w->meter, share_end(w, 0.25));
    st = pq_sweep_more(w->ctx, d->scores, w->meter, wanted);
    (void)pq_meter_set_deadline(w->meter, old);
out:
    pq_free(wanted);
    return st;
}

static pq_status measure_half(cli_work *w, cli_decision *d)
{
    const size_t n = d->scores->units.n_ops;
    uint8_t *label;
    pq_status st = pq_alloc(w->ctx, &label, n, 1);
    if (st != PQ_OK) return st;
    memset(label, PQ_LABEL_HALF, n);
    st = pq_meter_measure(w->ctx, &d->half, w->meter, label, INFINITY);
    pq_free(label);
    return st;
}

/* In turn with full precision, so that a machine that has become slower since is seen. */
static pq_status time_front(cli_work *w, cli_decision *d)
{
    pq_plan **plan = NULL;
    uint8_t *full = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(w->ctx, &d->front_ms, d->n_front + 1, sizeof *d->front_ms));
    PQ_TRY(pq_alloc(w->ctx, &plan, d->n_front + 1, sizeof *plan));
    PQ_TRY(pq_alloc(w->ctx, &full, d->choice.n, 1));
    for (size_t i = 0; i < d->n_front; i++)
        PQ_TRY(pq_meter_plan(w->ctx, &plan[i], w->meter, d->front[i].label));
    PQ_TRY(pq_meter_plan(w->ctx, &plan[d->n_front], w->meter, full));
    PQ_TRY(cli_latency(w, (const pq_plan *const *)plan, d->n_front + 1, 30, d->front_ms));
    d->front_full_ms = d->front_ms[d->n_front];
out:
    for (size_t i = 0; plan && i <= d->n_front; i++) pq_plan_free(plan[i]);
    pq_free(plan);
    pq_free(full);
    return st;
}

pq_status cli_decide(cli_work *w, cli_decision *d, const cli_budget *b)
{
    enum { FRONT_POINTS = 10 };
    const pq_graph *g = w->model.graph;
    pq_status st;
    *d = (cli_decision){0};
    if (b->preset || b->plan) return given(w, d, b);
    PQ_TRY(pq_sweep_for(w->ctx, &d->scores, w->meter, fmax(b->max_drop, 1e-6), 0.5));
    if (w->half != PQ_PREC_FP32) PQ_TRY(measure_half(w, d));
    PQ_TRY(measure_latency(w, d));
    if (b->every) {
        bool *all;
        PQ_TRY(pq_alloc(w->ctx, &all, d->scores->units.n, 1));
        memset(all, 1, d->scores->units.n);
        st = pq_sweep_more(w->ctx, d->scores, w->meter, all);
        pq_free(all);
        PQ_TRY(st);
    } else {
        PQ_TRY(refine(w, d, b));
    }
    PQ_TRY(pq_model_make(w->ctx, &d->model, d->scores, d->latency, d->half.drop));
    PQ_TRY(b->max_latency > 0 ? pq_select_by_latency(w->ctx, &d->choice, w->meter, g, d->scores,
                                                     &d->model, b->max_latency, latency_of, w)
                              : pq_select_by_drop(w->ctx, &d->choice, w->meter, g, d->scores,
                                                  &d->model, b->max_drop));
    if (b->pareto) {
        PQ_TRY(pq_model_learn(w->ctx, &d->model, d->scores, w->meter, NULL));
        PQ_TRY(pq_measure_front(w->ctx, &d->front, &d->n_front, w->meter, g, d->scores, &d->model,
                                FRONT_POINTS));
        PQ_TRY(time_front(w, d));
    } else if (d->latency) {
        PQ_TRY(pq_problem_front(w->ctx, &d->predicted, &d->model.problem));
    }
out:
    if (st != PQ_OK) cli_decision_clear(d);
    return st;
}
