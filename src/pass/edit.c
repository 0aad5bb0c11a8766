/* Small steps that several passes share. */
#include "pass/edit.h"

#include "base/mem.h"

pq_node *pq_edit_producer(const pq_graph *g, pq_value_id v)
{
    if (v == PQ_NONE || g->value[v].producer == PQ_NONE) return NULL;
    pq_node *n = &g->node[g->value[v].producer];
    return n->dead ? NULL : n;
}

pq_node *pq_edit_private_producer(const pq_graph *g, pq_value_id v)
{
    pq_node *n = pq_edit_producer(g, v);
    if (!n || pq_graph_is_output(g, v) || pq_graph_count_readers(g, v) != 1) return NULL;
    return n;
}

void pq_edit_take_output(pq_graph *g, pq_node *to, pq_node *from)
{
    to->out[0] = from->out[0];
    g->value[to->out[0]].producer = (pq_node_id)(to - g->node);
    from->dead = true;
}

const float *pq_edit_floats(const pq_graph *g, pq_value_id v)
{
    if (v == PQ_NONE || !g->value[v].data || g->value[v].dtype != PQ_F32) return NULL;
    return pq_buf_data(g->value[v].data);
}

pq_status pq_edit_widen(pq_ctx *ctx, pq_graph *g, pq_node *node, int n)
{
    pq_value_id *in;
    if (node->n_in >= n) return PQ_OK;
    pq_status st = pq_arena_alloc(ctx, g->arena, &in, (size_t)n, sizeof *in);
    if (st != PQ_OK) return st;
    for (int i = 0; i < n; i++) in[i] = pq_edit_in(node, i);
    node->in = in;
    node->n_in = n;
    return PQ_OK;
}

pq_status pq_edit_new_const(pq_ctx *ctx, pq_value_id *out, pq_graph *g, const pq_node *node,
                            const char *suffix, const pq_shape *shape, pq_buf *data)
{
    char *name = NULL;
    *out = PQ_NONE;
    pq_status st = pq_asprintf(ctx, &name, "%s.%s", node->name, suffix);
    for (int i = 2; st == PQ_OK && pq_graph_find_value(g, name) != PQ_NONE; i++) {
        pq_free(name);
        st = pq_asprintf(ctx, &name, "%s.%s.%d", node->name, suffix, i);
    }
    if (st == PQ_OK) st = pq_graph_add_const(ctx, out, g, name, PQ_F32, shape, data);
    pq_free(name);
    return st;
}

void pq_edit_set_const(pq_graph *g, pq_node *node, int i, pq_value_id v)
{
    const pq_value_id old = node->in[i];
    if (old != PQ_NONE && g->value[old].data && !pq_graph_is_output(g, old) &&
        pq_graph_count_readers(g, old) == 1) {
        const char *name = g->value[old].name;
        g->value[old].name = g->value[v].name;
        g->value[v].name = name;
    }
    node->in[i] = v;
}
