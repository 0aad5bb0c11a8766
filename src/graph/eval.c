/* Evaluation of single operators: dispatch, checks of the operands and what the kinds share. */
#include "graph/eval.h"

#include <math.h>
#include <string.h>

#include "base/ctx.h"

bool pq_eval_supports(pq_op op) { return op != PQ_OP_CONV && op != PQ_OP_CONV_TRANSPOSE; }

int64_t pq_eval_load(const pq_tensor *t, size_t i)
{
    const void *p = pq_tensor_data(t);
    switch (t->dtype) {
    case PQ_S8: return ((const int8_t *)p)[i];
    case PQ_U8: return ((const uint8_t *)p)[i];
    case PQ_S16: return ((const int16_t *)p)[i];
    case PQ_S32: {
        const int32_t v = ((const int32_t *)p)[i];
        return v == PQ_ABSENT_32 ? PQ_ABSENT : v;
    }
    case PQ_S64: return ((const int64_t *)p)[i];
    case PQ_BOOL: return ((const uint8_t *)p)[i] != 0;
    default: return 0; /* pq_eval_node lets nothing else through */
    }
}

void pq_eval_store(pq_tensor *t, size_t i, int64_t v)
{
    void *p = pq_tensor_data(t);
    switch (t->dtype) {
    case PQ_S8: ((int8_t *)p)[i] = (int8_t)v; break;
    case PQ_U8: ((uint8_t *)p)[i] = (uint8_t)v; break;
    case PQ_S16: ((int16_t *)p)[i] = (int16_t)v; break;
    case PQ_S32: ((int32_t *)p)[i] = v == PQ_ABSENT ? PQ_ABSENT_32 : (int32_t)v; break;
    case PQ_S64: ((int64_t *)p)[i] = v; break;
    case PQ_BOOL: ((uint8_t *)p)[i] = v != 0; break;
    default: break;
    }
}

void pq_eval_store_absent(pq_tensor *t, size_t i)
{
    if (t->dtype == PQ_F32)
        ((float *)pq_tensor_data(t))[i] = NAN;
    else
        pq_eval_store(t, i, t->dtype == PQ_S64 || t->dtype == PQ_S32 ? PQ_ABSENT : 0);
}

void pq_eval_strides(const pq_shape *s, int rank, int64_t stride[PQ_MAX_RANK])
{
    int64_t step = 1;
    for (int i = 0; i < PQ_MAX_RANK; i++) stride[i] = 0;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i + rank - s->rank] = s->dim[i] == 1 ? 0 : step;
        step *= s->dim[i];
    }
}

/* How many leading inputs the evaluation reads. */
static int inputs_read(const pq_node *n)
{
    switch (n->op) {
    case PQ_OP_SHAPE:
    case PQ_OP_CONSTANT_OF_SHAPE: return 0;
    case PQ_OP_GEMM:
    case PQ_OP_NON_MAX_SUPPRESSION: return 2;
    case PQ_OP_MATMUL:
    case PQ_OP_BATCH_NORM:
    case PQ_OP_ADD:
    case PQ_OP_SUB:
    case PQ_OP_MUL:
    case PQ_OP_DIV:
    case PQ_OP_POW:
    case PQ_OP_MIN:
    case PQ_OP_MAX:
    case PQ_OP_MOD:
    case PQ_OP_PRELU:
    case PQ_OP_EQUAL:
    case PQ_OP_GREATER:
    case PQ_OP_LESS:
    case PQ_OP_GREATER_OR_EQUAL:
    case PQ_OP_LESS_OR_EQUAL:
    case PQ_OP_AND:
    case PQ_OP_OR:
    case PQ_OP_XOR:
    case PQ_OP_WHERE:
    case PQ_OP_CONCAT:
    case PQ_OP_GATHER:
    case PQ_OP_GATHER_ND:
    case PQ_OP_GATHER_ELEMENTS:
    case PQ_OP_SCATTER_ND:
    case PQ_OP_SCATTER_ELEMENTS:
    case PQ_OP_RANGE:
    case PQ_OP_GFL_DECODE: return n->n_in;
    default: return 1;
    }
}

static pq_status check(const pq_eval *e)
{
    const int n_read = inputs_read(e->n);
    for (int i = 0; i < e->n->n_in; i++) {
        const pq_tensor *t = e->in[i];
        const pq_value *v = pq_in(e->g, e->n, i);
        if (!t && i < n_read)
            return pq_fail(e->ctx, PQ_E_INTERNAL, "node '%s': no tensor for input %d", e->n->name,
                           i);
        if (!t) continue;
        if (!v || t->dtype != v->dtype || !pq_shape_equal(&t->shape, &v->shape) || !t->buf ||
            pq_buf_bytes(t->buf) < (size_t)pq_shape_count(&t->shape) * pq_dtype_size(t->dtype))
            return pq_fail(e->ctx, PQ_E_INTERNAL,
                           "node '%s': the tensor for input %d is not what "
                           "the graph says",
                           e->n->name, i);
        if (i < n_read && (t->dtype == PQ_F16 || t->dtype == PQ_BF16 || t->dtype == PQ_F64))
            return pq_fail(e->ctx, PQ_E_UNSUPPORTED, "node '%s': input %d is %s", e->n->name, i,
                           pq_dtype_name(t->dtype));
    }
    return PQ_OK;
}

static pq_status dispatch(const pq_eval *e)
{
    switch (e->n->op) {
    case PQ_OP_CONV:
    case PQ_OP_CONV_TRANSPOSE:
    case PQ_OP_COUNT: break;
    case PQ_OP_GEMM: return pq_eval_gemm(e);
    case PQ_OP_MATMUL: return pq_eval_matmul(e);
    case PQ_OP_BATCH_NORM: return pq_eval_batch_norm(e);
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL:
    case PQ_OP_GLOBAL_AVERAGE_POOL: return pq_eval_pool(e);
    case PQ_OP_RELU:
    case PQ_OP_LEAKY_RELU:
    case PQ_OP_SIGMOID:
    case PQ_OP_SILU:
    case PQ_OP_HARD_SIGMOID:
    case PQ_OP_HARD_SWISH:
    case PQ_OP_TANH:
    case PQ_OP_CLIP:
    case PQ_OP_EXP:
    case PQ_OP_LOG:
    case PQ_OP_SQRT:
    case PQ_OP_NEG:
    case PQ_OP_ABS:
    case PQ_OP_FLOOR:
    case PQ_OP_CEIL:
    case PQ_OP_ROUND:
    case PQ_OP_RECIPROCAL:
    case PQ_OP_ERF:
    case PQ_OP_SOFTPLUS:
    case PQ_OP_ELU:
    case PQ_OP_SIGN:
    case PQ_OP_SIN:
    case PQ_OP_COS:
    case PQ_OP_NOT: return pq_eval_unary(e);
    case PQ_OP_CAST: return pq_eval_cast(e);
    case PQ_OP_ADD:
    case PQ_OP_SUB:
    case PQ_OP_MUL:
    case PQ_OP_DIV:
    case PQ_OP_POW:
    case PQ_OP_MIN:
    case PQ_OP_MAX:
    case PQ_OP_MOD:
    case PQ_OP_PRELU: return pq_eval_binary(e);
    case PQ_OP_EQUAL:
    case PQ_OP_GREATER:
    case PQ_OP_LESS:
    case PQ_OP_GREATER_OR_EQUAL:
    case PQ_OP_LESS_OR_EQUAL:
    case PQ_OP_AND:
    case PQ_OP_OR:
    case PQ_OP_XOR: return pq_eval_compare(e);
    case PQ_OP_WHERE: return pq_eval_where(e);
    case PQ_OP_IDENTITY:
    case PQ_OP_CONCAT:
    case PQ_OP_SPLIT:
    case PQ_OP_SLICE:
    case PQ_OP_RESHAPE:
    case PQ_OP_FLATTEN:
    case PQ_OP_SQUEEZE:
    case PQ_OP_UNSQUEEZE:
    case PQ_OP_TRANSPOSE:
    case PQ_OP_EXPAND:
    case PQ_OP_TILE:
    case PQ_OP_PAD:
    case PQ_OP_FOCUS:
    case PQ_OP_SHAPE:
    case PQ_OP_CONSTANT_OF_SHAPE:
    case PQ_OP_RANGE: return pq_eval_move(e);
    case PQ_OP_GATHER:
    case PQ_OP_GATHER_ND:
    case PQ_OP_GATHER_ELEMENTS:
    case PQ_OP_SCATTER_ND:
    case PQ_OP_SCATTER_ELEMENTS: return pq_eval_index(e);
    case PQ_OP_RESIZE: return pq_eval_resize(e);
    case PQ_OP_SOFTMAX:
    case PQ_OP_LOG_SOFTMAX: return pq_eval_softmax(e);
    case PQ_OP_REDUCE_SUM:
    case PQ_OP_REDUCE_MEAN:
    case PQ_OP_REDUCE_MAX:
    case PQ_OP_REDUCE_MIN:
    case PQ_OP_REDUCE_PROD: return pq_eval_reduce(e);
    case PQ_OP_ARG_MAX:
    case PQ_OP_ARG_MIN:
    case PQ_OP_TOP_K:
    case PQ_OP_NON_ZERO:
    case PQ_OP_NON_MAX_SUPPRESSION: return pq_eval_search(e);
    case PQ_OP_GFL_DECODE: return pq_eval_gfl_decode(e);
    }
    return pq_fail(e->ctx, PQ_E_INTERNAL, "node '%s': %s is not evaluated here", e->n->name,
                   pq_op_name(e->n->op));
}

pq_status pq_eval_node(pq_ctx *ctx, const pq_graph *g, const pq_node *n,
                       const pq_tensor *const in[], pq_tensor out[])
{
    const pq_eval e = {ctx, g, n, in, out};
    memset(out, 0, (size_t)n->n_out * sizeof *out);
    pq_status st = check(&e);
    for (int i = 0; st == PQ_OK && i < n->n_out; i++) {
        const pq_value *v = pq_out_value(g, n, i);
        if (v->dtype == PQ_F16 || v->dtype == PQ_BF16 || v->dtype == PQ_F64)
            st = pq_fail(ctx, PQ_E_UNSUPPORTED, "node '%s': output is %s", n->name,
                         pq_dtype_name(v->dtype));
        else
            st = pq_tensor_new(ctx, &out[i], v->dtype, &v->shape);
    }
    if (st == PQ_OK) st = dispatch(&e);
    for (int i = 0; st != PQ_OK && i < n->n_out; i++) pq_tensor_clear(&out[i]);
    return st;
}
