/** @file shape.h  Textured shapes, drawn in integers alone, so that a seed gives the same pixels on
 *  every machine. Lengths are quarters of a pixel, sub-pixel positions included. */
#ifndef PQ_SAMPLE_SHAPE_H
#define PQ_SAMPLE_SHAPE_H

#include <pquant/data.h>

typedef enum shape_kind {
    SHAPE_DISC,
    SHAPE_RING,
    SHAPE_SQUARE,
    SHAPE_TRIANGLE,
    SHAPE_HEXAGON,
    SHAPE_STAR,
    SHAPE_CROSS,
    SHAPE_CRESCENT,
    SHAPE_BAR, /* clutter from here on */
    SHAPE_QUARTER,
    SHAPE_CORNER
} shape_kind;

typedef enum texture_kind {
    TEXTURE_PLAIN,
    TEXTURE_GRADIENT,
    TEXTURE_DOTS,
    TEXTURE_GRAIN,
    TEXTURE_STRIPES,
    TEXTURE_CHECKER
} texture_kind;

enum {
    SHAPE_UNIT = 1024, /* the shape's own coordinates: every shape lies within this radius */
    SHAPE_TURN = 424,  /* tan(22.5 degrees) * 1024 */
    SHAPE_OPAQUE = 256
};

/** A shape as it is drawn. */
typedef struct shape {
    shape_kind kind;
    texture_kind texture;
    int cx, cy; /* centre */
    int ru, rv; /* radius along its two axes */
    int turn; /* half the angle's tangent * 1024, -SHAPE_TURN .. SHAPE_TURN: 45 degrees each way */
    int quadrant;  /* 0 .. 3: further turns by 90 degrees */
    int period;    /* of the texture, in SHAPE_UNIT */
    int alpha;     /* 0 .. SHAPE_OPAQUE */
    uint32_t seed; /* of the grain */
    uint8_t colour[2][3];
} shape;

/**
 * Draw over the picture; four samples a pixel. Where it covers half a pixel or more, owner[y * w +
 * x] becomes `id` (owner may be NULL). Returns the pixels so covered, those outside the picture
 * included.
 */
int shape_draw(pq_image *img, uint8_t *owner, uint8_t id, const shape *s);

#endif
