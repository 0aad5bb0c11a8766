/**
 * @file advice.h
 * Why an operator loses in INT8, from its input's range, its weights and its place in the network,
 * and what has been tried against it.
 *
 * A reason is a measure beyond its limit. The measures are facts, the limits experience: of the 80
 * operators of DAMO-YOLO T none is beyond those of ranges and weights, of a copy with seven planted
 * outlier channels exactly the seven that read them.
 */
#ifndef PQUANT_ADVICE_H
#define PQUANT_ADVICE_H

#include <pquant/correct.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pq_reason {
    PQ_REASON_OUTLIER_CHANNEL, /* one channel of the input reaches far beyond the median channel */
    PQ_REASON_LONG_TAIL,       /* few values of the input take up most of the range */
    PQ_REASON_COARSE_GRID,     /* the input is but a few steps large */
    PQ_REASON_CONCAT_MISMATCH, /* what is joined into the input has unlike ranges on one grid */
    PQ_REASON_WEIGHT_SPREAD,   /* weights lose much to rounding: few large ones in a channel */
    PQ_REASON_CLIPPED,         /* the range leaves out a good part of what was seen */
    PQ_REASON_HEAD,            /* its result is what the detector's boxes are decoded from */
    PQ_REASON_DEPTHWISE,       /* sums of few products: errors do not average out */
    PQ_REASON_PICTURE,         /* reads the picture itself */
    PQ_REASON_COUNT
} pq_reason;
/** "outlier channel", "long tail", … NULL beyond the last. */
PQ_API const char *pq_reason_name(pq_reason r);

enum { PQ_ADVICE_TEXT = 400 };

typedef struct pq_advice {
    int index;                         /* quant_index */
    pq_reason reason[PQ_REASON_COUNT]; /* the most telling first */
    size_t n_reasons;
    /* The measures; 0 where not known. Channels, tail and grid are those of the data input. */
    double outlier;      /* largest channel over the median channel; from 10 on a reason */
    double kurtosis;     /* 3: normal; from 60 on */
    double rms_steps;    /* root mean square in steps of the grid; below 4 */
    double concat_ratio; /* widest of what is joined over the narrowest; from 16 on */
    double weight_noise; /* part of the weights' power that rounding takes; from 0.002 on */
    double clipped; /* part of what was seen, at the farther end, beyond the range; from 0.75 */
    /* What was tried. */
    pq_calibrator calibrator;         /* that chose the input's range */
    bool has_range;                   /* the input was calibrated */
    bool equalized, encoded, rebuilt; /* weights or input; input; weights and bias */
    double error_before, error;       /* of the output over its variance, where rebuilt */
    char text[PQ_ADVICE_TEXT];        /* all of it in one line */
} pq_advice;

/**
 * Advice on one operator. corrections: those that came with the ranges, or NULL. Errors: INVALID
 * (no such operator), NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_advise(pq_ctx *ctx, pq_advice *out, const pq_graph *g,
                                       const pq_ranges *ranges, const pq_corrections *corrections,
                                       pq_scheme scheme, int index);

#ifdef __cplusplus
}
#endif
#endif
