/* ONNX convolutions and pooling: kernel, strides, dilations, pads and the ways they are given.
 * Source: onnx.ai/onnx/operators, Conv, ConvTranspose, AveragePool, MaxPool. */
#include <string.h>

#include "base/ctx.h"
#include "read/onnx_node.h"

enum { AUTO_NOTSET, AUTO_SAME_UPPER, AUTO_SAME_LOWER, AUTO_VALID };
static const char *const auto_words[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", NULL};

static pq_status read_window(pq_onnx_build *b, int *auto_pad)
{
    pq_ctx *ctx = b->r->ctx;
    pq_window *w = &b->attr.window;
    pq_status st;
    int64_t pads[4] = {0};
    w->groups = w->stride[0] = w->stride[1] = w->dilation[0] = w->dilation[1] = 1;
    *auto_pad = AUTO_NOTSET;
    if (pq_onnx_has(b, 0) && pq_onnx_in(b, 0)->shape.rank != 4)
        return pq_fail(ctx, PQ_E_UNSUPPORTED,
                       "input of %d dimensions: only images [n, c, h, w] are supported",
                       pq_onnx_in(b, 0)->shape.rank);
    PQ_TRY(pq_onnx_ints(ctx, w->kernel, 2, b->p, "kernel_shape"));
    PQ_TRY(pq_onnx_ints(ctx, w->stride, 2, b->p, "strides"));
    PQ_TRY(pq_onnx_ints(ctx, w->dilation, 2, b->p, "dilations"));
    PQ_TRY(pq_onnx_int(ctx, &w->groups, b->p, "group"));
    PQ_TRY(pq_onnx_word(ctx, auto_pad, b->p, "auto_pad", auto_words));
    if (*auto_pad == AUTO_NOTSET) PQ_TRY(pq_onnx_ints(ctx, pads, 4, b->p, "pads"));
    memcpy(w->pad, pads, sizeof w->pad);
    if (b->n_in > 1 && pq_onnx_has(b, 1) && !w->kernel[0] && pq_onnx_in(b, 1)->shape.rank == 4)
        for (int i = 0; i < 2; i++) w->kernel[i] = pq_onnx_in(b, 1)->shape.dim[2 + i];
    for (int i = 0; i < 2; i++) { /* inference checks the rest; auto_pad computes with these */
        if (w->kernel[i] < 1 || w->kernel[i] > 1 << 20 || w->stride[i] < 1 ||
            w->stride[i] > 1 << 20 || w->dilation[i] < 1 || w->dilation[i] > 1 << 20) {
            st = pq_fail(ctx, PQ_E_FORMAT, "kernel %lld, stride %lld, dilation %lld: out of range",
                         (long long)w->kernel[i], (long long)w->stride[i],
                         (long long)w->dilation[i]);
            goto out;
        }
    }
out:
    return st;
}

static void share_padding(pq_window *w, int i, int64_t total, bool more_at_end)
{
    if (total < 0) total = 0;
    w->pad[i] = more_at_end ? total / 2 : total - total / 2;
    w->pad[i + 2] = total - w->pad[i];
}

/* SAME: as many outputs as input / stride, rounded up. */
pq_status pq_onnx_read_sliding(pq_onnx_build *b)
{
    int auto_pad;
    pq_window *w = &b->attr.window;
    pq_status st = read_window(b, &auto_pad);
    if (st != PQ_OK) return st;
    for (int i = 0; i < 2 && (auto_pad == AUTO_SAME_UPPER || auto_pad == AUTO_SAME_LOWER); i++) {
        const int64_t in = pq_onnx_in(b, 0)->shape.dim[2 + i];
        const int64_t n_out = (in + w->stride[i] - 1) / w->stride[i];
        const int64_t extent = (w->kernel[i] - 1) * w->dilation[i] + 1;
        share_padding(w, i, (n_out - 1) * w->stride[i] + extent - in, auto_pad == AUTO_SAME_UPPER);
    }
    return PQ_OK;
}

pq_status pq_onnx_read_pool(pq_onnx_build *b)
{
    pq_status st = pq_onnx_read_sliding(b);
    if (st == PQ_OK) st = pq_onnx_flag(b->r->ctx, &b->attr.window.ceil_mode, b->p, "ceil_mode");
    if (st == PQ_OK)
        st = pq_onnx_flag(b->r->ctx, &b->attr.window.count_include_pad, b->p, "count_include_pad");
    return st;
}

pq_status pq_onnx_read_conv_transpose(pq_onnx_build *b)
{
    int auto_pad;
    pq_ctx *ctx = b->r->ctx;
    pq_window *w = &b->attr.window;
    int64_t n_out[2] = {0, 0};
    pq_status st;
    PQ_TRY(read_window(b, &auto_pad));
    PQ_TRY(pq_onnx_ints(ctx, w->out_pad, 2, b->p, "output_padding"));
    PQ_TRY(pq_onnx_ints(ctx, n_out, 2, b->p, "output_shape"));
    for (int i = 0; i < 2; i++) {
        const int64_t in = pq_onnx_in(b, 0)->shape.dim[2 + i];
        if (!n_out[i] && (auto_pad == AUTO_SAME_UPPER || auto_pad == AUTO_SAME_LOWER))
            n_out[i] = in * w->stride[i];
        if (!n_out[i]) continue;
        if (n_out[i] < 0 || n_out[i] > 1 << 20 || w->out_pad[i] < 0 || w->out_pad[i] > 1 << 20) {
            st = pq_fail(ctx, PQ_E_FORMAT, "output_shape %lld, output_padding %lld",
                         (long long)n_out[i], (long long)w->out_pad[i]);
            goto out;
        }
        const int64_t full =
            w->stride[i] * (in - 1) + w->out_pad[i] + (w->kernel[i] - 1) * w->dilation[i] + 1;
        if (full < n_out[i]) {
            st = pq_fail(ctx, PQ_E_UNSUPPORTED, "output_shape %lld beyond the %lld of the window",
                         (long long)n_out[i], (long long)full);
            goto out;
        }
        share_padding(w, i, full - n_out[i], auto_pad == AUTO_SAME_UPPER);
    }
out:
    return st;
}
