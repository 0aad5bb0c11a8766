/* Evaluation: Resize and the decoding of a GFL head. */
#include <math.h>

#include "base/ctx.h"
#include "base/mem.h"
#include "graph/eval.h"

/* Where output index i of a dimension lies in the input (ONNX coordinate_transformation_mode). */
static float source(const pq_attr *a, int d, int64_t i, int64_t in, int64_t out)
{
    const float x = (float)i, scale = a->scale[d];
    switch (a->coord) {
    case PQ_COORD_ASYMMETRIC: return x / scale;
    case PQ_COORD_HALF_PIXEL: return (x + 0.5f) / scale - 0.5f;
    case PQ_COORD_PYTORCH_HALF_PIXEL: return out > 1 ? (x + 0.5f) / scale - 0.5f : 0;
    case PQ_COORD_ALIGN_CORNERS: return out > 1 ? x * (float)(in - 1) / (float)(out - 1) : 0;
    }
    return 0;
}

static float nearest(pq_nearest mode, float x)
{
    switch (mode) {
    case PQ_NEAREST_ROUND_PREFER_FLOOR: return ceilf(x - 0.5f);
    case PQ_NEAREST_ROUND_PREFER_CEIL: return floorf(x + 0.5f);
    case PQ_NEAREST_FLOOR: return floorf(x);
    case PQ_NEAREST_CEIL: return ceilf(x);
    }
    return x;
}

static int64_t clamp_index(float x, int64_t n)
{
    return x <= 0 ? 0 : x >= (float)(n - 1) ? n - 1 : (int64_t)x;
}

/* Per output index of one dimension: two neighbours and the weight of the second. */
typedef struct tap {
    int64_t a, b;
    float t;
} tap;

static void make_taps(tap *taps, const pq_attr *a, int d, int64_t in, int64_t out)
{
    for (int64_t i = 0; i < out; i++) {
        const float x = source(a, d, i, in, out);
        if (a->resize == PQ_RESIZE_NEAREST) {
            taps[i].a = taps[i].b = clamp_index(nearest(a->nearest, x), in);
            continue;
        }
        const float low = floorf(x);
        taps[i] = (tap){clamp_index(low, in), clamp_index(low + 1, in), x - low};
    }
}

pq_status pq_eval_resize(const pq_eval *e)
{
    pq_status st;
    const pq_attr *a = &e->n->attr;
    const pq_shape *x = &e->in[0]->shape, *y = &e->out[0].shape; /* NCHW */
    const int64_t h = x->dim[2], w = x->dim[3];
    tap *rows = NULL, *columns = NULL;
    PQ_TRY(pq_alloc(e->ctx, &rows, (size_t)y->dim[2], sizeof *rows));
    PQ_TRY(pq_alloc(e->ctx, &columns, (size_t)y->dim[3], sizeof *columns));
    make_taps(rows, a, 0, h, y->dim[2]);
    make_taps(columns, a, 1, w, y->dim[3]);
    float *out = pq_tensor_data(&e->out[0]);
    for (int64_t p = 0; p < x->dim[0] * x->dim[1]; p++) {
        const float *plane = (const float *)pq_tensor_data(e->in[0]) + p * h * w;
        for (int64_t oy = 0; oy < y->dim[2]; oy++) {
            const float *r0 = plane + rows[oy].a * w, *r1 = plane + rows[oy].b * w;
            const float ty = rows[oy].t;
            for (int64_t ox = 0; ox < y->dim[3]; ox++) {
                const tap *c = &columns[ox];
                if (a->resize == PQ_RESIZE_NEAREST) {
                    *out++ = r0[c->a];
                    continue;
                }
                const float top = r0[c->a] * (1 - c->t) + r0[c->b] * c->t;
                const float bottom = r1[c->a] * (1 - c->t) + r1[c->b] * c->t;
                *out++ = top * (1 - ty) + bottom * ty;
            }
        }
    }
out:
    pq_free(rows);
    pq_free(columns);
    return st;
}

/* Expectation of the bin index under softmax of bins values, each step elements apart. */
static float expectation(const float *v, int64_t step, int bins)
{
    float max = -INFINITY, sum = 0, mean = 0;
    for (int k = 0; k < bins; k++) max = v[k * step] > max ? v[k * step] : max;
    for (int k = 0; k < bins; k++) sum += expf(v[k * step] - max);
    for (int k = 0; k < bins; k++) mean += expf(v[k * step] - max) / sum * (float)k;
    return mean;
}

/*
 * Per level l: cls [n, classes, h, w], reg [n, 4 * (reg_max + 1), h, w] with channels side-major
 * (left, top, right, bottom). Distances are bin expectations times the stride, measured from the
 * prior (x * stride, y * stride). Outputs: scores [n, A, classes], boxes [n, A, 4] as x1 y1 x2 y2.
 * Source: Li et al. 2020, arXiv:2006.04388.
 */
pq_status pq_eval_gfl_decode(const pq_eval *e)
{
    const pq_attr *a = &e->n->attr;
    const int bins = a->reg_max + 1;
    const int64_t anchors = e->out[0].shape.dim[1], classes = e->out[0].shape.dim[2];
    for (int64_t n = 0; n < e->out[0].shape.dim[0]; n++) {
        int64_t first = n * anchors;
        for (int l = 0; l < a->levels; l++) {
            const pq_shape *s = &e->in[l]->shape;
            const int64_t w = s->dim[3], area = s->dim[2] * w;
            const float *cls = (const float *)pq_tensor_data(e->in[l]) + n * classes * area;
            const float *reg =
                (const float *)pq_tensor_data(e->in[a->levels + l]) + n * 4 * bins * area;
            const float stride = (float)a->strides[l];
            for (int64_t i = 0; i < area; i++, first++) {
                float *score = (float *)pq_tensor_data(&e->out[0]) + first * classes;
                float *box = (float *)pq_tensor_data(&e->out[1]) + first * 4;
                const float centre[2] = {(float)(i % w) * stride, (float)(i / w) * stride};
                for (int64_t c = 0; c < classes; c++) score[c] = cls[c * area + i];
                for (int k = 0; k < 4; k++) {
                    const float d = expectation(reg + k * bins * area + i, area, bins) * stride;
                    box[k] = k < 2 ? centre[k] - d : centre[k - 2] + d;
                }
            }
        }
    }
    pq_eval_acts(pq_tensor_data(&e->out[0]), (size_t)pq_shape_count(&e->out[0].shape),
                 PQ_ACT_SIGMOID, 0, 0);
    return PQ_OK;
}
