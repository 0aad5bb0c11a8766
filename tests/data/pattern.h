/** @file pattern.h  Pictures made by formula. */
#ifndef PQ_TESTS_DATA_PATTERN_H
#define PQ_TESTS_DATA_PATTERN_H

#include "../base/testing.h"

#include <pquant/data.h>

/** Noise: every pixel differs from its neighbours. */
static inline pq_image noise(pq_ctx *ctx, int w, int h)
{
    pq_image im;
    assert_ok(ctx, pq_image_new(ctx, &im, w, h));
    uint8_t *p = im.data;
    for (uint32_t y = 0; y < (uint32_t)h; y++)
        for (uint32_t x = 0; x < (uint32_t)w; x++)
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t v = x * 73856093u ^ y * 19349663u ^ c * 83492791u;
                v = (v ^ v >> 13) * 2654435761u;
                *p++ = (uint8_t)(v >> 24);
            }
    return im;
}

/** One colour with a gentle slope: survives JPEG nearly unchanged. */
static inline pq_image slope(pq_ctx *ctx, int w, int h, int start)
{
    pq_image im;
    assert_ok(ctx, pq_image_new(ctx, &im, w, h));
    for (int i = 0; i < w * h; i++)
        for (int c = 0; c < 3; c++)
            im.data[3 * i + c] = (uint8_t)((start + 40 * c + 60 * (i % w) / w) & 255);
    return im;
}

#endif
