/** @file scene.h  Scenes of textured shapes on cluttered backgrounds, with what is in them. */
#ifndef PQ_SAMPLE_SCENE_H
#define PQ_SAMPLE_SCENE_H

#include <pquant/data.h>

enum { SCENE_SIDE = 416, SCENE_CLASSES = 10, SCENE_MOST_OBJECTS = 14 };

/** Names by class. Two of the classes are told by their texture alone. */
extern const char *const scene_class_name[SCENE_CLASSES];

/** What can be seen of an object: the box of its visible pixels. */
typedef struct scene_object {
    int cls;
    int x, y, w, h, area; /* pixels */
    bool crowd;           /* too little of it is visible to demand that it be found */
} scene_object;

typedef struct scene {
    scene_object object[SCENE_MOST_OBJECTS];
    int n;
} scene;

/** What drawing needs beside the picture. */
typedef struct scene_scratch {
    int plane[SCENE_SIDE * SCENE_SIDE];
    uint8_t owner[SCENE_SIDE * SCENE_SIDE]; /* whose pixel: object + 1, else 0 */
    uint8_t copy[SCENE_SIDE * SCENE_SIDE * 3];
} scene_scratch;

/** Draw scene `index` of a seed, the same on every machine. img: SCENE_SIDE square, from
 *  pq_image_new. */
void scene_draw(scene *out, pq_image *img, scene_scratch *work, uint64_t seed, uint64_t index);

#endif
