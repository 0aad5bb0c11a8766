/* Suppression: edge cases by hand, random ones against the plain definition. */
#include "../base/testing.h"

#include <math.h>

#include "base/rng.h"
#include "detect/nms.h"

enum { MAX = 600 };

static size_t run(test_env *e, uint32_t *keep, const pq_candidate *c, size_t n, const pq_box *box,
                  double iou, size_t max_det)
{
    size_t n_keep;
    assert_ok(e->ctx, pq_detect__nms(e->ctx, keep, &n_keep, c, n, box, 4, iou, max_det));
    return n_keep;
}

static void nothing_in_nothing_out(void **state)
{
    uint32_t keep[1];
    assert_int_equal(run(*state, keep, NULL, 0, NULL, 0.5, 1), 0);
}

static void best_first_and_classes_apart(void **state)
{
    const pq_box box[] = {{0, 0, 10, 10}, {1, 0, 11, 10}, {100, 100, 110, 110}};
    const pq_candidate c[] = {{0.5f, 1, 0}, {0.9f, 1, 1}, {0.4f, 2, 0}, {0.95f, 0, 2}};
    uint32_t keep[4];
    assert_int_equal(run(*state, keep, c, 4, box, 0.5, 4), 3);
    assert_int_equal(keep[0], 3);
    assert_int_equal(keep[1], 1); /* suppresses 0, which overlaps by 9/11 */
    assert_int_equal(keep[2], 2); /* another class */
}

static void equal_scores_keep_their_order(void **state)
{
    const pq_box box[] = {{0, 0, 10, 10}, {0, 0, 10, 10}, {50, 0, 60, 10}, {80, 0, 90, 10}};
    const pq_candidate c[] = {{0.5f, 0, 0}, {0.5f, 0, 1}, {0.5f, 0, 2}, {0.5f, 3, 3}};
    uint32_t keep[4];
    assert_int_equal(run(*state, keep, c, 4, box, 0.5, 4), 3);
    assert_int_equal(keep[0], 0);
    assert_int_equal(keep[1], 2);
    assert_int_equal(keep[2], 3);
    assert_int_equal(run(*state, keep, c, 4, box, 0.5, 2), 2); /* at most two */
    assert_int_equal(keep[1], 2);
}

static void at_the_threshold_a_box_stays(void **state)
{
    const pq_box box[] = {{0, 0, 10, 10}, {0, 0, 10, 5}}; /* IoU a hair below 0.5 */
    const pq_candidate c[] = {{0.9f, 0, 0}, {0.8f, 0, 1}};
    uint32_t keep[2];
    assert_int_equal(run(*state, keep, c, 2, box, 0.5, 2), 2);
    assert_int_equal(run(*state, keep, c, 2, box, 0.4999, 2), 1);
}

static void suppressed_boxes_suppress_nothing(void **state)
{
    const pq_box box[] = {{0, 0, 10, 10}, {4, 0, 14, 10}, {8, 0, 18, 10}};
    const pq_candidate c[] = {{0.9f, 0, 0}, {0.8f, 0, 1}, {0.7f, 0, 2}};
    uint32_t keep[3];
    assert_int_equal(run(*state, keep, c, 3, box, 0.4, 3), 2);
    assert_int_equal(keep[1], 2);
}

static void boxes_without_area(void **state)
{
    const pq_box box[] = {{5, 5, 5, 5}, {5, 5, 5, 5}};
    const pq_candidate c[] = {{0.9f, 0, 0}, {0.8f, 0, 1}};
    uint32_t keep[2];
    assert_int_equal(run(*state, keep, c, 2, box, 0.5, 2), 2); /* their IoU is 0 */
}

static void scores_below_zero_are_ordered(void **state)
{
    const pq_box box[] = {{0, 0, 1, 1}, {9, 0, 10, 1}, {20, 0, 21, 1}, {30, 0, 31, 1}};
    const pq_candidate c[] = {{-2.0f, 0, 0}, {-1.0f, 0, 1}, {-0.0f, 0, 2}, {0.0f, 0, 3}};
    uint32_t keep[4];
    assert_int_equal(run(*state, keep, c, 4, box, 0.5, 4), 4);
    assert_int_equal(keep[0], 2); /* -0 and 0 are equal */
    assert_int_equal(keep[1], 3);
    assert_int_equal(keep[2], 1);
    assert_int_equal(keep[3], 0);
}

static double plain_iou(const pq_box *a, const pq_box *b)
{
    double w = fmin(a->x2, b->x2) - fmax(a->x1, b->x1), h = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    double inter = fmax(w, 0) * fmax(h, 0);
    return inter /
           ((a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - inter + 1e-9);
}

/* The definition: the best candidate left stays and removes its like, again and again. */
static size_t plain(uint32_t *keep, const pq_candidate *c, size_t n, const pq_box *box, double iou,
                    size_t max_det)
{
    bool gone[MAX] = {false};
    size_t n_keep = 0;
    while (n_keep < max_det) {
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (!gone[i] && (best == n || c[i].score > c[best].score)) best = i;
        if (best == n) break;
        gone[best] = true;
        keep[n_keep++] = (uint32_t)best;
        for (size_t i = 0; i < n; i++)
            if (c[i].cls == c[best].cls && plain_iou(&box[c[best].box], &box[c[i].box]) > iou)
                gone[i] = true;
    }
    return n_keep;
}

static void equals_the_definition(void **state)
{
    test_env *e = *state;
    pq_rng r = {3};
    for (int round = 0; round < 200; round++) {
        pq_box box[MAX];
        pq_candidate c[MAX];
        uint32_t keep[MAX], expected[MAX];
        const size_t n = (size_t)pq_rng_below(&r, MAX);
        for (size_t i = 0; i < n; i++) {
            const double x = (double)pq_rng_below(&r, 60), y = (double)pq_rng_below(&r, 60);
            box[i] = (pq_box){x, y, x + 1 + (double)pq_rng_below(&r, 30),
                              y + 1 + (double)pq_rng_below(&r, 30)};
            c[i] = (pq_candidate){(float)pq_rng_below(&r, 40) / 40, (int32_t)pq_rng_below(&r, 4),
                                  (uint32_t)pq_rng_below(&r, i + 1)};
        }
        const double iou = (double)pq_rng_below(&r, 10) / 10;
        const size_t max_det = 1 + (size_t)pq_rng_below(&r, MAX - 1);
        const size_t n_expected = plain(expected, c, n, box, iou, max_det);
        assert_int_equal(run(e, keep, c, n, box, iou, max_det), n_expected);
        assert_memory_equal(keep, expected, n_expected * sizeof *keep);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(nothing_in_nothing_out),
        test_case(best_first_and_classes_apart),
        test_case(equal_scores_keep_their_order),
        test_case(at_the_threshold_a_box_stays),
        test_case(suppressed_boxes_suppress_nothing),
        test_case(boxes_without_area),
        test_case(scores_below_zero_are_ordered),
        test_case(equals_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
