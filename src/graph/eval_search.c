/* Evaluation: operators that answer with indices: ArgMax, ArgMin, TopK, NonZero,
 * NonMaxSuppression. Where ONNX gives as many rows as it finds, the rest is PQ_ABSENT. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"
#include "graph/eval.h"

/* Outer, along and inner extent of an axis. */
static void extents(const pq_shape *s, int axis, int64_t *outer, int64_t *n, int64_t *inner)
{
    *outer = *inner = 1;
    *n = s->dim[axis];
    for (int i = 0; i < axis; i++) *outer *= s->dim[i];
    for (int i = axis + 1; i < s->rank; i++) *inner *= s->dim[i];
}

/* An element with its position: what sorting moves. Integers keep all their bits in i. */
typedef struct entry {
    double f;
    int64_t i, at;
} entry;

static entry load_entry(const pq_tensor *t, size_t i, int64_t at)
{
    entry e = {0, 0, at};
    if (t->dtype == PQ_F32) {
        e.f = (double)((const float *)pq_tensor_data(t))[i];
    } else {
        e.i = pq_eval_load(t, i);
        if (e.i == PQ_ABSENT) e.f = (double)NAN;
    }
    return e;
}

/* < 0: a comes first. Rows that do not exist come last, equal ones keep their order. */
static int order(const entry *a, const entry *b, int sign)
{
    const bool no_a = isnan(a->f), no_b = isnan(b->f);
    if (no_a != no_b) return no_a ? 1 : -1;
    if (!no_a && (a->f != b->f || a->i != b->i)) {
        const bool less = a->f != b->f ? a->f < b->f : a->i < b->i;
        return less ? -sign : sign;
    }
    return a->at < b->at ? -1 : a->at > b->at;
}
static int smallest_first(const void *a, const void *b) { return order(a, b, 1); }
static int largest_first(const void *a, const void *b) { return order(a, b, -1); }

static void arg(const pq_eval *e)
{
    int64_t outer, n, inner;
    const bool max = e->n->op == PQ_OP_ARG_MAX, last = e->n->attr.last;
    extents(&e->in[0]->shape, (int)e->n->attr.axis, &outer, &n, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            entry best = load_entry(e->in[0], (size_t)(o * n * inner + i), 0);
            for (int64_t k = 1; k < n; k++) {
                entry v = load_entry(e->in[0], (size_t)((o * n + k) * inner + i), k);
                if (last) v.at = -k; /* of equal ones the later comes first */
                if (order(&v, &best, max ? -1 : 1) < 0) best = v;
            }
            pq_eval_store(&e->out[0], (size_t)(o * inner + i), last ? -best.at : best.at);
        }
}

static pq_status top_k(const pq_eval *e)
{
    int64_t outer, n, inner;
    entry *row = NULL;
    extents(&e->in[0]->shape, (int)e->n->attr.axis, &outer, &n, &inner);
    const int64_t k = e->out[0].shape.dim[e->n->attr.axis];
    const size_t size = pq_dtype_size(e->out[0].dtype);
    const char *x = pq_tensor_data(e->in[0]);
    char *y = pq_tensor_data(&e->out[0]);
    const pq_status st = pq_alloc(e->ctx, &row, (size_t)n, sizeof *row);
    if (st != PQ_OK) return st;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            for (int64_t j = 0; j < n; j++)
                row[j] = load_entry(e->in[0], (size_t)((o * n + j) * inner + i), j);
            qsort(row, (size_t)n, sizeof *row, e->n->attr.largest ? largest_first : smallest_first);
            for (int64_t j = 0; j < k; j++) {
                const size_t to = (size_t)((o * k + j) * inner + i);
                memcpy(y + to * size, x + (size_t)((o * n + row[j].at) * inner + i) * size, size);
                pq_eval_store(&e->out[1], to, row[j].at);
            }
        }
    pq_free(row);
    return PQ_OK;
}

/* out [rank, elements]: column by column the place of an element that is not zero. */
static void non_zero(const pq_eval *e)
{
    const pq_shape *s = &e->in[0]->shape;
    const size_t total = (size_t)pq_shape_count(s);
    int64_t at[PQ_MAX_RANK] = {0};
    size_t found = 0;
    for (size_t i = 0; i < total; i++) {
        const entry v = load_entry(e->in[0], i, 0);
        if (!isnan(v.f) && (v.f != 0 || v.i)) {
            for (int k = 0; k < s->rank; k++)
                pq_eval_store(&e->out[0], (size_t)k * total + found, at[k]);
            found++;
        }
        for (int k = s->rank - 1; k >= 0 && ++at[k] == s->dim[k]; k--) at[k] = 0;
    }
    for (; found < total; found++)
        for (int k = 0; k < s->rank; k++)
            pq_eval_store(&e->out[0], (size_t)k * total + found, PQ_ABSENT);
}

/* ---- suppression ---- */

/* Corners of box b, whichever way round the file has them. */
static void corners(const pq_attr *a, const float *b, float c[4])
{
    if (a->center) {
        c[0] = b[1] - b[3] / 2, c[1] = b[0] - b[2] / 2;
        c[2] = b[1] + b[3] / 2, c[3] = b[0] + b[2] / 2;
        return;
    }
    for (int i = 0; i < 2; i++) {
        c[i] = fminf(b[i], b[i + 2]);
        c[i + 2] = fmaxf(b[i], b[i + 2]);
    }
}

static bool suppresses(const float *a, const float *b, float iou)
{
    const float h = fminf(a[2], b[2]) - fmaxf(a[0], b[0]);
    const float w = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
    if (!(h > 0 && w > 0)) return false;
    const float inter = h * w;
    const float both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter;
    return both > 0 && inter / both > iou;
}

static float threshold(const pq_eval *e, int i, float none)
{
    const pq_tensor *t = i < e->n->n_in ? e->in[i] : NULL;
    return t && t->dtype == PQ_F32 && pq_shape_count(&t->shape) ? *(const float *)pq_tensor_data(t)
                                                                : none;
}

/* One class of one image; kept: corners of what stays. Returns how many. */
static int64_t suppress_class(const pq_eval *e, entry *row, float *kept, int64_t *found,
                              const float *boxes, const float *scores, int64_t n, int64_t most)
{
    const float iou = threshold(e, 3, 0), least = threshold(e, 4, -INFINITY);
    int64_t m = 0, n_kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (scores[i] > least) row[m++] = (entry){(double)scores[i], 0, i};
    qsort(row, (size_t)m, sizeof *row, largest_first);
    for (int64_t i = 0; i < m && n_kept < most; i++) {
        float *c = kept + 4 * n_kept;
        bool stays = true;
        corners(&e->n->attr, boxes + 4 * row[i].at, c);
        for (int64_t k = 0; stays && k < n_kept; k++) stays = !suppresses(kept + 4 * k, c, iou);
        if (stays) found[n_kept++] = row[i].at;
    }
    return n_kept;
}

/* boxes [images, n, 4], scores [images, classes, n]; out [rows, 3]: image, class, box. */
static pq_status suppress(const pq_eval *e)
{
    pq_status st;
    const pq_shape *s = &e->in[1]->shape;
    const int64_t classes = s->dim[1], n = s->dim[2], rows = e->out[0].shape.dim[0];
    const int64_t most = s->dim[0] && classes ? rows / (s->dim[0] * classes) : 0;
    const float *boxes = pq_tensor_data(e->in[0]), *scores = pq_tensor_data(e->in[1]);
    int64_t *y = pq_tensor_data(&e->out[0]), *found = NULL, at = 0;
    entry *row = NULL;
    float *kept = NULL;
    PQ_TRY(pq_alloc(e->ctx, &row, (size_t)n, sizeof *row));
    PQ_TRY(pq_alloc(e->ctx, &kept, (size_t)most + 1, 4 * sizeof *kept));
    PQ_TRY(pq_alloc(e->ctx, &found, (size_t)most, sizeof *found));
    for (int64_t i = 0; i < s->dim[0]; i++)
        for (int64_t c = 0; c < classes; c++) {
            const int64_t m = suppress_class(e, row, kept, found, boxes + i * n * 4,
                                             scores + (i * classes + c) * n, n, most);
            for (int64_t k = 0; k < m; k++, at++)
                y[3 * at] = i, y[3 * at + 1] = c, y[3 * at + 2] = found[k];
        }
    for (; at < rows; at++)
        for (int k = 0; k < 3; k++) y[3 * at + k] = PQ_ABSENT;
out:
    pq_free(row);
    pq_free(kept);
    pq_free(found);
    return st;
}

pq_status pq_eval_search(const pq_eval *e)
{
    switch (e->n->op) {
    case PQ_OP_TOP_K: return top_k(e);
    case PQ_OP_NON_ZERO: non_zero(e); return PQ_OK;
    case PQ_OP_NON_MAX_SUPPRESSION: return suppress(e);
    default: arg(e); return PQ_OK;
    }
}
