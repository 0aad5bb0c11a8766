/* Evaluation: operators that move elements without computing, and Shape, ConstantOfShape, Range. */
#include <string.h>

#include "base/ctx.h"
#include "graph/eval.h"

/* A box of elements on one side of a copy: element [i0, i1, …] is at offset + sum of i * stride. */
typedef struct side {
    char *data;
    int64_t offset, stride[PQ_MAX_RANK];
} side;

static void copy_row(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n,
                     size_t size)
{
    if (to_step == 1 && from_step == 1) {
        memcpy(to, from, (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * to_step * (int64_t)size, from + i * from_step * (int64_t)size, size);
}

/* Copy a box of the given dimensions. */
static void copy_box(const side *to, const side *from, const int64_t *dim, int rank, size_t size)
{
    int64_t at[PQ_MAX_RANK] = {0};
    const int64_t row = rank ? dim[rank - 1] : 1;
    for (int k = 0; k < rank; k++)
        if (dim[k] <= 0) return;
    for (bool more = true; more;) {
        int64_t t = to->offset, f = from->offset;
        for (int k = 0; k + 1 < rank; k++) t += at[k] * to->stride[k], f += at[k] * from->stride[k];
        copy_row(to->data + t * (int64_t)size, rank ? to->stride[rank - 1] : 1,
                 from->data + f * (int64_t)size, rank ? from->stride[rank - 1] : 1, row, size);
        int k = rank - 2;
        while (k >= 0 && ++at[k] == dim[k]) at[k--] = 0;
        more = k >= 0;
    }
}

/* The whole of a tensor, dense. */
static side whole(const pq_tensor *t)
{
    side s = {pq_tensor_data(t), 0, {0}};
    int64_t step = 1;
    for (int i = t->shape.rank - 1; i >= 0; i--) {
        s.stride[i] = step;
        step *= t->shape.dim[i];
    }
    return s;
}

static void concat(const pq_eval *e, size_t size)
{
    const int axis = (int)e->n->attr.axis;
    side to = whole(&e->out[0]);
    for (int i = 0; i < e->n->n_in; i++) {
        const side from = whole(e->in[i]);
        copy_box(&to, &from, e->in[i]->shape.dim, e->in[i]->shape.rank, size);
        to.offset += e->in[i]->shape.dim[axis] * to.stride[axis];
    }
}

static void split(const pq_eval *e, size_t size)
{
    const int axis = (int)e->n->attr.axis;
    side from = whole(e->in[0]);
    for (int i = 0; i < e->n->n_out; i++) {
        const side to = whole(&e->out[i]);
        copy_box(&to, &from, e->out[i].shape.dim, e->out[i].shape.rank, size);
        from.offset += e->out[i].shape.dim[axis] * from.stride[axis];
    }
}

static void slice(const pq_eval *e, size_t size)
{
    const pq_shape *s = &e->out[0].shape;
    const side to = whole(&e->out[0]);
    side from = whole(e->in[0]);
    for (int i = 0; i < s->rank; i++) {
        from.offset += e->n->attr.begin[i] * from.stride[i];
        from.stride[i] *= e->n->attr.step[i];
    }
    copy_box(&to, &from, s->dim, s->rank, size);
}

static void transpose(const pq_eval *e, size_t size)
{
    const pq_shape *s = &e->out[0].shape;
    const side to = whole(&e->out[0]), x = whole(e->in[0]);
    side from = x;
    for (int i = 0; i < s->rank; i++) from.stride[i] = x.stride[e->n->attr.perm[i]];
    copy_box(&to, &from, s->dim, s->rank, size);
}

static void expand(const pq_eval *e, size_t size)
{
    const pq_shape *s = &e->out[0].shape;
    const side to = whole(&e->out[0]);
    side from = {pq_tensor_data(e->in[0]), 0, {0}};
    pq_eval_strides(&e->in[0]->shape, s->rank, from.stride);
    copy_box(&to, &from, s->dim, s->rank, size);
}

static void fill(pq_tensor *t, float value)
{
    const size_t n = (size_t)pq_shape_count(&t->shape);
    for (size_t i = 0; i < n; i++) {
        if (t->dtype == PQ_F32)
            ((float *)pq_tensor_data(t))[i] = value;
        else
            pq_eval_store(t, i, (int64_t)value);
    }
}

/* Negative padding removes elements: copy what lies inside both. */
static void pad(const pq_eval *e, size_t size)
{
    const pq_attr *a = &e->n->attr;
    const pq_shape *x = &e->in[0]->shape;
    int64_t box[PQ_MAX_RANK];
    side to = whole(&e->out[0]), from = whole(e->in[0]);
    if (a->pad_value != 0.0f) fill(&e->out[0], a->pad_value);
    for (int i = 0; i < x->rank; i++) {
        const int64_t lo = a->begin[i], hi = a->step[i];
        box[i] = x->dim[i] + (lo < 0 ? lo : 0) + (hi < 0 ? hi : 0);
        if (lo > 0)
            to.offset += lo * to.stride[i];
        else
            from.offset -= lo * from.stride[i];
    }
    copy_box(&to, &from, box, x->rank, size);
}

static void tile(const pq_eval *e, size_t size)
{
    const pq_shape *x = &e->in[0]->shape, *y = &e->out[0].shape;
    const size_t total = (size_t)pq_shape_count(y);
    const char *from = pq_tensor_data(e->in[0]);
    char *to = pq_tensor_data(&e->out[0]);
    int64_t at[PQ_MAX_RANK] = {0}, stride[PQ_MAX_RANK], step = 1;
    for (int i = x->rank - 1; i >= 0; i--) stride[i] = step, step *= x->dim[i];
    for (size_t k = 0; k < total; k++) {
        int64_t i = 0;
        for (int d = 0; d < y->rank; d++) i += at[d] % x->dim[d] * stride[d];
        memcpy(to + k * size, from + (size_t)i * size, size);
        for (int d = y->rank - 1; d >= 0 && ++at[d] == y->dim[d]; d--) at[d] = 0;
    }
}

/* Pixels of every 2 x 2 block into channels: top-left, bottom-left, top-right, bottom-right. */
static void focus(const pq_eval *e, size_t size)
{
    const pq_shape *x = &e->in[0]->shape, *y = &e->out[0].shape; /* [n,c,h,w], [n,4c,h/2,w/2] */
    const int64_t box[4] = {x->dim[0], x->dim[1], y->dim[2], y->dim[3]};
    for (int k = 0; k < 4; k++) {
        side to = whole(&e->out[0]), from = whole(e->in[0]);
        to.offset = k * x->dim[1] * to.stride[1];
        from.offset = (k & 1) * from.stride[2] + (k >> 1) * from.stride[3];
        from.stride[2] *= 2;
        from.stride[3] *= 2;
        copy_box(&to, &from, box, 4, size);
    }
}

static void range(const pq_eval *e)
{
    pq_tensor *y = &e->out[0];
    for (int64_t i = 0; i < y->shape.dim[0]; i++) {
        if (y->dtype == PQ_F32) {
            const float start = *(const float *)pq_tensor_data(e->in[0]);
            const float step = *(const float *)pq_tensor_data(e->in[2]);
            ((float *)pq_tensor_data(y))[i] = start + (float)i * step;
        } else {
            const uint64_t step = (uint64_t)pq_eval_load(e->in[2], 0);
            pq_eval_store(y, (size_t)i,
                          (int64_t)((uint64_t)pq_eval_load(e->in[0], 0) + (uint64_t)i * step));
        }
    }
}

pq_status pq_eval_move(const pq_eval *e)
{
    const size_t size = pq_dtype_size(e->out[0].dtype);
    switch (e->n->op) {
    case PQ_OP_CONCAT: concat(e, size); break;
    case PQ_OP_SPLIT: split(e, size); break;
    case PQ_OP_SLICE: slice(e, size); break;
    case PQ_OP_TRANSPOSE: transpose(e, size); break;
    case PQ_OP_EXPAND: expand(e, size); break;
    case PQ_OP_TILE: tile(e, size); break;
    case PQ_OP_PAD: pad(e, size); break;
    case PQ_OP_FOCUS: focus(e, size); break;
    case PQ_OP_RANGE: range(e); break;
    case PQ_OP_CONSTANT_OF_SHAPE: fill(&e->out[0], e->n->attr.pad_value); break;
    case PQ_OP_SHAPE: {
        const pq_shape *x = &pq_in(e->g, e->n, 0)->shape;
        for (int i = 0; i < x->rank; i++) pq_eval_store(&e->out[0], (size_t)i, x->dim[i]);
        break;
    }
    default: /* the same elements in the same order: Identity, Reshape, … */
        memcpy(pq_tensor_data(&e->out[0]), pq_tensor_data(e->in[0]),
               (size_t)pq_shape_count(&e->out[0].shape) * size);
        break;
    }
    return PQ_OK;
}
