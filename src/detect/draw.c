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

typedef struct area {
    int x, y, w, h;
} area;

/* Labels that stand in the picture so far. */
typedef struct labels {
    area *at;
    size_t n;
} labels;

static bool is_free(const labels *l, area a)
{
    for (size_t i = 0; i < l->n; i++)
        if (a.x < l->at[i].x + l->at[i].w && l->at[i].x < a.x + a.w &&
            a.y < l->at[i].y + l->at[i].h && l->at[i].y < a.y + a.h)
            return false;
    return true;
}

/* Above the box, else inside its top, else below it, else inside its bottom, at its left side, else
 * at its right: the first place inside the picture where no label of a better box stands. Where
 * there is none a label would only make two unreadable: the box stays without. */
static bool find_place(area *out, const labels *l, const pq_image *img, area box)
{
    const int bottom = box.y + box.h;
    const int x[2] = {box.x, box.x + box.w - out->w};
    const int y[4] = {box.y - out->h, box.y, bottom, bottom - out->h};
    for (int i = 0; i < 8; i++) {
        out->x = x[i / 4] + out->w > img->w ? img->w - out->w : x[i / 4];
        if (out->x < 0) out->x = 0;
        out->y = y[i % 4];
        if (out->y >= 0 && out->y + out->h <= img->h && is_free(l, *out)) return true;
    }
    /* taller than the picture, or crowded */
    out->y = box.y > 0 && box.y + out->h <= img->h ? box.y : 0;
    return l->n == 0;
}

static void label(pq_image *img, labels *l, area box, int scale, const char *text, colour back)
{
    const int light = 299 * back.c[0] + 587 * back.c[1] + 114 * back.c[2];
    const colour ink = light > 140000 ? (colour){{0, 0, 0}} : (colour){{255, 255, 255}};
    area a = {box.x, 0, (text_length(text) * GLYPH_W + 1) * scale, GLYPH_H * scale};
    if (!find_place(&a, l, img, box)) return;
    l->at[l->n++] = a;
    fill(img, a.x, a.y, a.x + a.w, a.y + a.h, back);
    write_text(img, a.x + scale, a.y + scale, scale, text, ink);
}

static int pixel(double v, int limit)
{
    return (int)lround(fmin(fmax(v, -1.0), (double)limit + 1));
}

static bool is_finite(const pq_detection *d)
{
    return isfinite(d->x) && isfinite(d->y) && isfinite(d->w) && isfinite(d->h);
}

static void draw_box(pq_image *img, const pq_detection *d)
{
    const int line = 1 + (img->w + img->h) / 600;
    frame(img, pixel(d->x, img->w), pixel(d->y, img->h), pixel(d->x + d->w, img->w),
          pixel(d->y + d->h, img->h), line, class_colour(d->cls < 0 ? 0 : d->cls));
}

static pq_status draw_label(pq_ctx *ctx, pq_image *img, labels *l, const pq_detection *d,
                            const char *name)
{
    char *text;
    const int scale = (img->w + img->h + 250) / 500;
    pq_status st = name ? pq_asprintf(ctx, &text, "%.60s %.2f", name, d->score)
                        : pq_asprintf(ctx, &text, "%d %.2f", (int)d->cls, d->score);
    if (st != PQ_OK) return st;
    const int x = pixel(d->x, img->w), y = pixel(d->y, img->h);
    const area box = {x, y, pixel(d->x + d->w, img->w) - x, pixel(d->y + d->h, img->h) - y};
    label(img, l, box, scale < 1 ? 1 : scale, text, class_colour(d->cls < 0 ? 0 : d->cls));
    pq_free(text);
    return PQ_OK;
}

pq_status pq_draw(pq_ctx *ctx, pq_image *img, const pq_detection *d, size_t n,
                  const char *const *class_name, size_t n_names)
{
    labels l = {0};
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &l.at, n, sizeof *l.at));
    for (size_t i = n; i-- > 0;) /* best first in the list: on top in the picture */
        if (is_finite(&d[i])) draw_box(img, &d[i]);
    for (size_t i = 0; i < n; i++) {
        const bool named = class_name && d[i].cls >= 0 && (size_t)d[i].cls < n_names;
        if (is_finite(&d[i]))
            PQ_TRY(draw_label(ctx, img, &l, &d[i], named ? class_name[d[i].cls] : NULL));
    }
out:
    pq_free(l.at);
    return st;
}
