/* Drawing: what is painted, and nothing outside the picture. */
#include "../base/testing.h"

#include <math.h>
#include <pquant/detect.h>

static size_t painted(const pq_image *im, int x0, int y0, int x1, int y1)
{
    size_t n = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const uint8_t *p = im->data + 3 * (y * im->w + x);
            n += p[0] || p[1] || p[2];
        }
    return n;
}

static void frame_and_label(void **state)
{
    test_env *e = *state;
    const pq_detection d = {.cls = 0, .score = 0.87, .x = 50, .y = 60, .w = 100, .h = 80};
    const char *const name[] = {"person"};
    pq_image im;
    assert_ok(e->ctx, pq_image_new(e->ctx, &im, 200, 160));
    assert_ok(e->ctx, pq_draw(e->ctx, &im, &d, 1, name, 1));
    assert_int_equal(painted(&im, 50, 60, 150, 61), 100);  /* top edge */
    assert_int_equal(painted(&im, 149, 60, 150, 140), 80); /* right edge */
    assert_int_equal(painted(&im, 60, 70, 140, 130), 0);   /* inside stays */
    assert_true(painted(&im, 50, 50, 110, 60) > 300);      /* the label above */
    assert_int_equal(painted(&im, 0, 141, 200, 160), 0);
    pq_image_clear(&im);
}

/* Boxes on one another: the better one's label above, the next inside, below, inside the bottom,
 * then the same at the right; the ninth finds no place. */
static void labels_leave_each_other_alone(void **state)
{
    test_env *e = *state;
    pq_detection d[9];
    pq_image im;
    size_t before = 0;
    for (size_t i = 0; i < 9; i++)
        d[i] = (pq_detection){.cls = 7, .score = 0.9, .x = 40, .y = 40, .w = 120, .h = 60};
    for (size_t n = 1; n <= 9; n++) {
        assert_ok(e->ctx, pq_image_new(e->ctx, &im, 200, 160));
        assert_ok(e->ctx, pq_draw(e->ctx, &im, d, n, NULL, 0));
        const size_t all = painted(&im, 0, 0, 200, 160);
        if (n == 9)
            assert_int_equal(all, before);
        else
            assert_true(all > before);
        before = all;
        pq_image_clear(&im);
    }
}

static void classes_have_colours_of_their_own(void **state)
{
    test_env *e = *state;
    uint8_t seen[12][3];
    for (int k = 0; k < 12; k++) {
        const pq_detection d = {.cls = k, .score = 0.5, .x = 10, .y = 40, .w = 20, .h = 20};
        pq_image im;
        assert_ok(e->ctx, pq_image_new(e->ctx, &im, 64, 64));
        assert_ok(e->ctx, pq_draw(e->ctx, &im, &d, 1, NULL, 0));
        memcpy(seen[k], im.data + 3 * (59 * 64 + 20), 3);
        pq_image_clear(&im);
        for (int i = 0; i < k; i++) {
            int apart = 0;
            for (int c = 0; c < 3; c++) apart += abs(seen[k][c] - seen[i][c]);
            if (apart < 30) fail_msg("classes %d and %d look alike", i, k);
        }
    }
}

static void wild_boxes_stay_inside(void **state)
{
    test_env *e = *state;
    const pq_detection d[] = {{.cls = 0, .x = -1e300, .y = -5, .w = 2e300, .h = 1e9},
                              {.cls = -4, .x = 30, .y = 20},
                              {.cls = 1, .x = NAN, .w = 5, .h = 5},
                              {.cls = 2, .x = 1e9, .y = 1e9},
                              {.cls = INT32_MAX, .x = 5, .y = 5, .w = -9, .h = -9},
                              {.cls = 3, .x = 9, .y = INFINITY}};
    const char *const name[] = {
        "na\xc3\xafve \t caf\xc3\xa9 with a very long name, longer than its picture"};
    for (int w = 1; w < 60; w += 13) {
        pq_image im;
        assert_ok(e->ctx, pq_image_new(e->ctx, &im, w, 61 - w));
        assert_ok(e->ctx, pq_draw(e->ctx, &im, d, sizeof d / sizeof *d, name, 1));
        pq_image_clear(&im);
    }
}

static void names_of_coco(void **state)
{
    (void)state;
    assert_string_equal(pq_coco80_name(0), "person");
    assert_string_equal(pq_coco80_name(79), "toothbrush");
    assert_int_equal(pq_coco80_id(79), 90);
    assert_null(pq_coco80_name(80));
    assert_int_equal(pq_coco80_id(-1), -1);
    for (int i = 1; i < 80; i++) assert_true(pq_coco80_id(i) > pq_coco80_id(i - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_case(frame_and_label),
                                       test_case(labels_leave_each_other_alone),
                                       test_case(classes_have_colours_of_their_own),
                                       test_case(wild_boxes_stay_inside), test_case(names_of_coco)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
