/* One weight: minimum cuts and single changes. */
#include <math.h>
#include <string.h>

#include "select/mincut.h"
#include "select/solver.h"

static double unary(const double *v, const pq_problem *p, size_t u, int label)
{
    return v[u * (size_t)p->n_labels + (size_t)label];
}

double pq_problem_damage(const pq_problem *p, const uint8_t *x)
{
    const int int8 = p->n_labels - 1;
    double sum = 0;
    for (size_t u = 0; u < p->n_units; u++) sum += unary(p->damage, p, u, x[u]);
    for (size_t i = 0; i < p->n_pairs; i++)
        if (x[p->pair[i].a] == int8 && x[p->pair[i].b] == int8) sum += p->pair[i].damage;
    return sum;
}

double pq_problem_ms(const pq_problem *p, const uint8_t *x)
{
    double sum = p->ms_fixed;
    for (size_t u = 0; u < p->n_units; u++) sum += unary(p->ms, p, u, x[u]);
    for (size_t i = 0; i < p->n_boundaries; i++)
        if (x[p->boundary[i].a] != x[p->boundary[i].b]) sum += p->boundary[i].ms;
    return sum;
}

static pq_status check(pq_ctx *ctx, const pq_problem *p)
{
    if (p->n_labels < 2 || p->n_labels > 4)
        return pq_fail(ctx, PQ_E_INVALID, "%d labels: expected 2 .. 4", p->n_labels);
    for (size_t i = 0; i < p->n_units * (size_t)p->n_labels; i++)
        if (!isfinite(p->damage[i]) || !isfinite(p->ms[i]))
            return pq_fail(ctx, PQ_E_INVALID, "unit %zu: damage %g, %g ms: expected finite numbers",
                           i / (size_t)p->n_labels, p->damage[i], p->ms[i]);
    for (size_t i = 0; i < p->n_boundaries; i++) {
        const pq_boundary *b = &p->boundary[i];
        if (b->a >= p->n_units || b->b >= p->n_units || b->a == b->b || !isfinite(b->ms) ||
            b->ms < 0)
            return pq_fail(ctx, PQ_E_INVALID,
                           "boundary %zu: units %zu and %zu, %g ms: expected two units below %zu "
                           "and a time of at least 0",
                           i, b->a, b->b, b->ms, p->n_units);
    }
    for (size_t i = 0; i < p->n_pairs; i++) {
        const pq_pair *b = &p->pair[i];
        if (b->a >= p->n_units || b->b >= p->n_units || b->a == b->b || !isfinite(b->damage))
            return pq_fail(ctx, PQ_E_INVALID,
                           "pair %zu: units %zu and %zu, damage %g: expected two units below %zu "
                           "and a finite damage",
                           i, b->a, b->b, b->damage, p->n_units);
    }
    return PQ_OK;
}

/* Boundaries and pairs of the same two units are one term: together they may be fit for a cut where
 * the pair alone is not. */
static pq_status collect_terms(pq_ctx *ctx, pq_solver *s)
{
    const pq_problem *p = s->p;
    pq_status st = pq_alloc(ctx, &s->term, p->n_boundaries + p->n_pairs, sizeof *s->term);
    for (size_t i = 0; st == PQ_OK && i < p->n_boundaries + p->n_pairs; i++) {
        const bool pair = i >= p->n_boundaries;
        const size_t k = pair ? i - p->n_boundaries : i;
        const size_t a = pair ? p->pair[k].a : p->boundary[k].a,
                     b = pair ? p->pair[k].b : p->boundary[k].b;
        pq_term *t = s->term;
        while (t < s->term + s->n_terms && !(t->a == a && t->b == b) && !(t->a == b && t->b == a))
            t++;
        if (t == s->term + s->n_terms) {
            *t = (pq_term){.a = a, .b = b};
            s->n_terms++;
        }
        if (pair)
            t->damage += p->pair[k].damage;
        else
            t->ms += p->boundary[k].ms;
    }
    return st;
}

pq_status pq_solver_init(pq_ctx *ctx, pq_solver *s, const pq_problem *p)
{
    pq_status st;
    *s = (pq_solver){.p = p};
    PQ_TRY(check(ctx, p));
    PQ_TRY(collect_terms(ctx, s));
    PQ_TRY(pq_alloc(ctx, &s->trial, p->n_units, 1));
    PQ_TRY(pq_alloc(ctx, &s->move, p->n_units, 1));
out:
    if (st != PQ_OK) pq_solver_clear(s);
    return st;
}

void pq_solver_clear(pq_solver *s)
{
    pq_free(s->term);
    pq_free(s->trial);
    pq_free(s->move);
    *s = (pq_solver){.p = NULL};
}

static double energy(const pq_problem *p, double w, const uint8_t *x)
{
    return pq_problem_damage(p, x) + w * pq_problem_ms(p, x);
}

/* damage + w ms of term t for the labels la and lb. */
static double term_cost(const pq_solver *s, const pq_term *t, double w, int la, int lb)
{
    const int int8 = s->p->n_labels - 1;
    return (la != lb ? w * t->ms : 0) + (la == int8 && lb == int8 ? t->damage : 0);
}

/* Into s->trial: every unit of x keeps its label or takes `label`, the best of all these choices at
 * once. A term whose mixed choices cost less than its pure ones cannot be cut and counts by its
 * unary part alone. */
static pq_status expand(pq_ctx *ctx, pq_solver *s, double w, int label, const uint8_t *x)
{
    const pq_problem *p = s->p;
    pq_cut *c;
    pq_status st = pq_cut_new(ctx, &c, p->n_units, s->n_terms);
    if (st != PQ_OK) return st;
    for (size_t u = 0; u < p->n_units; u++)
        pq_cut_node(c, u,
                    unary(p->damage, p, u, label) - unary(p->damage, p, u, x[u]) +
                        w * (unary(p->ms, p, u, label) - unary(p->ms, p, u, x[u])));
    for (size_t i = 0; i < s->n_terms; i++) {
        /* cost(a, b) = A + a (C - A) + b (D - C) + (1 - a) b (B + C - A - D): Kolmogorov and Zabih
         * 2004, "What energy functions can be minimized via graph cuts?" */
        const pq_term *t = &s->term[i];
        const double A = term_cost(s, t, w, x[t->a], x[t->b]),
                     B = term_cost(s, t, w, x[t->a], label), C = term_cost(s, t, w, label, x[t->b]),
                     D = term_cost(s, t, w, label, label);
        pq_cut_node(c, t->a, C - A);
        pq_cut_node(c, t->b, D - C);
        pq_cut_edge(c, t->a, t->b, B + C - A - D);
    }
    pq_cut_solve(c, s->move);
    for (size_t u = 0; u < p->n_units; u++) s->trial[u] = s->move[u] ? (uint8_t)label : x[u];
    pq_cut_free(c);
    return PQ_OK;
}

/* Single changes while one helps. */
static void descend(pq_solver *s, double w, uint8_t *x)
{
    const pq_problem *p = s->p;
    double best = energy(p, w, x);
    for (bool again = true; again;) {
        again = false;
        for (size_t u = 0; u < p->n_units; u++)
            for (int label = 0; label < p->n_labels; label++) {
                const uint8_t old = x[u];
                x[u] = (uint8_t)label;
                const double e = energy(p, w, x);
                if (e < best - 1e-12 * (1 + fabs(best))) {
                    best = e;
                    again = true;
                } else
                    x[u] = old;
            }
    }
}

pq_status pq_solver_minimum(pq_ctx *ctx, uint8_t *x, pq_solver *s, double w)
{
    const pq_problem *p = s->p;
    pq_status st = PQ_OK;
    memset(x, 0, p->n_units);
    double best = energy(p, w, x);
    for (bool again = true; again;) {
        again = false;
        for (int label = p->n_labels; label-- > 0;) {
            PQ_TRY(expand(ctx, s, w, label, x));
            const double e = energy(p, w, s->trial);
            if (e >= best - 1e-12 * (1 + fabs(best))) continue;
            memcpy(x, s->trial, p->n_units);
            best = e;
            again = true;
        }
    }
    descend(s, w, x);
out:
    return st;
}

pq_status pq_problem_minimum(pq_ctx *ctx, uint8_t *x, const pq_problem *p, double weight)
{
    pq_solver s;
    pq_status st = pq_solver_init(ctx, &s, p);
    if (st == PQ_OK) st = pq_solver_minimum(ctx, x, &s, weight);
    pq_solver_clear(&s);
    return st;
}
