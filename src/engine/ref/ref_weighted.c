/* Convolutions and matrix products in plain loops: int8 with exact int32 sums, floats with double
 * sums. Everything is NCHW. */
#include <math.h>

#include "base/mem.h"
#include "engine/ref/ref.h"
#include "graph/eval.h"

/* One real result to its stored form: the order of the float steps that every engine's own kernels
 * repeat: fmaf for scale and bias, activation, fmaf for the residual, activation of the sum. */
static float finish(const ref_epilogue *e, float sum, size_t at)
{
    float y = pq_eval_act(e->act, e->alpha, e->beta, sum);
    if (e->residual) {
        const pq_slot *r = e->residual;
        switch (r->dtype) {
        case PQ_S8:
        case PQ_U8: {
            int v = r->dtype == PQ_S8 ? ((const int8_t *)e->residual_data)[at]
                                      : ((const uint8_t *)e->residual_data)[at];
            y = fmaf((float)(v - r->zero_point), r->scale, y);
            break;
        }
        case PQ_BF16: y += pq_bf16_to_f32(((const uint16_t *)e->residual_data)[at]); break;
        case PQ_F16: y += pq_f16_to_f32(((const uint16_t *)e->residual_data)[at]); break;
        default: y += ((const float *)e->residual_data)[at];
        }
    }
    return pq_eval_act(e->sum_act, e->sum_alpha, e->sum_beta, y);
}

void pq_ref_store(void *dst, size_t at, const pq_slot *s, float y)
{
    switch (s->dtype) {
    case PQ_S8: {
        float q = rintf(y * (1.0f / s->scale)) + (float)s->zero_point;
        ((int8_t *)dst)[at] = (int8_t)fmaxf(-128.0f, fminf(127.0f, q));
        break;
    }
    case PQ_U8: {
        float q = rintf(y * (1.0f / s->scale)) + (float)s->zero_point;
        ((uint8_t *)dst)[at] = (uint8_t)fmaxf(0.0f, fminf(255.0f, q));
        break;
    }
    case PQ_BF16: ((uint16_t *)dst)[at] = pq_f32_to_bf16(y); break;
    case PQ_F16: ((uint16_t *)dst)[at] = pq_f32_to_f16(y); break;
    default: ((float *)dst)[at] = y;
    }
}

/* Where input coordinate i of output o with tap k lies, or -1 outside. */
static int64_t source(int64_t o, int64_t k, int64_t stride, int64_t dilation, int64_t pad,
                      int64_t n)
{
    int64_t i = o * stride + k * dilation - pad;
    return i >= 0 && i < n ? i : -1;
}

/* Transposed convolution asks the other way round: which input wrote output o through tap k. */
static int64_t source_transposed(int64_t o, int64_t k, int64_t stride, int64_t dilation,
                                 int64_t pad, int64_t n)
{
    int64_t t = o + pad - k * dilation;
    return t >= 0 && t % stride == 0 && t / stride < n ? t / stride : -1;
}

typedef struct conv {
    const pq_window *w;
    bool transposed;
    int64_t c, h, wd, o, oh, ow, cg, og; /* channels a group */
} conv;

static int64_t weight_index(const conv *v, int64_t o, int64_t c, int64_t ky, int64_t kx)
{
    const int64_t kh = v->w->kernel[0], kw = v->w->kernel[1];
    if (v->transposed) /* I O/g KH KW */
        return (((o / v->og * v->cg + c) * v->og + o % v->og) * kh + ky) * kw + kx;
    return ((o * v->cg + c) * kh + ky) * kw + kx; /* O I/g KH KW */
}

/* Adds one input plane through one tap to the sums of one output plane. */
#define ACCUMULATE(name, X, W, S)                                                                  \
    static void name(const conv *v, S *sum, const X *x, W weight, int64_t ky, int64_t kx, W zero)  \
    {                                                                                              \
        int64_t (*at)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) =                      \
            v->transposed ? source_transposed : source;                                            \
        const pq_window *w = v->w;                                                                 \
        for (int64_t oy = 0; oy < v->oh; oy++) {                                                   \
            const int64_t iy = at(oy, ky, w->stride[0], w->dilation[0], w->pad[0], v->h);          \
            if (iy < 0) continue;                                                                  \
            if (!v->transposed && w->stride[1] == 1) {                                             \
                int64_t d = kx * w->dilation[1] - w->pad[1], b = d < 0 ? -d : 0;                   \
                int64_t e = v->wd - d < v->ow ? v->wd - d : v->ow;                                 \
                for (int64_t ox = b; ox < e; ox++)                                                 \
                    sum[oy * v->ow + ox] += (S)weight * (S)((W)x[iy * v->wd + ox + d] - zero);     \
                continue;                                                                          \
            }                                                                                      \
            for (int64_t ox = 0; ox < v->ow; ox++) {                                               \
                const int64_t ix = at(ox, kx, w->stride[1], w->dilation[1], w->pad[1], v->wd);     \
                if (ix >= 0)                                                                       \
                    sum[oy * v->ow + ox] += (S)weight * (S)((W)x[iy * v->wd + ix] - zero);         \
            }                                                                                      \
        }                                                                                          \
    }

ACCUMULATE(add_s8, int8_t, int32_t, int32_t)
ACCUMULATE(add_u8, uint8_t, int32_t, int32_t)
ACCUMULATE(add_f32, float, float, double)

static void plane_int(const conv *v, const ref_weights *wt, const pq_slot *in, const void *x,
                      int64_t o, int32_t *sum)
{
    const int64_t plane = v->h * v->wd, c0 = o / v->og * v->cg;
    for (int64_t c = 0; c < v->cg; c++)
        for (int64_t ky = 0; ky < v->w->kernel[0]; ky++)
            for (int64_t kx = 0; kx < v->w->kernel[1]; kx++) {
                int32_t w = wt->q[weight_index(v, o, c, ky, kx)];
                if (in->dtype == PQ_S8)
                    add_s8(v, sum, (const int8_t *)x + (c0 + c) * plane, w, ky, kx, in->zero_point);
                else
                    add_u8(v, sum, (const uint8_t *)x + (c0 + c) * plane, w, ky, kx,
                           in->zero_point);
            }
}

static void plane_float(const conv *v, const ref_weights *wt, const float *x, int64_t o,
                        double *sum)
{
    const int64_t plane = v->h * v->wd, c0 = o / v->og * v->cg;
    for (int64_t c = 0; c < v->cg; c++)
        for (int64_t ky = 0; ky < v->w->kernel[0]; ky++)
            for (int64_t kx = 0; kx < v->w->kernel[1]; kx++)
                add_f32(v, sum, x + (c0 + c) * plane, wt->f[weight_index(v, o, c, ky, kx)], ky, kx,
                        0);
}

/* One output plane [oh, ow] of image n, channel o. */
static void conv_plane(const conv *v, const ref_weights *wt, const ref_epilogue *e,
                       const pq_slot *in, const void *x, const pq_slot *out, void *y, int64_t n,
                       int64_t o, void *sums)
{
    const size_t area = (size_t)(v->oh * v->ow), base = (size_t)(n * v->o + o) * area;
    const char *image =
        (const char *)x + (size_t)(n * v->c * v->h * v->wd) * pq_dtype_size(in->dtype);
    const float bias = wt->bias ? wt->bias[o] : 0;
    if (wt->q) {
        int32_t *s = sums;
        for (size_t i = 0; i < area; i++) s[i] = 0;
        plane_int(v, wt, in, image, o, s);
        const float scale = in->scale * wt->scale[v->transposed ? o % v->og : o];
        for (size_t i = 0; i < area; i++)
            pq_ref_store(y, base + i, out, finish(e, fmaf((float)s[i], scale, bias), base + i));
    } else {
        double *s = sums;
        for (size_t i = 0; i < area; i++) s[i] = (double)bias;
        plane_float(v, wt, (const float *)(const void *)image, o, s);
        for (size_t i = 0; i < area; i++)
            pq_ref_store(y, base + i, out, finish(e, (float)s[i], base + i));
    }
}

pq_status pq_ref_conv(pq_ctx *ctx, const pq_node *node, const ref_weights *wt,
                      const ref_epilogue *e, const pq_slot *in, const void *x, const pq_slot *out,
                      void *y)
{
    const int64_t *i = in->shape.dim, *o = out->shape.dim;
    const int64_t groups = node->attr.window.groups;
    const conv v = {.w = &node->attr.window,
                    .transposed = node->op == PQ_OP_CONV_TRANSPOSE,
                    .c = i[1],
                    .h = i[2],
                    .wd = i[3],
                    .o = o[1],
                    .oh = o[2],
                    .ow = o[3],
                    .cg = i[1] / groups,
                    .og = o[1] / groups};
    bool no_memory = false;
#pragma omp parallel
    {
        pq_ctx *mine = NULL;
        double *sums = NULL;
        if (pq_ctx_new(&mine) != PQ_OK ||
            pq_alloc(mine, &sums, (size_t)(v.oh * v.ow), sizeof *sums) != PQ_OK) {
#pragma omp atomic write
            no_memory = true;
        }
#pragma omp for schedule(static)
        for (int64_t k = 0; k < i[0] * v.o; k++)
            if (sums) conv_plane(&v, wt, e, in, x, out, y, k / v.o, k % v.o, sums);
        pq_free(sums);
        pq_ctx_free(mine);
    }
    return no_memory ? pq_fail(ctx, PQ_E_NOMEM, "no memory for the sums of a plane") : PQ_OK;
}

/* y[m, n] = sum_k x[m, k] w[k, n]; Gemm's alpha and beta are folded into the factors. */
pq_status pq_ref_matmul(pq_ctx *ctx, const pq_graph *g, const pq_node *node, const ref_weights *wt,
                        const ref_epilogue *e, const pq_slot *in, const void *x, const pq_slot *out,
                        void *y)
{
    const pq_shape *ws = &pq_in(g, node, 1)->shape;
    const bool gemm = node->op == PQ_OP_GEMM, tb = gemm && node->attr.trans_b;
    const int64_t n = out->shape.dim[out->shape.rank - 1], m = pq_shape_count(&out->shape) / n;
    const int64_t k = pq_shape_count(&in->shape) / m;
    const float alpha = gemm ? node->attr.alpha : 1, beta = gemm ? node->attr.beta : 1;
    if (ws->rank != 2 || (gemm && node->attr.trans_a))
        return pq_fail(ctx, PQ_E_UNSUPPORTED,
                       "node '%s': weights of rank %d or a transposed input, "
                       "expected rank 2 and none",
                       node->name, ws->rank);
    for (int64_t r = 0; r < m; r++)
        for (int64_t c = 0; c < n; c++) {
            int64_t si = 0;
            double sf = 0;
            for (int64_t j = 0; j < k; j++) {
                const int64_t w = tb ? c * k + j : j * n + c, a = r * k + j;
                if (!wt->q)
                    sf += (double)((const float *)x)[a] * (double)wt->f[w];
                else if (in->dtype == PQ_S8)
                    si += (((const int8_t *)x)[a] - in->zero_point) * (int64_t)wt->q[w];
                else
                    si += (((const uint8_t *)x)[a] - in->zero_point) * (int64_t)wt->q[w];
            }
            const float bias = wt->bias ? beta * wt->bias[c] : 0;
            const float sum = wt->q ? fmaf((float)si, in->scale * wt->scale[c] * alpha, bias)
                                    : (float)((double)alpha * sf + (double)bias);
            pq_ref_store(y, (size_t)(r * n + c), out, finish(e, sum, (size_t)(r * n + c)));
        }
    return PQ_OK;
}
