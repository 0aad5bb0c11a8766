/*
 * Matching detections with ground truth, image by image and class by class.
 * Source: COCOeval.evaluateImg of pycocotools, whose order of comparisons is kept because ties
 * decide matches.
 */
#include "evaluate/matches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"

static const double area_range[EVAL_AREAS][2] = {
    {0, 1e10}, {0, 32.0 * 32.0}, {32.0 * 32.0, 96.0 * 96.0}, {96.0 * 96.0, 1e10}};

/* A detection or annotation by where it belongs. Sorted by class, image, falling score, position.
 */
typedef struct ref {
    uint32_t cls, image;
    double score; /* 0 for annotations */
    size_t at;
} ref;

static int by_place(const void *a, const void *b)
{
    const ref *x = a, *y = b;
    if (x->cls != y->cls) return x->cls < y->cls ? -1 : 1;
    if (x->image != y->image) return x->image < y->image ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

typedef struct job {
    const pq_coco *gt;
    const pq_detection *d;
    ref *dets, *anns;
    size_t *det_start, *ann_start; /* [classes + 1] */
    pq_eval_matches *out;
} job;

/* One image and class. Arrays by detection (d) and annotation (g). */
typedef struct scene {
    size_t n_det, n_gt, room_gt;
    const pq_detection *det[EVAL_MAX_DETS];
    const pq_coco_ann **gt;
    double *iou;   /* [n_det, n_gt] */
    size_t *order; /* annotations, ignored ones last */
    bool *ignore;  /* [n_gt], by annotation */
    bool *taken;   /* [n_gt] */
} scene;

static void scene_clear(scene *s)
{
    pq_free(s->gt);
    pq_free(s->iou);
    pq_free(s->order);
    pq_free(s->ignore);
    pq_free(s->taken);
}

static pq_status scene_room(pq_ctx *ctx, scene *s, size_t n_gt)
{
    pq_status st = PQ_OK;
    if (s->room_gt && n_gt <= s->room_gt) return PQ_OK;
    scene_clear(s);
    *s = (scene){0};
    const size_t room = 2 * n_gt + 8;
    PQ_TRY(pq_alloc(ctx, &s->gt, room, sizeof *s->gt));
    PQ_TRY(pq_alloc(ctx, &s->iou, room, EVAL_MAX_DETS * sizeof *s->iou));
    PQ_TRY(pq_alloc(ctx, &s->order, room, sizeof *s->order));
    PQ_TRY(pq_alloc(ctx, &s->ignore, room, sizeof *s->ignore));
    PQ_TRY(pq_alloc(ctx, &s->taken, room, sizeof *s->taken));
    s->room_gt = room;
out:
    return st;
}

/* With a crowd region the union is the detection alone. */
static double iou(const pq_detection *d, const pq_coco_ann *g)
{
    const double w = fmin(d->w + d->x, g->w + g->x) - fmax(d->x, g->x);
    if (!(w > 0)) return 0;
    const double h = fmin(d->h + d->y, g->h + g->y) - fmax(d->y, g->y);
    if (!(h > 0)) return 0;
    const double inter = w * h, det = d->w * d->h;
    return inter / (g->crowd ? det : det + g->w * g->h - inter);
}

/* The best annotation for detection d at a threshold, n_gt if there is none. Annotations are tried
 * in s->order: once one that counts fits, ignored ones are not looked at; of equal IoUs the last
 * one wins. */
static size_t best_match(const scene *s, size_t d, double threshold)
{
    const double *row = s->iou + d * s->n_gt;
    double best = fmin(threshold, 1 - 1e-10);
    size_t match = s->n_gt;
    for (size_t i = 0; i < s->n_gt; i++) {
        const size_t g = s->order[i];
        if (s->taken[g] && !s->gt[g]->crowd) continue;
        if (match < s->n_gt && !s->ignore[match] && s->ignore[g]) break;
        if (row[g] < best) continue;
        best = row[g];
        match = g;
    }
    return match;
}

static bool outside(double area, size_t a)
{
    return area < area_range[a][0] || area > area_range[a][1];
}

static void match_area(scene *s, pq_eval_hit *hit, pq_eval_truth *truth, size_t a)
{
    size_t n = 0;
    for (size_t g = 0; g < s->n_gt; g++) {
        s->ignore[g] = s->gt[g]->crowd || outside(s->gt[g]->area, a);
        if (!s->ignore[g]) s->order[n++] = g;
    }
    truth->n[a] = (uint32_t)n;
    for (size_t g = 0; g < s->n_gt; g++)
        if (s->ignore[g]) s->order[n++] = g;
    for (unsigned t = 0; t < EVAL_IOUS; t++) {
        /* numpy's linspace(0.5, 0.95, 10) */
        const double threshold = t == EVAL_IOUS - 1 ? 0.95 : 0.5 + t * ((0.95 - 0.5) / 9);
        memset(s->taken, 0, s->n_gt * sizeof *s->taken);
        for (size_t d = 0; d < s->n_det; d++) {
            const size_t g = s->n_gt ? best_match(s, d, threshold) : 0;
            bool found = g < s->n_gt, ignored = false;
            if (found) {
                ignored = s->ignore[g];
                s->taken[g] = true;
                found = s->gt[g]->id != 0; /* pycocotools stores the id, and 0 means no match */
            }
            if (!found && !ignored) ignored = outside(s->det[d]->w * s->det[d]->h, a);
            if (!ignored) {
                uint16_t *bits = found ? &hit[d].tp[a] : &hit[d].fp[a];
                *bits = (uint16_t)(*bits | 1u << t);
            }
        }
    }
}

static void match_scene(scene *s, pq_eval_hit *hit, pq_eval_truth *truth)
{
    for (size_t d = 0; d < s->n_det; d++)
        for (size_t g = 0; g < s->n_gt; g++) s->iou[d * s->n_gt + g] = iou(s->det[d], s->gt[g]);
    for (size_t a = 0; a < EVAL_AREAS; a++) match_area(s, hit, truth, a);
}

/* A hit on its way into order of score. */
typedef struct scored {
    double score;
    size_t at;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static pq_status sort_hits(pq_ctx *ctx, pq_eval_class *c, pq_eval_hit *hit, scored *key, size_t n)
{
    pq_status st = pq_alloc(ctx, &c->hit, n, sizeof *c->hit);
    if (st != PQ_OK) return st;
    if (n) qsort(key, n, sizeof *key, by_score);
    for (size_t i = 0; i < n; i++) c->hit[i] = hit[key[i].at];
    c->n_hits = n;
    return PQ_OK;
}

static size_t end_of_image(const ref *r, size_t from, size_t to)
{
    size_t i = from;
    while (i < to && r[i].image == r[from].image) i++;
    return i;
}

/* Detections and annotations of one class, merged over images. */
static pq_status match_class(pq_ctx *ctx, void *user, size_t k, int worker)
{
    (void)worker;
    const job *j = user;
    pq_eval_class *c = &j->out->cls[k];
    pq_status st;
    scene s = {0};
    scored *key = NULL;
    pq_eval_hit *hit = NULL;
    size_t d = j->det_start[k], g = j->ann_start[k], n = 0;
    const size_t d_end = j->det_start[k + 1], g_end = j->ann_start[k + 1];
    PQ_TRY(pq_alloc(ctx, &hit, d_end - d, sizeof *hit));
    PQ_TRY(pq_alloc(ctx, &key, d_end - d, sizeof *key));
    PQ_TRY(pq_alloc(ctx, &c->truth, g_end - g, sizeof *c->truth));
    while (d < d_end || g < g_end) {
        const uint32_t di = d < d_end ? j->dets[d].image : UINT32_MAX;
        const uint32_t gi = g < g_end ? j->anns[g].image : UINT32_MAX;
        const uint32_t image = di < gi ? di : gi;
        const size_t d1 = di == image ? end_of_image(j->dets, d, d_end) : d;
        const size_t g1 = gi == image ? end_of_image(j->anns, g, g_end) : g;
        pq_eval_truth none = {0}, *truth = g1 > g ? &c->truth[c->n_truths++] : &none;
        PQ_TRY(scene_room(ctx, &s, g1 - g));
        s.n_gt = g1 - g;
        s.n_det = d1 - d < EVAL_MAX_DETS ? d1 - d : EVAL_MAX_DETS;
        for (size_t i = 0; i < s.n_gt; i++) s.gt[i] = &j->gt->ann[j->anns[g + i].at];
        for (size_t i = 0; i < s.n_det; i++) {
            s.det[i] = &j->d[j->dets[d + i].at];
            hit[n + i].image = image;
            hit[n + i].rank = (uint8_t)i;
            key[n + i] = (scored){s.det[i]->score, n + i};
        }
        truth->image = image;
        match_scene(&s, hit + n, truth);
        n += s.n_det;
        d = d1;
        g = g1;
    }
    PQ_TRY(sort_hits(ctx, c, hit, key, n));
out:
    scene_clear(&s);
    pq_free(hit);
    pq_free(key);
    return st;
}

/* where[i]: position of gt's image i among those evaluated, UINT32_MAX if it is not. */
static pq_status select_images(pq_ctx *ctx, uint32_t **where, size_t *n, const pq_coco *gt,
                               const int64_t *image_id, size_t n_ids)
{
    pq_status st = pq_alloc(ctx, where, gt->n_images, sizeof **where);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < gt->n_images; i++) (*where)[i] = image_id ? UINT32_MAX : 0;
    for (size_t i = 0; image_id && i < n_ids; i++) {
        const int64_t at = pq_coco_find_image(gt, image_id[i]);
        if (at < 0)
            return pq_fail(ctx, PQ_E_INVALID, "image %lld to evaluate is not among the %zu of %s",
                           (long long)image_id[i], gt->n_images, gt->path);
        (*where)[at] = 0;
    }
    *n = 0;
    for (size_t i = 0; i < gt->n_images; i++)
        if ((*where)[i] == 0) (*where)[i] = (uint32_t)(*n)++;
    return PQ_OK;
}

static pq_status place_detections(pq_ctx *ctx, job *j, size_t *placed, const uint32_t *where,
                                  size_t n)
{
    pq_status st = pq_alloc(ctx, &j->dets, n, sizeof *j->dets);
    if (st != PQ_OK) return st;
    *placed = 0;
    for (size_t i = 0; i < n; i++) {
        const pq_detection *d = &j->d[i];
        const int64_t im = pq_coco_find_image(j->gt, d->image);
        if (!isfinite(d->score))
            return pq_fail(ctx, PQ_E_INVALID, "detection %zu has the score %g, expected a number",
                           i, d->score);
        if (im < 0)
            return pq_fail(ctx, PQ_E_INVALID,
                           "detection %zu is of image %lld, which is not among the %zu of %s", i,
                           (long long)d->image, j->gt->n_images, j->gt->path);
        if (where[im] == UINT32_MAX || d->cls < 0 || (size_t)d->cls >= j->gt->n_categories)
            continue;
        j->dets[(*placed)++] = (ref){(uint32_t)d->cls, where[im], d->score, i};
    }
    return PQ_OK;
}

static pq_status place_annotations(pq_ctx *ctx, job *j, size_t *placed, const uint32_t *where)
{
    size_t n_zero = 0;
    pq_status st = pq_alloc(ctx, &j->anns, j->gt->n_anns, sizeof *j->anns);
    if (st != PQ_OK) return st;
    *placed = 0;
    for (size_t i = 0; i < j->gt->n_anns; i++) {
        const pq_coco_ann *a = &j->gt->ann[i];
        n_zero += a->id == 0;
        if (where[a->image] == UINT32_MAX) continue;
        j->anns[(*placed)++] = (ref){a->cls, where[a->image], 0, i};
    }
    if (n_zero)
        pq_log(ctx, PQ_LOG_WARN, "evaluate",
               "%s: %zu annotations have the id 0; as in pycocotools they never count as found",
               j->gt->path, n_zero);
    return PQ_OK;
}

/* start[k] .. start[k + 1]: the sorted refs of class k. */
static pq_status class_starts(pq_ctx *ctx, size_t **start, ref *r, size_t n, size_t n_classes)
{
    pq_status st = pq_alloc(ctx, start, n_classes + 1, sizeof **start);
    if (st != PQ_OK) return st;
    if (n) qsort(r, n, sizeof *r, by_place);
    for (size_t i = 0; i < n; i++) (*start)[r[i].cls + 1]++;
    for (size_t k = 0; k < n_classes; k++) (*start)[k + 1] += (*start)[k];
    return PQ_OK;
}

pq_status pq_eval_match(pq_ctx *ctx, pq_eval_matches **out, const pq_coco *gt,
                        const pq_detection *d, size_t n, const int64_t *image_id,
                        size_t n_image_ids)
{
    pq_status st;
    uint32_t *where = NULL;
    size_t n_dets, n_anns;
    job j = {.gt = gt, .d = d};
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &j.out, 1, sizeof *j.out));
    PQ_TRY(pq_alloc(ctx, &j.out->cls, gt->n_categories, sizeof *j.out->cls));
    j.out->n_classes = gt->n_categories;
    PQ_TRY(select_images(ctx, &where, &j.out->n_images, gt, image_id, n_image_ids));
    PQ_TRY(place_detections(ctx, &j, &n_dets, where, n));
    PQ_TRY(place_annotations(ctx, &j, &n_anns, where));
    PQ_TRY(class_starts(ctx, &j.det_start, j.dets, n_dets, gt->n_categories));
    PQ_TRY(class_starts(ctx, &j.ann_start, j.anns, n_anns, gt->n_categories));
    PQ_TRY(pq_parallel(ctx, "evaluate", pq_ctx_threads(ctx), gt->n_categories, match_class, &j));
out:
    pq_free(where);
    pq_free(j.dets);
    pq_free(j.anns);
    pq_free(j.det_start);
    pq_free(j.ann_start);
    if (st == PQ_OK)
        *out = j.out;
    else
        pq_eval_free(j.out);
    return st;
}

void pq_eval_free(pq_eval_matches *m)
{
    if (!m) return;
    for (size_t k = 0; m->cls && k < m->n_classes; k++) {
        pq_free(m->cls[k].hit);
        pq_free(m->cls[k].truth);
    }
    pq_free(m->cls);
    pq_free(m);
}

size_t pq_eval_image_count(const pq_eval_matches *m) { return m->n_images; }
