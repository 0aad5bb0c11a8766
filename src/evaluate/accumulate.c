/*
 * From matches to precision, recall and the 12 figures.
 * Source: COCOeval.accumulate and summarize of pycocotools, with two short cuts that change
 * nothing: precision as a function of recall is looked up only where a true positive raises recall,
 * so only those points are kept; and a detection of an image counted m times adds m at once,
 * because the points within such a step never lie above the envelope.
 */
#include "evaluate/matches.h"

#include <float.h>
#include <string.h>

#include "base/mem.h"

/* Sum over classes that have ground truth. */
typedef struct mean {
    double sum;
    size_t n;
} mean;

static void mean_add(mean *m, double v)
{
    m->sum += v;
    m->n++;
}
static double mean_of(const mean *m) { return m->n ? m->sum / (double)m->n : -1; }

/* Arrays as long as the longest class. */
typedef struct scratch {
    uint32_t *weight;           /* times of each hit's image */
    double *precision, *recall; /* at each true positive */
} scratch;

static pq_status scratch_new(pq_ctx *ctx, scratch *s, const pq_eval_matches *m)
{
    pq_status st;
    size_t n = 0;
    for (size_t k = 0; k < m->n_classes; k++)
        if (m->cls[k].n_hits > n) n = m->cls[k].n_hits;
    PQ_TRY(pq_alloc(ctx, &s->weight, n, sizeof *s->weight));
    PQ_TRY(pq_alloc(ctx, &s->precision, n, sizeof *s->precision));
    PQ_TRY(pq_alloc(ctx, &s->recall, n, sizeof *s->recall));
out:
    return st;
}

static void scratch_clear(scratch *s)
{
    pq_free(s->weight);
    pq_free(s->precision);
    pq_free(s->recall);
}

static void weigh(scratch *s, const pq_eval_class *c, const uint32_t *times)
{
    for (size_t i = 0; i < c->n_hits; i++) s->weight[i] = times ? times[c->hit[i].image] : 1;
}

/* Ground truth of a class that counts in area range a. */
static uint64_t positives(const pq_eval_class *c, const uint32_t *times, size_t a)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->n_truths; i++)
        n += (uint64_t)c->truth[i].n[a] * (times ? times[c->truth[i].image] : 1);
    return n;
}

static uint64_t bit(uint16_t mask, unsigned t) { return (uint64_t)mask >> t & 1; }

/* Mean precision at the 101 recall points; *recall is the last recall reached. */
static double average_precision(double *recall, scratch *s, const pq_eval_class *c, size_t a,
                                unsigned t, uint64_t n_positives)
{
    uint64_t tp = 0, fp = 0;
    size_t n = 0;
    const double all = (double)n_positives;
    for (size_t i = 0; i < c->n_hits; i++) {
        const pq_eval_hit *h = &c->hit[i];
        fp += bit(h->fp[a], t) * s->weight[i]; /* no branch: it would be a coin toss */
        if (!bit(h->tp[a], t)) continue;
        tp += s->weight[i];
        s->recall[n] = (double)tp / all;
        s->precision[n++] = (double)tp / ((double)fp + (double)tp + DBL_EPSILON);
    }
    *recall = (double)tp / all;
    for (size_t i = n; i-- > 1;)
        if (s->precision[i] > s->precision[i - 1]) s->precision[i - 1] = s->precision[i];
    double sum = 0;
    size_t at = 0;
    for (int r = 0; r < EVAL_RECALLS; r++) {
        while (at < n && s->recall[at] < r * 0.01) at++;
        if (at == n) break;
        sum += s->precision[at];
    }
    return sum / EVAL_RECALLS;
}

/* Mean recall over the thresholds with at most max_det boxes an image, all areas. */
static double recall_of_best(const scratch *s, const pq_eval_class *c, unsigned max_det,
                             uint64_t n_positives)
{
    uint64_t tp[EVAL_IOUS] = {0};
    for (size_t i = 0; i < c->n_hits; i++)
        for (unsigned t = 0; c->hit[i].rank < max_det && t < EVAL_IOUS; t++)
            tp[t] += bit(c->hit[i].tp[0], t) * s->weight[i];
    double sum = 0;
    for (unsigned t = 0; t < EVAL_IOUS; t++) sum += (double)tp[t] / (double)n_positives;
    return sum / EVAL_IOUS;
}

/* One class and area range into the figures. */
static double add_area(mean fig[PQ_FIG_COUNT], scratch *s, const pq_eval_class *c, size_t a,
                       uint64_t n_positives)
{
    static const pq_figure ap_of[EVAL_AREAS] = {PQ_FIG_AP, PQ_FIG_APS, PQ_FIG_APM, PQ_FIG_APL};
    static const pq_figure ar_of[EVAL_AREAS] = {PQ_FIG_AR100, PQ_FIG_ARS, PQ_FIG_ARM, PQ_FIG_ARL};
    double ap_sum = 0, ar_sum = 0;
    for (unsigned t = 0; t < EVAL_IOUS; t++) {
        double recall;
        const double ap = average_precision(&recall, s, c, a, t, n_positives);
        ap_sum += ap;
        ar_sum += recall;
        if (a == 0 && t == 0) mean_add(&fig[PQ_FIG_AP50], ap);
        if (a == 0 && t == 5) mean_add(&fig[PQ_FIG_AP75], ap);
    }
    mean_add(&fig[ap_of[a]], ap_sum / EVAL_IOUS);
    mean_add(&fig[ar_of[a]], ar_sum / EVAL_IOUS);
    return ap_sum / EVAL_IOUS;
}

pq_status pq_eval_accumulate(pq_ctx *ctx, pq_figures *out, double *class_ap,
                             const pq_eval_matches *m, const uint32_t *times)
{
    scratch s = {0};
    mean fig[PQ_FIG_COUNT] = {{0, 0}};
    pq_status st;
    PQ_TRY(scratch_new(ctx, &s, m));
    for (size_t k = 0; k < m->n_classes; k++) {
        const pq_eval_class *c = &m->cls[k];
        if (class_ap) class_ap[k] = -1;
        weigh(&s, c, times);
        for (size_t a = 0; a < EVAL_AREAS; a++) {
            const uint64_t n = positives(c, times, a);
            if (!n) continue;
            const double ap = add_area(fig, &s, c, a, n);
            if (a) continue;
            if (class_ap) class_ap[k] = ap;
            mean_add(&fig[PQ_FIG_AR1], recall_of_best(&s, c, 1, n));
            mean_add(&fig[PQ_FIG_AR10], recall_of_best(&s, c, 10, n));
        }
    }
    for (int f = 0; f < PQ_FIG_COUNT; f++) out->v[f] = mean_of(&fig[f]);
out:
    scratch_clear(&s);
    return st;
}

pq_status pq_eval_ap(pq_ctx *ctx, double *ap, const pq_eval_matches *m, const uint32_t *times)
{
    scratch s = {0};
    mean all = {0, 0};
    pq_status st;
    *ap = -1;
    PQ_TRY(scratch_new(ctx, &s, m));
    for (size_t k = 0; k < m->n_classes; k++) {
        const pq_eval_class *c = &m->cls[k];
        const uint64_t n = positives(c, times, 0);
        if (!n) continue;
        double sum = 0, recall;
        weigh(&s, c, times);
        for (unsigned t = 0; t < EVAL_IOUS; t++) sum += average_precision(&recall, &s, c, 0, t, n);
        mean_add(&all, sum / EVAL_IOUS);
    }
    *ap = mean_of(&all);
out:
    scratch_clear(&s);
    return st;
}
