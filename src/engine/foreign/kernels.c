/* From the names of a runtime's kernels back to the nodes of the graph. */
#include "engine/foreign/kernels.h"

#include <stdio.h>
#include <string.h>

#include "plan/names.h"

pq_status pq_foreign_check_outputs(pq_ctx *ctx, const pq_graph *g)
{
    for (size_t i = 0; i < g->n_inputs + g->n_outputs; i++) {
        const bool in = i < g->n_inputs;
        const pq_value *v = &g->value[in ? g->input[i] : g->output[i - g->n_inputs]];
        if (v->dtype != PQ_F32)
            return pq_fail(ctx, PQ_E_UNSUPPORTED, "%s '%s' is %s, expected float32",
                           in ? "input" : "output", v->name, pq_dtype_name(v->dtype));
    }
    return PQ_OK;
}

static pq_status add(pq_ctx *ctx, pq_kernel_names *k, const char *name, uint32_t node)
{
    struct pq_name_slot *slot;
    const char *kept;
    bool is_new;
    if (!*name) return PQ_OK;
    pq_status st = pq_arena_strdup(ctx, k->arena, &kept, name);
    if (st == PQ_OK) st = pq_name_map_add(ctx, &k->map, &slot, kept, &is_new);
    if (st == PQ_OK && is_new) slot->id = node;
    return st;
}

pq_status pq_kernel_names_init(pq_ctx *ctx, pq_kernel_names *k, const pq_graph *g)
{
    pq_status st;
    memset(k, 0, sizeof *k);
    PQ_TRY(pq_arena_new(ctx, &k->arena));
    PQ_TRY(pq_arena_alloc(ctx, k->arena, &k->node, g->n_nodes, sizeof *k->node));
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        struct pq_kernel_node *to = &k->node[k->n_nodes];
        const uint32_t id = (uint32_t)k->n_nodes++;
        PQ_TRY(pq_arena_strdup(ctx, k->arena, &to->name, n->name));
        to->quantizable = n->quant_index >= 0;
        to->weighted = to->quantizable && pq_op_is_weighted(n->op);
        to->macs = pq_node_macs(g, n);
        PQ_TRY(add(ctx, k, n->name, id));
        for (int o = 0; o < n->n_out; o++) PQ_TRY(add(ctx, k, g->value[n->out[o]].name, id));
        for (int c = 0; c < n->n_in; c++)
            if (n->in[c] != PQ_NONE && g->value[n->in[c]].data)
                PQ_TRY(add(ctx, k, g->value[n->in[c]].name, id));
    }
    st = PQ_OK;
out:
    if (st != PQ_OK) pq_kernel_names_clear(k);
    return st;
}

void pq_kernel_names_clear(pq_kernel_names *k)
{
    pq_name_map_clear(&k->map);
    pq_arena_free(k->arena);
    memset(k, 0, sizeof *k);
}

const struct pq_kernel_node *pq_kernel_find(const pq_kernel_names *k, const char *kernel)
{
    char text[512];
    if (strlen(kernel) >= sizeof text) return NULL;
    memcpy(text, kernel, strlen(kernel) + 1);
    for (size_t n = strlen(text); n > 0;) {
        text[n] = 0;
        const struct pq_name_slot *slot = pq_name_map_find(&k->map, text);
        if (slot) return &k->node[slot->id];
        for (n--; n > 0 && text[n] != '/' && text[n] != '_' && text[n] != '.';) n--;
    }
    return NULL;
}

void pq_kernel_layer(pq_layer *out, const pq_kernel_names *k, const char *kernel, const char *op,
                     const char *impl, bool computes)
{
    const struct pq_kernel_node *n = pq_kernel_find(k, kernel);
    memset(out, 0, sizeof *out);
    snprintf(out->node, sizeof out->node, "%s", n ? n->name : kernel);
    snprintf(out->op, sizeof out->op, "%s", op);
    snprintf(out->impl, sizeof out->impl, "%s", impl);
    if (n && computes) out->macs = n->macs;
}
