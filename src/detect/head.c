/* Detector heads: which one a graph ends in, and from its outputs to boxes. */
#include <pquant/detect.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "detect/nms.h"

static const int yolox_stride[3] = {8, 16, 32};

static const pq_shape *output_shape(const pq_graph *g, size_t i)
{
    return &g->value[g->output[i]].shape;
}

static bool may_be(const pq_graph *g, const char *name)
{
    return !g->family || strcmp(g->family, "ONNX") == 0 || strstr(g->family, name);
}

static bool as_damo(pq_head *h, const pq_graph *g)
{
    if (g->n_outputs != 2 || !may_be(g, "DAMO")) return false;
    const pq_shape *a = output_shape(g, 0), *b = output_shape(g, 1);
    if (a->rank != 3 || b->rank != 3 || a->dim[1] != b->dim[1]) return false;
    h->boxes_at = b->dim[2] == 4 ? 1 : 0; /* with four classes: scores first, as in the original */
    h->scores_at = 1 - h->boxes_at;
    const pq_shape *scores = h->scores_at ? b : a, *boxes = h->scores_at ? a : b;
    if (boxes->dim[2] != 4 || scores->dim[2] < 1 || scores->dim[2] > INT32_MAX) return false;
    const bool nano = g->family && strstr(g->family, "DAMO-YOLO-N");
    h->family = PQ_HEAD_DAMO;
    h->conf = nano ? 0.03 : 0.05;
    h->iou = nano ? 0.65 : 0.7;
    h->max_det = 500;
    h->n_classes = (int)scores->dim[2];
    h->anchors = scores->dim[1];
    return true;
}

static int64_t yolox_cells(const pq_head *h)
{
    int64_t cells = 0;
    for (int i = 0; i < 3; i++)
        cells += (int64_t)(h->h / yolox_stride[i]) * (h->w / yolox_stride[i]);
    return cells;
}

static bool as_yolox(pq_head *h, const pq_graph *g)
{
    if (g->n_outputs != 1 || !may_be(g, "YOLOX")) return false;
    const pq_shape *s = output_shape(g, 0);
    const int64_t cells = yolox_cells(h);
    if (s->rank != 3 || s->dim[1] != cells || s->dim[2] < 6 || s->dim[2] > INT32_MAX) return false;
    h->family = PQ_HEAD_YOLOX;
    h->conf = 0.01;
    h->iou = 0.65;
    h->max_det = 300;
    h->n_classes = (int)s->dim[2] - 5;
    h->anchors = cells;
    return true;
}

pq_status pq_head_detect(pq_ctx *ctx, pq_head *out, const pq_graph *g)
{
    enum { MAX_SIDE = 1 << 20 };
    char text[512] = "none", one[96];
    memset(out, 0, sizeof *out);
    if (g->n_inputs == 1) {
        const pq_shape *in = &g->value[g->input[0]].shape;
        if (in->rank == 4 && in->dim[2] > 0 && in->dim[3] > 0 && in->dim[2] <= MAX_SIDE &&
            in->dim[3] <= MAX_SIDE) {
            out->h = (int)in->dim[2];
            out->w = (int)in->dim[3];
            if (as_damo(out, g) || as_yolox(out, g)) return PQ_OK;
        }
    }
    size_t at = 0;
    for (size_t i = 0; i < g->n_outputs && at < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? " " : "",
                               pq_shape_text(output_shape(g, i), one, sizeof one));
    return pq_fail(ctx, PQ_E_UNSUPPORTED,
                   "detection head of %s with %zu inputs and outputs %s, expected one image and "
                   "scores [n, A, C] and boxes [n, A, 4] (DAMO-YOLO) or [n, A, 5 + C] at strides "
                   "8, 16, 32 (YOLOX)",
                   g->family ? g->family : "unknown family", g->n_inputs, text);
}

void pq_head_prep(pq_prep *out, const pq_head *head)
{
    *out = (pq_prep){.h = head->h, .w = head->w, .pad = 114};
    if (head->family == PQ_HEAD_YOLOX) {
        out->fit = PQ_FIT_LETTERBOX;
        out->bgr = true;
    }
}

/* Candidates of one image. Arrays grow over the images of a call and are used again. */
typedef struct pool {
    pq_candidate *c;
    pq_box *box;
    uint32_t *keep;
    size_t n, room, n_boxes, room_boxes;
} pool;

static pq_status room_for(pq_ctx *ctx, pool *p, size_t more)
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

static size_t count_above(const float *score, float factor, float conf, int n)
{
    int32_t found = 0;
    for (int i = 0; i < n; i++) found += factor * score[i] > conf;
    return (size_t)found;
}

/* An anchor's classes with factor * score > conf, all with the box given. */
static pq_status add_anchor(pq_ctx *ctx, pool *p, const float *score, float factor, float conf,
                            int n_classes, size_t found, const pq_box *box)
{
    if (!isfinite(box->x1) || !isfinite(box->y1) || !isfinite(box->x2) || !isfinite(box->y2))
        return PQ_OK;
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
static pq_status collect_damo(pq_ctx *ctx, pool *p, const pq_head *h, const float *scores,
                              const float *boxes)
{
    const float conf = (float)h->conf;
    for (int64_t a = 0; a < h->anchors; a++) {
        const float *s = scores + a * h->n_classes, *b = boxes + 4 * a;
        const size_t found = count_above(s, 1, conf, h->n_classes);
        if (!found) continue;
        const pq_box box = {b[0], b[1], b[2], b[3]};
        pq_status st = add_anchor(ctx, p, s, 1, conf, h->n_classes, found, &box);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}

/* One cell (gx, gy) of a grid: o = x, y, log w, log h, objectness, classes. */
static pq_status collect_cell(pq_ctx *ctx, pool *p, const pq_head *h, const float *o, int gx,
                              int gy, int stride)
{
    const float conf = (float)h->conf;
    const size_t found = count_above(o + 5, o[4], conf, h->n_classes);
    if (!found) return PQ_OK;
    const double x = ((double)o[0] + gx) * stride, y = ((double)o[1] + gy) * stride;
    const double w = (double)expf(o[2]) * stride, ht = (double)expf(o[3]) * stride;
    const pq_box box = {x - w / 2, y - ht / 2, x + w / 2, y + ht / 2};
    return add_anchor(ctx, p, o + 5, o[4], conf, h->n_classes, found, &box);
}

/* output [A, 5 + C], the grids of the strides one after the other, row by row */
static pq_status collect_yolox(pq_ctx *ctx, pool *p, const pq_head *h, const float *output)
{
    const float *o = output;
    for (int i = 0; i < 3; i++) {
        const int stride = yolox_stride[i];
        for (int gy = 0; gy < h->h / stride; gy++)
            for (int gx = 0; gx < h->w / stride; gx++, o += 5 + h->n_classes) {
                pq_status st = collect_cell(ctx, p, h, o, gx, gy, stride);
                if (st != PQ_OK) return st;
            }
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

static pq_status check(pq_ctx *ctx, const pq_head *h, const pq_tensor *output, size_t n_outputs,
                       size_t n)
{
    pq_status st;
    const size_t want = h->family == PQ_HEAD_DAMO ? 2 : 1;
    if (n_outputs != want || h->max_det < 1 || h->n_classes < 1 || h->scores_at < 0 ||
        h->scores_at > 1 || h->boxes_at < 0 || h->boxes_at > 1)
        return pq_fail(ctx, PQ_E_INVALID,
                       "head with %zu outputs, %d classes, at most %d boxes, expected %zu outputs",
                       n_outputs, h->n_classes, h->max_det, want);
    if (h->family == PQ_HEAD_YOLOX) {
        if (h->anchors != yolox_cells(h))
            return pq_fail(ctx, PQ_E_INVALID, "head of %lld anchors, expected %lld at %d x %d",
                           (long long)h->anchors, (long long)yolox_cells(h), h->w, h->h);
        return check_output(ctx, h, output, 5 + (int64_t)h->n_classes, n);
    }
    PQ_TRY(check_output(ctx, h, &output[h->scores_at], h->n_classes, n));
    PQ_TRY(check_output(ctx, h, &output[h->boxes_at], 4, n));
out:
    return st;
}

/* The boxes that stay, in pixels of the picture. */
static pq_status emit(pq_ctx *ctx, pq_detections *list, const pool *p, size_t n_keep,
                      const pq_geometry *geo, int64_t image)
{
    for (size_t i = 0; i < n_keep; i++) {
        const pq_candidate *c = &p->c[p->keep[i]];
        const pq_box *b = &p->box[c->box];
        const pq_detection d = {.image = image,
                                .cls = c->cls,
                                .score = c->score,
                                .x = b->x1 * geo->sx,
                                .y = b->y1 * geo->sy,
                                .w = (b->x2 - b->x1) * geo->sx,
                                .h = (b->y2 - b->y1) * geo->sy};
        pq_status st = pq_detections_push(ctx, list, &d);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}

pq_status pq_head_decode(pq_ctx *ctx, pq_detections *list, const pq_head *head,
                         const pq_tensor *output, size_t n_outputs, size_t n,
                         const pq_geometry *geometry, const int64_t *image_id)
{
    pool p = {0};
    pq_status st = check(ctx, head, output, n_outputs, n);
    if (st != PQ_OK) return st;
    const size_t all = (size_t)head->anchors * (size_t)head->n_classes;
    const size_t max_det = (size_t)head->max_det < all ? (size_t)head->max_det : all;
    PQ_TRY(pq_alloc(ctx, &p.keep, max_det, sizeof *p.keep));
    for (size_t i = 0; i < n; i++) {
        const size_t a = i * (size_t)head->anchors;
        size_t n_keep;
        p.n = p.n_boxes = 0;
        if (head->family == PQ_HEAD_DAMO) {
            const float *scores = pq_tensor_data(&output[head->scores_at]);
            const float *boxes = pq_tensor_data(&output[head->boxes_at]);
            scores += a * (size_t)head->n_classes;
            PQ_TRY(collect_damo(ctx, &p, head, scores, boxes + 4 * a));
        } else {
            const float *o = pq_tensor_data(output);
            PQ_TRY(collect_yolox(ctx, &p, head, o + a * (size_t)(5 + head->n_classes)));
        }
        PQ_TRY(pq_detect__nms(ctx, p.keep, &n_keep, p.c, p.n, p.box, head->n_classes, head->iou,
                              max_det));
        PQ_TRY(emit(ctx, list, &p, n_keep, &geometry[i], image_id[i]));
    }
out:
    pq_free(p.c);
    pq_free(p.box);
    pq_free(p.keep);
    return st;
}
