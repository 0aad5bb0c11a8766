/* Network inputs against the SHA-256 that OpenCV's give. */
#include "../base/testing.h"

#include <pquant/data.h>

#include "base/hash.h"
#include "base/json.h"

static void check_images(test_env *e, const char *name, const char *member, const pq_prep *prep)
{
    char path[512], hex[65];
    cJSON *doc;
    const cJSON *list, *im;
    const char *file, *expected;
    uint8_t *input;
    pq_sha256 sha;
    const size_t n = 3 * (size_t)prep->h * (size_t)prep->w;
    shared_path(path, sizeof path, name);
    assert_ok(e->ctx, pq_json_load(e->ctx, &doc, path));
    assert_ok(e->ctx, pq_json_array(e->ctx, &list, doc, "images", "golden"));
    assert_int_equal(cJSON_GetArraySize(list), 4);
    assert_ok(e->ctx, pq_alloc(e->ctx, &input, n, 1));
    cJSON_ArrayForEach(im, list)
    {
        char image_path[512] = "coco128/images/val2017/";
        pq_image img;
        assert_ok(e->ctx, pq_json_string(e->ctx, &file, im, "file", "image"));
        assert_ok(e->ctx, pq_json_string(e->ctx, &expected, im, member, "image"));
        snprintf(image_path + strlen(image_path), 64, "%s", file);
        shared_path(path, sizeof path, image_path);
        assert_ok(e->ctx, pq_image_load(e->ctx, &img, path));
        assert_ok(e->ctx, pq_preprocess_u8(e->ctx, input, NULL, &img, prep));
        pq_sha256_init(&sha);
        pq_sha256_add(&sha, input, n);
        pq_sha256_hex(&sha, hex);
        assert_string_equal(hex, expected);
        pq_image_clear(&img);
    }
    pq_free(input);
    cJSON_Delete(doc);
}

static const pq_prep damo = {.h = 640, .w = 640};
static const pq_prep yolox = {.h = 416, .w = 416, .fit = PQ_FIT_LETTERBOX, .pad = 114, .bgr = true};

static void damo_t(void **state)
{
    check_images(*state, "golden/damoyolo_T.json", "input_chw_rgb_sha256", &damo);
}

static void damo_s(void **state)
{
    check_images(*state, "golden/damoyolo_S.json", "input_chw_rgb_sha256", &damo);
}

static void yolox_nano(void **state)
{
    check_images(*state, "golden/yolox_nano.json", "input_chw_bgr_uint8_sha256", &yolox);
}

static void official_annotations(void **state)
{
    test_env *e = *state;
    char path[512], folder[512];
    pq_coco *c;
    pq_dataset *val, *train;
    size_t shared;
    shared_path(path, sizeof path, "coco128/annotations/instances_val2017.json");
    shared_path(folder, sizeof folder, "coco128/images/val2017");
    assert_ok(e->ctx, pq_coco_load(e->ctx, &c, path));
    assert_int_equal(c->n_images, 128);
    assert_int_equal(c->n_categories, 80);
    assert_string_equal(c->category[11].name, "stop sign"); /* id 13: 12 is not used */
    assert_int_equal(c->category[11].id, 13);
    assert_ok(e->ctx, pq_dataset_from_coco(e->ctx, &val, c, folder, 0));
    assert_int_equal(val->n, 128);
    assert_int_equal(val->sample[0].id, 139);
    shared_path(folder, sizeof folder, "coco128/images/train2017");
    assert_ok(e->ctx, pq_dataset_from_folder(e->ctx, &train, folder, 64));
    assert_int_equal(train->n, 64);
    assert_int_equal(train->sample[0].id, 9);
    assert_ok(e->ctx, pq_dataset_overlap(e->ctx, &shared, train, val));
    assert_int_equal(shared, 0);
    assert_ok(e->ctx, pq_dataset_overlap(e->ctx, &shared, val, val));
    assert_int_equal(shared, 128);
    pq_dataset_free(val);
    pq_dataset_free(train);
    pq_coco_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_case(damo_t), test_case(damo_s), test_case(yolox_nano),
                                       test_case(official_annotations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
