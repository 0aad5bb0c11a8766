/* Shape inference: what the rules share, and the rules of operators that compute, as the ONNX
 * operator specification has them. Messages are completed with the node's name by pq_infer_node. */
#include "graph/infer_rules.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/ctx.h"

pq_status pq_infer_set(const pq_infer_scope *s, int i, pq_dtype dtype, const pq_shape *shape)
{
    pq_value *v = pq_out_value(s->g, s->n, i);
    v->dtype = dtype;
    v->shape = *shape;
    return PQ_OK;
}

pq_status pq_infer_want_rank(const pq_infer_scope *s, int i, int rank)
{
    char text[160];
    const pq_shape *shape = pq_infer_shape(s, i);
    if (shape->rank == rank) return PQ_OK;
    return pq_fail(s->ctx, rank == 4 && i == 0 ? PQ_E_UNSUPPORTED : PQ_E_FORMAT,
                   "input %d has the shape %s, expected %d dimensions", i,
                   pq_shape_text(shape, text, sizeof text), rank);
}

pq_status pq_infer_want_float(const pq_infer_scope *s, int i)
{
    const pq_value *v = pq_infer_in(s, i);
    if (v->dtype == PQ_F32) return PQ_OK;
    return pq_fail(s->ctx, PQ_E_FORMAT, "input %d is %s, expected float32", i,
                   pq_dtype_name(v->dtype));
}

/* Input i as numbers known before the network runs. */
pq_status pq_infer_known(const pq_infer_scope *s, int i, pq_tensor *out)
{
    if (pq_inference_find(s->inf, s->g, s->n->in[i], out)) return PQ_OK;
    return pq_fail(s->ctx, PQ_E_UNSUPPORTED,
                   "input %d ('%s') is not constant: shapes must be known before the network runs",
                   i, pq_infer_in(s, i)->name);
}

pq_status pq_infer_ints(const pq_infer_scope *s, int i, int64_t *out, int max, int *n)
{
    pq_tensor t;
    pq_status st = pq_infer_known(s, i, &t);
    if (st != PQ_OK) return st;
    int64_t count = pq_shape_count(&t.shape);
    if (t.shape.rank > 1 || count > max || (t.dtype != PQ_S64 && t.dtype != PQ_S32))
        return pq_fail(s->ctx, PQ_E_FORMAT,
                       "input %d holds %lld elements of %s, expected at most "
                       "%d integers",
                       i, (long long)count, pq_dtype_name(t.dtype), max);
    for (int k = 0; k < (int)count; k++)
        out[k] = t.dtype == PQ_S64 ? ((const int64_t *)pq_tensor_data(&t))[k]
                                   : ((const int32_t *)pq_tensor_data(&t))[k];
    *n = (int)count;
    return PQ_OK;
}

pq_status pq_infer_scalar(const pq_infer_scope *s, int i, double *out)
{
    pq_tensor t;
    pq_status st = pq_infer_known(s, i, &t);
    if (st != PQ_OK) return st;
    if (pq_shape_count(&t.shape) != 1)
        return pq_fail(s->ctx, PQ_E_FORMAT, "input %d has %lld elements, expected 1", i,
                       (long long)pq_shape_count(&t.shape));
    *out = pq_element(t.dtype, pq_tensor_data(&t), 0);
    return PQ_OK;
}

/* Bring an axis into 0 .. rank-1. */
pq_status pq_infer_axis(const pq_infer_scope *s, int64_t *axis, int rank)
{
    if (*axis < -rank || *axis >= rank)
        return pq_fail(s->ctx, PQ_E_FORMAT, "axis %lld, expected %d to %d", (long long)*axis, -rank,
                       rank - 1);
    if (*axis < 0) *axis += rank;
    return PQ_OK;
}

/* attr.axes from input 1 if there is one, each brought into 0 .. rank-1, without repetition. */
pq_status pq_infer_axes(const pq_infer_scope *s, int rank)
{
    pq_attr *a = &s->n->attr;
    pq_status st;
    bool seen[2 * PQ_MAX_RANK] = {false};
    if (pq_infer_has(s, 1)) {
        st = pq_infer_ints(s, 1, a->axes, PQ_MAX_RANK, &a->n_axes);
        if (st != PQ_OK) return st;
    }
    for (int i = 0; i < a->n_axes; i++) {
        if ((st = pq_infer_axis(s, &a->axes[i], rank)) != PQ_OK) return st;
        if (seen[a->axes[i]])
            return pq_fail(s->ctx, PQ_E_FORMAT, "axis %lld given twice", (long long)a->axes[i]);
        seen[a->axes[i]] = true;
    }
    return PQ_OK;
}

pq_status pq_infer_broadcast(const pq_infer_scope *s, pq_shape *out, const pq_shape *a,
                             const pq_shape *b)
{
    char ta[160], tb[160];
    out->rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 1; i <= out->rank; i++) {
        int64_t da = i <= a->rank ? a->dim[a->rank - i] : 1;
        int64_t db = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (da != db && da != 1 && db != 1)
            return pq_fail(s->ctx, PQ_E_FORMAT, "shapes %s and %s do not broadcast",
                           pq_shape_text(a, ta, sizeof ta), pq_shape_text(b, tb, sizeof tb));
        out->dim[out->rank - i] = da == 1 ? db : da;
    }
    return PQ_OK;
}

static pq_status want_vector(const pq_infer_scope *s, int i, int64_t n)
{
    char text[160];
    const pq_shape *shape = pq_infer_shape(s, i);
    if (shape->rank == 1 && shape->dim[0] == n) return PQ_OK;
    return pq_fail(s->ctx, PQ_E_FORMAT, "input %d has the shape %s, expected [%lld]", i,
                   pq_shape_text(shape, text, sizeof text), (long long)n);
}

static pq_status rule_unary(const pq_infer_scope *s)
{
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, pq_infer_shape(s, 0));
}

static pq_status rule_float_unary(const pq_infer_scope *s)
{
    pq_status st = pq_infer_want_float(s, 0);
    return st == PQ_OK ? rule_unary(s) : st;
}

static pq_status rule_clip(const pq_infer_scope *s)
{
    pq_attr *a = &s->n->attr;
    double bound;
    pq_status st;
    if (pq_infer_has(s, 1)) {
        if ((st = pq_infer_scalar(s, 1, &bound)) != PQ_OK) return st;
        a->alpha = bound < -FLT_MAX ? -INFINITY : (float)bound;
    }
    if (pq_infer_has(s, 2)) {
        if ((st = pq_infer_scalar(s, 2, &bound)) != PQ_OK) return st;
        a->beta = bound > FLT_MAX ? INFINITY : (float)bound;
    }
    return rule_unary(s);
}

static pq_status rule_cast(const pq_infer_scope *s)
{
    return pq_infer_set(s, 0, s->n->attr.to, pq_infer_shape(s, 0));
}

static bool compares(pq_op op)
{
    switch (op) {
    case PQ_OP_EQUAL:
    case PQ_OP_GREATER:
    case PQ_OP_LESS:
    case PQ_OP_GREATER_OR_EQUAL:
    case PQ_OP_LESS_OR_EQUAL:
    case PQ_OP_AND:
    case PQ_OP_OR:
    case PQ_OP_XOR: return true;
    default: return false;
    }
}

static pq_status rule_binary(const pq_infer_scope *s)
{
    pq_shape out;
    const pq_value *a = pq_infer_in(s, 0), *b = pq_infer_in(s, 1);
    const bool pow_mixed = s->n->op == PQ_OP_POW; /* the exponent may be of another type */
    if (a->dtype != b->dtype && !pow_mixed)
        return pq_fail(s->ctx, PQ_E_FORMAT, "inputs are %s and %s, expected one type",
                       pq_dtype_name(a->dtype), pq_dtype_name(b->dtype));
    pq_status st = pq_infer_broadcast(s, &out, &a->shape, &b->shape);
    if (st != PQ_OK) return st;
    return pq_infer_set(s, 0, compares(s->n->op) ? PQ_BOOL : a->dtype, &out);
}

/* The slope broadcasts to the input, not the other way round. */
static pq_status rule_prelu(const pq_infer_scope *s)
{
    char tx[160], ts[160];
    pq_shape both;
    pq_status st;
    PQ_TRY(pq_infer_want_float(s, 0));
    PQ_TRY(pq_infer_want_float(s, 1));
    PQ_TRY(pq_infer_broadcast(s, &both, pq_infer_shape(s, 0), pq_infer_shape(s, 1)));
    if (!pq_shape_equal(&both, pq_infer_shape(s, 0)))
        st = pq_fail(s->ctx, PQ_E_FORMAT, "slope of shape %s does not broadcast to %s",
                     pq_shape_text(pq_infer_shape(s, 1), ts, sizeof ts),
                     pq_shape_text(pq_infer_shape(s, 0), tx, sizeof tx));
    else
        st = rule_unary(s);
out:
    return st;
}

static pq_status want_bool(const pq_infer_scope *s, int i)
{
    const pq_value *v = pq_infer_in(s, i);
    if (v->dtype == PQ_BOOL) return PQ_OK;
    return pq_fail(s->ctx, PQ_E_FORMAT, "input %d is %s, expected bool", i,
                   pq_dtype_name(v->dtype));
}

static pq_status rule_logical(const pq_infer_scope *s)
{
    for (int i = 0; i < s->n->n_in; i++) {
        const pq_status st = want_bool(s, i);
        if (st != PQ_OK) return st;
    }
    return s->n->op == PQ_OP_NOT ? rule_unary(s) : rule_binary(s);
}

static pq_status rule_where(const pq_infer_scope *s)
{
    pq_status st;
    pq_shape both, out;
    const pq_value *a = pq_infer_in(s, 1), *b = pq_infer_in(s, 2);
    PQ_TRY(want_bool(s, 0));
    if (a->dtype != b->dtype) {
        st = pq_fail(s->ctx, PQ_E_FORMAT, "inputs are %s and %s, expected one type",
                     pq_dtype_name(a->dtype), pq_dtype_name(b->dtype));
        goto out;
    }
    PQ_TRY(pq_infer_broadcast(s, &both, &a->shape, &b->shape));
    PQ_TRY(pq_infer_broadcast(s, &out, &both, pq_infer_shape(s, 0)));
    st = pq_infer_set(s, 0, a->dtype, &out);
out:
    return st;
}

static pq_status check_window(const pq_infer_scope *s)
{
    const pq_window *w = &s->n->attr.window;
    bool ok = true;
    for (int i = 0; i < 2; i++)
        ok = ok && w->kernel[i] >= 1 && w->kernel[i] <= PQ_INFER_MAX_WINDOW && w->stride[i] >= 1 &&
             w->stride[i] <= PQ_INFER_MAX_WINDOW && w->dilation[i] >= 1 &&
             w->dilation[i] <= PQ_INFER_MAX_WINDOW && w->out_pad[i] >= 0 &&
             w->out_pad[i] <= PQ_INFER_MAX_WINDOW;
    for (int i = 0; i < 4; i++) ok = ok && w->pad[i] >= 0 && w->pad[i] <= PQ_INFER_MAX_WINDOW;
    if (ok) return PQ_OK;
    return pq_fail(s->ctx, PQ_E_FORMAT,
                   "kernel %lld x %lld, stride %lld x %lld, dilation %lld x %lld, pads %lld %lld "
                   "%lld %lld: out of range",
                   (long long)w->kernel[0], (long long)w->kernel[1], (long long)w->stride[0],
                   (long long)w->stride[1], (long long)w->dilation[0], (long long)w->dilation[1],
                   (long long)w->pad[0], (long long)w->pad[1], (long long)w->pad[2],
                   (long long)w->pad[3]);
}

/* Output size of a sliding window along spatial dimension i (0: height, 1: width). */
static pq_status window_size(const pq_infer_scope *s, int i, int64_t in, int64_t *out)
{
    const pq_window *w = &s->n->attr.window;
    const int64_t extent = (w->kernel[i] - 1) * w->dilation[i] + 1;
    const int64_t room = in + w->pad[i] + w->pad[i + 2] - extent;
    if (in < 1 || room < 0)
        return pq_fail(s->ctx, PQ_E_FORMAT,
                       "a window of %lld does not fit into %lld padded by %lld", (long long)extent,
                       (long long)in, (long long)(w->pad[i] + w->pad[i + 2]));
    *out = room / w->stride[i] + 1;
    if (w->ceil_mode && room % w->stride[i] != 0) {
        ++*out;
        /* a window must not begin in the padding at the end */
        if ((*out - 1) * w->stride[i] >= in + w->pad[i]) --*out;
    }
    return PQ_OK;
}

static pq_status rule_pool(const pq_infer_scope *s)
{
    pq_status st;
    pq_shape out;
    PQ_TRY(pq_infer_want_rank(s, 0, 4));
    PQ_TRY(pq_infer_want_float(s, 0));
    PQ_TRY(check_window(s));
    out = *pq_infer_shape(s, 0);
    for (int i = 0; i < 2; i++)
        PQ_TRY(window_size(s, i, pq_infer_shape(s, 0)->dim[2 + i], &out.dim[2 + i]));
    st = pq_infer_set(s, 0, PQ_F32, &out);
out:
    return st;
}

static pq_status rule_global_pool(const pq_infer_scope *s)
{
    pq_status st;
    PQ_TRY(pq_infer_want_rank(s, 0, 4));
    PQ_TRY(pq_infer_want_float(s, 0));
    pq_shape out = *pq_infer_shape(s, 0);
    out.dim[2] = out.dim[3] = 1;
    st = pq_infer_set(s, 0, PQ_F32, &out);
out:
    return st;
}

/* What Conv and ConvTranspose share. kernel 0 x 0 (not given) is taken from the weights. */
static pq_status check_weights(const pq_infer_scope *s)
{
    pq_status st;
    pq_window *w = &s->n->attr.window;
    for (int i = 0; i < 2; i++) {
        PQ_TRY(pq_infer_want_rank(s, i, 4));
        PQ_TRY(pq_infer_want_float(s, i));
    }
    const pq_shape *weight = pq_infer_shape(s, 1);
    for (int i = 0; i < 2; i++) {
        if (!w->kernel[i]) w->kernel[i] = weight->dim[2 + i];
        if (w->kernel[i] != weight->dim[2 + i]) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "kernel_shape %lld x %lld, weights are %lld x %lld",
                         (long long)w->kernel[0], (long long)w->kernel[1],
                         (long long)weight->dim[2], (long long)weight->dim[3]);
            goto out;
        }
    }
    PQ_TRY(check_window(s));
    if (w->groups < 1 || w->groups > PQ_INFER_MAX_WINDOW || weight->dim[0] < 1 ||
        weight->dim[1] < 1)
        st = pq_fail(s->ctx, PQ_E_FORMAT, "%lld groups, weights of %lld x %lld channels",
                     (long long)w->groups, (long long)weight->dim[0], (long long)weight->dim[1]);
    if (st == PQ_OK && pq_infer_has(s, 2)) st = pq_infer_want_float(s, 2);
out:
    return st;
}

static pq_status channel_mismatch(const pq_infer_scope *s, int64_t expected)
{
    char tx[160], tw[160];
    return pq_fail(
        s->ctx, PQ_E_FORMAT,
        "input %s and weights %s in %lld groups do not fit, expected %lld input channels",
        pq_shape_text(pq_infer_shape(s, 0), tx, sizeof tx),
        pq_shape_text(pq_infer_shape(s, 1), tw, sizeof tw), (long long)s->n->attr.window.groups,
        (long long)expected);
}

static pq_status rule_conv(const pq_infer_scope *s)
{
    pq_status st;
    pq_shape out = {4, {0}};
    PQ_TRY(check_weights(s));
    const pq_shape *x = pq_infer_shape(s, 0), *w = pq_infer_shape(s, 1); /* NCHW, OIHW */
    const int64_t groups = s->n->attr.window.groups;
    if (x->dim[1] != w->dim[1] * groups || w->dim[0] % groups) {
        st = channel_mismatch(s, w->dim[1] * groups);
        goto out;
    }
    if (pq_infer_has(s, 2)) PQ_TRY(want_vector(s, 2, w->dim[0]));
    out.dim[0] = x->dim[0];
    out.dim[1] = w->dim[0];
    for (int i = 0; i < 2; i++) PQ_TRY(window_size(s, i, x->dim[2 + i], &out.dim[2 + i]));
    st = pq_infer_set(s, 0, PQ_F32, &out);
out:
    return st;
}

static pq_status rule_conv_transpose(const pq_infer_scope *s)
{
    pq_status st;
    pq_shape out = {4, {0}};
    PQ_TRY(check_weights(s));
    const pq_shape *x = pq_infer_shape(s, 0), *w = pq_infer_shape(s, 1); /* NCHW, IOHW */
    const pq_window *a = &s->n->attr.window;
    if (x->dim[1] != w->dim[0] || w->dim[0] % a->groups) {
        st = channel_mismatch(s, w->dim[0]);
        goto out;
    }
    out.dim[0] = x->dim[0];
    out.dim[1] = w->dim[1] * a->groups;
    if (pq_infer_has(s, 2)) PQ_TRY(want_vector(s, 2, out.dim[1]));
    for (int i = 0; i < 2; i++) {
        out.dim[2 + i] = a->stride[i] * (x->dim[2 + i] - 1) + a->out_pad[i] +
                         (a->kernel[i] - 1) * a->dilation[i] + 1 - a->pad[i] - a->pad[i + 2];
        if (x->dim[2 + i] < 1 || out.dim[2 + i] < 1) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "output would be %lld wide",
                         (long long)out.dim[2 + i]);
            goto out;
        }
    }
    st = pq_infer_set(s, 0, PQ_F32, &out);
out:
    return st;
}

static pq_status rule_gemm(const pq_infer_scope *s)
{
    pq_status st;
    char ta[160], tb[160];
    pq_shape both;
    PQ_TRY(pq_infer_want_rank(s, 0, 2));
    PQ_TRY(pq_infer_want_rank(s, 1, 2));
    for (int i = 0; i < 2; i++) PQ_TRY(pq_infer_want_float(s, i));
    const pq_shape *a = pq_infer_shape(s, 0), *b = pq_infer_shape(s, 1);
    const bool at = s->n->attr.trans_a, bt = s->n->attr.trans_b;
    if (a->dim[at ? 0 : 1] != b->dim[bt ? 1 : 0]) {
        st = pq_fail(s->ctx, PQ_E_FORMAT, "%s%s and %s%s do not multiply",
                     pq_shape_text(a, ta, sizeof ta), at ? " transposed" : "",
                     pq_shape_text(b, tb, sizeof tb), bt ? " transposed" : "");
        goto out;
    }
    pq_shape out = PQ_SHAPE(a->dim[at ? 1 : 0], b->dim[bt ? 0 : 1]);
    if (pq_infer_has(s, 2)) {
        PQ_TRY(pq_infer_want_float(s, 2));
        PQ_TRY(pq_infer_broadcast(s, &both, &out, pq_infer_shape(s, 2)));
        if (!pq_shape_equal(&both, &out)) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "input 2 of shape %s does not broadcast to %s",
                         pq_shape_text(pq_infer_shape(s, 2), ta, sizeof ta),
                         pq_shape_text(&out, tb, sizeof tb));
            goto out;
        }
    }
    st = pq_infer_set(s, 0, PQ_F32, &out);
out:
    return st;
}

/* NumPy's matmul: leading dimensions broadcast, a vector is a row on the left, a column on the
 * right. */
static pq_status rule_matmul(const pq_infer_scope *s)
{
    pq_status st;
    char ta[160], tb[160];
    pq_shape a = *pq_infer_shape(s, 0), b = *pq_infer_shape(s, 1), out;
    const bool row = a.rank == 1, column = b.rank == 1;
    for (int i = 0; i < 2; i++) PQ_TRY(pq_infer_want_float(s, i));
    if (row) a = PQ_SHAPE(1, a.dim[0]);
    if (column) b = PQ_SHAPE(b.dim[0], 1);
    if (!a.rank || !b.rank || a.dim[a.rank - 1] != b.dim[b.rank - 2]) {
        st = pq_fail(s->ctx, PQ_E_FORMAT, "%s and %s do not multiply",
                     pq_shape_text(pq_infer_shape(s, 0), ta, sizeof ta),
                     pq_shape_text(pq_infer_shape(s, 1), tb, sizeof tb));
        goto out;
    }
    const int64_t m = a.dim[a.rank - 1 - 1], n = b.dim[b.rank - 1];
    a.rank -= 2;
    b.rank -= 2;
    PQ_TRY(pq_infer_broadcast(s, &out, &a, &b));
    if (!row) out.dim[out.rank++] = m;
    if (!column) out.dim[out.rank++] = n;
    st = pq_infer_set(s, 0, PQ_F32, &out);
out:
    return st;
}

static pq_status rule_batch_norm(const pq_infer_scope *s)
{
    pq_status st = PQ_OK;
    const pq_shape *x = pq_infer_shape(s, 0);
    if (x->rank < 2) return pq_fail(s->ctx, PQ_E_FORMAT, "input of %d dimensions", x->rank);
    for (int i = 0; i < 5; i++) {
        PQ_TRY(pq_infer_want_float(s, i));
        if (i) PQ_TRY(want_vector(s, i, x->dim[1]));
    }
    st = pq_infer_set(s, 0, PQ_F32, x);
out:
    return st;
}

/* Inputs: x, roi, scales, sizes. With one input attr.scale was set by whoever made the node. */
static pq_status rule_resize(const pq_infer_scope *s)
{
    pq_status st;
    pq_attr *a = &s->n->attr;
    pq_tensor t;
    int64_t sizes[PQ_MAX_RANK];
    int n;
    bool by_scale = s->n->n_in == 1;
    PQ_TRY(pq_infer_want_rank(s, 0, 4));
    PQ_TRY(pq_infer_want_float(s, 0));
    pq_shape out = *pq_infer_shape(s, 0);
    const pq_shape *x = pq_infer_shape(s, 0);
    if (pq_infer_has(s, 2)) {
        PQ_TRY(pq_infer_known(s, 2, &t));
        const float *v = pq_tensor_data(&t);
        const int64_t count = pq_shape_count(&t.shape);
        if (t.dtype != PQ_F32 || (count && (count != 4 || v[0] != 1.0f || v[1] != 1.0f))) {
            st = pq_fail(s->ctx, PQ_E_UNSUPPORTED,
                         "%lld scales, expected 4 that leave batch and channels alone",
                         (long long)count);
            goto out;
        }
        if (count) a->scale[0] = v[2], a->scale[1] = v[3], by_scale = true;
    }
    if (pq_infer_has(s, 3) && !by_scale) {
        PQ_TRY(pq_infer_ints(s, 3, sizes, PQ_MAX_RANK, &n));
        if (n != 4 || sizes[0] != x->dim[0] || sizes[1] != x->dim[1]) {
            st = pq_fail(s->ctx, PQ_E_UNSUPPORTED,
                         "%d sizes, expected 4 that leave batch and channels alone", n);
            goto out;
        }
        for (int i = 0; i < 2; i++) {
            out.dim[2 + i] = sizes[2 + i];
            a->scale[i] = (float)((double)sizes[2 + i] / (double)x->dim[2 + i]);
        }
    } else if (!by_scale) {
        st = pq_fail(s->ctx, PQ_E_FORMAT, "neither scales nor sizes");
        goto out;
    }
    for (int i = 0; i < 2; i++) {
        if (!(a->scale[i] > 0 && a->scale[i] <= 65536)) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "scale %g", (double)a->scale[i]);
            goto out;
        }
        if (by_scale) out.dim[2 + i] = (int64_t)floor((double)x->dim[2 + i] * (double)a->scale[i]);
        if (x->dim[2 + i] < 1 || out.dim[2 + i] < 1) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "%lld elements resized to %lld",
                         (long long)x->dim[2 + i], (long long)out.dim[2 + i]);
            goto out;
        }
    }
    st = pq_infer_set(s, 0, PQ_F32, &out);
out:
    return st;
}

static pq_status rule_softmax(const pq_infer_scope *s)
{
    pq_status st = pq_infer_want_float(s, 0);
    if (st == PQ_OK) st = pq_infer_axis(s, &s->n->attr.axis, pq_infer_shape(s, 0)->rank);
    return st == PQ_OK ? rule_unary(s) : st;
}

static pq_status rule_reduce(const pq_infer_scope *s)
{
    const pq_shape *x = pq_infer_shape(s, 0);
    pq_attr *a = &s->n->attr;
    pq_status st = pq_infer_axes(s, x->rank);
    if (st != PQ_OK) return st;
    if (!a->n_axes) { /* none given: all */
        a->n_axes = x->rank;
        for (int i = 0; i < x->rank; i++) a->axes[i] = i;
    }
    bool drop[PQ_MAX_RANK] = {false};
    for (int i = 0; i < a->n_axes; i++) drop[a->axes[i]] = true;
    pq_shape out = {0, {0}};
    for (int i = 0; i < x->rank; i++) {
        if (drop[i] && x->dim[i] < 1)
            return pq_fail(s->ctx, PQ_E_FORMAT, "dimension %d is empty", i);
        if (!drop[i] || a->keepdims) out.dim[out.rank++] = drop[i] ? 1 : x->dim[i];
    }
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_gfl_decode(const pq_infer_scope *s)
{
    pq_status st = PQ_OK;
    char text[160];
    const pq_attr *a = &s->n->attr;
    int64_t anchors = 0;
    if (a->levels < 1 || a->levels > 8 || s->n->n_in != 2 * a->levels || a->reg_max < 1 ||
        a->reg_max > 1024 || s->n->n_out != 2)
        return pq_fail(s->ctx, PQ_E_FORMAT, "%d levels, %d inputs, %d outputs", a->levels,
                       s->n->n_in, s->n->n_out);
    for (int i = 0; i < s->n->n_in; i++) {
        PQ_TRY(pq_infer_want_rank(s, i, 4));
        PQ_TRY(pq_infer_want_float(s, i));
    }
    const int64_t n = pq_infer_shape(s, 0)->dim[0], classes = pq_infer_shape(s, 0)->dim[1];
    for (int i = 0; i < a->levels; i++) {
        const pq_shape *cls = pq_infer_shape(s, i), *reg = pq_infer_shape(s, a->levels + i);
        pq_shape want = PQ_SHAPE(n, classes, cls->dim[2], cls->dim[3]);
        if (pq_shape_equal(cls, &want)) want.dim[1] = 4 * (a->reg_max + 1), cls = reg;
        if (!pq_shape_equal(cls, &want)) {
            st = pq_fail(s->ctx, PQ_E_FORMAT,
                         "level %d has an input of shape %s, expected channels "
                         "%lld",
                         i, pq_shape_text(cls, text, sizeof text), (long long)want.dim[1]);
            goto out;
        }
        anchors += reg->dim[2] * reg->dim[3];
    }
    st = pq_infer_set(s, 0, PQ_F32, &PQ_SHAPE(n, anchors, classes));
    if (st == PQ_OK) st = pq_infer_set(s, 1, PQ_F32, &PQ_SHAPE(n, anchors, 4));
out:
    return st;
}

static pq_status apply(const pq_infer_scope *s)
{
    switch (s->n->op) {
    case PQ_OP_CONV: return rule_conv(s);
    case PQ_OP_CONV_TRANSPOSE: return rule_conv_transpose(s);
    case PQ_OP_GEMM: return rule_gemm(s);
    case PQ_OP_MATMUL: return rule_matmul(s);
    case PQ_OP_BATCH_NORM: return rule_batch_norm(s);
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL: return rule_pool(s);
    case PQ_OP_GLOBAL_AVERAGE_POOL: return rule_global_pool(s);
    case PQ_OP_LEAKY_RELU:
    case PQ_OP_SIGMOID:
    case PQ_OP_SILU:
    case PQ_OP_HARD_SIGMOID:
    case PQ_OP_HARD_SWISH:
    case PQ_OP_TANH:
    case PQ_OP_EXP:
    case PQ_OP_LOG:
    case PQ_OP_SQRT:
    case PQ_OP_FLOOR:
    case PQ_OP_CEIL:
    case PQ_OP_ROUND:
    case PQ_OP_RECIPROCAL:
    case PQ_OP_ERF:
    case PQ_OP_SOFTPLUS:
    case PQ_OP_ELU:
    case PQ_OP_SIN:
    case PQ_OP_COS: return rule_float_unary(s);
    case PQ_OP_RELU:
    case PQ_OP_NEG:
    case PQ_OP_ABS:
    case PQ_OP_SIGN:
    case PQ_OP_IDENTITY: return rule_unary(s);
    case PQ_OP_NOT:
    case PQ_OP_AND:
    case PQ_OP_OR:
    case PQ_OP_XOR: return rule_logical(s);
    case PQ_OP_PRELU: return rule_prelu(s);
    case PQ_OP_WHERE: return rule_where(s);
    case PQ_OP_CLIP: return rule_clip(s);
    case PQ_OP_CAST: return rule_cast(s);
    case PQ_OP_ADD:
    case PQ_OP_SUB:
    case PQ_OP_MUL:
    case PQ_OP_DIV:
    case PQ_OP_POW:
    case PQ_OP_MIN:
    case PQ_OP_MAX:
    case PQ_OP_MOD:
    case PQ_OP_EQUAL:
    case PQ_OP_GREATER:
    case PQ_OP_LESS:
    case PQ_OP_GREATER_OR_EQUAL:
    case PQ_OP_LESS_OR_EQUAL: return rule_binary(s);
    case PQ_OP_RESIZE: return rule_resize(s);
    case PQ_OP_SOFTMAX:
    case PQ_OP_LOG_SOFTMAX: return rule_softmax(s);
    case PQ_OP_REDUCE_SUM:
    case PQ_OP_REDUCE_MEAN:
    case PQ_OP_REDUCE_MAX:
    case PQ_OP_REDUCE_MIN:
    case PQ_OP_REDUCE_PROD: return rule_reduce(s);
    case PQ_OP_GFL_DECODE: return rule_gfl_decode(s);
    default: return pq_infer_move(s);
    }
}

/* Inputs that no rule can do without: all but the trailing optional ones. */
static int required_inputs(const pq_node *n)
{
    switch (n->op) {
    case PQ_OP_CONV:
    case PQ_OP_CONV_TRANSPOSE:
    case PQ_OP_GEMM: return 2;
    case PQ_OP_CLIP:
    case PQ_OP_SPLIT:
    case PQ_OP_SLICE:
    case PQ_OP_RESHAPE:
    case PQ_OP_SQUEEZE:
    case PQ_OP_UNSQUEEZE:
    case PQ_OP_PAD:
    case PQ_OP_RESIZE:
    case PQ_OP_REDUCE_SUM:
    case PQ_OP_REDUCE_MEAN:
    case PQ_OP_REDUCE_MAX:
    case PQ_OP_REDUCE_MIN:
    case PQ_OP_REDUCE_PROD: return 1;
    case PQ_OP_NON_MAX_SUPPRESSION: return 2;
    default: return n->n_in;
    }
}

pq_status pq_infer_rule(pq_ctx *ctx, const pq_inference *inf, pq_graph *g, pq_node *n)
{
    const pq_infer_scope s = {ctx, inf, g, n};
    for (int i = 0; i < required_inputs(n); i++)
        if (n->in[i] == PQ_NONE) return pq_fail(ctx, PQ_E_FORMAT, "input %d is missing", i);
    return apply(&s);
}
