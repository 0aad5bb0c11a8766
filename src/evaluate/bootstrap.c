/* The paired bootstrap: how sure a difference of two AP on the same images is. */
#include <pquant/evaluate.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"

typedef struct job {
    const pq_eval_matches *a, *b;
    uint64_t seed;
    double *difference; /* by resample */
    uint32_t **times;   /* by worker */
} job;

/* As many images as there are, drawn with replacement, the same for both. */
static pq_status resample(pq_ctx *ctx, void *user, size_t item, int worker)
{
    job *j = user;
    const size_t n = pq_eval_image_count(j->a);
    pq_rng r = {j->seed};
    double a = 0, b = 0;
    pq_status st;
    r.s = pq_rng_u64(&r) + item; /* a stream each: the result does not depend on the threads */
    r.s = pq_rng_u64(&r);
    if (!j->times[worker]) PQ_TRY(pq_alloc(ctx, &j->times[worker], n, sizeof **j->times));
    memset(j->times[worker], 0, n * sizeof **j->times);
    for (size_t i = 0; i < n; i++) j->times[worker][pq_rng_below(&r, n)]++;
    PQ_TRY(pq_eval_ap(ctx, &a, j->a, j->times[worker]));
    PQ_TRY(pq_eval_ap(ctx, &b, j->b, j->times[worker]));
    j->difference[item] = a - b; /* 0 where a resample has no ground truth: both are -1 */
out:
    return st;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Value at a share 0 .. 1 of the sorted list, between neighbours in proportion. */
static double quantile(const double *sorted, size_t n, double share)
{
    const double at = share * (double)(n - 1);
    const size_t i = (size_t)at;
    const double rest = at - (double)i;
    return i + 1 < n ? sorted[i] * (1 - rest) + sorted[i + 1] * rest : sorted[i];
}

pq_status pq_eval_difference(pq_ctx *ctx, pq_difference *out, const pq_eval_matches *a,
                             const pq_eval_matches *b, size_t n_resamples, uint64_t seed)
{
    job j = {.a = a, .b = b, .seed = seed};
    const int threads = pq_ctx_threads(ctx);
    const size_t n = n_resamples ? n_resamples : 1000;
    double ap[2];
    pq_status st;
    *out = (pq_difference){0};
    if (pq_eval_image_count(a) != pq_eval_image_count(b))
        return pq_fail(ctx, PQ_E_INVALID, "matches of %zu and of %zu images, expected the same",
                       pq_eval_image_count(a), pq_eval_image_count(b));
    PQ_TRY(pq_eval_ap(ctx, &ap[0], a, NULL));
    PQ_TRY(pq_eval_ap(ctx, &ap[1], b, NULL));
    *out = (pq_difference){.value = ap[0] - ap[1], .n_resamples = n};
    PQ_TRY(pq_alloc(ctx, &j.difference, n, sizeof *j.difference));
    PQ_TRY(pq_alloc(ctx, &j.times, (size_t)threads, sizeof *j.times));
    if (pq_eval_image_count(a)) PQ_TRY(pq_parallel(ctx, "bootstrap", threads, n, resample, &j));
    qsort(j.difference, n, sizeof *j.difference, by_value);
    out->low = quantile(j.difference, n, 0.025);
    out->high = quantile(j.difference, n, 0.975);
out:
    for (int i = 0; j.times && i < threads; i++) pq_free(j.times[i]);
    pq_free(j.times);
    pq_free(j.difference);
    return st;
}
