/* Which operators change precision together. */
#include <pquant/sensitivity.h>

#include <string.h>

#include "base/mem.h"
#include "plan/names.h"

/* The operator that makes v, behind operators that only move numbers. */
static const pq_node *maker(const pq_graph *g, pq_value_id v)
{
    for (;;) {
        const pq_node_id id = g->value[v].producer;
        if (id == PQ_NONE) return NULL;
        const pq_node *n = &g->node[id];
        if (n->quant_index >= 0 || !pq_node_moves(n) || n->n_in < 1) return n;
        v = n->in[0];
    }
}

static void find(pq_units *u, const pq_graph *g, const pq_engine *engine)
{
    for (size_t k = 0; k < u->n_ops; k++) {
        const pq_node *n = &g->node[pq_graph_quantizable(g, (int)k)];
        const pq_node *from = n->op == PQ_OP_MAX_POOL ? maker(g, n->in[0]) : NULL;
        const char *why;
        const bool joins = from && from->quant_index >= 0 && (size_t)from->quant_index < k;
        u->of[k] = joins ? u->of[from->quant_index] : (uint32_t)u->n++;
        if (!engine->accepts(g, n, PQ_PREC_INT8, &why)) u->fixed[u->of[k]] = true;
    }
}

pq_status pq_units_find(pq_ctx *ctx, pq_units *out, const pq_graph *g, const pq_engine *engine)
{
    pq_status st;
    *out = (pq_units){.n_ops = pq_graph_quantizable_count(g)};
    PQ_TRY(pq_alloc(ctx, &out->of, out->n_ops, sizeof *out->of));
    PQ_TRY(pq_alloc(ctx, &out->fixed, out->n_ops, sizeof *out->fixed));
    find(out, g, engine);
out:
    if (st != PQ_OK) pq_units_clear(out);
    return st;
}

void pq_units_clear(pq_units *u)
{
    pq_free(u->of);
    pq_free(u->fixed);
    *u = (pq_units){0};
}

void pq_units_label(const pq_units *u, const bool *int8, uint8_t *label)
{
    for (size_t k = 0; k < u->n_ops; k++)
        label[k] = int8[u->of[k]] && !u->fixed[u->of[k]] ? PQ_LABEL_INT8 : PQ_LABEL_FULL;
}
