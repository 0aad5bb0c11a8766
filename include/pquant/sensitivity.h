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

/** Precision of a quantizable operator. An assignment is a label for each, by quant_index. */
enum {
    PQ_LABEL_FULL = 0, /* FP32 */
    PQ_LABEL_HALF = 1, /* pq_meter_opts.half */
    PQ_LABEL_INT8 = 2,
    PQ_LABELS = 3
};

/** Everything that a measurement depends on, all borrowed: must outlive the meter. */
typedef struct pq_meter_opts {
    const pq_engine *engine;
    const pq_graph *graph;
    const pq_ranges *ranges;
    const pq_corrections *corrections; /* that came with the ranges; NULL: none */
    pq_scheme scheme;
    pq_precision half; /* BF16 or FP16: what PQ_LABEL_HALF means; FP32: there is no such label */
    const pq_dataset *data;
    const pq_coco *coco;
    const pq_prep *prep;
    const pq_head *head;    /* NULL: outputs that nobody can decode. Then coco may be NULL too, and
                               the figure measured in the place of AP is 1 - noise / signal of the
                               outputs against full precision, the others -1 */
    int threads;            /* 0: pq_ctx_threads */
    size_t screen_images;   /* of screening; 0: 32, or what a deadline allows (pq_sweep_for) */
    const char *journal;    /* sensitivity.jsonl: finished measurements are appended, found ones
                               reused; NULL: none */
    size_t max_cache_bytes; /* inputs and states kept; 0: 1.25 GiB */
    double deadline;        /* seconds of CLOCK_MONOTONIC after which nothing new is begun; 0: none
                             */
} pq_meter_opts;

/** What an assignment loses, and how sure that is. */
typedef struct pq_measured {
    pq_figures figures; /* on the images measured */
    double drop;        /* AP of full precision less AP, on these images */
    double low, high;   /* 95 % interval of drop: paired bootstrap over images (evaluate.h) */
    size_t n_images;
    bool whole; /* all images; else it stopped when the drop was certain to be too large */
    double seconds;
} pq_measured;

/** Measures assignments. Threads: one at a time. */
typedef struct pq_meter pq_meter;

/**
 * Decodes and keeps the inputs, reads the journal. A line of it belongs to this meter when its
 * context (a hash of model, ranges, scheme, engine, images, annotations, head) is the same; others
 * stay as they are. Memory: *out is yours. Errors: those of the images; IO, FORMAT (journal).
 */
PQ_API PQ_MUST_USE pq_status pq_meter_new(pq_ctx *ctx, pq_meter **out, const pq_meter_opts *opts);
PQ_API void pq_meter_free(pq_meter *m);
/**
 * Measure an assignment, or take it from the journal.
 * @param give_up a drop: stop after a part of the images where the drop is above that with its
 * whole interval (INFINITY: never). Errors: those of compiling and running; IO (journal).
 */
PQ_API PQ_MUST_USE pq_status pq_meter_measure(pq_ctx *ctx, pq_measured *out, pq_meter *m,
                                              const uint8_t *label, double give_up);
/**
 * How far detections move from those of full precision, on a few images spread over the set:
 * sum of s (s (1 - IoU) + |s - s'|) over detections of score s and their counterparts of score s',
 * and of s'^2 over those that have none, by the sum of s^2. 0: unchanged. A cheap stand-in for the
 * drop of AP. Without a head 1 - the figure that stands for AP. Errors: as pq_meter_measure.
 */
PQ_API PQ_MUST_USE pq_status pq_meter_screen(pq_ctx *ctx, double *error, pq_meter *m,
                                             const uint8_t *label);
/** The plan behind an assignment. Memory: *out is yours. */
PQ_API PQ_MUST_USE pq_status pq_meter_plan(pq_ctx *ctx, pq_plan **out, const pq_meter *m,
                                           const uint8_t *label);
/** Measurements made (not found) so far. */
PQ_API size_t pq_meter_count(const pq_meter *m);
/** The i-th whole measurement known, of this run or an earlier one: label [number of operators] and
 *  what it lost. false: there are fewer. */
PQ_API bool pq_meter_known(const pq_meter *m, size_t i, uint8_t *label, pq_measured *out);
/** Another deadline, 0: none. Returns the one before. */
PQ_API double pq_meter_set_deadline(pq_meter *m, double deadline);
/** Would another measurement of average length end after the deadline? */
PQ_API bool pq_meter_late(const pq_meter *m);

/** Operators that change precision together. */
typedef struct pq_units {
    size_t n, n_ops;
    uint32_t *of; /* [n_ops] unit of each operator, rising with the first operator of each */
    bool *fixed;  /* [n]: the engine cannot run it in INT8 */
} pq_units;
/** A pooling takes the precision of the operator that makes its input; the engine is asked what it
 *  can run in INT8. Memory: *out is yours (pq_units_clear). Errors: NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_units_find(pq_ctx *ctx, pq_units *out, const pq_graph *g,
                                           const pq_engine *engine);
PQ_API void pq_units_clear(pq_units *u);

/** One unit from both ends: alone in INT8, and alone in full precision. */
typedef struct pq_score {
    int index;                          /* quant_index of the unit's first operator */
    const char *name, *type;            /* of it; borrowed from the graph */
    double mac_share;                   /* of all quantizable multiply-accumulates; 0 for pooling */
    bool screened, measured;            /* which of the following are known */
    bool aside;                         /* alone it surely loses more than the budget */
    double error_alone, error_reverted; /* of pq_meter_screen; reverted from the far end */
    double error;        /* what it adds; squares add: root of the mean of both ends' squares, where
                            the far end says more than chance */
    double ap_quantized; /* AP with this unit alone in INT8 */
    double ap_reverted;  /* AP at the far end without this unit */
    double damage;       /* mean of both ends: ((ap_base - ap_quantized) + (ap_reverted - ap_far))
                            / 2. With unary and pairwise effects alone this is the Shapley value.
                            aside: of the first end alone, on the images of screening */
    double low, high;    /* 95 % interval of damage */
} pq_score;

typedef struct pq_scores {
    pq_measured base, int8; /* nothing, and every unit that can be, in INT8 */
    pq_measured far;        /* the far end: every unit that can be but those aside */
    double error_far;       /* of pq_meter_screen with that in INT8; where screened */
    pq_units units;
    pq_score *unit; /* [units.n] */
    bool *aside;    /* [units.n], as pq_score has it */
} pq_scores;

typedef enum pq_sweep_kind {
    PQ_SWEEP_NONE,   /* the two ends alone */
    PQ_SWEEP_SCREEN, /* pq_meter_screen of every unit */
    PQ_SWEEP_AP,     /* AP of every unit */
} pq_sweep_kind;

/**
 * Measure every unit from both ends. Where the engine can go on from the middle, the part of the
 * network before the first difference is computed once for all. Past the deadline units stay
 * unmeasured.
 * Memory: *out is yours (pq_scores_free). Errors: as pq_meter_measure; CANCELLED.
 */
PQ_API PQ_MUST_USE pq_status pq_sweep(pq_ctx *ctx, pq_scores **out, pq_meter *m,
                                      pq_sweep_kind kind);
/**
 * Screening for a budget. Units are tried alone in INT8 first. Where all-INT8 loses more than
 * max_drop, those that surely lose more than that alone, by AP on the images of screening, are set
 * aside: they stay in full precision at the far end, from which the others are reverted, because in
 * a network that has collapsed nothing can be seen of them. With a deadline screening takes as few
 * images (at least 8) as end it within a share of the time that is left when both ends are known.
 * What is left over is given the mean error.
 * Memory and errors: as pq_sweep. INVALID (max_drop is not above 0).
 */
PQ_API PQ_MUST_USE pq_status pq_sweep_for(pq_ctx *ctx, pq_scores **out, pq_meter *m,
                                          double max_drop, double share);
/** The same for a part of the units, so that n processes that know nothing of each other share the
 *  work: those whose number leaves shard - 1 when divided by n_shards (shard 1 .. n_shards), and
 *  what the journal knows of the others. Errors: as above; INVALID (no such shard). */
PQ_API PQ_MUST_USE pq_status pq_sweep_shard(pq_ctx *ctx, pq_scores **out, pq_meter *m,
                                            pq_sweep_kind kind, size_t shard, size_t n_shards);
/** What pq_journal_merge found. */
typedef struct pq_merged {
    size_t n_lines, n_new; /* in the result; of these not in `to` before */
    size_t n_repeated;     /* the same measurement once more: left out */
    size_t n_torn;         /* no whole line: left out */
} pq_merged;
/**
 * Journals into one: the lines of `to`, if it exists, then those of each file, of any context. `to`
 * appears when it is whole, and stays as it is on failure. Errors: FORMAT (two files have the same
 * measurement with different figures); IO.
 */
PQ_API PQ_MUST_USE pq_status pq_journal_merge(pq_ctx *ctx, pq_merged *out, const char *to,
                                              const char *const *from, size_t n);
/** AP of the units named, in addition to what s holds. Errors: as above. */
PQ_API PQ_MUST_USE pq_status pq_sweep_more(pq_ctx *ctx, pq_scores *s, pq_meter *m,
                                           const bool *wanted);
/** The assignment in which the units with int8[u] run in INT8. label: [n_ops]. */
PQ_API void pq_units_label(const pq_units *u, const bool *int8, uint8_t *label);
PQ_API void pq_scores_free(pq_scores *s);

#ifdef __cplusplus
}
#endif
#endif
