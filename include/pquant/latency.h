/**
 * @file latency.h
 * What a plan's precisions cost in time on an engine, as a model fitted to measurements.
 *
 * A unit is what changes precision together. For an assignment x of precisions (labels) to units
 *
 *     ms(x) = ms_fixed + sum_u ms[u][x_u] + sum_edges e.ms [x_a != x_b]
 *     e.ms  = conversions alpha_ms + beta_ms_per_mb MB
 *
 * where an edge stands for a tensor that unit a gives to unit b, through operators that have no
 * precision of their own. The prior of each unit is its difference in the engine's own times per
 * layer; whole networks are then timed in turn under plans whose precisions change in random
 * segments, and the terms fitted to these times by ridge regression towards the prior. A segment is
 * what pays for its two boundaries, so one operator flipped alone says little (arXiv:2505.13060).
 */
#ifndef PQUANT_LATENCY_H
#define PQUANT_LATENCY_H

#include <pquant/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Where times come from. Labels are by quant_index: 0 the fullest precision, n_labels - 1 INT8. */
typedef struct pq_latency_source {
    void *user;
    /** Times in ms of n assignments that took turns. */
    pq_status (*time)(pq_ctx *ctx, void *user, const uint8_t *const *label, size_t n, double *ms);
    /** Times per layer of one assignment, freed with pq_free. UNSUPPORTED where there are none.
     *  NULL: likewise. */
    pq_status (*layers)(pq_ctx *ctx, void *user, const uint8_t *label, pq_layer **out, size_t *n);
} pq_latency_source;

/** Zero means default. Everything is borrowed. */
typedef struct pq_latency_opts {
    const pq_engine *engine;
    const pq_graph *graph;
    int n_labels; /* 0: 2; at most 4 */
    /** The plan of an assignment, labels by quant_index. */
    pq_status (*plan)(pq_ctx *ctx, void *user, const uint8_t *label, pq_plan **out);
    void *plan_user;
    const size_t *unit; /* per quant_index: its unit, 0 .. n_units-1; NULL: each its own */
    size_t n_units;
    const uint8_t *allowed; /* per unit: bit 1 << label for each that the engine runs; NULL: all */
    const char *key;        /* what else times depend on: scheme, scales, corrections */
    int threads;            /* 0: pq_ctx_threads */
    int runs;               /* timed runs a plan; 0: 15 */
    size_t n_plans;         /* random ones at most; 0: 64 */
    double good;            /* enough where 95 % of held-out plans are this near; 0: 0.02 */
    double seconds;         /* no further plans are begun then; 0: no limit */
    const char *journal;    /* latency.jsonl: every plan timed is appended, found ones are used;
                               NULL: none */
    const pq_latency_source *source; /* NULL: the engine */
} pq_latency_opts;

typedef struct pq_latency_edge {
    size_t a, b;        /* units, a != b */
    double conversions; /* how many; a tensor with k readers counts 1/k for each */
    double mb;          /* 1e6 bytes as float32, shared likewise */
    double ms;          /* >= 0, where the precisions differ */
} pq_latency_edge;

/** How well the model predicts. Errors are |predicted - measured| / measured. */
typedef struct pq_latency_fit {
    size_t n_plans;          /* random ones that were timed; below 10 nothing is held out */
    double r2;               /* of times of plans held out, five-fold; 0: not known */
    double error, error95;   /* likewise: median and 95th percentile */
    double prior_error;      /* median, of the layers' own times alone */
    double noise;            /* relative spread of the all-INT8 plan timed again and again */
    double full_ms, int8_ms; /* measured: the fullest precisions, all INT8 */
    double alpha_ms, beta_ms_per_mb;
    double seconds; /* spent on timing, by all runs that added to the journal */
} pq_latency_fit;

typedef struct pq_latency {
    char context[65]; /* hash of graph, engine, version, device, threads and key */
    size_t n_units;
    int n_labels;
    double ms_fixed;
    double *ms; /* [n_units, n_labels] */
    pq_latency_edge *edge;
    size_t n_edges;
    pq_latency_fit fit;
} pq_latency;

/**
 * Time plans and fit. Resumed from the journal; the plans timed depend on their number alone.
 * Progress goes by "latency". Memory: *out is yours (pq_latency_free).
 * Errors: INVALID (options), those of the plans, compiling and running; IO (journal); CANCELLED.
 */
PQ_API PQ_MUST_USE pq_status pq_latency_measure(pq_ctx *ctx, pq_latency **out,
                                                const pq_latency_opts *opts);
PQ_API void pq_latency_free(pq_latency *l);

/** Predicted ms. label: per unit. */
PQ_API double pq_latency_predict(const pq_latency *l, const uint8_t *label);

/** What the times depend on, as *out of a measurement with these options has it. Errors: those of
 *  probing the engine. */
PQ_API PQ_MUST_USE pq_status pq_latency_context(pq_ctx *ctx, char hex[65],
                                                const pq_latency_opts *opts);

/** latency.json. Errors: IO; FORMAT (member, found, expected). */
PQ_API PQ_MUST_USE pq_status pq_latency_save(pq_ctx *ctx, const pq_latency *l, const char *path);
PQ_API PQ_MUST_USE pq_status pq_latency_load(pq_ctx *ctx, pq_latency **out, const char *path);

#ifdef __cplusplus
}
#endif
#endif
