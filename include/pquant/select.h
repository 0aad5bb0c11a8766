/**
 * @file select.h
 * Which operators stay in full precision: predicted from sensitivities and times, decided by
 * measuring whole plans on the engine.
 */
#ifndef PQUANT_SELECT_H
#define PQUANT_SELECT_H

#include <pquant/assign.h>
#include <pquant/latency.h>
#include <pquant/sensitivity.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pq_choice {
    uint8_t *label; /* per quant_index */
    size_t n, n_kept;
    pq_measured measured; /* on the engine with this very assignment */
    double predicted, ms; /* of the model: drop, and milliseconds; without a model 0 */
    double int8_mac_share;
    bool within; /* the budget holds */
    bool cut;    /* the meter's deadline ended the search: a faster plan may hold */
} pq_choice;

/**
 * Damage and time of every unit, as pq_problem takes them: labels as pq_latency has them.
 *
 * Damage of INT8 is kappa error^2 (pq_score), kappa such that all of them add up to the drop of the
 * far end (or, where that is less, to its uncertainty); for units whose AP was measured the mean of
 * that and of the measured damage, each weighed by one over its variance; for those aside what they
 * lose alone. Damage is never below 0.
 */
typedef struct pq_model {
    pq_problem problem;
    double *damage, *ms;
    pq_boundary *boundary;
    double kappa;
} pq_model;

/** @param latency NULL: time is arithmetic alone, full precision 1 and INT8 0 for a unit of all the
 *  multiply-accumulates, and nothing for boundaries.
 *  @param half_drop drop of all in half precision, shared evenly; only with three labels.
 *  It is borrowed. Memory: *out is yours (pq_model_clear). Errors: INVALID (latency of other units
 *  or labels), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_model_make(pq_ctx *ctx, pq_model *out, const pq_scores *s,
                                           const pq_latency *latency, double half_drop);
PQ_API void pq_model_clear(pq_model *m);
/**
 * Let what was last measured on whole plans of full precision and INT8 (200 at most) say what the
 * units lose: ridge regression of the drops towards the damages that the model has; how far it may
 * go from them is chosen by five-fold cross-validation. What pq_select_by_drop tried is told to
 * pq_measure_front this way.
 * @param error NULL, or the mean |predicted - measured drop| of plans held out, 0 where there are
 * too few (below 10; the model stays as it is). Errors: NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_model_learn(pq_ctx *ctx, pq_model *m, const pq_scores *s,
                                            const pq_meter *meter, double *error);
/** The assignment of operators that an assignment of units means. */
PQ_API void pq_model_label(const pq_model *m, const pq_units *u, const uint8_t *x, uint8_t *label);

/**
 * The fastest plan by the model whose drop, measured on all images, is at most max_drop: the far
 * end where it holds; else units taken out of it, those first that were measured to help most for
 * their time; else points of the front of the model, from the one predicted to hold, in steps that
 * double and then halve. Then each unit that was kept, the least damage for its time first, is
 * quantized again where the budget still holds without it. A plan is refused after a part of the
 * images where it is certain to fail, and accepted on all of them only. Past the meter's deadline
 * the best plan so far stands; where none held yet, the one predicted to hold is tried, then one
 * predicted to lose half as much, then full precision; cut says that it came to that.
 * @param max_drop AP, 0 .. 1.
 * Memory: clear with pq_choice_clear. Errors: as pq_meter_measure.
 */
PQ_API PQ_MUST_USE pq_status pq_select_by_drop(pq_ctx *ctx, pq_choice *out, pq_meter *m,
                                               const pq_graph *g, const pq_scores *scores,
                                               const pq_model *model, double max_drop);
/** Median latency in ms of an assignment. */
typedef pq_status (*pq_latency_fn)(pq_ctx *ctx, void *user, const uint8_t *label, double *ms);
/**
 * Least predicted damage of the plans whose measured latency is at most max_ms: what the model
 * predicts is corrected by what was measured until it holds. within: it does, for the plan returned
 * (else the fastest). Memory and errors: as above.
 */
PQ_API PQ_MUST_USE pq_status pq_select_by_latency(pq_ctx *ctx, pq_choice *out, pq_meter *m,
                                                  const pq_graph *g, const pq_scores *scores,
                                                  const pq_model *model, double max_ms,
                                                  pq_latency_fn latency, void *user);
/** Measures an assignment that was made elsewhere (a preset, a plan). */
PQ_API PQ_MUST_USE pq_status pq_choose_given(pq_ctx *ctx, pq_choice *out, pq_meter *m,
                                             const pq_graph *g, const uint8_t *label,
                                             double max_drop);
/** Measures up to n points of the model's front, spread over its times, fastest first; fewer past
 *  the deadline. *out: [*n_out]. Memory: free each with pq_choice_clear, the array with pq_free. */
PQ_API PQ_MUST_USE pq_status pq_measure_front(pq_ctx *ctx, pq_choice **out, size_t *n_out,
                                              pq_meter *m, const pq_graph *g,
                                              const pq_scores *scores, const pq_model *model,
                                              size_t n);
PQ_API void pq_choice_clear(pq_choice *c);

/** The original's presets "tiny", "small", "medium": int8[k] for k < n.
 *  Errors: INVALID (no such preset; a model with fewer operators than the preset names). */
PQ_API PQ_MUST_USE pq_status pq_preset(pq_ctx *ctx, bool *int8, size_t n, const char *name);

#ifdef __cplusplus
}
#endif
#endif
