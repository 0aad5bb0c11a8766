/* The generator: the same pixels everywhere, and annotations that say what is visible. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "scene.h"
#include "shape.h"

enum { PIXELS = SCENE_SIDE * SCENE_SIDE };

static pq_ctx *ctx;
static pq_image img;
static scene_scratch work;

static int setup(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) != PQ_OK || pq_image_new(ctx, &img, SCENE_SIDE, SCENE_SIDE) != PQ_OK;
}

static int teardown(void **state)
{
    (void)state;
    pq_image_clear(&img);
    pq_ctx_free(ctx);
    return 0;
}

static void hash_of(char hex[65], const void *data, size_t n)
{
    pq_sha256 s;
    pq_sha256_init(&s);
    pq_sha256_add(&s, data, n);
    pq_sha256_hex(&s, hex);
}

/* Pixels and objects of four scenes; other machines must get these very bytes. */
static void test_same_everywhere(void **state)
{
    static const struct {
        uint64_t seed, index;
        int objects;
        const char *pixels;
    } want[] = {
        {7, 0, 4, "56ab6ef505d2c24bf7e7cf5a2663588d3bbea6a77c3ac7e9d3d83d210c06ddf4"},
        {7, 1, 7, "b250dd736ad72f4ee032422e1fe7a50c8058cc27a8562a94338fc854262b617f"},
        {3, 199, 10, "de4f3a48c7ca993524cc76075a41417b487cad1d746622cf5b01e08e24722aa9"},
        {UINT64_MAX, 12345, 8, "b9a0fe32c2103d768ec0dff0abf81b5724d72f7c69f9daa3d5f96b75301be48a"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char hex[65];
        scene s;
        memset(img.data, (int)i, 3 * PIXELS); /* what was there does not matter */
        scene_draw(&s, &img, &work, want[i].seed, want[i].index);
        hash_of(hex, img.data, 3 * PIXELS);
        assert_int_equal(s.n, want[i].objects);
        assert_string_equal(hex, want[i].pixels);
    }
}

static void check_object(const scene_object *o)
{
    assert_in_range(o->cls, 0, SCENE_CLASSES - 1);
    assert_true(o->x >= 0 && o->y >= 0 && o->w > 0 && o->h > 0);
    assert_true(o->x + o->w <= SCENE_SIDE && o->y + o->h <= SCENE_SIDE);
    assert_true(o->area > 0 && o->area <= o->w * o->h);
    if (!o->crowd) assert_true(o->w >= 6 && o->h >= 6);
}

/* Boxes span the pixels that the scratch still says are some object's. */
static void test_annotations(void **state)
{
    int seen[SCENE_CLASSES] = {0}, crowds = 0, tiny = 0, large = 0;
    (void)state;
    for (uint64_t i = 0; i < 60; i++) {
        scene s;
        int visible = 0, area = 0;
        scene_draw(&s, &img, &work, 11, i);
        assert_in_range(s.n, 0, SCENE_MOST_OBJECTS);
        for (int k = 0; k < s.n; k++) {
            const scene_object *o = &s.object[k];
            check_object(o);
            area += o->area;
            seen[o->cls]++;
            crowds += o->crowd;
            tiny += o->w < 16 && o->h < 16;
            large += o->w > 150 || o->h > 150;
        }
        for (int p = 0; p < PIXELS; p++) visible += work.owner[p] != 0;
        assert_int_equal(area, visible);
    }
    for (int c = 0; c < SCENE_CLASSES; c++) assert_true(seen[c] > 0);
    assert_true(crowds > 0 && tiny > 0 && large > 0);
}

static shape centred(shape_kind kind)
{
    return (shape){.kind = kind,
                   .cx = 2 * SCENE_SIDE,
                   .cy = 2 * SCENE_SIDE,
                   .ru = 400,
                   .rv = 400,
                   .period = 256,
                   .alpha = SHAPE_OPAQUE,
                   .colour = {{255, 255, 255}, {255, 255, 255}}};
}

/* Radius 100 pixels: areas against geometry, within three percent (half-covered pixels count
 * whole).
 */
static void test_areas(void **state)
{
    static const struct {
        shape_kind kind;
        double area; /* radius 1 */
    } want[] = {{SHAPE_DISC, 2.996},     {SHAPE_RING, 1.917},   {SHAPE_SQUARE, 1.956},
                {SHAPE_TRIANGLE, 1.289}, {SHAPE_HEXAGON, 2.50}, {SHAPE_CROSS, 1.903}};
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        for (int turn = -SHAPE_TURN; turn <= SHAPE_TURN; turn += 212) {
            shape s = centred(want[i].kind);
            s.turn = turn;
            s.quadrant = (int)i % 4;
            const double area = shape_draw(&img, NULL, 0, &s) / 1e4;
            if (area < 0.97 * want[i].area || area > 1.03 * want[i].area)
                fail_msg("shape %d: area %.3f, expected %.3f", want[i].kind, area, want[i].area);
        }
}

/* A square turned by 90 degrees is the same; half outside, its whole area is still counted, and
 * nothing is drawn beyond the picture. */
static void test_placement(void **state)
{
    static uint8_t owner[PIXELS];
    shape s = centred(SHAPE_SQUARE);
    (void)state;
    const int whole = shape_draw(&img, owner, 9, &s);
    int drawn = 0;
    for (int p = 0; p < PIXELS; p++) drawn += owner[p] == 9;
    assert_int_equal(drawn, whole);
    s.quadrant = 1;
    assert_int_equal(shape_draw(&img, NULL, 0, &s), whole);
    memset(owner, 0, sizeof owner);
    s.cx = 0;
    s.cy = -100000;
    assert_int_equal(shape_draw(&img, owner, 9, &s), whole);
    for (int p = 0; p < PIXELS; p++) assert_int_equal(owner[p], 0);
    s.cy = 2 * SCENE_SIDE;
    assert_int_equal(shape_draw(&img, owner, 9, &s), whole);
    drawn = 0;
    for (int p = 0; p < PIXELS; p++) drawn += owner[p] == 9;
    assert_int_equal(drawn, whole / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_everywhere), cmocka_unit_test(test_annotations),
        cmocka_unit_test(test_areas), cmocka_unit_test(test_placement)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
