/* Engines against the original's figures (../shared/golden): outputs of real checkpoints on real
 * images and of all families without a checkpoint; and T as INT8, cpu against ref step by step. */
#include "steps.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <pquant/pquant.h>

#include "base/cpu.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/engines.h"
#include "support/synthetic.h"

static pq_ctx *ctx;

static void need(char *path, size_t size, const char *name)
{
    if (pq_test_shared(path, size, name)) return;
    print_message("skipped: no %s\n", path);
    skip();
}

static const cJSON *item(const cJSON *o, const char *key)
{
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(o, key);
    assert_non_null(x);
    return x;
}
static double number(const cJSON *o, const char *key) { return item(o, key)->valuedouble; }
static double element(const cJSON *list, int i) { return cJSON_GetArrayItem(list, i)->valuedouble; }

typedef struct model {
    pq_graph *g;
    pq_head head;
    pq_prep prep;
    pq_session *s;
    pq_tensor in, *out;
} model;

static void open_session(model *m)
{
    pq_plan *plan;
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, m->g, PQ_PREC_FP32));
    PQ_CHECK(ctx,
             pq_compile(ctx, &m->s, &pq_engine_cpu, m->g, plan, &(pq_compile_opts){.threads = 2}));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &m->out, m->s));
    pq_plan_free(plan);
}

static void open_model(model *m, const char *name, int64_t side)
{
    char path[512];
    const pq_read_opts opts = {.h = side, .w = side};
    memset(m, 0, sizeof *m);
    need(path, sizeof path, name);
    PQ_CHECK(ctx, pq_read(ctx, &m->g, path, &opts));
    PQ_CHECK(ctx, pq_pass_all(ctx, m->g));
    PQ_CHECK(ctx, pq_head_detect(ctx, &m->head, m->g));
    pq_head_prep(&m->prep, &m->head);
    PQ_CHECK(ctx, pq_tensor_new(ctx, &m->in, PQ_F32, &m->g->value[m->g->input[0]].shape));
    open_session(m);
}

static void close_model(model *m)
{
    pq_session_outputs_free(m->out, m->s);
    pq_session_free(m->s);
    pq_tensor_clear(&m->in);
    pq_graph_free(m->g);
}

static void run_image(model *m, const char *file)
{
    char name[256], path[512];
    pq_image img = {0};
    snprintf(name, sizeof name, "coco128/images/val2017/%s", file);
    need(path, sizeof path, name);
    PQ_CHECK(ctx, pq_image_load(ctx, &img, path));
    PQ_CHECK(ctx, pq_preprocess(ctx, pq_tensor_data(&m->in), NULL, &img, &m->prep));
    PQ_CHECK(ctx, pq_run(ctx, m->s, &m->in, 1, m->out, m->s->n_outputs));
    pq_image_clear(&img);
}

static cJSON *golden(const char *name)
{
    char path[512];
    cJSON *doc;
    need(path, sizeof path, name);
    PQ_CHECK(ctx, pq_json_load(ctx, &doc, path));
    return doc;
}

static void damo(const char *file, const char *name)
{
    model m;
    cJSON *doc = golden(name);
    const cJSON *image, *a;
    double worst_score = 0, worst_box = 0;
    open_model(&m, file, 640);
    cJSON_ArrayForEach(image, item(doc, "images"))
    {
        run_image(&m, item(image, "file")->valuestring);
        const float *scores = pq_tensor_data(&m.out[m.head.scores_at]);
        const float *boxes = pq_tensor_data(&m.out[m.head.boxes_at]);
        cJSON_ArrayForEach(a, item(image, "anchors"))
        {
            const int64_t i = (int64_t)number(a, "index"), c = (int64_t)number(a, "label");
            const double s = (double)scores[i * m.head.n_classes + c];
            worst_score = pq_check_worse(worst_score, fabs(s - number(a, "score")));
            for (int k = 0; k < 4; k++)
                worst_box = pq_check_worse(
                    worst_box, fabs((double)boxes[i * 4 + k] - element(item(a, "box"), k)));
        }
    }
    print_message("%s: worst score %.2g, worst box %.2g px\n", name, worst_score, worst_box);
    assert_true(worst_score < 1e-3 && worst_box < 0.05);
    close_model(&m);
    cJSON_Delete(doc);
}

static void test_damo_t(void **state)
{
    (void)state;
    damo("models/damoyolo_tinynasL20_T.pth", "golden/damoyolo_T.json");
}
static void test_damo_s(void **state)
{
    (void)state;
    damo("models/damoyolo_tinynasL25_S.pth", "golden/damoyolo_S.json");
}

/* Outputs [1, anchors, 85]: x y w h before the grid is added, objectness, classes. */
static void test_yolox(void **state)
{
    model m;
    cJSON *doc = golden("golden/yolox_nano.json");
    const cJSON *image, *a;
    double worst = 0;
    (void)state;
    open_model(&m, "models/yolox_nano.onnx", 0);
    cJSON_ArrayForEach(image, item(doc, "images"))
    {
        run_image(&m, item(image, "file")->valuestring);
        cJSON_ArrayForEach(a, item(image, "anchors"))
        {
            const float *row = (const float *)pq_tensor_data(&m.out[0]) +
                               (int64_t)number(a, "index") * (m.head.n_classes + 5);
            const double s = (double)row[4] * (double)row[5 + (int)number(a, "label")];
            worst = pq_check_worse(worst, fabs(s - number(a, "score")));
            worst = pq_check_worse(worst, fabs((double)row[4] - number(a, "objectness")));
            for (int k = 0; k < 4; k++)
                worst =
                    pq_check_worse(worst, fabs((double)row[k] - element(item(a, "raw_xywh"), k)));
        }
    }
    print_message("yolox_nano: worst %.2g\n", worst);
    assert_true(worst < 1e-3);
    close_model(&m);
    cJSON_Delete(doc);
}

static void family(const char *name)
{
    char file[64], path[512];
    model m = {0};
    cJSON *doc;
    const cJSON *a;
    double worst_score = 0, worst_box = 0, sum = 0;
    snprintf(file, sizeof file, "golden/synthetic/%s.json", name);
    need(path, sizeof path, file);
    PQ_CHECK(ctx, pq_test_synthetic_golden(ctx, &doc, name));
    PQ_CHECK(ctx, pq_test_synthetic_read(ctx, &m.g, name, 320, 320));
    PQ_CHECK(ctx, pq_pass_all(ctx, m.g));
    PQ_CHECK(ctx, pq_test_synthetic_input(ctx, &m.in, 320, 320));
    open_session(&m);
    PQ_CHECK(ctx, pq_run(ctx, m.s, &m.in, 1, m.out, m.s->n_outputs));
    const float *scores = pq_tensor_data(&m.out[0]), *boxes = pq_tensor_data(&m.out[1]);
    const cJSON *want = item(doc, "outputs");
    const int64_t classes = (int64_t)number(want, "classes");
    cJSON_ArrayForEach(a, item(want, "sample"))
    {
        const int64_t i = (int64_t)number(a, "index");
        for (int k = 0; k < 8; k++)
            worst_score = fmax(
                worst_score, fabs((double)scores[i * classes + k] - element(item(a, "scores"), k)));
        for (int k = 0; k < 4; k++)
            worst_box = pq_check_worse(worst_box,
                                       fabs((double)boxes[i * 4 + k] - element(item(a, "box"), k)));
    }
    for (int64_t i = 0; i < (int64_t)number(want, "anchors") * classes; i++)
        sum += (double)scores[i];
    print_message("%s: worst score %.2g, worst box %.2g px, sum of scores off by %.2g\n", name,
                  worst_score, worst_box, sum / number(want, "scores_sum") - 1);
    assert_true(worst_score < 1e-4 && worst_box < 0.01);
    assert_true(fabs(sum / number(want, "scores_sum") - 1) < 1e-5);
    close_model(&m);
    cJSON_Delete(doc);
}

static void test_families(void **state)
{
    static const char *const name[] = {"T", "S", "M", "L", "Ns", "Nm", "Nl", "N"};
    (void)state;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) family(name[i]);
}

/* Every operator INT8, max calibration on four images, both schemes: cpu against ref. */
static void int8_as_ref(model *m, const char *what)
{
    char path[512];
    pq_dataset *images;
    pq_ranges *ranges;
    bool all[128];
    need(path, sizeof path, "coco128/images/train2017");
    PQ_CHECK(ctx, pq_dataset_from_folder(ctx, &images, path, 4));
    PQ_CHECK(ctx, pq_calibrate(ctx, &ranges, &pq_engine_cpu, m->g, images, &m->prep,
                               &(pq_calibrate_opts){.calibrator = PQ_CALIB_MAX, .threads = 2}));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) all[i] = true;
    assert_in_range(pq_graph_quantizable_count(m->g), 1, sizeof all / sizeof *all);
    for (int scheme = PQ_SCHEME_S8; scheme <= PQ_SCHEME_U8; scheme++) {
        steps_tally t = {0};
        pq_plan *plan;
        PQ_CHECK(ctx, pq_plan_make(ctx, &plan, m->g, ranges, all, (pq_scheme)scheme, PQ_PREC_FP32));
        steps_compare(&t, ctx, m->g, plan, &m->in);
        print_message("%s %s: %zu of %zu integers differ, worst %d; float32 %.2g; %s\n", what,
                      scheme == PQ_SCHEME_U8 ? "u8" : "s8", t.unequal, t.elements, t.worst, t.real,
                      t.where);
        assert_true(t.worst <= 1 && t.real <= 1e-4);
        assert_true((double)t.unequal <= 1e-4 * (double)t.elements);
        if (!pq_cpu_get()->avx512_vnni && !pq_cpu_get()->avx_vnni) assert_int_equal(t.unequal, 0);
        pq_plan_free(plan);
    }
    pq_ranges_free(ranges);
    pq_dataset_free(images);
}

static void test_int8(void **state)
{
    model m;
    (void)state;
    open_model(&m, "models/damoyolo_tinynasL20_T.pth", 320);
    run_image(&m, "000000000139.jpg");
    assert_int_equal(pq_graph_quantizable_count(m.g), 80);
    int8_as_ref(&m, "T");
    close_model(&m);
}

/* Depthwise and SiLU, which the original's script cannot quantize. */
static void test_nano_int8(void **state)
{
    static const char *const name[] = {"Ns", "Nm", "Nl", "N"};
    (void)state;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char file[64], path[512];
        model m = {0};
        snprintf(file, sizeof file, "golden/synthetic/%s.json", name[i]);
        need(path, sizeof path, file);
        PQ_CHECK(ctx, pq_test_synthetic_read(ctx, &m.g, name[i], 160, 160));
        PQ_CHECK(ctx, pq_pass_all(ctx, m.g));
        PQ_CHECK(ctx, pq_head_detect(ctx, &m.head, m.g));
        pq_head_prep(&m.prep, &m.head);
        PQ_CHECK(ctx, pq_test_synthetic_input(ctx, &m.in, 160, 160));
        open_session(&m);
        int8_as_ref(&m, name[i]);
        close_model(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damo_t), cmocka_unit_test(test_damo_s),
        cmocka_unit_test(test_yolox),  cmocka_unit_test(test_families),
        cmocka_unit_test(test_int8),   cmocka_unit_test(test_nano_int8)};
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pq_ctx_free(ctx);
    return failed;
}
