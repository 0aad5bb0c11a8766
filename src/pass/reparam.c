/* Parallel convolutions of one input, summed, into one (RepVGG). Works pairwise, so a chain of sums
 * collapses step by step; batch norms behind the branches are folded before (fold_bn). The widest
 * convolution stays: its name, type and quant_index are those of the result, the value keeps the
 * sum's name. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "pass/edit.h"

/* One summand: a convolution, or a batch norm standing for a 1x1 convolution. */
typedef struct branch {
    pq_node *node;
    pq_value_id x;
    int64_t out, in; /* weight's O and I per group; batch norm: both its channels */
    int64_t kernel[2], pad[4];
} branch;

static bool read_conv(branch *b, const pq_graph *g, pq_node *n)
{
    const pq_window *w = &n->attr.window;
    if (n->attr.act != PQ_ACT_NONE || !pq_edit_floats(g, n->in[1])) return false;
    if (pq_edit_in(n, 2) != PQ_NONE && !pq_edit_floats(g, n->in[2])) return false;
    const pq_shape *s = &g->value[n->in[1]].shape;
    if (s->rank != 4 || w->dilation[0] != 1 || w->dilation[1] != 1) return false;
    *b = (branch){n, n->in[0], s->dim[0], s->dim[1], {s->dim[2], s->dim[3]}, {0}};
    memcpy(b->pad, w->pad, sizeof b->pad);
    return true;
}

static bool read_bn(branch *b, const pq_graph *g, pq_node *n)
{
    int64_t c = 0;
    for (int i = 1; i < 5; i++) {
        if (!pq_edit_floats(g, n->in[i])) return false;
        const pq_shape *s = &g->value[n->in[i]].shape;
        if (s->rank != 1 || (i > 1 && s->dim[0] != c)) return false;
        c = s->dim[0];
    }
    for (int64_t i = 0; i < c; i++)
        if (!((double)pq_edit_floats(g, n->in[4])[i] + (double)n->attr.eps > 0)) return false;
    *b = (branch){n, n->in[0], c, c, {1, 1}, {0}};
    return true;
}

static bool read_branch(branch *b, const pq_graph *g, pq_value_id v)
{
    pq_node *n = pq_edit_private_producer(g, v);
    if (n && n->op == PQ_OP_CONV) return read_conv(b, g, n);
    return n && n->op == PQ_OP_BATCH_NORM && read_bn(b, g, n);
}

static bool is_conv(const branch *b) { return b->node->op == PQ_OP_CONV; }

/* The narrow kernel lies inside the wide one and both see the same pixels: with offset d in the
 * wide kernel, pad_wide - pad_narrow = d before and kernel_wide - kernel_narrow - d after. */
static bool fits(const branch *wide, const branch *narrow)
{
    const pq_window *w = &wide->node->attr.window;
    if (!is_conv(wide) || wide->x != narrow->x || wide->out != narrow->out) return false;
    if (is_conv(narrow)) {
        const pq_window *v = &narrow->node->attr.window;
        if (w->groups != v->groups || wide->in != narrow->in || w->stride[0] != v->stride[0] ||
            w->stride[1] != v->stride[1])
            return false;
    } else if (w->stride[0] != 1 || w->stride[1] != 1 || wide->in * w->groups != narrow->in)
        return false;
    for (int i = 0; i < 2; i++) {
        const int64_t d = wide->pad[i] - narrow->pad[i];
        const int64_t after = wide->pad[i + 2] - narrow->pad[i + 2];
        if (d < 0 || after < 0 || d + after != wide->kernel[i] - narrow->kernel[i]) return false;
    }
    return true;
}

static void add_conv(float *w, float *bias, const pq_graph *g, const branch *wide,
                     const branch *narrow)
{
    const float *from = pq_edit_floats(g, narrow->node->in[1]);
    const float *b = pq_edit_floats(g, pq_edit_in(narrow->node, 2));
    const int64_t dy = wide->pad[0] - narrow->pad[0], dx = wide->pad[1] - narrow->pad[1];
    const int64_t kh = narrow->kernel[0], kw = narrow->kernel[1];
    for (int64_t p = 0; p < wide->out * wide->in; p++)
        for (int64_t y = 0; y < kh; y++)
            for (int64_t x = 0; x < kw; x++)
                w[(p * wide->kernel[0] + y + dy) * wide->kernel[1] + x + dx] +=
                    from[(p * kh + y) * kw + x];
    for (int64_t o = 0; b && o < wide->out; o++) bias[o] += b[o];
}

/* gamma (x - mean) / sqrt(var + eps) + beta: a scaled identity at the tap that meets pad 0. */
static void add_bn(float *w, float *bias, const pq_graph *g, const branch *wide,
                   const branch *narrow)
{
    const pq_node *n = narrow->node;
    const float *gamma = pq_edit_floats(g, n->in[1]), *beta = pq_edit_floats(g, n->in[2]);
    const float *mean = pq_edit_floats(g, n->in[3]), *var = pq_edit_floats(g, n->in[4]);
    for (int64_t o = 0; o < wide->out; o++) {
        const double s = (double)gamma[o] / sqrt((double)var[o] + (double)n->attr.eps);
        const int64_t plane = o * wide->in + o % wide->in;
        w[(plane * wide->kernel[0] + wide->pad[0]) * wide->kernel[1] + wide->pad[1]] += (float)s;
        bias[o] += (float)((double)beta[o] - (double)mean[o] * s);
    }
}

static pq_status fuse(pq_ctx *ctx, pq_graph *g, pq_node *sum, const branch *wide,
                      const branch *narrow)
{
    pq_status st;
    pq_buf *w = NULL, *b = NULL;
    pq_value_id w_id, b_id;
    pq_node *conv = wide->node;
    const pq_shape shape = g->value[conv->in[1]].shape;
    const size_t w_bytes = (size_t)pq_shape_count(&shape) * sizeof(float);
    const size_t b_bytes = (size_t)wide->out * sizeof(float);
    const float *old_b = pq_edit_floats(g, pq_edit_in(conv, 2));
    PQ_TRY(pq_buf_new(ctx, &w, w_bytes));
    PQ_TRY(pq_buf_new(ctx, &b, b_bytes));
    memcpy(pq_buf_data(w), pq_edit_floats(g, conv->in[1]), w_bytes);
    if (old_b) memcpy(pq_buf_data(b), old_b, b_bytes);
    if (is_conv(narrow))
        add_conv(pq_buf_data(w), pq_buf_data(b), g, wide, narrow);
    else
        add_bn(pq_buf_data(w), pq_buf_data(b), g, wide, narrow);
    PQ_TRY(pq_edit_widen(ctx, g, conv, 3));
    PQ_TRY(pq_edit_new_const(ctx, &w_id, g, conv, "weight", &shape, w));
    PQ_TRY(pq_edit_new_const(ctx, &b_id, g, conv, "bias", &PQ_SHAPE(wide->out), b));

    /* Commit: nothing below can fail. */
    pq_edit_set_const(g, conv, 1, w_id);
    pq_edit_set_const(g, conv, 2, b_id);
    pq_edit_take_output(g, conv, sum);
    narrow->node->dead = true;
out:
    pq_buf_unref(w);
    pq_buf_unref(b);
    return st;
}

pq_status pq_pass_reparam(pq_ctx *ctx, size_t *fused, pq_graph *g)
{
    size_t n = 0;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < g->n_nodes && st == PQ_OK; i++) {
        pq_node *sum = &g->node[i];
        branch a, b;
        if (sum->dead || sum->op != PQ_OP_ADD || sum->attr.act != PQ_ACT_NONE) continue;
        if (sum->in[0] == sum->in[1]) continue;
        if (!read_branch(&a, g, sum->in[0]) || !read_branch(&b, g, sum->in[1])) continue;
        const bool swap = !fits(&a, &b);
        if (swap && !fits(&b, &a)) continue;
        st = fuse(ctx, g, sum, swap ? &b : &a, swap ? &a : &b);
        n += st == PQ_OK;
    }
    if (n) g->hash[0] = 0;
    if (fused) *fused = n;
    return st;
}
