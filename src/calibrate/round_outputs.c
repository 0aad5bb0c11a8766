/* Scales for results that integer kernels would otherwise have to write as reals. */
#include <math.h>
#include <string.h>

#include <pquant/calibrate.h>

#include "base/mem.h"
#include "calibrate/layout.h"
#include "plan/names.h"

/* Beyond this a sigmoid is 0 or 1, to 6e-6. */
static const double SATURATED = 12;

/* Activations that clamp need no arithmetic on integers; others stand between the convolution and
 * the rounding. */
static bool writes_integers(const pq_node *n)
{
    return pq_op_is_weighted(n->op) && n->quant_index >= 0 &&
           (n->attr.act == PQ_ACT_NONE || n->attr.act == PQ_ACT_RELU || n->attr.act == PQ_ACT_CLIP);
}

/* Does input k of node n end in a sigmoid and nowhere else, given which values do? */
static bool goes_to_sigmoid(const pq_node *n, int k, const bool *only_sigmoid)
{
    if (n->op == PQ_OP_SIGMOID) return true;
    if (n->op == PQ_OP_GFL_DECODE) return k < n->attr.levels;
    return (pq_node_moves(n) || n->op == PQ_OP_CONCAT) && only_sigmoid[n->out[0]];
}

/* Per value: is all that is made of it sigmoids of its elements? Works backwards. */
static void mark_sigmoids(const pq_graph *g, bool *only_sigmoid)
{
    memset(only_sigmoid, 1, g->n_values);
    for (size_t i = 0; i < g->n_outputs; i++) only_sigmoid[g->output[i]] = false;
    for (size_t i = g->n_nodes; i-- > 0;) {
        const pq_node *n = &g->node[i];
        for (int k = 0; !n->dead && k < n->n_in; k++)
            if (n->in[k] != PQ_NONE && !goes_to_sigmoid(n, k, only_sigmoid))
                only_sigmoid[n->in[k]] = false;
    }
}

/*
 * Of what a sigmoid alone reads, the part that it tells apart. A calibrator would clip such a
 * value where it is rare, at the top: the scores of the few boxes that are one.
 */
static pq_plan_tensor grid_of(const pq_plan *plan, const pq_range *x, bool only_sigmoid)
{
    double amax = (double)x->amax, lo = (double)x->lo, hi = (double)x->hi;
    if (only_sigmoid) {
        const double least = fmin(0, fmax((double)x->min, -SATURATED));
        const double most = fmax(0, fmin((double)x->max, SATURATED));
        if (most > least) lo = least, hi = most, amax = fmax(-lo, hi);
    }
    return pq_range_grid(plan->scheme, amax, lo, hi);
}

pq_status pq_plan_round_outputs(pq_ctx *ctx, pq_plan *plan, const pq_graph *g, const pq_ranges *r)
{
    pq_binding b = {0};
    pq_plan_tensor *tensor = NULL;
    bool *only_sigmoid = NULL; /* per value */
    size_t n = plan->n_tensors;
    pq_status st;
    PQ_TRY(pq_plan_bind(ctx, &b, plan, g));
    PQ_TRY(pq_alloc(ctx, &only_sigmoid, g->n_values, 1));
    mark_sigmoids(g, only_sigmoid);
    PQ_TRY(pq_alloc(ctx, &tensor, n + g->n_nodes, sizeof *tensor));
    if (n) memcpy(tensor, plan->tensor, n * sizeof *tensor);
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *node = &g->node[i];
        const pq_value_id v = node->out[0];
        if (node->dead || b.precision[i] != PQ_PREC_INT8 || !writes_integers(node) ||
            pq_graph_is_output(g, v))
            continue;
        /* A ReLU is no work where zero is the lowest level; a grid shared with a Concat may have
         * others below, and then the Concat converts. */
        const pq_plan_tensor *shared = b.tensor[v];
        if (shared && (node->attr.act != PQ_ACT_RELU || shared->zero_point == 0)) continue;
        const pq_range *x = pq_ranges_find(r, g->value[v].name);
        if (!x) {
            st = pq_fail(ctx, PQ_E_INVALID, "value '%s' has no calibrated range: calibrate again",
                         g->value[v].name);
            goto out;
        }
        pq_plan_tensor t = grid_of(plan, x, only_sigmoid[v]);
        if (shared) {
            t.name = shared->name;
            tensor[shared - plan->tensor] = t;
            continue;
        }
        PQ_TRY(pq_strdup(ctx, &t.name, g->value[v].name));
        tensor[n++] = t;
    }
    pq_free(plan->tensor);
    plan->tensor = tensor;
    plan->n_tensors = n;
    plan->rounds_outputs = true;
    tensor = NULL;
out:
    for (size_t i = plan->n_tensors; tensor && i < n; i++) pq_free(tensor[i].name);
    pq_free(tensor);
    pq_free(only_sigmoid);
    pq_binding_clear(&b);
    return st;
}
