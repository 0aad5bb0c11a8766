/** @file families.h  Small graphs that end as the exports of the detector families do, with the
 *  operators their exporters write: what tests of heads and of the whole way run on. */
#ifndef PQ_TESTS_SUPPORT_FAMILIES_H
#define PQ_TESTS_SUPPORT_FAMILIES_H

#include <pquant/detect.h>

#include "support/check.h"

typedef enum family {
    FAMILY_YOLOV5,     /* SiLU; [1, 252, 8], decoded */
    FAMILY_YOLOV5_RAW, /* the same weights, before the decoding */
    FAMILY_YOLOV6,     /* ReLU, ConvTranspose; [1, 84, 8], decoded, objectness 1 */
    FAMILY_YOLOV8,     /* SiLU; [1, 7, 84], decoded by softmax and convolution */
    FAMILY_YOLOV8_RAW, /* the same weights, three maps of 67 channels */
    FAMILY_NANODET,    /* LeakyReLU, channel shuffle, linear resize; [1, 85, 35] */
    FAMILY_PICODET,    /* HardSwish, squeeze and excite; four pairs of lists */
    FAMILY_FASTESTV2,  /* ReLU, depthwise, PReLU, softmax; [1, 4, 4, 18] and [1, 2, 2, 18] */
    FAMILY_ROWS,       /* YOLOv8's, then TopK and GatherElements: [1, 20, 6] */
    FAMILY_SUPPRESSED, /* YOLOv8's, then NonMaxSuppression: [30, 7] */
    FAMILY_COUNT
} family;

enum { FAMILY_CLASSES = 3, FAMILY_SIDE = 64 };

/** Input "images" [1, channels, 64, 64]; unfolded. Ends the test on failure; pq_graph_free. */
pq_graph *family_graph(family f, int channels);
/** What its head must be recognised as. */
pq_head_family family_head(family f);
const char *family_name(family f);

#endif
