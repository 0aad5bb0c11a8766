/* Nodes that change nothing, and nodes that nobody reads. */
#include "base/mem.h"
#include "pass/edit.h"

static bool same_shape(const pq_graph *g, const pq_node *n)
{
    const pq_value *x = &g->value[n->in[0]], *y = &g->value[n->out[0]];
    return x->shape.rank > 0 && x->dtype == y->dtype && pq_shape_equal(&x->shape, &y->shape);
}

/* Its output is its first input. Shapes decide only where they are known (rank 0 may be unknown).
 */
static bool changes_nothing(const pq_graph *g, const pq_node *n)
{
    switch (n->op) {
    case PQ_OP_IDENTITY: return true;
    case PQ_OP_CAST: return same_shape(g, n) && n->attr.to == g->value[n->in[0]].dtype;
    case PQ_OP_RESHAPE:
    case PQ_OP_FLATTEN:
    case PQ_OP_SQUEEZE:
    case PQ_OP_UNSQUEEZE:
    case PQ_OP_EXPAND: return same_shape(g, n);
    case PQ_OP_CONCAT: return n->n_in == 1;
    case PQ_OP_TRANSPOSE:
        for (int i = 0; i < g->value[n->in[0]].shape.rank; i++)
            if (n->attr.perm[i] != i) return false;
        return same_shape(g, n);
    case PQ_OP_SLICE:
        for (int i = 0; i < g->value[n->in[0]].shape.rank; i++)
            if (n->attr.step[i] != 1) return false;
        return same_shape(g, n);
    default: return false;
    }
}

/* Which of a node's outputs v is. */
static int slot_of(const pq_node *n, pq_value_id v)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] == v) return i;
    return -1;
}

/* Graph outputs keep their names: there the producer of the input makes the output itself. */
static bool bypass(pq_graph *g, pq_node *n)
{
    const pq_value_id x = n->in[0], y = n->out[0];
    if (!pq_graph_is_output(g, y)) {
        pq_graph_replace_value(g, y, x);
        n->dead = true;
        return true;
    }
    pq_node *from = pq_edit_producer(g, x);
    if (!from || pq_graph_is_output(g, x)) return false;
    n->dead = true;
    from->out[slot_of(from, x)] = y;
    g->value[y].producer = (pq_node_id)(from - g->node);
    pq_graph_replace_value(g, x, y);
    return true;
}

/* Mark from the outputs back. */
static pq_status sweep(pq_ctx *ctx, size_t *removed, pq_graph *g)
{
    pq_status st;
    bool *live = NULL;
    pq_node_id *todo = NULL;
    size_t n_todo = 0;
    PQ_TRY(pq_alloc(ctx, &live, g->n_nodes, sizeof *live));
    PQ_TRY(pq_alloc(ctx, &todo, g->n_nodes, sizeof *todo));
    for (size_t i = 0; i < g->n_outputs; i++) {
        const pq_node_id p = g->value[g->output[i]].producer;
        if (p != PQ_NONE && !live[p]) live[p] = true, todo[n_todo++] = p;
    }
    while (n_todo) {
        const pq_node *n = &g->node[todo[--n_todo]];
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i] == PQ_NONE) continue;
            const pq_node_id p = g->value[n->in[i]].producer;
            if (p != PQ_NONE && !live[p]) live[p] = true, todo[n_todo++] = p;
        }
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        if (g->node[i].dead || live[i]) continue;
        g->node[i].dead = true;
        *removed += 1;
    }
out:
    pq_free(live);
    pq_free(todo);
    return st;
}

pq_status pq_pass_dead_code(pq_ctx *ctx, size_t *removed, pq_graph *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && changes_nothing(g, &g->node[i])) n += bypass(g, &g->node[i]);
    pq_status st = sweep(ctx, &n, g);
    if (n) g->hash[0] = 0;
    if (removed) *removed = n;
    return st;
}
