/* Evaluation: operators that find their elements by index: Gather and its variants, Scatter. An
 * index of PQ_ABSENT reads nothing (what it would have filled says so) and writes nothing. */
#include <string.h>

#include "base/ctx.h"
#include "graph/eval.h"

/* An index of a dimension, counted from its end where negative. *absent: there is no such row. */
static pq_status load_index(const pq_eval *e, size_t i, int64_t dim, int64_t *out, bool *absent)
{
    const int64_t given = pq_eval_load(e->in[1], i);
    *absent = given == PQ_ABSENT;
    *out = given < 0 && !*absent ? given + dim : given;
    if (*absent || (*out >= 0 && *out < dim)) return PQ_OK;
    return pq_fail(e->ctx, PQ_E_FORMAT, "node '%s': index %lld, expected %lld to %lld", e->n->name,
                   (long long)given, (long long)-dim, (long long)dim - 1);
}

static void mark_absent(const pq_eval *e, size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++) pq_eval_store_absent(&e->out[0], first + i);
}

static pq_status gather(const pq_eval *e, size_t size)
{
    const pq_shape *x = &e->in[0]->shape;
    const int axis = (int)e->n->attr.axis;
    const int64_t n_index = pq_shape_count(&e->in[1]->shape);
    int64_t outer = 1, inner = 1, index;
    bool absent;
    for (int i = 0; i < axis; i++) outer *= x->dim[i];
    for (int i = axis + 1; i < x->rank; i++) inner *= x->dim[i];
    const size_t block = (size_t)inner * size;
    char *to = pq_tensor_data(&e->out[0]);
    const char *from = pq_tensor_data(e->in[0]);
    for (int64_t k = 0; k < n_index; k++) {
        const pq_status st = load_index(e, (size_t)k, x->dim[axis], &index, &absent);
        if (st != PQ_OK) return st;
        for (int64_t o = 0; o < outer; o++) {
            const size_t at = (size_t)(o * n_index + k);
            if (absent)
                mark_absent(e, at * (size_t)inner, (size_t)inner);
            else
                memcpy(to + at * block, from + (size_t)(o * x->dim[axis] + index) * block, block);
        }
    }
    return PQ_OK;
}

/* Row `row` of indices [.., k]: the offset in blocks that it names among dimensions first .. first
 * + k - 1 of s. */
static pq_status row_offset(const pq_eval *e, size_t row, int k, const pq_shape *s, int first,
                            int64_t *out, bool *absent)
{
    *out = 0;
    *absent = false;
    for (int i = 0; i < k; i++) {
        int64_t index;
        bool none;
        const pq_status st =
            load_index(e, row * (size_t)k + (size_t)i, s->dim[first + i], &index, &none);
        if (st != PQ_OK) return st;
        *absent |= none;
        *out = *absent ? 0 : *out * s->dim[first + i] + index;
    }
    return PQ_OK;
}

static pq_status gather_nd(const pq_eval *e, size_t size)
{
    const pq_shape *x = &e->in[0]->shape, *q = &e->in[1]->shape;
    const int b = (int)e->n->attr.batch_dims, k = (int)q->dim[q->rank - 1];
    int64_t batches = 1, inner = 1, per_batch = 1, offset;
    bool absent;
    for (int i = 0; i < b; i++) batches *= x->dim[i];
    for (int i = b; i < x->rank; i++) per_batch *= x->dim[i];
    for (int i = b + k; i < x->rank; i++) inner *= x->dim[i];
    const size_t rows = k ? (size_t)(pq_shape_count(q) / k) : 0, block = (size_t)inner * size;
    char *to = pq_tensor_data(&e->out[0]);
    const char *from = pq_tensor_data(e->in[0]);
    for (size_t r = 0; r < rows; r++) {
        const pq_status st = row_offset(e, r, k, x, b, &offset, &absent);
        if (st != PQ_OK) return st;
        const size_t batch = r / (rows / (size_t)batches) * (size_t)per_batch * size;
        if (absent)
            mark_absent(e, r * (size_t)inner, (size_t)inner);
        else
            memcpy(to + r * block, from + batch + (size_t)offset * block, block);
    }
    return PQ_OK;
}

/* GatherElements and ScatterElements: element i of the indices belongs to element i of the output
 * (updates), and to the one of the data that differs from it along the axis. */
static pq_status elements(const pq_eval *e, size_t size)
{
    const pq_shape *x = &e->in[0]->shape, *q = &e->in[1]->shape;
    const int axis = (int)e->n->attr.axis;
    const bool scatter = e->n->op == PQ_OP_SCATTER_ELEMENTS;
    const size_t total = (size_t)pq_shape_count(q);
    int64_t at[PQ_MAX_RANK] = {0}, stride[PQ_MAX_RANK], step = 1, index;
    const char *from = pq_tensor_data(e->in[scatter ? 2 : 0]);
    char *to = pq_tensor_data(&e->out[0]);
    bool absent;
    for (int i = x->rank - 1; i >= 0; i--) stride[i] = step, step *= x->dim[i];
    if (scatter) memcpy(to, pq_tensor_data(e->in[0]), (size_t)pq_shape_count(x) * size);
    for (size_t i = 0; i < total; i++) {
        const pq_status st = load_index(e, i, x->dim[axis], &index, &absent);
        if (st != PQ_OK) return st;
        int64_t k = index * stride[axis];
        for (int d = 0; d < x->rank; d++) k += d == axis ? 0 : at[d] * stride[d];
        if (!absent && scatter)
            memcpy(to + (size_t)k * size, from + i * size, size);
        else if (!absent)
            memcpy(to + i * size, from + (size_t)k * size, size);
        else if (!scatter)
            pq_eval_store_absent(&e->out[0], i);
        for (int d = x->rank - 1; d >= 0 && ++at[d] == q->dim[d]; d--) at[d] = 0;
    }
    return PQ_OK;
}

static pq_status scatter_nd(const pq_eval *e, size_t size)
{
    const pq_shape *x = &e->in[0]->shape, *q = &e->in[1]->shape;
    const int k = (int)q->dim[q->rank - 1];
    int64_t inner = 1, offset;
    bool absent;
    for (int i = k; i < x->rank; i++) inner *= x->dim[i];
    const size_t rows = k ? (size_t)(pq_shape_count(q) / k) : 0, block = (size_t)inner * size;
    char *to = pq_tensor_data(&e->out[0]);
    const char *update = pq_tensor_data(e->in[2]);
    memcpy(to, pq_tensor_data(e->in[0]), (size_t)pq_shape_count(x) * size);
    for (size_t r = 0; r < rows; r++) {
        const pq_status st = row_offset(e, r, k, x, 0, &offset, &absent);
        if (st != PQ_OK) return st;
        if (!absent) memcpy(to + (size_t)offset * block, update + r * block, block);
    }
    return PQ_OK;
}

pq_status pq_eval_index(const pq_eval *e)
{
    const size_t size = pq_dtype_size(e->out[0].dtype);
    switch (e->n->op) {
    case PQ_OP_GATHER: return gather(e, size);
    case PQ_OP_GATHER_ND: return gather_nd(e, size);
    case PQ_OP_SCATTER_ND: return scatter_nd(e, size);
    default: return elements(e, size);
    }
}
