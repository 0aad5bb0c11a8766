/* Detector heads: from the outputs to boxes. */
#include <pquant/detect.h>

#include "base/mem.h"
#include "detect/head.h"
#include "engine/suppress.h"

static pq_status room_for(pq_ctx *ctx, pq_pool *p, size_t more)
{
    pq_status st = PQ_OK;
    if (p->room - p->n < more) {
        const size_t room = 2 * p->room + more + 1024;
        PQ_TRY(pq_grow(ctx, &p->c, p->n, room, sizeof *p->c));
        p->room = room;
    }
    if (p->n_boxes == p->room_boxes) {
        const size_t room = 2 * p->room_boxes + 1024;
        PQ_TRY(pq_grow(ctx, &p->box, p->n_boxes, room, sizeof *p->box));
        p->room_boxes = room;
    }
out:
    return st;
}

size_t pq_pool_above(const float *score, float factor, float conf, int n)
{
    int32_t found = 0;
    for (int i = 0; i < n; i++) found += factor * score[i] > conf;
    return (size_t)found;
}

pq_status pq_pool_add(pq_ctx *ctx, pq_pool *p, const float *score, float factor, float conf,
                      int n_classes, size_t found, const pq_box *box)
{
    if (!pq_box_is_finite(box)) return PQ_OK;
    pq_status st = room_for(ctx, p, found);
    if (st != PQ_OK) return st;
    for (int c = 0; c < n_classes; c++) {
        const float s = factor * score[c];
        if (s > conf) p->c[p->n++] = (pq_candidate){s, c, (uint32_t)p->n_boxes};
    }
    p->box[p->n_boxes++] = *box;
    return PQ_OK;
}

/* scores [A, C], boxes [A, 4] */
static pq_status collect_damo(pq_ctx *ctx, pq_pool *p, const pq_head *h, const float *scores,
                              const float *boxes)
{
    const float conf = (float)h->conf;
    for (int64_t a = 0; a < h->anchors; a++) {
        const float *s = scores + a * h->n_classes, *b = boxes + 4 * a;
        const size_t found = pq_pool_above(s, 1, conf, h->n_classes);
        if (!found) continue;
        const pq_box box = {b[0], b[1], b[2], b[3]};
        pq_status st = pq_pool_add(ctx, p, s, 1, conf, h->n_classes, found, &box);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}

/* output [A, 5 + C]: x, y, log w, log h, objectness, classes */
static pq_status collect_yolox(pq_ctx *ctx, pq_pool *p, const pq_head *h, const float *output)
{
    const float conf = (float)h->conf;
    for (int64_t a = 0; a < h->anchors; a++) {
        const float *o = output + a * (5 + h->n_classes);
        const size_t found = pq_pool_above(o + 5, o[4], conf, h->n_classes);
        if (!found) continue;
        const pq_box box = pq_yolox_box(o, a, h->h, h->w);
        pq_status st = pq_pool_add(ctx, p, o + 5, o[4], conf, h->n_classes, found, &box);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}

static pq_status check_output(pq_ctx *ctx, const pq_head *h, const pq_tensor *t, int64_t last,
                              size_t n)
{
    char text[96];
    if (t->buf && t->dtype == PQ_F32 && t->shape.rank == 3 && t->shape.dim[0] >= (int64_t)n &&
        t->shape.dim[1] == h->anchors && t->shape.dim[2] == last)
        return PQ_OK;
    return pq_fail(ctx, PQ_E_INVALID, "head output %s %s, expected float32 [%zu, %lld, %lld]",
                   pq_dtype_name(t->dtype), pq_shape_text(&t->shape, text, sizeof text), n,
                   (long long)h->anchors, (long long)last);
}

static pq_status check_others(pq_ctx *ctx, const pq_head *h, const pq_tensor *output,
                              size_t n_outputs, size_t n, pq_head_level *level, int *n_levels)
{
    pq_shape shape[2 * PQ_HEAD_LEVELS];
    char text[96];
    *n_levels = 0;
    for (size_t i = 0; i < n_outputs; i++) {
        shape[i] = output[i].shape;
        const bool lists_all = h->family == PQ_HEAD_BOXES; /* rows of all images may be one list */
        if (!output[i].buf || output[i].dtype != PQ_F32 ||
            (!lists_all && (!shape[i].rank || shape[i].dim[0] < (int64_t)n)))
            return pq_fail(ctx, PQ_E_INVALID, "head output %s %s, expected float32 of %zu images",
                           pq_dtype_name(output[i].dtype),
                           pq_shape_text(&shape[i], text, sizeof text), n);
    }
    const pq_status st = h->family == PQ_HEAD_BOXES
                             ? pq_boxes_check(ctx, h, shape, n_outputs)
                             : pq_head_layout(ctx, level, n_levels, h, shape, n_outputs);
    return st == PQ_E_UNSUPPORTED ? PQ_E_INVALID : st;
}

static pq_status check(pq_ctx *ctx, const pq_head *h, const pq_tensor *output, size_t n_outputs,
                       size_t n, pq_head_level *level, int *n_levels)
{
    pq_status st;
    const bool damo = h->family == PQ_HEAD_DAMO, yolox = h->family == PQ_HEAD_YOLOX;
    const size_t want = damo ? 2 : yolox ? 1 : n_outputs;
    if (n_outputs != want || n_outputs > 2 * PQ_HEAD_LEVELS || h->max_det < 1 || h->n_classes < 1 ||
        (damo && (h->scores_at < 0 || h->scores_at > 1 || h->boxes_at < 0 || h->boxes_at > 1)))
        return pq_fail(ctx, PQ_E_INVALID,
                       "head with %zu outputs, %d classes, at most %d boxes, expected %zu outputs",
                       n_outputs, h->n_classes, h->max_det, want);
    if (yolox) {
        if (h->anchors != pq_yolox_cells(h->h, h->w))
            return pq_fail(ctx, PQ_E_INVALID, "head of %lld anchors, expected %lld at %d x %d",
                           (long long)h->anchors, (long long)pq_yolox_cells(h->h, h->w), h->w,
                           h->h);
        return check_output(ctx, h, output, 5 + (int64_t)h->n_classes, n);
    }
    if (!damo) return check_others(ctx, h, output, n_outputs, n, level, n_levels);
    PQ_TRY(check_output(ctx, h, &output[h->scores_at], h->n_classes, n));
    PQ_TRY(check_output(ctx, h, &output[h->boxes_at], 4, n));
out:
    return st;
}

pq_status pq_head_emit(pq_ctx *ctx, pq_detections *list, const pq_box *b, float score, int32_t cls,
                       const pq_head *h, const pq_geometry *geo, int64_t image)
{
    const pq_detection d = {.image = image,
                            .cls = h->class_map ? h->class_map[cls] : cls,
                            .score = score,
                            .x = (b->x1 - geo->dx) * geo->sx,
                            .y = (b->y1 - geo->dy) * geo->sy,
                            .w = (b->x2 - b->x1) * geo->sx,
                            .h = (b->y2 - b->y1) * geo->sy};
    return d.cls < 0 ? PQ_OK : pq_detections_push(ctx, list, &d);
}

static pq_status collect(pq_ctx *ctx, pq_pool *p, const pq_head *head, const pq_tensor *output,
                         size_t i, const pq_head_level *level, int n_levels, float *row)
{
    const size_t a = i * (size_t)head->anchors;
    if (head->family == PQ_HEAD_DAMO) {
        const float *scores = pq_tensor_data(&output[head->scores_at]);
        const float *boxes = pq_tensor_data(&output[head->boxes_at]);
        return collect_damo(ctx, p, head, scores + a * (size_t)head->n_classes, boxes + 4 * a);
    }
    if (head->family == PQ_HEAD_YOLOX) {
        const float *o = pq_tensor_data(output);
        return collect_yolox(ctx, p, head, o + a * (size_t)(5 + head->n_classes));
    }
    if (head->family == PQ_HEAD_BOXES) return pq_boxes_collect(ctx, p, head, output, i);
    return pq_head_collect(ctx, p, head, level, n_levels, output, i, row);
}

pq_status pq_head_decode(pq_ctx *ctx, pq_detections *list, const pq_head *head,
                         const pq_tensor *output, size_t n_outputs, size_t n,
                         const pq_geometry *geometry, const int64_t *image_id)
{
    pq_pool p = {0};
    pq_head_level level[PQ_HEAD_LEVELS];
    int n_levels = 0;
    float *row = NULL;
    /* Boxes that were suppressed inside the network only leave by their scores. */
    const double iou = head->family == PQ_HEAD_BOXES ? 2 : head->iou;
    pq_status st = check(ctx, head, output, n_outputs, n, level, &n_levels);
    if (st != PQ_OK) return st;
    PQ_TRY(pq_alloc(ctx, &row, (size_t)head->n_classes, sizeof *row));
    for (size_t i = 0; i < n; i++) {
        size_t n_keep;
        p.n = p.n_boxes = 0;
        PQ_TRY(collect(ctx, &p, head, output, i, level, n_levels, row));
        const size_t most = (size_t)head->max_det < p.n ? (size_t)head->max_det : p.n;
        pq_free(p.keep);
        p.keep = NULL;
        PQ_TRY(pq_alloc(ctx, &p.keep, most, sizeof *p.keep));
        PQ_TRY(pq_detect__nms(ctx, p.keep, &n_keep, p.c, p.n, p.box, head->n_classes, iou, most));
        for (size_t k = 0; k < n_keep; k++) {
            const pq_candidate *c = &p.c[p.keep[k]];
            PQ_TRY(pq_head_emit(ctx, list, &p.box[c->box], c->score, c->cls, head, &geometry[i],
                                image_id[i]));
        }
    }
out:
    pq_free(p.c);
    pq_free(p.box);
    pq_free(p.keep);
    pq_free(row);
    return st;
}
