/**
 * @file bench.h
 * Latency of sessions, interleaved: rows take turns (A B C A B C …), so that whatever else the
 * machine does falls on all of them alike and their ratios hold. In its turn a row runs twice and
 * the second run is timed: it finds its own data in the caches, not the other rows', and the times
 * do not depend on how many rows there are.
 *
 * One run is what trtexec calls host latency without the copies of a GPU: a float32 NCHW tensor in
 * memory to all outputs in memory; with an image given, its bytes to boxes after suppression.
 */
#ifndef PQUANT_BENCH_H
#define PQUANT_BENCH_H

#include <pquant/detect.h>
#include <pquant/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Milliseconds. Percentile p of n runs is the one at place ceil(p n / 100) in order (nearest
 *  rank); the median of an even number is the mean of the middle two. */
typedef struct pq_bench_times {
    double min, median, p90, p95, p99;
} pq_bench_times;

/** One thing to measure. The first three are given, the rest is filled in. */
typedef struct pq_bench_row {
    pq_session *session;
    const char *engine;    /* as it shall be called */
    const char *precision; /* likewise */
    pq_bench_times ms;
    double per_second; /* images: batch / median */
    double ratio;  /* median of the first row / this median: how many times as fast as the first */
    double paired; /* median over the rounds of this time / the first row's: what drifts cancels */
    double convolutions_ms; /* median of the weighted steps alone, back to back; 0: not measured */
    double over_convolutions; /* median / convolutions_ms; 0: not measured */
    double device_ms; /* median of the device's own time, copies not counted; 0: not measured */
} pq_bench_row;

/** An encoded picture and what is done with it, for end-to-end runs. */
typedef struct pq_bench_image {
    const void *bytes;
    size_t n_bytes;
    const char *name; /* stands in messages */
    const pq_prep *prep;
    const pq_head *head;
} pq_bench_image;

/** Zero means default. */
typedef struct pq_bench_opts {
    int runs;               /* timed runs of each row; 0: 100 */
    int warm_up;            /* rounds that are not timed; 0: 10, but at most as many as runs */
    bool convolutions;      /* fill convolutions_ms where the engine can */
    const pq_tensor *input; /* one per input of the sessions, whose shapes must be equal */
    size_t n_inputs;
    const pq_bench_image *image; /* not NULL: end to end; the input is not used then */
} pq_bench_opts;

/**
 * Measure. Progress goes by "bench".
 * Errors: INVALID (no rows, inputs that do not fit), those of pq_run and the image, CANCELLED.
 */
PQ_API PQ_MUST_USE pq_status pq_bench(pq_ctx *ctx, pq_bench_row *row, size_t n_rows,
                                      const pq_bench_opts *opts);

/**
 * Median time of every step over some runs timed step by step. Such runs are slower than whole
 * ones: each step is waited for. Memory: *out is yours (pq_free via pq_bench_layers_free).
 * Errors: UNSUPPORTED (an engine that cannot tell), NOMEM, those of its runs.
 */
PQ_API PQ_MUST_USE pq_status pq_bench_layers(pq_ctx *ctx, pq_layer **out, size_t *n, pq_session *s,
                                             const pq_tensor *input, size_t n_inputs, int runs);
PQ_API void pq_bench_layers_free(pq_layer *l);

/** Sorts v. Errors: none; n > 0. */
PQ_API pq_bench_times pq_bench_summary(double *v, size_t n);

/** Input tensors for a session: whole numbers 0 .. 255, the same on every machine. Memory: *out is
 *  yours (pq_bench_input_free). */
PQ_API PQ_MUST_USE pq_status pq_bench_input(pq_ctx *ctx, pq_tensor **out, const pq_session *s);
PQ_API void pq_bench_input_free(pq_tensor *in, const pq_session *s);

#ifdef __cplusplus
}
#endif
#endif
