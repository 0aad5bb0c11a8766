/**
 * @file sensitivity.h
 * What each operator costs in mAP when it is quantized, measured on the engine.
 */
#ifndef PQUANT_SENSITIVITY_H
#define PQUANT_SENSITIVITY_H

#include <pquant/correct.h>
#include <pquant/evaluate.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Everything that a measurement depends on, all borrowed: must outlive the meter. */
typedef struct pq_meter_opts {
    const pq_engine *engine;
    const pq_graph *graph;
    const pq_ranges *ranges;
    const pq_corrections *corrections; /* that came with the ranges; NULL: none */
    pq_scheme scheme;
    pq_precision base; /* of operators that are not INT8 */
    const pq_dataset *data;
    const pq_coco *coco;
    const pq_prep *prep;
    const pq_head *head;    /* NULL: outputs that nobody can decode. Then coco may be NULL too, and
                               the figure measured in the place of AP is 1 - noise / signal of the
                               outputs against full precision, the others -1 */
    int threads;            /* 0: pq_ctx_threads */
    const char *journal;    /* sensitivity.jsonl: finished measurements are appended, found ones
                               reused; NULL: none */
    size_t max_cache_bytes; /* inputs and states kept; 0: 1.25 GiB */
} pq_meter_opts;

/** Measures assignments of INT8. Threads: one at a time. */
typedef struct pq_meter pq_meter;

/**
 * Decodes and keeps the inputs, reads the journal. A line of it belongs to this meter when its
 * context (a hash of model, ranges, scheme, engine, images, annotations, head) is the same; others
 * stay as they are. Memory: *out is yours. Errors: those of the images; IO, FORMAT (journal).
 */
PQ_API PQ_MUST_USE pq_status pq_meter_new(pq_ctx *ctx, pq_meter **out, const pq_meter_opts *opts);
PQ_API void pq_meter_free(pq_meter *m);
/** Figures with int8[k] for the operator with quant_index k, from the journal or measured now.
 *  Errors: those of compiling and running; IO (journal). */
PQ_API PQ_MUST_USE pq_status pq_meter_measure(pq_ctx *ctx, pq_figures *out, pq_meter *m,
                                              const bool *int8);
/** The plan behind an assignment. Memory: *out is yours. */
PQ_API PQ_MUST_USE pq_status pq_meter_plan(pq_ctx *ctx, pq_plan **out, const pq_meter *m,
                                           const bool *int8);
/** Measurements made (not found) so far. */
PQ_API size_t pq_meter_count(const pq_meter *m);

typedef struct pq_score {
    int index;               /* quant_index */
    const char *name, *type; /* borrowed from the graph */
    double ap_quantized;     /* AP with this operator alone in INT8 */
    double ap_reverted;      /* AP with all but this operator in INT8 */
    double damage; /* mean of both ends: ((ap_base - ap_quantized) + (ap_reverted - ap_int8)) / 2.
                      With unary and pairwise effects alone this is the Shapley value. */
    double mac_share; /* of all quantizable multiply-accumulates; 0 for pooling */
} pq_score;

typedef struct pq_scores {
    double ap_base, ap_int8;
    pq_score *op; /* by index */
    size_t n;
} pq_scores;

/**
 * Measure every operator from both ends. Where the engine can go on from the middle, the part of
 * the network before the first difference is computed once for all.
 * Memory: *out is yours (pq_scores_free). Errors: as pq_meter_measure; CANCELLED.
 */
PQ_API PQ_MUST_USE pq_status pq_sweep(pq_ctx *ctx, pq_scores **out, pq_meter *m);
PQ_API void pq_scores_free(pq_scores *s);

#ifdef __cplusplus
}
#endif
#endif
