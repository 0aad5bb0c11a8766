/* Which values get a scale, and which share one.
 *
 *  - The data input of an INT8 weighted node gets a scale.
 *  - Concat, Add, MaxPool (INT8 ones) and operators that only move values run on integers where all
 * that read them do; then their inputs get scales too, but for one operand of Add: the sum of an
 * INT8 convolution that nobody else reads stays in the accumulator, and a float one stays float.
 *  - An operator that moves values keeps the scale. An input that only one Concat reads takes the
 *    scale of its output, so that the Concat copies bytes.
 *  - The network's inputs get none on the way through a moving operator: its output has one. */
#include "calibrate/layout.h"

#include <string.h>

#include "base/mem.h"
#include "plan/names.h"

static bool weighted(const pq_node *n) { return pq_op_is_weighted(n->op) && n->quant_index >= 0; }

typedef struct state {
    const pq_graph *g;
    const bool *int8;
    bool *in_domain; /* per node */
    bool *raw;       /* per value: read outside the domain, or an output */
    uint32_t *readers;
    pq_scale_layout *l;
} state;

static void find_domain(state *s)
{
    const pq_graph *g = s->g;
    for (size_t i = 0; i < g->n_outputs; i++) s->raw[g->output[i]] = true;
    for (size_t i = g->n_nodes; i-- > 0;) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        bool in;
        if (weighted(n))
            in = s->int8[n->quant_index];
        else {
            in = pq_node_moves(n) || n->op == PQ_OP_CONCAT || n->op == PQ_OP_ADD;
            if (n->quant_index >= 0 && !s->int8[n->quant_index]) in = false;
            for (int k = 0; k < n->n_out; k++)
                in = in && !s->raw[n->out[k]] && s->readers[n->out[k]];
        }
        s->in_domain[i] = in;
        const int n_data = in && (weighted(n) || pq_node_moves(n)) ? 1 : n->n_in;
        for (int k = 0; !in && k < n->n_in; k++)
            if (n->in[k] != PQ_NONE) s->raw[n->in[k]] = true;
        for (int k = 0; in && k < n_data; k++)
            if (n->in[k] != PQ_NONE && !g->value[n->in[k]].data &&
                g->value[n->in[k]].dtype == PQ_F32)
                s->l->listed[n->in[k]] = true;
    }
}

static uint32_t root(const pq_scale_layout *l, uint32_t v)
{
    while (l->group[v] != v) v = l->group[v];
    return v;
}

static void join(pq_scale_layout *l, uint32_t a, uint32_t b) { l->group[root(l, a)] = root(l, b); }

/* Operands of a sum in the domain that need no scale. */
static void spare_sums(state *s)
{
    const pq_graph *g = s->g;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead || n->op != PQ_OP_ADD || !s->in_domain[i] || n->in[0] == n->in[1]) continue;
        pq_value_id rides = PQ_NONE;
        for (int k = 0; k < 2; k++) {
            const pq_value *v = pq_in(g, n, k);
            if (v->producer == PQ_NONE || s->readers[n->in[k]] != 1) continue;
            const pq_node *p = &g->node[v->producer];
            if (!weighted(p)) continue;
            if (!s->int8[p->quant_index])
                s->l->listed[n->in[k]] = false;
            else if (p->op == PQ_OP_CONV &&
                     (rides == PQ_NONE || v->producer > g->value[rides].producer))
                rides = n->in[k];
        }
        if (rides != PQ_NONE) s->l->listed[rides] = false;
    }
}

static void find_groups(state *s)
{
    const pq_graph *g = s->g;
    pq_scale_layout *l = s->l;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead || !s->in_domain[i] || weighted(n)) continue;
        if (pq_node_moves(n)) {
            if (pq_in(g, n, 0)->producer == PQ_NONE && s->readers[n->in[0]] == 1) {
                l->listed[n->in[0]] = false;
                continue;
            }
            for (int k = 0; k < n->n_out; k++) {
                join(l, n->out[k], n->in[0]);
                l->defines[n->out[k]] = false;
            }
        } else if (n->op == PQ_OP_CONCAT)
            for (int k = 0; k < n->n_in; k++)
                if (s->readers[n->in[k]] == 1 && l->listed[n->in[k]]) {
                    join(l, n->in[k], n->out[0]);
                    l->defines[n->in[k]] = false;
                }
    }
    for (size_t i = 0; i < g->n_nodes; i++) /* a Concat's own range always counts */
        if (!g->node[i].dead && g->node[i].op == PQ_OP_CONCAT) l->defines[g->node[i].out[0]] = true;
    for (uint32_t v = 0; v < g->n_values; v++) l->group[v] = root(l, v);
}

pq_status pq_scale_layout_new(pq_ctx *ctx, pq_scale_layout *out, const pq_graph *g,
                              const bool *int8)
{
    state s = {.g = g, .int8 = int8, .l = out};
    pq_status st;
    memset(out, 0, sizeof *out);
    PQ_TRY(pq_alloc(ctx, &out->listed, g->n_values, 1));
    PQ_TRY(pq_alloc(ctx, &out->defines, g->n_values, 1));
    PQ_TRY(pq_alloc(ctx, &out->group, g->n_values, sizeof *out->group));
    PQ_TRY(pq_alloc(ctx, &s.in_domain, g->n_nodes, 1));
    PQ_TRY(pq_alloc(ctx, &s.raw, g->n_values, 1));
    PQ_TRY(pq_alloc(ctx, &s.readers, g->n_values, sizeof *s.readers));
    for (uint32_t v = 0; v < g->n_values; v++) {
        out->group[v] = v;
        out->defines[v] = true;
    }
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; !g->node[i].dead && k < g->node[i].n_in; k++)
            if (g->node[i].in[k] != PQ_NONE && (k == 0 || g->node[i].in[k] != g->node[i].in[k - 1]))
                s.readers[g->node[i].in[k]]++;
    find_domain(&s);
    spare_sums(&s);
    find_groups(&s);
out:
    pq_free(s.in_domain);
    pq_free(s.raw);
    pq_free(s.readers);
    if (st != PQ_OK) pq_scale_layout_clear(out);
    return st;
}

void pq_scale_layout_clear(pq_scale_layout *l)
{
    pq_free(l->listed);
    pq_free(l->group);
    pq_free(l->defines);
    memset(l, 0, sizeof *l);
}
