/* The dual form: as many unknowns as observations, of which there are fewer than parameters.
 * With D = diag(trust spread)^2 and S = diag(sd)^2,
 *     theta = prior + D X' (X D X' + S)^-1 (y - X prior)
 * A parameter held at 0 has prior and spread 0. */
#include "latency/ridge.h"

#include <math.h>
#include <string.h>

/* a [n, n] symmetric and positive definite, lower half; b becomes a^-1 b (Cholesky). */
static bool solve_cholesky(double *a, double *b, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        double *row = a + j * n;
        for (size_t k = 0; k <= j; k++) {
            double s = row[k];
            for (size_t i = 0; i < k; i++) s -= row[i] * a[k * n + i];
            if (k < j)
                row[k] = s / a[k * n + k];
            else if (s > 0)
                row[k] = sqrt(s);
            else
                return false;
        }
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < j; i++) b[j] -= a[j * n + i] * b[i];
        b[j] /= a[j * n + j];
    }
    for (size_t j = n; j-- > 0;) {
        for (size_t i = j + 1; i < n; i++) b[j] -= a[i * n + j] * b[i];
        b[j] /= a[j * n + j];
    }
    return true;
}

typedef struct work {
    double *a, *b;         /* [n, n], [n] */
    double *prior, *width; /* [p]: 0 where held at 0; width is trust spread */
} work;

/* Observations of the fold left out stay in place with a weight of nothing. */
static bool solve_free(const pq_ridge *r, int without, const work *w, double *theta)
{
    for (size_t i = 0; i < r->n; i++) {
        const double *x = r->x + i * r->p;
        const bool out = without >= 0 && r->fold[i] == without;
        double rest = r->y[i];
        for (size_t k = 0; k < r->p; k++) rest -= x[k] * w->prior[k];
        w->b[i] = out ? 0 : rest;
        for (size_t j = 0; j <= i; j++) {
            const double *z = r->x + j * r->p;
            double s = i == j ? r->sd[i] * r->sd[i] : 0;
            if (!out && !(without >= 0 && r->fold[j] == without))
                for (size_t k = 0; k < r->p; k++) s += x[k] * w->width[k] * w->width[k] * z[k];
            w->a[i * r->n + j] = s;
        }
    }
    if (!solve_cholesky(w->a, w->b, r->n)) return false;
    for (size_t k = 0; k < r->p; k++) {
        double s = 0;
        for (size_t i = 0; i < r->n; i++) s += r->x[i * r->p + k] * w->b[i];
        theta[k] = w->prior[k] + w->width[k] * w->width[k] * s;
    }
    return true;
}

pq_status pq_ridge_solve(pq_ctx *ctx, double *theta, const pq_ridge *r, double trust, int without)
{
    work w = {0};
    bool again = true;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &w.a, r->n * r->n, sizeof *w.a));
    PQ_TRY(pq_alloc(ctx, &w.b, r->n, sizeof *w.b));
    PQ_TRY(pq_alloc(ctx, &w.prior, r->p, sizeof *w.prior));
    PQ_TRY(pq_alloc(ctx, &w.width, r->p, sizeof *w.width));
    for (size_t k = 0; k < r->p; k++) {
        w.prior[k] = r->prior[k];
        w.width[k] = trust * r->spread[k];
    }
    while (again) {
        if (!solve_free(r, without, &w, theta)) {
            st = pq_fail(ctx, PQ_E_INTERNAL, "equations of %zu observations are singular", r->n);
            goto out;
        }
        again = false;
        for (size_t k = r->first_nonneg; k < r->p; k++)
            if (theta[k] < 0) {
                w.prior[k] = w.width[k] = 0;
                again = true;
            }
    }
out:
    pq_free(w.a);
    pq_free(w.b);
    pq_free(w.prior);
    pq_free(w.width);
    return st;
}

static pq_status predict_held(pq_ctx *ctx, double *held, double *error, double *theta,
                              const pq_ridge *r, double trust)
{
    pq_status st = PQ_OK;
    *error = 0;
    for (int f = 0; f < PQ_RIDGE_FOLDS; f++) {
        PQ_TRY(pq_ridge_solve(ctx, theta, r, trust, f));
        for (size_t i = 0; i < r->n; i++) {
            if (r->fold[i] != f) continue;
            held[i] = 0;
            for (size_t k = 0; k < r->p; k++) held[i] += r->x[i * r->p + k] * theta[k];
            *error += (held[i] - r->y[i]) * (held[i] - r->y[i]);
        }
    }
out:
    return st;
}

pq_status pq_ridge_choose(pq_ctx *ctx, double *trust, double *held, const pq_ridge *r)
{
    double *theta = NULL, error, best = INFINITY;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &theta, r->p, sizeof *theta));
    *trust = 1;
    for (int power = -4; power <= 2; power++) {
        const double t = ldexp(1, power);
        PQ_TRY(predict_held(ctx, held, &error, theta, r, t));
        if (error >= best) continue;
        best = error;
        *trust = t;
    }
    st = predict_held(ctx, held, &error, theta, r, *trust);
out:
    pq_free(theta);
    return st;
}
