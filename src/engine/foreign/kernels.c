/* From the names of a runtime's kernels back to the nodes of the graph. */
#include "engine/foreign/kernels.h"

#include <stdio.h>
#include <string.h>

#include "plan/names.h"

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

static bool is_elementwise(pq_op op)
{
    switch (op) {
    case PQ_OP_ADD:
    case PQ_OP_SUB:
    case PQ_OP_MUL:
    case PQ_OP_DIV:
    case PQ_OP_RELU:
    case PQ_OP_LEAKY_RELU:
    case PQ_OP_CLIP:
    case PQ_OP_SIGMOID:
    case PQ_OP_SILU:
    case PQ_OP_HARD_SIGMOID:
    case PQ_OP_HARD_SWISH:
    case PQ_OP_TANH: return true;
    default: return false;
    }
}

/* The weighted node at the beginning of a chain of elementwise ones. */
static uint32_t weighted_before(const pq_kernel_names *k, const pq_graph *g, const pq_node *n)
{
    for (int i = 0; is_elementwise(n->op) && i < n->n_in; i++) {
        if (n->in[i] == PQ_NONE || g->value[n->in[i]].producer == PQ_NONE) continue;
        const struct pq_name_slot *slot =
            pq_name_map_find(&k->map, g->node[g->value[n->in[i]].producer].name);
        if (!slot) continue;
        const struct pq_kernel_node *p = &k->node[slot->id];
        if (p->weighted) return slot->id;
        if (p->weighted_before != PQ_NONE) return p->weighted_before;
    }
    return PQ_NONE;
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
        to->weighted = n->quant_index >= 0 && pq_op_is_weighted(n->op);
        to->weighted_before = weighted_before(k, g, n);
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

const struct pq_kernel_node *pq_kernel_find(const pq_kernel_names *k, const char *kernel,
                                            const char **rest)
{
    char text[512];
    if (strlen(kernel) >= sizeof text) return NULL;
    memcpy(text, kernel, strlen(kernel) + 1);
    for (size_t n = strlen(text); n > 0;) {
        text[n] = 0;
        const struct pq_name_slot *slot = pq_name_map_find(&k->map, text);
        if (slot && rest) *rest = kernel + n;
        if (slot) return &k->node[slot->id];
        for (n--; n > 0 && text[n] != '/' && text[n] != '_' && text[n] != '.';) n--;
    }
    return NULL;
}

/* "/q", "/dq", "/q_1", "/dq/duplicated", … */
static bool is_pair(const char *rest)
{
    if (rest[0] != '/') return false;
    rest += rest[1] == 'd' ? 2 : 1;
    return rest[0] == 'q' && (!rest[1] || rest[1] == '_' || rest[1] == '/');
}

void pq_kernel_layer(pq_layer *out, const pq_kernel_names *k, const char *kernel, const char *op,
                     const char *impl, pq_kernel_role role)
{
    const char *rest = "";
    const struct pq_kernel_node *n = pq_kernel_find(k, kernel, &rest);
    if (n && role == PQ_KERNEL_OTHER && is_pair(rest)) role = PQ_KERNEL_CONVERTS;
    if (n && role == PQ_KERNEL_COMPUTES && !n->weighted && n->weighted_before != PQ_NONE)
        n = &k->node[n->weighted_before];
    memset(out, 0, sizeof *out);
    snprintf(out->node, sizeof out->node, "%s", n ? n->name : kernel);
    snprintf(out->op, sizeof out->op, "%s",
             role == PQ_KERNEL_CONVERTS   ? PQ_LAYER_CONVERT
             : role == PQ_KERNEL_REORDERS ? PQ_LAYER_REORDER
                                          : op);
    snprintf(out->impl, sizeof out->impl, "%s", impl);
    if (role == PQ_KERNEL_COMPUTES && (!n || n->weighted)) out->macs = n ? n->macs : -1;
}
