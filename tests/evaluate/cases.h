/** @file cases.h  Evaluation problems made by formula, full of ties: boxes on a coarse grid, few
 * distinct scores, crowds, areas on the borders of the ranges, classes and images with nothing. */
#ifndef PQ_TESTS_EVALUATE_CASES_H
#define PQ_TESTS_EVALUATE_CASES_H

#include <stdio.h>

#include "base/rng.h"

typedef struct case_spec {
    uint64_t seed;
    int n_images, n_classes, n_anns, n_dets;
    int crowd_of_8; /* annotations of 8 that are crowds */
    int first_id;   /* of the annotations */
    int n_scores;   /* distinct scores */
    double figures[12];
} case_spec;

typedef struct case_box {
    int image, cls;
    double x, y, w, h;
} case_box;

enum { CASE_MAX_ANNS = 400 };

static inline int case_image_id(int i) { return 1000 - 7 * i; }

static inline case_box case_random_box(pq_rng *r, const case_spec *s)
{
    static const int size[4] = {8, 32, 96, 200};
    const uint64_t n = (uint64_t)size[pq_rng_below(r, 4)];
    case_box b = {.image = (int)pq_rng_below(r, (uint64_t)s->n_images),
                  .cls = (int)pq_rng_below(r, (uint64_t)s->n_classes)};
    b.x = 4 * (double)pq_rng_below(r, 100);
    b.y = 4 * (double)pq_rng_below(r, 80);
    b.w = 4 + 4 * (double)pq_rng_below(r, n / 4);
    b.h = 4 + 4 * (double)pq_rng_below(r, n / 4);
    return b;
}

/** The annotation file, then the result file. Image i is written `times[i]` times under ids that
 * keep its place in the order (times NULL: once). */
static inline void case_write(FILE *ann, FILE *det, const case_spec *s, const uint32_t *times)
{
    static const double stretch[6] = {1, 1, 1.25, 0.5, 0.75, 1};
    case_box box[CASE_MAX_ANNS];
    pq_rng r = {s->seed};
    const char *comma = "";
    fprintf(ann, "{\"categories\": [");
    for (int i = 0; i < s->n_classes; i++)
        fprintf(ann, "%s{\"id\": %d, \"name\": \"c%d\"}", i ? ", " : "", 90 - 3 * i, i);
    fprintf(ann, "], \"images\": [");
    for (int i = 0; i < s->n_images; i++)
        for (uint32_t k = 0; k < (times ? times[i] : 1); k++, comma = ", ")
            fprintf(ann, "%s{\"id\": %d, \"file_name\": \"%d.jpg\"}", comma,
                    4 * case_image_id(i) + (int)k, i);
    fprintf(ann, "],\n\"annotations\": [");
    comma = "";
    for (int i = 0, id = s->first_id; i < s->n_anns; i++) {
        const case_box b = box[i] = case_random_box(&r, s);
        const int crowd = (int)pq_rng_below(&r, 8) < s->crowd_of_8;
        const double area = pq_rng_below(&r, 6) ? b.w * b.h : pq_rng_below(&r, 2) ? 1024 : 9216;
        for (uint32_t k = 0; k < (times ? times[b.image] : 1); k++, comma = ",\n")
            fprintf(ann,
                    "%s{\"id\": %d, \"image_id\": %d, \"category_id\": %d, \"bbox\": [%.2f, %.2f, "
                    "%.2f, %.2f], \"area\": %.2f, \"iscrowd\": %d}",
                    comma, id++, 4 * case_image_id(b.image) + (int)k, 90 - 3 * b.cls, b.x, b.y, b.w,
                    b.h, area, crowd);
    }
    fprintf(ann, "]}\n");
    fprintf(det, "[");
    comma = "";
    for (int i = 0; i < s->n_dets; i++) {
        case_box b = case_random_box(&r, s);
        if (s->n_anns && pq_rng_below(&r, 10) < 7) { /* near an annotation, or on it */
            b = box[pq_rng_below(&r, (uint64_t)s->n_anns)];
            b.x += ((double)pq_rng_below(&r, 5) - 2) * b.w / 16;
            b.w *= stretch[pq_rng_below(&r, 6)];
            b.h *= stretch[pq_rng_below(&r, 6)];
        }
        const double score = (double)(1 + pq_rng_below(&r, (uint64_t)s->n_scores)) / s->n_scores;
        for (uint32_t k = 0; k < (times ? times[b.image] : 1); k++, comma = ",\n")
            fprintf(det,
                    "%s{\"image_id\": %d, \"category_id\": %d, \"bbox\": [%.4f, %.4f, %.4f, %.4f], "
                    "\"score\": %.6f}",
                    comma, 4 * case_image_id(b.image) + (int)k, 90 - 3 * b.cls, b.x, b.y, b.w, b.h,
                    score);
    }
    fprintf(det, "]\n");
}

#endif
