/** @file codec.h  The two picture formats behind pq_image_decode and pq_image_save. */
#ifndef PQ_DATA_CODEC_H
#define PQ_DATA_CODEC_H

#include <pquant/data.h>

#include <stdio.h>

#include "base/ctx.h"

/** Largest picture that is read: 2^28 pixels, 768 MiB of RGB. */
#define PQ_IMAGE_MAX_PIXELS ((uint64_t)1 << 28)

/** Errors: UNSUPPORTED where the header announces more than PQ_IMAGE_MAX_PIXELS. */
PQ_MUST_USE pq_status pq_data__check_size(pq_ctx *ctx, uint64_t w, uint64_t h, const char *name);

/** data begins with the format's signature. Memory: *out is the caller's, empty on error.
 *  Errors: FORMAT, UNSUPPORTED, NOMEM. */
PQ_MUST_USE pq_status pq_data__jpeg_decode(pq_ctx *ctx, pq_image *out, const void *data,
                                           size_t bytes, const char *name);
PQ_MUST_USE pq_status pq_data__png_decode(pq_ctx *ctx, pq_image *out, const void *data,
                                          size_t bytes, const char *name);

/** Encode into f; errors of writing stay in f. Errors: NOMEM, INTERNAL. */
PQ_MUST_USE pq_status pq_data__jpeg_encode(pq_ctx *ctx, FILE *f, const pq_image *img);
/** Into memory, at a quality of 1 .. 100, 4:2:0: for pictures inside pages. Memory: *out is the
 *  caller's (pq_free). Errors: NOMEM, INVALID. */
PQ_MUST_USE pq_status pq_data__jpeg_bytes(pq_ctx *ctx, uint8_t **out, size_t *bytes,
                                          const pq_image *img, int quality);
PQ_MUST_USE pq_status pq_data__png_encode(pq_ctx *ctx, FILE *f, const pq_image *img);

#endif
