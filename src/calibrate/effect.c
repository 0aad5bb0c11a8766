/* What a channel's error does downstream, to first order and without running anything: operators
 * are visited backwards, and each hands its inputs the squared weights by which it reads them. */
#include "calibrate/effect.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

typedef struct state {
    const pq_graph *g;
    double **sum; /* per value: [channels], NULL where the rank is not 4 */
} state;

static size_t channels(const pq_graph *g, pq_value_id v)
{
    return g->value[v].shape.rank == 4 ? (size_t)g->value[v].shape.dim[1] : 0;
}

static void from_conv(state *s, const pq_node *n)
{
    const pq_value *w = pq_in(s->g, n, 1);
    double *to = s->sum[n->in[0]], all = 0;
    const bool transposed = n->op == PQ_OP_CONV_TRANSPOSE;
    const size_t count = (size_t)pq_shape_count(&w->shape);
    const size_t per_group = (size_t)w->shape.dim[1];
    const size_t window = (size_t)(w->shape.dim[2] * w->shape.dim[3]);
    const size_t groups = (size_t)n->attr.window.groups;
    const size_t outputs = (size_t)w->shape.dim[0] / (groups ? groups : 1);
    const float *x = w->data ? pq_buf_data(w->data) : NULL;
    if (!x || !to || w->dtype != PQ_F32) return;
    for (size_t i = 0; i < count; i++) all += (double)x[i] * (double)x[i];
    if (!(all > 0)) return;
    for (size_t i = 0; i < count; i++) {
        const size_t row = i / window;
        /* OIHW: input channel is group * I + i. IOHW: dimension 0 is the input channel. */
        const size_t c =
            transposed ? row / per_group : row / per_group / outputs * per_group + row % per_group;
        to[c] += (double)x[i] * (double)x[i] / all;
    }
}

static void pass_on(state *s, const pq_node *n)
{
    const double *from = s->sum[n->out[0]];
    size_t at = 0;
    for (int k = 0; k < n->n_in && from; k++) {
        if (n->in[k] == PQ_NONE) continue;
        double *to = s->sum[n->in[k]];
        const size_t c = channels(s->g, n->in[k]), all = channels(s->g, n->out[0]);
        const bool slice = n->op == PQ_OP_CONCAT && n->attr.axis == 1;
        if (to && (slice ? at + c <= all : c == all))
            for (size_t i = 0; i < c; i++) to[i] += from[at + i];
        if (slice) at += c;
    }
}

static void visit(state *s, const pq_node *n)
{
    switch (n->op) {
    case PQ_OP_CONV:
    case PQ_OP_CONV_TRANSPOSE: from_conv(s, n); break;
    case PQ_OP_CONCAT:
    case PQ_OP_ADD:
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL:
    case PQ_OP_RESIZE:
    case PQ_OP_IDENTITY:
    case PQ_OP_RELU:
    case PQ_OP_LEAKY_RELU: pass_on(s, n); break;
    default: break;
    }
}

static pq_status to_integers(pq_ctx *ctx, pq_effect *e, const state *s, pq_value_id v)
{
    const size_t n = channels(s->g, v);
    double most = 0;
    for (size_t c = 0; c < n; c++) most = fmax(most, s->sum[v][c]);
    if (!(most > 0)) return PQ_OK;
    pq_status st = pq_alloc(ctx, &e->channel[v], n, sizeof *e->channel[v]);
    for (size_t c = 0; c < n && st == PQ_OK; c++)
        e->channel[v][c] = (uint16_t)fmax(1, rint(65535 * s->sum[v][c] / most));
    return st;
}

pq_status pq_effect_new(pq_ctx *ctx, pq_effect *out, const pq_graph *g)
{
    state s = {.g = g};
    pq_status st;
    *out = (pq_effect){.n_values = g->n_values};
    PQ_TRY(pq_alloc(ctx, &out->channel, g->n_values, sizeof *out->channel));
    PQ_TRY(pq_alloc(ctx, &s.sum, g->n_values, sizeof *s.sum));
    for (pq_value_id v = 0; v < g->n_values; v++)
        if (!g->value[v].data && channels(g, v))
            PQ_TRY(pq_alloc(ctx, &s.sum[v], channels(g, v), sizeof *s.sum[v]));
    for (size_t i = g->n_nodes; i-- > 0;)
        if (!g->node[i].dead) visit(&s, &g->node[i]);
    for (pq_value_id v = 0; v < g->n_values; v++)
        if (s.sum[v]) PQ_TRY(to_integers(ctx, out, &s, v));
out:
    for (pq_value_id v = 0; s.sum && v < g->n_values; v++) pq_free(s.sum[v]);
    pq_free(s.sum);
    if (st != PQ_OK) pq_effect_clear(out);
    return st;
}

void pq_effect_clear(pq_effect *e)
{
    for (size_t v = 0; e->channel && v < e->n_values; v++) pq_free(e->channel[v]);
    pq_free(e->channel);
    *e = (pq_effect){0};
}
