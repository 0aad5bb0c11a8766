/* Assignments in random segments. */
#include "latency/design.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

void pq_design_uniform(const pq_terms *t, uint8_t label, uint8_t *x)
{
    for (size_t u = 0; u < t->n_units; u++) x[u] = pq_terms_label(t, u, label);
}

void pq_design_spread(const pq_terms *t, const uint8_t *x, uint8_t *label)
{
    for (size_t k = 0; k < t->n_ops; k++) label[k] = x[t->unit[k]];
}

/* The i-th term of the van der Corput sequence: 1/2, 1/4, 3/4, 1/8, … fill [0, 1) evenly however
 * many are taken. */
static double even(size_t i)
{
    double step = 0.5, v = 0;
    for (i++; i; i >>= 1, step /= 2)
        if (i & 1) v += step;
    return v;
}

static uint8_t draw(pq_rng *r, int n_labels, double density)
{
    const uint8_t int8 = (uint8_t)(n_labels - 1);
    return pq_rng_double(r) < density ? int8 : (uint8_t)pq_rng_below(r, int8);
}

pq_status pq_design_random(pq_ctx *ctx, const pq_terms *t, size_t index, uint8_t *x)
{
    enum { LENGTHS = 7 }; /* no multiple of a power of two: lengths and densities mix */
    pq_rng r = {0x6c6174656e637900u + index};
    const double longest = fmax(1, (double)t->n_units / 3),
                 part = (double)(index % LENGTHS) / (LENGTHS - 1), length = pow(longest, part),
                 density = sqrt(even(index));
    bool *done = NULL;
    uint8_t label = draw(&r, t->n_labels, density);
    pq_status st = pq_alloc(ctx, &done, t->n_units, 1);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < t->graph->n_nodes; i++) {
        const pq_node *n = &t->graph->node[i];
        if (n->dead || n->quant_index < 0 || done[t->unit[n->quant_index]]) continue;
        const size_t u = t->unit[n->quant_index];
        if (pq_rng_double(&r) * length < 1) label = draw(&r, t->n_labels, density);
        x[u] = pq_terms_label(t, u, label);
        done[u] = true;
    }
    for (size_t u = 0; u < t->n_units; u++) /* a unit of no operator */
        if (!done[u]) x[u] = pq_terms_label(t, u, 0);
    pq_free(done);
    return PQ_OK;
}
