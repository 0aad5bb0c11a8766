/* Evaluation: reductions, softmax, pooling, batch normalisation, matrix products. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "graph/eval.h"

static float *floats(const pq_tensor *t) { return pq_tensor_data(t); }

/* What a reduction begins with, and one step of it. What is not a number is passed over by the
 * largest and the smallest: it marks rows that do not exist. */
static float reduce_start(pq_op op)
{
    return op == PQ_OP_REDUCE_MAX    ? -INFINITY
           : op == PQ_OP_REDUCE_MIN  ? INFINITY
           : op == PQ_OP_REDUCE_PROD ? 1.0f
                                     : 0.0f;
}

static float reduce_step(pq_op op, float y, float x)
{
    switch (op) {
    case PQ_OP_REDUCE_MAX: return x > y ? x : y;
    case PQ_OP_REDUCE_MIN: return x < y ? x : y;
    case PQ_OP_REDUCE_PROD: return y * x;
    default: return y + x;
    }
}

static void reduce_float(const pq_eval *e, const int64_t *stride, size_t total)
{
    const float *x = floats(e->in[0]);
    float *y = floats(&e->out[0]);
    const pq_shape *s = &e->in[0]->shape;
    const size_t n_out = (size_t)pq_shape_count(&e->out[0].shape);
    int64_t at[PQ_MAX_RANK] = {0};
    for (size_t i = 0; i < n_out; i++) y[i] = reduce_start(e->n->op);
    for (size_t i = 0; i < total; i++) {
        int64_t o = 0;
        for (int k = 0; k < s->rank; k++) o += at[k] * stride[k];
        y[o] = reduce_step(e->n->op, y[o], x[i]);
        for (int k = s->rank - 1; k >= 0 && ++at[k] == s->dim[k]; k--) at[k] = 0;
    }
    if (e->n->op == PQ_OP_REDUCE_MEAN && n_out)
        for (size_t i = 0; i < n_out; i++) y[i] /= (float)(total / n_out);
}

static int64_t reduce_int_step(pq_op op, int64_t y, int64_t x)
{
    switch (op) {
    case PQ_OP_REDUCE_MAX: return x > y ? x : y;
    case PQ_OP_REDUCE_MIN: return x < y ? x : y;
    case PQ_OP_REDUCE_PROD: return (int64_t)((uint64_t)y * (uint64_t)x);
    default: return (int64_t)((uint64_t)y + (uint64_t)x);
    }
}

static void reduce_int(const pq_eval *e, const int64_t *stride, size_t total)
{
    pq_tensor *y = &e->out[0];
    const pq_shape *s = &e->in[0]->shape;
    const size_t n_out = (size_t)pq_shape_count(&y->shape);
    int64_t at[PQ_MAX_RANK] = {0};
    for (size_t i = 0; i < total; i++) {
        int64_t o = 0;
        bool first = true;
        for (int k = 0; k < s->rank; k++) {
            o += at[k] * stride[k];
            first = first && (stride[k] || !at[k]);
        }
        const int64_t v = pq_eval_load(e->in[0], i), old = pq_eval_load(y, (size_t)o);
        pq_eval_store(y, (size_t)o, first ? v : reduce_int_step(e->n->op, old, v));
        for (int k = s->rank - 1; k >= 0 && ++at[k] == s->dim[k]; k--) at[k] = 0;
    }
    for (size_t i = 0; e->n->op == PQ_OP_REDUCE_MEAN && i < n_out; i++)
        pq_eval_store(y, i, pq_eval_load(y, i) / (int64_t)(total / n_out));
}

pq_status pq_eval_reduce(const pq_eval *e)
{
    const pq_attr *a = &e->n->attr;
    pq_shape kept = e->in[0]->shape; /* as with keepdims */
    int64_t stride[PQ_MAX_RANK];
    for (int i = 0; i < a->n_axes; i++) kept.dim[a->axes[i]] = 1;
    pq_eval_strides(&kept, kept.rank, stride);
    const size_t total = (size_t)pq_shape_count(&e->in[0]->shape);
    if (e->in[0]->dtype == PQ_F32)
        reduce_float(e, stride, total);
    else
        reduce_int(e, stride, total);
    return PQ_OK;
}

pq_status pq_eval_softmax(const pq_eval *e)
{
    const pq_shape *s = &e->in[0]->shape;
    const int axis = (int)e->n->attr.axis;
    int64_t outer = 1, inner = 1;
    const int64_t n = s->dim[axis];
    for (int i = 0; i < axis; i++) outer *= s->dim[i];
    for (int i = axis + 1; i < s->rank; i++) inner *= s->dim[i];
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            const float *x = floats(e->in[0]) + o * n * inner + i;
            float *y = floats(&e->out[0]) + o * n * inner + i, max = -INFINITY, sum = 0;
            for (int64_t k = 0; k < n; k++) max = x[k * inner] > max ? x[k * inner] : max;
            for (int64_t k = 0; k < n; k++) sum += y[k * inner] = expf(x[k * inner] - max);
            const float log_sum = logf(sum);
            for (int64_t k = 0; k < n; k++)
                y[k * inner] = e->n->op == PQ_OP_LOG_SOFTMAX ? x[k * inner] - max - log_sum
                                                             : y[k * inner] / sum;
        }
    return PQ_OK;
}

/* One output of a pooling window whose first row and column are top and left (may be negative). */
static float pool_one(const pq_eval *e, const float *x, int64_t h, int64_t w, int64_t top,
                      int64_t left)
{
    const pq_window *a = &e->n->attr.window;
    const bool max = e->n->op == PQ_OP_MAX_POOL;
    float y = max ? -INFINITY : 0;
    int64_t count = 0;
    for (int64_t ky = 0; ky < a->kernel[0]; ky++)
        for (int64_t kx = 0; kx < a->kernel[1]; kx++) {
            const int64_t iy = top + ky * a->dilation[0], ix = left + kx * a->dilation[1];
            if (iy < 0 || ix < 0 || iy >= h || ix >= w) {
                /* padding that was asked for counts, what ceil_mode adds beyond it does not */
                count += a->count_include_pad && iy < h + a->pad[2] && ix < w + a->pad[3];
                continue;
            }
            const float v = x[iy * w + ix];
            count++;
            y = !max ? y + v : v > y ? v : y;
        }
    return max || !count ? y : y / (float)count;
}

pq_status pq_eval_pool(const pq_eval *e)
{
    const pq_shape *x = &e->in[0]->shape, *y = &e->out[0].shape; /* NCHW */
    const pq_window *a = &e->n->attr.window;
    const int64_t h = x->dim[2], w = x->dim[3];
    float *out = floats(&e->out[0]);
    for (int64_t p = 0; p < x->dim[0] * x->dim[1]; p++) {
        const float *plane = floats(e->in[0]) + p * h * w;
        if (e->n->op == PQ_OP_GLOBAL_AVERAGE_POOL) {
            float sum = 0;
            for (int64_t i = 0; i < h * w; i++) sum += plane[i];
            *out++ = sum / (float)(h * w);
            continue;
        }
        for (int64_t oy = 0; oy < y->dim[2]; oy++)
            for (int64_t ox = 0; ox < y->dim[3]; ox++)
                *out++ = pool_one(e, plane, h, w, oy * a->stride[0] - a->pad[0],
                                  ox * a->stride[1] - a->pad[1]);
    }
    return PQ_OK;
}

pq_status pq_eval_batch_norm(const pq_eval *e)
{
    const pq_shape *s = &e->in[0]->shape; /* [n, c, …] */
    const float *x = floats(e->in[0]), *gamma = floats(e->in[1]), *beta = floats(e->in[2]);
    const float *mean = floats(e->in[3]), *var = floats(e->in[4]);
    float *y = floats(&e->out[0]);
    int64_t inner = 1;
    for (int i = 2; i < s->rank; i++) inner *= s->dim[i];
    for (int64_t p = 0; p < s->dim[0] * s->dim[1]; p++) {
        const int64_t c = p % s->dim[1];
        const float scale = gamma[c] / sqrtf(var[c] + e->n->attr.eps);
        for (int64_t i = 0; i < inner; i++) *y++ = (*x++ - mean[c]) * scale + beta[c];
    }
    return PQ_OK;
}

/* y[m,n] = a[m,k] b[k,n], element (i, j) of a matrix at i * row + j * column. */
static void product(float *y, const float *a, int64_t a_row, int64_t a_column, const float *b,
                    int64_t b_row, int64_t b_column, int64_t m, int64_t k, int64_t n)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += a[i * a_row + l * a_column] * b[l * b_row + j * b_column];
            y[i * n + j] = sum;
        }
}

/* alpha and beta are the product's own: only activations without parameters are fused behind it. */
pq_status pq_eval_gemm(const pq_eval *e)
{
    const pq_attr *t = &e->n->attr;
    const pq_shape *a = &e->in[0]->shape, *b = &e->in[1]->shape, *s = &e->out[0].shape;
    const int64_t m = s->dim[0], n = s->dim[1], k = a->dim[t->trans_a ? 0 : 1];
    float *y = floats(&e->out[0]);
    product(y, floats(e->in[0]), t->trans_a ? 1 : k, t->trans_a ? m : 1, floats(e->in[1]),
            t->trans_b ? 1 : n, t->trans_b ? b->dim[1] : 1, m, k, n);
    int64_t stride[PQ_MAX_RANK] = {0};
    const float *c = e->n->n_in > 2 && e->in[2] ? floats(e->in[2]) : NULL;
    if (c) pq_eval_strides(&e->in[2]->shape, 2, stride);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            y[i * n + j] *= t->alpha;
            if (c) y[i * n + j] += t->beta * c[i * stride[0] + j * stride[1]];
        }
    pq_eval_acts(y, (size_t)(m * n), t->act, t->alpha, t->beta);
    return PQ_OK;
}

pq_status pq_eval_matmul(const pq_eval *e)
{
    pq_shape a = e->in[0]->shape, b = e->in[1]->shape, batch = {0, {0}};
    const int64_t m = a.rank > 1 ? a.dim[a.rank - 2] : 1, k = a.dim[a.rank - 1];
    const int64_t n = b.rank > 1 ? b.dim[b.rank - 1] : 1;
    a.rank = a.rank > 2 ? a.rank - 2 : 0; /* the dimensions in front of the matrices */
    b.rank = b.rank > 2 ? b.rank - 2 : 0;
    batch.rank = a.rank > b.rank ? a.rank : b.rank;
    int64_t sa[PQ_MAX_RANK], sb[PQ_MAX_RANK], at[PQ_MAX_RANK] = {0}, count = 1;
    for (int i = 0; i < batch.rank; i++) count *= batch.dim[i] = e->out[0].shape.dim[i];
    pq_eval_strides(&a, batch.rank, sa);
    pq_eval_strides(&b, batch.rank, sb);
    float *y = floats(&e->out[0]);
    for (int64_t p = 0; p < count; p++, y += m * n) {
        int64_t oa = 0, ob = 0;
        for (int i = 0; i < batch.rank; i++) oa += at[i] * sa[i], ob += at[i] * sb[i];
        product(y, floats(e->in[0]) + oa * m * k, k, 1, floats(e->in[1]) + ob * k * n, n, 1, m, k,
                n);
        for (int i = batch.rank - 1; i >= 0 && ++at[i] == batch.dim[i]; i--) at[i] = 0;
    }
    pq_eval_acts(floats(&e->out[0]), (size_t)(count * m * n), e->n->attr.act, e->n->attr.alpha,
                 e->n->attr.beta);
    return PQ_OK;
}
