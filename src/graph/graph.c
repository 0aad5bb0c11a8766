/* Building, copying, editing and compacting graphs. */
#include <pquant/graph.h>

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "graph/name_map.h"

static const struct {
    const char *name;
    int min_in, max_in, n_out;
} op_info[PQ_OP_COUNT] = {
#define X(id, text, lo, hi, outs) {text, lo, hi, outs},
#include <pquant/op.def>
};

const char *pq_op_name(pq_op op) { return (unsigned)op < PQ_OP_COUNT ? op_info[op].name : "?"; }

pq_status pq_graph_new(pq_ctx *ctx, pq_graph **out)
{
    pq_status st = pq_alloc(ctx, out, 1, sizeof **out);
    if (st != PQ_OK) return st;
    st = pq_arena_new(ctx, &(*out)->arena);
    if (st != PQ_OK) {
        pq_free(*out);
        *out = NULL;
        return st;
    }
    (*out)->family = "";
    return PQ_OK;
}

void pq_graph_free(pq_graph *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->n_values; i++) pq_buf_unref(g->value[i].data);
    pq_free(g->value);
    pq_free(g->node);
    pq_arena_free(g->arena);
    pq_free(g);
}

pq_status pq_graph_add_value(pq_ctx *ctx, pq_value_id *out, pq_graph *g, const char *name,
                             pq_dtype dtype, const pq_shape *shape)
{
    pq_status st;
    *out = PQ_NONE;
    g->hash[0] = 0;
    if (g->n_values == g->room_values) {
        size_t room = g->room_values ? 2 * g->room_values : 256;
        if ((st = pq_grow(ctx, &g->value, g->n_values, room, sizeof *g->value)) != PQ_OK) return st;
        g->room_values = room;
    }
    pq_value v = {.dtype = dtype, .producer = PQ_NONE};
    if (name)
        st = pq_arena_strdup(ctx, g->arena, &v.name, name);
    else
        st = pq_arena_printf(ctx, g->arena, &v.name, "value_%zu", g->n_values);
    if (st != PQ_OK) return st;
    if (shape) v.shape = *shape;
    g->value[g->n_values] = v;
    *out = (pq_value_id)g->n_values++;
    return PQ_OK;
}

pq_status pq_graph_add_const(pq_ctx *ctx, pq_value_id *out, pq_graph *g, const char *name,
                             pq_dtype dtype, const pq_shape *shape, pq_buf *data)
{
    int64_t n = pq_shape_count(shape);
    *out = PQ_NONE;
    if (n < 0 || (uint64_t)n > pq_buf_bytes(data) / pq_dtype_size(dtype))
        return pq_fail(ctx, PQ_E_FORMAT, "constant '%s': %zu bytes, expected %lld elements of %s",
                       name ? name : "", pq_buf_bytes(data), (long long)n, pq_dtype_name(dtype));
    pq_status st = pq_graph_add_value(ctx, out, g, name, dtype, shape);
    if (st == PQ_OK) g->value[*out].data = pq_buf_ref(data);
    return st;
}

pq_status pq_graph_add_node(pq_ctx *ctx, pq_node_id *out, pq_graph *g, const char *name, pq_op op,
                            const char *type, const pq_value_id *in, int n_in, int n_out,
                            const char *out_name, const pq_attr *attr)
{
    pq_status st;
    g->hash[0] = 0;
    pq_node n = {.op = op, .quant_index = -1, .n_in = n_in, .n_out = n_out};
    *out = PQ_NONE;
    if (n_in < op_info[op].min_in || n_in > op_info[op].max_in || n_out < 1 ||
        n_out > op_info[op].n_out)
        return pq_fail(ctx, PQ_E_FORMAT,
                       "node '%s' (%s): %d inputs and %d outputs, expected %d to %d and 1 to %d",
                       name, op_info[op].name, n_in, n_out, op_info[op].min_in, op_info[op].max_in,
                       op_info[op].n_out);
    if (g->n_nodes == g->room_nodes) {
        size_t room = g->room_nodes ? 2 * g->room_nodes : 128;
        if ((st = pq_grow(ctx, &g->node, g->n_nodes, room, sizeof *g->node)) != PQ_OK) return st;
        g->room_nodes = room;
    }
    if ((st = pq_arena_strdup(ctx, g->arena, &n.name, name)) != PQ_OK) return st;
    if ((st = pq_arena_strdup(ctx, g->arena, &n.type, type ? type : op_info[op].name)) != PQ_OK)
        return st;
    if ((st = pq_arena_alloc(ctx, g->arena, &n.in, (size_t)n_in, sizeof *n.in)) != PQ_OK) return st;
    if ((st = pq_arena_alloc(ctx, g->arena, &n.out, (size_t)n_out, sizeof *n.out)) != PQ_OK)
        return st;
    for (int i = 0; i < n_in; i++) n.in[i] = in[i];
    if (attr) n.attr = *attr;
    const pq_node_id id = (pq_node_id)g->n_nodes;
    for (int i = 0; i < n_out; i++) {
        char text[512];
        if (i)
            snprintf(text, sizeof text, "%s.%d", out_name ? out_name : name, i);
        else
            snprintf(text, sizeof text, "%s", out_name ? out_name : name);
        if ((st = pq_graph_add_value(ctx, &n.out[i], g, text, PQ_F32, NULL)) != PQ_OK) return st;
        g->value[n.out[i]].producer = id;
    }
    g->node[g->n_nodes++] = n;
    *out = id;
    return PQ_OK;
}

static pq_status set_ids(pq_ctx *ctx, pq_graph *g, pq_value_id **to, size_t *n_to,
                         const pq_value_id *v, size_t n)
{
    pq_value_id *p;
    g->hash[0] = 0;
    pq_status st = pq_arena_alloc(ctx, g->arena, &p, n, sizeof *p);
    if (st != PQ_OK) return st;
    if (n) memcpy(p, v, n * sizeof *p);
    *to = p;
    *n_to = n;
    return PQ_OK;
}

pq_status pq_graph_set_inputs(pq_ctx *ctx, pq_graph *g, const pq_value_id *v, size_t n)
{
    return set_ids(ctx, g, &g->input, &g->n_inputs, v, n);
}

pq_status pq_graph_set_outputs(pq_ctx *ctx, pq_graph *g, const pq_value_id *v, size_t n)
{
    return set_ids(ctx, g, &g->output, &g->n_outputs, v, n);
}

pq_value_id pq_graph_find_value(const pq_graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_values; i++)
        if (strcmp(g->value[i].name, name) == 0) return (pq_value_id)i;
    return PQ_NONE;
}

pq_node_id pq_graph_find_node(const pq_graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && strcmp(g->node[i].name, name) == 0) return (pq_node_id)i;
    return PQ_NONE;
}

size_t pq_graph_count_readers(const pq_graph *g, pq_value_id v)
{
    size_t count = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        for (int k = 0; !n->dead && k < n->n_in; k++)
            if (n->in[k] == v) {
                count++;
                break;
            }
    }
    return count;
}

bool pq_graph_is_output(const pq_graph *g, pq_value_id v)
{
    for (size_t i = 0; i < g->n_outputs; i++)
        if (g->output[i] == v) return true;
    return false;
}

void pq_graph_mark_absent(const pq_graph *g, bool *mark)
{
    for (size_t v = 0; v < g->n_values; v++) mark[v] = false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        bool absent = n->op == PQ_OP_NON_MAX_SUPPRESSION || n->op == PQ_OP_NON_ZERO;
        for (int k = 0; k < n->n_in; k++)
            absent = absent || (n->in[k] != PQ_NONE && mark[n->in[k]]);
        for (int k = 0; !n->dead && k < n->n_out; k++) mark[n->out[k]] = absent;
    }
}

void pq_graph_replace_value(pq_graph *g, pq_value_id from, pq_value_id to)
{
    g->hash[0] = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == from) g->node[i].in[k] = to;
    for (size_t i = 0; i < g->n_outputs; i++)
        if (g->output[i] == from) g->output[i] = to;
}

/* Kahn's algorithm, taking ready nodes in their present order, so that an ordered graph stays. */
static pq_status order_nodes(pq_ctx *ctx, const pq_graph *g, pq_node_id *order, size_t *n_order)
{
    bool *done = NULL;
    pq_status st = pq_alloc(ctx, &done, g->n_nodes, 1);
    if (st != PQ_OK) return st;
    size_t n = 0, live = 0;
    for (size_t i = 0; i < g->n_nodes; i++) live += !g->node[i].dead;
    for (bool moved = true; moved && n < live;) {
        moved = false;
        for (size_t i = 0; i < g->n_nodes; i++) {
            const pq_node *node = &g->node[i];
            bool ready = !node->dead && !done[i];
            for (int k = 0; ready && k < node->n_in; k++) {
                if (node->in[k] == PQ_NONE) continue;
                pq_node_id p = g->value[node->in[k]].producer;
                ready = p == PQ_NONE || done[p];
            }
            if (!ready) continue;
            done[i] = moved = true;
            order[n++] = (pq_node_id)i;
        }
    }
    pq_free(done);
    if (n != live) return pq_fail(ctx, PQ_E_FORMAT, "the graph has a cycle");
    *n_order = n;
    return PQ_OK;
}

pq_status pq_graph_compact(pq_ctx *ctx, pq_graph *g)
{
    pq_status st;
    pq_node_id *order = NULL, *node_map = NULL;
    pq_value_id *value_map = NULL;
    pq_node *node = NULL;
    size_t n_order = 0, n_values = 0;
    g->hash[0] = 0;
    PQ_TRY(pq_alloc(ctx, &order, g->n_nodes, sizeof *order));
    PQ_TRY(pq_alloc(ctx, &node_map, g->n_nodes, sizeof *node_map));
    PQ_TRY(pq_alloc(ctx, &value_map, g->n_values, sizeof *value_map));
    PQ_TRY(pq_alloc(ctx, &node, g->n_nodes, sizeof *node));
    PQ_TRY(order_nodes(ctx, g, order, &n_order));

    /* Commit: nothing below can fail. */
    memset(value_map, 0, g->n_values * sizeof *value_map); /* 1: used */
    for (size_t i = 0; i < g->n_inputs; i++) value_map[g->input[i]] = 1;
    for (size_t i = 0; i < g->n_outputs; i++) value_map[g->output[i]] = 1;
    for (size_t i = 0; i < n_order; i++) {
        node[i] = g->node[order[i]];
        node_map[order[i]] = (pq_node_id)i;
        for (int k = 0; k < node[i].n_in; k++)
            if (node[i].in[k] != PQ_NONE) value_map[node[i].in[k]] = 1;
        for (int k = 0; k < node[i].n_out; k++) value_map[node[i].out[k]] = 1;
    }
    for (size_t i = 0; i < g->n_values; i++) {
        pq_value v = g->value[i];
        if (!value_map[i]) {
            pq_buf_unref(v.data);
            continue;
        }
        if (v.producer != PQ_NONE) v.producer = node_map[v.producer];
        value_map[i] = (pq_value_id)n_values;
        g->value[n_values++] = v;
    }
    for (size_t i = 0; i < n_order; i++) {
        for (int k = 0; k < node[i].n_in; k++)
            if (node[i].in[k] != PQ_NONE) node[i].in[k] = value_map[node[i].in[k]];
        for (int k = 0; k < node[i].n_out; k++) node[i].out[k] = value_map[node[i].out[k]];
        g->node[i] = node[i];
    }
    for (size_t i = 0; i < g->n_inputs; i++) g->input[i] = value_map[g->input[i]];
    for (size_t i = 0; i < g->n_outputs; i++) g->output[i] = value_map[g->output[i]];
    g->n_values = n_values;
    g->n_nodes = n_order;
out:
    pq_free(order);
    pq_free(node_map);
    pq_free(value_map);
    pq_free(node);
    return st;
}

pq_status pq_graph_copy(pq_ctx *ctx, pq_graph **out, const pq_graph *g)
{
    pq_status st;
    pq_graph *c = NULL;
    *out = NULL;
    PQ_TRY(pq_graph_new(ctx, &c));
    for (size_t i = 0; i < g->n_values; i++) {
        pq_value_id id;
        const pq_value *v = &g->value[i];
        PQ_TRY(pq_graph_add_value(ctx, &id, c, v->name, v->dtype, &v->shape));
        c->value[id].data = pq_buf_ref(v->data);
        c->value[id].producer = v->producer;
    }
    PQ_TRY(pq_alloc(ctx, &c->node, g->n_nodes ? g->n_nodes : 1, sizeof *c->node));
    c->room_nodes = g->n_nodes ? g->n_nodes : 1;
    for (size_t i = 0; i < g->n_nodes; i++) {
        pq_node n = g->node[i];
        size_t n_in = (size_t)n.n_in, n_out = (size_t)n.n_out;
        PQ_TRY(pq_arena_strdup(ctx, c->arena, &n.name, n.name));
        PQ_TRY(pq_arena_strdup(ctx, c->arena, &n.type, n.type));
        PQ_TRY(set_ids(ctx, c, &n.in, &n_in, g->node[i].in, n_in));
        PQ_TRY(set_ids(ctx, c, &n.out, &n_out, g->node[i].out, n_out));
        c->node[c->n_nodes++] = n;
    }
    PQ_TRY(pq_graph_set_inputs(ctx, c, g->input, g->n_inputs));
    PQ_TRY(pq_graph_set_outputs(ctx, c, g->output, g->n_outputs));
    PQ_TRY(pq_arena_strdup(ctx, c->arena, &c->family, g->family));
    if (g->meta) {
        size_t n = 0;
        while (g->meta[n]) n++;
        const char **m;
        PQ_TRY(pq_arena_alloc(ctx, c->arena, &m, n + 1, sizeof *m));
        for (size_t i = 0; i < n; i++) PQ_TRY(pq_arena_strdup(ctx, c->arena, &m[i], g->meta[i]));
        m[n] = NULL;
        c->meta = m;
    }
    c->opset = g->opset;
    memcpy(c->hash, g->hash, sizeof c->hash);
    *out = c;
    c = NULL;
out:
    pq_graph_free(c);
    return st;
}

static pq_status verify_node(pq_ctx *ctx, const pq_graph *g, size_t i)
{
    const pq_node *n = &g->node[i];
    if (n->n_in < op_info[n->op].min_in || n->n_in > op_info[n->op].max_in || n->n_out < 1 ||
        n->n_out > op_info[n->op].n_out)
        return pq_fail(ctx, PQ_E_INTERNAL, "node '%s': %d inputs and %d outputs", n->name, n->n_in,
                       n->n_out);
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] == PQ_NONE) continue;
        PQ_ASSERT(ctx, n->in[k] < g->n_values);
        const pq_value *v = &g->value[n->in[k]];
        if (v->producer != PQ_NONE && (v->producer >= i || g->node[v->producer].dead))
            return pq_fail(ctx, PQ_E_INTERNAL,
                           "node '%s': input '%s' is made after it or by a removed node", n->name,
                           v->name);
    }
    for (int k = 0; k < n->n_out; k++)
        PQ_ASSERT(ctx, n->out[k] < g->n_values && g->value[n->out[k]].producer == i);
    return PQ_OK;
}

static pq_status verify_value(pq_ctx *ctx, const pq_value *v)
{
    char text[160];
    const int64_t n = pq_shape_count(&v->shape);
    if (n < 0 || (v->data && (uint64_t)n > pq_buf_bytes(v->data) / pq_dtype_size(v->dtype)))
        return pq_fail(ctx, PQ_E_INTERNAL, "value '%s': shape %s, %zu bytes", v->name,
                       pq_shape_text(&v->shape, text, sizeof text), pq_buf_bytes(v->data));
    return PQ_OK;
}

pq_status pq_graph_verify(pq_ctx *ctx, const pq_graph *g)
{
    pq_status st = PQ_OK;
    pq_name_map nodes = {0}, values = {0};
    struct pq_name_slot *slot;
    bool is_new = true;
    for (size_t i = 0; i < g->n_nodes; i++) {
        if (g->node[i].dead) continue;
        PQ_TRY(verify_node(ctx, g, i));
        PQ_TRY(pq_name_map_add(ctx, &nodes, &slot, g->node[i].name, &is_new));
        if (!is_new) {
            st = pq_fail(ctx, PQ_E_INTERNAL, "two nodes are called '%s'", g->node[i].name);
            goto out;
        }
    }
    for (size_t i = 0; i < g->n_values; i++) {
        PQ_TRY(verify_value(ctx, &g->value[i]));
        PQ_TRY(pq_name_map_add(ctx, &values, &slot, g->value[i].name, &is_new));
        if (!is_new) {
            st = pq_fail(ctx, PQ_E_INTERNAL, "two values are called '%s'", g->value[i].name);
            goto out;
        }
    }
out:
    pq_name_map_clear(&nodes);
    pq_name_map_clear(&values);
    return st;
}

void pq_graph_mark_quantizable(pq_graph *g)
{
    int index = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        pq_node *n = &g->node[i];
        bool q = false;
        switch (n->op) {
        case PQ_OP_MAX_POOL: q = true; break;
        case PQ_OP_CONV:
        case PQ_OP_CONV_TRANSPOSE:
        case PQ_OP_GEMM:
        case PQ_OP_MATMUL: q = n->n_in > 1 && n->in[1] != PQ_NONE && g->value[n->in[1]].data; break;
        default: break;
        }
        n->quant_index = q && !n->dead ? index++ : -1;
    }
}

size_t pq_graph_quantizable_count(const pq_graph *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++) n += !g->node[i].dead && g->node[i].quant_index >= 0;
    return n;
}

pq_node_id pq_graph_quantizable(const pq_graph *g, int quant_index)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && g->node[i].quant_index == quant_index) return (pq_node_id)i;
    return PQ_NONE;
}

static void hash_text(pq_sha256 *s, const char *t) { pq_sha256_add(s, t, strlen(t) + 1); }
static void hash_int(pq_sha256 *s, int64_t v) { pq_sha256_add(s, &v, sizeof v); }

static void hash_attr(pq_sha256 *s, const pq_attr *a)
{
    const pq_window *w = &a->window;
    for (int i = 0; i < 2; i++) {
        hash_int(s, w->kernel[i]), hash_int(s, w->stride[i]), hash_int(s, w->dilation[i]);
        hash_int(s, w->out_pad[i]);
    }
    for (int i = 0; i < 4; i++) hash_int(s, w->pad[i]);
    hash_int(s, w->groups), hash_int(s, w->ceil_mode), hash_int(s, w->count_include_pad);
    hash_int(s, a->act), hash_int(s, a->axis), hash_int(s, a->keepdims), hash_int(s, a->n_axes);
    pq_sha256_add(s, &a->alpha, sizeof a->alpha);
    pq_sha256_add(s, &a->beta, sizeof a->beta);
    pq_sha256_add(s, &a->eps, sizeof a->eps);
    pq_sha256_add(s, a->scale, sizeof a->scale);
    hash_int(s, a->trans_a), hash_int(s, a->trans_b);
    for (int i = 0; i < PQ_MAX_RANK; i++) {
        hash_int(s, a->axes[i]), hash_int(s, a->perm[i]);
        hash_int(s, a->begin[i]), hash_int(s, a->step[i]);
    }
    pq_sha256_add(s, &a->pad_value, sizeof a->pad_value);
    hash_int(s, a->to), hash_int(s, a->resize), hash_int(s, a->coord), hash_int(s, a->nearest);
    hash_int(s, a->levels), hash_int(s, a->reg_max);
    for (int i = 0; i < a->levels && i < 8; i++) hash_int(s, a->strides[i]);
    /* Later additions: graphs without them keep the hash that plans and ranges were made for. */
    const int64_t rest[] = {a->largest, a->last, a->fmod, a->center, a->batch_dims};
    for (int i = 0; i < 5; i++)
        if (rest[i]) hash_int(s, i), hash_int(s, rest[i]);
}

void pq_graph_seal(pq_graph *g)
{
    g->hash[0] = 0;
    pq_graph_hash(g, g->hash);
}

void pq_graph_hash(const pq_graph *g, char hex[65])
{
    pq_sha256 s;
    if (g->hash[0]) {
        memmove(hex, g->hash, sizeof g->hash);
        return;
    }
    pq_sha256_init(&s);
    for (size_t i = 0; i < g->n_values; i++) {
        const pq_value *v = &g->value[i];
        hash_text(&s, v->name);
        hash_int(&s, v->dtype), hash_int(&s, v->shape.rank);
        for (int k = 0; k < v->shape.rank; k++) hash_int(&s, v->shape.dim[k]);
        if (v->data)
            pq_sha256_add(&s, pq_buf_data(v->data),
                          (size_t)pq_shape_count(&v->shape) * pq_dtype_size(v->dtype));
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        hash_text(&s, n->name);
        hash_text(&s, pq_op_name(n->op));
        for (int k = 0; k < n->n_in; k++) hash_int(&s, n->in[k]);
        for (int k = 0; k < n->n_out; k++) hash_int(&s, n->out[k]);
        hash_attr(&s, &n->attr);
    }
    for (size_t i = 0; i < g->n_outputs; i++) hash_int(&s, g->output[i]);
    pq_sha256_hex(&s, hex);
}

int64_t pq_node_macs(const pq_graph *g, const pq_node *n)
{
    if (n->op != PQ_OP_CONV && n->op != PQ_OP_CONV_TRANSPOSE && n->op != PQ_OP_GEMM &&
        n->op != PQ_OP_MATMUL)
        return 0;
    const pq_shape *x = &pq_in(g, n, 0)->shape, *w = &pq_in(g, n, 1)->shape,
                   *y = &pq_out_value(g, n, 0)->shape;
    int64_t outputs = pq_shape_count(y);
    switch (n->op) {
    case PQ_OP_CONV: return outputs * w->dim[1] * w->dim[2] * w->dim[3];
    case PQ_OP_CONV_TRANSPOSE: return pq_shape_count(x) * w->dim[1] * w->dim[2] * w->dim[3];
    case PQ_OP_GEMM: return outputs * (n->attr.trans_a ? x->dim[0] : x->dim[1]);
    default: return x->rank ? outputs * x->dim[x->rank - 1] : 0;
    }
}
