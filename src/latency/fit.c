/* Observations from the journal, a prior from the layers, ridge regression, and how good it is. */
#include "latency/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "latency/design.h"
#include "latency/ridge.h"

enum { LEAST_HELD_OUT = 10 };

typedef struct fit {
    const pq_terms *t;
    const pq_lat_journal *j;
    size_t n, p;          /* observations, parameters */
    uint8_t *full, *int8; /* [n_units] */
    uint8_t *x;           /* [room, n_units] */
    double *y, *sd;       /* ms against the fullest plan, and its noise */
    size_t *times;        /* how often it was timed */
    int *fold;
    double *row, *prior, *spread, *theta, *held, *base; /* base: of units at the fullest labels */
    double full_ms, noise;
    bool by_layer; /* the prior knows the layers' own times */
} fit;

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts v; n > 0. */
static double at_part(double *v, size_t n, double part)
{
    qsort(v, n, sizeof *v, ascending);
    const size_t place = (size_t)ceil(part * (double)n - 1e-9);
    return v[place > 0 ? place - 1 : 0];
}

/* ---- observations ---- */

/* Labels of operators to labels of units; false where operators of a unit differ. */
static bool to_units(const pq_terms *t, const uint8_t *full, const uint8_t *label, uint8_t *x)
{
    memcpy(x, full, t->n_units);
    for (size_t k = 0; k < t->n_ops; k++) x[t->unit[k]] = label[k];
    for (size_t k = 0; k < t->n_ops; k++)
        if (x[t->unit[k]] != label[k]) return false;
    return true;
}

static size_t find_observation(const fit *f, const uint8_t *x)
{
    size_t i = 0;
    while (i < f->n && memcmp(f->x + i * f->t->n_units, x, f->t->n_units) != 0) i++;
    return i;
}

/* Repeated times of a plan are one observation, their mean. The ends are never held out. */
static void observe(fit *f, const pq_lat_entry *e)
{
    const size_t n = f->t->n_units;
    uint8_t *x = f->x + f->n * n;
    if (e->layers || !to_units(f->t, f->full, e->label, x) || memcmp(x, f->full, n) == 0) return;
    const size_t i = find_observation(f, x);
    if (i == f->n) {
        bool end = true;
        for (size_t u = 0; u < n; u++) end = end && x[u] == pq_terms_label(f->t, u, x[0]);
        f->fold[i] = end ? -1 : (int)(i % PQ_RIDGE_FOLDS);
        f->n++;
    }
    f->y[i] += f->full_ms * (e->ms / e->full_ms - 1);
    f->times[i]++;
}

static pq_status find_full_ms(pq_ctx *ctx, fit *f)
{
    double *v = NULL;
    size_t n = 0;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &v, f->j->n, sizeof *v));
    for (size_t i = 0; i < f->j->n; i++)
        if (!f->j->entry[i].layers) v[n++] = f->j->entry[i].full_ms;
    PQ_ASSERT(ctx, n > 0);
    f->full_ms = at_part(v, n, 0.5);
out:
    pq_free(v);
    return st;
}

/* Median distance of the all-INT8 plan's times from their median, as of a normal distribution. */
static pq_status find_noise(pq_ctx *ctx, fit *f)
{
    double *v = NULL;
    size_t n = 0;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &v, f->j->n, sizeof *v));
    for (size_t i = 0; i < f->j->n; i++) {
        const pq_lat_entry *e = &f->j->entry[i];
        uint8_t *x = f->x + f->n * f->t->n_units;
        if (!e->layers && to_units(f->t, f->full, e->label, x) &&
            memcmp(x, f->int8, f->t->n_units) == 0)
            v[n++] = e->ms / e->full_ms;
    }
    if (n < 3) goto out;
    const double middle = at_part(v, n, 0.5);
    for (size_t i = 0; i < n; i++) v[i] = fabs(v[i] / middle - 1);
    f->noise = 1.4826 * at_part(v, n, 0.5);
out:
    pq_free(v);
    return st;
}

static pq_status collect(pq_ctx *ctx, fit *f)
{
    const size_t room = f->j->n + 1, n_units = f->t->n_units;
    pq_status st;
    PQ_TRY(find_full_ms(ctx, f));
    PQ_TRY(pq_alloc(ctx, &f->full, n_units, 1));
    PQ_TRY(pq_alloc(ctx, &f->int8, n_units, 1));
    pq_design_uniform(f->t, 0, f->full);
    pq_design_uniform(f->t, (uint8_t)(f->t->n_labels - 1), f->int8);
    PQ_TRY(pq_alloc(ctx, &f->x, room, n_units));
    PQ_TRY(pq_alloc(ctx, &f->y, room, sizeof *f->y));
    PQ_TRY(pq_alloc(ctx, &f->sd, room, sizeof *f->sd));
    PQ_TRY(pq_alloc(ctx, &f->times, room, sizeof *f->times));
    PQ_TRY(pq_alloc(ctx, &f->fold, room, sizeof *f->fold));
    PQ_TRY(pq_alloc(ctx, &f->held, room, sizeof *f->held));
    for (size_t i = 0; i < f->j->n; i++) observe(f, &f->j->entry[i]);
    PQ_TRY(find_noise(ctx, f));
    for (size_t i = 0; i < f->n; i++) {
        f->y[i] /= (double)f->times[i];
        f->sd[i] = fmax(f->noise, 0.002) * f->full_ms;
    }
    f->p = pq_terms_n_params(f->t);
    PQ_TRY(pq_alloc(ctx, &f->row, f->n, f->p * sizeof *f->row));
    for (size_t i = 0; i < f->n; i++)
        pq_terms_row(f->t, f->x + i * n_units, f->full, f->row + i * f->p);
out:
    return st;
}

/* ---- prior ---- */

static void add_units(const pq_terms *t, double *to, const double *layers, double sign)
{
    for (size_t k = 0; k < t->n_ops; k++) to[t->unit[k]] += sign * layers[k];
}

/* Times by operator of all units at `label`; NULL where there are none, or most of their time found
 * no operator. */
static const double *layers_at(const fit *f, uint8_t label, uint8_t *x, uint8_t *ops)
{
    pq_design_uniform(f->t, label, x);
    pq_design_spread(f->t, x, ops);
    const pq_lat_entry *e = pq_lat_journal_find(f->j, ops, true);
    return e && e->part >= 0.5 ? e->layers : NULL;
}

/* Without times by layer: the whole network's difference, by arithmetic, an operator without any
 * counting as an average one's tenth. */
static void prior_by_macs(fit *f, double *unit, const uint8_t *x)
{
    const pq_terms *t = f->t;
    const size_t i = find_observation(f, x);
    double all = 0;
    for (size_t u = 0; u < t->n_units; u++) all += t->macs[u];
    const double least = all > 0 ? 0.1 * all / (double)t->n_units : 1;
    all += least * (double)t->n_units;
    for (size_t u = 0; i < f->n && u < t->n_units; u++)
        unit[u] = f->y[i] * (t->macs[u] + least) / all;
}

static pq_status set_prior(pq_ctx *ctx, fit *f)
{
    const pq_terms *t = f->t;
    const double each = f->full_ms / (double)(t->n_units ? t->n_units : 1);
    double *unit = NULL, mb = 0;
    uint8_t *ops = NULL, *x = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &f->prior, f->p, sizeof *f->prior));
    PQ_TRY(pq_alloc(ctx, &f->spread, f->p, sizeof *f->spread));
    PQ_TRY(pq_alloc(ctx, &f->theta, f->p, sizeof *f->theta));
    PQ_TRY(pq_alloc(ctx, &f->base, t->n_units, sizeof *f->base));
    PQ_TRY(pq_alloc(ctx, &unit, t->n_units, sizeof *unit));
    PQ_TRY(pq_alloc(ctx, &ops, t->n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &x, t->n_units, 1));
    const double *fullest = layers_at(f, 0, x, ops);
    if (fullest) add_units(t, f->base, fullest, 1);
    f->by_layer = fullest != NULL;
    for (int l = 1; l < t->n_labels; l++) {
        const double *layers = layers_at(f, (uint8_t)l, x, ops);
        memset(unit, 0, t->n_units * sizeof *unit);
        if (layers && fullest) {
            add_units(t, unit, layers, 1);
            add_units(t, unit, fullest, -1);
        } else
            prior_by_macs(f, unit, x);
        f->by_layer = f->by_layer && layers;
        for (size_t u = 0; u < t->n_units; u++) {
            const size_t k = pq_terms_param(t, u, l);
            f->prior[k] = x[u] == l ? unit[u] : 0;
            f->spread[k] = 0.5 * fabs(f->prior[k]) + 0.1 * each;
        }
    }
    for (size_t i = 0; i < t->n_edges; i++) mb += t->edge[i].mb;
    f->spread[f->p - 2] = 0.2 * each;
    f->spread[f->p - 1] = mb > 0 ? 0.2 * f->full_ms / mb : 1;
out:
    pq_free(unit);
    pq_free(ops);
    pq_free(x);
    return st;
}

/* ---- quality ---- */

static double predict(const fit *f, size_t i, const double *theta)
{
    double sum = 0;
    for (size_t k = 0; k < f->p; k++) sum += f->row[i * f->p + k] * theta[k];
    return sum;
}

static pq_status rate(pq_ctx *ctx, pq_latency_fit *q, const fit *f)
{
    double *error = NULL, *prior = NULL, mean = 0, around = 0, off = 0;
    size_t n = 0;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &error, f->n, sizeof *error));
    PQ_TRY(pq_alloc(ctx, &prior, f->n, sizeof *prior));
    for (size_t i = 0; i < f->n; i++) {
        const double ms = f->full_ms + f->y[i];
        if (f->fold[i] < 0) continue;
        prior[n] = fabs(predict(f, i, f->prior) - f->y[i]) / ms;
        error[n++] = fabs(f->held[i] - f->y[i]) / ms;
        mean += f->y[i];
    }
    q->n_plans = n;
    if (n < LEAST_HELD_OUT) goto out;
    mean /= (double)n;
    for (size_t i = 0; i < f->n; i++) {
        if (f->fold[i] < 0) continue;
        around += (f->y[i] - mean) * (f->y[i] - mean);
        off += (f->held[i] - f->y[i]) * (f->held[i] - f->y[i]);
    }
    q->r2 = around > 0 ? 1 - off / around : 0;
    q->error95 = at_part(error, n, 0.95);
    q->error = at_part(error, n, 0.5);
    q->prior_error = at_part(prior, n, 0.5);
out:
    pq_free(error);
    pq_free(prior);
    return st;
}

/* ---- the model ---- */

static pq_status fill(pq_ctx *ctx, pq_latency *l, const fit *f)
{
    const pq_terms *t = f->t;
    const size_t n_labels = (size_t)t->n_labels, i8 = find_observation(f, f->int8);
    pq_status st;
    l->n_units = t->n_units;
    l->n_labels = t->n_labels;
    l->ms_fixed = f->full_ms;
    l->fit.full_ms = f->full_ms;
    l->fit.int8_ms = f->full_ms + (i8 < f->n ? f->y[i8] : 0);
    l->fit.noise = f->noise;
    l->fit.alpha_ms = f->theta[f->p - 2];
    l->fit.beta_ms_per_mb = f->theta[f->p - 1];
    for (size_t i = 0; i < f->j->n; i++) l->fit.seconds += f->j->entry[i].seconds;
    PQ_TRY(pq_alloc(ctx, &l->ms, t->n_units, n_labels * sizeof *l->ms));
    PQ_TRY(pq_alloc(ctx, &l->edge, t->n_edges, sizeof *l->edge));
    for (size_t u = 0; u < t->n_units; u++) {
        const double at_full = f->full[u] ? f->theta[pq_terms_param(t, u, f->full[u])] : 0;
        for (int k = 0; k < t->n_labels; k++)
            l->ms[u * n_labels + (size_t)k] =
                f->base[u] + (k ? f->theta[pq_terms_param(t, u, k)] : 0) - at_full;
        l->ms_fixed -= f->base[u];
    }
    for (size_t i = 0; i < t->n_edges; i++) {
        pq_latency_edge *e = &l->edge[l->n_edges++];
        *e = t->edge[i];
        e->ms = e->conversions * l->fit.alpha_ms + e->mb * l->fit.beta_ms_per_mb;
        if (f->full[e->a] != f->full[e->b]) l->ms_fixed -= e->ms;
    }
out:
    return st;
}

static void clear(fit *f)
{
    pq_free(f->full);
    pq_free(f->int8);
    pq_free(f->x);
    pq_free(f->y);
    pq_free(f->sd);
    pq_free(f->times);
    pq_free(f->fold);
    pq_free(f->row);
    pq_free(f->prior);
    pq_free(f->spread);
    pq_free(f->theta);
    pq_free(f->held);
    pq_free(f->base);
}

pq_status pq_latency_fit_all(pq_ctx *ctx, pq_latency **out, const pq_terms *t,
                             const pq_lat_journal *j)
{
    fit f = {.t = t, .j = j};
    pq_latency *l = NULL;
    double trust = 1;
    pq_status st;
    *out = NULL;
    PQ_TRY(collect(ctx, &f));
    PQ_TRY(set_prior(ctx, &f));
    const pq_ridge r = {.n = f.n,
                        .p = f.p,
                        .x = f.row,
                        .y = f.y,
                        .sd = f.sd,
                        .prior = f.prior,
                        .spread = f.spread,
                        .first_nonneg = f.p - 2,
                        .fold = f.fold};
    PQ_TRY(pq_ridge_choose(ctx, &trust, f.held, &r));
    PQ_TRY(pq_ridge_solve(ctx, f.theta, &r, trust, -1));
    PQ_TRY(pq_alloc(ctx, &l, 1, sizeof *l));
    PQ_TRY(fill(ctx, l, &f));
    PQ_TRY(rate(ctx, &l->fit, &f));
    *out = l;
    l = NULL;
out:
    pq_latency_free(l);
    clear(&f);
    return st;
}
