/** @file terms.h  What a latency model has terms for: units, and the edges between them. */
#ifndef PQ_LATENCY_TERMS_H
#define PQ_LATENCY_TERMS_H

#include <pquant/latency.h>

typedef struct pq_terms {
    const pq_graph *graph;
    size_t n_ops, n_units;
    int n_labels;
    size_t *unit;     /* per quant_index */
    uint8_t *allowed; /* per unit, at least one bit */
    double *macs;     /* per unit */
    pq_latency_edge *edge;
    size_t n_edges;
    /* Who answers for the time of what has no precision of its own: the nearest operator that reads
     * it, else the nearest that it reads. Quant_index, -1: nobody. */
    int *of_node, *of_value;
} pq_terms;

/** Errors: INVALID (units or labels that do not exist, a unit without a precision), NOMEM. Clear
 *  also after a failure. */
PQ_MUST_USE pq_status pq_terms_init(pq_ctx *ctx, pq_terms *t, const pq_latency_opts *o);
void pq_terms_clear(pq_terms *t);

/** The label of unit u where `wanted` is: that one or else the nearest fuller one, else the fullest
 *  that there is. */
uint8_t pq_terms_label(const pq_terms *t, size_t u, uint8_t wanted);
/** Layer times by operator [n_ops]; returns the part of all the time that found its operator. */
PQ_MUST_USE pq_status pq_terms_attribute(pq_ctx *ctx, double *ms, double *part, const pq_terms *t,
                                         const pq_layer *layer, size_t n);

/* Parameters of the fit: what unit u loses or gains at label l > 0 against 0, then alpha and beta.
 */
static inline size_t pq_terms_n_params(const pq_terms *t)
{
    return t->n_units * (size_t)(t->n_labels - 1) + 2;
}
static inline size_t pq_terms_param(const pq_terms *t, size_t u, int label)
{
    return u * (size_t)(t->n_labels - 1) + (size_t)label - 1;
}
/** The row [n_params] of an assignment of labels to units: its time against the fullest one is the
 *  product with the parameters. full: the fullest one. */
void pq_terms_row(const pq_terms *t, const uint8_t *x, const uint8_t *full, double *row);

#endif
