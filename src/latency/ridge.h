/** @file ridge.h  Least squares towards a prior. */
#ifndef PQ_LATENCY_RIDGE_H
#define PQ_LATENCY_RIDGE_H

#include "base/mem.h"

/** n observations y of p parameters: y = x theta + noise. All borrowed. */
typedef struct pq_ridge {
    size_t n, p;
    const double *x, *y, *sd;     /* [n, p], [n], [n]: sd > 0 is the noise of each */
    const double *prior, *spread; /* [p]: theta is near prior, give or take spread > 0 */
    size_t first_nonneg;          /* parameters from here on are at least 0 */
    const int *fold;              /* [n]: in 0 .. PQ_RIDGE_FOLDS-1, or -1: never held out */
} pq_ridge;

enum { PQ_RIDGE_FOLDS = 5 };

/**
 * theta [p] minimises sum ((y - x theta) / sd)^2 + sum ((theta - prior) / (trust spread))^2 over
 * the observations outside of fold `without` (-1: all), with theta >= 0 where asked: parameters
 * that come out negative are held at 0 and the rest solved again. Errors: NOMEM, INTERNAL.
 */
PQ_MUST_USE pq_status pq_ridge_solve(pq_ctx *ctx, double *theta, const pq_ridge *r, double trust,
                                     int without);
/** The trust, of some powers of two, under which observations held out are predicted best; their
 *  predictions go to held [n], 0 for those of no fold. */
PQ_MUST_USE pq_status pq_ridge_choose(pq_ctx *ctx, double *trust, double *held, const pq_ridge *r);

#endif
