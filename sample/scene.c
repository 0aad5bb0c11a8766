/* Composition of a scene: background, clutter, objects, occluders, light, blur, noise. What makes
 * it hard: sizes from 8 to 240 pixels, occlusion, colours near the background's, textures that only
 * some classes are told by, and clutter that looks alike. */
#include "scene.h"

#include <string.h>

#include "base/rng.h"
#include "shape.h"

const char *const scene_class_name[SCENE_CLASSES] = {
    "disc", "ring",  "square",   "triangle",     "hexagon",
    "star", "cross", "crescent", "striped disc", "checkered square"};

enum { LEAST_TEXTURED = 56, LEAST_SIDE = 6, SIDE = SCENE_SIDE };

static int between(pq_rng *r, int lo, int hi)
{
    return lo + (int)pq_rng_below(r, (uint64_t)(hi - lo + 1));
}

static bool chance(pq_rng *r, int percent) { return between(r, 0, 99) < percent; }

static uint8_t to_byte(int v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

/* A radius: an octave, then evenly within it. */
static int radius(pq_rng *r, int least, int octaves)
{
    const int base = least << between(r, 0, octaves - 1);
    return base + between(r, 0, base);
}

/* ---- colours ---- */

static void any_colour(pq_rng *r, uint8_t c[3])
{
    for (int k = 0; k < 3; k++) c[k] = (uint8_t)between(r, 10, 245);
}

/* Off from a colour by lo .. hi in each channel, upwards or downwards. */
static void off_colour(pq_rng *r, uint8_t c[3], const uint8_t from[3], int lo, int hi)
{
    const bool same = chance(r, 60);
    bool up = chance(r, 50);
    for (int k = 0; k < 3; k++) {
        const int d = between(r, lo, hi);
        if (!same) up = chance(r, 50);
        if (from[k] + d > 255) up = false;
        if (from[k] - d < 0) up = true;
        c[k] = to_byte(up ? from[k] + d : from[k] - d);
    }
}

static void colour_at(const pq_image *img, int cx, int cy, uint8_t c[3])
{
    const int x = cx < 0 ? 0 : cx > 4 * SIDE - 4 ? SIDE - 1 : cx / 4;
    const int y = cy < 0 ? 0 : cy > 4 * SIDE - 4 ? SIDE - 1 : cy / 4;
    memcpy(c, img->data + 3 * ((size_t)y * SIDE + (size_t)x), 3);
}

/* ---- background ---- */

/* Adds noise of one cell size, -256 .. 256 times weight / 256, to a plane. */
static void add_octave(pq_rng *r, int *plane, int cell, int weight)
{
    enum { MOST = SIDE / 8 + 2 };
    int lattice[MOST][MOST];
    const int n = SIDE / cell + 2;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) lattice[i][j] = between(r, -256, 256);
    for (int y = 0; y < SIDE; y++) {
        const int i = y / cell, fy = y % cell * 256 / cell;
        for (int x = 0; x < SIDE; x++) {
            const int j = x / cell, fx = x % cell * 256 / cell;
            const int top = lattice[i][j] * (256 - fx) + lattice[i][j + 1] * fx;
            const int low = lattice[i + 1][j] * (256 - fx) + lattice[i + 1][j + 1] * fx;
            const int v = top / 256 * (256 - fy) + low / 256 * fy;
            plane[y * SIDE + x] += v / 256 * weight / 256;
        }
    }
}

/* Two colours mixed by a slope and coarse noise, and fine noise over them. */
static void draw_background(pq_rng *r, pq_image *img, int *plane)
{
    uint8_t a[3], b[3];
    const int sx = between(r, -256, 256), sy = between(r, -256, 256);
    any_colour(r, a);
    any_colour(r, b);
    memset(plane, 0, sizeof *plane * SIDE * SIDE);
    for (int cell = 8, weight = between(r, 0, 60); cell <= 128; cell *= 2) {
        add_octave(r, plane, cell, weight);
        weight += between(r, 0, 70);
    }
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const int slope = (sx * (x - SIDE / 2) + sy * (y - SIDE / 2)) / SIDE;
            const int share = 128 + slope / 2 + plane[y * SIDE + x];
            const int t = share < 0 ? 0 : share > 256 ? 256 : share;
            uint8_t *p = img->data + 3 * ((size_t)y * SIDE + (size_t)x);
            for (int k = 0; k < 3; k++) p[k] = (uint8_t)((a[k] * (256 - t) + b[k] * t) / 256);
        }
}

/* ---- shapes ---- */

/* Texture colours: near the background's or far from it. */
static void choose_colours(pq_rng *r, shape *s, const pq_image *img)
{
    uint8_t under[3];
    const bool told_by = s->texture >= TEXTURE_STRIPES;
    colour_at(img, s->cx, s->cy, under);
    if (chance(r, 35))
        off_colour(r, s->colour[0], under, 14, 40);
    else
        off_colour(r, s->colour[0], under, 35, 150);
    off_colour(r, s->colour[1], s->colour[0], told_by ? 40 : 20, 110);
}

static void place(pq_rng *r, shape *s, int size, int least_stretch)
{
    const int stretch = between(r, least_stretch, 256);
    const bool along = chance(r, 50);
    s->ru = along ? size : size * stretch / 256;
    s->rv = along ? size * stretch / 256 : size;
    s->cx = between(r, -size / 3, 4 * SIDE + size / 3);
    s->cy = between(r, -size / 3, 4 * SIDE + size / 3);
    s->turn = between(r, -SHAPE_TURN, SHAPE_TURN);
    s->quadrant = between(r, 0, 3);
    s->seed = (uint32_t)pq_rng_u64(r);
    /* Between five pixels and what shows the texture at least three times. */
    const int smaller = s->ru < s->rv ? s->ru : s->rv, least = 20 * SHAPE_UNIT / smaller;
    s->period = least >= 640 ? least : between(r, least, 640);
}

static void draw_clutter(pq_rng *r, pq_image *img, uint8_t *owner, int n, int least_alpha)
{
    for (int i = 0; i < n; i++) {
        shape s = {.alpha = between(r, least_alpha, SHAPE_OPAQUE)};
        static const shape_kind kind[] = {SHAPE_BAR,    SHAPE_BAR,  SHAPE_QUARTER,
                                          SHAPE_CORNER, SHAPE_DISC, SHAPE_SQUARE};
        const int k = between(r, 0, owner ? 0 : 5);
        s.kind = kind[k];
        s.texture = (texture_kind)between(r, TEXTURE_PLAIN, TEXTURE_CHECKER);
        place(r, &s, radius(r, 32, 4), 256);
        if (k > 3) s.rv = s.ru * between(r, 80, 115) / 256; /* long ones: of no class */
        choose_colours(r, &s, img);
        shape_draw(img, owner, 0, &s);
    }
}

static void choose_class(pq_rng *r, shape *s, int *cls, int size)
{
    static const shape_kind kind[SCENE_CLASSES] = {
        SHAPE_DISC, SHAPE_RING,  SHAPE_SQUARE,   SHAPE_TRIANGLE, SHAPE_HEXAGON,
        SHAPE_STAR, SHAPE_CROSS, SHAPE_CRESCENT, SHAPE_DISC,     SHAPE_SQUARE};
    *cls = between(r, 0, size < LEAST_TEXTURED ? SCENE_CLASSES - 3 : SCENE_CLASSES - 1);
    s->kind = kind[*cls];
    if (*cls == SCENE_CLASSES - 2)
        s->texture = TEXTURE_STRIPES;
    else if (*cls == SCENE_CLASSES - 1)
        s->texture = TEXTURE_CHECKER;
    else if (s->kind == SHAPE_DISC || s->kind == SHAPE_SQUARE)
        s->texture = (texture_kind)between(r, TEXTURE_PLAIN, TEXTURE_GRAIN);
    else
        s->texture = (texture_kind)between(r, TEXTURE_PLAIN, TEXTURE_CHECKER);
}

/* Large ones tend to be drawn first, so that they do not hide all others. */
static void draw_objects(pq_rng *r, scene *out, pq_image *img, uint8_t *owner, int *full)
{
    int size[SCENE_MOST_OBJECTS];
    out->n = between(r, 1, SCENE_MOST_OBJECTS);
    for (int i = 0; i < out->n; i++) size[i] = radius(r, 18, 5);
    for (int i = 1; i < out->n; i++)
        for (int k = i; k > 0 && size[k] > size[k - 1] && chance(r, 85); k--) {
            const int swap = size[k];
            size[k] = size[k - 1];
            size[k - 1] = swap;
        }
    for (int i = 0; i < out->n; i++) {
        shape s = {.alpha = chance(r, 20) ? between(r, 150, 255) : SHAPE_OPAQUE};
        choose_class(r, &s, &out->object[i].cls, size[i]);
        place(r, &s, size[i], 200);
        choose_colours(r, &s, img);
        full[i] = shape_draw(img, owner, (uint8_t)(i + 1), &s);
    }
}

/* Boxes of what each object has left; objects with nothing left are dropped. */
static void find_visible(scene *out, const uint8_t *owner, const int *full)
{
    int n = 0;
    for (int i = 0; i < out->n; i++) {
        scene_object o = {.cls = out->object[i].cls};
        int x0 = SIDE, y0 = SIDE, x1 = -1, y1 = -1;
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                if (owner[y * SIDE + x] != i + 1) continue;
                o.area++;
                if (x < x0) x0 = x;
                if (x > x1) x1 = x;
                if (y < y0) y0 = y;
                if (y > y1) y1 = y;
            }
        if (!o.area) continue;
        o.x = x0;
        o.y = y0;
        o.w = x1 - x0 + 1;
        o.h = y1 - y0 + 1;
        o.crowd = 10 * o.area < 3 * full[i] || o.w < LEAST_SIDE || o.h < LEAST_SIDE;
        out->object[n++] = o;
    }
    out->n = n;
}

/* ---- camera ---- */

/* Uneven light, and less contrast. */
static void shed_light(pq_rng *r, pq_image *img)
{
    const int sx = between(r, -150, 150), sy = between(r, -150, 150);
    const int gain = chance(r, 40) ? between(r, 90, 256) : 256;
    const int offset = between(r, 0, 256 - gain);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const int light = 256 + (sx * (x - SIDE / 2) + sy * (y - SIDE / 2)) / SIDE;
            uint8_t *p = img->data + 3 * ((size_t)y * SIDE + (size_t)x);
            for (int k = 0; k < 3; k++)
                p[k] = to_byte(to_byte(p[k] * light / 256) * gain / 256 + offset);
        }
}

/* One pass of 1-2-1 in both directions; the rim stays. */
static void blur(pq_image *img, uint8_t *copy)
{
    const size_t row = (size_t)SIDE * 3;
    memcpy(copy, img->data, row * SIDE);
    for (size_t y = 1; y + 1 < SIDE; y++)
        for (size_t x = 3; x + 3 < row; x++) {
            const uint8_t *p = copy + y * row + x;
            int sum = 8;
            for (size_t k = 0; k < 3; k++) {
                const uint8_t *q = p + k * row - row;
                sum += (q[-3] + 2 * q[0] + q[3]) * (k == 1 ? 2 : 1);
            }
            img->data[y * row + x] = (uint8_t)(sum / 16);
        }
}

/* Sensor noise: sums of four bytes are close to normal, with a deviation of 148. */
static void add_noise(pq_rng *r, pq_image *img, int deviation)
{
    const size_t n = (size_t)SIDE * SIDE * 3;
    for (size_t i = 0; i < n; i += 2) {
        const uint64_t u = pq_rng_u64(r);
        for (size_t k = 0; k < 2; k++) {
            const uint32_t v = (uint32_t)(u >> 32 * k);
            const int sum = (int)((v & 255) + (v >> 8 & 255) + (v >> 16 & 255) + (v >> 24));
            img->data[i + k] = to_byte(img->data[i + k] + (sum - 510) * deviation / 148);
        }
    }
}

void scene_draw(scene *out, pq_image *img, scene_scratch *work, uint64_t seed, uint64_t index)
{
    pq_rng r = {seed};
    int full[SCENE_MOST_OBJECTS];
    r.s = pq_rng_u64(&r) ^ (index + 1) * 0xd1342543de82ef95u;
    memset(work->owner, 0, sizeof work->owner);
    draw_background(&r, img, work->plane);
    draw_clutter(&r, img, NULL, between(&r, 2, 24), 70);
    draw_objects(&r, out, img, work->owner, full);
    draw_clutter(&r, img, work->owner, between(&r, 0, 3), SHAPE_OPAQUE);
    find_visible(out, work->owner, full);
    shed_light(&r, img);
    for (int i = between(&r, 0, 3); i > 0; i--) blur(img, work->copy);
    add_noise(&r, img, between(&r, 0, 14));
}
