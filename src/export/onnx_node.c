/* Nodes of the graph as ONNX nodes, attributes from their normal form and static shapes. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"
#include "export/onnx_writer.h"
#include "plan/names.h"

/* Dimension of the output channels of a weighted node's weights. */
static int channel_axis(const pq_node *n, const pq_shape *weights)
{
    switch (n->op) {
    case PQ_OP_CONV_TRANSPOSE: return 1;
    case PQ_OP_GEMM: return n->attr.trans_b ? 0 : 1;
    case PQ_OP_MATMUL: return weights->rank - 1;
    default: return 0;
    }
}

/* What a convolution reads that takes in a Focus: the Focus's input, on its result's grid. */
static pq_status focus_input(pq_onnx_writer *w, const char **out, const pq_node *focus,
                             bool quantized)
{
    const pq_value_id y = focus->out[0];
    *out = w->name[focus->in[0]];
    if (!quantized) return PQ_OK;
    return pq_onnx_pair_of(w, out, w->g->value[y].name, *out, w->bind.tensor[y]);
}

pq_status pq_onnx_input(pq_onnx_writer *w, const char **out, pq_node_id id, int i)
{
    const pq_node *n = &w->g->node[id];
    *out = "";
    if (i >= n->n_in || n->in[i] == PQ_NONE) return PQ_OK;
    const pq_value *v = &w->g->value[n->in[i]];
    if (i == 1 && v->data && pq_op_is_weighted(n->op) && n->quant_index >= 0 && w->bind.int8[id])
        return pq_onnx_int8_weights(w, out, n->in[1], channel_axis(n, &v->shape));
    if (v->data) {
        pq_status st = pq_onnx_constant_init(w, n->in[i]);
        if (st != PQ_OK) return st;
    }
    const pq_node *focus = i == 0 ? pq_onnx_folded_focus(w, id) : NULL;
    if (focus) return focus_input(w, out, focus, pq_reads_quantized(&w->bind, id, 0));
    *out = pq_onnx_reads_pair(w, id, i) ? w->dequant[n->in[i]] : w->name[n->in[i]];
    return PQ_OK;
}

static pq_status scalar(pq_onnx_writer *w, const char **out, const char *base, const char *what,
                        float v)
{
    const pq_shape none = {0, {0}};
    return pq_onnx_floats_init(w, out, base, what, &none, &v, false);
}

/* ---- activations ---- */

/* in * inner(in), inner a Sigmoid or HardSigmoid */
static pq_status gated(pq_onnx_writer *w, const char *base, const char *inner, const char *in,
                       const char *out)
{
    pq_status st;
    Onnx__NodeProto *n;
    const char *gate, *pair[2] = {in, NULL};
    const bool hard = strcmp(inner, "HardSigmoid") == 0;
    PQ_TRY(pq_onnx_value_name(w, &gate, base, "gate"));
    PQ_TRY(pq_onnx_add(w, &n, inner, base, "gate", &in, 1, &gate, 1));
    if (hard) PQ_TRY(pq_onnx_put_float(w, n, "alpha", 1.0f / 6.0f));
    if (hard) PQ_TRY(pq_onnx_put_float(w, n, "beta", 0.5f));
    pair[1] = gate;
    st = pq_onnx_add(w, NULL, "Mul", base, NULL, pair, 2, &out, 1);
out:
    return st;
}

static pq_status clip(pq_onnx_writer *w, const char *base, float lo, float hi, const char *in,
                      const char *out)
{
    pq_status st = PQ_OK;
    const char *inputs[3] = {in, "", ""};
    if (lo > -INFINITY) st = scalar(w, &inputs[1], base, "min", lo);
    if (st == PQ_OK && hi < INFINITY) st = scalar(w, &inputs[2], base, "max", hi);
    return st == PQ_OK ? pq_onnx_add(w, NULL, "Clip", base, NULL, inputs, 3, &out, 1) : st;
}

pq_status pq_onnx_write_act(pq_onnx_writer *w, const char *base, pq_act act, float alpha,
                            float beta, const char *in, const char *out)
{
    static const char *const type[] = {
        [PQ_ACT_NONE] = "Identity",
        [PQ_ACT_RELU] = "Relu",
        [PQ_ACT_LEAKY_RELU] = "LeakyRelu",
        [PQ_ACT_CLIP] = "Clip",
        [PQ_ACT_SIGMOID] = "Sigmoid",
        [PQ_ACT_SILU] = "Sigmoid",
        [PQ_ACT_HARD_SIGMOID] = "HardSigmoid",
        [PQ_ACT_HARD_SWISH] = "HardSwish",
        [PQ_ACT_TANH] = "Tanh",
    };
    Onnx__NodeProto *n;
    if (act == PQ_ACT_SILU) return gated(w, base, "Sigmoid", in, out);
    if (act == PQ_ACT_CLIP) return clip(w, base, alpha, beta, in, out);
    if (act == PQ_ACT_HARD_SWISH && w->opset < 14) return gated(w, base, "HardSigmoid", in, out);
    pq_status st = pq_onnx_add(w, &n, type[act], base, NULL, &in, 1, &out, 1);
    if (st == PQ_OK && (act == PQ_ACT_LEAKY_RELU || act == PQ_ACT_HARD_SIGMOID))
        st = pq_onnx_put_float(w, n, "alpha", alpha);
    if (st == PQ_OK && act == PQ_ACT_HARD_SIGMOID) st = pq_onnx_put_float(w, n, "beta", beta);
    return st;
}

/* An activation that is a node of the graph. */
static pq_act act_of(pq_op op)
{
    switch (op) {
    case PQ_OP_RELU: return PQ_ACT_RELU;
    case PQ_OP_LEAKY_RELU: return PQ_ACT_LEAKY_RELU;
    case PQ_OP_CLIP: return PQ_ACT_CLIP;
    case PQ_OP_SIGMOID: return PQ_ACT_SIGMOID;
    case PQ_OP_SILU: return PQ_ACT_SILU;
    case PQ_OP_HARD_SIGMOID: return PQ_ACT_HARD_SIGMOID;
    case PQ_OP_HARD_SWISH: return PQ_ACT_HARD_SWISH;
    case PQ_OP_TANH: return PQ_ACT_TANH;
    default: return PQ_ACT_NONE;
    }
}

/* ---- operators with constant inputs made from attributes ---- */

pq_status pq_onnx_write_slice(pq_onnx_writer *w, const char *base, const char *what,
                              const pq_shape *x, const int64_t *begin, const int64_t *step,
                              const int64_t *n, const char *in, const char *out)
{
    pq_status st;
    int64_t from[PQ_MAX_RANK], to[PQ_MAX_RANK], axes[PQ_MAX_RANK], steps[PQ_MAX_RANK];
    const char *inputs[5] = {in, "", "", "", ""};
    int count = 0;
    for (int i = 0; i < x->rank; i++) {
        const bool all = begin[i] == 0 && step[i] == 1 && n[i] == x->dim[i];
        if (all && (count || i + 1 < x->rank)) continue; /* at least one axis is named */
        from[count] = begin[i];
        to[count] = n[i] ? begin[i] + (n[i] - 1) * step[i] + (step[i] > 0 ? 1 : -1) : begin[i];
        if (n[i] && to[count] < 0) to[count] = INT64_MIN; /* -1 would mean the last element */
        /* To the end, whatever that is: another input size must not be cut off unnoticed. */
        if (n[i] && step[i] > 0 && begin[i] + n[i] * step[i] >= x->dim[i]) to[count] = INT64_MAX;
        axes[count] = i;
        steps[count++] = step[i];
    }
    PQ_TRY(pq_onnx_ints_init(w, &inputs[1], base, "starts", from, count));
    PQ_TRY(pq_onnx_ints_init(w, &inputs[2], base, "ends", to, count));
    PQ_TRY(pq_onnx_ints_init(w, &inputs[3], base, "axes", axes, count));
    PQ_TRY(pq_onnx_ints_init(w, &inputs[4], base, "steps", steps, count));
    st = pq_onnx_add(w, NULL, "Slice", base, what, inputs, 5, &out, 1);
out:
    return st;
}

/* x and one list of integers: Reshape, Expand, Squeeze, Unsqueeze, Split, ReduceSum. */
static pq_status with_ints(pq_onnx_writer *w, Onnx__NodeProto **node, const pq_node *n,
                           const char *in, const char *what, const int64_t *v, int count)
{
    pq_status st;
    const char *inputs[2] = {in, ""}, *outputs[64];
    PQ_TRY(pq_onnx_ints_init(w, &inputs[1], n->name, what, v, count));
    for (int i = 0; i < n->n_out; i++) outputs[i] = w->name[n->out[i]];
    st = pq_onnx_add(w, node, pq_op_name(n->op), n->name, NULL, inputs, 2, outputs, n->n_out);
out:
    return st;
}

static pq_status write_split(pq_onnx_writer *w, const pq_node *n, const char *in)
{
    int64_t size[64];
    Onnx__NodeProto *node;
    for (int i = 0; i < n->n_out; i++) size[i] = pq_out_value(w->g, n, i)->shape.dim[n->attr.axis];
    pq_status st = with_ints(w, &node, n, in, "split", size, n->n_out);
    return st == PQ_OK ? pq_onnx_put_int(w, node, "axis", n->attr.axis) : st;
}

static pq_status write_reduce(pq_onnx_writer *w, const pq_node *n, const char *in)
{
    pq_status st;
    Onnx__NodeProto *node;
    const pq_attr *a = &n->attr;
    const bool axes_input = n->op == PQ_OP_REDUCE_SUM || w->opset >= 18;
    if (axes_input) {
        PQ_TRY(with_ints(w, &node, n, in, "axes", a->axes, a->n_axes));
    } else {
        PQ_TRY(pq_onnx_add(w, &node, pq_op_name(n->op), n->name, NULL, &in, 1, &w->name[n->out[0]],
                           1));
        PQ_TRY(pq_onnx_put_ints(w, node, "axes", a->axes, a->n_axes));
    }
    st = pq_onnx_put_int(w, node, "keepdims", a->keepdims);
out:
    return st;
}

static pq_status write_pad(pq_onnx_writer *w, const pq_node *n, const char *in)
{
    pq_status st;
    int64_t pads[2 * PQ_MAX_RANK];
    const pq_value *x = pq_in(w->g, n, 0);
    const char *inputs[3] = {in, "", ""};
    for (int i = 0; i < x->shape.rank; i++) {
        pads[i] = n->attr.begin[i];
        pads[x->shape.rank + i] = n->attr.step[i];
    }
    PQ_TRY(pq_onnx_ints_init(w, &inputs[1], n->name, "pads", pads, 2 * x->shape.rank));
    if (n->attr.pad_value != 0.0f) {
        if (x->dtype != PQ_F32) {
            st = pq_fail(w->ctx, PQ_E_UNSUPPORTED, "node '%s': padding of %s with %g", n->name,
                         pq_dtype_name(x->dtype), (double)n->attr.pad_value);
            goto out;
        }
        PQ_TRY(scalar(w, &inputs[2], n->name, "value", n->attr.pad_value));
    }
    st = pq_onnx_add(w, NULL, "Pad", n->name, NULL, inputs, 3, &w->name[n->out[0]], 1);
out:
    return st;
}

static pq_status write_resize(pq_onnx_writer *w, const pq_node *n, const char *in)
{
    static const char *const modes[] = {"nearest", "linear"};
    static const char *const coords[] = {"asymmetric", "half_pixel", "pytorch_half_pixel",
                                         "align_corners"};
    static const char *const rounds[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                         "ceil"};
    pq_status st;
    Onnx__NodeProto *node;
    const pq_attr *a = &n->attr;
    const pq_shape *x = &pq_in(w->g, n, 0)->shape, *y = &pq_out_value(w->g, n, 0)->shape;
    const char *inputs[4] = {in, "", "", ""};
    const float scales[4] = {1, 1, a->scale[0], a->scale[1]};
    bool by_scale = true;
    for (int i = 0; i < 2; i++)
        by_scale = by_scale &&
                   (int64_t)floor((double)x->dim[2 + i] * (double)a->scale[i]) == y->dim[2 + i];
    if (by_scale)
        PQ_TRY(pq_onnx_floats_init(w, &inputs[2], n->name, "scales", &PQ_SHAPE(4), scales, true));
    else
        PQ_TRY(pq_onnx_ints_init(w, &inputs[3], n->name, "sizes", y->dim, 4));
    PQ_TRY(pq_onnx_add(w, &node, "Resize", n->name, NULL, inputs, 4, &w->name[n->out[0]], 1));
    PQ_TRY(pq_onnx_put_text(w, node, "mode", modes[a->resize]));
    PQ_TRY(pq_onnx_put_text(w, node, "coordinate_transformation_mode", coords[a->coord]));
    if (a->resize == PQ_RESIZE_NEAREST)
        PQ_TRY(pq_onnx_put_text(w, node, "nearest_mode", rounds[a->nearest]));
out:
    return st;
}

static pq_status put_fill_value(pq_onnx_writer *w, Onnx__NodeProto *node, const pq_node *n)
{
    void *data;
    Onnx__TensorProto *t;
    const float v = n->attr.pad_value;
    pq_status st = pq_arena_alloc(w->ctx, w->arena, &data, 1, 8);
    if (st != PQ_OK) return st;
    switch (n->attr.to) {
    case PQ_F32:
        if (w->fp16)
            *(uint16_t *)data = pq_f32_to_f16(v);
        else
            *(float *)data = v;
        break;
    case PQ_S64: *(int64_t *)data = (int64_t)v; break;
    case PQ_S32: *(int32_t *)data = (int32_t)v; break;
    case PQ_S16: *(int16_t *)data = (int16_t)v; break;
    default: *(uint8_t *)data = (uint8_t)(int)v; break;
    }
    st = pq_onnx_tensor_proto(w, &t, NULL, pq_onnx_type(w, n->attr.to), &PQ_SHAPE(1), data);
    return st == PQ_OK ? pq_onnx_put_tensor(w, node, "value", t) : st;
}

/* ---- attributes ---- */

static pq_status put_window(pq_onnx_writer *w, Onnx__NodeProto *node, const pq_node *n)
{
    pq_status st;
    pq_window wide = n->attr.window;
    const pq_window *a = &wide;
    const bool conv = n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE;
    if (pq_onnx_folded_focus(w, (pq_node_id)(n - w->g->node))) {
        for (int i = 0; i < 4; i++) wide.pad[i] *= 2;
        for (int i = 0; i < 2; i++) {
            wide.kernel[i] *= 2;
            wide.stride[i] *= 2;
        }
    }
    PQ_TRY(pq_onnx_put_ints(w, node, "kernel_shape", a->kernel, 2));
    PQ_TRY(pq_onnx_put_ints(w, node, "strides", a->stride, 2));
    PQ_TRY(pq_onnx_put_ints(w, node, "pads", a->pad, 4));
    if (conv) PQ_TRY(pq_onnx_put_int(w, node, "group", a->groups));
    if (n->op == PQ_OP_CONV_TRANSPOSE && (a->out_pad[0] || a->out_pad[1]))
        PQ_TRY(pq_onnx_put_ints(w, node, "output_padding", a->out_pad, 2));
    if (n->op != PQ_OP_AVERAGE_POOL || a->dilation[0] != 1 || a->dilation[1] != 1)
        PQ_TRY(pq_onnx_put_ints(w, node, "dilations", a->dilation, 2));
    if (!conv && a->ceil_mode) PQ_TRY(pq_onnx_put_int(w, node, "ceil_mode", 1));
    if (n->op == PQ_OP_AVERAGE_POOL && a->count_include_pad)
        PQ_TRY(pq_onnx_put_int(w, node, "count_include_pad", 1));
out:
    return st;
}

static pq_status put_attributes(pq_onnx_writer *w, Onnx__NodeProto *node, const pq_node *n)
{
    pq_status st = PQ_OK;
    const pq_attr *a = &n->attr;
    switch (n->op) {
    case PQ_OP_CONV:
    case PQ_OP_CONV_TRANSPOSE:
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL: return put_window(w, node, n);
    case PQ_OP_GEMM:
        st = pq_onnx_put_float(w, node, "alpha", a->alpha);
        if (st == PQ_OK) st = pq_onnx_put_float(w, node, "beta", a->beta);
        if (st == PQ_OK) st = pq_onnx_put_int(w, node, "transA", a->trans_a);
        return st == PQ_OK ? pq_onnx_put_int(w, node, "transB", a->trans_b) : st;
    case PQ_OP_BATCH_NORM: return pq_onnx_put_float(w, node, "epsilon", a->eps);
    case PQ_OP_CAST: return pq_onnx_put_int(w, node, "to", pq_onnx_type(w, a->to));
    case PQ_OP_ELU: return pq_onnx_put_float(w, node, "alpha", a->alpha);
    case PQ_OP_MOD: return pq_onnx_put_int(w, node, "fmod", a->fmod);
    case PQ_OP_GATHER_ND: return pq_onnx_put_int(w, node, "batch_dims", a->batch_dims);
    case PQ_OP_NON_MAX_SUPPRESSION: return pq_onnx_put_int(w, node, "center_point_box", a->center);
    case PQ_OP_ARG_MAX:
    case PQ_OP_ARG_MIN:
        st = pq_onnx_put_int(w, node, "axis", a->axis);
        if (st == PQ_OK) st = pq_onnx_put_int(w, node, "keepdims", a->keepdims);
        return st == PQ_OK && a->last ? pq_onnx_put_int(w, node, "select_last_index", 1) : st;
    case PQ_OP_TOP_K:
        st = pq_onnx_put_int(w, node, "axis", a->axis);
        return st == PQ_OK ? pq_onnx_put_int(w, node, "largest", a->largest) : st;
    case PQ_OP_CONCAT:
    case PQ_OP_SOFTMAX:
    case PQ_OP_LOG_SOFTMAX:
    case PQ_OP_GATHER_ELEMENTS:
    case PQ_OP_SCATTER_ELEMENTS:
    case PQ_OP_GATHER:
    case PQ_OP_FLATTEN: return pq_onnx_put_int(w, node, "axis", a->axis);
    case PQ_OP_TRANSPOSE:
        return pq_onnx_put_ints(w, node, "perm", a->perm, pq_in(w->g, n, 0)->shape.rank);
    case PQ_OP_CONSTANT_OF_SHAPE: return put_fill_value(w, node, n);
    default: return PQ_OK;
    }
}

/* Operators whose inputs are the graph's, one for one; to: the name of output 0. */
static pq_status write_plain(pq_onnx_writer *w, pq_node_id id, const char *to)
{
    pq_status st = PQ_OK;
    const pq_node *n = &w->g->node[id];
    const char *in[64], *out[2] = {to, n->n_out > 1 ? w->name[n->out[1]] : ""};
    Onnx__NodeProto *node;
    for (int i = 0; i < n->n_in; i++) PQ_TRY(pq_onnx_input(w, &in[i], id, i));
    PQ_TRY(pq_onnx_add(w, &node, pq_op_name(n->op), n->name, NULL, in, n->n_in, out, n->n_out));
    st = put_attributes(w, node, n);
out:
    return st;
}

static pq_status write_op(pq_onnx_writer *w, pq_node_id id, const char *to)
{
    const pq_node *n = &w->g->node[id];
    const pq_shape *y = &pq_out_value(w->g, n, 0)->shape;
    const pq_act act = act_of(n->op);
    const char *in;
    pq_status st = pq_onnx_input(w, &in, id, 0);
    if (st != PQ_OK) return st;
    /* integers keep their constant bounds: Clip */
    if (act && !(n->op == PQ_OP_CLIP && pq_in(w->g, n, 0)->dtype != PQ_F32))
        return pq_onnx_write_act(w, n->name, act, n->attr.alpha, n->attr.beta, in, to);
    switch (n->op) {
    case PQ_OP_FOCUS: return pq_onnx_write_focus(w, id);
    case PQ_OP_GFL_DECODE: return pq_onnx_write_gfl_decode(w, id);
    case PQ_OP_SLICE:
        return pq_onnx_write_slice(w, n->name, NULL, &pq_in(w->g, n, 0)->shape, n->attr.begin,
                                   n->attr.step, y->dim, in, to);
    case PQ_OP_RESHAPE: return with_ints(w, NULL, n, in, "shape", y->dim, y->rank);
    case PQ_OP_EXPAND: return with_ints(w, NULL, n, in, "shape", y->dim, y->rank);
    case PQ_OP_UNSQUEEZE: return with_ints(w, NULL, n, in, "axes", n->attr.axes, n->attr.n_axes);
    case PQ_OP_SQUEEZE:
        if (!n->attr.n_axes) return pq_onnx_add(w, NULL, "Squeeze", n->name, NULL, &in, 1, &to, 1);
        return with_ints(w, NULL, n, in, "axes", n->attr.axes, n->attr.n_axes);
    case PQ_OP_SPLIT: return write_split(w, n, in);
    case PQ_OP_REDUCE_SUM:
    case PQ_OP_REDUCE_MEAN:
    case PQ_OP_REDUCE_MAX:
    case PQ_OP_REDUCE_MIN:
    case PQ_OP_REDUCE_PROD: return write_reduce(w, n, in);
    case PQ_OP_PAD: return write_pad(w, n, in);
    case PQ_OP_RESIZE: return write_resize(w, n, in);
    default: return write_plain(w, id, to);
    }
}

pq_status pq_onnx_write_node(pq_onnx_writer *w, pq_node_id id)
{
    const pq_node *n = &w->g->node[id];
    const char *last = w->name[n->out[0]], *before;
    if (!n->attr.act) return write_op(w, id, last);
    pq_status st = pq_onnx_value_name(w, &before, n->name, "linear");
    if (st == PQ_OK) st = write_op(w, id, before);
    if (st != PQ_OK) return st;
    const char *base;
    st = pq_arena_printf(w->ctx, w->arena, &base, "%s/act", n->name);
    return st == PQ_OK
               ? pq_onnx_write_act(w, base, n->attr.act, n->attr.alpha, n->attr.beta, before, last)
               : st;
}
