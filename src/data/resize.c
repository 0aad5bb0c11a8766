/*
 * Linear resize of 8-bit pictures with OpenCV's fixed-point arithmetic, bit for bit.
 * For output d of m from n pixels:
 *
 *     position      f = float32((d + 0.5) * (n / m) - 0.5), s = floor(f), f -= s;
 *                   horizontally, outside [0, n-1), f = 0 and s is clamped;
 *                   vertically f stays and the two rows are clamped
 *     coefficients  a0 = round_half_even((1 - f) * 2048), a1 = round_half_even(f * 2048), float32
 *     horizontal    S = a0 * p[s] + a1 * p[s+1], exact
 *     vertical      (((b0 * (S0 >> 4)) >> 16) + ((b1 * (S1 >> 4)) >> 16) + 2) >> 2
 *
 * Only S >> 4 is ever used, at most 255 * 2048 / 16 = 32640: a row of sums fits int16.
 * Source: OpenCV, modules/imgproc/src/resize.cpp.
 */
#include "data/resize.h"

#include <math.h>

#include "base/mem.h"

void pq_resize_taps(pq_tap *t, int n, int m, bool down)
{
    const double scale = (double)n / m;
    for (int d = 0; d < m; d++) {
        const float p = (float)((d + 0.5) * scale - 0.5), base = floorf(p);
        float f = p - base;
        t[d].from = (int32_t)base;
        if (!down && (t[d].from < 0 || t[d].from >= n - 1)) {
            f = 0;
            t[d].from = t[d].from < 0 ? 0 : n - 1;
        }
        t[d].weight[0] = (int16_t)lrintf((1.0f - f) * 2048.0f);
        t[d].weight[1] = (int16_t)lrintf(f * 2048.0f);
    }
}

/* dst: m pixels of S >> 4; src: one row of n pixels. */
static void horizontal(int16_t *restrict dst, const uint8_t *restrict src, const pq_tap *t, int n,
                       int m)
{
    for (int d = 0; d < m; d++) {
        const int s = t[d].from, a0 = t[d].weight[0], a1 = t[d].weight[1];
        const uint8_t *p = src + 3 * (ptrdiff_t)s, *q = s + 1 < n ? p + 3 : p; /* a1 is 0 there */
        dst[3 * d] = (int16_t)((a0 * p[0] + a1 * q[0]) >> 4);
        dst[3 * d + 1] = (int16_t)((a0 * p[1] + a1 * q[1]) >> 4);
        dst[3 * d + 2] = (int16_t)((a0 * p[2] + a1 * q[2]) >> 4);
    }
}

static void vertical(uint8_t *restrict dst, const int16_t *restrict r0, const int16_t *restrict r1,
                     int b0, int b1, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint8_t)((((b0 * r0[i]) >> 16) + ((b1 * r1[i]) >> 16) + 2) >> 2);
}

static int clamp_row(int y, int h) { return y < 0 ? 0 : y > h - 1 ? h - 1 : y; }

pq_status pq_image_resize(pq_ctx *ctx, pq_image *out, const pq_image *src, int w, int h)
{
    pq_tap *across = NULL, *down = NULL;
    int16_t *rows = NULL;
    const size_t row = 3 * (size_t)(w > 0 ? w : 0);
    pq_status st = pq_image_new(ctx, out, w, h);
    if (st != PQ_OK) return st;
    PQ_TRY(pq_alloc(ctx, &across, (size_t)w, sizeof *across));
    PQ_TRY(pq_alloc(ctx, &down, (size_t)h, sizeof *down));
    PQ_TRY(pq_alloc(ctx, &rows, 2 * row, sizeof *rows));
    pq_resize_taps(across, src->w, w, false);
    pq_resize_taps(down, src->h, h, true);
    int16_t *buf[2] = {rows, rows + row};
    int have[2] = {-1, -1}; /* which source row each buffer holds */
    for (int y = 0; y < h; y++) {
        const int16_t *b = down[y].weight;
        for (int k = 0; k < 2; k++) {
            const int want = clamp_row(down[y].from + k, src->h);
            if (have[k] == want) continue;
            if (k == 0 && have[1] == want) { /* going down: the lower row becomes the upper one */
                int16_t *swap = buf[0];
                buf[0] = buf[1];
                buf[1] = swap;
                have[1] = have[0];
            } else {
                horizontal(buf[k], src->data + 3 * (size_t)want * (size_t)src->w, across, src->w,
                           w);
            }
            have[k] = want;
        }
        vertical(out->data + (size_t)y * row, buf[0], buf[1], b[0], b[1], row);
    }
out:
    pq_free(across);
    pq_free(down);
    pq_free(rows);
    if (st != PQ_OK) pq_image_clear(out);
    return st;
}
