/* The paired bootstrap against a plain one of another generator, and what any of them must say. */
#include "../base/testing.h"

#include <math.h>
#include <pquant/evaluate.h>

#include "cases.h"

static const case_spec spec = {7, 20, 4, 200, 900, 1, 1, 20, {0}};

typedef struct two {
    pq_coco *gt;
    pq_detections d;
    pq_eval_matches *a, *b;
} two;

/* b has the same detections, but those of every third image are moved by a sixth of their width. */
static void make(test_env *e, two *t)
{
    pq_out ann, det;
    assert_ok(e->ctx, pq_out_open(e->ctx, &ann, test_path(e, "ann.json")));
    assert_ok(e->ctx, pq_out_open(e->ctx, &det, test_path(e, "det.json")));
    case_write(ann.f, det.f, &spec, NULL);
    assert_ok(e->ctx, pq_out_commit(e->ctx, &ann));
    assert_ok(e->ctx, pq_out_commit(e->ctx, &det));
    assert_ok(e->ctx, pq_coco_load(e->ctx, &t->gt, test_path(e, "ann.json")));
    assert_ok(e->ctx, pq_detections_load(e->ctx, &t->d, t->gt, test_path(e, "det.json")));
    assert_ok(e->ctx, pq_eval_match(e->ctx, &t->a, t->gt, t->d.at, t->d.n, NULL, 0));
    for (size_t i = 0; i < t->d.n; i++)
        if (t->d.at[i].image % 3 == 0) t->d.at[i].x += t->d.at[i].w / 6;
    assert_ok(e->ctx, pq_eval_match(e->ctx, &t->b, t->gt, t->d.at, t->d.n, NULL, 0));
}

static void clear(two *t)
{
    pq_eval_free(t->a);
    pq_eval_free(t->b);
    pq_detections_clear(&t->d);
    pq_coco_free(t->gt);
}

static void the_same_differ_by_nothing(void **state)
{
    test_env *e = *state;
    two t;
    pq_difference d;
    make(e, &t);
    assert_ok(e->ctx, pq_eval_difference(e->ctx, &d, t.a, t.a, 50, 1));
    assert_true(d.value == 0 && d.low == 0 && d.high == 0);
    assert_int_equal(d.n_resamples, 50);
    clear(&t);
}

/* Value, sign, and independence of the threads. */
static void interval_of_a_real_difference(void **state)
{
    test_env *e = *state;
    two t;
    pq_difference d, back, alone;
    double ap[2];
    make(e, &t);
    assert_ok(e->ctx, pq_eval_ap(e->ctx, &ap[0], t.a, NULL));
    assert_ok(e->ctx, pq_eval_ap(e->ctx, &ap[1], t.b, NULL));
    pq_ctx_set_threads(e->ctx, 3);
    assert_ok(e->ctx, pq_eval_difference(e->ctx, &d, t.a, t.b, 0, 1));
    assert_int_equal(d.n_resamples, 1000);
    assert_true(ap[0] > ap[1] && d.value == ap[0] - ap[1]);
    assert_true(d.low < d.value && d.value < d.high);
    pq_ctx_set_threads(e->ctx, 1);
    assert_ok(e->ctx, pq_eval_difference(e->ctx, &alone, t.a, t.b, 0, 1));
    assert_memory_equal(&d, &alone, sizeof d);
    assert_ok(e->ctx, pq_eval_difference(e->ctx, &back, t.b, t.a, 0, 1));
    assert_true(back.value == -d.value);
    assert_true(fabs(back.low + d.high) < 1e-12 && fabs(back.high + d.low) < 1e-12);
    clear(&t);
}

/* The ends of other draws lie within a tenth of the interval's width, save chance. */
static void a_plain_bootstrap_agrees(void **state)
{
    test_env *e = *state;
    enum { DRAWS = 2000 };
    two t;
    pq_difference d;
    uint64_t lcg = 12345;
    int below = 0, above = 0;
    make(e, &t);
    assert_ok(e->ctx, pq_eval_difference(e->ctx, &d, t.a, t.b, 4000, 5));
    for (int i = 0; i < DRAWS; i++) {
        uint32_t times[32] = {0};
        double ap[2];
        for (int k = 0; k < spec.n_images; k++) {
            lcg = lcg * 6364136223846793005u + 1442695040888963407u;
            times[(lcg >> 33) % (uint64_t)spec.n_images]++;
        }
        assert_ok(e->ctx, pq_eval_ap(e->ctx, &ap[0], t.a, times));
        assert_ok(e->ctx, pq_eval_ap(e->ctx, &ap[1], t.b, times));
        below += ap[0] - ap[1] < d.low;
        above += ap[0] - ap[1] > d.high;
    }
    /* 2.5 % each: 50 of 2000, deviation 7 */
    print_message("%d below, %d above of %d\n", below, above, DRAWS);
    assert_true(below > 20 && below < 85 && above > 20 && above < 85);
    clear(&t);
}

static void other_images_are_refused(void **state)
{
    test_env *e = *state;
    two t;
    pq_eval_matches *some;
    pq_difference d;
    make(e, &t);
    assert_ok(e->ctx, pq_eval_match(e->ctx, &some, t.gt, t.d.at, t.d.n, &t.gt->image[3].id, 1));
    assert_fails(e->ctx, pq_eval_difference(e->ctx, &d, t.a, some, 0, 1), PQ_E_INVALID,
                 "matches of 20 and of 1 images");
    pq_eval_free(some);
    clear(&t);
}

static void memory_runs_out(void **state)
{
    test_env *e = *state;
    two t;
    pq_difference d;
    pq_status st = PQ_E_NOMEM;
    make(e, &t);
    pq_ctx_set_threads(e->ctx, 1);
    for (long n = 1; st == PQ_E_NOMEM; n++) {
        pq_mem_fail_after(n);
        st = pq_eval_difference(e->ctx, &d, t.a, t.b, 3, 1);
        pq_mem_fail_after(0);
    }
    assert_int_equal(st, PQ_OK);
    clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(the_same_differ_by_nothing), test_case(interval_of_a_real_difference),
        test_case(a_plain_bootstrap_agrees), test_case(other_images_are_refused),
        test_case(memory_runs_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
