/**
 * @file assign.h
 * Precisions for units as an optimisation problem: predicted damage against predicted time.
 *
 * A unit is what changes precision together. Each of n units takes one of n_labels precisions,
 * label 0 the fullest, the last INT8. For an assignment x
 *
 *     damage(x) = sum_u damage[u][x_u] + sum_pairs p * [x_a = x_b = INT8]
 *     ms(x)     = ms_fixed + sum_u ms[u][x_u] + sum_boundaries b * [x_a != x_b]
 *
 * Damage is AP lost and adds up over units but for the pairs that were measured to interact; time
 * adds up but for the conversions at boundaries. For a weight w, damage + w ms is minimised by a
 * minimum cut: exactly for two labels where no pair damage exceeds twice its weighted boundary,
 * else by expansion moves, each of them exact (Boykov, Veksler, Zabih 2001, "Fast approximate
 * energy minimization via graph cuts"), and a search over single changes. Moving w gives the lower
 * convex hull of all (damage, ms).
 */
#ifndef PQUANT_ASSIGN_H
#define PQUANT_ASSIGN_H

#include <pquant/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Milliseconds lost where two units that exchange a tensor differ; >= 0. */
typedef struct pq_boundary {
    size_t a, b;
    double ms;
} pq_boundary;

/** AP lost beyond the sum of both when both are INT8; may be negative. */
typedef struct pq_pair {
    size_t a, b;
    double damage;
} pq_pair;

/** All arrays are borrowed. Every number must be finite. */
typedef struct pq_problem {
    size_t n_units;
    int n_labels;                /* 2 .. 4 */
    const double *damage, *ms;   /* [n_units, n_labels] */
    const pq_boundary *boundary; /* [n_boundaries] */
    const pq_pair *pair;         /* [n_pairs] */
    size_t n_boundaries, n_pairs;
    double ms_fixed;
} pq_problem;

struct pq_latency;
/**
 * Let a latency model (latency.h) say the times: ms and ms_fixed are borrowed from it, *boundary is
 * yours (pq_free). The model's units and labels must be the problem's. Errors: INVALID, NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_problem_set_times(pq_ctx *ctx, pq_problem *p,
                                                  pq_boundary **boundary,
                                                  const struct pq_latency *l);

/** x: a label per unit. */
PQ_API double pq_problem_damage(const pq_problem *p, const uint8_t *x);
PQ_API double pq_problem_ms(const pq_problem *p, const uint8_t *x);

/** Least damage + weight * ms, weight >= 0. x [n_units] is written. Errors: INVALID (a unit that
 *  does not exist, a number that is not finite, a negative boundary), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_problem_minimum(pq_ctx *ctx, uint8_t *x, const pq_problem *p,
                                                double weight);

/** Assignments none of which is beaten in damage and ms by another of them, by falling ms. */
typedef struct pq_front {
    struct pq_front_point {
        double damage, ms;
        bool hull; /* on the lower convex hull: the optimum for some weight */
        uint8_t *x;
    } * at;
    size_t n, room;
} pq_front;

/** The convex hull by minimum cuts, and between its points those that single changes reach.
 *  Memory: *out is yours (pq_front_clear). Errors: as above. */
PQ_API PQ_MUST_USE pq_status pq_problem_front(pq_ctx *ctx, pq_front *out, const pq_problem *p);
PQ_API void pq_front_clear(pq_front *f);

/** Fastest assignment of damage at most `most`: the best point of the front, then single changes
 * and exchanges of two units while they help. false in *found where even the least damage is more
 * (then x has the least damage). Errors: as above. */
PQ_API PQ_MUST_USE pq_status pq_problem_fastest(pq_ctx *ctx, uint8_t *x, bool *found,
                                                const pq_problem *p, double most);
/** Likewise the least damage within `most` milliseconds (else the least ms). */
PQ_API PQ_MUST_USE pq_status pq_problem_most_accurate(pq_ctx *ctx, uint8_t *x, bool *found,
                                                      const pq_problem *p, double most);

#ifdef __cplusplus
}
#endif
#endif
