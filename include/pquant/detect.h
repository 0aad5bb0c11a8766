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

/**
 * What a detector's outputs hold. n: images, A: places (anchors), C: classes, R = 4 (reg_max + 1).
 * Maps may be [n, channels, h, w] or [n, h, w, channels], lists [n, A, K] or [n, K, A] where the
 * sizes tell which; levels stand in any order.
 */
typedef enum pq_head_family {
    PQ_HEAD_DAMO = 0, /* scores [n, A, C] and boxes [n, A, 4]: x1 y1 x2 y2 in input pixels */
    PQ_HEAD_YOLOX,    /* [n, A, 5 + C]: x, y, log w, log h before the grid, objectness, classes */
    PQ_HEAD_YOLOV5,   /* [n, A, 5 + C]: x, y, w, h in input pixels, objectness, classes (v5, v6, v7)
                       */
    PQ_HEAD_YOLOV5_RAW, /* a level: [n, a, h, w, 5 + C] or [n, a (5 + C), h, w], before the anchors
                         */
    PQ_HEAD_YOLOV8,     /* [n, 4 + C, A]: x, y, w, h in input pixels, classes (v8, v11) */
    PQ_HEAD_YOLOV8_RAW, /* a level: [n, R + C, h, w], or maps of R and of C channels */
    PQ_HEAD_NANODET,    /* [n, A, C + R], or a level: lists or maps of C and of R channels */
    PQ_HEAD_PICODET,    /* the same, with cells measured from their middle */
    PQ_HEAD_FASTESTV2,  /* a level: [n, h, w, 5 a + C]: a boxes, a objectnesses, shared classes */
    PQ_HEAD_BOXES,      /* rows of boxes after suppression; rows of NaN are not there */
    PQ_HEAD_FAMILIES
} pq_head_family;

enum { PQ_HEAD_LEVELS = 8, PQ_HEAD_ANCHORS = 6 };

/** Columns of PQ_HEAD_BOXES: which place of a row holds what. */
typedef enum pq_box_column {
    PQ_BOX_X1,
    PQ_BOX_Y1,
    PQ_BOX_X2,
    PQ_BOX_Y2,
    PQ_BOX_SCORE,
    PQ_BOX_CLASS,
    PQ_BOX_IMAGE, /* position in the batch */
    PQ_BOX_COLUMNS
} pq_box_column;

/** How to read a detector's outputs, and the limits of its post-processing. Zero where a member
 * means nothing to the family. */
typedef struct pq_head {
    pq_head_family family;
    double conf; /* candidates have score > conf, compared in float32 */
    double iou;  /* a box is dropped where its IoU with a better one of its class is > iou */
    int max_det; /* per image */
    int n_classes;
    int64_t anchors;
    int h, w;                /* of the network's input */
    int scores_at, boxes_at; /* which output is which: DAMO; BOXES, where scores_at may be -1 */

    int n_levels; /* raw maps, and lists of several levels */
    int stride[PQ_HEAD_LEVELS];
    int class_at[PQ_HEAD_LEVELS], reg_at[PQ_HEAD_LEVELS]; /* outputs of a level, often the same */
    int n_anchors;                                        /* a cell */
    float anchor[PQ_HEAD_LEVELS][2 * PQ_HEAD_ANCHORS];    /* w, h in input pixels */
    int reg_max;
    float offset;               /* of a cell's centre from its corner, in cells: 0 or 0.5 */
    bool logits;                /* scores (and what else has one) lack their sigmoid */
    int column[PQ_BOX_COLUMNS]; /* BOXES, in output boxes_at; -1: no such column */
    int classes_at, count_at;   /* BOXES: outputs of classes and of how many rows count; -1: none */
    bool normalized;            /* BOXES: coordinates are 0 .. 1 */
    const int32_t *class_map; /* NULL: as they are; else class -> class of the result, -1: dropped.
                                 Borrowed */
    pq_prep prep;             /* what the family is trained with; sizes are those of the input */
} pq_head;

/**
 * Recognise the head from the shapes and names of the outputs, from what they are put together of,
 * and from the family that the reader saw, with the family's usual limits: DAMO-YOLO 0.05, 0.7,
 * 500; its Nano models 0.03, 0.65, 500; YOLOX 0.01, 0.65, 300; YOLOv5 to v11 0.001, 0.7, 300;
 * NanoDet 0.05, 0.6, 100; PicoDet 0.025, 0.6, 100; FastestV2 0.01, 0.4, 300. Errors: UNSUPPORTED
 * (with the shapes found).
 */
PQ_API PQ_MUST_USE pq_status pq_head_detect(pq_ctx *ctx, pq_head *out, const pq_graph *g);
/** Limits, strides, anchors and preprocessing of a family at an input of h x w pixels; outputs are
 * not looked at. */
PQ_API void pq_head_defaults(pq_head *out, pq_head_family family, int h, int w);
/** "damo", "yolox", "yolov5", … as a sidecar has them, and back (PQ_HEAD_FAMILIES: no such name).
 */
PQ_API const char *pq_head_family_name(pq_head_family family);
PQ_API pq_head_family pq_head_family_parse(const char *name);
/** Do the outputs have the shapes that the head needs? Errors: UNSUPPORTED (output, found,
 * expected). */
PQ_API PQ_MUST_USE pq_status pq_head_check(pq_ctx *ctx, const pq_head *head, const pq_graph *g);
/** The preprocessing that the family is trained with. */
PQ_API void pq_head_prep(pq_prep *out, const pq_head *head);

/**
 * What a model file does not say, beside it: MODEL.json (docs/formats.md). Members that the file
 * lacks are zero.
 */
typedef struct pq_sidecar {
    int h, w;          /* of the input */
    char **class_name; /* [n_classes] */
    int64_t *category; /* [n_classes]: id of each class in annotations */
    int n_classes;     /* of the two, or told by "classes" */
    struct cJSON *doc; /* as read */
    char *path;
} pq_sidecar;

/** Memory: *out is yours (pq_sidecar_free), NULL on error. Errors: IO; FORMAT (member, found,
 *  expected; an unknown member by name); NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_sidecar_load(pq_ctx *ctx, pq_sidecar **out, const char *path);
PQ_API void pq_sidecar_free(pq_sidecar *s);
/** The head of g as the sidecar names it; where it names no decoding, the recognised one with the
 *  sidecar's changes. Errors: FORMAT; UNSUPPORTED (no decoding, or outputs that do not fit it). */
PQ_API PQ_MUST_USE pq_status pq_sidecar_head(pq_ctx *ctx, pq_head *out, const pq_sidecar *s,
                                             const pq_graph *g);
/** Write a sidecar that says all about a head, for people to correct. class_name may be NULL.
 *  Errors: IO, NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_sidecar_save(pq_ctx *ctx, const char *path, const pq_head *head,
                                             const pq_graph *g, const char *const *class_name,
                                             int n_names);

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

/**
 * A session with what stands around it: from pictures, or from prepared inputs, to boxes as
 * pq_head_decode gives them. Where the engine prepares pictures and suppresses boxes itself, and
 * the head is one that it knows (DAMO, YOLOX), all of it runs there, with the same result.
 */
typedef struct pq_detector pq_detector;

/** Session, prep and head outlive it; the session has one input. Memory: *out is yours
 *  (pq_detector_free), NULL on error. Errors: NOMEM, those of the engine's memory. */
PQ_API PQ_MUST_USE pq_status pq_detector_new(pq_ctx *ctx, pq_detector **out, pq_session *s,
                                             const pq_prep *prep, const pq_head *head);
PQ_API void pq_detector_free(pq_detector *d);
/** Is it the engine that prepares pictures? Then they are best not prepared before. */
PQ_API bool pq_detector_prepares(const pq_detector *d);
/** Boxes of n pictures, at most a batch, appended to list. Errors: those of pq_preprocess, pq_run
 *  and pq_head_decode. */
PQ_API PQ_MUST_USE pq_status pq_detector_images(pq_ctx *ctx, pq_detector *d, pq_detections *list,
                                                const pq_image *image, size_t n,
                                                const int64_t *image_id);
/** Boxes of the first n images of an input that was prepared. */
PQ_API PQ_MUST_USE pq_status pq_detector_input(pq_ctx *ctx, pq_detector *d, pq_detections *list,
                                               const pq_tensor *input, const pq_geometry *geometry,
                                               size_t n, const int64_t *image_id);
/** Boxes of n pictures as pq_prep_picture describes them, where pq_detector_prepares. */
PQ_API PQ_MUST_USE pq_status pq_detector_pictures(pq_ctx *ctx, pq_detector *d, pq_detections *list,
                                                  const pq_picture *picture,
                                                  const pq_geometry *geometry, size_t n,
                                                  const int64_t *image_id);

/** The 80 classes of COCO in the order of detectors trained on it; NULL or -1 beyond. */
PQ_API const char *pq_coco80_name(int cls);
PQ_API int64_t pq_coco80_id(int cls);

/** Draw boxes with labels ("person 0.87") into img, a colour a class, better ones (earlier in the
 *  list) on top. Labels do not cover each other: a box whose label finds no place has none.
 *  class_name may be NULL or shorter than a class index: then the number is drawn. Errors: NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_draw(pq_ctx *ctx, pq_image *img, const pq_detection *d, size_t n,
                                     const char *const *class_name, size_t n_names);

#ifdef __cplusplus
}
#endif
#endif
