/* How far detections move: a score that needs few images and no annotations. */
#include "evaluate/distance.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static double overlap(const pq_detection *a, const pq_detection *b)
{
    const double w = fmin(a->x + a->w, b->x + b->w) - fmax(a->x, b->x);
    const double h = fmin(a->y + a->h, b->y + b->h) - fmax(a->y, b->y);
    if (!(w > 0) || !(h > 0)) return 0;
    return w * h / (a->w * a->h + b->w * b->h - w * h);
}

/* Of one image: each detection of full precision, best first, takes the free one of its class that
 * covers it best. Scores weigh twice, so that the many of low score do not drown the few that
 * count; nothing is cut off, so that small changes give small errors. */
static double of_image(const pq_detection *base, size_t n_base, const pq_detection *other,
                       size_t n_other, bool *taken)
{
    double error = 0;
    for (size_t i = 0; i < n_base; i++) {
        const double s = base[i].score;
        size_t best = n_other;
        double most = 0;
        for (size_t k = 0; k < n_other; k++) {
            if (taken[k] || other[k].cls != base[i].cls) continue;
            const double iou = overlap(&base[i], &other[k]);
            if (iou > most) {
                most = iou;
                best = k;
            }
        }
        if (best < n_other) taken[best] = true;
        const double found = best < n_other ? other[best].score : 0;
        error += s * (s * (1 - most) + fabs(s - found));
    }
    for (size_t k = 0; k < n_other; k++)
        if (!taken[k]) error += other[k].score * other[k].score;
    return error;
}

static size_t image_end(const pq_detection *d, size_t n, size_t from, int64_t image)
{
    while (from < n && d[from].image == image) from++;
    return from;
}

pq_status pq_detections_distance(pq_ctx *ctx, double *error, double *weight,
                                 const pq_detection *base, size_t n_base, const pq_detection *other,
                                 size_t n_other)
{
    bool *taken;
    pq_status st = pq_alloc(ctx, &taken, n_other, 1);
    size_t i = 0, k = 0;
    if (st != PQ_OK) return st;
    for (size_t at = 0; at < n_base; at++) *weight += base[at].score * base[at].score;
    while (i < n_base) {
        const int64_t image = base[i].image;
        const size_t i_end = image_end(base, n_base, i, image);
        /* Images where full precision finds nothing have all they find here against them. */
        size_t k_end = k;
        while (k_end < n_other && other[k_end].image != image) k_end++;
        if (k_end < n_other) {
            for (; k < k_end; k++) *error += other[k].score * other[k].score;
            k_end = image_end(other, n_other, k, image);
        } else {
            k_end = k; /* none in this image */
        }
        *error += of_image(base + i, i_end - i, other + k, k_end - k, taken + k);
        i = i_end;
        k = k_end;
    }
    for (; k < n_other; k++) *error += other[k].score * other[k].score;
    pq_free(taken);
    return PQ_OK;
}

size_t pq_outputs_floats(const pq_session *s)
{
    size_t n = 0;
    for (size_t k = 0; k < s->n_outputs; k++) n += (size_t)pq_shape_count(&s->output_shape[k]);
    return n;
}

void pq_outputs_store(float *to, const pq_tensor *y, size_t n_outputs)
{
    for (size_t k = 0; k < n_outputs; k++) {
        const size_t n = (size_t)pq_shape_count(&y[k].shape);
        memcpy(to, pq_tensor_data(&y[k]), n * sizeof *to);
        to += n;
    }
}

double pq_outputs_distance(const float *y, const float *y0, size_t n)
{
    double signal = 0, noise = 0;
    for (size_t i = 0; i < n; i++) {
        const bool have = isfinite(y[i]), had = isfinite(y0[i]);
        const double a = had ? (double)y0[i] : 0, b = have ? (double)y[i] : 0;
        signal += a * a;
        noise += (a - b) * (a - b);
    }
    if (noise == 0) return 0;
    return noise < signal ? noise / signal : 1;
}
