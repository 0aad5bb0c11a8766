/* The calibrated state dict, named as pytorch-quantization does. */
#include "export/calib_pth.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "export/pth.h"
#include "plan/names.h"

typedef struct state_dict {
    pq_ctx *ctx;
    const pq_graph *g;
    pq_binding b;
    char **name;
    pq_tensor *tensor;
    size_t n, room;
} state_dict;

/* Room for one more entry, with its name. */
static pq_status next(state_dict *d, const char *op, const char *member, pq_tensor **out)
{
    pq_status st;
    if (d->n == d->room) {
        const size_t room = 2 * d->room + 256;
        if ((st = pq_grow(d->ctx, &d->name, d->n, room, sizeof *d->name)) != PQ_OK) return st;
        if ((st = pq_grow(d->ctx, &d->tensor, d->n, room, sizeof *d->tensor)) != PQ_OK) return st;
        d->room = room;
    }
    st = pq_asprintf(d->ctx, &d->name[d->n], "%s.%s", op, member);
    if (st == PQ_OK) *out = &d->tensor[d->n++];
    return st;
}

/* A constant of the graph, or what the plan puts in its place. */
static pq_status add_constant(state_dict *d, const char *op, const char *member, pq_value_id id)
{
    const pq_value *v = &d->g->value[id];
    pq_tensor *t;
    pq_status st = next(d, op, member, &t);
    if (st != PQ_OK) return st;
    *t = (pq_tensor){v->dtype, v->shape,
                     pq_buf_ref(d->b.weight[id] ? d->b.weight[id]->data.buf : v->data)};
    return PQ_OK;
}

static pq_status add_input_range(state_dict *d, const char *op, const pq_plan_tensor *x)
{
    const int low = x->dtype == PQ_U8 ? 0 : -127, high = x->dtype == PQ_U8 ? 255 : 127;
    const int below = x->zero_point - low, above = high - x->zero_point;
    const pq_shape scalar = {0};
    pq_tensor *t;
    pq_status st = next(d, op, "_input_quantizer._amax", &t);
    if (st == PQ_OK) st = pq_tensor_new(d->ctx, t, PQ_F32, &scalar);
    if (st != PQ_OK) return st;
    *(float *)pq_tensor_data(t) = x->scale * (float)(below > above ? below : above);
    return PQ_OK;
}

static int channel_axis(const pq_graph *g, const pq_node *n)
{
    if (n->op == PQ_OP_CONV_TRANSPOSE) return 1;
    if (n->op == PQ_OP_GEMM) return n->attr.trans_b ? 0 : 1;
    return n->op == PQ_OP_MATMUL ? pq_in(g, n, 1)->shape.rank - 1 : 0;
}

static pq_status add_weight_range(state_dict *d, const pq_node *n)
{
    const pq_value *w = pq_in(d->g, n, 1);
    const pq_plan_weight *fix = d->b.weight[n->in[1]];
    const int axis = channel_axis(d->g, n);
    const float *data = fix ? pq_tensor_data(&fix->data) : pq_buf_data(w->data);
    const float *given = fix && fix->scale.buf ? pq_tensor_data(&fix->scale) : NULL;
    pq_shape shape = w->shape;
    int8_t *q = NULL;
    float *scale = NULL;
    pq_tensor *t;
    pq_status st;
    for (int i = 0; i < shape.rank; i++)
        if (i != axis) shape.dim[i] = 1;
    PQ_TRY(pq_plan_quantize_weights(d->ctx, &q, &scale, data, &w->shape, axis, given));
    PQ_TRY(next(d, n->name, "_weight_quantizer._amax", &t));
    PQ_TRY(pq_tensor_new(d->ctx, t, PQ_F32, &shape));
    float *amax = pq_tensor_data(t);
    for (int64_t i = 0; i < shape.dim[axis]; i++) amax[i] = 127 * scale[i];
out:
    pq_free(q);
    pq_free(scale);
    return st;
}

static pq_status add_operator(state_dict *d, pq_node_id id)
{
    const pq_node *n = &d->g->node[id];
    const bool weighted = pq_op_is_weighted(n->op), int8 = d->b.precision[id] == PQ_PREC_INT8;
    const pq_plan_tensor *x = d->b.tensor[n->in[0]];
    pq_status st = PQ_OK;
    /* A pooling that only moves integers may have no scale of its own in front: its result's is the
     * same. */
    if (!x && !weighted) x = d->b.tensor[n->out[0]];
    if (int8 && x) PQ_TRY(add_input_range(d, n->name, x));
    if (!weighted) goto out;
    if (int8) PQ_TRY(add_weight_range(d, n));
    PQ_TRY(add_constant(d, n->name, "weight", n->in[1]));
    if (n->n_in > 2 && n->in[2] != PQ_NONE) st = add_constant(d, n->name, "bias", n->in[2]);
out:
    return st;
}

pq_status pq_export_calib_pth(pq_ctx *ctx, const char *path, const pq_graph *g, const pq_plan *plan)
{
    state_dict d = {.ctx = ctx, .g = g};
    const int n = (int)pq_graph_quantizable_count(g);
    pq_status st;
    PQ_TRY(pq_plan_bind(ctx, &d.b, plan, g));
    for (int i = 0; i < n; i++) PQ_TRY(add_operator(&d, pq_graph_quantizable(g, i)));
    st = pq_pth_write(ctx, path, (const char *const *)d.name, d.tensor, d.n);
out:
    for (size_t i = 0; i < d.n; i++) {
        pq_free(d.name[i]);
        pq_tensor_clear(&d.tensor[i]);
    }
    pq_free(d.name);
    pq_free(d.tensor);
    pq_binding_clear(&d.b);
    return st;
}
