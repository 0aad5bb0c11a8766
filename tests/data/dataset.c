/* Lists of images, from annotation files and folders. */
#include "../base/testing.h"

#include <pquant/data.h>

static void put(test_env *e, const char *name, const char *text)
{
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, name), text, strlen(text)));
}

static void check_base(const pq_dataset *d, size_t i, const char *name, int64_t id)
{
    assert_string_equal(pq_path_base(d->sample[i].path), name);
    assert_int_equal(d->sample[i].id, id);
}

static void folders_in_order_of_name(void **state)
{
    test_env *e = *state;
    static const char *const made[] = {
        "b.jpg",     "000012.JPEG", "a.PNG",   "notes.txt",
        "7.png.bak", ".jpg",        "3_1.jpg", "99999999999999999999.jpg"};
    pq_dataset *d;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) put(e, made[i], "x");
    assert_ok(e->ctx, pq_dataset_from_folder(e->ctx, &d, e->dir, 0));
    assert_int_equal(d->n, 5);
    check_base(d, 0, "000012.JPEG", 12);
    check_base(d, 1, "3_1.jpg", -1);
    check_base(d, 2, "99999999999999999999.jpg", -1);
    check_base(d, 3, "a.PNG", -1);
    check_base(d, 4, "b.jpg", -1);
    pq_dataset_free(d);
    assert_ok(e->ctx, pq_dataset_from_folder(e->ctx, &d, e->dir, 2));
    assert_int_equal(d->n, 2);
    pq_dataset_free(d);
    pq_dataset_free(NULL);
}

static void folders_without_images_are_refused(void **state)
{
    test_env *e = *state;
    pq_dataset *d;
    assert_fails(e->ctx, pq_dataset_from_folder(e->ctx, &d, e->dir, 0), PQ_E_IO,
                 "none of 0 files is a .jpg");
    assert_null(d);
    assert_fails(e->ctx, pq_dataset_from_folder(e->ctx, &d, test_path(e, "none"), 0), PQ_E_IO,
                 "none: No such file");
}

static pq_coco *coco(test_env *e, const char *images)
{
    char text[512];
    pq_coco *c;
    snprintf(text, sizeof text, "{\"images\": [%s], \"categories\": [], \"annotations\": []}",
             images);
    put(e, "ann.json", text);
    assert_ok(e->ctx, pq_coco_load(e->ctx, &c, test_path(e, "ann.json")));
    return c;
}

static void annotations_in_order_of_id(void **state)
{
    test_env *e = *state;
    pq_dataset *d;
    pq_coco *c =
        coco(e, "{\"id\": 9, \"file_name\": \"a.jpg\"}, {\"id\": 4, \"file_name\": \"b.jpg\"}");
    put(e, "b.jpg", "x");
    assert_ok(e->ctx, pq_dataset_from_coco(e->ctx, &d, c, e->dir, 1)); /* a.jpg is not needed */
    assert_int_equal(d->n, 1);
    check_base(d, 0, "b.jpg", 4);
    pq_dataset_free(d);
    assert_fails(e->ctx, pq_dataset_from_coco(e->ctx, &d, c, e->dir, 0), PQ_E_IO,
                 "a.jpg: No such file or directory; image 9 of ");
    assert_non_null(strstr(pq_ctx_error(e->ctx), "ann.json"));
    assert_null(d);
    put(e, "a.jpg", "x");
    assert_ok(e->ctx, pq_dataset_from_coco(e->ctx, &d, c, e->dir, 100));
    assert_int_equal(d->n, 2);
    check_base(d, 1, "a.jpg", 9);
    pq_dataset_free(d);
    pq_coco_free(c);
    c = coco(e, "");
    assert_fails(e->ctx, pq_dataset_from_coco(e->ctx, &d, c, e->dir, 0), PQ_E_FORMAT,
                 "ann.json: no images");
    pq_coco_free(c);
}

static void overlap_is_by_content(void **state)
{
    test_env *e = *state;
    pq_dataset *all, one = {0}, other = {0};
    size_t n;
    put(e, "a.jpg", "first");
    put(e, "b.jpg", "other");
    put(e, "c.jpg", "first");
    put(e, "d.jpg", "longer");
    assert_ok(e->ctx, pq_dataset_from_folder(e->ctx, &all, e->dir, 0));
    one.sample = all->sample; /* a */
    one.n = 1;
    other.sample = all->sample + 1; /* b c d */
    other.n = 3;
    assert_ok(e->ctx, pq_dataset_overlap(e->ctx, &n, &one, &other));
    assert_int_equal(n, 1);
    assert_ok(e->ctx, pq_dataset_overlap(e->ctx, &n, all, all));
    assert_int_equal(n, 4);
    other.sample = all->sample + 3; /* d alone */
    other.n = 1;
    assert_ok(e->ctx, pq_dataset_overlap(e->ctx, &n, &one, &other));
    assert_int_equal(n, 0);
    unlink(all->sample[3].path);
    assert_fails(e->ctx, pq_dataset_overlap(e->ctx, &n, &one, &other), PQ_E_IO, "d.jpg");
    pq_dataset_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(folders_in_order_of_name), test_case(folders_without_images_are_refused),
        test_case(annotations_in_order_of_id), test_case(overlap_is_by_content)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
