/**
 * @file calibrate.h
 * Activation ranges from images, and plans from ranges.
 */
#ifndef PQUANT_CALIBRATE_H
#define PQUANT_CALIBRATE_H

#include <pquant/data.h>
#include <pquant/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How a range is chosen from what was seen. AUTO picks per tensor: see docs/quantization.md. */
typedef enum pq_calibrator {
    PQ_CALIB_AUTO = 0,   /* least squared error of what the operators behind compute */
    PQ_CALIB_MAX,        /* all that was seen */
    PQ_CALIB_PERCENTILE, /* 99.99 % of it */
    PQ_CALIB_ENTROPY,    /* least Kullback-Leibler divergence (Migacz 2017, TensorRT) */
    PQ_CALIB_MSE         /* least squared error */
} pq_calibrator;
PQ_API const char *pq_calibrator_name(pq_calibrator c);
/** Errors: INVALID (the names that exist). */
PQ_API PQ_MUST_USE pq_status pq_calibrator_parse(pq_ctx *ctx, pq_calibrator *out, const char *name);

/** Range of one value, for either scheme. */
typedef struct pq_range {
    char *name;
    float min, max;       /* seen */
    float amax;           /* s8: reals -amax .. amax; > 0 */
    float lo, hi;         /* u8: reals lo .. hi; lo <= 0 <= hi, lo < hi */
    pq_calibrator method; /* that gave them */
    /* What was seen, for advice; 0: not known. */
    float rms;
    float kurtosis; /* mean of x^4 over the square of that of x^2: 3 where normal around 0 */
    float outlier;  /* largest magnitude in any channel over the median channel's */
} pq_range;

typedef struct pq_ranges {
    pq_range *range;
    size_t n;
    pq_calibrator calibrator;
    size_t n_images;
    char graph_hash[65];
} pq_ranges;

/** Zero means default. */
typedef struct pq_calibrate_opts {
    pq_calibrator calibrator;
    double percentile; /* 0: 99.99 */
    int threads;
} pq_calibrate_opts;

/**
 * Run the data set through `engine` in float32 and choose a range for every value that an all-INT8
 * plan quantizes. Memory: histograms of 8192 bins a value, one image at a time; *out is yours.
 * Errors: INVALID (engine without taps), those of the images, FORMAT (a value that is not finite),
 * CANCELLED.
 */
PQ_API PQ_MUST_USE pq_status pq_calibrate(pq_ctx *ctx, pq_ranges **out, const pq_engine *engine,
                                          const pq_graph *g, const pq_dataset *data,
                                          const pq_prep *prep, const pq_calibrate_opts *opts);
/** The same for n calibrators in one pass over the images: out [n] (that of opts does not count).
 */
PQ_API PQ_MUST_USE pq_status pq_calibrate_each(pq_ctx *ctx, pq_ranges **out,
                                               const pq_calibrator *method, size_t n,
                                               const pq_engine *engine, const pq_graph *g,
                                               const pq_dataset *data, const pq_prep *prep,
                                               const pq_calibrate_opts *opts);
PQ_API void pq_ranges_free(pq_ranges *r);
/** NULL if the value was not calibrated. Borrowed. */
PQ_API const pq_range *pq_ranges_find(const pq_ranges *r, const char *name);
/** ranges.json. Errors: IO, FORMAT. */
PQ_API PQ_MUST_USE pq_status pq_ranges_save(pq_ctx *ctx, const pq_ranges *r, const char *path);
PQ_API PQ_MUST_USE pq_status pq_ranges_load(pq_ctx *ctx, pq_ranges **out, const char *path);

/**
 * A plan from ranges. int8[k] says whether the operator with quant_index k is INT8; the rest run
 * as `base`. Which values get a scale, and which share one: docs/quantization.md.
 * Memory: *out is yours. Errors: INVALID (a value without a range; ranges of another graph).
 */
PQ_API PQ_MUST_USE pq_status pq_plan_make(pq_ctx *ctx, pq_plan **out, const pq_graph *g,
                                          const pq_ranges *r, const bool *int8, pq_scheme scheme,
                                          pq_precision base);

/**
 * Give a scale to the result of every INT8 weighted node that an integer kernel can write (linear
 * or behind a ReLU or Clip; not what the network gives out) and let the plan round its outputs: for
 * engines whose INT8 kernels write integers only. Errors: INVALID (a value without a range), NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_plan_round_outputs(pq_ctx *ctx, pq_plan *plan, const pq_graph *g,
                                                   const pq_ranges *r);

#ifdef __cplusplus
}
#endif
#endif
