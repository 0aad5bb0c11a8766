/* Pictures into network inputs: resize or letterbox, channel order, planes. */
#include <pquant/data.h>

#include <string.h>

#include "base/mem.h"

/* The resized part lies at the top left of the input. */
static pq_status fit(pq_ctx *ctx, pq_image *scaled, pq_geometry *geo, const pq_image *img,
                     const pq_prep *prep)
{
    int w = prep->w, h = prep->h;
    if (w < 1 || h < 1 || !img->data)
        return pq_fail(ctx, PQ_E_INVALID, "input of %d x %d pixels from an image of %d x %d", w, h,
                       img->w, img->h);
    pq_geometry g = {.w = img->w, .h = img->h, .sx = (double)img->w / w, .sy = (double)img->h / h};
    if (prep->fit == PQ_FIT_LETTERBOX) {
        double ry = (double)h / img->h, rx = (double)w / img->w, r = ry < rx ? ry : rx;
        w = (int)(img->w * r);
        h = (int)(img->h * r);
        if (w < 1) w = 1; /* a line of one pixel instead of none */
        if (h < 1) h = 1;
        g.sx = g.sy = 1 / r;
    }
    if (geo) *geo = g;
    return pq_image_resize(ctx, scaled, img, w, h);
}

pq_status pq_preprocess_u8(pq_ctx *ctx, uint8_t *dst, pq_geometry *geo, const pq_image *img,
                           const pq_prep *prep)
{
    pq_image s = {0};
    pq_status st = fit(ctx, &s, geo, img, prep);
    if (st != PQ_OK) return st;
    const size_t w = (size_t)prep->w, h = (size_t)prep->h, sw = (size_t)s.w;
    for (size_t c = 0; c < 3; c++) {
        const size_t from = prep->bgr ? 2 - c : c;
        for (size_t y = 0; y < h; y++) {
            uint8_t *d = dst + (c * h + y) * w;
            const size_t filled = y < (size_t)s.h ? sw : 0;
            const uint8_t *p = s.data + 3 * y * sw + from;
            for (size_t x = 0; x < filled; x++) d[x] = p[3 * x];
            memset(d + filled, prep->pad, w - filled);
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
    pq_status st = pq_alloc(ctx, &bytes, plane, 3);
    if (st != PQ_OK) return st;
    st = pq_preprocess_u8(ctx, bytes, geo, img, prep);
    for (size_t c = 0; c < 3 && st == PQ_OK; c++) {
        const float mean = prep->mean[c], scale = prep->scale[c] == 0 ? 1 : prep->scale[c];
        const uint8_t *p = bytes + c * plane;
        float *d = dst + c * plane;
        for (size_t i = 0; i < plane; i++) d[i] = ((float)p[i] - mean) * scale;
    }
    pq_free(bytes);
    return st;
}
