/* From the model's front to a plan that was measured to hold. */
#include <pquant/select.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void pq_choice_clear(pq_choice *c)
{
    pq_free(c->label);
    memset(c, 0, sizeof *c);
}

static void count(pq_choice *c, const pq_graph *g)
{
    double all = 0, int8 = 0;
    c->n_kept = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead || n->quant_index < 0) continue;
        const double macs = (double)pq_node_macs(g, n);
        all += macs;
        if (c->label[n->quant_index] == PQ_LABEL_INT8)
            int8 += macs;
        else
            c->n_kept++;
    }
    c->int8_mac_share = all > 0 ? int8 / all : 0;
}

static bool holds(const pq_measured *m, double max_drop) { return m->whole && m->drop <= max_drop; }

pq_status pq_choose_given(pq_ctx *ctx, pq_choice *out, pq_meter *m, const pq_graph *g,
                          const uint8_t *label, double max_drop)
{
    *out = (pq_choice){.n = pq_graph_quantizable_count(g)};
    pq_status st = pq_alloc(ctx, &out->label, out->n, 1);
    if (st != PQ_OK) return st;
    memcpy(out->label, label, out->n);
    count(out, g);
    st = pq_meter_measure(ctx, &out->measured, m, label, INFINITY);
    out->within = st == PQ_OK && holds(&out->measured, max_drop);
    if (st != PQ_OK) pq_choice_clear(out);
    return st;
}

/* ---- search ---- */

typedef struct search {
    pq_meter *m;
    const pq_scores *s;
    const pq_model *model;
    double max_drop;
    uint8_t *x, *best; /* per unit; best: the last that held */
    uint8_t *label;
    pq_measured measured; /* of best */
    bool found;
    size_t n_tried;
} search;

static void clear_search(search *s)
{
    pq_free(s->x);
    pq_free(s->best);
    pq_free(s->label);
}

static pq_status init_search(pq_ctx *ctx, search *s, size_t n_ops)
{
    const size_t n = s->s->units.n;
    pq_status st = pq_alloc(ctx, &s->x, n, 1);
    if (st == PQ_OK) st = pq_alloc(ctx, &s->best, n, 1);
    if (st == PQ_OK) st = pq_alloc(ctx, &s->label, n_ops, 1);
    return st;
}

/* Measure s->x. */
static pq_status try_x(pq_ctx *ctx, search *s, bool *held)
{
    pq_measured d;
    pq_status st = pq_progress(ctx, "select", s->n_tried, s->n_tried + 1);
    if (st != PQ_OK) return st;
    pq_model_label(s->model, &s->s->units, s->x, s->label);
    st = pq_meter_measure(ctx, &d, s->m, s->label, s->max_drop);
    if (st != PQ_OK) return st;
    s->n_tried++;
    *held = holds(&d, s->max_drop);
    if (!*held) return PQ_OK;
    memcpy(s->best, s->x, s->s->units.n);
    s->measured = d;
    s->found = true;
    return PQ_OK;
}

static pq_status try_point(pq_ctx *ctx, search *s, const pq_front *f, size_t i, bool *held)
{
    memcpy(s->x, f->at[i].x, s->s->units.n);
    return try_x(ctx, s, held);
}

/* The fastest point that is predicted to lose no more than that. Points lie slowest first. */
static size_t point_within(const pq_front *f, double damage)
{
    size_t at = 0;
    while (at + 1 < f->n && f->at[at + 1].damage <= damage) at++;
    return at;
}

/* The fastest point of the front that holds. Points lie slowest first; drop need not rise from one
 * to the next, so the answer is one that was measured to hold, not one that was inferred. */
static pq_status search_front(pq_ctx *ctx, search *s, const pq_front *f)
{
    const size_t at = point_within(f, s->max_drop);
    size_t low, high, step = 1; /* low holds, high does not */
    bool held = false;
    pq_status st;
    PQ_TRY(try_point(ctx, s, f, at, &held));
    if (held) {
        for (low = at, high = f->n; low + 1 < high && !pq_meter_late(s->m); step *= 2) {
            const size_t next = low + step < f->n ? low + step : f->n - 1;
            PQ_TRY(try_point(ctx, s, f, next, &held));
            if (!held) {
                high = next;
                break;
            }
            low = next;
        }
    } else {
        bool last = false; /* past the deadline one more, predicted to lose half as much */
        for (high = at, low = 0; high > 0 && !last; step *= 2) {
            last = pq_meter_late(s->m);
            if (last) {
                const size_t safe = point_within(f, f->at[high].damage / 2);
                step = safe < high ? high - safe : (high + 1) / 2;
            }
            const size_t next = high > step ? high - step : 0;
            PQ_TRY(try_point(ctx, s, f, next, &held));
            if (held) {
                low = next;
                break;
            }
            high = next;
        }
    }
    while (s->found && low + 1 < high && !pq_meter_late(s->m)) {
        const size_t middle = (low + high) / 2;
        PQ_TRY(try_point(ctx, s, f, middle, &held));
        *(held ? &low : &high) = middle;
    }
out:
    return st;
}

typedef struct change {
    size_t unit;
    double worth; /* damage for the time it saves */
} change;

static int least_first(const void *a, const void *b)
{
    const change *x = a, *y = b;
    if (x->worth != y->worth) return x->worth < y->worth ? -1 : 1;
    return x->unit < y->unit ? -1 : 1;
}

/* Units that would make the plan faster in INT8, those that should cost least first. */
static size_t list_changes(search *s, change *list)
{
    const pq_problem *p = &s->model->problem;
    const uint8_t int8 = (uint8_t)(p->n_labels - 1);
    size_t n = 0;
    memcpy(s->x, s->best, p->n_units);
    const double ms = pq_problem_ms(p, s->x), damage = pq_problem_damage(p, s->x);
    for (size_t u = 0; u < p->n_units; u++) {
        const uint8_t old = s->x[u];
        if (old == int8 || s->s->units.fixed[u]) continue;
        s->x[u] = int8;
        const double saved = ms - pq_problem_ms(p, s->x),
                     more = pq_problem_damage(p, s->x) - damage;
        s->x[u] = old;
        if (saved > 0) list[n++] = (change){u, more / saved};
    }
    qsort(list, n, sizeof *list, least_first);
    return n;
}

/* Back to INT8 what was kept without need: reverting operators together is not the sum of reverting
 * them one by one. The list rises in damage, so it ends where nothing held for a while. */
static pq_status give_back(pq_ctx *ctx, search *s)
{
    enum { MOST_FAILED = 24 };
    change *list = NULL;
    pq_status st;
    bool any = true;
    PQ_TRY(pq_alloc(ctx, &list, s->s->units.n, sizeof *list));
    while (any) {
        const size_t n = list_changes(s, list);
        int failed = 0;
        any = false;
        for (size_t i = 0; i < n && failed < MOST_FAILED && !pq_meter_late(s->m); i++) {
            bool held;
            memcpy(s->x, s->best, s->s->units.n);
            s->x[list[i].unit] = (uint8_t)(s->model->problem.n_labels - 1);
            if (pq_problem_ms(&s->model->problem, s->x) >=
                pq_problem_ms(&s->model->problem, s->best))
                continue; /* it would have saved time beside what was changed since */
            PQ_TRY(try_x(ctx, s, &held));
            failed = held ? 0 : failed + 1;
            any = any || held;
        }
    }
out:
    pq_free(list);
    return st;
}

/* Units that full precision should help most for its time, first. */
static size_t list_helpers(search *s, change *list)
{
    const pq_problem *p = &s->model->problem;
    size_t n = 0;
    const double ms = pq_problem_ms(p, s->x), damage = pq_problem_damage(p, s->x);
    for (size_t u = 0; u < p->n_units; u++) {
        const uint8_t old = s->x[u];
        if (s->s->units.fixed[u] || s->s->aside[u]) continue;
        s->x[u] = PQ_LABEL_FULL;
        const double more = pq_problem_ms(p, s->x) - ms;
        /* A unit that costs no time still has its share of what the model does not know. */
        list[n++] =
            (change){u, (pq_problem_damage(p, s->x) - damage) / (fmax(more, 0) + 0.002 * ms)};
        s->x[u] = old;
    }
    qsort(list, n, sizeof *list, least_first);
    return n;
}

static void set_far(search *s)
{
    const pq_problem *p = &s->model->problem;
    for (size_t u = 0; u < p->n_units; u++)
        s->x[u] =
            s->s->units.fixed[u] || s->s->aside[u] ? PQ_LABEL_FULL : (uint8_t)(p->n_labels - 1);
}

/* From the far end on, a unit stays in full precision where that was measured to help. Damage does
 * not add up, and a few units that were measured together do better than the many that the sum asks
 * for. It ends where the plan holds, where many in turn did not help, and at plans as slow as `ms`.
 */
static pq_status ascend(pq_ctx *ctx, search *s, double ms)
{
    enum { MOST_TRIED = 48, MOST_FAILED = 12 };
    const pq_problem *p = &s->model->problem;
    change *list = NULL;
    double drop = s->s->far.drop;
    int failed = 0;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &list, p->n_units, sizeof *list));
    set_far(s);
    const size_t n = list_helpers(s, list);
    for (size_t i = 0; i < n && i < MOST_TRIED && failed < MOST_FAILED && drop > s->max_drop; i++) {
        pq_measured d;
        const uint8_t old = s->x[list[i].unit];
        if (pq_meter_late(s->m)) break;
        s->x[list[i].unit] = PQ_LABEL_FULL;
        failed++;
        if (pq_problem_ms(p, s->x) < ms) {
            PQ_TRY(pq_progress(ctx, "select", s->n_tried, s->n_tried + 1));
            pq_model_label(s->model, &s->s->units, s->x, s->label);
            PQ_TRY(pq_meter_measure(ctx, &d, s->m, s->label, fmax(drop, s->max_drop)));
            s->n_tried++;
            if (d.whole && d.drop < drop) {
                drop = d.drop;
                failed = 0;
                if (!holds(&d, s->max_drop)) continue;
                s->measured = d;
                s->found = true;
                memcpy(s->best, s->x, p->n_units);
                break;
            }
        }
        s->x[list[i].unit] = old;
    }
out:
    pq_free(list);
    return st;
}

/* All in INT8 but what is aside. */
static pq_status try_far(pq_ctx *ctx, search *s, bool *held)
{
    *held = false;
    if (!holds(&s->s->far, s->max_drop)) return PQ_OK;
    set_far(s);
    return try_x(ctx, s, held);
}

/* Where a plan near the far end holds, the model may know a faster one: one with operators that are
 * faster in full precision. Less than its own error is no reason to keep any. */
static pq_status try_faster(pq_ctx *ctx, search *s, const pq_front *f)
{
    const pq_problem *p = &s->model->problem;
    const size_t at = point_within(f, fmax(s->max_drop, pq_problem_damage(p, s->best)));
    bool held;
    if (f->at[at].ms >= 0.97 * pq_problem_ms(p, s->best)) return PQ_OK;
    return try_point(ctx, s, f, at, &held);
}

static pq_status finish(pq_ctx *ctx, pq_choice *out, const search *s, const pq_graph *g,
                        const uint8_t *x)
{
    *out = (pq_choice){.n = s->s->units.n_ops,
                       .measured = s->measured,
                       .predicted = pq_problem_damage(&s->model->problem, x),
                       .ms = pq_problem_ms(&s->model->problem, x)};
    pq_status st = pq_alloc(ctx, &out->label, out->n, 1);
    if (st != PQ_OK) return st;
    pq_model_label(s->model, &s->s->units, x, out->label);
    count(out, g);
    return PQ_OK;
}

pq_status pq_select_by_drop(pq_ctx *ctx, pq_choice *out, pq_meter *m, const pq_graph *g,
                            const pq_scores *scores, const pq_model *model, double max_drop)
{
    search s = {.m = m, .s = scores, .model = model, .max_drop = max_drop};
    pq_front f = {.at = NULL};
    bool held = false;
    pq_status st;
    *out = (pq_choice){0};
    PQ_TRY(init_search(ctx, &s, scores->units.n_ops));
    PQ_TRY(pq_problem_front(ctx, &f, &model->problem));
    PQ_TRY(try_far(ctx, &s, &held));
    if (!held) PQ_TRY(ascend(ctx, &s, f.at[point_within(&f, max_drop)].ms));
    if (s.found) {
        PQ_TRY(try_faster(ctx, &s, &f));
    } else {
        PQ_TRY(search_front(ctx, &s, &f));
        PQ_TRY(ascend(ctx, &s, s.found ? pq_problem_ms(&model->problem, s.best) : INFINITY));
    }
    if (s.found) {
        PQ_TRY(give_back(ctx, &s));
    } else { /* the deadline came first: full precision, whose drop is none */
        s.measured = scores->base;
    }
    PQ_TRY(pq_progress(ctx, "select", s.n_tried, s.n_tried));
    PQ_TRY(finish(ctx, out, &s, g, s.best));
    out->within = holds(&out->measured, max_drop);
out:
    pq_front_clear(&f);
    clear_search(&s);
    if (st != PQ_OK) pq_choice_clear(out);
    return st;
}

pq_status pq_select_by_latency(pq_ctx *ctx, pq_choice *out, pq_meter *m, const pq_graph *g,
                               const pq_scores *scores, const pq_model *model, double max_ms,
                               pq_latency_fn latency, void *user)
{
    search s = {.m = m, .s = scores, .model = model, .max_drop = INFINITY};
    const size_t n = scores->units.n;
    double budget = max_ms, ms = 0, fits = 0, fails = INFINITY; /* budgets of the model */
    pq_status st;
    *out = (pq_choice){0};
    PQ_TRY(init_search(ctx, &s, scores->units.n_ops));
    for (int i = 0; i < 8 && !pq_meter_late(m); i++) {
        PQ_TRY(pq_problem_most_accurate(ctx, s.x, &s.found, &model->problem, budget));
        pq_model_label(model, &scores->units, s.x, s.label);
        PQ_TRY(latency(ctx, user, s.label, &ms));
        if (ms <= max_ms) {
            fits = budget;
            memcpy(s.best, s.x, n);
            if (isinf(fails)) break; /* what the model says holds at once */
        } else {
            fails = budget;
            if (!s.found) break; /* the fastest there is */
        }
        budget = fits > 0 ? (fits + fails) / 2 : budget * max_ms / ms;
    }
    if (!(fits > 0)) memcpy(s.best, s.x, n);
    pq_model_label(model, &scores->units, s.best, s.label);
    PQ_TRY(pq_meter_measure(ctx, &s.measured, m, s.label, INFINITY));
    PQ_TRY(finish(ctx, out, &s, g, s.best));
    out->within = fits > 0;
out:
    clear_search(&s);
    if (st != PQ_OK) pq_choice_clear(out);
    return st;
}

pq_status pq_measure_front(pq_ctx *ctx, pq_choice **out, size_t *n_out, pq_meter *m,
                           const pq_graph *g, const pq_scores *scores, const pq_model *model,
                           size_t n)
{
    search s = {.m = m, .s = scores, .model = model, .max_drop = INFINITY};
    pq_front f = {.at = NULL};
    pq_status st;
    *out = NULL;
    *n_out = 0;
    PQ_TRY(init_search(ctx, &s, scores->units.n_ops));
    PQ_TRY(pq_problem_front(ctx, &f, &model->problem));
    PQ_TRY(pq_alloc(ctx, out, n, sizeof **out));
    size_t last = f.n;
    for (size_t i = 0; i < n && !pq_meter_late(m); i++) {
        /* The point nearest to an even step of time between the fastest and the slowest. */
        const double fast = f.at[f.n - 1].ms, slow = f.at[0].ms;
        const double want = fast + (slow - fast) * (double)i / (double)(n > 1 ? n - 1 : 1);
        size_t at = f.n - 1;
        for (size_t k = 0; k < f.n; k++)
            if (fabs(f.at[k].ms - want) < fabs(f.at[at].ms - want)) at = k;
        if (at == last) continue;
        last = at;
        PQ_TRY(pq_progress(ctx, "front", i, n));
        pq_model_label(model, &scores->units, f.at[at].x, s.label);
        PQ_TRY(pq_meter_measure(ctx, &s.measured, m, s.label, INFINITY));
        PQ_TRY(finish(ctx, &(*out)[*n_out], &s, g, f.at[at].x));
        (*out)[(*n_out)++].within = true;
    }
    st = pq_progress(ctx, "front", n, n);
out:
    if (st != PQ_OK) {
        for (size_t i = 0; *out && i < *n_out; i++) pq_choice_clear(&(*out)[i]);
        pq_free(*out);
        *out = NULL;
        *n_out = 0;
    }
    pq_front_clear(&f);
    clear_search(&s);
    return st;
}
