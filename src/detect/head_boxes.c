/* Heads that give boxes after suppression: rows with columns, or outputs of their own for scores
 * and classes. Rows of NaN, and rows beyond the count, are not there. */
#include <math.h>

#include "base/ctx.h"
#include "detect/head.h"

/* Rows an image and numbers a row of output at. */
static void rows_of(const pq_shape *s, int64_t *rows, int64_t *width)
{
    *width = s->rank ? s->dim[s->rank - 1] : 1;
    *rows = s->rank >= 2 ? s->dim[s->rank - 2] : 1;
}

static int64_t count_of(const pq_shape *s) { return pq_shape_count(s); }

pq_status pq_boxes_check(pq_ctx *ctx, const pq_head *h, const pq_shape *shape, size_t n_outputs)
{
    char text[96];
    const int at[] = {h->boxes_at, h->scores_at, h->classes_at, h->count_at};
    for (int i = 0; i < 4; i++)
        if (at[i] >= (int)n_outputs || (i == 0 && at[i] < 0))
            return pq_fail(ctx, PQ_E_UNSUPPORTED, "head with output %d of %zu", at[i], n_outputs);
    const pq_shape *s = &shape[h->boxes_at];
    int64_t rows, width;
    rows_of(s, &rows, &width);
    bool ok = s->rank == 2 || s->rank == 3;
    for (int i = 0; i < PQ_BOX_COLUMNS; i++) {
        const bool needed = i <= PQ_BOX_Y2 || (i == PQ_BOX_SCORE && h->scores_at < 0);
        ok = ok && h->column[i] < width && (!needed || h->column[i] >= 0);
    }
    if (!ok)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "output %d %s does not hold rows of boxes",
                       h->boxes_at, pq_shape_text(s, text, sizeof text));
    for (int i = 1; i < 3; i++)
        if (at[i] >= 0 && count_of(&shape[at[i]]) * width != count_of(s))
            return pq_fail(ctx, PQ_E_UNSUPPORTED, "output %d %s does not fit %lld rows of boxes",
                           at[i], pq_shape_text(&shape[at[i]], text, sizeof text), (long long)rows);
    return PQ_OK;
}

static float number(const pq_tensor *t, int64_t i) { return ((const float *)pq_tensor_data(t))[i]; }

/* Rows are [images, rows, width], or one list of all images. */
pq_status pq_boxes_collect(pq_ctx *ctx, pq_pool *p, const pq_head *h, const pq_tensor *output,
                           size_t image)
{
    const pq_tensor *t = &output[h->boxes_at];
    int64_t rows, width, count;
    rows_of(&t->shape, &rows, &width);
    const int64_t first = t->shape.rank == 3 ? (int64_t)image * rows : 0;
    count = rows;
    if (h->count_at >= 0 && count_of(&output[h->count_at].shape) > (int64_t)image) {
        const float n = number(&output[h->count_at], (int64_t)image);
        if (n >= 0 && n < (float)rows) count = (int64_t)n;
    }
    const double sx = h->normalized ? h->w : 1, sy = h->normalized ? h->h : 1;
    const int *column = h->column;
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = (first + i) * width;
        const float score = h->scores_at >= 0 ? number(&output[h->scores_at], first + i)
                                              : number(t, at + column[PQ_BOX_SCORE]);
        const float cls = h->classes_at >= 0          ? number(&output[h->classes_at], first + i)
                          : column[PQ_BOX_CLASS] >= 0 ? number(t, at + column[PQ_BOX_CLASS])
                                                      : 0;
        if (!(score > (float)h->conf) || !(cls >= 0) || !(cls < (float)h->n_classes)) continue;
        if (column[PQ_BOX_IMAGE] >= 0 && number(t, at + column[PQ_BOX_IMAGE]) != (float)image)
            continue;
        const pq_box box = {(double)number(t, at + column[PQ_BOX_X1]) * sx,
                            (double)number(t, at + column[PQ_BOX_Y1]) * sy,
                            (double)number(t, at + column[PQ_BOX_X2]) * sx,
                            (double)number(t, at + column[PQ_BOX_Y2]) * sy};
        const size_t before = p->n;
        const pq_status st = pq_pool_add(ctx, p, &score, 1, (float)h->conf, 1, 1, &box);
        if (st != PQ_OK) return st;
        if (p->n > before) p->c[before].cls = (int32_t)cls;
    }
    return PQ_OK;
}
