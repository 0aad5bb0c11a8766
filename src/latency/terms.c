/* Units, edges and whose time a layer's is, from the graph. */
#include "latency/terms.h"

#include <string.h>

#include "base/mem.h"
#include "plan/names.h"

void pq_terms_clear(pq_terms *t)
{
    pq_free(t->unit);
    pq_free(t->allowed);
    pq_free(t->macs);
    pq_free(t->edge);
    pq_free(t->of_node);
    pq_free(t->of_value);
    memset(t, 0, sizeof *t);
}

/* ---- units ---- */

static pq_status set_units(pq_ctx *ctx, pq_terms *t, const pq_latency_opts *o)
{
    const uint8_t all = (uint8_t)((1u << t->n_labels) - 1);
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &t->unit, t->n_ops, sizeof *t->unit));
    PQ_TRY(pq_alloc(ctx, &t->allowed, t->n_units, 1));
    PQ_TRY(pq_alloc(ctx, &t->macs, t->n_units, sizeof *t->macs));
    for (size_t k = 0; k < t->n_ops; k++) {
        t->unit[k] = o->unit ? o->unit[k] : k;
        if (t->unit[k] >= t->n_units) {
            st = pq_fail(ctx, PQ_E_INVALID, "operator %zu: unit %zu, expected one below %zu", k,
                         t->unit[k], t->n_units);
            goto out;
        }
    }
    for (size_t u = 0; u < t->n_units; u++) {
        t->allowed[u] = o->allowed ? o->allowed[u] & all : all;
        if (!t->allowed[u]) {
            st = pq_fail(ctx, PQ_E_INVALID, "unit %zu: no precision, expected at least one", u);
            goto out;
        }
    }
    for (size_t i = 0; i < t->graph->n_nodes; i++) {
        const pq_node *n = &t->graph->node[i];
        if (!n->dead && n->quant_index >= 0)
            t->macs[t->unit[n->quant_index]] += (double)pq_node_macs(t->graph, n);
    }
out:
    return st;
}

uint8_t pq_terms_label(const pq_terms *t, size_t u, uint8_t wanted)
{
    for (int l = wanted; l >= 0; l--)
        if (t->allowed[u] >> l & 1) return (uint8_t)l;
    uint8_t l = wanted;
    while (!(t->allowed[u] >> l & 1)) l++;
    return l;
}

/* ---- edges ---- */

typedef struct walk {
    uint32_t *stack, *seen; /* per node: the walk that came by last, from 1 on */
    uint32_t now;
} walk;

/* The quantizable operators whose results reach node b without passing another one: out [n], as
 * quant_index. */
static size_t sources(const pq_graph *g, walk *w, uint32_t b, int *out)
{
    size_t n = 0, top = 0;
    w->now++;
    w->stack[top++] = b;
    while (top) {
        const uint32_t at = w->stack[--top];
        const pq_node *node = &g->node[at];
        if (at != b && node->quant_index >= 0) {
            out[n++] = node->quant_index;
            continue;
        }
        for (int i = 0; i < node->n_in; i++) {
            const pq_value *v = pq_in(g, node, i);
            if (!v || v->producer == PQ_NONE || w->seen[v->producer] == w->now) continue;
            w->seen[v->producer] = w->now;
            w->stack[top++] = v->producer;
        }
    }
    return n;
}

/* Operators of one unit have no edge; several edges between two units are one. */
static pq_status add_edge(pq_ctx *ctx, pq_terms *t, size_t *room, size_t a, size_t b, double count,
                          double mb)
{
    if (a == b) return PQ_OK;
    for (size_t i = t->n_edges; i-- > 0;) {
        pq_latency_edge *e = &t->edge[i];
        if ((e->a == a && e->b == b) || (e->a == b && e->b == a)) {
            e->conversions += count;
            e->mb += mb;
            return PQ_OK;
        }
    }
    if (t->n_edges == *room) {
        const size_t more = *room ? 2 * *room : 64;
        const pq_status st = pq_grow(ctx, &t->edge, *room, more, sizeof *t->edge);
        if (st != PQ_OK) return st;
        *room = more;
    }
    t->edge[t->n_edges++] = (pq_latency_edge){a, b, count, mb, 0};
    return PQ_OK;
}

/* Two rounds: the first counts the readers of each operator, the second shares its result among
 * them. */
static pq_status find_edges(pq_ctx *ctx, pq_terms *t)
{
    const pq_graph *g = t->graph;
    walk w = {0};
    int *from = NULL;
    size_t *readers = NULL, room = 0;
    double *mb = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &w.stack, g->n_nodes + 1, sizeof *w.stack));
    PQ_TRY(pq_alloc(ctx, &w.seen, g->n_nodes + 1, sizeof *w.seen));
    PQ_TRY(pq_alloc(ctx, &from, g->n_nodes + 1, sizeof *from));
    PQ_TRY(pq_alloc(ctx, &readers, t->n_ops, sizeof *readers));
    PQ_TRY(pq_alloc(ctx, &mb, t->n_ops, sizeof *mb));
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < g->n_nodes; i++) {
            const pq_node *b = &g->node[i];
            if (b->dead || b->quant_index < 0) continue;
            const size_t k = (size_t)b->quant_index, n = sources(g, &w, i, from);
            mb[k] = 4e-6 * (double)pq_shape_count(&g->value[b->out[0]].shape);
            for (size_t s = 0; s < n; s++) {
                const size_t a = (size_t)from[s];
                if (!round) readers[a]++;
                if (!round) continue;
                const double share = 1 / (double)readers[a];
                PQ_TRY(add_edge(ctx, t, &room, t->unit[a], t->unit[k], share, share * mb[a]));
            }
        }
out:
    pq_free(w.stack);
    pq_free(w.seen);
    pq_free(from);
    pq_free(readers);
    pq_free(mb);
    return st;
}

/* ---- whose time ---- */

static pq_status find_owners(pq_ctx *ctx, pq_terms *t)
{
    const pq_graph *g = t->graph;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &t->of_node, g->n_nodes, sizeof *t->of_node));
    PQ_TRY(pq_alloc(ctx, &t->of_value, g->n_values, sizeof *t->of_value));
    for (size_t v = 0; v < g->n_values; v++) t->of_value[v] = -1;
    for (size_t i = g->n_nodes; i-- > 0;) { /* readers stand behind: the nearest is seen last */
        const pq_node *n = &g->node[i];
        t->of_node[i] = n->dead ? -1 : n->quant_index;
        for (int k = 0; !n->dead && k < n->n_out && t->of_node[i] < 0; k++)
            t->of_node[i] = t->of_value[n->out[k]];
        for (int k = 0; !n->dead && k < n->n_in; k++)
            if (n->in[k] != PQ_NONE && t->of_node[i] >= 0) t->of_value[n->in[k]] = t->of_node[i];
    }
    for (size_t i = 0; i < g->n_nodes; i++) { /* nobody reads it: who made its input */
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        for (int k = 0; k < n->n_in && t->of_node[i] < 0; k++) {
            const pq_value *v = pq_in(g, n, k);
            if (v && v->producer != PQ_NONE) t->of_node[i] = t->of_node[v->producer];
        }
        for (int k = 0; k < n->n_out; k++)
            if (t->of_value[n->out[k]] < 0) t->of_value[n->out[k]] = t->of_node[i];
    }
out:
    return st;
}

pq_status pq_terms_init(pq_ctx *ctx, pq_terms *t, const pq_latency_opts *o)
{
    pq_status st;
    memset(t, 0, sizeof *t);
    t->graph = o->graph;
    t->n_labels = o->n_labels ? o->n_labels : 2;
    t->n_ops = pq_graph_quantizable_count(o->graph);
    t->n_units = o->unit ? o->n_units : t->n_ops;
    if (t->n_labels < 2 || t->n_labels > 4)
        return pq_fail(ctx, PQ_E_INVALID, "%d precisions, expected 2 .. 4", t->n_labels);
    PQ_TRY(set_units(ctx, t, o));
    PQ_TRY(find_edges(ctx, t));
    st = find_owners(ctx, t);
out:
    return st;
}

pq_status pq_terms_attribute(pq_ctx *ctx, double *ms, double *part, const pq_terms *t,
                             const pq_layer *layer, size_t n)
{
    pq_names nodes = {0}, values = {0};
    double all = 0, found = 0;
    pq_status st;
    PQ_TRY(pq_names_of_nodes(ctx, &nodes, t->graph));
    PQ_TRY(pq_names_of_values(ctx, &values, t->graph));
    memset(ms, 0, t->n_ops * sizeof *ms);
    for (size_t i = 0; i < n; i++) {
        const uint32_t node = pq_names_find(&nodes, layer[i].node),
                       value = pq_names_find(&values, layer[i].node);
        const int k = node != PQ_NONE    ? t->of_node[node]
                      : value != PQ_NONE ? t->of_value[value]
                                         : -1;
        all += layer[i].ms;
        if (k < 0) continue;
        ms[k] += layer[i].ms;
        found += layer[i].ms;
    }
    *part = all > 0 ? found / all : 0;
out:
    pq_names_clear(&nodes);
    pq_names_clear(&values);
    return st;
}

void pq_terms_row(const pq_terms *t, const uint8_t *x, const uint8_t *full, double *row)
{
    const size_t p = pq_terms_n_params(t);
    memset(row, 0, p * sizeof *row);
    for (size_t u = 0; u < t->n_units; u++) {
        if (x[u]) row[pq_terms_param(t, u, x[u])] += 1;
        if (full[u]) row[pq_terms_param(t, u, full[u])] -= 1;
    }
    for (size_t i = 0; i < t->n_edges; i++) {
        const pq_latency_edge *e = &t->edge[i];
        const double change = (double)(x[e->a] != x[e->b]) - (double)(full[e->a] != full[e->b]);
        row[p - 2] += change * e->conversions;
        row[p - 1] += change * e->mb;
    }
}
