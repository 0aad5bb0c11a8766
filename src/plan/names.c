/* Name look-up by binary search. */
#include "plan/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct pq_name *)a)->name, ((const struct pq_name *)b)->name);
}

pq_status pq_names_of_values(pq_ctx *ctx, pq_names *out, const pq_graph *g)
{
    pq_status st = pq_alloc(ctx, &out->entry, g->n_values, sizeof *out->entry);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < g->n_values; i++)
        out->entry[out->n++] = (struct pq_name){g->value[i].name, (uint32_t)i};
    qsort(out->entry, out->n, sizeof *out->entry, by_name);
    return PQ_OK;
}

pq_status pq_names_of_nodes(pq_ctx *ctx, pq_names *out, const pq_graph *g)
{
    pq_status st = pq_alloc(ctx, &out->entry, g->n_nodes, sizeof *out->entry);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead) out->entry[out->n++] = (struct pq_name){g->node[i].name, (uint32_t)i};
    qsort(out->entry, out->n, sizeof *out->entry, by_name);
    return PQ_OK;
}

void pq_names_clear(pq_names *n)
{
    pq_free(n->entry);
    *n = (pq_names){0};
}

uint32_t pq_names_find(const pq_names *n, const char *name)
{
    struct pq_name key = {name, 0};
    const struct pq_name *e = bsearch(&key, n->entry, n->n, sizeof *n->entry, by_name);
    return e ? e->id : PQ_NONE;
}
