/** @file matches.h  What matching leaves for accumulation: inside evaluate only. */
#ifndef PQ_EVALUATE_MATCHES_H
#define PQ_EVALUATE_MATCHES_H

#include <pquant/evaluate.h>

/* pycocotools' parameters: 10 IoU thresholds, 101 recall points, the area ranges all, small,
 * medium and large, at most 1, 10 and 100 boxes an image and class. */
enum { EVAL_IOUS = 10, EVAL_RECALLS = 101, EVAL_AREAS = 4, EVAL_MAX_DETS = 100 };

/** One detection. Bit t of tp and fp: true or false positive at IoU threshold t; neither where it
 *  is ignored. */
typedef struct pq_eval_hit {
    uint32_t image; /* position among the images evaluated */
    uint16_t tp[EVAL_AREAS], fp[EVAL_AREAS];
    uint8_t rank; /* 0 .. 99 by score within its image and class */
} pq_eval_hit;

/** Ground truth of one class in one image that counts, per area range. */
typedef struct pq_eval_truth {
    uint32_t image;
    uint32_t n[EVAL_AREAS];
} pq_eval_truth;

/** One class: detections of all images by falling score, ties in order of image, then rank. */
typedef struct pq_eval_class {
    pq_eval_hit *hit;
    size_t n_hits;
    pq_eval_truth *truth;
    size_t n_truths;
} pq_eval_class;

struct pq_eval_matches {
    pq_eval_class *cls;
    size_t n_classes, n_images;
};

#endif
