/* Boxes and labels into a picture. */
#include <pquant/detect.h>

#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "detect/font.h"

enum { GLYPH_W = 6, GLYPH_H = 9 }; /* with the gaps, in font pixels */

typedef struct colour {
    uint8_t c[3];
} colour;

/* Hues a golden angle apart: neighbouring classes differ most. */
static colour class_colour(int cls)
{
    const double hue = 6 * fmod(0.05 + 0.6180339887498949 * cls, 1.0);
    const double value = cls % 3 == 2 ? 0.75 : 1.0;
    colour out;
    for (int k = 0; k < 3; k++) {
        const double at = fmod(hue + 6 - 2 * k, 6);
        const double ramp = fmin(fmax(fabs(at - 3) - 1, 0), 1);
        out.c[k] = (uint8_t)(255 * value * (0.15 + 0.85 * ramp));
    }
    return out;
}

static void fill(pq_image *img, int x0, int y0, int x1, int y1, colour col)
{
    if (x0 < 0) x0 = 0;
    if (y0 < 0) y0 = 0;
    if (x1 > img->w) x1 = img->w;
    if (y1 > img->h) y1 = img->h;
    for (int y = y0; y < y1; y++) {
        uint8_t *p = img->data + 3 * ((size_t)y * (size_t)img->w + (size_t)x0);
        for (int x = x0; x < x1; x++, p += 3)
            for (int k = 0; k < 3; k++) p[k] = col.c[k];
    }
}

static void frame(pq_image *img, int x0, int y0, int x1, int y1, int line, colour col)
{
    fill(img, x0, y0, x1, y0 + line, col);
    fill(img, x0, y1 - line, x1, y1, col);
    fill(img, x0, y0, x0 + line, y1, col);
    fill(img, x1 - line, y0, x1, y1, col);
}

/* One '?' for each character beyond ASCII: its later bytes in UTF-8 are 10xxxxxx. */
static bool continues(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

static int text_length(const char *text)
{
    int n = 0;
    for (; *text; text++) n += !continues(*text);
    return n;
}

static void write_text(pq_image *img, int x, int y, int scale, const char *text, colour col)
{
    for (; *text; text++) {
        if (continues(*text)) continue;
        const int g = *text >= ' ' && *text <= '~' ? *text - ' ' : '?' - ' ';
        for (int row = 0; row < 7; row++)
            for (int k = 0; k < 5; k++)
                if (pq_detect__font[g][row] >> (4 - k) & 1)
                    fill(img, x + k * scale, y + row * scale, x + (k + 1) * scale,
                         y + (row + 1) * scale, col);
        x += GLYPH_W * scale;
    }
}

/* Above the box, or inside it where there is no room; inside the picture if it fits. */
static void label(pq_image *img, int x, int y, int scale, const char *text, colour back)
{
    const int w = (text_length(text) * GLYPH_W + 1) * scale, h = GLYPH_H * scale;
    const int light = 299 * back.c[0] + 587 * back.c[1] + 114 * back.c[2];
    const colour ink = light > 140000 ? (colour){{0, 0, 0}} : (colour){{255, 255, 255}};
    y = y >= h ? y - h : y;
    if (x + w > img->w) x = img->w - w;
    if (x < 0) x = 0;
    if (y < 0) y = 0;
    fill(img, x, y, x + w, y + h, back);
    write_text(img, x + scale, y + scale, scale, text, ink);
}

static int pixel(double v, int limit)
{
    return (int)lround(fmin(fmax(v, -1.0), (double)limit + 1));
}

static pq_status draw_one(pq_ctx *ctx, pq_image *img, const pq_detection *d, const char *name)
{
    char *text;
    const int line = 1 + (img->w + img->h) / 600;
    int scale = (img->w + img->h + 250) / 500;
    if (!isfinite(d->x) || !isfinite(d->y) || !isfinite(d->w) || !isfinite(d->h)) return PQ_OK;
    pq_status st = name ? pq_asprintf(ctx, &text, "%.60s %.2f", name, d->score)
                        : pq_asprintf(ctx, &text, "%d %.2f", (int)d->cls, d->score);
    if (st != PQ_OK) return st;
    if (scale < 1) scale = 1;
    const colour col = class_colour(d->cls < 0 ? 0 : d->cls);
    const int x0 = pixel(d->x, img->w), y0 = pixel(d->y, img->h);
    frame(img, x0, y0, pixel(d->x + d->w, img->w), pixel(d->y + d->h, img->h), line, col);
    label(img, x0, y0, scale, text, col);
    pq_free(text);
    return PQ_OK;
}

pq_status pq_draw(pq_ctx *ctx, pq_image *img, const pq_detection *d, size_t n,
                  const char *const *class_name, size_t n_names)
{
    for (size_t i = n; i-- > 0;) { /* best first in the list: on top in the picture */
        const bool named = class_name && d[i].cls >= 0 && (size_t)d[i].cls < n_names;
        pq_status st = draw_one(ctx, img, &d[i], named ? class_name[d[i].cls] : NULL);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}
