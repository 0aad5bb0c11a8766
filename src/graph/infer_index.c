/* Shape inference: operators that find their elements by index, and those that answer with indices.
 * What has as many rows as it finds gets as many as there can be (PQ_ABSENT). */
#include <pquant/graph.h>

#include "base/ctx.h"
#include "graph/infer_rules.h"

static pq_status want_indices(const pq_infer_scope *s, int i)
{
    const pq_dtype t = pq_infer_in(s, i)->dtype;
    if (t == PQ_S64 || t == PQ_S32) return PQ_OK;
    return pq_fail(s->ctx, PQ_E_FORMAT, "indices are %s", pq_dtype_name(t));
}

static pq_status misfit(const pq_infer_scope *s)
{
    char tx[160], tq[160];
    return pq_fail(s->ctx, PQ_E_FORMAT, "data %s and indices %s do not fit",
                   pq_shape_text(pq_infer_shape(s, 0), tx, sizeof tx),
                   pq_shape_text(pq_infer_shape(s, 1), tq, sizeof tq));
}

static pq_status rule_gather(const pq_infer_scope *s)
{
    pq_status st;
    const pq_shape *x = pq_infer_shape(s, 0), *index = pq_infer_shape(s, 1);
    PQ_TRY(pq_infer_axis(s, &s->n->attr.axis, x->rank));
    PQ_TRY(want_indices(s, 1));
    if (x->rank - 1 + index->rank > PQ_MAX_RANK) {
        st = pq_fail(s->ctx, PQ_E_UNSUPPORTED, "more than %d dimensions", PQ_MAX_RANK);
        goto out;
    }
    pq_shape out = {0, {0}};
    for (int i = 0; i < x->rank; i++) {
        if (i != s->n->attr.axis) {
            out.dim[out.rank++] = x->dim[i];
            continue;
        }
        for (int k = 0; k < index->rank; k++) out.dim[out.rank++] = index->dim[k];
    }
    st = pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
out:
    return st;
}

static pq_status rule_gather_nd(const pq_infer_scope *s)
{
    pq_status st = want_indices(s, 1);
    const pq_shape *x = pq_infer_shape(s, 0), *q = pq_infer_shape(s, 1);
    const int64_t b = s->n->attr.batch_dims;
    if (st != PQ_OK) return st;
    if (!q->rank || b < 0 || b >= q->rank || b >= x->rank || q->dim[q->rank - 1] < 1 ||
        q->dim[q->rank - 1] > x->rank - b)
        return misfit(s);
    for (int i = 0; i < b; i++)
        if (x->dim[i] != q->dim[i]) return misfit(s);
    const int k = (int)q->dim[q->rank - 1];
    pq_shape out = {q->rank - 1, {0}};
    for (int i = 0; i < out.rank; i++) out.dim[i] = q->dim[i];
    if (out.rank + x->rank - (int)b - k > PQ_MAX_RANK)
        return pq_fail(s->ctx, PQ_E_UNSUPPORTED, "more than %d dimensions", PQ_MAX_RANK);
    for (int i = (int)b + k; i < x->rank; i++) out.dim[out.rank++] = x->dim[i];
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

/* GatherElements gives the indices' shape, ScatterElements the data's. */
static pq_status rule_elements(const pq_infer_scope *s)
{
    pq_status st;
    const bool scatter = s->n->op == PQ_OP_SCATTER_ELEMENTS;
    const pq_shape *x = pq_infer_shape(s, 0), *q = pq_infer_shape(s, 1);
    const pq_dtype dtype = pq_infer_in(s, 0)->dtype;
    PQ_TRY(pq_infer_axis(s, &s->n->attr.axis, x->rank));
    PQ_TRY(want_indices(s, 1));
    bool fits = x->rank == q->rank;
    for (int i = 0; fits && i < x->rank; i++) fits = i == s->n->attr.axis || q->dim[i] <= x->dim[i];
    if (!fits || (scatter && (!pq_shape_equal(q, pq_infer_shape(s, 2)) ||
                              pq_infer_in(s, 2)->dtype != dtype))) {
        st = misfit(s);
        goto out;
    }
    st = pq_infer_set(s, 0, dtype, scatter ? x : q);
out:
    return st;
}

static pq_status rule_scatter_nd(const pq_infer_scope *s)
{
    pq_status st = want_indices(s, 1);
    const pq_shape *x = pq_infer_shape(s, 0), *q = pq_infer_shape(s, 1);
    const pq_value *update = pq_infer_in(s, 2);
    if (st != PQ_OK) return st;
    if (!q->rank || q->dim[q->rank - 1] < 1 || q->dim[q->rank - 1] > x->rank) return misfit(s);
    const int k = (int)q->dim[q->rank - 1];
    pq_shape want = {q->rank - 1, {0}};
    for (int i = 0; i < want.rank; i++) want.dim[i] = q->dim[i];
    for (int i = k; i < x->rank && want.rank < PQ_MAX_RANK; i++) want.dim[want.rank++] = x->dim[i];
    if (!pq_shape_equal(&want, &update->shape) || update->dtype != pq_infer_in(s, 0)->dtype) {
        char tu[160], tw[160];
        return pq_fail(s->ctx, PQ_E_FORMAT, "updates %s %s, expected %s %s",
                       pq_dtype_name(update->dtype), pq_shape_text(&update->shape, tu, sizeof tu),
                       pq_dtype_name(pq_infer_in(s, 0)->dtype),
                       pq_shape_text(&want, tw, sizeof tw));
    }
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, x);
}

static pq_status rule_arg(const pq_infer_scope *s)
{
    pq_shape out = *pq_infer_shape(s, 0), kept = {0, {0}};
    const pq_status st = pq_infer_axis(s, &s->n->attr.axis, out.rank);
    if (st != PQ_OK) return st;
    if (out.dim[s->n->attr.axis] < 1) return pq_fail(s->ctx, PQ_E_FORMAT, "the axis is empty");
    out.dim[s->n->attr.axis] = 1;
    for (int i = 0; i < out.rank; i++)
        if (s->n->attr.keepdims || i != s->n->attr.axis) kept.dim[kept.rank++] = out.dim[i];
    return pq_infer_set(s, 0, PQ_S64, &kept);
}

static pq_status rule_top_k(const pq_infer_scope *s)
{
    int64_t k;
    int n;
    pq_shape out = *pq_infer_shape(s, 0);
    pq_status st;
    PQ_TRY(pq_infer_axis(s, &s->n->attr.axis, out.rank));
    PQ_TRY(pq_infer_ints(s, 1, &k, 1, &n));
    const int64_t have = out.dim[s->n->attr.axis];
    if (n != 1 || k < 0 || k > have) {
        st = pq_fail(s->ctx, PQ_E_FORMAT, "the best %lld of %lld", n == 1 ? (long long)k : -1LL,
                     (long long)have);
        goto out;
    }
    out.dim[s->n->attr.axis] = k;
    PQ_TRY(pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out));
    if (s->n->n_out > 1) st = pq_infer_set(s, 1, PQ_S64, &out);
out:
    return st;
}

static pq_status rule_non_zero(const pq_infer_scope *s)
{
    const pq_shape *x = pq_infer_shape(s, 0);
    return pq_infer_set(s, 0, PQ_S64, &PQ_SHAPE(x->rank, pq_shape_count(x)));
}

static pq_status rule_suppress(const pq_infer_scope *s)
{
    pq_status st;
    char tb[160], ts[160];
    int64_t most = 0, rows;
    int n = 0;
    for (int i = 0; i < 2; i++) {
        PQ_TRY(pq_infer_want_rank(s, i, 3));
        PQ_TRY(pq_infer_want_float(s, i));
    }
    const pq_shape *b = pq_infer_shape(s, 0), *c = pq_infer_shape(s, 1);
    if (b->dim[0] != c->dim[0] || b->dim[1] != c->dim[2] || b->dim[2] != 4) {
        st = pq_fail(s->ctx, PQ_E_FORMAT, "boxes %s and scores %s do not fit",
                     pq_shape_text(b, tb, sizeof tb), pq_shape_text(c, ts, sizeof ts));
        goto out;
    }
    if (pq_infer_has(s, 2)) PQ_TRY(pq_infer_ints(s, 2, &most, 1, &n));
    if (most > b->dim[1]) most = b->dim[1];
    if (most < 0) most = 0;
    rows = c->dim[0] * c->dim[1];
    if (__builtin_mul_overflow(rows, most, &rows)) rows = -1; /* refused with the shape */
    st = pq_infer_set(s, 0, PQ_S64, &PQ_SHAPE(rows, 3));
out:
    return st;
}

pq_status pq_infer_index(const pq_infer_scope *s)
{
    switch (s->n->op) {
    case PQ_OP_GATHER: return rule_gather(s);
    case PQ_OP_GATHER_ND: return rule_gather_nd(s);
    case PQ_OP_GATHER_ELEMENTS:
    case PQ_OP_SCATTER_ELEMENTS: return rule_elements(s);
    case PQ_OP_SCATTER_ND: return rule_scatter_nd(s);
    case PQ_OP_ARG_MAX:
    case PQ_OP_ARG_MIN: return rule_arg(s);
    case PQ_OP_TOP_K: return rule_top_k(s);
    case PQ_OP_NON_ZERO: return rule_non_zero(s);
    case PQ_OP_NON_MAX_SUPPRESSION: return rule_suppress(s);
    default: return pq_fail(s->ctx, PQ_E_INTERNAL, "no shape rule");
    }
}
