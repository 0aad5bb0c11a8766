/* Which points a shape has, its texture, and drawing. Divisions, not shifts: they are defined for
 * negative numbers. */
#include "shape.h"

typedef struct point {
    int u, v; /* in SHAPE_UNIT */
} point;

/* From the picture to the shape's own coordinates, 16 fractional bits. */
typedef struct frame {
    int64_t ux, uy, vx, vy;
} frame;

/* cos and sin from half the tangent: exact rational numbers. */
static frame frame_of(const shape *s)
{
    const int64_t t = s->turn, one = 1024, norm = one * one + t * t;
    int64_t c = (one * one - t * t) * 65536 / norm, n = 2 * t * one * 65536 / norm;
    for (int i = 0; i < s->quadrant; i++) {
        const int64_t swap = c;
        c = -n;
        n = swap;
    }
    return (frame){c * SHAPE_UNIT / s->ru, n * SHAPE_UNIT / s->ru, -n * SHAPE_UNIT / s->rv,
                   c * SHAPE_UNIT / s->rv};
}

static point to_own(const frame *f, int dx, int dy)
{
    return (point){(int)((f->ux * dx + f->uy * dy) / 65536),
                   (int)((f->vx * dx + f->vy * dy) / 65536)};
}

static int absolute(int x) { return x < 0 ? -x : x; }

static bool within(point p, int radius)
{
    return (int64_t)p.u * p.u + (int64_t)p.v * p.v <= (int64_t)radius * radius;
}

/* On the inner side of a line with normal (nu, nv) / 1024 at that distance. */
static bool beside(point p, int nu, int nv, int distance)
{
    return (int64_t)p.u * nu + (int64_t)p.v * nv <= (int64_t)distance * 1024;
}

/* Five lines; the points on the inner side of at least four are the pentagram. */
static bool in_star(point p)
{
    static const int normal[5][2] = {{0, 1024}, {974, 316}, {602, -828}, {-602, -828}, {-974, 316}};
    int n = 0;
    for (int i = 0; i < 5; i++) n += beside(p, normal[i][0], normal[i][1], 340);
    return n >= 4;
}

static bool inside(shape_kind kind, point p)
{
    const int u = absolute(p.u), v = absolute(p.v);
    switch (kind) {
    case SHAPE_DISC: return within(p, 1000);
    case SHAPE_RING: return within(p, 1000) && !within(p, 600);
    case SHAPE_SQUARE: return u <= 716 && v <= 716;
    case SHAPE_TRIANGLE:
        return p.v <= 510 && beside(p, 887, -512, 510) && beside(p, -887, -512, 510);
    case SHAPE_HEXAGON: return v <= 870 && u * 887 + v * 512 <= 870 * 1024;
    case SHAPE_STAR: return in_star(p);
    case SHAPE_CROSS: return (u <= 310 && v <= 960) || (v <= 310 && u <= 960);
    case SHAPE_CRESCENT: return within(p, 1000) && !within((point){p.u - 420, p.v}, 820);
    case SHAPE_BAR: return u <= 1000 && v <= 120;
    case SHAPE_QUARTER: return within(p, 1000) && p.u >= 0 && p.v >= 0;
    case SHAPE_CORNER: return u <= 716 && v <= 716 && (p.u <= -300 || p.v >= 300);
    }
    return false;
}

static uint32_t hash2(uint32_t seed, int x, int y)
{
    uint32_t h = seed ^ (uint32_t)x * 0x9e3779b1u ^ (uint32_t)y * 0x85ebca77u;
    h = (h ^ (h >> 15)) * 0x2c1b3c6du;
    h = (h ^ (h >> 12)) * 0x297a2d39u;
    return h ^ (h >> 15);
}

/* Share of the second colour, 0 .. 256. Textures are sampled a little beyond the shape. */
static int texture_at(const shape *s, point p)
{
    const int u = p.u + 4 * SHAPE_UNIT, v = p.v + 4 * SHAPE_UNIT, period = s->period;
    const int half = period / 2;
    switch (s->texture) {
    case TEXTURE_PLAIN: return 0;
    case TEXTURE_GRADIENT: {
        const int share = (p.u + SHAPE_UNIT) / 8;
        return share < 0 ? 0 : share > 256 ? 256 : share;
    }
    case TEXTURE_DOTS:
        return within((point){u % period - half, v % period - half}, period * 3 / 10) ? 256 : 0;
    case TEXTURE_GRAIN: return (int)(hash2(s->seed, u * 3 / period, v * 3 / period) & 255);
    case TEXTURE_STRIPES: return u % period < half ? 256 : 0;
    case TEXTURE_CHECKER: return (u % period < half) != (v % period < half) ? 256 : 0;
    }
    return 0;
}

static void blend(uint8_t *pixel, const shape *s, int share, int cover)
{
    const int weight = cover * s->alpha; /* of 4 * 256 */
    for (int k = 0; k < 3; k++) {
        const int colour = (s->colour[0][k] * (256 - share) + s->colour[1][k] * share) / 256;
        pixel[k] = (uint8_t)((pixel[k] * (1024 - weight) + colour * weight + 512) / 1024);
    }
}

static int whole(int quarters) { return quarters >= 0 ? quarters / 4 : -((3 - quarters) / 4); }

int shape_draw(pq_image *img, uint8_t *owner, uint8_t id, const shape *s)
{
    const frame f = frame_of(s);
    const int reach = s->ru > s->rv ? s->ru : s->rv;
    const int y1 = whole(s->cy + reach) + 1, x1 = whole(s->cx + reach) + 1;
    int covered = 0;
    for (int y = whole(s->cy - reach); y <= y1; y++)
        for (int x = whole(s->cx - reach); x <= x1; x++) {
            const int dx = 4 * x - s->cx, dy = 4 * y - s->cy;
            int cover = 0;
            for (int k = 0; k < 4; k++)
                cover += inside(s->kind, to_own(&f, dx + 1 + 2 * (k % 2), dy + 1 + 2 * (k / 2)));
            covered += cover >= 2;
            if (!cover || x < 0 || y < 0 || x >= img->w || y >= img->h) continue;
            const size_t at = (size_t)y * (size_t)img->w + (size_t)x;
            blend(img->data + 3 * at, s, texture_at(s, to_own(&f, dx + 2, dy + 2)), cover);
            if (owner && cover >= 2) owner[at] = id;
        }
    return covered;
}
