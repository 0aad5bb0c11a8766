/* ONNX operators that are written in terms of ours: normalisations, activations without a kernel of
 * their own, reductions with a step before or behind, blocks between depth and space. Sizes that
 * depend on the input are taken from it by Shape, so that another input size fits. Source:
 * onnx.ai/onnx/operators. */
#include <float.h>
#include <string.h>

#include "base/ctx.h"
#include "read/onnx_node.h"

static pq_status one(pq_onnx_build *b, pq_value_id *out, const char *what, pq_op op, pq_value_id x)
{
    return pq_onnx_helper(b, out, what, op, NULL, &x, 1);
}

static pq_status two(pq_onnx_build *b, pq_value_id *out, const char *what, pq_op op, pq_value_id x,
                     pq_value_id y)
{
    const pq_value_id in[2] = {x, y};
    return pq_onnx_helper(b, out, what, op, NULL, in, 2);
}

static pq_status last_one(pq_onnx_build *b, pq_op op, pq_value_id x)
{
    return pq_onnx_last(b, op, NULL, &x, 1);
}

static pq_status last_two(pq_onnx_build *b, pq_op op, pq_value_id x, pq_value_id y)
{
    const pq_value_id in[2] = {x, y};
    return pq_onnx_last(b, op, NULL, in, 2);
}

/* x op constant */
static pq_status by(pq_onnx_build *b, pq_value_id *out, const char *what, pq_op op, pq_value_id x,
                    float v)
{
    pq_value_id c;
    const pq_status st = pq_onnx_make_float(b, &c, what, v);
    return st == PQ_OK ? two(b, out, what, op, x, c) : st;
}

static pq_status last_by(pq_onnx_build *b, pq_op op, pq_value_id x, const char *what, float v)
{
    pq_value_id c;
    const pq_status st = pq_onnx_make_float(b, &c, what, v);
    return st == PQ_OK ? last_two(b, op, x, c) : st;
}

/* ---- elementwise ---- */

static pq_status read_mish(pq_onnx_build *b)
{
    pq_value_id v;
    pq_status st = one(b, &v, "softplus", PQ_OP_SOFTPLUS, b->in[0]);
    if (st == PQ_OK) st = one(b, &v, "tanh", PQ_OP_TANH, v);
    return st == PQ_OK ? last_two(b, PQ_OP_MUL, b->in[0], v) : st;
}

static pq_status read_softsign(pq_onnx_build *b)
{
    pq_value_id v;
    pq_status st = one(b, &v, "abs", PQ_OP_ABS, b->in[0]);
    if (st == PQ_OK) st = by(b, &v, "one", PQ_OP_ADD, v, 1);
    return st == PQ_OK ? last_two(b, PQ_OP_DIV, b->in[0], v) : st;
}

static pq_status read_selu(pq_onnx_build *b)
{
    pq_value_id v;
    pq_attr a = {.alpha = 1.67326319217681884765625f};
    float gamma = 1.05070102214813232421875f;
    pq_status st = pq_onnx_float(b->r->ctx, &a.alpha, b->p, "alpha");
    if (st == PQ_OK) st = pq_onnx_float(b->r->ctx, &gamma, b->p, "gamma");
    if (st == PQ_OK) st = pq_onnx_helper(b, &v, "elu", PQ_OP_ELU, &a, b->in, 1);
    return st == PQ_OK ? last_by(b, PQ_OP_MUL, v, "gamma", gamma) : st;
}

/* alpha elu(x / alpha) */
static pq_status read_celu(pq_onnx_build *b)
{
    pq_value_id v;
    float alpha = 1;
    const pq_attr elu = {.alpha = 1};
    pq_status st = pq_onnx_float(b->r->ctx, &alpha, b->p, "alpha");
    if (st == PQ_OK && alpha <= 0)
        return pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "alpha %g, expected above 0", (double)alpha);
    if (st == PQ_OK) st = by(b, &v, "inner", PQ_OP_DIV, b->in[0], alpha);
    if (st == PQ_OK) st = pq_onnx_helper(b, &v, "elu", PQ_OP_ELU, &elu, &v, 1);
    return st == PQ_OK ? last_by(b, PQ_OP_MUL, v, "outer", alpha) : st;
}

/* x / 2 (1 + f), f = erf(x / sqrt 2), or tanh(sqrt(2 / pi) (x + 0.044715 x^3)) */
static pq_status read_gelu(pq_onnx_build *b)
{
    static const char *const ways[] = {"none", "tanh", NULL};
    pq_status st;
    pq_value_id f, x = b->in[0], half;
    int way = 0;
    PQ_TRY(pq_onnx_word(b->r->ctx, &way, b->p, "approximate", ways));
    if (way) {
        PQ_TRY(two(b, &f, "square", PQ_OP_MUL, x, x));
        PQ_TRY(two(b, &f, "cube", PQ_OP_MUL, f, x));
        PQ_TRY(by(b, &f, "share", PQ_OP_MUL, f, 0.044715f));
        PQ_TRY(two(b, &f, "sum", PQ_OP_ADD, x, f));
        PQ_TRY(by(b, &f, "scale", PQ_OP_MUL, f, 0.79788456080286535588f));
        PQ_TRY(one(b, &f, "tanh", PQ_OP_TANH, f));
    } else {
        PQ_TRY(by(b, &f, "scale", PQ_OP_MUL, x, 0.70710678118654752440f));
        PQ_TRY(one(b, &f, "erf", PQ_OP_ERF, f));
    }
    PQ_TRY(by(b, &f, "one", PQ_OP_ADD, f, 1));
    PQ_TRY(by(b, &half, "half", PQ_OP_MUL, x, 0.5f));
    st = last_two(b, PQ_OP_MUL, half, f);
out:
    return st;
}

static pq_status read_mean(pq_onnx_build *b)
{
    pq_value_id sum = b->in[0];
    pq_status st = PQ_OK;
    for (int i = 1; i < b->n_in && st == PQ_OK; i++)
        st = two(b, &sum, "sum", PQ_OP_ADD, sum, b->in[i]);
    return st == PQ_OK ? last_by(b, PQ_OP_DIV, sum, "count", (float)b->n_in) : st;
}

static pq_status read_cast_like(pq_onnx_build *b)
{
    if (!pq_onnx_has(b, 1)) return pq_fail(b->r->ctx, PQ_E_FORMAT, "no type to cast to");
    const pq_attr a = {.to = pq_onnx_in(b, 1)->dtype};
    return pq_onnx_last(b, PQ_OP_CAST, &a, b->in, 1);
}

/* The number of elements. */
static pq_status read_size(pq_onnx_build *b)
{
    pq_value_id shape;
    const pq_attr all = {.keepdims = false};
    const pq_status st = one(b, &shape, "shape", PQ_OP_SHAPE, b->in[0]);
    return st == PQ_OK ? pq_onnx_last(b, PQ_OP_REDUCE_PROD, &all, &shape, 1) : st;
}

/* ---- reductions ---- */

/* before (x * x or |x|), ReduceSum, behind (a root or a logarithm); PQ_OP_IDENTITY: none */
static pq_status reduction(pq_onnx_build *b, pq_op before, pq_op behind)
{
    pq_status st;
    bool noop = false;
    pq_value_id in[2] = {b->in[0], b->n_in > 1 ? b->in[1] : PQ_NONE}, sum;
    PQ_TRY(pq_onnx_flag(b->r->ctx, &noop, b->p, "noop_with_empty_axes"));
    if (noop) {
        st = pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "noop_with_empty_axes is not supported");
        goto out;
    }
    PQ_TRY(pq_onnx_read_reduce(b));
    if (before == PQ_OP_MUL) PQ_TRY(two(b, &in[0], "square", PQ_OP_MUL, in[0], in[0]));
    if (before == PQ_OP_ABS) PQ_TRY(one(b, &in[0], "abs", PQ_OP_ABS, in[0]));
    if (behind == PQ_OP_IDENTITY) {
        st = pq_onnx_last(b, PQ_OP_REDUCE_SUM, &b->attr, in, b->n_in);
        goto out;
    }
    PQ_TRY(pq_onnx_helper(b, &sum, "sum", PQ_OP_REDUCE_SUM, &b->attr, in, b->n_in));
    st = last_one(b, behind, sum);
out:
    return st;
}
static pq_status read_l1(pq_onnx_build *b) { return reduction(b, PQ_OP_ABS, PQ_OP_IDENTITY); }
static pq_status read_l2(pq_onnx_build *b) { return reduction(b, PQ_OP_MUL, PQ_OP_SQRT); }
static pq_status read_square(pq_onnx_build *b) { return reduction(b, PQ_OP_MUL, PQ_OP_IDENTITY); }
static pq_status read_log_sum(pq_onnx_build *b) { return reduction(b, PQ_OP_IDENTITY, PQ_OP_LOG); }

/* x / |x| along one axis, p = 1 or 2 */
static pq_status read_lp_normalization(pq_onnx_build *b)
{
    pq_status st;
    pq_value_id v;
    int64_t axis = -1, p = 2;
    PQ_TRY(pq_onnx_int(b->r->ctx, &axis, b->p, "axis"));
    PQ_TRY(pq_onnx_int(b->r->ctx, &p, b->p, "p"));
    if (p != 1 && p != 2) {
        st = pq_fail(b->r->ctx, PQ_E_UNSUPPORTED, "p %lld, expected 1 or 2", (long long)p);
        goto out;
    }
    const pq_attr along = {.keepdims = true, .n_axes = 1, .axes = {axis}};
    if (p == 1)
        PQ_TRY(one(b, &v, "abs", PQ_OP_ABS, b->in[0]));
    else
        PQ_TRY(two(b, &v, "square", PQ_OP_MUL, b->in[0], b->in[0]));
    PQ_TRY(pq_onnx_helper(b, &v, "sum", PQ_OP_REDUCE_SUM, &along, &v, 1));
    if (p == 2) PQ_TRY(one(b, &v, "norm", PQ_OP_SQRT, v));
    PQ_TRY(by(b, &v, "least", PQ_OP_MAX, v, FLT_MIN)); /* zeros stay zeros */
    st = last_two(b, PQ_OP_DIV, b->in[0], v);
out:
    return st;
}

/* ---- normalisations ---- */

/* (x - mean) / sqrt(variance + eps) over axes */
static pq_status normalize(pq_onnx_build *b, pq_value_id *out, pq_value_id x, const pq_attr *axes,
                           float eps)
{
    pq_status st;
    pq_value_id mean, off, v;
    PQ_TRY(pq_onnx_helper(b, &mean, "mean", PQ_OP_REDUCE_MEAN, axes, &x, 1));
    PQ_TRY(two(b, &off, "offset", PQ_OP_SUB, x, mean));
    PQ_TRY(two(b, &v, "square", PQ_OP_MUL, off, off));
    PQ_TRY(pq_onnx_helper(b, &v, "variance", PQ_OP_REDUCE_MEAN, axes, &v, 1));
    PQ_TRY(by(b, &v, "epsilon", PQ_OP_ADD, v, eps));
    PQ_TRY(one(b, &v, "deviation", PQ_OP_SQRT, v));
    st = two(b, out, "normal", PQ_OP_DIV, off, v);
out:
    return st;
}

/* x * scale + bias, both [c] standing along dimension 1 of x, whose rank is given */
static pq_status affine(pq_onnx_build *b, pq_value_id *out, pq_value_id x, int rank, bool last)
{
    pq_status st;
    pq_value_id scale, bias;
    pq_attr behind = {.n_axes = rank - 2};
    for (int i = 0; i < rank - 2; i++) behind.axes[i] = 1 + i;
    if (!pq_onnx_has(b, 1) || !pq_onnx_has(b, 2)) {
        st = pq_fail(b->r->ctx, PQ_E_FORMAT, "no scale or no bias");
        goto out;
    }
    PQ_TRY(pq_onnx_helper(b, &scale, "scale", PQ_OP_UNSQUEEZE, &behind, &b->in[1], 1));
    PQ_TRY(pq_onnx_helper(b, &bias, "bias", PQ_OP_UNSQUEEZE, &behind, &b->in[2], 1));
    PQ_TRY(two(b, &x, "scaled", PQ_OP_MUL, x, scale));
    st = last ? last_two(b, PQ_OP_ADD, x, bias) : two(b, out, "shifted", PQ_OP_ADD, x, bias);
out:
    return st;
}

static pq_status want_rank(pq_onnx_build *b, int least)
{
    if (pq_onnx_in(b, 0)->shape.rank >= least) return PQ_OK;
    return pq_fail(b->r->ctx, PQ_E_FORMAT, "input of %d dimensions, expected at least %d",
                   pq_onnx_in(b, 0)->shape.rank, least);
}

static pq_status read_instance_norm(pq_onnx_build *b)
{
    pq_status st;
    pq_value_id v;
    float eps = 1e-5f;
    pq_attr space = {.keepdims = true};
    PQ_TRY(want_rank(b, 3));
    const int rank = pq_onnx_in(b, 0)->shape.rank;
    PQ_TRY(pq_onnx_float(b->r->ctx, &eps, b->p, "epsilon"));
    for (int i = 2; i < rank; i++) space.axes[space.n_axes++] = i;
    PQ_TRY(normalize(b, &v, b->in[0], &space, eps));
    st = affine(b, NULL, v, rank, true);
out:
    return st;
}

/* Scale and bias: one a group in opset 18, one a channel since opset 21. */
static pq_status read_group_norm(pq_onnx_build *b)
{
    pq_status st;
    pq_value_id v, shape, to, in[2];
    float eps = 1e-5f;
    int64_t groups = 0;
    const pq_attr third = {.keepdims = true, .n_axes = 1, .axes = {2}};
    PQ_TRY(want_rank(b, 3));
    const int rank = pq_onnx_in(b, 0)->shape.rank;
    PQ_TRY(pq_onnx_float(b->r->ctx, &eps, b->p, "epsilon"));
    PQ_TRY(pq_onnx_int(b->r->ctx, &groups, b->p, "num_groups"));
    const int64_t channels = pq_onnx_in(b, 0)->shape.dim[1], rows[3] = {0, groups, -1};
    if (groups < 1 || channels % groups) {
        st = pq_fail(b->r->ctx, PQ_E_FORMAT, "%lld channels in %lld groups", (long long)channels,
                     (long long)groups);
        goto out;
    }
    PQ_TRY(pq_onnx_make_ints(b, &to, "groups", rows, 3));
    PQ_TRY(two(b, &v, "grouped", PQ_OP_RESHAPE, b->in[0], to));
    PQ_TRY(normalize(b, &v, v, &third, eps));
    const bool per_group = b->r->opset < 21;
    if (per_group) PQ_TRY(affine(b, &v, v, 3, false));
    PQ_TRY(one(b, &shape, "shape", PQ_OP_SHAPE, b->in[0]));
    in[0] = v;
    in[1] = shape;
    if (per_group) {
        st = pq_onnx_last(b, PQ_OP_RESHAPE, NULL, in, 2);
        goto out;
    }
    PQ_TRY(pq_onnx_helper(b, &v, "ungrouped", PQ_OP_RESHAPE, NULL, in, 2));
    st = affine(b, NULL, v, rank, true);
out:
    return st;
}

static pq_status read_layer_norm(pq_onnx_build *b)
{
    pq_status st;
    pq_value_id v;
    float eps = 1e-5f;
    int64_t axis = -1;
    pq_attr rest = {.keepdims = true};
    const int rank = pq_onnx_in(b, 0)->shape.rank;
    PQ_TRY(pq_onnx_float(b->r->ctx, &eps, b->p, "epsilon"));
    PQ_TRY(pq_onnx_int(b->r->ctx, &axis, b->p, "axis"));
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank || !pq_onnx_has(b, 1)) {
        st = pq_fail(b->r->ctx, PQ_E_FORMAT, "axis %lld of %d dimensions, or no scale",
                     (long long)axis, rank);
        goto out;
    }
    for (int i = (int)axis; i < rank; i++) rest.axes[rest.n_axes++] = i;
    PQ_TRY(normalize(b, &v, b->in[0], &rest, eps));
    if (!pq_onnx_has(b, 2)) {
        st = last_two(b, PQ_OP_MUL, v, b->in[1]);
        goto out;
    }
    PQ_TRY(two(b, &v, "scaled", PQ_OP_MUL, v, b->in[1]));
    st = last_two(b, PQ_OP_ADD, v, b->in[2]);
out:
    return st;
}

/* ---- depth and space ---- */

/* Dimension i of the input, as a vector of one. */
static pq_status size_of(pq_onnx_build *b, pq_value_id *out, pq_value_id shape, int64_t i)
{
    pq_status st;
    pq_value_id in[3] = {shape, PQ_NONE, PQ_NONE};
    const int64_t end = i + 1;
    PQ_TRY(pq_onnx_make_ints(b, &in[1], "from", &i, 1));
    PQ_TRY(pq_onnx_make_ints(b, &in[2], "to", &end, 1));
    st = pq_onnx_helper(b, out, "size", PQ_OP_SLICE, NULL, in, 3);
out:
    return st;
}

static pq_status block_size(pq_onnx_build *b, int64_t *size)
{
    pq_status st = want_rank(b, 4);
    *size = 0;
    if (st == PQ_OK) st = pq_onnx_int(b->r->ctx, size, b->p, "blocksize");
    if (st == PQ_OK && (*size < 1 || *size > 1024))
        st = pq_fail(b->r->ctx, PQ_E_FORMAT, "blocksize %lld", (long long)*size);
    return st;
}

/* x reshaped to a, permuted, reshaped to z; both lists of parts of a shape. */
static pq_status shuffle(pq_onnx_build *b, const pq_value_id *a, int n_a, const int64_t perm[6],
                         const pq_value_id *z, int n_z)
{
    pq_status st;
    pq_value_id in[2] = {b->in[0], PQ_NONE};
    pq_attr order = {0};
    memcpy(order.perm, perm, 6 * sizeof *perm);
    const pq_attr row = {.axis = 0};
    PQ_TRY(pq_onnx_helper(b, &in[1], "apart", PQ_OP_CONCAT, &row, a, n_a));
    PQ_TRY(pq_onnx_helper(b, &in[0], "split", PQ_OP_RESHAPE, NULL, in, 2));
    PQ_TRY(pq_onnx_helper(b, &in[0], "moved", PQ_OP_TRANSPOSE, &order, in, 1));
    PQ_TRY(pq_onnx_helper(b, &in[1], "together", PQ_OP_CONCAT, &row, z, n_z));
    st = pq_onnx_last(b, PQ_OP_RESHAPE, NULL, in, 2);
out:
    return st;
}

static pq_status read_depth_to_space(pq_onnx_build *b)
{
    static const char *const modes[] = {"DCR", "CRD", NULL};
    static const int64_t order[2][6] = {{0, 3, 4, 1, 5, 2}, {0, 1, 4, 2, 5, 3}};
    pq_status st;
    int64_t s;
    int mode = 0;
    pq_value_id shape, hw[2], big[2], block, head, a[3], z[3];
    PQ_TRY(block_size(b, &s));
    PQ_TRY(pq_onnx_word(b->r->ctx, &mode, b->p, "mode", modes));
    const int64_t c = pq_onnx_in(b, 0)->shape.dim[1] / (s * s);
    const int64_t front[2][4] = {{0, s, s, c}, {0, c, s, s}}, less[2] = {0, c};
    PQ_TRY(one(b, &shape, "shape", PQ_OP_SHAPE, b->in[0]));
    PQ_TRY(pq_onnx_make_ints(b, &block, "block", &s, 1));
    for (int i = 0; i < 2; i++) {
        PQ_TRY(size_of(b, &hw[i], shape, 2 + i));
        PQ_TRY(two(b, &big[i], "grown", PQ_OP_MUL, hw[i], block));
    }
    PQ_TRY(pq_onnx_make_ints(b, &a[0], "front", front[mode], 4));
    PQ_TRY(pq_onnx_make_ints(b, &head, "head", less, 2));
    a[1] = hw[0], a[2] = hw[1];
    z[0] = head, z[1] = big[0], z[2] = big[1];
    st = shuffle(b, a, 3, order[mode], z, 3);
out:
    return st;
}

static pq_status read_space_to_depth(pq_onnx_build *b)
{
    static const char *const modes[] = {"DCR", "CRD", NULL};
    static const int64_t order[2][6] = {{0, 3, 5, 1, 2, 4}, {0, 1, 3, 5, 2, 4}};
    pq_status st;
    int64_t s;
    int mode = 0;
    pq_value_id shape, size, small[2], block, a[5], z[3];
    const int64_t same[2] = {0, 0};
    PQ_TRY(block_size(b, &s));
    PQ_TRY(pq_onnx_word(b->r->ctx, &mode, b->p, "mode", modes));
    const int64_t more[2] = {0, pq_onnx_in(b, 0)->shape.dim[1] * s * s};
    PQ_TRY(one(b, &shape, "shape", PQ_OP_SHAPE, b->in[0]));
    PQ_TRY(pq_onnx_make_ints(b, &block, "block", &s, 1));
    for (int i = 0; i < 2; i++) {
        PQ_TRY(size_of(b, &size, shape, 2 + i));
        PQ_TRY(two(b, &small[i], "shrunk", PQ_OP_DIV, size, block));
    }
    PQ_TRY(pq_onnx_make_ints(b, &a[0], "front", same, 2));
    PQ_TRY(pq_onnx_make_ints(b, &z[0], "head", more, 2));
    a[1] = small[0], a[2] = block, a[3] = small[1], a[4] = block;
    z[1] = small[0], z[2] = small[1];
    st = shuffle(b, a, 5, order[mode], z, 3);
out:
    return st;
}

/* op: the last node, which makes the value of the file. */
static const pq_onnx_line composed[] = {
    {"CastLike", PQ_OP_CAST, read_cast_like},
    {"Celu", PQ_OP_MUL, read_celu},
    {"DepthToSpace", PQ_OP_RESHAPE, read_depth_to_space},
    {"Gelu", PQ_OP_MUL, read_gelu},
    {"GroupNormalization", PQ_OP_ADD, read_group_norm},
    {"InstanceNormalization", PQ_OP_ADD, read_instance_norm},
    {"LayerNormalization", PQ_OP_ADD, read_layer_norm},
    {"LpNormalization", PQ_OP_DIV, read_lp_normalization},
    {"Mean", PQ_OP_DIV, read_mean},
    {"Mish", PQ_OP_MUL, read_mish},
    {"ReduceL1", PQ_OP_REDUCE_SUM, read_l1},
    {"ReduceL2", PQ_OP_SQRT, read_l2},
    {"ReduceLogSum", PQ_OP_LOG, read_log_sum},
    {"ReduceSumSquare", PQ_OP_REDUCE_SUM, read_square},
    {"Selu", PQ_OP_MUL, read_selu},
    {"Size", PQ_OP_REDUCE_PROD, read_size},
    {"Softsign", PQ_OP_DIV, read_softsign},
    {"SpaceToDepth", PQ_OP_RESHAPE, read_space_to_depth},
};

const pq_onnx_line *pq_onnx_find_composed(const char *type)
{
    for (size_t i = 0; i < sizeof composed / sizeof *composed; i++)
        if (strcmp(composed[i].type, type) == 0) return &composed[i];
    return NULL;
}
