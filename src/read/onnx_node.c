/* ONNX nodes into ours: one table line per operator of the file, with a function that reads its
 * attributes for opsets 11 to 21 and, where the file's operator has no single counterpart, adds the
 * nodes that make it up. Source: onnx.ai/onnx/operators. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"
#include "read/onnx_node.h"

/* Add a node and infer it. Outputs are called by the file's names (to_file), or made-up ones. */
static pq_status emit(pq_onnx_build *b, pq_value_id *out, const char *name, pq_op op,
                      const pq_attr *attr, const pq_value_id *in, int n_in, int n_out, bool to_file)
{
    pq_status st;
    pq_node_id id;
    pq_onnx_reader *r = b->r;
    PQ_TRY(pq_graph_add_node(r->ctx, &id, r->g, name, op, to_file ? b->p->op_type : NULL, in, n_in,
                             n_out, NULL, attr));
    for (int i = 0; i < n_out; i++) {
        const pq_value_id v = r->g->node[id].out[i];
        struct pq_name_slot *slot;
        bool is_new;
        if (to_file && b->p->output[i][0]) {
            PQ_TRY(pq_name_map_add(r->ctx, &r->values, &slot, b->p->output[i], &is_new));
            if (slot->id != PQ_NONE) {
                st = pq_fail(r->ctx, PQ_E_FORMAT, "value '%s' is made twice", b->p->output[i]);
                goto out;
            }
            slot->id = v;
            PQ_TRY(pq_arena_strdup(r->ctx, r->g->arena, &r->g->value[v].name, b->p->output[i]));
        } else {
            PQ_TRY(pq_name_map_unique(r->ctx, &r->values, r->g->arena, &r->g->value[v].name, name));
        }
    }
    if (out) *out = r->g->node[id].out[0];
    st = pq_infer_node(r->ctx, &r->inf, r->g, id);
    b->named = st != PQ_OK;
out:
    return st;
}

pq_status pq_onnx_helper(pq_onnx_build *b, pq_value_id *out, const char *what, pq_op op,
                         const pq_attr *attr, const pq_value_id *in, int n_in)
{
    const char *base, *name;
    pq_status st = pq_arena_printf(b->r->ctx, b->r->g->arena, &base, "%s/%s", b->name, what);
    if (st == PQ_OK) st = pq_name_map_unique(b->r->ctx, &b->r->nodes, b->r->g->arena, &name, base);
    return st == PQ_OK ? emit(b, out, name, op, attr, in, n_in, 1, false) : st;
}

pq_status pq_onnx_last(pq_onnx_build *b, pq_op op, const pq_attr *attr, const pq_value_id *in,
                       int n_in)
{
    b->done = true;
    return emit(b, NULL, b->name, op, attr, in, n_in, 1, true);
}

pq_status pq_onnx_make_const(pq_onnx_build *b, pq_value_id *out, const char *what, pq_dtype dtype,
                             const pq_shape *shape, pq_buf *data)
{
    const char *base, *name;
    pq_onnx_reader *r = b->r;
    pq_status st = pq_arena_printf(r->ctx, r->g->arena, &base, "%s/%s", b->name, what);
    if (st == PQ_OK) st = pq_name_map_unique(r->ctx, &r->values, r->g->arena, &name, base);
    return st == PQ_OK ? pq_graph_add_const(r->ctx, out, r->g, name, dtype, shape, data) : st;
}

pq_status pq_onnx_make_ints(pq_onnx_build *b, pq_value_id *out, const char *what, const int64_t *v,
                            size_t n)
{
    pq_buf *buf;
    pq_status st = pq_buf_new(b->r->ctx, &buf, n * sizeof *v);
    if (st != PQ_OK) return st;
    if (n) memcpy(pq_buf_data(buf), v, n * sizeof *v);
    st = pq_onnx_make_const(b, out, what, PQ_S64, &PQ_SHAPE((int64_t)n), buf);
    pq_buf_unref(buf);
    return st;
}

pq_status pq_onnx_make_float(pq_onnx_build *b, pq_value_id *out, const char *what, float v)
{
    pq_buf *buf;
    const pq_shape scalar = {0, {0}};
    pq_status st = pq_buf_new(b->r->ctx, &buf, sizeof v);
    if (st != PQ_OK) return st;
    memcpy(pq_buf_data(buf), &v, sizeof v);
    st = pq_onnx_make_const(b, out, what, PQ_F32, &scalar, buf);
    pq_buf_unref(buf);
    return st;
}

/* ---- attributes ---- */

static pq_status read_none(pq_onnx_build *b)
{
    (void)b;
    return PQ_OK;
}

static pq_status read_alpha_beta(pq_onnx_build *b)
{
    pq_status st = pq_onnx_float(b->r->ctx, &b->attr.alpha, b->p, "alpha");
    return st == PQ_OK ? pq_onnx_float(b->r->ctx, &b->attr.beta, b->p, "beta") : st;
}

static pq_status read_leaky_relu(pq_onnx_build *b)
{
    b->attr.alpha = 0.01f;
    return read_alpha_beta(b);
}

static pq_status read_hard_sigmoid(pq_onnx_build *b)
{
    b->attr.alpha = 0.2f;
    b->attr.beta = 0.5f;
    return read_alpha_beta(b);
}

static pq_status read_clip(pq_onnx_build *b)
{
    b->attr.alpha = -INFINITY; /* bounds that are inputs replace these in inference */
    b->attr.beta = INFINITY;
    return PQ_OK;
}

static pq_status read_cast(pq_onnx_build *b)
{
    int64_t to = 0;
    pq_dtype stored;
    pq_status st = pq_onnx_int(b->r->ctx, &to, b->p, "to");
    if (st != PQ_OK) return st;
    if (to < 0 || to > INT32_MAX || !pq_onnx_dtype((int32_t)to, &b->attr.to, &stored))
        return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "cast to element type %lld is not supported",
                       (long long)to);
    return PQ_OK;
}

static pq_status read_elu(pq_onnx_build *b)
{
    b->attr.alpha = 1;
    return pq_onnx_float(b->r->ctx, &b->attr.alpha, b->p, "alpha");
}

static pq_status read_mod(pq_onnx_build *b)
{
    return pq_onnx_flag(b->r->ctx, &b->attr.fmod, b->p, "fmod");
}

/* Sum, Min and Max of any number of inputs: a chain of pairs. */
static pq_status read_chain(pq_onnx_build *b)
{
    pq_value_id pair[2] = {b->in[0], 0};
    pq_status st = PQ_OK;
    if (b->n_in == 1) return pq_onnx_last(b, PQ_OP_IDENTITY, NULL, b->in, 1);
    for (int i = 1; i + 1 < b->n_in && st == PQ_OK; i++) {
        pair[1] = b->in[i];
        st = pq_onnx_helper(b, &pair[0], "part", b->op, NULL, pair, 2);
    }
    pair[1] = b->in[b->n_in - 1];
    return st == PQ_OK ? pq_onnx_last(b, b->op, NULL, pair, 2) : st;
}

static pq_status read_axis(pq_onnx_build *b)
{
    return pq_onnx_int(b->r->ctx, &b->attr.axis, b->p, "axis");
}

static pq_status read_gather_nd(pq_onnx_build *b)
{
    return pq_onnx_int(b->r->ctx, &b->attr.batch_dims, b->p, "batch_dims");
}

static pq_status read_scatter(pq_onnx_build *b)
{
    static const char *const reductions[] = {"none", NULL};
    int reduction;
    const pq_status st = pq_onnx_word(b->r->ctx, &reduction, b->p, "reduction", reductions);
    return st == PQ_OK ? read_axis(b) : st;
}

static pq_status read_arg(pq_onnx_build *b)
{
    pq_ctx *ctx = b->r->ctx;
    b->attr.keepdims = true;
    pq_status st = pq_onnx_flag(ctx, &b->attr.keepdims, b->p, "keepdims");
    if (st == PQ_OK) st = pq_onnx_flag(ctx, &b->attr.last, b->p, "select_last_index");
    return st == PQ_OK ? read_axis(b) : st;
}

/* Sorted or not: ours always is. */
static pq_status read_top_k(pq_onnx_build *b)
{
    b->attr.axis = -1;
    b->attr.largest = true;
    const pq_status st = pq_onnx_flag(b->r->ctx, &b->attr.largest, b->p, "largest");
    return st == PQ_OK ? read_axis(b) : st;
}

static pq_status read_suppression(pq_onnx_build *b)
{
    return pq_onnx_flag(b->r->ctx, &b->attr.center, b->p, "center_point_box");
}

static pq_status read_flatten(pq_onnx_build *b)
{
    b->attr.axis = 1;
    return read_axis(b);
}

static pq_status read_concat(pq_onnx_build *b)
{
    if (!pq_onnx_find_attr(b->p, "axis"))
        return pq_fail(b->r->ctx, PQ_E_FORMAT, "attribute 'axis' is missing");
    return read_axis(b);
}

/* Sizes are an attribute before opset 13, an input since. */
static pq_status read_split(pq_onnx_build *b)
{
    int64_t sizes[PQ_ONNX_MAX_IN];
    int n = -1;
    pq_status st = pq_onnx_int_list(b->r->ctx, sizes, PQ_ONNX_MAX_IN, &n, b->p, "split");
    if (st == PQ_OK && n >= 0 && b->n_in == 1) {
        st = pq_onnx_make_ints(b, &b->in[1], "split", sizes, (size_t)n);
        b->n_in = 2;
    }
    return st == PQ_OK ? read_axis(b) : st;
}

static pq_status read_axes(pq_onnx_build *b)
{
    return pq_onnx_int_list(b->r->ctx, b->attr.axes, PQ_MAX_RANK, &b->attr.n_axes, b->p, "axes");
}

pq_status pq_onnx_read_reduce(pq_onnx_build *b)
{
    bool noop = false;
    pq_tensor t;
    b->attr.keepdims = true;
    pq_status st = pq_onnx_flag(b->r->ctx, &b->attr.keepdims, b->p, "keepdims");
    if (st == PQ_OK) st = pq_onnx_flag(b->r->ctx, &noop, b->p, "noop_with_empty_axes");
    if (st == PQ_OK) st = read_axes(b);
    if (st != PQ_OK || !noop || b->attr.n_axes) return st;
    if (pq_onnx_has(b, 1) &&
        !(pq_inference_find(&b->r->inf, b->r->g, b->in[1], &t) && pq_shape_count(&t.shape) == 0))
        return PQ_OK;
    return pq_onnx_last(b, PQ_OP_IDENTITY, NULL, b->in, 1);
}

/* GlobalMaxPool: the maximum over everything behind the channels. */
static pq_status read_global_max_pool(pq_onnx_build *b)
{
    if (pq_onnx_in(b, 0)->shape.rank < 3)
        return pq_fail(b->r->ctx, PQ_E_FORMAT, "input of %d dimensions",
                       pq_onnx_in(b, 0)->shape.rank);
    b->attr.keepdims = true;
    for (int i = 2; i < pq_onnx_in(b, 0)->shape.rank; i++) b->attr.axes[b->attr.n_axes++] = i;
    return PQ_OK;
}

/* Before opset 13 Softmax ran over all dimensions from axis on together. */
static pq_status read_softmax(pq_onnx_build *b)
{
    const pq_shape *s = &pq_onnx_in(b, 0)->shape;
    const bool joint = b->r->opset < 13;
    pq_value_id flat, soft, shape, to_shape[2];
    b->attr.axis = joint ? 1 : -1;
    pq_status st = read_axis(b);
    if (st != PQ_OK || !joint) return st;
    int64_t axis = b->attr.axis < 0 ? b->attr.axis + s->rank : b->attr.axis, behind = 1;
    for (int64_t i = axis + 1; i > 0 && i < s->rank; i++) behind *= s->dim[i];
    if (axis < 0 || axis >= s->rank || behind == 1) return PQ_OK;
    const pq_attr at = {.axis = axis}, rows = {.axis = 1};
    PQ_TRY(pq_onnx_helper(b, &flat, "flatten", PQ_OP_FLATTEN, &at, b->in, 1));
    PQ_TRY(pq_onnx_helper(b, &soft, "softmax", b->op, &rows, &flat, 1));
    PQ_TRY(pq_onnx_helper(b, &shape, "shape", PQ_OP_SHAPE, NULL, b->in, 1));
    to_shape[0] = soft;
    to_shape[1] = shape;
    st = pq_onnx_last(b, PQ_OP_RESHAPE, NULL, to_shape, 2);
out:
    return st;
}

static pq_status read_transpose(pq_onnx_build *b)
{
    int n = 0;
    return pq_onnx_int_list(b->r->ctx, b->attr.perm, PQ_MAX_RANK, &n, b->p, "perm");
}

static pq_status read_reshape(pq_onnx_build *b)
{
    bool allow_zero = false;
    pq_tensor t;
    pq_status st = pq_onnx_flag(b->r->ctx, &allow_zero, b->p, "allowzero");
    if (st != PQ_OK || !allow_zero || !pq_onnx_has(b, 1)) return st;
    if (!pq_inference_find(&b->r->inf, b->r->g, b->in[1], &t)) return PQ_OK;
    for (int64_t i = 0; i < pq_shape_count(&t.shape); i++)
        if (pq_element(t.dtype, pq_tensor_data(&t), (size_t)i) == 0)
            return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "allowzero with a size of 0");
    return PQ_OK;
}

static pq_status read_pad(pq_onnx_build *b)
{
    static const char *const modes[] = {"constant", NULL};
    int mode;
    return pq_onnx_word(b->r->ctx, &mode, b->p, "mode", modes);
}

static pq_status read_resize(pq_onnx_build *b)
{
    static const char *const modes[] = {"nearest", "linear", NULL};
    static const char *const coords[] = {"asymmetric", "half_pixel", "pytorch_half_pixel",
                                         "align_corners", NULL};
    static const char *const rounds[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                         NULL};
    static const char *const policies[] = {"stretch", NULL};
    pq_ctx *ctx = b->r->ctx;
    pq_status st;
    int mode = PQ_RESIZE_NEAREST, coord = PQ_COORD_HALF_PIXEL, policy;
    int nearest = PQ_NEAREST_ROUND_PREFER_FLOOR;
    bool antialias = false;
    PQ_TRY(pq_onnx_word(ctx, &mode, b->p, "mode", modes));
    PQ_TRY(pq_onnx_word(ctx, &coord, b->p, "coordinate_transformation_mode", coords));
    if (mode == PQ_RESIZE_NEAREST)
        PQ_TRY(pq_onnx_word(ctx, &nearest, b->p, "nearest_mode", rounds));
    PQ_TRY(pq_onnx_word(ctx, &policy, b->p, "keep_aspect_ratio_policy", policies));
    PQ_TRY(pq_onnx_flag(ctx, &antialias, b->p, "antialias"));
    if (antialias || pq_onnx_find_attr(b->p, "axes")) {
        st = pq_fail(ctx, PQ_E_UNSUPPORTED, "attribute '%s' is not supported",
                     antialias ? "antialias" : "axes");
        goto out;
    }
    b->attr.resize = (pq_resize_mode)mode;
    b->attr.coord = (pq_coord)coord;
    b->attr.nearest = (pq_nearest)nearest;
out:
    return st;
}

/* Since opset 15 Shape can give a part of the shape: a slice of the whole. */
static pq_status read_shape(pq_onnx_build *b)
{
    pq_ctx *ctx = b->r->ctx;
    int64_t start = 0, end = INT64_MAX;
    pq_value_id in[3];
    pq_status st;
    PQ_TRY(pq_onnx_int(ctx, &start, b->p, "start"));
    PQ_TRY(pq_onnx_int(ctx, &end, b->p, "end"));
    if (start == 0 && end == INT64_MAX) goto out;
    PQ_TRY(pq_onnx_helper(b, &in[0], "shape", PQ_OP_SHAPE, NULL, b->in, 1));
    PQ_TRY(pq_onnx_make_ints(b, &in[1], "start", &start, 1));
    PQ_TRY(pq_onnx_make_ints(b, &in[2], "end", &end, 1));
    st = pq_onnx_last(b, PQ_OP_SLICE, NULL, in, 3);
out:
    return st;
}

static pq_status read_constant_of_shape(pq_onnx_build *b)
{
    const Onnx__AttributeProto *a = pq_onnx_find_attr(b->p, "value");
    pq_tensor t = {0};
    b->attr.to = PQ_F32;
    if (!a) return PQ_OK;
    if (!a->t) return pq_fail(b->r->ctx, PQ_E_FORMAT, "attribute 'value' is not a tensor");
    pq_status st = pq_onnx_tensor(b->r, &t, a->t);
    if (st != PQ_OK) return st;
    const bool one = pq_shape_count(&t.shape) == 1;
    const double v = one ? pq_element(t.dtype, pq_tensor_data(&t), 0) : 0;
    b->attr.to = t.dtype;
    b->attr.pad_value = (float)v;
    pq_tensor_clear(&t);
    if (!one || (v == v && (double)(float)v != v))
        return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "value %g, expected one of at most 24 bits", v);
    return PQ_OK;
}

static pq_status read_dropout(pq_onnx_build *b)
{
    pq_tensor t;
    if (pq_onnx_has(b, 2) && pq_inference_find(&b->r->inf, b->r->g, b->in[2], &t) &&
        pq_shape_count(&t.shape) == 1 && pq_element(t.dtype, pq_tensor_data(&t), 0) != 0)
        return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "training mode is not supported");
    b->n_in = 1;
    return PQ_OK;
}

static pq_status read_batch_norm(pq_onnx_build *b)
{
    bool training = false;
    b->attr.eps = 1e-5f;
    pq_status st = pq_onnx_float(b->r->ctx, &b->attr.eps, b->p, "epsilon");
    if (st == PQ_OK) st = pq_onnx_flag(b->r->ctx, &training, b->p, "training_mode");
    if (st == PQ_OK && training)
        st = pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "training mode is not supported");
    return st;
}

/* Replace a constant float input by its multiple. */
static pq_status scale_input(pq_onnx_build *b, int i, const char *what, float factor)
{
    const pq_value *v = pq_onnx_in(b, i);
    pq_buf *buf;
    const size_t n = (size_t)pq_shape_count(&v->shape);
    pq_status st = pq_buf_new(b->r->ctx, &buf, n * sizeof(float));
    if (st != PQ_OK) return st;
    const float *from = pq_buf_data(v->data);
    float *to = pq_buf_data(buf);
    for (size_t k = 0; k < n; k++) to[k] = factor * from[k];
    const pq_shape shape = v->shape;
    st = pq_onnx_make_const(b, &b->in[i], what, PQ_F32, &shape, buf);
    pq_buf_unref(buf);
    return st;
}

/* alpha and beta go into constant weights and biases, so that engines see them as 1. */
static pq_status read_gemm(pq_onnx_build *b)
{
    pq_status st;
    pq_attr *a = &b->attr;
    a->alpha = a->beta = 1;
    PQ_TRY(read_alpha_beta(b));
    PQ_TRY(pq_onnx_flag(b->r->ctx, &a->trans_a, b->p, "transA"));
    PQ_TRY(pq_onnx_flag(b->r->ctx, &a->trans_b, b->p, "transB"));
    if (a->alpha != 1.0f && pq_onnx_has(b, 1) && pq_onnx_in(b, 1)->data &&
        pq_onnx_in(b, 1)->dtype == PQ_F32) {
        PQ_TRY(scale_input(b, 1, "weight", a->alpha));
        a->alpha = 1;
    }
    if (!pq_onnx_has(b, 2)) a->beta = 1;
    if (a->beta != 1.0f && pq_onnx_in(b, 2)->data && pq_onnx_in(b, 2)->dtype == PQ_F32) {
        PQ_TRY(scale_input(b, 2, "bias", a->beta));
        a->beta = 1;
    }
out:
    return st;
}

/* ---- constants ---- */

static pq_status constant_data(pq_onnx_build *b, pq_tensor *t)
{
    const Onnx__AttributeProto *a = b->p->n_attribute == 1 ? b->p->attribute[0] : NULL;
    const char *what = a && a->name ? a->name : "";
    if (strcmp(what, "value") == 0 && a->t) return pq_onnx_tensor(b->r, t, a->t);
    const bool ints = strncmp(what, "value_int", 9) == 0,
               many = what[0] && what[strlen(what) - 1] == 's';
    if (!ints && strncmp(what, "value_float", 11) != 0)
        return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "constant given by '%s' is not supported",
                       what);
    const size_t n = !many ? 1 : ints ? a->n_ints : a->n_floats;
    pq_shape shape = {many ? 1 : 0, {(int64_t)n}};
    pq_status st = pq_tensor_new(b->r->ctx, t, ints ? PQ_S64 : PQ_F32, &shape);
    for (size_t i = 0; st == PQ_OK && i < n; i++) {
        if (ints)
            ((int64_t *)pq_tensor_data(t))[i] = many ? a->ints[i] : a->i;
        else
            ((float *)pq_tensor_data(t))[i] = many ? a->floats[i] : a->f;
    }
    return st;
}

static pq_status read_constant(pq_onnx_build *b)
{
    pq_status st;
    pq_tensor t = {0};
    struct pq_name_slot *slot;
    pq_value_id v;
    bool is_new;
    b->done = true;
    PQ_TRY(constant_data(b, &t));
    PQ_TRY(pq_graph_add_const(b->r->ctx, &v, b->r->g, b->p->output[0], t.dtype, &t.shape, t.buf));
    PQ_TRY(pq_name_map_add(b->r->ctx, &b->r->values, &slot, b->p->output[0], &is_new));
    if (slot->id != PQ_NONE)
        st = pq_fail(b->r->ctx, PQ_E_FORMAT, "value '%s' is made twice", b->p->output[0]);
    else
        slot->id = v;
out:
    pq_tensor_clear(&t);
    return st;
}

/* ---- the table ---- */

static const pq_onnx_line ops[] = {
    {"Abs", PQ_OP_ABS, read_none},
    {"Add", PQ_OP_ADD, read_none},
    {"And", PQ_OP_AND, read_none},
    {"ArgMax", PQ_OP_ARG_MAX, read_arg},
    {"ArgMin", PQ_OP_ARG_MIN, read_arg},
    {"AveragePool", PQ_OP_AVERAGE_POOL, pq_onnx_read_pool},
    {"BatchNormalization", PQ_OP_BATCH_NORM, read_batch_norm},
    {"Cast", PQ_OP_CAST, read_cast},
    {"Ceil", PQ_OP_CEIL, read_none},
    {"Clip", PQ_OP_CLIP, read_clip},
    {"Concat", PQ_OP_CONCAT, read_concat},
    {"Constant", PQ_OP_IDENTITY, read_constant},
    {"ConstantOfShape", PQ_OP_CONSTANT_OF_SHAPE, read_constant_of_shape},
    {"Conv", PQ_OP_CONV, pq_onnx_read_sliding},
    {"ConvTranspose", PQ_OP_CONV_TRANSPOSE, pq_onnx_read_conv_transpose},
    {"Cos", PQ_OP_COS, read_none},
    {"Div", PQ_OP_DIV, read_none},
    {"Dropout", PQ_OP_IDENTITY, read_dropout},
    {"Elu", PQ_OP_ELU, read_elu},
    {"Equal", PQ_OP_EQUAL, read_none},
    {"Erf", PQ_OP_ERF, read_none},
    {"Exp", PQ_OP_EXP, read_none},
    {"Expand", PQ_OP_EXPAND, read_none},
    {"Flatten", PQ_OP_FLATTEN, read_flatten},
    {"Floor", PQ_OP_FLOOR, read_none},
    {"Gather", PQ_OP_GATHER, read_axis},
    {"GatherElements", PQ_OP_GATHER_ELEMENTS, read_axis},
    {"GatherND", PQ_OP_GATHER_ND, read_gather_nd},
    {"Gemm", PQ_OP_GEMM, read_gemm},
    {"GlobalAveragePool", PQ_OP_GLOBAL_AVERAGE_POOL, read_none},
    {"GlobalMaxPool", PQ_OP_REDUCE_MAX, read_global_max_pool},
    {"Greater", PQ_OP_GREATER, read_none},
    {"GreaterOrEqual", PQ_OP_GREATER_OR_EQUAL, read_none},
    {"HardSigmoid", PQ_OP_HARD_SIGMOID, read_hard_sigmoid},
    {"HardSwish", PQ_OP_HARD_SWISH, read_none},
    {"Identity", PQ_OP_IDENTITY, read_none},
    {"LeakyRelu", PQ_OP_LEAKY_RELU, read_leaky_relu},
    {"Less", PQ_OP_LESS, read_none},
    {"LessOrEqual", PQ_OP_LESS_OR_EQUAL, read_none},
    {"Log", PQ_OP_LOG, read_none},
    {"LogSoftmax", PQ_OP_LOG_SOFTMAX, read_softmax},
    {"MatMul", PQ_OP_MATMUL, read_none},
    {"Max", PQ_OP_MAX, read_chain},
    {"MaxPool", PQ_OP_MAX_POOL, pq_onnx_read_pool},
    {"Min", PQ_OP_MIN, read_chain},
    {"Mod", PQ_OP_MOD, read_mod},
    {"Mul", PQ_OP_MUL, read_none},
    {"Neg", PQ_OP_NEG, read_none},
    {"NonMaxSuppression", PQ_OP_NON_MAX_SUPPRESSION, read_suppression},
    {"NonZero", PQ_OP_NON_ZERO, read_none},
    {"Not", PQ_OP_NOT, read_none},
    {"Or", PQ_OP_OR, read_none},
    {"PRelu", PQ_OP_PRELU, read_none},
    {"Pad", PQ_OP_PAD, read_pad},
    {"Pow", PQ_OP_POW, read_none},
    {"Range", PQ_OP_RANGE, read_none},
    {"Reciprocal", PQ_OP_RECIPROCAL, read_none},
    {"ReduceMax", PQ_OP_REDUCE_MAX, pq_onnx_read_reduce},
    {"ReduceMean", PQ_OP_REDUCE_MEAN, pq_onnx_read_reduce},
    {"ReduceMin", PQ_OP_REDUCE_MIN, pq_onnx_read_reduce},
    {"ReduceProd", PQ_OP_REDUCE_PROD, pq_onnx_read_reduce},
    {"ReduceSum", PQ_OP_REDUCE_SUM, pq_onnx_read_reduce},
    {"Relu", PQ_OP_RELU, read_none},
    {"Reshape", PQ_OP_RESHAPE, read_reshape},
    {"Resize", PQ_OP_RESIZE, read_resize},
    {"Round", PQ_OP_ROUND, read_none},
    {"ScatterElements", PQ_OP_SCATTER_ELEMENTS, read_scatter},
    {"ScatterND", PQ_OP_SCATTER_ND, read_scatter},
    {"Shape", PQ_OP_SHAPE, read_shape},
    {"Sigmoid", PQ_OP_SIGMOID, read_none},
    {"Sign", PQ_OP_SIGN, read_none},
    {"Sin", PQ_OP_SIN, read_none},
    {"Slice", PQ_OP_SLICE, read_none},
    {"Softmax", PQ_OP_SOFTMAX, read_softmax},
    {"Softplus", PQ_OP_SOFTPLUS, read_none},
    {"Split", PQ_OP_SPLIT, read_split},
    {"Sqrt", PQ_OP_SQRT, read_none},
    {"Squeeze", PQ_OP_SQUEEZE, read_axes},
    {"Sub", PQ_OP_SUB, read_none},
    {"Sum", PQ_OP_ADD, read_chain},
    {"Tanh", PQ_OP_TANH, read_none},
    {"Tile", PQ_OP_TILE, read_none},
    {"TopK", PQ_OP_TOP_K, read_top_k},
    {"Transpose", PQ_OP_TRANSPOSE, read_transpose},
    {"Unsqueeze", PQ_OP_UNSQUEEZE, read_axes},
    {"Where", PQ_OP_WHERE, read_none},
    {"Xor", PQ_OP_XOR, read_none},
};

static const pq_onnx_line *find_op(const char *type)
{
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (strcmp(ops[i].type, type) == 0) return &ops[i];
    return pq_onnx_find_composed(type);
}

static pq_status unknown_op(const pq_onnx_build *b)
{
    const char *type = b->p->op_type, *domain = b->p->domain ? b->p->domain : "";
    const bool quantized = strstr(type, "QuantizeLinear") || strstr(type, "DequantizeLinear") ||
                           strncmp(type, "QLinear", 7) == 0 || strstr(type, "Integer");
    return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED,
                   "node '%s': operator '%s%s%s' (opset %d) is not supported%s", b->name, domain,
                   domain[0] ? "." : "", type, b->r->opset,
                   quantized ? ": model is already quantized" : "");
}

static pq_status resolve_inputs(pq_onnx_build *b)
{
    if (b->p->n_input > PQ_ONNX_MAX_IN)
        return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "%zu inputs, at most %d", b->p->n_input,
                       PQ_ONNX_MAX_IN);
    for (size_t i = 0; i < b->p->n_input; i++) {
        const char *name = b->p->input[i];
        b->in[i] = PQ_NONE;
        if (!name[0]) continue;
        const struct pq_name_slot *slot = pq_name_map_find(&b->r->values, name);
        if (!slot || slot->id == PQ_NONE)
            return pq_fail(b->r->ctx, PQ_E_FORMAT, "input '%s' is not made by anything before it",
                           name);
        b->in[i] = slot->id;
        b->n_in = (int)i + 1; /* trailing absent inputs are dropped */
    }
    return PQ_OK;
}

static pq_status build_node(pq_onnx_build *b, const pq_onnx_line *line)
{
    pq_status st = resolve_inputs(b);
    if (st != PQ_OK) return st;
    if (line->read != read_constant && (!b->n_in || b->in[0] == PQ_NONE))
        return pq_fail(b->r->ctx, PQ_E_FORMAT, "no input");
    size_t n_out = line->op == PQ_OP_SPLIT ? b->p->n_output : line->op == PQ_OP_TOP_K ? 2 : 1;
    if (n_out < 1 || n_out > PQ_ONNX_MAX_IN || b->p->n_output < n_out ||
        (!b->p->output[0][0] && n_out == 1))
        return pq_fail(b->r->ctx, PQ_E_FORMAT, "%zu outputs", b->p->n_output);
    b->op = line->op;
    if ((st = line->read(b)) != PQ_OK || b->done) return st;
    return emit(b, NULL, b->name, b->op, &b->attr, b->in, b->n_in, (int)n_out, true);
}

pq_status pq_onnx_node(pq_onnx_reader *r, const Onnx__NodeProto *p, size_t index)
{
    pq_status st;
    const char *base = p->name;
    pq_onnx_build b = {.r = r, .p = p};
    if (!p->op_type) return pq_fail(r->ctx, PQ_E_FORMAT, "node %zu has no operator", index);
    if (!base || !base[0]) {
        st = pq_arena_printf(r->ctx, r->g->arena, &base, "%s_%zu", p->op_type, index);
        if (st != PQ_OK) return st;
    }
    if ((st = pq_name_map_unique(r->ctx, &r->nodes, r->g->arena, &b.name, base)) != PQ_OK)
        return st;
    const bool standard = !p->domain || !p->domain[0] || strcmp(p->domain, "ai.onnx") == 0;
    const pq_onnx_line *line = standard ? find_op(p->op_type) : NULL;
    if (!line) return unknown_op(&b);
    st = build_node(&b, line);
    return b.named ? st : pq_prefix(r->ctx, st, "node '%s' (%s)", b.name, p->op_type);
}
