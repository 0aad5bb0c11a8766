/* PNG through libspng. */
#include "data/codec.h"

#include <spng.h>
#include <stdlib.h>

#include "base/mem.h"

enum { CHUNK_LIMIT = 64 << 20 }; /* bytes that text and other side chunks may take */

pq_status pq_data__png_decode(pq_ctx *ctx, pq_image *out, const void *data, size_t bytes,
                              const char *name)
{
    pq_status st = PQ_OK;
    int err;
    struct spng_ihdr head;
    spng_ctx *png = spng_ctx_new(0);
    if (!png) return pq_fail(ctx, PQ_E_NOMEM, "%s: no memory for a PNG decoder", name);
    if ((err = spng_set_chunk_limits(png, CHUNK_LIMIT, CHUNK_LIMIT)) != 0 ||
        (err = spng_set_crc_action(png, SPNG_CRC_ERROR, SPNG_CRC_DISCARD)) != 0 ||
        (err = spng_set_png_buffer(png, data, bytes)) != 0 ||
        (err = spng_get_ihdr(png, &head)) != 0) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: damaged PNG header: %s", name, spng_strerror(err));
        goto out;
    }
    PQ_TRY(pq_data__check_size(ctx, head.width, head.height, name));
    PQ_TRY(pq_image_new(ctx, out, (int)head.width, (int)head.height));
    err = spng_decode_image(png, out->data, (size_t)out->w * (size_t)out->h * 3, SPNG_FMT_RGB8, 0);
    if (!err) err = spng_decode_chunks(png); /* up to the end: a cut file is refused */
    if (err)
        st = pq_fail(ctx, err == SPNG_EMEM ? PQ_E_NOMEM : PQ_E_FORMAT, "%s: damaged PNG: %s", name,
                     spng_strerror(err));
out:
    if (st != PQ_OK) pq_image_clear(out);
    spng_ctx_free(png);
    return st;
}

pq_status pq_data__png_encode(pq_ctx *ctx, FILE *f, const pq_image *img)
{
    pq_status st = PQ_OK;
    int err;
    struct spng_ihdr head = {.width = (uint32_t)img->w,
                             .height = (uint32_t)img->h,
                             .bit_depth = 8,
                             .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!png) return pq_fail(ctx, PQ_E_NOMEM, "no memory for a PNG encoder");
    size_t n = 0;
    void *bytes = NULL;
    if ((err = spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1)) == 0 &&
        (err = spng_set_ihdr(png, &head)) == 0 &&
        (err = spng_encode_image(png, img->data, (size_t)img->w * (size_t)img->h * 3, SPNG_FMT_PNG,
                                 SPNG_ENCODE_FINALIZE)) == 0)
        bytes = spng_get_png_buffer(png, &n, &err);
    if (err || !bytes)
        st = pq_fail(ctx, err == SPNG_EMEM ? PQ_E_NOMEM : PQ_E_INTERNAL,
                     "cannot encode %d x %d pixels as PNG: %s", img->w, img->h, spng_strerror(err));
    else
        fwrite(bytes, 1, n, f); /* errors are sticky: pq_out_commit sees them */
    free(bytes);
    spng_ctx_free(png);
    return st;
}
