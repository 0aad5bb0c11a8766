/* Runs a graph node by node through the plain evaluator; only for graphs without convolutions. */
#ifndef TEST_RUN_GRAPH_H
#define TEST_RUN_GRAPH_H

#include "base/ctx.h"
#include "base/mem.h"
#include "graph/eval.h"

/* in: one tensor per graph input, borrowed. out: one per graph output, yours to clear. */
static inline pq_status run_graph(pq_ctx *ctx, const pq_graph *g, const pq_tensor *in,
                                  pq_tensor *out)
{
    pq_status st;
    pq_tensor *value;
    PQ_TRY(pq_alloc(ctx, &value, g->n_values, sizeof *value));
    for (size_t i = 0; i < g->n_values; i++) {
        const pq_value *v = &g->value[i];
        if (v->data) value[i] = (pq_tensor){v->dtype, v->shape, pq_buf_ref(v->data)};
    }
    for (size_t i = 0; i < g->n_inputs; i++) {
        value[g->input[i]] = in[i];
        pq_buf_ref(in[i].buf);
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        const pq_tensor *args[64];
        pq_tensor results[64];
        if (n->dead) continue;
        for (int k = 0; k < n->n_in; k++) args[k] = n->in[k] == PQ_NONE ? NULL : &value[n->in[k]];
        PQ_TRY(pq_eval_node(ctx, g, n, args, results));
        for (int k = 0; k < n->n_out; k++) value[n->out[k]] = results[k];
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        out[i] = value[g->output[i]];
        pq_buf_ref(out[i].buf);
    }
out:
    for (size_t i = 0; value && i < g->n_values; i++) pq_tensor_clear(&value[i]);
    pq_free(value);
    return st;
}

#endif
