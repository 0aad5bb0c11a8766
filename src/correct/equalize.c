/* Exact cross-layer equalisation.
 *
 * Every channel of every feature map belongs to a class of channels that can only be scaled
 * together; a class that touches anything which is not positively homogeneous stays as it is. Each
 * other class is divided by a power of two t, and nothing is lost: products of float32 by powers of
 * two are exact.
 *
 * t = sqrt(A / V): A is the channel's reach relative to the tensor's, V the largest relative weight
 * with which it is read. Dividing by all of A would move the spread from the tensor, which has one
 * scale, into the rows of the next weights, which have one scale each; the root shares it (Xiao et
 * al. 2022, arXiv:2211.10438). */
#include "correct/equalize.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

typedef struct state {
    pq_ctx *ctx;
    pq_graph *g;
    uint32_t *first; /* per value: its first channel; PQ_NONE where the rank is not 4 */
    uint32_t *parent;
    bool *pinned;   /* per root */
    double *reach;  /* per root: largest relative reach */
    double *read;   /* per root: largest relative weight that reads it */
    double *factor; /* per root: t */
    size_t *uses;   /* per value: readers */
    size_t n_channels;
} state;

static size_t channels(const state *s, pq_value_id v)
{
    return (size_t)s->g->value[v].shape.dim[1];
}

static uint32_t root(const state *s, uint32_t c)
{
    while (s->parent[c] != c) c = s->parent[c] = s->parent[s->parent[c]];
    return c;
}

static void tie(state *s, uint32_t a, uint32_t b)
{
    const uint32_t x = root(s, a), y = root(s, b);
    s->parent[x] = y;
    s->pinned[y] = s->pinned[y] || s->pinned[x];
}

static void pin(state *s, pq_value_id v)
{
    if (v == PQ_NONE || s->first[v] == PQ_NONE) return;
    for (size_t c = 0; c < channels(s, v); c++)
        s->pinned[root(s, s->first[v] + (uint32_t)c)] = true;
}

static void pin_node(state *s, const pq_node *n)
{
    for (int k = 0; k < n->n_in; k++) pin(s, n->in[k]);
    for (int k = 0; k < n->n_out; k++) pin(s, n->out[k]);
}

static bool lets_pass(pq_act act)
{
    return act == PQ_ACT_NONE || act == PQ_ACT_RELU || act == PQ_ACT_LEAKY_RELU;
}

/* Own float32 constants that nobody else reads. */
static bool has_own_weights(const state *s, const pq_node *n)
{
    for (int k = 1; k < n->n_in; k++) {
        const pq_value *v = pq_in(s->g, n, k);
        if (v && (!v->data || v->dtype != PQ_F32 || s->uses[n->in[k]] != 1)) return false;
    }
    return true;
}

static bool is_free_conv(const state *s, const pq_node *n)
{
    return n->op == PQ_OP_CONV && n->quant_index >= 0 && s->first[n->in[0]] != PQ_NONE &&
           s->first[n->out[0]] != PQ_NONE && has_own_weights(s, n);
}

static void tie_values(state *s, pq_value_id a, size_t at_a, pq_value_id b, size_t at_b, size_t n)
{
    for (size_t c = 0; c < n; c++)
        tie(s, s->first[a] + (uint32_t)(at_a + c), s->first[b] + (uint32_t)(at_b + c));
}

static void tie_node(state *s, const pq_node *n)
{
    size_t at = 0;
    switch (n->op) {
    case PQ_OP_CONV:
        if (!is_free_conv(s, n))
            pin_node(s, n);
        else if (!lets_pass(n->attr.act))
            pin(s, n->out[0]);
        return;
    case PQ_OP_ADD:
        if (!lets_pass(n->attr.act) || s->g->value[n->in[0]].data || s->g->value[n->in[1]].data)
            break;
        for (int k = 0; k < 2; k++)
            if (s->first[n->in[k]] == PQ_NONE || channels(s, n->in[k]) != channels(s, n->out[0])) {
                pin_node(s, n);
                return;
            }
        for (int k = 0; k < 2; k++)
            tie_values(s, n->in[k], 0, n->out[0], 0, channels(s, n->out[0]));
        return;
    case PQ_OP_CONCAT:
        if (n->attr.axis != 1 || s->first[n->out[0]] == PQ_NONE) break;
        for (int k = 0; k < n->n_in; k++)
            if (s->first[n->in[k]] == PQ_NONE) {
                pin_node(s, n);
                return;
            }
        for (int k = 0; k < n->n_in; at += channels(s, n->in[k++]))
            tie_values(s, n->in[k], 0, n->out[0], at, channels(s, n->in[k]));
        return;
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL:
    case PQ_OP_GLOBAL_AVERAGE_POOL:
    case PQ_OP_RESIZE:
    case PQ_OP_RELU:
    case PQ_OP_LEAKY_RELU:
    case PQ_OP_IDENTITY:
        if (s->first[n->in[0]] == PQ_NONE || s->first[n->out[0]] == PQ_NONE) break;
        tie_values(s, n->in[0], 0, n->out[0], 0, channels(s, n->out[0]));
        return;
    default: break;
    }
    pin_node(s, n);
}

static pq_status begin(state *s)
{
    const pq_graph *g = s->g;
    pq_status st;
    PQ_TRY(pq_alloc(s->ctx, &s->first, g->n_values, sizeof *s->first));
    PQ_TRY(pq_alloc(s->ctx, &s->uses, g->n_values, sizeof *s->uses));
    for (pq_value_id v = 0; v < g->n_values; v++) {
        const pq_value *x = &g->value[v];
        s->first[v] = PQ_NONE;
        s->uses[v] = pq_graph_count_readers(g, v);
        if (x->data || x->shape.rank != 4 || x->dtype != PQ_F32) continue;
        s->first[v] = (uint32_t)s->n_channels;
        s->n_channels += (size_t)x->shape.dim[1];
    }
    PQ_TRY(pq_alloc(s->ctx, &s->parent, s->n_channels, sizeof *s->parent));
    PQ_TRY(pq_alloc(s->ctx, &s->pinned, s->n_channels, 1));
    PQ_TRY(pq_alloc(s->ctx, &s->reach, s->n_channels, sizeof *s->reach));
    PQ_TRY(pq_alloc(s->ctx, &s->read, s->n_channels, sizeof *s->read));
    PQ_TRY(pq_alloc(s->ctx, &s->factor, s->n_channels, sizeof *s->factor));
    for (size_t c = 0; c < s->n_channels; c++) s->parent[c] = (uint32_t)c;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead) tie_node(s, &g->node[i]);
    for (size_t i = 0; i < g->n_inputs; i++) pin(s, g->input[i]);
    for (size_t i = 0; i < g->n_outputs; i++) pin(s, g->output[i]);
out:
    return st;
}

/* Weight [o, i, h, w] of a convolution: input channel c of row o is i of o's group. */
typedef struct rows {
    float *w;
    size_t n_out, per_group, window, outputs;
} rows;

static rows rows_of(const pq_graph *g, const pq_node *n)
{
    const pq_value *w = pq_in(g, n, 1);
    return (rows){.w = pq_buf_data(w->data),
                  .n_out = (size_t)w->shape.dim[0],
                  .per_group = (size_t)w->shape.dim[1],
                  .window = (size_t)(w->shape.dim[2] * w->shape.dim[3]),
                  .outputs = (size_t)(w->shape.dim[0] / n->attr.window.groups)};
}

static double largest(const float *x, size_t n)
{
    float m = 0;
    for (size_t i = 0; i < n; i++) m = fmaxf(m, fabsf(x[i]));
    return (double)m;
}

static void note_reads(state *s, const pq_node *n)
{
    const rows r = rows_of(s->g, n);
    for (size_t o = 0; o < r.n_out; o++) {
        const float *row = r.w + o * r.per_group * r.window;
        const double most = largest(row, r.per_group * r.window);
        for (size_t i = 0; i < r.per_group && most > 0; i++) {
            const size_t c = o / r.outputs * r.per_group + i;
            double *to = &s->read[root(s, s->first[n->in[0]] + (uint32_t)c)];
            *to = fmax(*to, largest(row + i * r.window, r.window) / most);
        }
    }
}

static void note_reach(state *s, pq_value_id v, const float *reach)
{
    const size_t n = channels(s, v);
    const double most = largest(reach, n);
    for (size_t c = 0; c < n && most > 0; c++) {
        double *to = &s->reach[root(s, s->first[v] + (uint32_t)c)];
        *to = fmax(*to, (double)reach[c] / most);
    }
}

static double choose(double reach, double read)
{
    if (!(reach > 0) || !(read > 0)) return 1;
    const double e = rint(log2(sqrt(reach / read)));
    return exp2(fmax(-12, fmin(12, e)));
}

static pq_status scale_conv(state *s, const pq_node *n, bool *changed)
{
    const pq_value_id x = n->in[0], y = n->out[0];
    bool any = false;
    for (size_t c = 0; c < channels(s, x); c++)
        any = any || s->factor[root(s, s->first[x] + (uint32_t)c)] != 1;
    for (size_t c = 0; c < channels(s, y); c++)
        any = any || s->factor[root(s, s->first[y] + (uint32_t)c)] != 1;
    for (int k = 1; any && k < n->n_in; k++) { /* copies of weight and bias */
        pq_value *v = pq_in(s->g, n, k);
        pq_buf *b;
        if (!v) continue;
        pq_status st = pq_buf_new(s->ctx, &b, pq_buf_bytes(v->data));
        if (st != PQ_OK) return st;
        memcpy(pq_buf_data(b), pq_buf_data(v->data), pq_buf_bytes(b));
        pq_buf_unref(v->data);
        v->data = b;
        if (changed) changed[n->in[k]] = true;
    }
    if (!any) return PQ_OK;
    const rows r = rows_of(s->g, n);
    const pq_value *bias = pq_in(s->g, n, 2);
    for (size_t o = 0; o < r.n_out; o++) {
        const double out = s->factor[root(s, s->first[y] + (uint32_t)o)];
        for (size_t i = 0; i < r.per_group; i++) {
            const size_t c = o / r.outputs * r.per_group + i;
            const float f = (float)(s->factor[root(s, s->first[x] + (uint32_t)c)] / out);
            float *w = r.w + (o * r.per_group + i) * r.window;
            for (size_t k = 0; k < r.window; k++) w[k] *= f;
        }
        if (bias) ((float *)pq_buf_data(bias->data))[o] *= (float)(1 / out);
    }
    return PQ_OK;
}

/* Mean of log2(largest / own) over channels that carry anything, as given and divided by t. */
static void measure(const state *s, pq_value_id v, const float *reach, pq_equalized *out)
{
    const size_t n = channels(s, v);
    double most[2] = {0}, sum[2] = {0};
    size_t used = 0;
    for (size_t c = 0; c < n; c++) {
        const double x = (double)reach[c], t = s->factor[root(s, s->first[v] + (uint32_t)c)];
        if (!(x > 0)) continue;
        most[0] = fmax(most[0], x);
        most[1] = fmax(most[1], x / t);
        sum[0] += log2(x);
        sum[1] += log2(x / t);
        used++;
    }
    if (!used) return;
    out->bits_before = log2(most[0]) - sum[0] / (double)used;
    out->bits = log2(most[1]) - sum[1] / (double)used;
}

pq_status pq_equalize(pq_ctx *ctx, pq_graph *g, float *const *reach, bool *changed,
                      pq_equalized *flat)
{
    state s = {.ctx = ctx, .g = g};
    pq_status st;
    PQ_TRY(begin(&s));
    for (pq_value_id v = 0; v < g->n_values; v++)
        if (s.first[v] != PQ_NONE && reach[v]) note_reach(&s, v, reach[v]);
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && is_free_conv(&s, &g->node[i])) note_reads(&s, &g->node[i]);
    for (uint32_t c = 0; c < s.n_channels; c++) {
        const uint32_t r = root(&s, c);
        s.factor[r] = s.pinned[r] ? 1 : choose(s.reach[r], s.read[r]);
    }
    for (pq_value_id v = 0; flat && v < g->n_values; v++)
        if (s.first[v] != PQ_NONE && reach[v]) measure(&s, v, reach[v], &flat[v]);
    g->hash[0] = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && is_free_conv(&s, &g->node[i]))
            PQ_TRY(scale_conv(&s, &g->node[i], changed));
out:
    pq_free(s.first);
    pq_free(s.uses);
    pq_free(s.parent);
    pq_free(s.pinned);
    pq_free(s.reach);
    pq_free(s.read);
    pq_free(s.factor);
    return st;
}
