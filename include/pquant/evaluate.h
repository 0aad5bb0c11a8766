/**
 * @file evaluate.h
 * COCO detection figures, equal to those of pycocotools, and what a bootstrap over images needs.
 */
#ifndef PQUANT_EVALUATE_H
#define PQUANT_EVALUATE_H

#include <pquant/detect.h>
#include <pquant/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The 12 figures in pycocotools' order. */
typedef enum pq_figure {
    PQ_FIG_AP = 0, /* mean over IoU 0.50 .. 0.95 */
    PQ_FIG_AP50,
    PQ_FIG_AP75,
    PQ_FIG_APS, /* area < 32^2 */
    PQ_FIG_APM,
    PQ_FIG_APL, /* area > 96^2 */
    PQ_FIG_AR1, /* at most 1, 10, 100 boxes an image and class */
    PQ_FIG_AR10,
    PQ_FIG_AR100,
    PQ_FIG_ARS,
    PQ_FIG_ARM,
    PQ_FIG_ARL,
    PQ_FIG_COUNT
} pq_figure;

/** 0 .. 1; -1 where there is no ground truth. */
typedef struct pq_figures {
    double v[PQ_FIG_COUNT];
} pq_figures;

/** "AP", "AP50", …, "ARl". */
PQ_API const char *pq_figure_name(pq_figure f);

/** Which detection matched at which IoU threshold and area range, class by class: all that the
 *  figures of any selection of the images need. Immutable, so any number of threads may accumulate.
 */
typedef struct pq_eval_matches pq_eval_matches;

/**
 * Match detections with ground truth as pycocotools does (at most 100 per image and class, crowd
 * regions and area ranges ignored by its rules, an annotation of id 0 never counted as found).
 * Classes beyond those of gt are left out.
 * @param image_id evaluate these images alone; NULL: all of gt.
 * Memory: *out is yours (pq_eval_free), about 24 bytes a detection. Threads: pq_ctx_threads.
 * Errors: INVALID (a detection's or listed image that gt does not have), NOMEM, CANCELLED.
 */
PQ_API PQ_MUST_USE pq_status pq_eval_match(pq_ctx *ctx, pq_eval_matches **out, const pq_coco *gt,
                                           const pq_detection *d, size_t n, const int64_t *image_id,
                                           size_t n_image_ids);
PQ_API void pq_eval_free(pq_eval_matches *m);
/** Images evaluated: the length of the times array below, in order of image id. */
PQ_API size_t pq_eval_image_count(const pq_eval_matches *m);

/**
 * Figures when image i is counted times[i] times (NULL: each once): those of as many copies of it,
 * except that the copies of one detection are counted together before the next one of its score.
 * @param class_ap NULL, or AP per class of gt (-1 without ground truth).
 * Errors: NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_eval_accumulate(pq_ctx *ctx, pq_figures *out, double *class_ap,
                                                const pq_eval_matches *m, const uint32_t *times);
/** AP alone, several times faster: for the bootstrap. Errors: NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_eval_ap(pq_ctx *ctx, double *ap, const pq_eval_matches *m,
                                        const uint32_t *times);

/** A difference of two AP with its 95 % interval. */
typedef struct pq_difference {
    double value, low, high;
    size_t n_resamples;
} pq_difference;

/**
 * AP of a less AP of b, and how far chance in the choice of images would move it: paired bootstrap
 * over images, percentile interval. Zero outside the interval: more than chance.
 * @param n_resamples 0: 1000.  @param seed the same seed gives the same interval, whatever the
 * threads.
 * Threads: pq_ctx_threads. Errors: INVALID (other numbers of images), NOMEM, CANCELLED.
 * Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
 */
PQ_API PQ_MUST_USE pq_status pq_eval_difference(pq_ctx *ctx, pq_difference *out,
                                                const pq_eval_matches *a, const pq_eval_matches *b,
                                                size_t n_resamples, uint64_t seed);

/** All 12 figures in one call. Errors: as pq_eval_match. */
PQ_API PQ_MUST_USE pq_status pq_evaluate(pq_ctx *ctx, pq_figures *out, const pq_coco *gt,
                                         const pq_detection *d, size_t n);

/**
 * Run a session over a data set and decode what it finds. Progress goes by `stage`.
 * Memory: *list is yours (pq_detections_clear), also where it is not empty before. Errors: those of
 * the images and of pq_run.
 */
PQ_API PQ_MUST_USE pq_status pq_detect_dataset(pq_ctx *ctx, pq_detections *list, pq_session *s,
                                               const pq_dataset *data, const pq_prep *prep,
                                               const pq_head *head, const char *stage);

/** Read COCO results: [{"image_id", "category_id", "bbox", "score"}, …]. Entries of categories that
 *  gt does not have are left out, with one warning. Memory: pq_detections_clear.
 *  Errors: IO, FORMAT (the entry; an image that gt does not have), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_detections_load(pq_ctx *ctx, pq_detections *out, const pq_coco *gt,
                                                const char *path);
/** Write COCO results, atomically. Category ids are gt's; without gt COCO's own for 80 classes,
 * else class + 1. Errors: INVALID (a class gt does not have), IO, NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_detections_save(pq_ctx *ctx, const pq_detections *list,
                                                const pq_coco *gt, int n_classes, const char *path);

#ifdef __cplusplus
}
#endif
#endif
