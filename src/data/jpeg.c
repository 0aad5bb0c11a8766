/* JPEG through TurboJPEG. Its accurate DCT gives OpenCV's pixels. */
#include "data/codec.h"

#include <string.h>
#include <turbojpeg.h>

#include "base/mem.h"

/* libjpeg's text for bytes that it skipped between two segments: no pixel is lost by that. */
static const char skipped_bytes[] = "extraneous bytes before marker";

static bool ends_properly(const uint8_t *data, size_t bytes)
{
    const size_t tail = bytes < 65536 ? bytes : 65536; /* some writers append data after the end */
    for (size_t i = bytes; i >= bytes - tail + 2; i--)
        if (data[i - 2] == 0xff && data[i - 1] == 0xd9) return true;
    return false;
}

/* OpenCV's rule for the inverted CMYK that Adobe writes. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int k = cmyk[4 * i + 3];
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)(k - (((255 - cmyk[4 * i + c]) * k) >> 8));
    }
}

pq_status pq_data__jpeg_decode(pq_ctx *ctx, pq_image *out, const void *data, size_t bytes,
                               const char *name)
{
    pq_status st = PQ_OK;
    uint8_t *cmyk = NULL;
    int w = 0, h = 0, sampling = 0, space = 0;
    tjhandle tj = tjInitDecompress();
    if (!tj) return pq_fail(ctx, PQ_E_NOMEM, "%s: no memory for a JPEG decoder", name);
    if (tjDecompressHeader3(tj, data, (unsigned long)bytes, &w, &h, &sampling, &space) != 0) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: damaged JPEG header: %s", name, tjGetErrorStr2(tj));
        goto out;
    }
    if (w < 1 || h < 1) { /* a file of tables alone is a JPEG too */
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: damaged JPEG: it ends before its picture", name);
        goto out;
    }
    PQ_TRY(pq_data__check_size(ctx, (uint64_t)w, (uint64_t)h, name));
    PQ_TRY(pq_image_new(ctx, out, w, h));
    const bool is_cmyk = space == TJCS_CMYK || space == TJCS_YCCK;
    if (is_cmyk) PQ_TRY(pq_alloc(ctx, &cmyk, (size_t)w * (size_t)h, 4));
    if (tjDecompress2(tj, data, (unsigned long)bytes, is_cmyk ? cmyk : out->data, w, 0, h,
                      is_cmyk ? TJPF_CMYK : TJPF_RGB,
                      TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS) != 0) {
        const char *why = tjGetErrorStr2(tj);
        if (tjGetErrorCode(tj) != TJERR_WARNING || !strstr(why, skipped_bytes) ||
            !ends_properly(data, bytes)) {
            st = pq_fail(ctx, PQ_E_FORMAT, "%s: damaged JPEG: %s", name, why);
            goto out;
        }
        pq_log(ctx, PQ_LOG_WARN, "data", "%s: %s", name, why);
    }
    if (is_cmyk) cmyk_to_rgb(out->data, cmyk, (size_t)w * (size_t)h);
out:
    if (st != PQ_OK) pq_image_clear(out);
    pq_free(cmyk);
    tjDestroy(tj);
    return st;
}

/* *bytes is TurboJPEG's: tjFree. */
static pq_status encode(pq_ctx *ctx, unsigned char **bytes, unsigned long *n, const pq_image *img,
                        int quality, int sampling)
{
    pq_status st = PQ_OK;
    tjhandle tj = tjInitCompress();
    *bytes = NULL;
    *n = 0;
    if (!tj) return pq_fail(ctx, PQ_E_NOMEM, "no memory for a JPEG encoder");
    if (tjCompress2(tj, img->data, img->w, 0, img->h, TJPF_RGB, bytes, n, sampling, quality,
                    TJFLAG_ACCURATEDCT) != 0)
        st = pq_fail(ctx, PQ_E_INVALID, "cannot encode %d x %d pixels as JPEG: %s", img->w, img->h,
                     tjGetErrorStr2(tj));
    tjDestroy(tj);
    return st;
}

pq_status pq_data__jpeg_encode(pq_ctx *ctx, FILE *f, const pq_image *img)
{
    enum { QUALITY = 92 };
    unsigned char *bytes;
    unsigned long n;
    pq_status st = encode(ctx, &bytes, &n, img, QUALITY, TJSAMP_444);
    if (st == PQ_OK) fwrite(bytes, 1, n, f); /* errors are sticky: pq_out_commit sees them */
    tjFree(bytes);
    return st;
}

pq_status pq_data__jpeg_bytes(pq_ctx *ctx, uint8_t **out, size_t *bytes, const pq_image *img,
                              int quality)
{
    unsigned char *own;
    unsigned long n;
    *out = NULL;
    pq_status st = encode(ctx, &own, &n, img, quality, TJSAMP_420);
    if (st == PQ_OK) st = pq_alloc(ctx, out, n, 1);
    if (st == PQ_OK) memcpy(*out, own, n);
    *bytes = n;
    tjFree(own);
    return st;
}
