/** @file solver.h  A problem made ready for many minimisations. */
#ifndef PQ_SELECT_SOLVER_H
#define PQ_SELECT_SOLVER_H

#include <pquant/assign.h>

#include "base/mem.h"

/** What two units share. */
typedef struct pq_term {
    size_t a, b;
    double ms, damage; /* where they differ; where both are INT8 */
} pq_term;

typedef struct pq_solver {
    const pq_problem *p;
    pq_term *term;
    size_t n_terms;
    uint8_t *trial; /* [n_units] */
    bool *move;     /* [n_units] */
} pq_solver;

/** Errors: those of pq_problem_minimum. Clear also after a failure. */
PQ_MUST_USE pq_status pq_solver_init(pq_ctx *ctx, pq_solver *s, const pq_problem *p);
void pq_solver_clear(pq_solver *s);
PQ_MUST_USE pq_status pq_solver_minimum(pq_ctx *ctx, uint8_t *x, pq_solver *s, double weight);

#endif
