/* From the model's front to a plan that was measured to hold. */
#include <pquant/select.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sensitivity/meter.h"

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
    bool found, cut;      /* cut: late said no to more */
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

/* Has the deadline come? Asked only where there is more to try. */
static bool late(search *s)
{
    s->cut = s->cut || pq_meter_late(s->m);
    return s->cut;
}

/* Measure s->x, as far as it could lose less than that. */
static pq_status measure_x(pq_ctx *ctx, search *s, double give_up, pq_measured *d)
{
    pq_status st = pq_progress(ctx, "select", s->n_tried, s->n_tried + 1);
    if (st != PQ_OK) return st;
    pq_model_label(s->model, &s->s->units, s->x, s->label);
    st = pq_meter_measure(ctx, d, s->m, s->label, give_up);
    if (st != PQ_OK) return st;
    s->n_tried++;
    if (!holds(d, s->max_drop)) return PQ_OK;
    memcpy(s->best, s->x, s->s->units.n);
    s->measured = *d;
    s->found = true;
    return PQ_OK;
}

static pq_status try_x(pq_ctx *ctx, search *s, bool *held)
{
    pq_measured d;
    const pq_status st = measure_x(ctx, s, s->max_drop, &d);
    *held = st == PQ_OK && holds(&d, s->max_drop);
    return st;
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
        for (low = at, high = f->n; low + 1 < high && !late(s); step *= 2) {
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
            last = late(s);
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
    while (s->found && low + 1 < high && !late(s)) {
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
        for (size_t i = 0; i < n && failed < MOST_FAILED && !late(s); i++) {
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

/* How much each of n helps alone at the far end, which s->x is, by AP; those that help most for
 * their time come first. It ends at the first that is enough (*held), and where half of the time
 * that is left is over, or where, behind the first 24, it took as long as all that was measured
 * before. Which come first is a matter of measured times: with few, chance decides. */
static pq_status rank_helpers(pq_ctx *ctx, search *s, change *list, size_t n, double ms, bool *held)
{
    enum { LEAST_TRIED = 24 };
    const pq_problem *p = &s->model->problem;
    const double drop = s->s->far.drop, far_ms = pq_problem_ms(p, s->x);
    const double end = pq_meter_set_deadline(s->m, 0), spent = s->m->seconds;
    size_t done = 0;
    pq_status st = PQ_OK;
    *held = false;
    if (end > 0) (void)pq_meter_set_deadline(s->m, (pq_meter_now() + end) / 2);
    for (size_t i = 0; i < n && !*held && !pq_meter_late(s->m); i++) {
        pq_measured d = {0};
        const uint8_t old = s->x[list[i].unit];
        if (i >= LEAST_TRIED && s->m->seconds > 2 * spent) break;
        s->x[list[i].unit] = PQ_LABEL_FULL;
        const double more = pq_problem_ms(p, s->x) - far_ms;
        if (far_ms + more < ms) PQ_TRY(measure_x(ctx, s, fmax(drop, s->max_drop), &d));
        s->x[list[i].unit] = old;
        *held = holds(&d, s->max_drop);
        list[i].worth = d.whole ? fmin(0, d.drop - drop) / (fmax(more, 0) + 0.01 * far_ms) : 0;
        done = i + 1;
    }
    qsort(list, done, sizeof *list, least_first);
out:
    (void)pq_meter_set_deadline(s->m, end);
    return st;
}

/* Take units of the list out of INT8, each where that was measured to close that share of what is
 * missing, up to plans as slow as `ms`. *drop: of s->x, before and after. */
static pq_status climb(pq_ctx *ctx, search *s, const change *list, size_t n, double share,
                       double ms, double *drop)
{
    enum { MOST_FAILED = 12 };
    int failed = 0;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < n && failed < MOST_FAILED && s->max_drop < *drop && !late(s); i++) {
        pq_measured d = {0};
        const uint8_t old = s->x[list[i].unit];
        const double enough = *drop - share * (*drop - s->max_drop);
        if (old == PQ_LABEL_FULL) continue;
        s->x[list[i].unit] = PQ_LABEL_FULL;
        failed++;
        if (pq_problem_ms(&s->model->problem, s->x) < ms)
            PQ_TRY(measure_x(ctx, s, fmax(enough, s->max_drop), &d));
        if (d.whole && d.drop < enough) {
            *drop = d.drop;
            failed = 0;
        } else {
            s->x[list[i].unit] = old;
        }
    }
out:
    return st;
}

/* From the far end on, a unit stays in full precision where that was measured to help. Damage does
 * not add up, and a few units that were measured together do better than the many that the sum asks
 * for. Units that help much come first: every unit helps or harms a little by chance, and a plan
 * made of small gains keeps many. It ends where the plan holds, where many in turn did not help,
 * and at plans as slow as `ms`. */
static pq_status ascend(pq_ctx *ctx, search *s, double ms)
{
    enum { MOST_TRIED = 48 };
    const pq_problem *p = &s->model->problem;
    change *list = NULL;
    double drop = s->s->far.drop;
    bool held = false;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &list, p->n_units, sizeof *list));
    set_far(s);
    size_t n = list_helpers(s, list);
    if (drop > s->max_drop) PQ_TRY(rank_helpers(ctx, s, list, n, ms, &held));
    if (held) goto out;
    if (n > MOST_TRIED) n = MOST_TRIED;
    PQ_TRY(climb(ctx, s, list, n, 0.25, ms, &drop));
    st = climb(ctx, s, list, n, 0, ms, &drop);
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
                       .cut = s->cut,
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
    for (int i = 0; i < 8 && !late(&s); i++) {
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
    if (n > f.n) n = f.n;
    PQ_TRY(pq_alloc(ctx, out, n, sizeof **out));
    size_t last = f.n;
    for (size_t i = 0; i < n && !pq_meter_late(m); i++) {
        /* The point nearest to an even step of time between the fastest and the slowest. */
        const double fast = f.at[f.n - 1].ms, slow = f.at[0].ms;
        const double want = fast + (slow - fast) * (double)i / (double)(n > 1 ? n - 1 : 1);
        size_t at = f.n - 1;
        for (size_t k = 0; k < f.n; k++)
            if (fabs(f.at[k].ms - want) < fabs(f.at[at].ms - want)) at = k;
        if (at >= last) at = last - 1;      /* taken: the next slower one, */
        if (at < n - 1 - i) at = n - 1 - i; /* but one is left for each that follows */
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
