/* COCO figures against pycocotools, and their bootstrap form. */
#include "../base/testing.h"

#include <math.h>
#include <pquant/evaluate.h>

#include "base/json.h"
#include "cases.h"
#include "evaluate/figures.h"

/* Figures of pycocotools 2.0.11 for the files that case_write makes. */
static const case_spec cases[] = {
    {1,
     6,
     3,
     60,
     200,
     1,
     1,
     10,
     {0.12386878740413217, 0.26654473379071303, 0.0984218649874358, 0.1758794791049851,
      0.164518742167257, 0.12950337890931948, 0.05685045948203842, 0.32350320245057074,
      0.4056947925368977, 0.4614718614718615, 0.4046296296296295, 0.19333333333333333}},
    {2,
     4,
     2,
     40,
     600,
     2,
     1,
     50,
     {0.22051063327319934, 0.4018211953057747, 0.23988555267956085, 0.24351761904716174,
      0.31683187165257165, 0.4552798176030786, 0.021052631578947368, 0.39368421052631575,
      0.8410526315789474, 0.8299999999999998, 0.8562500000000002, 0.8541666666666666}},
    {3,
     8,
     5,
     25,
     60,
     0,
     0,
     4,
     {0.18705089080336604, 0.4537148000514337, 0.17153286757247158, 0.355050843545893,
      0.3717821782178218, 0.2558415841584158, 0.26849999999999996, 0.47200000000000003,
      0.47200000000000003, 0.5966666666666667, 0.4, 0.33}},
    {4, 5, 4, 12, 0, 0, 1, 4, {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}},
    {5,
     3,
     2,
     20,
     100,
     8,
     1,
     4,
     {-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0}},
    {6,
     1,
     1,
     120,
     390,
     1,
     1,
     1000,
     {0.07617587830135239, 0.2260840087971586, 0.04772937078794171, 0.06969386073687206,
      0.1326648463468482, 0.13022552255225522, 0.0009259259259259259, 0.028703703703703703,
      0.18888888888888888, 0.19000000000000003, 0.20930232558139536, 0.19}},
    {7,
     20,
     10,
     300,
     1500,
     1,
     1,
     20,
     {0.177696022780139, 0.3661533805373517, 0.17359248357614593, 0.18907336094283636,
      0.2561979105770135, 0.34568973355098465, 0.15505870211759296, 0.559842306298643,
      0.6190921858542837, 0.6084608825986535, 0.6154745115995116, 0.6148809523809524}},
    {8,
     4,
     3,
     0,
     30,
     0,
     1,
     4,
     {-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static void load(test_env *e, pq_coco **gt, pq_detections *d, const case_spec *s,
                 const uint32_t *times)
{
    pq_out ann, det;
    assert_ok(e->ctx, pq_out_open(e->ctx, &ann, test_path(e, "ann.json")));
    assert_ok(e->ctx, pq_out_open(e->ctx, &det, test_path(e, "det.json")));
    case_write(ann.f, det.f, s, times);
    assert_ok(e->ctx, pq_out_commit(e->ctx, &ann));
    assert_ok(e->ctx, pq_out_commit(e->ctx, &det));
    assert_ok(e->ctx, pq_coco_load(e->ctx, gt, test_path(e, "ann.json")));
    assert_ok(e->ctx, pq_detections_load(e->ctx, d, *gt, test_path(e, "det.json")));
}

static void check_figures(const pq_figures *f, const double expected[12], double bound)
{
    for (int i = 0; i < PQ_FIG_COUNT; i++)
        if (!(fabs(f->v[i] - expected[i]) <= bound))
            fail_msg("%s is %.9f, expected %.9f", pq_figure_name((pq_figure)i), f->v[i],
                     expected[i]);
}

static void equals_pycocotools(void **state)
{
    test_env *e = *state;
    for (size_t i = 0; i < N_CASES; i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            pq_coco *gt;
            pq_detections d;
            pq_figures f;
            load(e, &gt, &d, &cases[i], NULL);
            pq_ctx_set_threads(e->ctx, threads);
            assert_ok(e->ctx, pq_evaluate(e->ctx, &f, gt, d.at, d.n));
            check_figures(&f, cases[i].figures, 1e-9);
            pq_detections_clear(&d);
            pq_coco_free(gt);
        }
}

static void equals_the_golden_file(void **state)
{
    test_env *e = *state;
    char path[512];
    cJSON *doc;
    double expected[PQ_FIG_COUNT];
    pq_coco *gt;
    pq_detections d;
    pq_figures f;
    shared_path(path, sizeof path, "golden/coco_eval/expected.json");
    assert_ok(e->ctx, pq_json_load(e->ctx, &doc, path));
    for (int i = 0; i < PQ_FIG_COUNT; i++)
        assert_ok(e->ctx, pq_json_number(e->ctx, &expected[i], doc, pq_figure_name((pq_figure)i),
                                         "expected.json"));
    cJSON_Delete(doc);
    shared_path(path, sizeof path, "golden/coco_eval/annotations.json");
    assert_ok(e->ctx, pq_coco_load(e->ctx, &gt, path));
    shared_path(path, sizeof path, "golden/coco_eval/detections.json");
    assert_ok(e->ctx, pq_detections_load(e->ctx, &d, gt, path));
    assert_ok(e->ctx, pq_evaluate(e->ctx, &f, gt, d.at, d.n));
    check_figures(&f, expected, 1e-6);
    pq_detections_clear(&d);
    pq_coco_free(gt);
}

/* Counting an image m times is evaluating m copies of it, where no two scores of an image are
 * equal. */
static void multiplicities_are_copies(void **state)
{
    test_env *e = *state;
    static const size_t used[] = {0, 1, 2, 6};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) {
        case_spec distinct = cases[used[i]];
        distinct.n_scores = 1000000;
        distinct.first_id = 1; /* an id of 0 counts differently, and only one copy has it */
        const case_spec *s = &distinct;
        uint32_t times[32], by_id[32];
        pq_rng r = {99 + i};
        pq_coco *gt;
        pq_detections d;
        pq_eval_matches *m;
        pq_figures f, g;
        double ap;
        for (int k = 0; k < s->n_images; k++) times[k] = (uint32_t)pq_rng_below(&r, 4);
        for (int k = 0; k < s->n_images; k++) by_id[s->n_images - 1 - k] = times[k];
        load(e, &gt, &d, s, times);
        assert_ok(e->ctx, pq_evaluate(e->ctx, &f, gt, d.at, d.n));
        pq_detections_clear(&d);
        pq_coco_free(gt);
        load(e, &gt, &d, s, NULL);
        assert_ok(e->ctx, pq_eval_match(e->ctx, &m, gt, d.at, d.n, NULL, 0));
        assert_int_equal(pq_eval_image_count(m), s->n_images);
        assert_ok(e->ctx, pq_eval_accumulate(e->ctx, &g, NULL, m, by_id));
        assert_ok(e->ctx, pq_eval_ap(e->ctx, &ap, m, by_id));
        check_figures(&g, f.v, 1e-12);
        assert_true(fabs(ap - f.v[PQ_FIG_AP]) < 1e-12);
        pq_eval_free(m);
        pq_detections_clear(&d);
        pq_coco_free(gt);
    }
}

/* The chosen images alone, and class APs whose mean is AP. */
static void subsets_and_classes(void **state)
{
    test_env *e = *state;
    const case_spec *s = &cases[6];
    uint32_t times[32] = {0};
    int64_t ids[5];
    double class_ap[16], sum = 0;
    int n = 0;
    pq_coco *gt;
    pq_detections d;
    pq_eval_matches *all, *some;
    pq_figures f, g;
    load(e, &gt, &d, s, NULL);
    for (size_t i = 0; i < 5; i++) {
        ids[i] = gt->image[3 * i + 1].id;
        times[3 * i + 1] = 1;
    }
    assert_ok(e->ctx, pq_eval_match(e->ctx, &all, gt, d.at, d.n, NULL, 0));
    assert_ok(e->ctx, pq_eval_match(e->ctx, &some, gt, d.at, d.n, ids, 5));
    assert_int_equal(pq_eval_image_count(some), 5);
    assert_ok(e->ctx, pq_eval_accumulate(e->ctx, &f, NULL, all, times));
    assert_ok(e->ctx, pq_eval_accumulate(e->ctx, &g, class_ap, some, NULL));
    check_figures(&g, f.v, 1e-12);
    for (int k = 0; k < s->n_classes; k++)
        if (class_ap[k] >= 0) {
            sum += class_ap[k];
            n++;
        }
    assert_true(fabs(sum / n - g.v[PQ_FIG_AP]) < 1e-12);
    pq_eval_free(some);
    ids[2] = 5;
    assert_fails(e->ctx, pq_eval_match(e->ctx, &some, gt, d.at, d.n, ids, 5), PQ_E_INVALID,
                 "image 5 to evaluate");
    assert_null(some);
    pq_eval_free(all);
    pq_eval_free(NULL);
    pq_detections_clear(&d);
    pq_coco_free(gt);
}

static void wrong_detections_are_refused(void **state)
{
    test_env *e = *state;
    pq_coco *gt;
    pq_detections d;
    pq_figures f;
    load(e, &gt, &d, &cases[0], NULL);
    d.at[3].cls = 77; /* a class that gt does not have: left out */
    d.at[4].cls = -1;
    assert_ok(e->ctx, pq_evaluate(e->ctx, &f, gt, d.at, d.n));
    d.at[5].score = NAN;
    assert_fails(e->ctx, pq_evaluate(e->ctx, &f, gt, d.at, d.n), PQ_E_INVALID, "detection 5");
    d.at[2].image = 1;
    assert_fails(e->ctx, pq_evaluate(e->ctx, &f, gt, d.at, d.n), PQ_E_INVALID,
                 "detection 2 is of image 1, which is not among the 6 of");
    pq_detections_clear(&d);
    pq_coco_free(gt);
}

static void memory_runs_out(void **state)
{
    test_env *e = *state;
    pq_coco *gt;
    pq_detections d;
    pq_figures f;
    pq_status st = PQ_E_NOMEM;
    load(e, &gt, &d, &cases[0], NULL);
    pq_ctx_set_threads(e->ctx, 1);
    for (long n = 1; st == PQ_E_NOMEM; n++) {
        pq_mem_fail_after(n);
        st = pq_evaluate(e->ctx, &f, gt, d.at, d.n);
        pq_mem_fail_after(0);
    }
    assert_int_equal(st, PQ_OK);
    check_figures(&f, cases[0].figures, 1e-9);
    pq_detections_clear(&d);
    pq_coco_free(gt);
}

static void figures_as_json(void **state)
{
    test_env *e = *state;
    const pq_figures f = {{0.5, 0.25, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0.125}};
    cJSON *doc;
    assert_ok(e->ctx, pq_figures_to_json(e->ctx, &doc, &f));
    char *text = cJSON_PrintUnformatted(doc);
    assert_string_equal(text, "{\"AP\":0.5,\"AP50\":0.25,\"AP75\":-1,\"APs\":0,\"APm\":0,"
                              "\"APl\":0,\"AR1\":0,\"AR10\":0,\"AR100\":0,\"ARs\":0,"
                              "\"ARm\":0,\"ARl\":0.125}");
    cJSON_free(text);
    cJSON_Delete(doc);
    assert_string_equal(pq_figure_name(PQ_FIG_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(equals_pycocotools),
        test_case(equals_the_golden_file),
        test_case(multiplicities_are_copies),
        test_case(subsets_and_classes),
        test_case(wrong_detections_are_refused),
        test_case(memory_runs_out),
        test_case(figures_as_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
