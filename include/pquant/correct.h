/**
 * @file correct.h
 * Corrections of scales and weights, so that an operator is kept in float for what INT8 does to it
 * and not for a bad scale.
 *
 *  - Equalisation: channels of a tensor are brought to like magnitudes by powers of two, taken from
 *    the weights that write a channel and given to those that read it, through operators that let a
 *    positive factor pass. The float network computes the same numbers, bit for bit.
 *  - Re-encoding: where an activation lets no factor pass (SiLU), a channel's pre-activation z may
 *    be stored as f(gain z + shift) instead of f(z), and be read as back f(gain z + shift) + level.
 *    Not exact; done channel by channel where it makes the error of what is computed from the
 *    tensor smaller, quantization included.
 *  - Reconstruction: weights on their grid and biases that give, on the quantized inputs of
 *    calibration images, what the float operator gives on its own inputs. Operator by operator,
 *    in order, so that each sees its inputs as they will be.
 *
 * No labels are used. Results depend on model, images and options, not on the number of threads.
 * Sources: Nagel et al. 2019, arXiv:1906.04721 (equalisation, bias correction); Nagel et al. 2020,
 * arXiv:2004.10568 and Frantar et al. 2022, arXiv:2210.17323 (rounding by reconstruction).
 */
#ifndef PQUANT_CORRECT_H
#define PQUANT_CORRECT_H

#include <pquant/calibrate.h>
#include <pquant/detect.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One value whose channels were equalised. Bits of the common grid that the average channel does
 *  not use: the mean of log2(largest reach / reach). */
typedef struct pq_equalized {
    char *value;
    double bits_before, bits;
} pq_equalized;

/** One value whose channels are re-encoded; arrays of [n]. */
typedef struct pq_encoding {
    char *value;
    size_t n;
    float *gain, *shift, *back, *level;
    double error_before, error; /* of what is computed from it, relative to its variance */
    double seconds;             /* spent on it; 0 where it came from a journal */
} pq_encoding;

/** One operator's reconstruction. weight has a scale for each output channel; both weight and bias
 *  may be empty. They hold for inputs and outputs that are re-encoded as the corrections say. */
typedef struct pq_fix {
    char *node;
    pq_plan_weight weight; /* its name is that of the graph's constant */
    pq_plan_weight bias;
    /* Mean squared error of the output over its variance: with the nearest weights and the bias
     * as it was; had only the bias been corrected; with what is here. */
    double error_before, error_bias, error;
    double seconds; /* spent on it; 0 where it came from a journal */
} pq_fix;

/** What the whole network was judged with, one after the other. */
typedef enum pq_stage {
    PQ_STAGE_PLAIN = 0, /* ranges alone */
    PQ_STAGE_EQUALIZED,
    PQ_STAGE_ENCODED, /* and re-encoded */
    PQ_STAGE_ALL,     /* and with biases and integers by reconstruction */
    PQ_STAGES
} pq_stage;

/** How far all-INT8 moves detections on images that nothing was fitted on: a part of those given.
 *  A stage that is not better than what it adds to is dropped. */
typedef struct pq_checked {
    size_t n_images;         /* 0: too few were given to keep some apart; all is kept */
    double error[PQ_STAGES]; /* < 0: not measured, since there was nothing to measure */
    bool dropped[PQ_STAGES];
} pq_checked;

typedef struct pq_corrections {
    char graph_hash[65]; /* of the folded graph before corrections */
    pq_scheme scheme;
    pq_plan_weight *equal; /* equalised constants: they replace the graph's in any plan */
    size_t n_equal;
    pq_equalized *flat; /* what that did to values */
    size_t n_flat;
    pq_encoding *encoding;
    size_t n_encodings;
    pq_fix *fix;
    size_t n_fixes;
    pq_checked checked;
    double seconds[3]; /* equalisation, calibration, the rest */
} pq_corrections;

/** What corrections did, in short. Gains are geometric means of error before / after; 1 where there
 *  is nothing to take a mean of. */
typedef struct pq_correction_summary {
    size_t equalized;           /* values */
    double bits_before, bits;   /* means over these */
    size_t encoded;             /* values */
    double encoding_gain;       /* error of what is computed from them */
    size_t rounded, biased;     /* operators */
    double bias_gain, fix_gain; /* error of their outputs: by the bias alone; by all */
    double encoding_seconds, fix_seconds;
} pq_correction_summary;

/** Zero means default. */
typedef struct pq_correct_opts {
    bool no_equalize;     /* neither equalisation nor re-encoding */
    bool no_bias_correct; /* biases stay */
    bool no_adaround;     /* weights stay (rounded to the nearest) */
    pq_scheme scheme;
    pq_calibrate_opts calibrate;
    const bool *int8;    /* per quant_index: the assignment they are for; NULL: all */
    const char *journal; /* finished operators are appended, found ones reused; NULL: none */
    size_t max_images;   /* for what needs several passes' data at once; 0: 128 */
    size_t max_bytes;    /* feature maps of these images in memory; 0: 6 GiB or half of the
                            machine's, whichever is less; then fewer images */
    uint64_t seed;       /* which positions are sampled */
} pq_correct_opts;

/**
 * Calibrate g with corrections. *ranges are those of the corrected network and go with *out.
 * head NULL (the outputs cannot be decoded): reconstruction samples positions anywhere.
 * Memory: *ranges (pq_ranges_free) and *out (pq_corrections_free) are yours.
 * Threads: pq_ctx_threads. Progress goes by "equalize", "calibrate", "correct".
 * Errors: as pq_calibrate; IO (journal); CANCELLED.
 */
PQ_API PQ_MUST_USE pq_status pq_correct(pq_ctx *ctx, pq_corrections **out, pq_ranges **ranges,
                                        const pq_engine *engine, const pq_graph *g,
                                        const pq_dataset *data, const pq_prep *prep,
                                        const pq_head *head, const pq_correct_opts *opts);
PQ_API void pq_corrections_free(pq_corrections *c);

/**
 * Give a plan of g, made from the ranges that came with c, its corrected weights: equalised ones
 * throughout, re-encoded ones around values that the plan quantizes, reconstructed ones in its INT8
 * operators. c may be NULL. Errors: INVALID (corrections of another graph or scheme), NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_correct_plan(pq_ctx *ctx, pq_plan *plan, const pq_corrections *c,
                                             const pq_graph *g);

PQ_API void pq_corrections_summarize(const pq_corrections *c, pq_correction_summary *out);

/** SHA-256 (hex) over all that changes plans. */
PQ_API void pq_corrections_hash(const pq_corrections *c, char hex[65]);

/** corrections.json and its weights file. Errors: IO, FORMAT. */
PQ_API PQ_MUST_USE pq_status pq_corrections_save(pq_ctx *ctx, const pq_corrections *c,
                                                 const char *path);
PQ_API PQ_MUST_USE pq_status pq_corrections_load(pq_ctx *ctx, pq_corrections **out,
                                                 const char *path);

#ifdef __cplusplus
}
#endif
#endif
