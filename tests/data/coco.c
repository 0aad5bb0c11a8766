/* Annotation files, sound and malformed. */
#include "../base/testing.h"

#include <pquant/data.h>

#define IMAGES                                                                                     \
    "\"images\": [{\"id\": 7, \"file_name\": \"b.jpg\"}, "                                         \
    "{\"id\": -3, \"file_name\": \"a.jpg\", \"width\": 4, \"height\": 5}]"
#define CATEGORIES                                                                                 \
    "\"categories\": [{\"id\": 90, \"name\": \"dog\"}, {\"id\": 2, \"name\": \"cat\"}]"

static pq_status load(test_env *e, pq_coco **out, const char *text)
{
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "ann.json"), text, strlen(text)));
    return pq_coco_load(e->ctx, out, test_path(e, "ann.json"));
}

static void sorted_and_complete(void **state)
{
    test_env *e = *state;
    pq_coco *c;
    assert_ok(
        e->ctx,
        load(e, &c,
             "{" IMAGES ", " CATEGORIES ", \"annotations\": ["
             "{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, 3, 4], \"id\": 50},"
             "{\"image_id\": -3, \"category_id\": 90, \"bbox\": [0, 0, 10.5, 2], \"area\": 9,"
             " \"iscrowd\": 1},"
             "{\"image_id\": 7, \"category_id\": 90, \"bbox\": [5, 6, 0, 8], \"iscrowd\": 0}]}"));
    assert_int_equal(c->n_images, 2);
    assert_int_equal(c->image[0].id, -3);
    assert_string_equal(c->image[0].file_name, "a.jpg");
    assert_int_equal(c->image[0].h, 5);
    assert_int_equal(c->image[1].w, 0);
    assert_string_equal(c->category[0].name, "cat");
    assert_int_equal(pq_coco_find_image(c, 7), 1);
    assert_int_equal(pq_coco_find_image(c, 8), -1);
    assert_int_equal(pq_coco_find_category(c, 90), 1);
    assert_int_equal(pq_coco_find_category(c, 1), -1);
    assert_int_equal(c->n_anns, 3);
    const pq_coco_ann *a = c->ann; /* of image -3, then the two of image 7 in the file's order */
    assert_true(a[0].image == 0 && a[0].cls == 1 && a[0].crowd && a[0].area == 9 && a[0].id == 2);
    assert_true(a[1].image == 1 && a[1].cls == 0 && !a[1].crowd && a[1].area == 12 &&
                a[1].id == 50);
    assert_true(a[2].image == 1 && a[2].cls == 1 && a[2].x == 5 && a[2].h == 8 && a[2].area == 0);
    pq_coco_free(c);
    pq_coco_free(NULL);
}

static void empty_lists_are_fine(void **state)
{
    test_env *e = *state;
    pq_coco *c;
    assert_ok(e->ctx, load(e, &c, "{\"images\": [], \"categories\": [], \"annotations\": []}"));
    assert_int_equal(c->n_images + c->n_categories + c->n_anns, 0);
    assert_int_equal(pq_coco_find_image(c, 0), -1);
    pq_coco_free(c);
}

#define ANN(text) "{" IMAGES ", " CATEGORIES ", \"annotations\": [" text "]}"

static const struct {
    const char *text, *message;
} malformed[] = {
    {"", "not JSON"},
    {"[]", "ann.json: not an object"},
    {"{}", "member 'images' is nothing, expected an array"},
    {"{\"images\": 3}", "member 'images' is a number"},
    {"{\"images\": [3]}", "images[0]: member 'id' is nothing"},
    {"{\"images\": [{\"id\": \"7\"}]}", "images[0]: member 'id' is a string, expected a number"},
    {"{\"images\": [{\"id\": 1.5}]}", "images[0]: member 'id' is 1.5, expected an integer"},
    {"{\"images\": [{\"id\": 1}]}", "images[0]: member 'file_name' is nothing"},
    {"{\"images\": [{\"id\": 1, \"file_name\": \"a\", \"width\": -4}]}",
     "images[0]: member 'width'"},
    {"{\"images\": [{\"id\": 1, \"file_name\": \"a\"}, {\"id\": 4, \"file_name\": \"a\"},"
     " {\"id\": 1, \"file_name\": \"b\"}]}",
     "images[2]: id 1 is that of images[0] too"},
    {"{" IMAGES "}", "member 'categories' is nothing"},
    {"{" IMAGES ", \"categories\": [{\"id\": 1}]}", "categories[0]: member 'name' is nothing"},
    {"{" IMAGES ", \"categories\": [{\"id\": 1, \"name\": \"a\"}, {\"id\": 1, \"name\": \"b\"}]}",
     "categories[1]: id 1 is that of categories[0] too"},
    {"{" IMAGES ", " CATEGORIES "}", "member 'annotations' is nothing"},
    {ANN("{}"), "annotations[0]: member 'image_id' is nothing"},
    {ANN("{\"image_id\": 7}"), "annotations[0]: member 'category_id' is nothing"},
    {ANN("{\"image_id\": 8, \"category_id\": 2, \"bbox\": [1, 2, 3, 4]}"),
     "annotations[0]: image_id 8 is not among the 2 images"},
    {ANN("{\"image_id\": 7, \"category_id\": 1, \"bbox\": [1, 2, 3, 4]}"),
     "annotations[0]: category_id 1 is not among the 2 categories"},
    {ANN("{\"image_id\": 7, \"category_id\": 2}"), "annotations[0]: member 'bbox' is nothing"},
    {ANN("{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, 3]}"), "'bbox' has 3 elements"},
    {ANN("{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, \"3\", 4]}"),
     "annotations[0]: bbox[2] is not a finite number"},
    {ANN("{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, 1e999, 4]}"), "bbox[2]"},
    {ANN("{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, 3, -4]}"), "'bbox' is 3 x -4"},
    {ANN("{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, 3, 4], \"area\": \"9\"}"),
     "annotations[0]: member 'area' is a string"},
    {ANN("{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, 3, 4], \"iscrowd\": []}"),
     "annotations[0]: member 'iscrowd' is an array"},
};

static void malformed_files_are_refused(void **state)
{
    test_env *e = *state;
    pq_coco *c;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        assert_fails(e->ctx, load(e, &c, malformed[i].text), PQ_E_FORMAT, malformed[i].message);
        assert_non_null(strstr(pq_ctx_error(e->ctx), "ann.json: "));
        assert_null(c);
    }
    assert_fails(e->ctx, pq_coco_load(e->ctx, &c, test_path(e, "none.json")), PQ_E_IO, "none.json");
}

static void memory_runs_out(void **state)
{
    test_env *e = *state;
    pq_coco *c;
    pq_status st = PQ_E_NOMEM;
    assert_ok(e->ctx,
              load(e, &c, ANN("{\"image_id\": 7, \"category_id\": 2, \"bbox\": [1, 2, 3, 4]}")));
    for (long n = 1; st == PQ_E_NOMEM; n++) {
        pq_coco_free(c);
        pq_mem_fail_after(n);
        st = pq_coco_load(e->ctx, &c, test_path(e, "ann.json"));
        pq_mem_fail_after(0);
    }
    assert_int_equal(st, PQ_OK);
    pq_coco_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(sorted_and_complete), test_case(empty_lists_are_fine),
        test_case(malformed_files_are_refused), test_case(memory_runs_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
