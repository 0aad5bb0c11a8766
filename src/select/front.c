/* Many weights: the front, and the best assignment within a budget. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "select/solver.h"

void pq_front_clear(pq_front *f)
{
    for (size_t i = 0; i < f->n; i++) pq_free(f->at[i].x);
    pq_free(f->at);
    *f = (pq_front){.at = NULL};
}

static pq_status add_point(pq_ctx *ctx, pq_front *f, const pq_problem *p, const uint8_t *x,
                           bool hull)
{
    pq_status st;
    if (f->n == f->room) {
        const size_t room = f->room ? 2 * f->room : 64;
        if ((st = pq_grow(ctx, &f->at, f->n, room, sizeof *f->at)) != PQ_OK) return st;
        f->room = room;
    }
    struct pq_front_point *q = &f->at[f->n];
    if ((st = pq_alloc(ctx, &q->x, p->n_units, 1)) != PQ_OK) return st;
    memcpy(q->x, x, p->n_units);
    q->damage = pq_problem_damage(p, x);
    q->ms = pq_problem_ms(p, x);
    q->hull = hull;
    f->n++;
    return PQ_OK;
}

/* Slowest first; of equals the most accurate first, and hull points before others. */
static int slowest_first(const void *a, const void *b)
{
    const struct pq_front_point *x = a, *y = b;
    if (x->ms != y->ms) return x->ms < y->ms ? 1 : -1;
    if (x->damage != y->damage) return x->damage < y->damage ? -1 : 1;
    return (int)y->hull - (int)x->hull;
}

/* Remove what is beaten: from the fastest on, only what is more accurate than all before stays. */
static void keep_unbeaten(pq_front *f)
{
    double least = INFINITY;
    size_t n = f->n;
    qsort(f->at, f->n, sizeof *f->at, slowest_first);
    for (size_t i = f->n; i-- > 0;) {
        /* Of points of one time only the first, the most accurate, counts. */
        const bool tie = i > 0 && f->at[i - 1].ms == f->at[i].ms;
        if (!tie && f->at[i].damage < least) {
            least = f->at[i].damage;
            const struct pq_front_point keep = f->at[i];
            f->at[i] = f->at[--n];
            f->at[n] = keep;
        }
    }
    for (size_t i = 0; i < n; i++) pq_free(f->at[i].x);
    memmove(f->at, f->at + n, (f->n - n) * sizeof *f->at);
    f->n -= n;
    qsort(f->at, f->n, sizeof *f->at, slowest_first);
}

/* Hull points between the accurate point `from` and the fast point `to`: the weight at which both
 * are equal either gives a better one or shows that there is none. */
static pq_status between(pq_ctx *ctx, pq_front *f, pq_solver *s, size_t from, size_t to)
{
    const pq_problem *p = s->p;
    const double faster = f->at[from].ms - f->at[to].ms,
                 worse = f->at[to].damage - f->at[from].damage;
    if (!(faster > 0) || !(worse > 0)) return PQ_OK;
    const double w = worse / faster, both = f->at[from].damage + w * f->at[from].ms;
    uint8_t *x;
    pq_status st = pq_alloc(ctx, &x, p->n_units, 1);
    if (st == PQ_OK) st = pq_solver_minimum(ctx, x, s, w);
    if (st == PQ_OK &&
        pq_problem_damage(p, x) + w * pq_problem_ms(p, x) < both - 1e-9 * (1e-6 + fabs(both))) {
        st = add_point(ctx, f, p, x, true);
        const size_t middle = f->n - 1;
        if (st == PQ_OK) st = between(ctx, f, s, from, middle);
        if (st == PQ_OK) st = between(ctx, f, s, middle, to);
    }
    pq_free(x);
    return st;
}

static pq_status hull(pq_ctx *ctx, pq_front *f, pq_solver *s)
{
    const pq_problem *p = s->p;
    uint8_t *x = NULL;
    double most = 0;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &x, p->n_units, 1));
    /* Weights so small or so large that the other term only breaks ties. */
    for (size_t i = 0; i < p->n_units * (size_t)p->n_labels; i++)
        most = fmax(most, fmax(fabs(p->damage[i]), fabs(p->ms[i])));
    const double large = 1e6 * (1 + most);
    PQ_TRY(pq_solver_minimum(ctx, x, s, 1 / large));
    PQ_TRY(add_point(ctx, f, p, x, true));
    PQ_TRY(pq_solver_minimum(ctx, x, s, large));
    PQ_TRY(add_point(ctx, f, p, x, true));
    st = between(ctx, f, s, 0, 1);
out:
    pq_free(x);
    return st;
}

/* From one hull point to the next, one unit at a time, each time the one that saves most time for
 * its damage: the assignments on the way. */
static pq_status walk(pq_ctx *ctx, pq_front *f, const pq_problem *p, const uint8_t *from,
                      const uint8_t *to)
{
    uint8_t *x = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &x, p->n_units, 1));
    memcpy(x, from, p->n_units);
    for (;;) {
        const double damage = pq_problem_damage(p, x), ms = pq_problem_ms(p, x);
        size_t best = p->n_units;
        double best_slope = INFINITY;
        for (size_t u = 0; u < p->n_units; u++) {
            if (x[u] == to[u]) continue;
            const uint8_t old = x[u];
            x[u] = to[u];
            const double d = pq_problem_damage(p, x) - damage, t = ms - pq_problem_ms(p, x);
            x[u] = old;
            /* What costs neither comes first, what saves nothing last. */
            const double slope = t > 0 ? d / t : d <= 0 ? -1e300 : 1e300;
            if (slope < best_slope || best == p->n_units) {
                best_slope = slope;
                best = u;
            }
        }
        if (best == p->n_units) break;
        x[best] = to[best];
        PQ_TRY(add_point(ctx, f, p, x, false));
    }
out:
    pq_free(x);
    return st;
}

static pq_status make_front(pq_ctx *ctx, pq_front *f, pq_solver *s)
{
    pq_status st;
    *f = (pq_front){.at = NULL};
    PQ_TRY(hull(ctx, f, s));
    keep_unbeaten(f);
    const size_t n = f->n;
    for (size_t i = 0; i + 1 < n; i++) {
        PQ_TRY(walk(ctx, f, s->p, f->at[i].x, f->at[i + 1].x));
        PQ_TRY(walk(ctx, f, s->p, f->at[i + 1].x, f->at[i].x));
    }
    keep_unbeaten(f);
out:
    if (st != PQ_OK) pq_front_clear(f);
    return st;
}

pq_status pq_problem_front(pq_ctx *ctx, pq_front *out, const pq_problem *p)
{
    pq_solver s;
    *out = (pq_front){.at = NULL};
    pq_status st = pq_solver_init(ctx, &s, p);
    if (st == PQ_OK) st = make_front(ctx, out, &s);
    pq_solver_clear(&s);
    return st;
}

/* ---- budgets: `cost` is limited, `value` is to be small ---- */

typedef double (*measure_fn)(const pq_problem *p, const uint8_t *x);
typedef struct budget {
    const pq_problem *p;
    measure_fn cost, value;
    double most;
} budget;

static bool improves(const budget *b, const uint8_t *x, double *best)
{
    const double v = b->value(b->p, x);
    if (v >= *best - 1e-12 * (1 + fabs(*best)) || b->cost(b->p, x) > b->most) return false;
    *best = v;
    return true;
}

static bool change_one(const budget *b, uint8_t *x, double *best)
{
    bool any = false;
    for (size_t u = 0; u < b->p->n_units; u++)
        for (int label = 0; label < b->p->n_labels; label++) {
            const uint8_t old = x[u];
            x[u] = (uint8_t)label;
            if (improves(b, x, best))
                any = true;
            else
                x[u] = old;
        }
    return any;
}

static bool change_two(const budget *b, uint8_t *x, double *best)
{
    const int n = b->p->n_labels;
    bool any = false;
    for (size_t u = 0; u < b->p->n_units; u++)
        for (size_t v = u + 1; v < b->p->n_units; v++)
            for (int k = 0; k < n * n; k++) {
                const uint8_t old_u = x[u], old_v = x[v];
                x[u] = (uint8_t)(k / n);
                x[v] = (uint8_t)(k % n);
                if (x[u] != old_u && x[v] != old_v && improves(b, x, best)) {
                    any = true;
                } else {
                    x[u] = old_u;
                    x[v] = old_v;
                }
            }
    return any;
}

static pq_status within(pq_ctx *ctx, uint8_t *x, bool *found, const budget *b)
{
    pq_front f = {.at = NULL};
    pq_status st = pq_problem_front(ctx, &f, b->p);
    if (st != PQ_OK) return st;
    const struct pq_front_point *best = NULL, *least = &f.at[0];
    for (size_t i = 0; i < f.n; i++) {
        const struct pq_front_point *q = &f.at[i];
        if (b->cost(b->p, q->x) < b->cost(b->p, least->x)) least = q;
        if (b->cost(b->p, q->x) <= b->most &&
            (!best || b->value(b->p, q->x) < b->value(b->p, best->x)))
            best = q;
    }
    *found = best != NULL;
    memcpy(x, best ? best->x : least->x, b->p->n_units);
    double value = b->value(b->p, x);
    while (best && (change_one(b, x, &value) || change_two(b, x, &value))) {
    }
    pq_front_clear(&f);
    return PQ_OK;
}

pq_status pq_problem_fastest(pq_ctx *ctx, uint8_t *x, bool *found, const pq_problem *p, double most)
{
    const budget b = {p, pq_problem_damage, pq_problem_ms, most};
    return within(ctx, x, found, &b);
}

pq_status pq_problem_most_accurate(pq_ctx *ctx, uint8_t *x, bool *found, const pq_problem *p,
                                   double most)
{
    const budget b = {p, pq_problem_ms, pq_problem_damage, most};
    return within(ctx, x, found, &b);
}
