/* Evaluation: elementwise operators of two and three inputs, with broadcasting. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "graph/eval.h"

void pq_eval_rows_begin(pq_eval_rows *r, const pq_eval *e)
{
    const pq_shape *s = &e->out[0].shape;
    memset(r, 0, sizeof *r);
    r->shape = s;
    r->total = (size_t)pq_shape_count(s);
    r->n = s->rank ? (size_t)s->dim[s->rank - 1] : 1;
    for (int k = 0; k < e->n->n_in && k < 3; k++) {
        pq_eval_strides(&e->in[k]->shape, s->rank, r->stride[k]);
        r->step[k] = s->rank ? (size_t)r->stride[k][s->rank - 1] : 0;
    }
}

bool pq_eval_rows_next(pq_eval_rows *r, const pq_eval *e)
{
    const int rank = r->shape->rank;
    if (r->y >= r->total) return false;
    for (int k = 0; k < e->n->n_in && k < 3; k++) {
        int64_t at = 0;
        for (int i = 0; i + 1 < rank; i++) at += r->at[i] * r->stride[k][i];
        r->first[k] = (size_t)at;
    }
    for (int i = rank - 2; i >= 0 && ++r->at[i] == r->shape->dim[i]; i--) r->at[i] = 0;
    r->y += r->n;
    return true;
}

/* Where the row that pq_eval_rows_next gave begins in the output. */
static size_t row_start(const pq_eval_rows *r) { return r->y - r->n; }

/* What is not a number stays so in Min and Max. */
static float binary(const pq_attr *attr, pq_op op, float a, float b)
{
    switch (op) {
    case PQ_OP_ADD: return a + b;
    case PQ_OP_SUB: return a - b;
    case PQ_OP_MUL: return a * b;
    case PQ_OP_DIV: return a / b;
    case PQ_OP_POW: return powf(a, b);
    case PQ_OP_MIN: return a < b || isnan(a) ? a : b;
    case PQ_OP_MAX: return a > b || isnan(a) ? a : b;
    case PQ_OP_PRELU: return a < 0 ? a * b : a;
    case PQ_OP_MOD: {
        const float m = fmodf(a, b);
        return attr->fmod || m == 0 || (m < 0) == (b < 0) ? m : m + b;
    }
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

static int64_t int_mod(const pq_attr *attr, int64_t a, int64_t b)
{
    if (b == -1) return 0;
    const int64_t m = a % b;
    return attr->fmod || m == 0 || (m < 0) == (b < 0) ? m : m + b;
}

/* b is not 0 where op divides. Unsigned arithmetic: overflow wraps. */
static int64_t binary_int(const pq_attr *attr, pq_op op, int64_t a, int64_t b)
{
    if (a == PQ_ABSENT || b == PQ_ABSENT) return PQ_ABSENT;
    switch (op) {
    case PQ_OP_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case PQ_OP_SUB: return (int64_t)((uint64_t)a - (uint64_t)b);
    case PQ_OP_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case PQ_OP_DIV: return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
    case PQ_OP_POW: return int_pow(a, b);
    case PQ_OP_MIN: return a < b ? a : b;
    case PQ_OP_MAX: return a > b ? a : b;
    case PQ_OP_MOD: return int_mod(attr, a, b);
    case PQ_OP_PRELU: return a < 0 ? (int64_t)((uint64_t)a * (uint64_t)b) : a;
    default: return 0;
    }
}

static pq_status binary_row(const pq_eval *e, const pq_eval_rows *r)
{
    const pq_tensor *ta = e->in[0], *tb = e->in[1];
    const pq_op op = e->n->op;
    const pq_attr *attr = &e->n->attr;
    const size_t a = r->first[0], b = r->first[1], da = r->step[0], db = r->step[1];
    const size_t y = row_start(r);
    if (ta->dtype == PQ_F32 && tb->dtype == PQ_F32) {
        const float *pa = pq_tensor_data(ta), *pb = pq_tensor_data(tb);
        float *py = pq_tensor_data(&e->out[0]);
        for (size_t i = 0; i < r->n; i++)
            py[y + i] = binary(attr, op, pa[a + i * da], pb[b + i * db]);
        return PQ_OK;
    }
    for (size_t i = 0; i < r->n; i++) {
        if (ta->dtype == PQ_F32) { /* Pow with an integer exponent */
            float base = ((const float *)pq_tensor_data(ta))[a + i * da];
            ((float *)pq_tensor_data(&e->out[0]))[y + i] =
                powf(base, (float)pq_eval_load(tb, b + i * db));
            continue;
        }
        int64_t va = pq_eval_load(ta, a + i * da);
        if (tb->dtype == PQ_F32) { /* Pow of an integer with a real exponent */
            float power = ((const float *)pq_tensor_data(tb))[b + i * db];
            pq_eval_store(&e->out[0], y + i, pq_eval_to_int(pow((double)va, (double)power)));
            continue;
        }
        int64_t vb = pq_eval_load(tb, b + i * db);
        if ((op == PQ_OP_DIV || op == PQ_OP_MOD) && vb == 0)
            return pq_fail(e->ctx, PQ_E_FORMAT, "node '%s': integer division by zero", e->n->name);
        pq_eval_store(&e->out[0], y + i, binary_int(attr, op, va, vb));
    }
    return PQ_OK;
}

pq_status pq_eval_binary(const pq_eval *e)
{
    pq_eval_rows r;
    pq_eval_rows_begin(&r, e);
    while (pq_eval_rows_next(&r, e)) {
        const pq_status st = binary_row(e, &r);
        if (st != PQ_OK) return st;
    }
    if (e->n->op == PQ_OP_ADD && e->out[0].dtype == PQ_F32)
        pq_eval_acts(pq_tensor_data(&e->out[0]), r.total, e->n->attr.act, e->n->attr.alpha,
                     e->n->attr.beta);
    return PQ_OK;
}

/* ---- truth values ---- */

static bool compare(pq_op op, float a, float b)
{
    switch (op) {
    case PQ_OP_EQUAL: return a == b;
    case PQ_OP_GREATER: return a > b;
    case PQ_OP_LESS: return a < b;
    case PQ_OP_GREATER_OR_EQUAL: return a >= b;
    case PQ_OP_LESS_OR_EQUAL: return a <= b;
    default: return false;
    }
}

static bool compare_int(pq_op op, int64_t a, int64_t b)
{
    if (a == PQ_ABSENT || b == PQ_ABSENT) return false;
    switch (op) {
    case PQ_OP_EQUAL: return a == b;
    case PQ_OP_GREATER: return a > b;
    case PQ_OP_LESS: return a < b;
    case PQ_OP_GREATER_OR_EQUAL: return a >= b;
    case PQ_OP_LESS_OR_EQUAL: return a <= b;
    case PQ_OP_AND: return a && b;
    case PQ_OP_OR: return a || b;
    case PQ_OP_XOR: return !a != !b;
    default: return false;
    }
}

pq_status pq_eval_compare(const pq_eval *e)
{
    const pq_tensor *a = e->in[0], *b = e->in[1];
    const float *fa = pq_tensor_data(a), *fb = pq_tensor_data(b);
    uint8_t *y = pq_tensor_data(&e->out[0]);
    pq_eval_rows r;
    pq_eval_rows_begin(&r, e);
    while (pq_eval_rows_next(&r, e))
        for (size_t i = 0; i < r.n; i++) {
            const size_t ia = r.first[0] + i * r.step[0], ib = r.first[1] + i * r.step[1];
            y[row_start(&r) + i] = a->dtype == PQ_F32 ? compare(e->n->op, fa[ia], fb[ib])
                                                      : compare_int(e->n->op, pq_eval_load(a, ia),
                                                                    pq_eval_load(b, ib));
        }
    return PQ_OK;
}

pq_status pq_eval_where(const pq_eval *e)
{
    const uint8_t *condition = pq_tensor_data(e->in[0]);
    const size_t size = pq_dtype_size(e->out[0].dtype);
    char *y = pq_tensor_data(&e->out[0]);
    pq_eval_rows r;
    pq_eval_rows_begin(&r, e);
    while (pq_eval_rows_next(&r, e))
        for (size_t i = 0; i < r.n; i++) {
            const int k = condition[r.first[0] + i * r.step[0]] ? 1 : 2;
            const char *from = pq_tensor_data(e->in[k]);
            memcpy(y + (row_start(&r) + i) * size, from + (r.first[k] + i * r.step[k]) * size,
                   size);
        }
    return PQ_OK;
}
