/**
 * @file data.h
 * Images, network inputs, COCO annotations, data sets and the loader that streams them.
 *
 * Pixels are what OpenCV's imread and 8-bit INTER_LINEAR resize give, bit for bit, because the
 * figures of a detector depend on them. EXIF orientation is ignored, as detectors are trained so.
 */
#ifndef PQUANT_DATA_H
#define PQUANT_DATA_H

#include <pquant/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/** An 8-bit RGB picture: data [h, w, 3], rows without padding. Zero-initialise before first use. */
typedef struct pq_image {
    uint8_t *data;
    int w, h;
} pq_image;

/** A black picture. Memory: pq_image_clear. Errors: INVALID (size), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_image_new(pq_ctx *ctx, pq_image *out, int w, int h);
PQ_API void pq_image_clear(pq_image *img);
/**
 * Read a JPEG or PNG file; which of them is told by its content. Grey becomes three equal channels,
 * CMYK becomes RGB by OpenCV's rule, 16 bits become the upper 8, alpha is dropped. Memory:
 * pq_image_clear. Threads: any. Errors: IO; FORMAT (truncated or damaged, with the path);
 * UNSUPPORTED (another kind of file, more than 2^28 pixels); NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_image_load(pq_ctx *ctx, pq_image *out, const char *path);
/** The same from memory; name stands in messages. */
PQ_API PQ_MUST_USE pq_status pq_image_decode(pq_ctx *ctx, pq_image *out, const void *data,
                                             size_t bytes, const char *name);
/** Write .jpg, .jpeg (quality 92, 4:4:4) or .png, atomically. Errors: INVALID (extension), IO,
 *  NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_image_save(pq_ctx *ctx, const pq_image *img, const char *path);
/**
 * Resize as OpenCV's INTER_LINEAR on 8 bits, bit for bit. out must not be src.
 * Memory: pq_image_clear. Errors: INVALID (size), NOMEM.
 * Source: OpenCV's resize.cpp, fixed point with 11 bits.
 */
PQ_API PQ_MUST_USE pq_status pq_image_resize(pq_ctx *ctx, pq_image *out, const pq_image *src, int w,
                                             int h);

typedef enum pq_fit {
    PQ_FIT_RESIZE = 0, /* to h x w, aspect not kept */
    PQ_FIT_LETTERBOX,  /* to int(h0 r) x int(w0 r) at the top left, r = min(h/h0, w/w0); rest is pad
                        */
    PQ_FIT_LETTERBOX_CENTER /* the same in the middle, the odd pixel of padding at the end */
} pq_fit;

/** How a picture becomes a network's input: value = (pixel - mean[c]) * scale[c], c counted in the
 *  network's order. */
typedef struct pq_prep {
    int h, w;
    pq_fit fit;
    uint8_t pad;  /* letterbox filling, usually 114 */
    bool bgr;     /* channel order of the input; false: RGB */
    int channels; /* 0 means 3; 1: grey, 0.299 R + 0.587 G + 0.114 B as OpenCV rounds it */
    float mean[3];
    float scale[3]; /* 0 means 1 */
} pq_prep;

static inline int pq_prep_channels(const pq_prep *p) { return p->channels ? p->channels : 3; }

/** Way back from input pixels to those of the picture: (x - dx) * sx, (y - dy) * sy. */
typedef struct pq_geometry {
    int w, h; /* of the picture */
    double sx, sy, dx, dy;
} pq_geometry;

/** Picture to input. dst: float32 CHW [channels, prep->h, prep->w]; geo may be NULL.
 *  Memory: dst is yours. Errors: INVALID (sizes, channels other than 1 or 3), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_preprocess(pq_ctx *ctx, float *dst, pq_geometry *geo,
                                           const pq_image *img, const pq_prep *prep);
/** The same before mean and scale, as uint8 CHW. */
PQ_API PQ_MUST_USE pq_status pq_preprocess_u8(pq_ctx *ctx, uint8_t *dst, pq_geometry *geo,
                                              const pq_image *img, const pq_prep *prep);

/** What engines that prepare pictures themselves are told of one, with the bytes of pq_preprocess
 * as the result. Memory: pq_picture_clear; img is borrowed. Errors: as pq_preprocess. */
PQ_API PQ_MUST_USE pq_status pq_prep_picture(pq_ctx *ctx, pq_picture *out, pq_geometry *geo,
                                             const pq_image *img, const pq_prep *prep);
PQ_API void pq_picture_clear(pq_picture *p);

/* ---- COCO annotations ---- */

typedef struct pq_coco_image {
    int64_t id;
    const char *file_name;
    int w, h; /* 0 where the file does not say */
} pq_coco_image;

typedef struct pq_coco_category {
    int64_t id;
    const char *name;
} pq_coco_category;

typedef struct pq_coco_ann {
    int64_t id;     /* position + 1 where the file does not say */
    uint32_t image; /* index, not id */
    uint32_t cls;   /* index, not id */
    double x, y, w, h, area;
    bool crowd;
} pq_coco_ann;

/** Images and categories stand in order of id: class i of a detector is category[i]. Annotations
 *  stand in order of image, and in the file's order within one. */
typedef struct pq_coco {
    pq_coco_image *image;
    size_t n_images;
    pq_coco_category *category;
    size_t n_categories;
    pq_coco_ann *ann;
    size_t n_anns;
    char *path;
    struct pq_arena *arena; /* names */
} pq_coco;

/**
 * Read an annotation file (the instances_*.json kind). `area` defaults to w * h, `iscrowd` to 0.
 * Memory: *out is yours (pq_coco_free), NULL on error.
 * Errors: IO; FORMAT (missing or wrong member, unknown or repeated id, each naming the entry);
 * NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_coco_load(pq_ctx *ctx, pq_coco **out, const char *path);
PQ_API void pq_coco_free(pq_coco *c);
/** Index of an image id or category id, -1 if there is none. */
PQ_API int64_t pq_coco_find_image(const pq_coco *c, int64_t id);
PQ_API int64_t pq_coco_find_category(const pq_coco *c, int64_t id);

/* ---- data sets ---- */

typedef struct pq_sample {
    char *path;
    int64_t id; /* COCO image id; of a folder: the number the file is named by, else -1 */
} pq_sample;

typedef struct pq_dataset {
    pq_sample *sample;
    size_t n;
} pq_dataset;

/** The images of an annotation file, in order of id; the first `limit` (0: all).
 *  Memory: pq_dataset_free. Errors: IO (a file is missing: its path and the annotation file),
 *  FORMAT (no images), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_dataset_from_coco(pq_ctx *ctx, pq_dataset **out,
                                                  const pq_coco *coco, const char *folder,
                                                  size_t limit);
/** The .jpg, .jpeg and .png files of a folder, in order of name. Errors: IO (no folder, or none
 *  in it), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_dataset_from_folder(pq_ctx *ctx, pq_dataset **out,
                                                    const char *folder, size_t limit);
PQ_API void pq_dataset_free(pq_dataset *d);
/** How many files of a stand in b too, by content (size, then SHA-256). Calibrating on images that
 *  are evaluated on flatters the figures. Errors: IO, NOMEM, CANCELLED. */
PQ_API PQ_MUST_USE pq_status pq_dataset_overlap(pq_ctx *ctx, size_t *shared, const pq_dataset *a,
                                                const pq_dataset *b);

/* ---- loader ---- */

/** Inputs in order. Borrowed from the loader: valid until the next pq_loader_next or _close. */
typedef struct pq_batch {
    size_t first;                /* position of the first image in the data set */
    size_t n;                    /* images in this batch; 0 after the last one */
    const pq_tensor *input;      /* float32 [batch, channels, h, w]; images n .. batch-1 are zero */
    const pq_geometry *geometry; /* [n] */
    const pq_image *image;       /* [n], of a loader without a prep; else NULL, as the two others
                                    are there */
} pq_batch;

typedef struct pq_loader pq_loader;

/**
 * Start decoding ahead on n_threads threads (0: pq_ctx_threads), at most about 2 batches plus one
 * image a thread in flight. The data set must outlive the loader. Memory: *out is yours
 * (pq_loader_close). Errors: INVALID, NOMEM.
 * @param prep NULL: pictures are decoded and left as they are.
 */
PQ_API PQ_MUST_USE pq_status pq_loader_open(pq_ctx *ctx, pq_loader **out, const pq_dataset *data,
                                            const pq_prep *prep, size_t batch, int n_threads);
/** Wait for the next batch. Errors: those of pq_image_load, at the first image in order that has
 *  one; the batches before it are delivered. */
PQ_API PQ_MUST_USE pq_status pq_loader_next(pq_ctx *ctx, pq_batch *out, pq_loader *l);
/** Stop at any time: waits for the images being decoded. pq_loader_close(NULL) does nothing. */
PQ_API void pq_loader_close(pq_loader *l);

#ifdef __cplusplus
}
#endif
#endif
