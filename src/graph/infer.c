/* Shape inference over a whole graph: order, evaluation of what follows from constants, and the
 * change of the input size. The rules of the operators are in infer_rules.c. */
#include "graph/infer.h"

#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"
#include "graph/eval.h"

enum { MAX_KNOWN = 1 << 16 }; /* elements of a result worth knowing during inference */

void pq_inference_clear(pq_inference *inf)
{
    for (size_t i = 0; i < inf->n_known; i++) pq_tensor_clear(&inf->known[i]);
    pq_free(inf->known);
    memset(inf, 0, sizeof *inf);
}

bool pq_inference_find(const pq_inference *inf, const pq_graph *g, pq_value_id v, pq_tensor *out)
{
    if (v == PQ_NONE) return false;
    const pq_value *value = &g->value[v];
    if (value->data) {
        *out = (pq_tensor){value->dtype, value->shape, value->data};
        return true;
    }
    if (v < inf->n_known && inf->known[v].buf) {
        *out = inf->known[v];
        return true;
    }
    return false;
}

/* Operators that compute what shapes are made of; the others may be costly and give no shapes. */
static bool makes_shapes(pq_op op)
{
    switch (op) {
    case PQ_OP_CONV:
    case PQ_OP_CONV_TRANSPOSE:
    case PQ_OP_GEMM:
    case PQ_OP_MATMUL:
    case PQ_OP_BATCH_NORM:
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL:
    case PQ_OP_GLOBAL_AVERAGE_POOL:
    case PQ_OP_RESIZE:
    case PQ_OP_FOCUS:
    case PQ_OP_SOFTMAX:
    case PQ_OP_LOG_SOFTMAX:
    case PQ_OP_NON_MAX_SUPPRESSION:
    case PQ_OP_GFL_DECODE: return false;
    default: return true;
    }
}

/* Evaluate the node if its inputs are known and its results are small. */
static pq_status evaluate(pq_ctx *ctx, pq_inference *inf, const pq_graph *g, const pq_node *n)
{
    pq_status st = PQ_OK;
    pq_tensor view[64], out[64];
    const pq_tensor *in[64];
    if (!makes_shapes(n->op)) return PQ_OK;
    for (int i = 0; i < n->n_in; i++) {
        in[i] = pq_inference_find(inf, g, n->in[i], &view[i]) ? &view[i] : NULL;
        if (!in[i] && n->in[i] != PQ_NONE && n->op != PQ_OP_SHAPE) return PQ_OK;
        if (in[i] && pq_shape_count(&in[i]->shape) > MAX_KNOWN) return PQ_OK;
    }
    for (int i = 0; i < n->n_out; i++)
        if (pq_shape_count(&pq_out_value(g, n, i)->shape) > MAX_KNOWN) return PQ_OK;
    if (inf->n_known < g->n_values) {
        PQ_TRY(pq_grow(ctx, &inf->known, inf->n_known, g->room_values, sizeof *inf->known));
        inf->n_known = g->room_values;
    }
    PQ_TRY(pq_eval_node(ctx, g, n, in, out));
    for (int i = 0; i < n->n_out; i++) {
        pq_tensor_clear(&inf->known[n->out[i]]);
        inf->known[n->out[i]] = out[i];
    }
out:
    return st;
}

pq_status pq_infer_node(pq_ctx *ctx, pq_inference *inf, pq_graph *g, pq_node_id id)
{
    pq_node *n = &g->node[id];
    pq_status st = pq_infer_rule(ctx, inf, g, n);
    for (int i = 0; st == PQ_OK && i < n->n_out; i++) {
        const pq_shape *s = &pq_out_value(g, n, i)->shape;
        char text[160];
        int64_t count = pq_shape_count(s);
        /* A limit far above any network keeps later products of sizes inside 64 bits. */
        if (count < 0 || count > INT64_C(1) << 40)
            st = pq_fail(ctx, PQ_E_FORMAT, "output %d would have the shape %s", i,
                         pq_shape_text(s, text, sizeof text));
    }
    if (st == PQ_OK) st = evaluate(ctx, inf, g, n);
    return pq_prefix(ctx, st, "node '%s' (%s)", n->name, pq_op_name(n->op));
}

pq_status pq_graph_infer(pq_ctx *ctx, pq_graph *g)
{
    g->hash[0] = 0;
    pq_status st = PQ_OK;
    pq_inference inf = {0};
    for (size_t i = 0; i < g->n_inputs; i++) {
        const pq_value *v = &g->value[g->input[i]];
        for (int k = 0; k < v->shape.rank; k++)
            if (v->shape.dim[k] <= 0) {
                st = pq_fail(ctx, PQ_E_UNSUPPORTED, "input '%s': dimension %d is not fixed",
                             v->name, k);
                goto out;
            }
    }
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead) PQ_TRY(pq_infer_node(ctx, &inf, g, (pq_node_id)i));
out:
    pq_inference_clear(&inf);
    return st;
}

/* A batch of 1 written into a Reshape makes rows of images where images should be: no rule is
 * broken on the way, but an output that began with the batch size no longer does. */
static pq_status check_batch(pq_ctx *ctx, const pq_graph *g, const int64_t *old, int64_t old_n,
                             int64_t n)
{
    for (size_t i = 0; i < g->n_outputs; i++) {
        const pq_value *v = &g->value[g->output[i]];
        if (old[i] == old_n && v->shape.rank && v->shape.dim[0] != n)
            return pq_fail(ctx, PQ_E_UNSUPPORTED,
                           "output '%s' keeps %lld rows at batch size %lld: a reshape in the file "
                           "pins the batch size",
                           v->name, (long long)v->shape.dim[0], (long long)n);
    }
    return PQ_OK;
}

pq_status pq_graph_set_input_size(pq_ctx *ctx, pq_graph *g, int64_t n, int64_t h, int64_t w)
{
    pq_status st;
    int64_t *old_rows = NULL;
    if (g->n_inputs != 1 || g->value[g->input[0]].shape.rank != 4)
        return pq_fail(ctx, PQ_E_INVALID, "%zu inputs, expected one of 4 dimensions", g->n_inputs);
    if (n < 1 || h < 0 || w < 0 || n > 1 << 20 || h > 1 << 20 || w > 1 << 20)
        return pq_fail(ctx, PQ_E_INVALID, "no input can have the size %lld x %lld x %lld",
                       (long long)n, (long long)h, (long long)w);
    pq_shape *s = &g->value[g->input[0]].shape;
    const pq_shape old = *s;
    PQ_TRY(pq_alloc(ctx, &old_rows, g->n_outputs, sizeof *old_rows));
    for (size_t i = 0; i < g->n_outputs; i++) {
        const pq_shape *o = &g->value[g->output[i]].shape;
        old_rows[i] = o->rank ? o->dim[0] : -1;
    }
    s->dim[0] = n;
    if (h) s->dim[2] = h;
    if (w) s->dim[3] = w;
    st = pq_graph_infer(ctx, g);
    if (st == PQ_E_FORMAT) st = PQ_E_UNSUPPORTED; /* the file was right at its own size */
    if (st == PQ_OK) st = check_batch(ctx, g, old_rows, old.dim[0], n);
    if (st != PQ_OK) {
        pq_prefix(ctx, st, "input size %lld x %lld x %lld x %lld", (long long)s->dim[0],
                  (long long)s->dim[1], (long long)s->dim[2], (long long)s->dim[3]);
        *s = old;
        /* Back to the shapes that fitted; with a context of its own so that the message stays. */
        pq_ctx *quiet;
        if (pq_ctx_new(&quiet) == PQ_OK) {
            pq_status again = pq_graph_infer(quiet, g);
            if (again != PQ_OK) st = pq_merge_error(ctx, quiet, again);
            pq_ctx_free(quiet);
        }
    }
out:
    pq_free(old_rows);
    return st;
}
