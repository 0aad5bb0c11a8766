/**
 * @file detect.h
 * From a detector's outputs to boxes: head decoding, non-maximum suppression, drawing.
 */
#ifndef PQUANT_DETECT_H
#define PQUANT_DETECT_H

#include <pquant/data.h>
#include <pquant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One box in pixels of the original image, as COCO writes it: left, top, width, height. Doubles,
 * so that what a result file says survives reading unchanged. */
typedef struct pq_detection {
    int64_t image; /* image id */
    int32_t cls;   /* class index */
    double score;
    double x, y, w, h;
} pq_detection;

/** Growable list. Zero-initialise before first use. */
typedef struct pq_detections {
    pq_detection *at;
    size_t n, room;
} pq_detections;

PQ_API PQ_MUST_USE pq_status pq_detections_push(pq_ctx *ctx, pq_detections *list,
                                                const pq_detection *d);
PQ_API void pq_detections_clear(pq_detections *list);

typedef enum pq_head_family {
    PQ_HEAD_DAMO = 0, /* scores [n, A, C] and boxes [n, A, 4]: x1 y1 x2 y2 in input pixels */
    PQ_HEAD_YOLOX     /* [n, A, 5 + C]: x, y, log w, log h before the grid, objectness, classes */
} pq_head_family;

/** How to read a detector's outputs, and the limits of its post-processing. */
typedef struct pq_head {
    pq_head_family family;
    double conf; /* candidates have score > conf, compared in float32 */
    double iou;  /* a box is dropped where its IoU with a better one of its class is > iou */
    int max_det; /* per image */
    int n_classes;
    int64_t anchors;
    int h, w;                /* of the network's input */
    int scores_at, boxes_at; /* DAMO: which output is which */
} pq_head;

/**
 * Recognise the head from the shapes of the outputs (and the family that the reader saw), with the
 * family's usual limits: DAMO-YOLO 0.05, 0.7, 500; its Nano models 0.03, 0.65, 500; YOLOX 0.01,
 * 0.65, 300. Errors: UNSUPPORTED (with the shapes found).
 */
PQ_API PQ_MUST_USE pq_status pq_head_detect(pq_ctx *ctx, pq_head *out, const pq_graph *g);
/** The preprocessing that the family is trained with. */
PQ_API void pq_head_prep(pq_prep *out, const pq_head *head);

/**
 * Boxes of the first n images of a batch, appended to list: image by image, best score first.
 * Every (anchor, class) with score > conf is a candidate; greedy suppression runs within each
 * class; the best max_det of all classes stay. Boxes are mapped back and not clipped; those with a
 * coordinate that is not finite are dropped. Equal scores keep the order anchor, then class.
 * @param output the network's outputs in its order, float32, batch >= n.
 * @param geometry, image_id [n].
 * Errors: INVALID (outputs do not fit the head), NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_head_decode(pq_ctx *ctx, pq_detections *list, const pq_head *head,
                                            const pq_tensor *output, size_t n_outputs, size_t n,
                                            const pq_geometry *geometry, const int64_t *image_id);

/** The 80 classes of COCO in the order of detectors trained on it; NULL or -1 beyond. */
PQ_API const char *pq_coco80_name(int cls);
PQ_API int64_t pq_coco80_id(int cls);

/** Draw boxes with labels ("person 0.87") into img. class_name may be NULL or shorter than a class
 *  index: then the number is drawn. Errors: NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_draw(pq_ctx *ctx, pq_image *img, const pq_detection *d, size_t n,
                                     const char *const *class_name, size_t n_names);

#ifdef __cplusplus
}
#endif
#endif
