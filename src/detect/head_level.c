/* Heads of maps and lists: where their numbers lie, and from numbers to boxes. Sources: the
 * decoding code of YOLOv5, v6, v7, v8, NanoDet, PicoDet and Yolo-FastestV2. */
#include <float.h>
#include <math.h>

#include "base/ctx.h"
#include "detect/head.h"

static pq_status misfit(pq_ctx *ctx, const pq_head *h, size_t output, const pq_shape *s,
                        int64_t channels)
{
    char text[96];
    return pq_fail(ctx, PQ_E_UNSUPPORTED, "output %zu %s does not fit a %s head of %lld channels",
                   output, pq_shape_text(s, text, sizeof text), pq_head_family_name(h->family),
                   (long long)channels);
}

static int64_t image_size(const pq_shape *s)
{
    int64_t n = 1;
    for (int i = 1; i < s->rank; i++) n *= s->dim[i];
    return n;
}

static int64_t cells(int side, int stride) { return (side + stride - 1) / stride; }

/* A map or list of so many channels: how it lies, and how many places it has. */
static pq_status lay_out(pq_ctx *ctx, pq_plane *p, int64_t *n, const pq_head *h,
                         const pq_shape *shape, size_t n_outputs, int output, int64_t channels)
{
    if (output < 0 || (size_t)output >= n_outputs)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "head with output %d of %zu", output, n_outputs);
    const pq_shape *s = &shape[output];
    *p = (pq_plane){.output = output};
    if (s->rank != 3 && s->rank != 4) return misfit(ctx, h, (size_t)output, s, channels);
    const bool first = s->dim[1] == channels, last = s->dim[s->rank - 1] == channels;
    *n = first || last ? image_size(s) / channels : 0;
    if (last && !(first && s->rank == 4)) {
        p->channel = 1;
        p->place = channels;
    } else if (first) {
        p->channel = *n;
        p->place = 1;
    } else
        return misfit(ctx, h, (size_t)output, s, channels);
    return PQ_OK;
}

static pq_plane shifted(pq_plane p, int64_t channels)
{
    p.first += p.channel * channels;
    return p;
}

/* ---- levels that stand alone ---- */

static pq_status layout_anchors(pq_ctx *ctx, pq_head_level *l, const pq_head *h,
                                const pq_shape *shape, size_t n_outputs, int i)
{
    const int64_t k = 5 + (int64_t)h->n_classes;
    const int at = h->reg_at[i];
    if (at >= 0 && (size_t)at < n_outputs && shape[at].rank == 5) { /* [n, a, h, w, k] */
        const pq_shape *s = &shape[at];
        if (s->dim[1] != h->n_anchors || s->dim[4] != k)
            return misfit(ctx, h, (size_t)at, s, h->n_anchors * k);
        l->n = s->dim[2] * s->dim[3];
        l->reg = (pq_plane){.output = at, .channel = 1, .place = k, .anchor = l->n * k};
    } else {
        const pq_status st =
            lay_out(ctx, &l->reg, &l->n, h, shape, n_outputs, at, h->n_anchors * k);
        if (st != PQ_OK) return st;
        l->reg.anchor = k * l->reg.channel;
    }
    l->obj = shifted(l->reg, 4);
    l->cls = shifted(l->reg, 5);
    l->has_obj = true;
    return PQ_OK;
}

static pq_status layout_fastest(pq_ctx *ctx, pq_head_level *l, const pq_head *h,
                                const pq_shape *shape, size_t n_outputs, int i)
{
    const int64_t a = h->n_anchors, k = 5 * a + h->n_classes;
    const pq_status st = lay_out(ctx, &l->reg, &l->n, h, shape, n_outputs, h->reg_at[i], k);
    if (st != PQ_OK) return st;
    l->obj = shifted(l->reg, 4 * a);
    l->cls = shifted(l->reg, 5 * a);
    l->reg.anchor = 4 * l->reg.channel;
    l->obj.anchor = l->reg.channel;
    l->has_obj = true;
    return PQ_OK;
}

/* Distances and classes, in one output or two. */
static pq_status layout_distances(pq_ctx *ctx, pq_head_level *l, const pq_head *h,
                                  const pq_shape *shape, size_t n_outputs, int i)
{
    pq_status st;
    int64_t n;
    const int64_t r = 4 * ((int64_t)h->reg_max + 1), c = h->n_classes;
    const bool one = h->reg_at[i] == h->class_at[i], reg_first = h->family == PQ_HEAD_YOLOV8_RAW;
    PQ_TRY(lay_out(ctx, &l->reg, &l->n, h, shape, n_outputs, h->reg_at[i], one ? r + c : r));
    l->cls = l->reg;
    if (one && reg_first)
        l->cls = shifted(l->reg, r);
    else if (one)
        l->reg = shifted(l->reg, c);
    else {
        PQ_TRY(lay_out(ctx, &l->cls, &n, h, shape, n_outputs, h->class_at[i], c));
        if (n != l->n) st = misfit(ctx, h, (size_t)h->class_at[i], &shape[h->class_at[i]], c);
    }
out:
    return st;
}

static bool decoded(pq_head_family f) { return f == PQ_HEAD_YOLOV5 || f == PQ_HEAD_YOLOV8; }

/* One list of boxes in pixels: one level without a grid. */
static pq_status layout_decoded(pq_ctx *ctx, pq_head_level *l, const pq_head *h,
                                const pq_shape *shape, size_t n_outputs)
{
    const bool obj = h->family == PQ_HEAD_YOLOV5;
    const int64_t k = (obj ? 5 : 4) + (int64_t)h->n_classes;
    const pq_status st = lay_out(ctx, &l->reg, &l->n, h, shape, n_outputs, 0, k);
    if (st != PQ_OK) return st;
    l->obj = shifted(l->reg, 4);
    l->cls = shifted(l->reg, obj ? 5 : 4);
    l->has_obj = obj;
    l->w = 1;
    return PQ_OK;
}

/* A list of all levels' places, one level behind the other. */
static pq_status cut_list(pq_ctx *ctx, pq_head_level *level, const pq_head *h,
                          const pq_shape *shape, size_t n_outputs)
{
    int64_t sum = 0;
    for (int i = 0; i < h->n_levels; i++) {
        pq_status st = layout_distances(ctx, &level[i], h, shape, n_outputs, 0);
        if (st != PQ_OK) return st;
        const int64_t all = level[i].n;
        level[i].reg.first += sum * level[i].reg.place;
        level[i].cls.first += sum * level[i].cls.place;
        level[i].n = cells(h->h, h->stride[i]) * cells(h->w, h->stride[i]);
        sum += level[i].n;
        if (i + 1 == h->n_levels && sum != all)
            return pq_fail(ctx, PQ_E_UNSUPPORTED,
                           "output of %lld places, expected %lld at %d x %d and %d strides",
                           (long long)all, (long long)sum, h->w, h->h, h->n_levels);
    }
    return PQ_OK;
}

pq_status pq_head_layout(pq_ctx *ctx, pq_head_level level[PQ_HEAD_LEVELS], int *n, const pq_head *h,
                         const pq_shape *shape, size_t n_outputs)
{
    *n = decoded(h->family) ? 1 : h->n_levels;
    if (*n < 1 || *n > PQ_HEAD_LEVELS || h->n_classes < 1 || h->n_anchors > PQ_HEAD_ANCHORS ||
        h->reg_max < 0 || h->reg_max > 255)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "head of %d levels, %d classes, %d anchors", *n,
                       h->n_classes, h->n_anchors);
    for (int i = 0; i < *n; i++) level[i] = (pq_head_level){.stride = h->stride[i]};
    if (decoded(h->family)) return layout_decoded(ctx, level, h, shape, n_outputs);
    if (*n > 1 && h->reg_at[0] == h->reg_at[1]) {
        const pq_status st = cut_list(ctx, level, h, shape, n_outputs);
        for (int i = 0; i < *n; i++) level[i].w = cells(h->w, level[i].stride);
        return st;
    }
    for (int i = 0; i < *n; i++) {
        pq_head_level *l = &level[i];
        pq_status st;
        if (l->stride < 1) return pq_fail(ctx, PQ_E_UNSUPPORTED, "head with stride %d", l->stride);
        if (h->family == PQ_HEAD_YOLOV5_RAW)
            st = layout_anchors(ctx, l, h, shape, n_outputs, i);
        else if (h->family == PQ_HEAD_FASTESTV2)
            st = layout_fastest(ctx, l, h, shape, n_outputs, i);
        else
            st = layout_distances(ctx, l, h, shape, n_outputs, i);
        if (st != PQ_OK) return st;
        if (h->n_anchors) l->anchor = h->anchor[i];
        l->w = cells(h->w, l->stride);
        if (l->n != l->w * cells(h->h, l->stride))
            return pq_fail(ctx, PQ_E_UNSUPPORTED,
                           "output %d has %lld places, expected %lld x %lld at stride %d",
                           l->reg.output, (long long)l->n, (long long)cells(h->h, l->stride),
                           (long long)l->w, l->stride);
    }
    return PQ_OK;
}

/* ---- decoding ---- */

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

static float at(const pq_tensor *output, const pq_plane *p, size_t image, int64_t a, int64_t i,
                int64_t c)
{
    const pq_tensor *t = &output[p->output];
    const int64_t k = (int64_t)image * image_size(&t->shape) + p->first + a * p->anchor +
                      i * p->place + c * p->channel;
    return ((const float *)pq_tensor_data(t))[k];
}

/* Expectation of the bin under softmax. */
static float expectation(const float *bin, int n)
{
    float max = -INFINITY, sum = 0, mean = 0;
    for (int k = 0; k < n; k++) max = bin[k] > max ? bin[k] : max;
    for (int k = 0; k < n; k++) {
        const float e = expf(bin[k] - max);
        sum += e;
        mean += e * (float)k;
    }
    return mean / sum;
}

static pq_box by_distances(const pq_head *h, const pq_head_level *l, const pq_tensor *output,
                           size_t image, int64_t i)
{
    const int bins = h->reg_max + 1;
    const double s = l->stride;
    const double x = ((double)(i % l->w) + (double)h->offset) * s;
    const double y = ((double)(i / l->w) + (double)h->offset) * s;
    float d[4], bin[256];
    for (int k = 0; k < 4; k++) {
        for (int b = 0; b < bins; b++)
            bin[b] = at(output, &l->reg, image, 0, i, (int64_t)k * bins + b);
        d[k] = bins > 1 ? expectation(bin, bins) : bin[0];
    }
    return (pq_box){x - (double)d[0] * s, y - (double)d[1] * s, x + (double)d[2] * s,
                    y + (double)d[3] * s};
}

static pq_box centred(double x, double y, double w, double h)
{
    return (pq_box){x - w / 2, y - h / 2, x + w / 2, y + h / 2};
}

static pq_box box_of(const pq_head *h, const pq_head_level *l, const pq_tensor *output,
                     size_t image, int64_t a, int64_t i)
{
    float v[4];
    if (!l->anchor && !decoded(h->family)) return by_distances(h, l, output, image, i);
    for (int k = 0; k < 4; k++) {
        v[k] = at(output, &l->reg, image, a, i, k);
        if (l->anchor && h->logits) v[k] = sigmoid(v[k]);
    }
    if (!l->anchor) return centred((double)v[0], (double)v[1], (double)v[2], (double)v[3]);
    const double s = l->stride;
    const double x = (2 * (double)v[0] - 0.5 + (double)(i % l->w)) * s;
    const double y = (2 * (double)v[1] - 0.5 + (double)(i / l->w)) * s;
    const double w = 2 * (double)v[2], ht = 2 * (double)v[3];
    return centred(x, y, w * w * (double)l->anchor[2 * a], ht * ht * (double)l->anchor[2 * a + 1]);
}

static pq_status collect_place(pq_ctx *ctx, pq_pool *p, const pq_head *h, const pq_head_level *l,
                               const pq_tensor *output, size_t image, int64_t a, int64_t i,
                               float *row)
{
    const float conf = (float)h->conf;
    /* A logit this low is no score above conf: the exponential can be spared. */
    const float low = !h->logits || conf <= 0 ? -FLT_MAX
                      : conf >= 1             ? FLT_MAX
                                              : logf(conf / (1 - conf)) - 1e-3f;
    float obj = 1;
    if (l->has_obj) {
        obj = at(output, &l->obj, image, a, i, 0);
        if (obj < low) return PQ_OK;
        if (h->logits) obj = sigmoid(obj);
        if (!(obj > conf)) return PQ_OK;
    }
    bool any = false;
    for (int c = 0; c < h->n_classes; c++) {
        const float v = at(output, &l->cls, image, a, i, c);
        row[c] = v < low ? 0 : h->logits ? sigmoid(v) : v;
        any = any || obj * row[c] > conf;
    }
    if (!any) return PQ_OK;
    const size_t found = pq_pool_above(row, obj, conf, h->n_classes);
    const pq_box box = box_of(h, l, output, image, a, i);
    return pq_pool_add(ctx, p, row, obj, conf, h->n_classes, found, &box);
}

pq_status pq_head_collect(pq_ctx *ctx, pq_pool *p, const pq_head *h, const pq_head_level *level,
                          int n_levels, const pq_tensor *output, size_t image, float *row)
{
    for (int k = 0; k < n_levels; k++)
        for (int64_t a = 0; a < (level[k].anchor ? h->n_anchors : 1); a++)
            for (int64_t i = 0; i < level[k].n; i++) {
                const pq_status st = collect_place(ctx, p, h, &level[k], output, image, a, i, row);
                if (st != PQ_OK) return st;
            }
    return PQ_OK;
}
