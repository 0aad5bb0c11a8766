/**
 * @file select.h
 * Which operators stay in full precision.
 */
#ifndef PQUANT_SELECT_H
#define PQUANT_SELECT_H

#include <pquant/sensitivity.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pq_choice {
    bool *int8; /* per quant_index */
    size_t n, n_kept;
    pq_figures figures; /* measured on the engine with this very assignment */
    double int8_mac_share;
    bool within; /* the budget holds */
} pq_choice;

/**
 * The most sensitive operators, by damage for the arithmetic they take, stay in full precision
 * until AP >= ap_base - max_drop on a full evaluation; then each of them, the least sensitive
 * first, is quantized again where the budget still holds without it.
 * @param max_drop AP, 0..1.
 * Memory: clear with pq_choice_clear. Errors: as pq_meter_measure.
 */
PQ_API PQ_MUST_USE pq_status pq_select_by_drop(pq_ctx *ctx, pq_choice *out, pq_meter *m,
                                               const pq_graph *g, const pq_scores *scores,
                                               double max_drop);
/** Median latency in ms of an assignment. */
typedef pq_status (*pq_latency_fn)(pq_ctx *ctx, void *user, const bool *int8, double *ms);
/**
 * The most sensitive operators stay in full precision as long as the measured latency is at most
 * max_ms. within: it is, for the plan returned. Memory and errors: as above.
 */
PQ_API PQ_MUST_USE pq_status pq_select_by_latency(pq_ctx *ctx, pq_choice *out, pq_meter *m,
                                                  const pq_graph *g, const pq_scores *scores,
                                                  double max_ms, pq_latency_fn latency, void *user);
/** Measures an assignment that was made elsewhere (a preset, a plan). */
PQ_API PQ_MUST_USE pq_status pq_choose_given(pq_ctx *ctx, pq_choice *out, pq_meter *m,
                                             const pq_graph *g, const bool *int8, double ap_least);
PQ_API void pq_choice_clear(pq_choice *c);

/** The original's presets "tiny", "small", "medium": int8[k] for k < n.
 *  Errors: INVALID (no such preset; a model with fewer operators than the preset names). */
PQ_API PQ_MUST_USE pq_status pq_preset(pq_ctx *ctx, bool *int8, size_t n, const char *name);

#ifdef __cplusplus
}
#endif
#endif
