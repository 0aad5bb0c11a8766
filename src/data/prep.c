/* Pictures into network inputs: resize or letterbox, channel order, planes. */
#include "data/resize.h"

#include <string.h>

#include "base/mem.h"

/* Where the resized part lies, and the way back: w, h, at (geo->dx, geo->dy). */
static pq_status place(pq_ctx *ctx, int *fit_w, int *fit_h, pq_geometry *geo, const pq_image *img,
                       const pq_prep *prep)
{
    int w = prep->w, h = prep->h;
    const int channels = pq_prep_channels(prep);
    if (w < 1 || h < 1 || !img->data || (channels != 1 && channels != 3))
        return pq_fail(ctx, PQ_E_INVALID,
                       "input of %d channels, %d x %d pixels from an image of %d x %d", channels, w,
                       h, img->w, img->h);
    *geo =
        (pq_geometry){.w = img->w, .h = img->h, .sx = (double)img->w / w, .sy = (double)img->h / h};
    if (prep->fit != PQ_FIT_RESIZE) {
        double ry = (double)h / img->h, rx = (double)w / img->w, r = ry < rx ? ry : rx;
        w = (int)(img->w * r);
        h = (int)(img->h * r);
        if (w < 1) w = 1; /* a line of one pixel instead of none */
        if (h < 1) h = 1;
        geo->sx = geo->sy = 1 / r;
    }
    if (prep->fit == PQ_FIT_LETTERBOX_CENTER) {
        geo->dx = (prep->w - w) / 2;
        geo->dy = (prep->h - h) / 2;
    }
    *fit_w = w;
    *fit_h = h;
    return PQ_OK;
}

pq_status pq_prep_picture(pq_ctx *ctx, pq_picture *out, pq_geometry *geo, const pq_image *img,
                          const pq_prep *prep)
{
    int w = 0, h = 0;
    pq_tap *taps;
    *out = (pq_picture){0};
    pq_status st = place(ctx, &w, &h, geo, img, prep);
    if (st == PQ_OK) st = pq_alloc(ctx, &taps, (size_t)w + (size_t)h, sizeof *taps);
    if (st != PQ_OK) return st;
    pq_resize_taps(taps, img->w, w, false);
    pq_resize_taps(taps + w, img->h, h, true);
    *out = (pq_picture){.data = img->data,
                        .w = img->w,
                        .h = img->h,
                        .channels = 3,
                        .pixel = 3,
                        .row = 3 * (size_t)img->w,
                        .plane = 1,
                        .left = (int)geo->dx,
                        .top = (int)geo->dy,
                        .fit_w = w,
                        .fit_h = h,
                        .across = taps,
                        .down = taps + w,
                        .reversed = prep->bgr};
    return PQ_OK;
}

void pq_picture_clear(pq_picture *p)
{
    pq_free(p->across); /* and down, behind it */
    *p = (pq_picture){0};
}

/* OpenCV's RGB to grey on 8 bits: fixed point with 14 bits. */
static uint8_t grey(const uint8_t *rgb)
{
    return (uint8_t)((4899 * rgb[0] + 9617 * rgb[1] + 1868 * rgb[2] + 8192) >> 14);
}

pq_status pq_preprocess_u8(pq_ctx *ctx, uint8_t *dst, pq_geometry *geo, const pq_image *img,
                           const pq_prep *prep)
{
    pq_image s = {0};
    pq_geometry g;
    int fit_w = 0, fit_h = 0;
    pq_status st = place(ctx, &fit_w, &fit_h, &g, img, prep);
    if (st == PQ_OK) st = pq_image_resize(ctx, &s, img, fit_w, fit_h);
    if (st != PQ_OK) return st;
    if (geo) *geo = g;
    const size_t w = (size_t)prep->w, h = (size_t)prep->h, sw = (size_t)s.w;
    const size_t left = (size_t)g.dx, top = (size_t)g.dy, channels = (size_t)pq_prep_channels(prep);
    memset(dst, prep->pad, channels * h * w);
    for (size_t c = 0; c < channels; c++) {
        const size_t from = prep->bgr ? 2 - c : c;
        for (size_t y = 0; y < (size_t)s.h; y++) {
            uint8_t *d = dst + (c * h + top + y) * w + left;
            const uint8_t *p = s.data + 3 * y * sw;
            for (size_t x = 0; x < sw; x++)
                d[x] = channels == 1 ? grey(p + 3 * x) : p[3 * x + from];
        }
    }
    pq_image_clear(&s);
    return PQ_OK;
}

pq_status pq_preprocess(pq_ctx *ctx, float *dst, pq_geometry *geo, const pq_image *img,
                        const pq_prep *prep)
{
    uint8_t *bytes;
    const size_t plane = (size_t)(prep->w > 0 ? prep->w : 0) * (size_t)(prep->h > 0 ? prep->h : 0);
    const size_t channels = (size_t)pq_prep_channels(prep);
    pq_status st = pq_alloc(ctx, &bytes, plane, channels <= 3 ? channels : 3);
    if (st != PQ_OK) return st;
    st = pq_preprocess_u8(ctx, bytes, geo, img, prep);
    for (size_t c = 0; c < channels && st == PQ_OK; c++) {
        const float mean = prep->mean[c], scale = prep->scale[c] == 0 ? 1 : prep->scale[c];
        const uint8_t *p = bytes + c * plane;
        float *d = dst + c * plane;
        for (size_t i = 0; i < plane; i++) d[i] = ((float)p[i] - mean) * scale;
    }
    pq_free(bytes);
    return st;
}
