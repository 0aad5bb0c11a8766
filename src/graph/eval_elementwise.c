/* Evaluation: elementwise operators of one and two inputs, Cast, and the fused activations. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "graph/eval.h"

float pq_eval_act(pq_act act, float alpha, float beta, float x)
{
    switch (act) {
    case PQ_ACT_NONE: return x;
    case PQ_ACT_RELU: return x <= 0 ? 0 : x;
    case PQ_ACT_LEAKY_RELU: return x > 0 ? x : alpha * x;
    case PQ_ACT_CLIP: x = x < alpha ? alpha : x; return x > beta ? beta : x;
    case PQ_ACT_SIGMOID: return 1.0f / (1.0f + expf(-x));
    case PQ_ACT_SILU: return x / (1.0f + expf(-x));
    case PQ_ACT_HARD_SIGMOID: return fmaxf(0.0f, fminf(1.0f, fmaf(alpha, x, beta)));
    case PQ_ACT_HARD_SWISH: return x * fmaxf(0.0f, fminf(1.0f, fmaf(1.0f / 6, x, 0.5f)));
    case PQ_ACT_TANH: return tanhf(x);
    }
    return x;
}

void pq_eval_acts(float *x, size_t n, pq_act act, float alpha, float beta)
{
    if (act == PQ_ACT_NONE) return;
    for (size_t i = 0; i < n; i++) x[i] = pq_eval_act(act, alpha, beta, x[i]);
}

static float unary(pq_op op, float x, float alpha, float beta)
{
    switch (op) {
    case PQ_OP_RELU: return pq_eval_act(PQ_ACT_RELU, alpha, beta, x);
    case PQ_OP_LEAKY_RELU: return pq_eval_act(PQ_ACT_LEAKY_RELU, alpha, beta, x);
    case PQ_OP_SIGMOID: return pq_eval_act(PQ_ACT_SIGMOID, alpha, beta, x);
    case PQ_OP_SILU: return pq_eval_act(PQ_ACT_SILU, alpha, beta, x);
    case PQ_OP_HARD_SIGMOID: return pq_eval_act(PQ_ACT_HARD_SIGMOID, alpha, beta, x);
    case PQ_OP_HARD_SWISH: return pq_eval_act(PQ_ACT_HARD_SWISH, alpha, beta, x);
    case PQ_OP_TANH: return pq_eval_act(PQ_ACT_TANH, alpha, beta, x);
    case PQ_OP_CLIP: return pq_eval_act(PQ_ACT_CLIP, alpha, beta, x);
    case PQ_OP_EXP: return expf(x);
    case PQ_OP_LOG: return logf(x);
    case PQ_OP_SQRT: return sqrtf(x);
    case PQ_OP_NEG: return -x;
    case PQ_OP_ABS: return fabsf(x);
    case PQ_OP_FLOOR: return floorf(x);
    case PQ_OP_CEIL: return ceilf(x);
    case PQ_OP_ROUND: return rintf(x); /* half to even */
    case PQ_OP_RECIPROCAL: return 1.0f / x;
    default: return x;
    }
}

/* Neg, Abs, Relu and Clip of integers; Clip's bounds come from its inputs, in full precision. */
static pq_status unary_int(const pq_eval *e, size_t n)
{
    const pq_tensor *x = e->in[0];
    const pq_op op = e->n->op;
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    if (op != PQ_OP_NEG && op != PQ_OP_ABS && op != PQ_OP_RELU && op != PQ_OP_CLIP)
        return pq_fail(e->ctx, PQ_E_UNSUPPORTED, "node '%s': %s of %s", e->n->name, pq_op_name(op),
                       pq_dtype_name(x->dtype));
    if (op == PQ_OP_CLIP && e->n->n_in > 1 && e->in[1]) lo = pq_eval_load(e->in[1], 0);
    if (op == PQ_OP_CLIP && e->n->n_in > 2 && e->in[2]) hi = pq_eval_load(e->in[2], 0);
    if (op == PQ_OP_RELU) lo = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t v = pq_eval_load(x, i);
        if (op == PQ_OP_NEG || (op == PQ_OP_ABS && v < 0)) v = (int64_t)(0 - (uint64_t)v);
        v = v < lo ? lo : v;
        pq_eval_store(&e->out[0], i, v > hi ? hi : v);
    }
    return PQ_OK;
}

pq_status pq_eval_unary(const pq_eval *e)
{
    const size_t n = (size_t)pq_shape_count(&e->in[0]->shape);
    if (e->in[0]->dtype != PQ_F32) return unary_int(e, n);
    const float *x = pq_tensor_data(e->in[0]);
    float *y = pq_tensor_data(&e->out[0]);
    for (size_t i = 0; i < n; i++) y[i] = unary(e->n->op, x[i], e->n->attr.alpha, e->n->attr.beta);
    return PQ_OK;
}

static float binary(pq_op op, float a, float b)
{
    switch (op) {
    case PQ_OP_ADD: return a + b;
    case PQ_OP_SUB: return a - b;
    case PQ_OP_MUL: return a * b;
    case PQ_OP_DIV: return a / b;
    case PQ_OP_POW: return powf(a, b);
    case PQ_OP_MIN: return a < b ? a : b;
    case PQ_OP_MAX: return a > b ? a : b;
    default: return 0;
    }
}

static int64_t int_pow(int64_t a, int64_t b)
{
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
    uint64_t y = 1, x = (uint64_t)a;
    for (; b; b >>= 1, x *= x)
        if (b & 1) y *= x;
    return (int64_t)y;
}

/* b is not 0 where op divides. Unsigned arithmetic: overflow wraps. */
static int64_t binary_int(pq_op op, int64_t a, int64_t b)
{
    switch (op) {
    case PQ_OP_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case PQ_OP_SUB: return (int64_t)((uint64_t)a - (uint64_t)b);
    case PQ_OP_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case PQ_OP_DIV: return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
    case PQ_OP_POW: return int_pow(a, b);
    case PQ_OP_MIN: return a < b ? a : b;
    case PQ_OP_MAX: return a > b ? a : b;
    case PQ_OP_EQUAL: return a == b;
    default: return 0;
    }
}

static int64_t to_int(double v)
{
    if (!(v == v)) return 0;
    return v >= 0x1p63 ? INT64_MAX : v < -0x1p63 ? INT64_MIN : (int64_t)v;
}

/* One row of the output: elements a + i * da and b + i * db. */
static pq_status binary_row(const pq_eval *e, size_t y, size_t n, size_t a, size_t da, size_t b,
                            size_t db)
{
    const pq_tensor *ta = e->in[0], *tb = e->in[1];
    const pq_op op = e->n->op;
    if (ta->dtype == PQ_F32 && tb->dtype == PQ_F32) {
        const float *pa = pq_tensor_data(ta), *pb = pq_tensor_data(tb);
        if (op == PQ_OP_EQUAL) {
            uint8_t *py = pq_tensor_data(&e->out[0]);
            for (size_t i = 0; i < n; i++) py[y + i] = pa[a + i * da] == pb[b + i * db];
        } else {
            float *py = pq_tensor_data(&e->out[0]);
            for (size_t i = 0; i < n; i++) py[y + i] = binary(op, pa[a + i * da], pb[b + i * db]);
        }
        return PQ_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (ta->dtype == PQ_F32) { /* Pow with an integer exponent */
            float base = ((const float *)pq_tensor_data(ta))[a + i * da];
            ((float *)pq_tensor_data(&e->out[0]))[y + i] =
                powf(base, (float)pq_eval_load(tb, b + i * db));
            continue;
        }
        int64_t va = pq_eval_load(ta, a + i * da);
        if (tb->dtype == PQ_F32) { /* Pow of an integer with a real exponent */
            float power = ((const float *)pq_tensor_data(tb))[b + i * db];
            pq_eval_store(&e->out[0], y + i, to_int(pow((double)va, (double)power)));
            continue;
        }
        int64_t vb = pq_eval_load(tb, b + i * db);
        if (op == PQ_OP_DIV && vb == 0)
            return pq_fail(e->ctx, PQ_E_FORMAT, "node '%s': integer division by zero", e->n->name);
        pq_eval_store(&e->out[0], y + i, binary_int(op, va, vb));
    }
    return PQ_OK;
}

pq_status pq_eval_binary(const pq_eval *e)
{
    const pq_shape *s = &e->out[0].shape;
    const int rank = s->rank;
    const size_t total = (size_t)pq_shape_count(s);
    const size_t row = rank ? (size_t)s->dim[rank - 1] : 1;
    int64_t sa[PQ_MAX_RANK], sb[PQ_MAX_RANK], at[PQ_MAX_RANK] = {0};
    pq_eval_strides(&e->in[0]->shape, rank, sa);
    pq_eval_strides(&e->in[1]->shape, rank, sb);
    for (size_t y = 0; y < total; y += row) {
        int64_t a = 0, b = 0;
        for (int k = 0; k + 1 < rank; k++) a += at[k] * sa[k], b += at[k] * sb[k];
        pq_status st = binary_row(e, y, row, (size_t)a, rank ? (size_t)sa[rank - 1] : 0, (size_t)b,
                                  rank ? (size_t)sb[rank - 1] : 0);
        if (st != PQ_OK) return st;
        for (int k = rank - 2; k >= 0 && ++at[k] == s->dim[k]; k--) at[k] = 0;
    }
    if (e->n->op == PQ_OP_ADD && e->out[0].dtype == PQ_F32)
        pq_eval_acts(pq_tensor_data(&e->out[0]), total, e->n->attr.act, e->n->attr.alpha,
                     e->n->attr.beta);
    return PQ_OK;
}

pq_status pq_eval_cast(const pq_eval *e)
{
    const pq_tensor *x = e->in[0];
    pq_tensor *y = &e->out[0];
    const size_t n = (size_t)pq_shape_count(&x->shape);
    for (size_t i = 0; i < n; i++) {
        const float f =
            x->dtype == PQ_F32 ? ((const float *)pq_tensor_data(x))[i] : (float)pq_eval_load(x, i);
        if (y->dtype == PQ_F32)
            ((float *)pq_tensor_data(y))[i] = f;
        else if (x->dtype != PQ_F32)
            pq_eval_store(y, i, pq_eval_load(x, i));
        else /* towards zero; to bool: anything but 0 is true */
            pq_eval_store(y, i, y->dtype == PQ_BOOL ? f != 0.0f : to_int((double)f));
    }
    return PQ_OK;
}
