/** @file font.h  The built-in font of the labels. */
#ifndef PQ_DETECT_FONT_H
#define PQ_DETECT_FONT_H

#include <stdint.h>

/** Glyphs of ' ' .. '~': seven rows from the top, bit 4 is the left of five columns. */
extern const uint8_t pq_detect__font[95][7];

#endif
