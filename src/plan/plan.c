/* Plans in memory: making, freeing, tying to a graph, quantizing weights. */
#include <pquant/plan.h>

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "plan/names.h"
#include "plan/weights.h"

static const char *const precision_name[] = {"fp32", "fp16", "bf16", "int8"};

const char *pq_precision_name(pq_precision p) { return (unsigned)p < 4 ? precision_name[p] : "?"; }

pq_status pq_precision_parse(pq_ctx *ctx, pq_precision *out, const char *name)
{
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(name, precision_name[i]) == 0) {
            *out = (pq_precision)i;
            return PQ_OK;
        }
    return pq_fail(ctx, PQ_E_INVALID, "precision '%s', expected fp32, fp16, bf16 or int8", name);
}

void pq_plan_free(pq_plan *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n_nodes; i++) {
        pq_free(p->node[i].name);
        pq_free(p->node[i].type);
    }
    for (size_t i = 0; i < p->n_tensors; i++) pq_free(p->tensor[i].name);
    pq_free(p->node);
    pq_free(p->tensor);
    pq_weights_free(p->weight, p->n_weights);
    pq_free(p);
}

pq_status pq_plan_float(pq_ctx *ctx, pq_plan **out, const pq_graph *g, pq_precision precision)
{
    pq_status st;
    pq_plan *p = NULL;
    *out = NULL;
    if (precision == PQ_PREC_INT8)
        return pq_fail(ctx, PQ_E_INVALID,
                       "precision int8 needs ranges, expected a float precision");
    PQ_TRY(pq_alloc(ctx, &p, 1, sizeof *p));
    pq_graph_hash(g, p->graph_hash);
    p->base = precision;
    PQ_TRY(pq_alloc(ctx, &p->node, g->n_nodes, sizeof *p->node));
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        pq_plan_node *to = &p->node[p->n_nodes++];
        to->quantizable = n->quant_index >= 0;
        to->precision = precision;
        PQ_TRY(pq_strdup(ctx, &to->name, n->name));
        PQ_TRY(pq_strdup(ctx, &to->type, n->type));
    }
    *out = p;
    p = NULL;
out:
    pq_plan_free(p);
    return st;
}

bool pq_op_is_weighted(pq_op op)
{
    return op == PQ_OP_CONV || op == PQ_OP_CONV_TRANSPOSE || op == PQ_OP_GEMM || op == PQ_OP_MATMUL;
}

int pq_weight_axis(const pq_graph *g, const pq_node *n)
{
    switch (n->op) {
    case PQ_OP_CONV_TRANSPOSE: return 1;
    case PQ_OP_GEMM: return n->attr.trans_b ? 0 : 1;
    case PQ_OP_MATMUL: return pq_in(g, n, 1)->shape.rank - 1;
    default: return 0;
    }
}

/* Scales that come with a corrected weight: one for each output channel of whoever uses it. */
static pq_status check_scales(pq_ctx *ctx, const pq_binding *b)
{
    const pq_graph *g = b->graph;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead || n->quant_index < 0 || !pq_op_is_weighted(n->op)) continue;
        const pq_plan_weight *w = b->weight[n->in[1]];
        const int64_t channels = pq_in(g, n, 1)->shape.dim[pq_weight_axis(g, n)];
        if (w && w->scale.buf && pq_shape_count(&w->scale.shape) != channels)
            return pq_fail(ctx, PQ_E_INVALID,
                           "plan: weight '%s' has %lld scales, expected one for each of its %lld "
                           "channels",
                           w->name, (long long)pq_shape_count(&w->scale.shape),
                           (long long)channels);
    }
    return PQ_OK;
}

bool pq_node_moves(const pq_node *n)
{
    switch (n->op) {
    case PQ_OP_MAX_POOL:
    case PQ_OP_FOCUS:
    case PQ_OP_SLICE:
    case PQ_OP_SPLIT:
    case PQ_OP_RESHAPE:
    case PQ_OP_FLATTEN:
    case PQ_OP_SQUEEZE:
    case PQ_OP_UNSQUEEZE:
    case PQ_OP_TRANSPOSE:
    case PQ_OP_IDENTITY: return true;
    case PQ_OP_RESIZE: return n->attr.resize == PQ_RESIZE_NEAREST;
    default: return false;
    }
}

/* Works backwards: when a node is reached, the domain of all its readers is known. */
static pq_status find_domain(pq_ctx *ctx, pq_binding *b)
{
    const pq_graph *g = b->graph;
    bool *raw = NULL; /* per value: someone outside the INT8 domain reads it */
    pq_status st = pq_alloc(ctx, &raw, g->n_values, 1);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < g->n_outputs; i++) raw[g->output[i]] = true;
    for (size_t i = g->n_nodes; i-- > 0;) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        bool in;
        if (pq_op_is_weighted(n->op) && n->quant_index >= 0) {
            in = b->precision[i] == PQ_PREC_INT8;
            if (in && !b->tensor[n->in[0]]) {
                st = pq_fail(ctx, PQ_E_INVALID,
                             "plan: node '%s' is int8 but its input '%s' has no scale", n->name,
                             g->value[n->in[0]].name);
                goto out;
            }
        } else {
            in = n->quant_index < 0 || b->precision[i] == PQ_PREC_INT8;
            for (int k = 0; k < n->n_out; k++) in = in && b->tensor[n->out[k]] && !raw[n->out[k]];
        }
        b->int8[i] = in;
        for (int k = 0; !in && k < n->n_in; k++)
            if (n->in[k] != PQ_NONE) raw[n->in[k]] = true;
    }
out:
    pq_free(raw);
    return st;
}

pq_status pq_plan_bind(pq_ctx *ctx, pq_binding *out, const pq_plan *p, const pq_graph *g)
{
    pq_status st;
    char hash[65];
    pq_names values = {0}, nodes = {0};
    memset(out, 0, sizeof *out);
    out->graph = g;
    out->plan = p;
    pq_graph_hash(g, hash);
    if (strcmp(hash, p->graph_hash) != 0) {
        st = pq_fail(ctx, PQ_E_INVALID, "plan belongs to graph %.12s, expected this graph, %.12s",
                     p->graph_hash, hash);
        goto out;
    }
    PQ_TRY(pq_alloc(ctx, &out->precision, g->n_nodes, sizeof *out->precision));
    PQ_TRY(pq_alloc(ctx, &out->int8, g->n_nodes, sizeof *out->int8));
    PQ_TRY(pq_alloc(ctx, &out->tensor, g->n_values, sizeof *out->tensor));
    PQ_TRY(pq_alloc(ctx, &out->weight, g->n_values, sizeof *out->weight));
    PQ_TRY(pq_names_of_values(ctx, &values, g));
    PQ_TRY(pq_names_of_nodes(ctx, &nodes, g));
    for (size_t i = 0; i < g->n_nodes; i++) out->precision[i] = p->base;
    for (size_t i = 0; i < p->n_nodes; i++) {
        uint32_t id = pq_names_find(&nodes, p->node[i].name);
        if (id == PQ_NONE) {
            st = pq_fail(ctx, PQ_E_INVALID, "plan: node '%s' is not in the graph", p->node[i].name);
            goto out;
        }
        if (g->node[id].quant_index >= 0) out->precision[id] = p->node[i].precision;
    }
    for (size_t i = 0; i < p->n_tensors; i++) {
        uint32_t id = pq_names_find(&values, p->tensor[i].name);
        if (id == PQ_NONE || g->value[id].data) {
            st = pq_fail(ctx, PQ_E_INVALID, "plan: tensor '%s' is not an activation of the graph",
                         p->tensor[i].name);
            goto out;
        }
        out->tensor[id] = &p->tensor[i];
    }
    for (size_t i = 0; i < p->n_weights; i++) {
        const pq_plan_weight *w = &p->weight[i];
        uint32_t id = pq_names_find(&values, w->name);
        if (id == PQ_NONE || !g->value[id].data ||
            !pq_shape_equal(&g->value[id].shape, &w->data.shape)) {
            st = pq_fail(ctx, PQ_E_INVALID,
                         "plan: weight '%s' does not fit a constant of the graph", w->name);
            goto out;
        }
        out->weight[id] = w;
    }
    PQ_TRY(check_scales(ctx, out));
    st = find_domain(ctx, out);
out:
    pq_names_clear(&values);
    pq_names_clear(&nodes);
    if (st != PQ_OK) pq_binding_clear(out);
    return st;
}

void pq_binding_clear(pq_binding *b)
{
    pq_free(b->precision);
    pq_free(b->int8);
    pq_free(b->tensor);
    pq_free(b->weight);
    memset(b, 0, sizeof *b);
}

static bool is_rounded(const pq_binding *b, pq_value_id v)
{
    const pq_node_id p = b->graph->value[v].producer;
    if (!b->plan->rounds_outputs || !b->tensor[v] || p == PQ_NONE) return false;
    const pq_node *n = &b->graph->node[p];
    return pq_op_is_weighted(n->op) && n->quant_index >= 0 && b->int8[p];
}

bool pq_reads_quantized(const pq_binding *b, pq_node_id n, int i)
{
    const pq_node *node = &b->graph->node[n];
    if (i < node->n_in && node->in[i] != PQ_NONE && is_rounded(b, node->in[i])) return true;
    if (!b->int8[n] || i >= node->n_in || node->in[i] == PQ_NONE) return false;
    if (pq_op_is_weighted(node->op) && node->quant_index >= 0 && i != 0) return false;
    return b->tensor[node->in[i]] != NULL;
}

pq_status pq_plan_quantize_weights(pq_ctx *ctx, int8_t **q, float **scale, const float *w,
                                   const pq_shape *shape, int axis, const float *given_scale)
{
    const int64_t n = pq_shape_count(shape), channels = shape->dim[axis];
    int64_t inner = 1;
    for (int i = axis + 1; i < shape->rank; i++) inner *= shape->dim[i];
    const int64_t rows = inner > 0 ? n / inner : 0; /* each of one channel, in turn */
    *q = NULL;
    *scale = NULL;
    pq_status st = pq_alloc(ctx, q, (size_t)n, 1);
    if (st == PQ_OK) st = pq_alloc(ctx, scale, (size_t)channels, sizeof **scale);
    if (st != PQ_OK) {
        pq_free(*q);
        *q = NULL;
        return st;
    }
    if (given_scale)
        memcpy(*scale, given_scale, (size_t)channels * sizeof **scale);
    else {
        for (int64_t o = 0; o < rows; o++) {
            float *s = &(*scale)[o % channels], most = *s;
            for (int64_t i = 0; i < inner; i++) {
                const float a = fabsf(w[o * inner + i]);
                most = a > most ? a : most;
            }
            *s = most;
        }
        for (int64_t c = 0; c < channels; c++)
            (*scale)[c] = (*scale)[c] > 0 ? (*scale)[c] / 127.0f : 1.0f;
    }
    for (int64_t o = 0; o < rows; o++) {
        const float s = (*scale)[o % channels];
        for (int64_t i = o * inner; i < (o + 1) * inner; i++) {
            const float v = rintf(w[i] / s);
            (*q)[i] = (int8_t)(v < 127.0f ? (v > -127.0f ? v : -127.0f) : 127.0f);
        }
    }
    return PQ_OK;
}
