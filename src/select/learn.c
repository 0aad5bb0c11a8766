/* Damages of units fitted to whole plans. */
#include <pquant/select.h>

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "latency/ridge.h"

/* AP of a plan differs from the sum of its parts by about as much on a hundred images. */
static const double noise = 0.003;

enum { FEWEST = 10, MOST = 200 };

typedef struct lesson {
    size_t n, p, first; /* of what the meter knows */
    double *x, *y, *sd, *prior, *spread, *held, *theta;
    int *fold;
    uint8_t *label;
} lesson;

static void clear(lesson *l)
{
    pq_free(l->x);
    pq_free(l->y);
    pq_free(l->sd);
    pq_free(l->prior);
    pq_free(l->spread);
    pq_free(l->held);
    pq_free(l->theta);
    pq_free(l->fold);
    pq_free(l->label);
}

static pq_status make_room(pq_ctx *ctx, lesson *l, const pq_meter *meter, const pq_units *u)
{
    pq_measured d;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &l->label, u->n_ops, 1));
    while (pq_meter_known(meter, l->n, l->label, &d)) l->n++;
    if (l->n > MOST) l->first = l->n - MOST;
    l->n -= l->first;
    l->p = u->n;
    PQ_TRY(pq_alloc(ctx, &l->x, l->n * l->p, sizeof *l->x));
    PQ_TRY(pq_alloc(ctx, &l->y, l->n, sizeof *l->y));
    PQ_TRY(pq_alloc(ctx, &l->sd, l->n, sizeof *l->sd));
    PQ_TRY(pq_alloc(ctx, &l->held, l->n, sizeof *l->held));
    PQ_TRY(pq_alloc(ctx, &l->fold, l->n, sizeof *l->fold));
    PQ_TRY(pq_alloc(ctx, &l->prior, l->p, sizeof *l->prior));
    PQ_TRY(pq_alloc(ctx, &l->spread, l->p, sizeof *l->spread));
    st = pq_alloc(ctx, &l->theta, l->p, sizeof *l->theta);
out:
    return st;
}

/* The last of the plans of full precision and INT8 alone, which are nearest to where the search is:
 * the fit takes the square of their number. What loses so much that it has collapsed teaches
 * nothing of sums. */
static void fill(lesson *l, const pq_model *m, const pq_scores *s, const pq_meter *meter)
{
    const size_t labels = (size_t)m->problem.n_labels;
    const double most = fmax(0.05, 2 * s->far.drop);
    pq_measured d;
    size_t n = 0;
    for (size_t i = l->first; n < l->n && pq_meter_known(meter, i, l->label, &d); i++) {
        double *row = l->x + n * l->p;
        bool half = false;
        for (size_t k = 0; k < s->units.n_ops; k++) {
            half = half || l->label[k] == PQ_LABEL_HALF;
            row[s->units.of[k]] = l->label[k] == PQ_LABEL_INT8;
        }
        if (half || d.drop > most || d.drop < -most) continue;
        l->y[n] = d.drop;
        l->sd[n] = noise;
        l->fold[n] = (int)(n % PQ_RIDGE_FOLDS);
        n++;
    }
    l->n = n;
    for (size_t u = 0; u < l->p; u++) {
        l->prior[u] = s->units.fixed[u] ? 0 : m->damage[(u + 1) * labels - 1];
        l->spread[u] = 0.5 * l->prior[u] + 1e-4;
    }
}

pq_status pq_model_learn(pq_ctx *ctx, pq_model *m, const pq_scores *s, const pq_meter *meter,
                         double *error)
{
    const size_t labels = (size_t)m->problem.n_labels;
    lesson l = {0};
    double trust, sum = 0;
    pq_status st;
    if (error) *error = 0;
    PQ_TRY(make_room(ctx, &l, meter, &s->units));
    fill(&l, m, s, meter);
    if (l.n < FEWEST) goto out;
    const pq_ridge r = {.n = l.n,
                        .p = l.p,
                        .x = l.x,
                        .y = l.y,
                        .sd = l.sd,
                        .prior = l.prior,
                        .spread = l.spread,
                        .fold = l.fold};
    PQ_TRY(pq_ridge_choose(ctx, &trust, l.held, &r));
    PQ_TRY(pq_ridge_solve(ctx, l.theta, &r, trust, -1));
    for (size_t u = 0; u < l.p; u++)
        if (!s->units.fixed[u] && !s->aside[u]) m->damage[(u + 1) * labels - 1] = l.theta[u];
    for (size_t i = 0; i < l.n; i++) sum += fabs(l.held[i] - l.y[i]);
    if (error) *error = sum / (double)l.n;
out:
    clear(&l);
    return st;
}
