/* Dinic's algorithm: breadth-first levels, then depth-first augmenting along them. */
#include "select/mincut.h"

#include <float.h>
#include <string.h>

/* Arcs come in pairs: arc i and its reverse i ^ 1. */
typedef struct arc {
    size_t to, next; /* next arc of the same tail, NONE at the end */
    double room;
} arc;

struct pq_cut {
    size_t n, n_arcs;
    arc *arc;
    size_t *first, *at; /* per node; at: where the depth-first search stands */
    size_t *queue, *path;
    int *level;
    double *terminal; /* > 0: from the source; < 0: to the sink */
};

#define NONE SIZE_MAX

pq_status pq_cut_new(pq_ctx *ctx, pq_cut **out, size_t n, size_t n_edges)
{
    pq_cut *c = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &c, 1, sizeof *c));
    c->n = n + 2;
    PQ_TRY(pq_alloc(ctx, &c->arc, 2 * (n_edges + n), sizeof *c->arc));
    PQ_TRY(pq_alloc(ctx, &c->first, c->n, sizeof *c->first));
    PQ_TRY(pq_alloc(ctx, &c->at, c->n, sizeof *c->at));
    PQ_TRY(pq_alloc(ctx, &c->queue, c->n, sizeof *c->queue));
    PQ_TRY(pq_alloc(ctx, &c->path, c->n, sizeof *c->path));
    PQ_TRY(pq_alloc(ctx, &c->level, c->n, sizeof *c->level));
    PQ_TRY(pq_alloc(ctx, &c->terminal, n, sizeof *c->terminal));
    for (size_t i = 0; i < c->n; i++) c->first[i] = NONE;
    *out = c;
    c = NULL;
out:
    pq_cut_free(c);
    return st;
}

void pq_cut_free(pq_cut *c)
{
    if (!c) return;
    pq_free(c->arc);
    pq_free(c->first);
    pq_free(c->at);
    pq_free(c->queue);
    pq_free(c->path);
    pq_free(c->level);
    pq_free(c->terminal);
    pq_free(c);
}

static void add_arc(pq_cut *c, size_t from, size_t to, double room)
{
    c->arc[c->n_arcs] = (arc){to, c->first[from], room};
    c->first[from] = c->n_arcs++;
    c->arc[c->n_arcs] = (arc){from, c->first[to], 0};
    c->first[to] = c->n_arcs++;
}

void pq_cut_node(pq_cut *c, size_t a, double on_sink_side) { c->terminal[a] += on_sink_side; }

void pq_cut_edge(pq_cut *c, size_t a, size_t b, double cost)
{
    if (cost > 0) add_arc(c, a, b, cost);
}

/* Levels from the source; is the sink reached? */
static bool levels(pq_cut *c, size_t source, size_t sink, double least)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) c->level[i] = -1;
    c->level[source] = 0;
    c->queue[n++] = source;
    for (size_t i = 0; i < n; i++)
        for (size_t a = c->first[c->queue[i]]; a != NONE; a = c->arc[a].next)
            if (c->arc[a].room > least && c->level[c->arc[a].to] < 0) {
                c->level[c->arc[a].to] = c->level[c->queue[i]] + 1;
                c->queue[n++] = c->arc[a].to;
            }
    return c->level[sink] >= 0;
}

/* Push along the n arcs of c->path what the narrowest of them takes. */
static void push(pq_cut *c, size_t n)
{
    double most = DBL_MAX;
    for (size_t i = 0; i < n; i++)
        if (c->arc[c->path[i]].room < most) most = c->arc[c->path[i]].room;
    for (size_t i = 0; i < n; i++) {
        c->arc[c->path[i]].room -= most;
        c->arc[c->path[i] ^ 1].room += most;
    }
}

/* All augmenting paths along the levels. */
static void augment(pq_cut *c, size_t source, size_t sink, double least)
{
    size_t n = 0, node = source;
    memcpy(c->at, c->first, c->n * sizeof *c->at);
    for (;;) {
        if (node == sink) {
            push(c, n);
            n = 0;
            node = source;
        }
        size_t a = c->at[node];
        while (a != NONE &&
               !(c->arc[a].room > least && c->level[c->arc[a].to] == c->level[node] + 1))
            a = c->arc[a].next;
        c->at[node] = a;
        if (a != NONE) {
            c->path[n++] = a;
            node = c->arc[a].to;
        } else {
            if (!n) return;
            node = c->arc[c->path[--n] ^ 1].to;
            c->at[node] = c->arc[c->at[node]].next;
        }
    }
}

void pq_cut_solve(pq_cut *c, bool *sink_side)
{
    const size_t source = c->n - 2, sink = c->n - 1;
    double largest = 0;
    for (size_t i = 0; i < source; i++) {
        if (c->terminal[i] > 0) add_arc(c, source, i, c->terminal[i]);
        if (c->terminal[i] < 0) add_arc(c, i, sink, -c->terminal[i]);
    }
    for (size_t a = 0; a < c->n_arcs; a++)
        if (c->arc[a].room > largest) largest = c->arc[a].room;
    const double least = 1e-12 * largest;
    while (levels(c, source, sink, least)) augment(c, source, sink, least);
    for (size_t i = 0; i < source; i++) sink_side[i] = c->level[i] < 0;
}
