/** @file linear.h  Dense linear algebra of the size that one operator needs: the second moments of
 *  its inputs and systems with them. Sums have a fixed order, whatever the number of threads. */
#ifndef PQ_CORRECT_LINEAR_H
#define PQ_CORRECT_LINEAR_H

#include "base/ctx.h"

/** h [k, k] = x x' / m for x [k, m], whose rows begin `stride` floats apart; all of it is written,
 *  not just one triangle. Sums run in float over pieces of 1024, in double over these.
 *  Errors: NOMEM. */
PQ_MUST_USE pq_status pq_linear_gram(pq_ctx *ctx, double *h, const float *x, size_t k, size_t m,
                                     size_t stride, int threads);
/** c [o, k] = y x' / m for y [o, m], rows `stride` apart too. Errors: NOMEM. */
PQ_MUST_USE pq_status pq_linear_cross(pq_ctx *ctx, double *c, const float *y, size_t o,
                                      const float *x, size_t k, size_t m, size_t stride,
                                      int threads);
/** Lower Cholesky factor of a [k, k], in place in its lower triangle. A pivot that is not positive
 *  becomes 1 and its column 0. */
PQ_MUST_USE pq_status pq_linear_factor(pq_ctx *ctx, double *a, size_t k, int threads);
/** Solve (l l') x = b in place, b [k]. */
void pq_linear_solve(double *b, const double *l, size_t k);
double pq_linear_dot(const double *a, const double *b, size_t n);

#endif
