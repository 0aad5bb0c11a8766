/* Batch normalisation into the convolution before it. */
#include <math.h>

#include "base/mem.h"
#include "pass/edit.h"

/* The convolution whose output only this batch norm reads, if all that matters is constant. */
static pq_node *conv_before(const pq_graph *g, const pq_node *bn)
{
    pq_node *conv = pq_edit_private_producer(g, bn->in[0]);
    if (!conv || (conv->op != PQ_OP_CONV && conv->op != PQ_OP_CONV_TRANSPOSE)) return NULL;
    if (conv->attr.act != PQ_ACT_NONE || !pq_edit_floats(g, conv->in[1])) return NULL;
    if (pq_edit_in(conv, 2) != PQ_NONE && !pq_edit_floats(g, conv->in[2])) return NULL;
    for (int i = 1; i < 5; i++)
        if (!pq_edit_floats(g, bn->in[i])) return NULL;
    return conv;
}

/* Output channels: OIHW, transposed IOHW with O for each group. */
static int64_t out_channels(const pq_node *conv, const pq_shape *w)
{
    return conv->op == PQ_OP_CONV ? w->dim[0] : w->dim[1] * conv->attr.window.groups;
}

static pq_status check_vectors(pq_ctx *ctx, const pq_graph *g, const pq_node *bn, int64_t n_out)
{
    static const char *const what[] = {"gamma", "beta", "mean", "variance"};
    char text[160];
    for (int i = 0; i < 4; i++) {
        const pq_shape *s = &g->value[bn->in[1 + i]].shape;
        if (s->rank != 1 || s->dim[0] != n_out)
            return pq_fail(ctx, PQ_E_FORMAT, "node '%s': %s has the shape %s, expected [%lld]",
                           bn->name, what[i], pq_shape_text(s, text, sizeof text),
                           (long long)n_out);
    }
    const float *var = pq_edit_floats(g, bn->in[4]);
    for (int64_t o = 0; o < n_out; o++)
        if (!((double)var[o] + (double)bn->attr.eps > 0))
            return pq_fail(ctx, PQ_E_FORMAT,
                           "node '%s': variance[%lld] is %g, expected more than -eps (%g)",
                           bn->name, (long long)o, (double)var[o], (double)-bn->attr.eps);
    return PQ_OK;
}

/* w and b: the folded weights and bias; w in the layout of the node's own. */
static void fold_values(float *w, float *b, const pq_graph *g, const pq_node *conv,
                        const pq_node *bn, int64_t n_out)
{
    const pq_shape *s = &g->value[conv->in[1]].shape;
    const float *old_w = pq_edit_floats(g, conv->in[1]);
    const float *old_b = pq_edit_floats(g, pq_edit_in(conv, 2));
    const float *gamma = pq_edit_floats(g, bn->in[1]), *beta = pq_edit_floats(g, bn->in[2]);
    const float *mean = pq_edit_floats(g, bn->in[3]), *var = pq_edit_floats(g, bn->in[4]);
    const int64_t window = s->dim[2] * s->dim[3], groups = conv->attr.window.groups;
    for (int64_t o = 0; o < n_out; o++) {
        const double scale = (double)gamma[o] / sqrt((double)var[o] + (double)bn->attr.eps);
        b[o] =
            (float)((double)beta[o] + ((old_b ? (double)old_b[o] : 0.0) - (double)mean[o]) * scale);
        if (conv->op == PQ_OP_CONV) {
            const int64_t row = s->dim[1] * window;
            for (int64_t i = o * row; i < (o + 1) * row; i++)
                w[i] = (float)((double)old_w[i] * scale);
            continue;
        }
        const int64_t rows = s->dim[0] / groups, group = o / s->dim[1], column = o % s->dim[1];
        for (int64_t r = group * rows; r < (group + 1) * rows; r++) {
            const int64_t from = (r * s->dim[1] + column) * window;
            for (int64_t i = from; i < from + window; i++) w[i] = (float)((double)old_w[i] * scale);
        }
    }
}

static pq_status fold_one(pq_ctx *ctx, pq_graph *g, pq_node *conv, pq_node *bn)
{
    pq_status st;
    pq_buf *w = NULL, *b = NULL;
    pq_value_id w_id, b_id;
    const pq_shape shape = g->value[conv->in[1]].shape;
    const int64_t n_out = out_channels(conv, &shape);
    PQ_TRY(check_vectors(ctx, g, bn, n_out));
    PQ_TRY(pq_buf_new(ctx, &w, (size_t)pq_shape_count(&shape) * sizeof(float)));
    PQ_TRY(pq_buf_new(ctx, &b, (size_t)n_out * sizeof(float)));
    fold_values(pq_buf_data(w), pq_buf_data(b), g, conv, bn, n_out);
    PQ_TRY(pq_edit_widen(ctx, g, conv, 3));
    PQ_TRY(pq_edit_new_const(ctx, &w_id, g, conv, "weight", &shape, w));
    PQ_TRY(pq_edit_new_const(ctx, &b_id, g, conv, "bias", &PQ_SHAPE(n_out), b));

    /* Commit: nothing below can fail, so no pair is ever half folded. */
    pq_edit_set_const(g, conv, 1, w_id);
    pq_edit_set_const(g, conv, 2, b_id);
    pq_edit_take_output(g, conv, bn);
out:
    pq_buf_unref(w);
    pq_buf_unref(b);
    return st;
}

pq_status pq_pass_fold_bn(pq_ctx *ctx, size_t *folded, pq_graph *g)
{
    size_t n = 0;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < g->n_nodes && st == PQ_OK; i++) {
        pq_node *bn = &g->node[i];
        if (bn->dead || bn->op != PQ_OP_BATCH_NORM) continue;
        pq_node *conv = conv_before(g, bn);
        if (!conv) continue;
        st = fold_one(ctx, g, conv, bn);
        n += st == PQ_OK;
    }
    if (n) g->hash[0] = 0;
    if (folded) *folded = n;
    return st;
}
