/* Users' own models with the command: other classes, names and ids, sizes, sidecars, heads that are
 * not known. The path of the command stands in PQ_COMMAND. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pquant/export.h>
#include <pquant/pass.h>

#include "base/file.h"
#include "base/json.h"
#include "support/families.h"
#include "support/tiny.h"

static pq_ctx *ctx;
static char dir[64], *out, *err;

static char *slurp(const char *name)
{
    char path[128];
    pq_buf *b;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    PQ_CHECK(ctx, pq_file_map(ctx, &b, path));
    char *text = calloc(pq_buf_bytes(b) + 1, 1);
    assert_non_null(text);
    memcpy(text, pq_buf_data(b), pq_buf_bytes(b));
    pq_buf_unref(b);
    return text;
}

/* Exit status of the command with these words, run in the folder. */
static int pquant(const char *words)
{
    char line[1024];
    const char *command = getenv("PQ_COMMAND");
    if (!command) skip();
    snprintf(line, sizeof line, "cd %s && %s %s >stdout 2>stderr", dir, command, words);
    const int status = system(line);
    free(out);
    free(err);
    out = slurp("stdout");
    err = slurp("stderr");
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void works(const char *words)
{
    const int status = pquant(words);
    if (status) fail_msg("%s: status %d: %s", words, status, err);
}

static void fails(int status, const char *words, const char *text)
{
    const int got = pquant(words);
    const char *newline = strchr(err, '\n');
    if (got != status || out[0] || !strstr(err, text) || !newline || newline[1])
        fail_msg("%s: status %d, expected %d with '%s': %s", words, got, status, text, err);
}

static double ap(void)
{
    cJSON *doc = cJSON_Parse(out);
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, "AP");
    if (!cJSON_IsNumber(v)) fail_msg("no AP: %s", out);
    const double x = v->valuedouble;
    cJSON_Delete(doc);
    return x;
}

static void save(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static void save_onnx(const pq_graph *g, const char *name)
{
    char path[128];
    pq_plan *plan;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_export_onnx_file(ctx, path, g, plan, &(pq_export_opts){0}));
    pq_plan_free(plan);
}

/* ann.json with the categories given in place of its own, ids moved along: class i becomes id[i].
 */
static void save_annotations(const char *name, const char *categories, const int id[3])
{
    char path[128];
    cJSON *doc, *list, *a;
    snprintf(path, sizeof path, "%s/ann.json", dir);
    PQ_CHECK(ctx, pq_json_load(ctx, &doc, path));
    list = cJSON_Parse(categories);
    assert_non_null(list);
    cJSON_ReplaceItemInObjectCaseSensitive(doc, "categories", list);
    cJSON_ArrayForEach(a, cJSON_GetObjectItemCaseSensitive(doc, "annotations"))
    {
        cJSON *c = cJSON_GetObjectItemCaseSensitive(a, "category_id");
        cJSON_SetNumberValue(c, id[(int)c->valuedouble - 1]);
    }
    snprintf(path, sizeof path, "%s/%s", dir, name);
    PQ_CHECK(ctx, pq_json_save(ctx, doc, path));
    cJSON_Delete(doc);
}

#define EVAL "eval v8.onnx --data images --json --engine ref "

/* The same boxes under other ids and in another order are found by name or by id, and AP stays. */
static void classes_by_name_and_id(void **state)
{
    static const int moved[3] = {30, 10, 20};
    (void)state;
    save_annotations("moved.json",
                     "[{\"id\":30,\"name\":\"Circle\"},{\"id\":10,\"name\":\"square\"},"
                     "{\"id\":20,\"name\":\"star\"},{\"id\":25,\"name\":\"hexagon\"}]",
                     moved);
    works(EVAL "--ann ann.json");
    const double own = ap();
    assert_true(own > 0.9);
    fails(1, EVAL "--ann moved.json -q", "4 categories, none of which is one of the model's 3");
    save("names.json", "{\"class_names\": [\"circle\", \"square\", \"star\"]}");
    works(EVAL "--ann moved.json --sidecar names.json");
    assert_true(fabs(ap() - own) < 1e-12);
    save("ids.json", "{\"category_ids\": [30, 10, 20]}");
    works(EVAL "--ann moved.json --sidecar ids.json");
    assert_true(fabs(ap() - own) < 1e-12);
    save("others.json", "{\"class_names\": [\"cat\", \"dog\", \"cow\"]}");
    fails(1, EVAL "--ann moved.json -q --sidecar others.json", "none of which");
    save("two.json", "{\"class_names\": [\"cat\", \"dog\"]}");
    fails(1, EVAL "--ann moved.json --sidecar two.json", "2 classes, the outputs have 3");
}

/* What inspect proposes reads the model as it is read without. */
static void proposed_sidecars(void **state)
{
    static const char *const models[] = {"v8", "v8raw", "v5raw", "nano", "pico", "fast", "rows"};
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char words[256];
        snprintf(words, sizeof words, "detect %s.onnx images --json --conf-thres 0.2", models[i]);
        works(words);
        char *plain = out;
        out = NULL;
        snprintf(words, sizeof words, "inspect %s.onnx --sidecar-out side.json --json", models[i]);
        works(words);
        snprintf(words, sizeof words,
                 "detect %s.onnx images --json --conf-thres 0.2 --sidecar side.json", models[i]);
        works(words);
        if (strcmp(plain, out) != 0) fail_msg("%s: the sidecar changes the boxes", models[i]);
        assert_true(strstr(out, "score") != NULL);
        free(plain);
    }
}

static void beside_the_model(void **state)
{
    (void)state;
    save("v8.json", "{\"conf_thres\": 0.99999}");
    works("detect v8.onnx images");
    assert_string_equal(out, "");
    save("v8.json", "{\"something\": \"else\"}");
    works("detect v8.onnx images");
    assert_true(out[0] && strstr(err, "v8.json is not used: no sidecar"));
    save("v8.json", "");
    char path[128];
    snprintf(path, sizeof path, "%s/v8.json", dir);
    unlink(path);
}

static void wrong_sidecars(void **state)
{
    static const char *const cases[][2] = {
        {"{\"anchor\": []}", "no member 'anchor'"},
        {"{\"input\": {\"colour\": \"red\"}}", "colour: 'red', expected one of rgb, bgr, grey"},
        {"{\"input\": {\"colour\": \"grey\"}}", "colour: 1 channels, the model's input has 3"},
        {"{\"decode\": \"yolov99\"}", "decode: 'yolov99', expected damo"},
        {"{\"decode\": \"nanodet\"}", "'nanodet' needs \"classes\""},
        {"{\"decode\": \"nanodet\", \"classes\": 3}", "does not fit a nanodet head"},
        {"{\"decode\": \"boxes\", \"outputs\": {\"boxes\": \"nothing\"}}", "is no output"},
        {"{\"conf_thres\": 2}", "conf_thres: expected a number from 0 to 1"},
        {"{\"strides\": [8, \"x\"]}", "strides: element 1"},
        {"{\"class_names\": [\"a\", 7, \"c\"]}", "class_names: element 1 is no text"},
        {"[1, 2]", "not an object"},
        {"{\"decode\"", "JSON"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        save("side.json", cases[i][0]);
        fails(1, "inspect v8.onnx --sidecar side.json", cases[i][1]);
    }
    fails(1, "inspect v8.onnx --sidecar none.json", "none.json");
}

static void sizes(void **state)
{
    (void)state;
    works("inspect v8raw.onnx --img-size 96x64 --json");
    cJSON *doc = cJSON_Parse(out);
    const cJSON *in = cJSON_GetObjectItemCaseSensitive(doc, "input");
    assert_int_equal((int)cJSON_GetArrayItem(in, 2)->valuedouble, 96);
    assert_int_equal((int)cJSON_GetArrayItem(in, 3)->valuedouble, 64);
    cJSON_Delete(doc);
    works("detect v8raw.onnx images --img-size 96x128");
    fails(2, "inspect yolox.onnx --img-size 96x", "--img-size '96x', expected N or HxW");
    fails(1, "inspect v8.onnx --img-size 128", "input size 1 x 3 x 128 x 128");
    fails(1, "inspect yolox.onnx --img-size 128", "input size 1 x 3 x 128 x 128");
    save("side.json", "{\"input\": {\"size\": [64, 96]}}");
    works("inspect v8raw.onnx --sidecar side.json --json");
    assert_true(strstr(out, "96") != NULL);
}

static double member(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    assert_true(cJSON_IsNumber(v));
    return v->valuedouble;
}

/* Points that were not measured say so; each is faster and loses more than the one before. */
static void check_predicted_front(const cJSON *doc)
{
    const cJSON *front = cJSON_GetObjectItemCaseSensitive(doc, "front"), *v;
    const cJSON *ops = cJSON_GetObjectItemCaseSensitive(doc, "operators");
    double ms = INFINITY, drop = -1;
    assert_true(cJSON_GetArraySize(front) > 0);
    cJSON_ArrayForEach(v, front)
    {
        const char *bits = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(v, "int8"));
        double kept = 0;
        assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(v, "predicted")));
        assert_true(member(v, "ms") < ms && member(v, "drop") > drop);
        ms = member(v, "ms");
        drop = member(v, "drop");
        assert_int_equal((int)strlen(bits), cJSON_GetArraySize(ops));
        for (const char *b = bits; *b; b++) kept += *b != '1';
        assert_true(kept == member(v, "kept"));
    }
}

/* Quantized all the same, by the error of the outputs; AP is refused. */
static void unknown_heads(void **state)
{
    (void)state;
    fails(1, "eval odd.onnx --data images --ann ann.json", "is not known");
    const int status = pquant("run odd.onnx --data images --calib-data images -o result");
    if (status != 0 && status != 3) fail_msg("status %d: %s", status, err);
    assert_true(strstr(err, "the head is not known") != NULL);
    cJSON *doc;
    char path[128];
    snprintf(path, sizeof path, "%s/result/run.json", dir);
    PQ_CHECK(ctx, pq_json_load(ctx, &doc, path));
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(doc, "precisions"), *r;
    cJSON_ArrayForEach(r, results)
    {
        const cJSON *f = cJSON_GetObjectItemCaseSensitive(r, "figures");
        const double score = cJSON_GetObjectItemCaseSensitive(f, "AP")->valuedouble;
        assert_true(score > 0.5 && score <= 1);
    }
    assert_true(cJSON_GetArraySize(results) > 0);
    check_predicted_front(doc);
    cJSON_Delete(doc);
    works("inspect odd.onnx");
    assert_true(strstr(out, "head     not known") != NULL);
}

/* A budget that nothing can hold and no time to see it: full precision, and the reason is time. */
static void time_runs_out(void **state)
{
    static const char command[] =
        "run v8.onnx --data images --ann ann.json --calib-data images --engine ref --runs 3 "
        "-o hurried --max-drop -1 --time-budget ";
    char words[256];
    cJSON *doc;
    (void)state;
    snprintf(words, sizeof words, "%s%s", command, "0.001s");
    assert_int_equal(pquant(words), 3);
    assert_non_null(strstr(out, "the time budget ended before a faster plan was found"));
    assert_null(strstr(out, "not worth it"));
    char path[128];
    snprintf(path, sizeof path, "%s/hurried/run.json", dir);
    PQ_CHECK(ctx, pq_json_load(ctx, &doc, path));
    assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(doc, "time_ran_out")));
    cJSON_Delete(doc);
    char *page = slurp("hurried/report.html");
    assert_non_null(strstr(page, "time ran out"));
    assert_null(strstr(page, "not worth it"));
    free(page);
    snprintf(words, sizeof words, "%s%s", command, "10m"); /* goes on from there to the end */
    assert_int_equal(pquant(words), 3);
    assert_non_null(strstr(out, "INT8 is not worth it here"));
}

static void family_file(family f, const char *name, bool odd)
{
    pq_graph *g = family_graph(f, 3);
    PQ_CHECK(ctx, pq_pass_all(ctx, g));
    if (odd) {
        const pq_value_id first = g->output[0];
        PQ_CHECK(ctx, pq_graph_set_outputs(ctx, g, &first, 1));
        PQ_CHECK(ctx, pq_pass_all(ctx, g));
    }
    save_onnx(g, name);
    if (f == FAMILY_YOLOV8) tiny_data(ctx, dir, g, 1, 4);
    pq_graph_free(g);
}

static int begin(void **state)
{
    (void)state;
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    strcpy(dir, "/tmp/pquant-models-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    family_file(FAMILY_YOLOV8, "v8.onnx", false);
    family_file(FAMILY_YOLOV8_RAW, "v8raw.onnx", false);
    family_file(FAMILY_YOLOV5_RAW, "v5raw.onnx", false);
    family_file(FAMILY_NANODET, "nano.onnx", false);
    family_file(FAMILY_PICODET, "pico.onnx", false);
    family_file(FAMILY_FASTESTV2, "fast.onnx", false);
    family_file(FAMILY_ROWS, "rows.onnx", false);
    family_file(FAMILY_YOLOV8_RAW, "odd.onnx", true);
    pq_graph *g = tiny_detector(ctx, TINY_YOLOX);
    save_onnx(g, "yolox.onnx");
    pq_graph_free(g);
    return 0;
}

static int end(void **state)
{
    char line[128];
    (void)state;
    snprintf(line, sizeof line, "rm -r %s", dir);
    if (system(line) != 0) return 1;
    free(out);
    free(err);
    pq_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_by_name_and_id),
        cmocka_unit_test(proposed_sidecars),
        cmocka_unit_test(beside_the_model),
        cmocka_unit_test(wrong_sidecars),
        cmocka_unit_test(sizes),
        cmocka_unit_test(unknown_heads),
        cmocka_unit_test(time_runs_out),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
