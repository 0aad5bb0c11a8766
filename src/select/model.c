/* Sensitivities and times as one problem of optimisation. */
#include <pquant/select.h>

#include <math.h>

#include "base/mem.h"

/* A standard deviation behind a 95 % interval. */
static double deviation(double low, double high) { return (high - low) / 3.92; }

static double find_kappa(const pq_scores *s)
{
    double sum = 0;
    for (size_t u = 0; u < s->units.n; u++)
        if (!s->aside[u]) sum += s->unit[u].error * s->unit[u].error;
    const double drop = fmax(s->far.drop, (s->far.high - s->far.low) / 2);
    return sum > 0 ? drop / sum : 0;
}

/* What was measured is noisy, what was screened is of other units: each counts by what is known of
 * its error. A screened damage is taken to be right within half of itself. */
static double estimate(const pq_score *x, double kappa)
{
    if (x->aside) return x->damage;
    const double prior = kappa * x->error * x->error, sd_prior = 0.5 * prior + 5e-4;
    if (!x->measured) return prior;
    if (!x->screened) return fmax(0, x->damage);
    const double sd = fmax(deviation(x->low, x->high), 1e-4);
    const double a = 1 / (sd_prior * sd_prior), b = 1 / (sd * sd);
    return fmax(0, (a * prior + b * x->damage) / (a + b));
}

static void fill_damage(pq_model *m, const pq_scores *s, double half_drop)
{
    const int n = m->problem.n_labels;
    for (size_t u = 0; u < s->units.n; u++) {
        double *d = m->damage + u * (size_t)n;
        d[n - 1] = estimate(&s->unit[u], m->kappa);
        if (n == PQ_LABELS) d[PQ_LABEL_HALF] = fmax(0, half_drop) / (double)s->units.n;
    }
}

/* Far more than any plan loses, yet finite. */
static const double forbidden = 1e6;

pq_status pq_model_make(pq_ctx *ctx, pq_model *out, const pq_scores *s, const pq_latency *latency,
                        double half_drop)
{
    const size_t n_units = s->units.n, n_labels = latency ? (size_t)latency->n_labels : 2;
    pq_model m = {.kappa = find_kappa(s)};
    pq_status st;
    *out = m;
    m.problem = (pq_problem){.n_units = n_units, .n_labels = (int)n_labels};
    PQ_TRY(pq_alloc(ctx, &m.damage, n_units * n_labels, sizeof *m.damage));
    fill_damage(&m, s, half_drop);
    for (size_t u = 0; u < n_units; u++)
        if (s->units.fixed[u]) m.damage[(u + 1) * n_labels - 1] = forbidden;
    m.problem.damage = m.damage;
    if (latency) {
        PQ_TRY(pq_problem_set_times(ctx, &m.problem, &m.boundary, latency));
    } else {
        PQ_TRY(pq_alloc(ctx, &m.ms, n_units * n_labels, sizeof *m.ms));
        for (size_t u = 0; u < n_units; u++) m.ms[u * n_labels] = s->unit[u].mac_share;
        m.problem.ms = m.ms;
    }
    *out = m;
    m = (pq_model){0};
out:
    pq_model_clear(&m);
    return st;
}

void pq_model_clear(pq_model *m)
{
    pq_free(m->damage);
    pq_free(m->ms);
    pq_free(m->boundary);
    *m = (pq_model){0};
}

void pq_model_label(const pq_model *m, const pq_units *u, const uint8_t *x, uint8_t *label)
{
    for (size_t k = 0; k < u->n_ops; k++) {
        const uint8_t v = x[u->of[k]];
        label[k] = v == m->problem.n_labels - 1 ? PQ_LABEL_INT8 : v;
    }
}
