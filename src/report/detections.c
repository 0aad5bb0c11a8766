/* What changed in what the detector finds: accuracy by class and size, scores, boxes that came and
 * went, and the images where most did. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "data/codec.h"
#include "report/report.h"

/* A box is shown to people from this score on; two boxes are the same find from this IoU on. */
static const double shown = 0.3, same_place = 0.5;
enum { BINS = 201, MOST_BOXES = 40, PICTURE_SIDE = 480, PICTURE_QUALITY = 72 };

typedef struct found {
    const pq_detection *d;
    const struct found *other; /* the same find of the other precision; NULL: none */
} found;

static int by_image(const void *a, const void *b)
{
    const pq_detection *x = ((const found *)a)->d, *y = ((const found *)b)->d;
    if (x->image != y->image) return x->image < y->image ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x < y ? -1 : x > y;
}

typedef struct side {
    found *at;
    size_t n;
} side;

static pq_status sort_side(pq_ctx *ctx, side *s, const pq_detections *list)
{
    pq_status st = pq_alloc(ctx, &s->at, list->n, sizeof *s->at);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < list->n; i++) s->at[i].d = &list->at[i];
    if (list->n) qsort(s->at, list->n, sizeof *s->at, by_image);
    s->n = list->n;
    return PQ_OK;
}

static side of_image(const side *s, int64_t id)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (s->at[mid].d->image < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (hi = lo; hi < s->n && s->at[hi].d->image == id;) hi++;
    return (side){s->at + lo, hi - lo};
}

static double iou(const pq_detection *a, const pq_detection *b)
{
    const double w = fmin(a->x + a->w, b->x + b->w) - fmax(a->x, b->x);
    const double h = fmin(a->y + a->h, b->y + b->h) - fmax(a->y, b->y);
    if (!(w > 0) || !(h > 0)) return 0;
    return w * h / (a->w * a->h + b->w * b->h - w * h);
}

/* The best first: each takes the free box of its class that lies on it best. */
static void pair_up(side *before, side *after)
{
    for (size_t i = 0; i < before->n; i++) {
        found *best = NULL;
        double most = same_place;
        for (size_t k = 0; k < after->n; k++) {
            found *f = &after->at[k];
            if (f->other || f->d->cls != before->at[i].d->cls) continue;
            const double v = iou(before->at[i].d, f->d);
            if (v < most) continue;
            most = v;
            best = f;
        }
        if (!best) continue;
        best->other = &before->at[i];
        before->at[i].other = best;
    }
}

static bool is_shown(const found *f) { return f && f->d->score >= shown; }

typedef struct tally {
    size_t before, after, kept; /* shown boxes; of both */
    size_t n_shifts;            /* pairs of which at least one is shown */
    double sum, sum_abs;
    size_t bin[BINS]; /* of shifts -1 .. 1 */
} tally;

/* How much changed in one image, and all that for the tally. */
static double count_image(tally *t, const side *before, const side *after)
{
    double change = 0;
    for (size_t i = 0; i < before->n; i++) {
        const found *f = &before->at[i];
        t->before += is_shown(f);
        if (is_shown(f) && !is_shown(f->other)) change += f->d->score;
        if (!f->other || (!is_shown(f) && !is_shown(f->other))) continue;
        const double shift = f->other->d->score - f->d->score;
        if (is_shown(f) && is_shown(f->other)) {
            t->kept++;
            change += fabs(shift);
        }
        t->n_shifts++;
        t->sum += shift;
        t->sum_abs += fabs(shift);
        t->bin[(size_t)fmin(fmax((shift + 1) / 2 * BINS, 0), BINS - 1)]++;
    }
    for (size_t i = 0; i < after->n; i++) {
        t->after += is_shown(&after->at[i]);
        if (is_shown(&after->at[i]) && !is_shown(after->at[i].other))
            change += after->at[i].d->score;
    }
    return change;
}

static bool add_tally(cJSON *doc, const tally *t)
{
    cJSON *o = cJSON_AddObjectToObject(doc, "detections");
    bool ok = o && pq_put_number(o, "score_shown", shown) && pq_put_number(o, "iou", same_place) &&
              pq_put_number(o, "before", (double)t->before) &&
              pq_put_number(o, "after", (double)t->after) &&
              pq_put_number(o, "kept", (double)t->kept) &&
              pq_put_number(o, "lost", (double)(t->before - t->kept)) &&
              pq_put_number(o, "gained", (double)(t->after - t->kept)) &&
              pq_put_number(o, "pairs", (double)t->n_shifts);
    if (!ok || !t->n_shifts) return ok;
    cJSON *bins = cJSON_AddArrayToObject(o, "shift_histogram");
    for (int i = 0; bins && i < BINS; i++)
        if (!cJSON_AddItemToArray(bins, cJSON_CreateNumber((double)t->bin[i]))) return false;
    return bins && pq_put_number(o, "shift_mean", t->sum / (double)t->n_shifts) &&
           pq_put_number(o, "shift_mean_absolute", t->sum_abs / (double)t->n_shifts);
}

/* ---- pictures ---- */

typedef struct changed {
    const pq_sample *sample;
    double change;
} changed;

static int by_change(const void *a, const void *b)
{
    const changed *x = a, *y = b;
    if (x->change != y->change) return x->change > y->change ? -1 : 1;
    return x->sample < y->sample ? -1 : x->sample > y->sample;
}

static bool add_boxes(cJSON *o, const char *key, const side *s, const pq_coco *coco)
{
    cJSON *list = cJSON_AddArrayToObject(o, key);
    for (size_t i = 0, n = 0; list && i < s->n && n < MOST_BOXES; i++) {
        const pq_detection *d = s->at[i].d;
        if (!is_shown(&s->at[i])) break;
        if (!isfinite(d->x) || !isfinite(d->y) || !isfinite(d->w) || !isfinite(d->h)) continue;
        const bool named = d->cls >= 0 && (size_t)d->cls < coco->n_categories;
        cJSON *b = pq_put_row(list);
        if (!b || !pq_put_number(b, "label", d->cls) ||
            !pq_put_text(b, "class", named ? coco->category[d->cls].name : NULL) ||
            !pq_put_number(b, "score", d->score) || !pq_put_number(b, "x", d->x) ||
            !pq_put_number(b, "y", d->y) || !pq_put_number(b, "w", d->w) ||
            !pq_put_number(b, "h", d->h) ||
            !cJSON_AddBoolToObject(b, "in_both", is_shown(s->at[i].other)))
            return false;
        n++;
    }
    return list != NULL;
}

/* By halves first, so that bilinear sampling skips no pixels. */
static pq_status scale_down(pq_ctx *ctx, pq_image *img)
{
    pq_status st = PQ_OK;
    while (st == PQ_OK && (img->w > PICTURE_SIDE || img->h > PICTURE_SIDE)) {
        pq_image small = {0};
        const int longer = img->w > img->h ? img->w : img->h;
        const bool half = longer >= 2 * PICTURE_SIDE;
        int w = half ? img->w / 2 : (int)((int64_t)img->w * PICTURE_SIDE / longer);
        int h = half ? img->h / 2 : (int)((int64_t)img->h * PICTURE_SIDE / longer);
        w = w < 1 ? 1 : w;
        h = h < 1 ? 1 : h;
        st = pq_image_resize(ctx, &small, img, w, h);
        if (st != PQ_OK) break;
        pq_image_clear(img);
        *img = small;
    }
    return st;
}

static pq_status add_picture(pq_ctx *ctx, pq_report *r, cJSON *list, const changed *c,
                             const side *before, const side *after, const pq_coco *coco)
{
    pq_report_picture *p = &r->picture[r->n_pictures];
    pq_image img = {0};
    cJSON *o = pq_put_row(list);
    pq_status st;
    PQ_TRY(pq_image_load(ctx, &img, c->sample->path));
    const char *slash = strrchr(c->sample->path, '/');
    const bool ok = o && pq_put_text(o, "file", slash ? slash + 1 : c->sample->path) &&
                    pq_put_number(o, "width", img.w) && pq_put_number(o, "height", img.h) &&
                    pq_put_number(o, "change", c->change) && add_boxes(o, "before", before, coco) &&
                    add_boxes(o, "after", after, coco);
    PQ_TRY(ok ? PQ_OK : pq_json_check(ctx, NULL));
    PQ_TRY(scale_down(ctx, &img));
    PQ_TRY(pq_data__jpeg_bytes(ctx, &p->jpeg, &p->bytes, &img, PICTURE_QUALITY));
    p->w = img.w;
    p->h = img.h;
    r->n_pictures++;
out:
    pq_image_clear(&img);
    return st;
}

static pq_status compare_boxes(pq_ctx *ctx, pq_report *r, const pq_report_opts *o)
{
    const size_t most = o->max_pictures ? o->max_pictures : 6;
    side before = {0}, after = {0};
    changed *c = NULL;
    tally t = {0};
    pq_status st;
    PQ_TRY(sort_side(ctx, &before, o->before));
    PQ_TRY(sort_side(ctx, &after, o->after));
    PQ_TRY(pq_alloc(ctx, &c, o->images->n, sizeof *c));
    for (size_t i = 0; i < o->images->n; i++) {
        side b = of_image(&before, o->images->sample[i].id);
        side a = of_image(&after, o->images->sample[i].id);
        pair_up(&b, &a);
        c[i] = (changed){&o->images->sample[i], count_image(&t, &b, &a)};
    }
    if (!add_tally(r->doc, &t)) PQ_TRY(pq_json_check(ctx, NULL));
    if (o->images->n) qsort(c, o->images->n, sizeof *c, by_change);
    PQ_TRY(pq_alloc(ctx, &r->picture, most, sizeof *r->picture));
    cJSON *list = cJSON_AddArrayToObject(r->doc, "pictures");
    PQ_TRY(pq_json_check(ctx, list));
    for (size_t i = 0; i < o->images->n && i < most && c[i].change > 0; i++) {
        const side b = of_image(&before, c[i].sample->id), a = of_image(&after, c[i].sample->id);
        PQ_TRY(add_picture(ctx, r, list, &c[i], &b, &a, o->coco));
    }
out:
    pq_free(before.at);
    pq_free(after.at);
    pq_free(c);
    return st;
}

/* ---- accuracy ---- */

static bool add_classes(cJSON *doc, const pq_coco *coco, const double *before, const double *after)
{
    cJSON *list = cJSON_AddArrayToObject(doc, "classes");
    for (size_t k = 0; list && k < coco->n_categories; k++) {
        size_t n = 0;
        if (before[k] < 0) continue;
        for (size_t i = 0; i < coco->n_anns; i++) n += coco->ann[i].cls == k && !coco->ann[i].crowd;
        cJSON *o = pq_put_row(list);
        if (!o || !pq_put_text(o, "name", coco->category[k].name) ||
            !pq_put_number(o, "objects", (double)n) || !pq_put_number(o, "before", before[k]) ||
            !pq_put_number(o, "after", after[k]))
            return false;
    }
    return list != NULL;
}

static bool add_sizes(cJSON *doc, const pq_figures *before, const pq_figures *after)
{
    static const struct {
        const char *name;
        pq_figure figure;
    } row[] = {{"all sizes", PQ_FIG_AP},         {"small objects", PQ_FIG_APS},
               {"medium objects", PQ_FIG_APM},   {"large objects", PQ_FIG_APL},
               {"all at IoU 0.50", PQ_FIG_AP50}, {"all at IoU 0.75", PQ_FIG_AP75}};
    cJSON *list = cJSON_AddArrayToObject(doc, "sizes");
    for (size_t i = 0; list && i < sizeof row / sizeof *row; i++) {
        if (before->v[row[i].figure] < 0) continue;
        cJSON *o = pq_put_row(list);
        if (!o || !pq_put_text(o, "name", row[i].name) ||
            !pq_put_number(o, "before", before->v[row[i].figure]) ||
            !pq_put_number(o, "after", after->v[row[i].figure]))
            return false;
    }
    return list != NULL;
}

/* Where the run did not say how sure the partial plan's loss is, and it is the loss found here: an
 * interval around another figure would mislead. */
static pq_status add_interval(pq_ctx *ctx, cJSON *doc, const pq_eval_matches *before,
                              const pq_eval_matches *after)
{
    static const double same = 5e-4; /* AP; other processors may round otherwise */
    cJSON *row;
    pq_difference d;
    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(doc, "precisions"))
    {
        const char *name = pq_field_text(row, "name");
        if (!name || strcmp(name, "partial") != 0 || pq_field(row, "drop_low")) continue;
        pq_status st = pq_eval_difference(ctx, &d, before, after, 0, 1);
        if (st != PQ_OK) return st;
        if (!(fabs(d.value - pq_field_number(row, "drop")) < same)) continue;
        if (!pq_put_number(row, "drop_low", d.low) || !pq_put_number(row, "drop_high", d.high))
            return pq_json_check(ctx, NULL);
    }
    return PQ_OK;
}

static pq_status compare_accuracy(pq_ctx *ctx, cJSON *doc, const pq_report_opts *o)
{
    pq_eval_matches *before = NULL, *after = NULL;
    pq_figures fb, fa;
    double *cb = NULL, *ca = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &cb, o->coco->n_categories, sizeof *cb));
    PQ_TRY(pq_alloc(ctx, &ca, o->coco->n_categories, sizeof *ca));
    PQ_TRY(pq_eval_match(ctx, &before, o->coco, o->before->at, o->before->n, NULL, 0));
    PQ_TRY(pq_eval_match(ctx, &after, o->coco, o->after->at, o->after->n, NULL, 0));
    PQ_TRY(pq_eval_accumulate(ctx, &fb, cb, before, NULL));
    PQ_TRY(pq_eval_accumulate(ctx, &fa, ca, after, NULL));
    if (!add_classes(doc, o->coco, cb, ca) || !add_sizes(doc, &fb, &fa))
        PQ_TRY(pq_json_check(ctx, NULL));
    st = add_interval(ctx, doc, before, after);
out:
    pq_eval_free(before);
    pq_eval_free(after);
    pq_free(cb);
    pq_free(ca);
    return st;
}

pq_status pq_report_add_detections(pq_ctx *ctx, pq_report *r, const pq_report_opts *o)
{
    pq_status st = compare_accuracy(ctx, r->doc, o);
    return st == PQ_OK ? compare_boxes(ctx, r, o) : st;
}
