/* Most sensitive first, until the budget holds; then back what was not needed. */
#include <pquant/select.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void pq_choice_clear(pq_choice *c)
{
    pq_free(c->int8);
    memset(c, 0, sizeof *c);
}

typedef struct rank {
    size_t op;
    double worth; /* damage for the arithmetic it takes */
} rank;

static int by_worth(const void *a, const void *b)
{
    const rank *x = a, *y = b;
    if (x->worth != y->worth) return x->worth < y->worth ? 1 : -1;
    return x->op < y->op ? -1 : 1;
}

/* An operator of no arithmetic still costs its conversions: the average operator's share is added.
 */
static void order_by_worth(rank *order, const pq_scores *s)
{
    for (size_t i = 0; i < s->n; i++)
        order[i] = (rank){i, s->op[i].damage / (s->op[i].mac_share + 1.0 / (double)s->n)};
    qsort(order, s->n, sizeof *order, by_worth);
}

static pq_status measure(pq_ctx *ctx, pq_choice *c, pq_meter *m, double least, bool *holds)
{
    pq_status st = pq_meter_measure(ctx, &c->figures, m, c->int8);
    *holds = st == PQ_OK && c->figures.v[PQ_FIG_AP] >= least;
    return st;
}

static void keep_first(pq_choice *c, const rank *order, size_t n_kept)
{
    memset(c->int8, 1, c->n);
    for (size_t i = 0; i < n_kept; i++) c->int8[order[i].op] = false;
}

/* The least prefix of the ranking that holds: doubling, then halving. AP need not rise with every
 * operator kept, so the answer is one that was measured to hold, not one that was inferred. */
static pq_status find_prefix(pq_ctx *ctx, pq_choice *c, pq_meter *m, const rank *order,
                             double least, size_t *n_kept)
{
    size_t low = 0, high = 0;
    bool holds = false;
    pq_status st;
    for (;;) {
        keep_first(c, order, high);
        PQ_TRY(measure(ctx, c, m, least, &holds));
        if (holds || high == c->n) break;
        low = high + 1;
        high = high ? 2 * high : 1;
        if (high > c->n) high = c->n;
    }
    while (low < high) {
        const size_t middle = (low + high) / 2;
        keep_first(c, order, middle);
        PQ_TRY(measure(ctx, c, m, least, &holds));
        if (holds)
            high = middle;
        else
            low = middle + 1;
    }
    *n_kept = high;
    keep_first(c, order, high);
out:
    return st;
}

static pq_status prune(pq_ctx *ctx, pq_choice *c, pq_meter *m, const rank *order, size_t n_kept,
                       double least)
{
    pq_status st = PQ_OK;
    for (size_t i = n_kept; i-- > 0 && n_kept < c->n;) {
        bool holds;
        PQ_TRY(pq_progress(ctx, "select", n_kept - i, n_kept));
        c->int8[order[i].op] = true;
        PQ_TRY(measure(ctx, c, m, least, &holds));
        if (!holds) c->int8[order[i].op] = false;
    }
out:
    return st;
}

static void count(pq_choice *c, const pq_graph *g)
{
    double all = 0, int8 = 0;
    c->n_kept = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead || n->quant_index < 0) continue;
        const double macs = (double)pq_node_macs(g, n);
        all += macs;
        if (c->int8[n->quant_index])
            int8 += macs;
        else
            c->n_kept++;
    }
    c->int8_mac_share = all > 0 ? int8 / all : 0;
}

pq_status pq_choose_given(pq_ctx *ctx, pq_choice *out, pq_meter *m, const pq_graph *g,
                          const bool *int8, double ap_least)
{
    memset(out, 0, sizeof *out);
    out->n = pq_graph_quantizable_count(g);
    pq_status st = pq_alloc(ctx, &out->int8, out->n, 1);
    if (st != PQ_OK) return st;
    memcpy(out->int8, int8, out->n);
    count(out, g);
    st = measure(ctx, out, m, ap_least, &out->within);
    if (st != PQ_OK) pq_choice_clear(out);
    return st;
}

pq_status pq_select_by_drop(pq_ctx *ctx, pq_choice *out, pq_meter *m, const pq_graph *g,
                            const pq_scores *s, double max_drop)
{
    const double least = s->ap_base - max_drop;
    rank *order = NULL;
    size_t n_kept = 0;
    pq_status st;
    memset(out, 0, sizeof *out);
    out->n = s->n;
    PQ_TRY(pq_alloc(ctx, &out->int8, s->n, 1));
    PQ_TRY(pq_alloc(ctx, &order, s->n, sizeof *order));
    order_by_worth(order, s);
    PQ_TRY(find_prefix(ctx, out, m, order, least, &n_kept));
    PQ_TRY(prune(ctx, out, m, order, n_kept, least));
    PQ_TRY(measure(ctx, out, m, least, &out->within));
    count(out, g);
out:
    pq_free(order);
    if (st != PQ_OK) pq_choice_clear(out);
    return st;
}

pq_status pq_select_by_latency(pq_ctx *ctx, pq_choice *out, pq_meter *m, const pq_graph *g,
                               const pq_scores *s, double max_ms, pq_latency_fn latency, void *user)
{
    rank *order = NULL;
    size_t low = 0, high, n_kept = 0;
    double ms;
    bool holds;
    pq_status st;
    memset(out, 0, sizeof *out);
    out->n = high = s->n;
    PQ_TRY(pq_alloc(ctx, &out->int8, s->n, 1));
    PQ_TRY(pq_alloc(ctx, &order, s->n, sizeof *order));
    order_by_worth(order, s);
    /* The longest prefix of the ranking that is fast enough; operators that INT8 helps stay INT8.
     */
    while (high > 0 && order[high - 1].worth <= 0) high--;
    while (low < high) {
        const size_t middle = (low + high + 1) / 2;
        keep_first(out, order, middle);
        PQ_TRY(latency(ctx, user, out->int8, &ms));
        if (ms <= max_ms)
            low = n_kept = middle;
        else
            high = middle - 1;
    }
    keep_first(out, order, n_kept);
    PQ_TRY(latency(ctx, user, out->int8, &ms));
    PQ_TRY(measure(ctx, out, m, -1, &holds));
    out->within = ms <= max_ms;
    count(out, g);
out:
    pq_free(order);
    if (st != PQ_OK) pq_choice_clear(out);
    return st;
}
