/* A graph, node by node. */
#include "support/run.h"

#include <string.h>

#include "base/mem.h"
#include "graph/eval.h"

/* Rows of out whose tap (kernel position k) falls inside the input: [*from, *to). */
static void valid(int64_t *from, int64_t *to, int64_t n_in, int64_t n_out, int64_t stride,
                  int64_t offset)
{
    *from = offset < 0 ? (-offset + stride - 1) / stride : 0;
    *to = n_in - offset <= 0 ? 0 : (n_in - offset - 1) / stride + 1;
    if (*to > n_out) *to = n_out;
}

static void add_plane(double *acc, const float *x, double w, const pq_window *win, int64_t ky,
                      int64_t kx, const int64_t in[2], const int64_t out[2])
{
    const int64_t oy = ky * win->dilation[0] - win->pad[0];
    const int64_t ox = kx * win->dilation[1] - win->pad[1];
    int64_t y0, y1, x0, x1;
    valid(&y0, &y1, in[0], out[0], win->stride[0], oy);
    valid(&x0, &x1, in[1], out[1], win->stride[1], ox);
    for (int64_t y = y0; y < y1; y++) {
        const float *row = x + (y * win->stride[0] + oy) * in[1] + ox;
        double *to = acc + y * out[1];
        if (win->stride[1] == 1)
            for (int64_t i = x0; i < x1; i++) to[i] += w * (double)row[i];
        else
            for (int64_t i = x0; i < x1; i++) to[i] += w * (double)row[i * win->stride[1]];
    }
}

/* x [n, c, h, w], w [o, c / groups, kh, kw], b [o] or NULL. */
static pq_status conv(pq_ctx *ctx, const pq_node *n, const pq_tensor *x, const pq_tensor *w,
                      const pq_tensor *b, pq_tensor *y)
{
    const pq_window *win = &n->attr.window;
    const int64_t groups = win->groups, n_o = w->shape.dim[0], n_i = w->shape.dim[1];
    const int64_t kh = w->shape.dim[2], kw = w->shape.dim[3];
    const int64_t in[2] = {x->shape.dim[2], x->shape.dim[3]};
    const int64_t out[2] = {y->shape.dim[2], y->shape.dim[3]};
    const int64_t plane = out[0] * out[1], planes = y->shape.dim[0] * n_o;
    double *acc = NULL;
    pq_status st = pq_alloc(ctx, &acc, (size_t)(planes * plane), sizeof *acc);
    if (st != PQ_OK) return st;
#pragma omp parallel for schedule(dynamic) if (planes * plane * n_i > 100000)
    for (int64_t p = 0; p < planes; p++) {
        const int64_t o = p % n_o, image = p / n_o, first = o / (n_o / groups) * n_i;
        double *a = acc + p * plane;
        for (int64_t i = 0; b && i < plane; i++) a[i] = (double)((float *)pq_tensor_data(b))[o];
        for (int64_t c = 0; c < n_i; c++) {
            const float *xp =
                (float *)pq_tensor_data(x) + (image * x->shape.dim[1] + first + c) * in[0] * in[1];
            const float *wp = (float *)pq_tensor_data(w) + (o * n_i + c) * kh * kw;
            for (int64_t k = 0; k < kh * kw; k++)
                add_plane(a, xp, (double)wp[k], win, k / kw, k % kw, in, out);
        }
        float *to = (float *)pq_tensor_data(y) + p * plane;
        for (int64_t i = 0; i < plane; i++) to[i] = (float)a[i];
    }
    pq_free(acc);
    return PQ_OK;
}

/* x [n, i, h, w], w [i, o / groups, kh, kw]: every input pixel adds its window to the output. */
static void conv_transpose(const pq_node *n, const pq_tensor *x, const pq_tensor *w,
                           const pq_tensor *b, pq_tensor *y)
{
    const pq_window *win = &n->attr.window;
    const int64_t n_i = w->shape.dim[0], per = w->shape.dim[1], n_o = per * win->groups;
    const int64_t kh = w->shape.dim[2], kw = w->shape.dim[3];
    const int64_t ih = x->shape.dim[2], iw = x->shape.dim[3], oh = y->shape.dim[2],
                  ow = y->shape.dim[3];
    const float *xp = pq_tensor_data(x), *wp = pq_tensor_data(w);
    float *yp = pq_tensor_data(y);
    for (int64_t i = 0; i < pq_shape_count(&y->shape); i++)
        yp[i] = b ? ((float *)pq_tensor_data(b))[i / (oh * ow) % n_o] : 0;
    for (int64_t p = 0; p < x->shape.dim[0] * n_i; p++)
        for (int64_t at = 0; at < ih * iw; at++)
            for (int64_t k = 0; k < per * kh * kw; k++) {
                const int64_t c = p % n_i, o = c / (n_i / win->groups) * per + k / (kh * kw);
                const int64_t r =
                    at / iw * win->stride[0] - win->pad[0] + k / kw % kh * win->dilation[0];
                const int64_t q =
                    at % iw * win->stride[1] - win->pad[1] + k % kw * win->dilation[1];
                if (r >= 0 && r < oh && q >= 0 && q < ow)
                    yp[((p / n_i * n_o + o) * oh + r) * ow + q] +=
                        xp[p * ih * iw + at] * wp[c * per * kh * kw + k];
            }
}

static pq_status run_node(pq_ctx *ctx, pq_tensor *value, const pq_graph *g, const pq_node *n)
{
    pq_status st;
    pq_tensor out[64] = {0};
    const pq_tensor *in[64];
    for (int i = 0; i < n->n_in; i++) in[i] = n->in[i] == PQ_NONE ? NULL : &value[n->in[i]];
    if (n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE) {
        const pq_tensor *b = n->n_in > 2 ? in[2] : NULL;
        st = pq_tensor_new(ctx, &out[0], PQ_F32, &pq_out_value(g, n, 0)->shape);
        if (st != PQ_OK) return st;
        if (n->op == PQ_OP_CONV)
            st = conv(ctx, n, in[0], in[1], b, &out[0]);
        else
            conv_transpose(n, in[0], in[1], b, &out[0]);
        pq_eval_acts(pq_tensor_data(&out[0]), (size_t)pq_shape_count(&out[0].shape), n->attr.act,
                     n->attr.alpha, n->attr.beta);
    } else
        st = pq_eval_node(ctx, g, n, in, out);
    for (int i = 0; i < n->n_out; i++) value[n->out[i]] = out[i];
    return st;
}

/* Let go of inputs that no later node and no output needs. */
static void drop_inputs(pq_tensor *value, const pq_graph *g, size_t at)
{
    const pq_node *n = &g->node[at];
    for (int i = 0; i < n->n_in; i++) {
        bool wanted = n->in[i] == PQ_NONE || pq_graph_is_output(g, n->in[i]);
        for (size_t k = at + 1; k < g->n_nodes && !wanted; k++)
            for (int j = 0; j < g->node[k].n_in && !g->node[k].dead; j++)
                wanted |= g->node[k].in[j] == n->in[i];
        if (!wanted) pq_tensor_clear(&value[n->in[i]]);
    }
}

pq_status pq_test_run(pq_ctx *ctx, pq_tensor *out, const pq_graph *g, const pq_tensor *in)
{
    pq_status st;
    pq_tensor *value = NULL;
    PQ_TRY(pq_alloc(ctx, &value, g->n_values, sizeof *value));
    for (size_t i = 0; i < g->n_values; i++)
        if (g->value[i].data)
            value[i] =
                (pq_tensor){g->value[i].dtype, g->value[i].shape, pq_buf_ref(g->value[i].data)};
    for (size_t i = 0; i < g->n_inputs; i++) {
        value[g->input[i]] = in[i];
        pq_buf_ref(in[i].buf);
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        if (g->node[i].dead) continue;
        PQ_TRY(run_node(ctx, value, g, &g->node[i]));
        drop_inputs(value, g, i);
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        out[i] = value[g->output[i]];
        pq_buf_ref(out[i].buf);
    }
out:
    for (size_t i = 0; value && i < g->n_values; i++) pq_tensor_clear(&value[i]);
    pq_free(value);
    return st;
}
