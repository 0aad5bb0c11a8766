/* Following an output back to the Concat of its channels. */
#include "graph/tail.h"

#include <string.h>

enum { MAX_STEPS = 64 }; /* heads are shorter */

static bool reshapes(pq_op op)
{
    return op == PQ_OP_RESHAPE || op == PQ_OP_FLATTEN || op == PQ_OP_SQUEEZE ||
           op == PQ_OP_UNSQUEEZE || op == PQ_OP_IDENTITY;
}

/* The dimension of x that is dimension axis of y, the same elements in the same order; -1: it is
 * cut up. */
static int same_dimension(const pq_shape *x, const pq_shape *y, int axis)
{
    int64_t before = 1, at = 1;
    for (int i = 0; i < axis; i++) before *= y->dim[i];
    for (int i = 0; i < x->rank; at *= x->dim[i++])
        if (at == before && x->dim[i] == y->dim[axis]) return i;
    return -1;
}

static void describe(pq_tail *out, const pq_graph *g, const pq_node *n)
{
    for (int i = 0; i < n->n_in && n->n_in <= PQ_TAIL_PARTS; i++) {
        const pq_value *v = &g->value[n->in[i]];
        out->size[i] = v->shape.dim[n->attr.axis];
        out->constant[i] = v->data != NULL;
        out->sigmoid[i] = pq_graph_is_sigmoid(g, n->in[i]);
        out->n = n->n_in;
    }
}

void pq_graph_tail(pq_tail *out, const pq_graph *g, pq_value_id v, int axis)
{
    memset(out, 0, sizeof *out);
    out->last = true;
    for (int i = 0; i < MAX_STEPS && axis >= 0; i++) {
        if (g->value[v].producer == PQ_NONE) return;
        const pq_node *n = &g->node[g->value[v].producer];
        const pq_shape *y = &g->value[v].shape, *x = &g->value[n->in[0]].shape;
        if (n->op == PQ_OP_TRANSPOSE)
            axis = (int)n->attr.perm[axis];
        else if (reshapes(n->op))
            axis = same_dimension(x, y, axis);
        else if (n->op == PQ_OP_CONCAT && n->attr.axis == axis)
            break;
        else if (n->op == PQ_OP_CONCAT)
            out->last = false;
        else
            return;
        v = n->in[0];
    }
    if (axis >= 0 && g->value[v].producer != PQ_NONE) {
        const pq_node *n = &g->node[g->value[v].producer];
        if (n->op == PQ_OP_CONCAT && n->attr.axis == axis) describe(out, g, n);
    }
}

static bool is_sigmoid(const pq_graph *g, pq_value_id v, int steps)
{
    for (; steps > 0 && g->value[v].producer != PQ_NONE; steps--) {
        const pq_node *n = &g->node[g->value[v].producer];
        if (n->op == PQ_OP_SIGMOID || n->attr.act == PQ_ACT_SIGMOID) return true;
        if (n->op == PQ_OP_CONCAT) {
            for (int i = 0; i < n->n_in; i++)
                if (!is_sigmoid(g, n->in[i], steps / n->n_in)) return false;
            return true;
        }
        if (n->op != PQ_OP_TRANSPOSE && n->op != PQ_OP_SLICE && n->op != PQ_OP_SPLIT &&
            !reshapes(n->op))
            return false;
        v = n->in[0];
    }
    return false;
}

bool pq_graph_is_sigmoid(const pq_graph *g, pq_value_id v) { return is_sigmoid(g, v, MAX_STEPS); }
