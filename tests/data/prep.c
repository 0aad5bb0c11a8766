/* Preprocessing: geometry, planes, padding, normalisation. */
#include "pattern.h"

#include <math.h>

static void plain_resize(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 50, 20), small;
    const pq_prep p = {.h = 32, .w = 16};
    uint8_t out[3 * 32 * 16];
    pq_geometry g;
    assert_ok(e->ctx, pq_preprocess_u8(e->ctx, out, &g, &im, &p));
    assert_ok(e->ctx, pq_image_resize(e->ctx, &small, &im, 16, 32));
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 32 * 16; i++)
            assert_int_equal(out[c * 32 * 16 + i], small.data[3 * i + c]);
    assert_int_equal(g.w, 50);
    assert_int_equal(g.h, 20);
    assert_true(g.sx == 50.0 / 16 && g.sy == 20.0 / 32);
    pq_image_clear(&im);
    pq_image_clear(&small);
}

static void letterbox(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 50, 20), small;
    const pq_prep p = {.h = 32, .w = 24, .fit = PQ_FIT_LETTERBOX, .pad = 114, .bgr = true};
    uint8_t out[3 * 32 * 24];
    pq_geometry g;
    assert_ok(e->ctx, pq_preprocess_u8(e->ctx, out, &g, &im, &p));
    assert_ok(e->ctx, pq_image_resize(e->ctx, &small, &im, 24, 9)); /* int(20 * 24 / 50) */
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 24; x++)
                assert_int_equal(out[(c * 32 + y) * 24 + x],
                                 y < 9 ? small.data[3 * (y * 24 + x) + 2 - c] : 114);
    assert_true(fabs(g.sx - 50.0 / 24) < 1e-12 && g.sy == g.sx);
    pq_image_clear(&im);
    pq_image_clear(&small);
}

static void a_thin_picture_keeps_a_line(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 500, 1);
    const pq_prep p = {.h = 16, .w = 16, .fit = PQ_FIT_LETTERBOX, .pad = 7};
    uint8_t out[3 * 16 * 16];
    assert_ok(e->ctx, pq_preprocess_u8(e->ctx, out, NULL, &im, &p));
    assert_int_equal(out[16], 7);
    pq_image_clear(&im);
}

static void mean_and_scale(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 8, 8);
    pq_prep p = {.h = 8, .w = 8, .mean = {10, 20, 30}, .scale = {0.5f, 0, 2}};
    float out[3 * 64];
    assert_ok(e->ctx, pq_preprocess(e->ctx, out, NULL, &im, &p));
    for (int i = 0; i < 64; i++) {
        assert_true(out[i] == ((float)im.data[3 * i] - 10) * 0.5f);
        assert_true(out[64 + i] == (float)im.data[3 * i + 1] - 20);
        assert_true(out[128 + i] == ((float)im.data[3 * i + 2] - 30) * 2);
    }
    p.bgr = true; /* mean and scale belong to the network's channels */
    assert_ok(e->ctx, pq_preprocess(e->ctx, out, NULL, &im, &p));
    assert_true(out[0] == ((float)im.data[2] - 10) * 0.5f);
    pq_image_clear(&im);
}

static void bad_sizes_are_refused(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 8, 8), none = {0};
    const pq_prep good = {.h = 4, .w = 4}, flat = {.h = 0, .w = 4};
    float out[3 * 16];
    assert_fails(e->ctx, pq_preprocess(e->ctx, out, NULL, &im, &flat), PQ_E_INVALID, "4 x 0");
    assert_fails(e->ctx, pq_preprocess(e->ctx, out, NULL, &none, &good), PQ_E_INVALID, "0 x 0");
    pq_image_clear(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_case(plain_resize), test_case(letterbox),
                                       test_case(a_thin_picture_keeps_a_line),
                                       test_case(mean_and_scale), test_case(bad_sizes_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
