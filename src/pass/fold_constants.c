/* Constant folding: nodes whose inputs are all constant become constants, and Shape of any value
 * does, shapes being static. What a fold makes constant feeds the next node in the same sweep. */
#include <pquant/pass.h>

#include "base/ctx.h"
#include "graph/eval.h"

enum { MAX_ELEMENTS = 1 << 24 }; /* a larger result stays an operator */
static const int64_t max_macs = INT64_C(1) << 28;

static bool foldable(const pq_graph *g, const pq_node *n)
{
    if (n->dead || !pq_eval_supports(n->op) || pq_node_macs(g, n) > max_macs) return false;
    /* windows over constants do not occur in networks, and may be made arbitrarily slow */
    if (n->op == PQ_OP_MAX_POOL || n->op == PQ_OP_AVERAGE_POOL) return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->op != PQ_OP_SHAPE && n->in[i] != PQ_NONE && !g->value[n->in[i]].data) return false;
    for (int i = 0; i < n->n_out; i++)
        if (pq_shape_count(&pq_out_value(g, n, i)->shape) > MAX_ELEMENTS) return false;
    return true;
}

static pq_status fold(pq_ctx *ctx, pq_graph *g, pq_node *n)
{
    pq_tensor view[64], out[64];
    const pq_tensor *in[64];
    for (int i = 0; i < n->n_in; i++) {
        const pq_value *v = pq_in(g, n, i);
        in[i] = NULL;
        if (!v || !v->data) continue;
        view[i] = (pq_tensor){v->dtype, v->shape, v->data};
        in[i] = &view[i];
    }
    pq_status st = pq_eval_node(ctx, g, n, in, out);
    if (st != PQ_OK) return st;
    for (int i = 0; i < n->n_out; i++) {
        pq_value *v = pq_out_value(g, n, i);
        v->data = out[i].buf; /* takes the reference */
        v->producer = PQ_NONE;
    }
    n->dead = true;
    return PQ_OK;
}

pq_status pq_pass_fold_constants(pq_ctx *ctx, size_t *folded, pq_graph *g)
{
    size_t count = 0;
    pq_status st = pq_graph_infer(ctx, g);
    for (size_t i = 0; st == PQ_OK && i < g->n_nodes; i++) {
        if (!foldable(g, &g->node[i])) continue;
        st = fold(ctx, g, &g->node[i]);
        count += st == PQ_OK;
    }
    if (folded) *folded = count;
    return st;
}
