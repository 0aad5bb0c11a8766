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
#include <pquant/data.h>

#include <math.h>

#include "base/mem.h"

typedef struct taps {
    int32_t *s; /* position of the first of the two pixels */
    int16_t *a; /* [2 m] coefficients */
} taps;

static void position(int *s, float *f, int d, double scale)
{
    float p = (float)((d + 0.5) * scale - 0.5);
    float base = floorf(p);
    *s = (int)base;
    *f = p - base;
}

static void coefficients(int16_t a[2], float f)
{
    a[0] = (int16_t)lrintf((1.0f - f) * 2048.0f);
    a[1] = (int16_t)lrintf(f * 2048.0f);
}

static pq_status horizontal_taps(pq_ctx *ctx, taps *t, int n, int m)
{
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &t->s, (size_t)m, sizeof *t->s));
    PQ_TRY(pq_alloc(ctx, &t->a, 2 * (size_t)m, sizeof *t->a));
    const double scale = (double)n / m;
    for (int d = 0; d < m; d++) {
        int s;
        float f;
        position(&s, &f, d, scale);
        if (s < 0 || s >= n - 1) {
            f = 0;
            s = s < 0 ? 0 : n - 1;
        }
        t->s[d] = s;
        coefficients(t->a + 2 * (size_t)d, f);
    }
out:
    return st;
}

/* dst: m pixels of S >> 4; src: one row of n pixels. */
static void horizontal(int16_t *restrict dst, const uint8_t *restrict src, const taps *t, int n,
                       int m)
{
    for (int d = 0; d < m; d++) {
        const int s = t->s[d], a0 = t->a[2 * d], a1 = t->a[2 * d + 1];
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
    taps t = {0};
    int16_t *rows = NULL;
    const size_t row = 3 * (size_t)(w > 0 ? w : 0);
    pq_status st = pq_image_new(ctx, out, w, h);
    if (st != PQ_OK) return st;
    PQ_TRY(horizontal_taps(ctx, &t, src->w, w));
    PQ_TRY(pq_alloc(ctx, &rows, 2 * row, sizeof *rows));
    const double scale = (double)src->h / h;
    int16_t *buf[2] = {rows, rows + row};
    int have[2] = {-1, -1}; /* which source row each buffer holds */
    for (int y = 0; y < h; y++) {
        int s;
        float f;
        int16_t b[2];
        position(&s, &f, y, scale);
        coefficients(b, f);
        for (int k = 0; k < 2; k++) {
            const int want = clamp_row(s + k, src->h);
            if (have[k] == want) continue;
            if (k == 0 && have[1] == want) { /* going down: the lower row becomes the upper one */
                int16_t *swap = buf[0];
                buf[0] = buf[1];
                buf[1] = swap;
                have[1] = have[0];
            } else {
                horizontal(buf[k], src->data + 3 * (size_t)want * (size_t)src->w, &t, src->w, w);
            }
            have[k] = want;
        }
        vertical(out->data + (size_t)y * row, buf[0], buf[1], b[0], b[1], row);
    }
out:
    pq_free(t.s);
    pq_free(t.a);
    pq_free(rows);
    if (st != PQ_OK) pq_image_clear(out);
    return st;
}
