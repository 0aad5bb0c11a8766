/* The terms of a latency model as those of an assignment problem. */
#include <pquant/assign.h>
#include <pquant/latency.h>

#include "base/mem.h"

pq_status pq_problem_set_times(pq_ctx *ctx, pq_problem *p, pq_boundary **boundary,
                               const pq_latency *l)
{
    *boundary = NULL;
    if (l->n_units != p->n_units || l->n_labels != p->n_labels)
        return pq_fail(ctx, PQ_E_INVALID,
                       "latency model of %zu units and %d precisions, expected %zu and %d",
                       l->n_units, l->n_labels, p->n_units, p->n_labels);
    const pq_status st = pq_alloc(ctx, boundary, l->n_edges, sizeof **boundary);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < l->n_edges; i++)
        (*boundary)[i] = (pq_boundary){l->edge[i].a, l->edge[i].b, l->edge[i].ms};
    p->ms = l->ms;
    p->ms_fixed = l->ms_fixed;
    p->boundary = *boundary;
    p->n_boundaries = l->n_edges;
    return PQ_OK;
}
