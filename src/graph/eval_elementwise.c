/* Evaluation: elementwise operators of one input, Cast, and the fused activations. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/expf.h"
#include "graph/eval.h"

static float sigmoid(float x) { return 1.0f / (1.0f + pq_expf(-x)); }

float pq_eval_act(pq_act act, float alpha, float beta, float x)
{
    switch (act) {
    case PQ_ACT_NONE: return x;
    case PQ_ACT_RELU: return x <= 0 ? 0 : x;
    case PQ_ACT_LEAKY_RELU: return x > 0 ? x : alpha * x;
    case PQ_ACT_CLIP: x = x < alpha ? alpha : x; return x > beta ? beta : x;
    case PQ_ACT_SIGMOID: return isnan(x) ? x : sigmoid(x);
    case PQ_ACT_SILU: return x * sigmoid(x);
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
    case PQ_OP_ERF: return erff(x);
    case PQ_OP_SOFTPLUS: return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
    case PQ_OP_ELU: return x < 0 ? alpha * expm1f(x) : x;
    case PQ_OP_SIGN: return x > 0 ? 1 : x < 0 ? -1 : x;
    case PQ_OP_SIN: return sinf(x);
    case PQ_OP_COS: return cosf(x);
    default: return x;
    }
}

/* Neg, Abs, Sign, Not, Relu and Clip of integers; Clip's bounds come from its inputs, in full
 * precision. */
static pq_status unary_int(const pq_eval *e, size_t n)
{
    const pq_tensor *x = e->in[0];
    const pq_op op = e->n->op;
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    if (op != PQ_OP_NEG && op != PQ_OP_ABS && op != PQ_OP_RELU && op != PQ_OP_CLIP &&
        op != PQ_OP_SIGN && op != PQ_OP_NOT)
        return pq_fail(e->ctx, PQ_E_UNSUPPORTED, "node '%s': %s of %s", e->n->name, pq_op_name(op),
                       pq_dtype_name(x->dtype));
    if (op == PQ_OP_CLIP && e->n->n_in > 1 && e->in[1]) lo = pq_eval_load(e->in[1], 0);
    if (op == PQ_OP_CLIP && e->n->n_in > 2 && e->in[2]) hi = pq_eval_load(e->in[2], 0);
    if (op == PQ_OP_RELU) lo = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t v = pq_eval_load(x, i);
        if (v == PQ_ABSENT) {
            pq_eval_store(&e->out[0], i, v);
            continue;
        }
        if (op == PQ_OP_SIGN) v = (v > 0) - (v < 0);
        if (op == PQ_OP_NOT) v = !v;
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

int64_t pq_eval_to_int(double v)
{
    if (isnan(v)) return PQ_ABSENT;
    return v >= 0x1p63 ? INT64_MAX : v < -0x1p63 ? INT64_MIN : (int64_t)v;
}

pq_status pq_eval_cast(const pq_eval *e)
{
    const pq_tensor *x = e->in[0];
    pq_tensor *y = &e->out[0];
    const size_t n = (size_t)pq_shape_count(&x->shape);
    for (size_t i = 0; i < n; i++) {
        const int64_t v = x->dtype == PQ_F32 ? 0 : pq_eval_load(x, i);
        const float f = x->dtype == PQ_F32 ? ((const float *)pq_tensor_data(x))[i]
                        : v == PQ_ABSENT   ? NAN
                                           : (float)v;
        if (y->dtype == PQ_F32)
            ((float *)pq_tensor_data(y))[i] = f;
        else if (x->dtype != PQ_F32)
            pq_eval_store(y, i, v);
        else /* towards zero; to bool: anything but 0 is true */
            pq_eval_store(y, i, y->dtype == PQ_BOOL ? f != 0.0f : pq_eval_to_int((double)f));
    }
    return PQ_OK;
}
