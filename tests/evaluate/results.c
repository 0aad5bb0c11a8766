/* COCO result files: round trip and malformed ones. */
#include "../base/testing.h"

#include <pquant/evaluate.h>

static const char annotations[] =
    "{\"images\": [{\"id\": 5, \"file_name\": \"a.jpg\"}], \"annotations\": [],"
    " \"categories\": [{\"id\": 3, \"name\": \"x\"}, {\"id\": 8, \"name\": \"y\"}]}";

static pq_coco *truth(test_env *e)
{
    pq_coco *c;
    assert_ok(e->ctx,
              pq_file_write(e->ctx, test_path(e, "ann.json"), annotations, strlen(annotations)));
    assert_ok(e->ctx, pq_coco_load(e->ctx, &c, test_path(e, "ann.json")));
    return c;
}

static pq_status load(test_env *e, pq_detections *d, const pq_coco *gt, const char *text)
{
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "det.json"), text, strlen(text)));
    return pq_detections_load(e->ctx, d, gt, test_path(e, "det.json"));
}

static void what_is_saved_loads(void **state)
{
    test_env *e = *state;
    pq_coco *gt = truth(e);
    pq_detections list = {0}, back;
    for (int i = 0; i < 300; i++) {
        const pq_detection d = {.image = 5,
                                .cls = i % 2,
                                .score = (double)(0.1f + (float)i * 1e-3f),
                                .x = -1.5 * i,
                                .y = 0.25,
                                .w = 10,
                                .h = i};
        assert_ok(e->ctx, pq_detections_push(e->ctx, &list, &d));
    }
    assert_ok(e->ctx, pq_detections_save(e->ctx, &list, gt, 2, test_path(e, "out.json")));
    assert_ok(e->ctx, pq_detections_load(e->ctx, &back, gt, test_path(e, "out.json")));
    assert_int_equal(back.n, 300);
    for (size_t i = 0; i < 300; i++) {
        const pq_detection *a = &list.at[i], *b = &back.at[i];
        assert_true(a->image == b->image && a->cls == b->cls);
        assert_true((float)a->score == (float)b->score && a->x == b->x && a->h == b->h);
    }
    list.at[7].cls = 2;
    assert_fails(e->ctx, pq_detections_save(e->ctx, &list, gt, 2, test_path(e, "bad.json")),
                 PQ_E_INVALID, "bad.json: detection 7 of class 2, expected 0 to 1");
    assert_false(pq_file_exists(test_path(e, "bad.json")));
    pq_detections_clear(&list);
    pq_detections_clear(&back);
    pq_coco_free(gt);
}

static void check_text(test_env *e, const char *name, const char *expected)
{
    pq_buf *b;
    assert_ok(e->ctx, pq_file_map(e->ctx, &b, test_path(e, name)));
    assert_int_equal(pq_buf_bytes(b), strlen(expected));
    assert_memory_equal(pq_buf_data(b), expected, strlen(expected));
    pq_buf_unref(b);
}

static void ids_without_annotations(void **state)
{
    test_env *e = *state;
    pq_detection d = {.image = 1, .cls = 11, .score = 0.5, .x = 1, .y = 2, .w = 3, .h = 4};
    pq_detections list = {.at = &d, .n = 1, .room = 1}, none = {0};
    assert_ok(e->ctx, pq_detections_save(e->ctx, &list, NULL, 80, test_path(e, "a.json")));
    check_text(e, "a.json",
               "[\n{\"image_id\": 1, \"category_id\": 13, \"bbox\": [1, 2, 3, 4], "
               "\"score\": 0.5}\n]\n");
    assert_ok(e->ctx, pq_detections_save(e->ctx, &list, NULL, 12, test_path(e, "b.json")));
    check_text(e, "b.json",
               "[\n{\"image_id\": 1, \"category_id\": 12, \"bbox\": [1, 2, 3, 4], "
               "\"score\": 0.5}\n]\n");
    assert_ok(e->ctx, pq_detections_save(e->ctx, &none, NULL, 80, test_path(e, "c.json")));
    check_text(e, "c.json", "[\n]\n");
}

static void count_warnings(void *user, pq_log_level level, const char *stage, const char *text)
{
    (void)stage;
    assert_int_equal(level, PQ_LOG_WARN);
    assert_non_null(strstr(text, "1 of 2 detections left out"));
    ++*(int *)user;
}

static void unknown_categories_are_left_out(void **state)
{
    test_env *e = *state;
    pq_coco *gt = truth(e);
    pq_detections d;
    int warnings = 0;
    pq_ctx_set_log(e->ctx, count_warnings, &warnings);
    assert_ok(
        e->ctx,
        load(e, &d, gt,
             "[{\"image_id\": 5, \"category_id\": 4, \"bbox\": [1, 2, 3, 4], \"score\": 1},"
             " {\"image_id\": 5, \"category_id\": 8, \"bbox\": [1, 2, 3, 4], \"score\": 1}]"));
    assert_int_equal(d.n, 1);
    assert_int_equal(d.at[0].cls, 1);
    assert_int_equal(warnings, 1);
    pq_detections_clear(&d);
    pq_coco_free(gt);
}

static const struct {
    const char *text, *message;
} malformed[] = {
    {"", "not JSON"},
    {"{}", "det.json: not an array"},
    {"[1]", "entry [0]: member 'image_id' is nothing"},
    {"[{\"image_id\": 6}]", "entry [0]: image_id 6 is not among the 1 of"},
    {"[{\"image_id\": 5}]", "entry [0]: member 'category_id' is nothing"},
    {"[{\"image_id\": 5, \"category_id\": 3}]", "entry [0]: member 'score' is nothing"},
    {"[{\"image_id\": 5, \"category_id\": 3, \"score\": 1}]", "member 'bbox' is nothing"},
    {"[{\"image_id\": 5, \"category_id\": 3, \"score\": 1, \"bbox\": [1, 2, 3, 4, 5]}]",
     "'bbox' has 5 elements"},
    {"[{\"image_id\": 5, \"category_id\": 3, \"score\": 1, \"bbox\": [1, null, 3, 4]}]", "bbox[1]"},
    {"[{\"image_id\": 5, \"category_id\": 3, \"score\": 1e999, \"bbox\": [1, 2, 3, 4]}]",
     "'score'"},
};

static void malformed_files_are_refused(void **state)
{
    test_env *e = *state;
    pq_coco *gt = truth(e);
    pq_detections d;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        assert_fails(e->ctx, load(e, &d, gt, malformed[i].text), PQ_E_FORMAT, malformed[i].message);
        assert_null(d.at);
    }
    pq_coco_free(gt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(what_is_saved_loads), test_case(ids_without_annotations),
        test_case(unknown_categories_are_left_out), test_case(malformed_files_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
