/* The command as users meet it: exit statuses, JSON on stdout, one line on stderr, files. The path
 * of the command stands in PQ_COMMAND. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pquant/pquant.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "support/tiny.h"

enum { MAX_ARGS = 32, N_PICTURES = 4 };

/* A folder with a YOLOX and a DAMO detector and pictures for each, made once. */
static struct {
    pq_ctx *ctx;
    char dir[64];
    char yolox[96], damo[96], int8[96]; /* .pqe of fp32 plans, and of an int8 plan */
    char images[96], ann[96];
    char *out, *err; /* of the last command */
} w;

static char *slurp(const char *path)
{
    pq_buf *b;
    PQ_CHECK(w.ctx, pq_file_map(w.ctx, &b, path));
    const size_t n = pq_buf_bytes(b);
    char *text = malloc(n + 1);
    assert_non_null(text);
    memcpy(text, pq_buf_data(b), n);
    text[n] = 0;
    pq_buf_unref(b);
    return text;
}

static void at(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s/%s", w.dir, name);
}

/* Runs the command with the words given (NULL ends them), in the folder; returns its exit status.
 */
static int pquant(const char *first, ...)
{
    const char *command = getenv("PQ_COMMAND"), *argv[MAX_ARGS + 2] = {"pquant", first};
    char out[96], err[96];
    va_list ap;
    int n = 2, status;
    if (!command) skip();
    va_start(ap, first);
    while (n <= MAX_ARGS && (argv[n] = va_arg(ap, const char *)) != NULL) n++;
    va_end(ap);
    at(out, sizeof out, "stdout");
    at(err, sizeof err, "stderr");
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int o = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        const int e = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (o < 0 || e < 0 || dup2(o, 1) < 0 || dup2(e, 2) < 0 || chdir(w.dir) != 0) _exit(99);
        execv(command, (char *const *)(uintptr_t)argv);
        _exit(98);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    free(w.out);
    free(w.err);
    w.out = slurp(out);
    w.err = slurp(err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int lines(const char *text)
{
    int n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

/* The last command failed with this status, nothing on stdout, and one line that holds the text. */
#define FAILS(status, text, ...)                                                                   \
    do {                                                                                           \
        const int got_ = pquant(__VA_ARGS__, NULL);                                                \
        if (got_ != (status) || w.out[0] || lines(w.err) != 1 || !strstr(w.err, (text)))           \
            fail_msg("status %d, expected %d with '%s'\nstdout: %s\nstderr: %s", got_, (status),   \
                     (text), w.out, w.err);                                                        \
    } while (0)

#define WORKS(...)                                                                                 \
    do {                                                                                           \
        const int got_ = pquant(__VA_ARGS__, NULL);                                                \
        if (got_ != 0) fail_msg("status %d: %s", got_, w.err);                                     \
    } while (0)

static cJSON *json(void)
{
    cJSON *doc = cJSON_Parse(w.out);
    if (!doc) fail_msg("no JSON: %s", w.out);
    return doc;
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsNumber(v)) fail_msg("'%s' is no number: %s", key, w.out);
    return v->valuedouble;
}

static const char *string(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsString(v)) fail_msg("'%s' is no string: %s", key, w.out);
    return v->valuestring;
}

static const cJSON *array(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsArray(v)) fail_msg("'%s' is no array: %s", key, w.out);
    return v;
}

static void save_detector(tiny_family family, const char *path, bool data)
{
    pq_graph *g = tiny_detector(w.ctx, family);
    pq_plan *plan;
    if (data) tiny_data(w.ctx, w.dir, g, 1, N_PICTURES);
    PQ_CHECK(w.ctx, pq_plan_float(w.ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(w.ctx, pq_pqe_save(w.ctx, path, g, plan));
    pq_plan_free(plan);
    if (data) {
        plan = tiny_int8_plan(w.ctx, g, PQ_SCHEME_U8, N_PICTURES);
        PQ_CHECK(w.ctx, pq_pqe_save(w.ctx, w.int8, g, plan));
        pq_plan_free(plan);
    }
    pq_graph_free(g);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(w.dir, "/tmp/pquant-cli-XXXXXX");
    if (!mkdtemp(w.dir) || pq_ctx_new(&w.ctx) != PQ_OK) return 1;
    at(w.yolox, sizeof w.yolox, "yolox.pqe");
    at(w.damo, sizeof w.damo, "damo.pqe");
    at(w.int8, sizeof w.int8, "int8.pqe");
    at(w.images, sizeof w.images, "images");
    at(w.ann, sizeof w.ann, "ann.json");
    save_detector(TINY_YOLOX, w.yolox, true);
    save_detector(TINY_DAMO, w.damo, false);
    return 0;
}

static void remove_all(const char *dir)
{
    char **name, path[512];
    size_t n;
    if (pq_dir_list(w.ctx, &name, &n, dir) != PQ_OK) return;
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        if (pq_file_is_dir(path))
            remove_all(path);
        else
            unlink(path);
        pq_free(name[i]);
    }
    pq_free(name);
    rmdir(dir);
}

static int tear_down(void **state)
{
    (void)state;
    remove_all(w.dir);
    free(w.out);
    free(w.err);
    pq_ctx_free(w.ctx);
    return 0;
}

/* ---- usage ---- */

static void wrong_usage(void **state)
{
    (void)state;
    FAILS(2, "no command 'frobnicate'", "frobnicate");
    static const char *const command[] = {"inspect", "calibrate", "eval",
                                          "bench",   "detect",    "export"};
    for (size_t i = 0; i < sizeof command / sizeof *command; i++) {
        FAILS(2, "no MODEL given", command[i]);
        FAILS(2, "unknown option '--nonsense'", command[i], w.yolox, "--nonsense");
        FAILS(2, "'--threads' needs N", command[i][0] == 'i' ? "bench" : command[i], w.yolox,
              "--threads");
    }
    FAILS(2, "unexpected argument 'two'", "inspect", w.yolox, "two");
    FAILS(2, "expected a number", "bench", w.yolox, "--runs", "many");
    FAILS(2, "precision 'int9'", "bench", w.yolox, "--precision", "fp32,int9");
    FAILS(2, "precision 'int9'", "detect", w.yolox, w.images, "--precision", "int9");
    FAILS(2, "int8 needs --calib-data or --ranges", "bench", w.yolox, "--precision", "fp32,int8");
    FAILS(2, "int8 needs --calib-data or --ranges", "export", w.yolox, "--precision", "int8", "-o",
          "x.pqe");
    FAILS(2, "engine 'gpu'", "bench", w.yolox, "--engine", "cpu,gpu");
    FAILS(2, "no IMAGE given", "detect", w.yolox);
    FAILS(2, "--calib-data is needed", "calibrate", w.yolox);
    FAILS(2, "-o FILE is needed", "export", w.yolox);
    FAILS(2, "expected a name in .onnx, .pth or .pqe", "export", w.yolox, "-o", "x.txt");
    FAILS(2, "--for 'mars'", "export", w.yolox, "-o", "x.onnx", "--for", "mars");
    FAILS(2, "exclude each other", "bench", w.yolox, "--layers", "--e2e");
}

static void help(void **state)
{
    static const char *const command[] = {"inspect", "calibrate", "export", "eval",
                                          "bench",   "detect",    "engines"};
    (void)state;
    WORKS("--help");
    for (size_t i = 0; i < sizeof command / sizeof *command; i++)
        assert_non_null(strstr(w.out, command[i]));
    for (size_t i = 0; i < sizeof command / sizeof *command; i++) {
        WORKS(command[i], "--help");
        assert_non_null(strstr(w.out, "usage: pquant"));
        assert_string_equal(w.err, "");
    }
    WORKS("--version");
    assert_string_equal(w.out, "pquant " PQ_VERSION_STRING "\n");
}

static void bad_files(void **state)
{
    char part[96];
    pq_buf *b;
    (void)state;
    FAILS(1, "nothing.onnx: No such file", "inspect", "nothing.onnx");
    FAILS(1, "nothing.onnx: No such file", "bench", "nothing.onnx");
    PQ_CHECK(w.ctx, pq_file_map(w.ctx, &b, w.yolox));
    at(part, sizeof part, "part.pqe");
    PQ_CHECK(w.ctx, pq_file_write(w.ctx, part, pq_buf_data(b), pq_buf_bytes(b) / 2));
    pq_buf_unref(b);
    FAILS(1, "part.pqe: truncated", "inspect", part);
    PQ_CHECK(w.ctx, pq_file_write(w.ctx, part, "garbage", 7));
    FAILS(1, "part.pqe", "inspect", part);
    FAILS(1, "none.jpg: No such file", "detect", w.yolox, "none.jpg");
    FAILS(1, "part.pqe", "detect", w.yolox, "part.pqe");
    FAILS(1, "no_plan.json: No such file", "bench", w.yolox, "--precision", "no_plan.json");
    FAILS(1, "/no/such/folder/x.pqe: cannot write", "export", w.yolox, "-o",
          "/no/such/folder/x.pqe");
    FAILS(1, "/no/such/folder/r.json: cannot write", "calibrate", w.yolox, "--calib-data", w.images,
          "-o", "/no/such/folder/r.json");
}

/* ---- results ---- */

static void inspects(void **state)
{
    (void)state;
    WORKS("inspect", w.damo, "--json");
    cJSON *o = json();
    assert_string_equal(string(o, "family"), "DAMO-YOLO-tiny");
    assert_int_equal(cJSON_GetArraySize(array(o, "input")), 4);
    assert_true(number(o, "params") > 10000 && number(o, "flops") > 1e6);
    const cJSON *ops = array(o, "ops"), *e;
    int i = 0, pools = 0;
    cJSON_ArrayForEach(e, ops)
    {
        assert_int_equal((int)number(e, "index"), i++);
        assert_true(string(e, "name")[0]);
        const bool pool = strcmp(string(e, "type"), "MaxPool") == 0;
        const cJSON *shape = cJSON_GetObjectItemCaseSensitive(e, "shape");
        assert_true(pool ? cJSON_IsNull(shape) : cJSON_GetArraySize(shape) == 4);
        pools += pool;
    }
    assert_int_equal(i, 16);
    assert_int_equal(pools, 1);
    cJSON_Delete(o);
    WORKS("inspect", w.damo);
    assert_non_null(strstr(w.out, "quantizable operators: 16"));
}

static void engines(void **state)
{
    (void)state;
    WORKS("engines", "--json");
    cJSON *list = json();
    assert_true(cJSON_IsArray(list));
    const cJSON *e;
    bool ref = false;
    cJSON_ArrayForEach(e, list)
    {
        if (strcmp(string(e, "name"), "ref") != 0) continue;
        ref = true;
        assert_int_equal(cJSON_GetArraySize(array(e, "precisions")), 4);
        assert_string_equal(string(e, "scheme"), "u8");
    }
    assert_true(ref);
    cJSON_Delete(list);

    /* A runtime that is not where it is said to be: one line with the place. */
    setenv("PQUANT_OPENVINO", "/no/such/folder", 1);
    FAILS(1, "PQUANT_OPENVINO is '/no/such/folder', where there is no libopenvino_c.so", "bench",
          w.yolox, "--precision", "fp32", "--engine", "openvino");
    FAILS(1, "PQUANT_OPENVINO is '/no/such/folder'", "bench", w.yolox, "--precision", "fp32",
          "--engine", "openvino", "--engine-path", ":/no/such/folder:");
    WORKS("engines", "--engine-path", "/no/such/folder");
    assert_non_null(strstr(w.out, "not here: PQUANT_OPENVINO"));
    unsetenv("PQUANT_OPENVINO");
    setenv("PQUANT_CUDA", "/no/such/folder", 1);
    FAILS(1, "PQUANT_CUDA is '/no/such/folder', where there is no libpquant_cuda.so", "bench",
          w.yolox, "--precision", "fp16", "--engine", "cuda");
    unsetenv("PQUANT_CUDA");
}

static void benches(void **state)
{
    static const char *const key[] = {"min_ms", "median_ms",  "p90_ms", "p95_ms",
                                      "p99_ms", "per_second", "ratio"};
    (void)state;
    WORKS("bench", w.yolox, "--precision", "fp32,int8", "--calib-data", w.images, "--engine",
          "cpu,ref", "--runs", "2", "--threads", "1", "--json");
    cJSON *list = json();
    assert_int_equal(cJSON_GetArraySize(list), 4);
    for (int i = 0; i < 4; i++) {
        const cJSON *row = cJSON_GetArrayItem(list, i);
        assert_string_equal(string(row, "engine"), i < 2 ? "cpu" : "ref");
        assert_string_equal(string(row, "precision"), i % 2 ? "int8" : "fp32");
        for (size_t k = 0; k < 7; k++) assert_true(number(row, key[k]) > 0);
    }
    assert_true(number(cJSON_GetArrayItem(list, 0), "ratio") == 1);
    cJSON_Delete(list);

    WORKS("bench", w.int8, "--runs", "2", "--threads", "1", "--layers", "--json");
    list = json();
    assert_int_equal(cJSON_GetArraySize(list), 1);
    const cJSON *row = cJSON_GetArrayItem(list, 0), *layer;
    assert_string_equal(string(row, "precision"), "int8.pqe");
    assert_true(number(row, "over_convolutions") > 0);
    bool conv = false;
    cJSON_ArrayForEach(layer, array(row, "layers"))
    {
        assert_true(string(layer, "impl") != NULL && number(layer, "ms") >= 0);
        conv |= number(layer, "macs") > 0 && strcmp(string(layer, "precision"), "int8") == 0;
    }
    assert_true(conv);
    cJSON_Delete(list);

    WORKS("bench", w.int8, "--runs", "1", "--threads", "1", "--layers");
    assert_non_null(strstr(w.out, "whole network / sum of its convolutions = "));
    WORKS("bench", w.damo, "--runs", "1", "--threads", "1", "--e2e");
    assert_int_equal(lines(w.out), 2);
    WORKS("bench", w.damo, "--runs", "1", "--threads", "1", "--e2e", "--data", w.images);
    WORKS("bench", w.damo, "--runs", "1", "--threads", "1", "--batch", "2", "--data", w.images);
}

static bool is_there(const char *name)
{
    char path[160];
    at(path, sizeof path, name);
    return pq_file_exists(path);
}

static void calibrates(void **state)
{
    (void)state;
    WORKS("calibrate", w.yolox, "--calib-data", w.images, "--threads", "1", "--data", w.images);
    assert_non_null(strstr(w.err, "4 of 4 calibration images are evaluated too"));
    assert_non_null(strstr(w.out, "ranges.json"));
    assert_non_null(strstr(w.out, "rounded by reconstruction"));
    assert_true(is_there("ranges.corrections.json"));
    assert_false(is_there("ranges.corrections.journal"));
    WORKS("calibrate", w.yolox, "--calib-data", w.images, "--threads", "1", "-o", "r.json",
          "--calibrator", "max", "--calib-images", "2", "--json", "--no-equalize",
          "--no-bias-correct", "--no-adaround");
    assert_false(is_there("r.corrections.json"));
    cJSON *o = json();
    assert_true(number(o, "images") == 2);
    assert_string_equal(string(o, "calibrator"), "max");
    assert_int_equal(strlen(string(o, "graph_hash")), 64);
    const cJSON *e;
    cJSON_ArrayForEach(e, array(o, "tensors")) assert_true(number(e, "amax") > 0);
    cJSON_Delete(o);
    FAILS(2, "calibrator 'best'", "calibrate", w.yolox, "--calib-data", w.images, "--calibrator",
          "best");
    FAILS(1, "made for graph", "bench", w.damo, "--precision", "int8", "--ranges", "r.json");
    FAILS(1, "made for graph", "bench", w.damo, "--precision", "int8", "--ranges", "r.json",
          "--batch", "2");
    WORKS("calibrate", w.damo, "--calib-data", w.images, "--threads", "1", "-o", "d.json",
          "--calibrator", "max", "--calib-images", "1", "--no-equalize", "--no-bias-correct",
          "--no-adaround");
    WORKS("bench", w.damo, "--precision", "int8", "--ranges", "d.json", "--batch", "2", "--runs",
          "1", "--threads", "1");
}

static void detects(void **state)
{
    char picture[128], drawn[128];
    (void)state;
    snprintf(picture, sizeof picture, "%s/000000000002.png", w.images);
    WORKS("detect", w.yolox, picture, "--threads", "1", "--ann", w.ann, "--json");
    cJSON *list = json();
    assert_int_equal(cJSON_GetArraySize(list), 1);
    const cJSON *o = cJSON_GetArrayItem(list, 0), *e;
    assert_string_equal(string(o, "file"), picture);
    const int n = cJSON_GetArraySize(array(o, "detections"));
    assert_true(n > 0);
    double last = 1;
    cJSON_ArrayForEach(e, array(o, "detections"))
    {
        static const char *const name[] = {"circle", "square", "star"};
        assert_string_equal(string(e, "class"), name[(int)number(e, "label")]);
        assert_true(number(e, "score") <= last && number(e, "score") > 0.01);
        assert_int_equal(cJSON_GetArraySize(array(e, "box")), 4);
        last = number(e, "score");
    }
    cJSON_Delete(list);
    WORKS("detect", w.yolox, picture, "--threads", "1");
    assert_int_equal(lines(w.out), n);

    WORKS("detect", w.yolox, w.images, "--threads", "1", "-o", "drawn", "--coco", "found.json");
    for (int i = 1; i <= N_PICTURES; i++) {
        pq_image img;
        snprintf(drawn, sizeof drawn, "%s/drawn/%012d.png", w.dir, i);
        PQ_CHECK(w.ctx, pq_image_load(w.ctx, &img, drawn));
        assert_true(img.w == 96 && img.h == 80);
        pq_image_clear(&img);
    }
    pq_coco *gt;
    pq_detections found;
    pq_figures f;
    PQ_CHECK(w.ctx, pq_coco_load(w.ctx, &gt, w.ann));
    at(drawn, sizeof drawn, "found.json");
    PQ_CHECK(w.ctx, pq_detections_load(w.ctx, &found, gt, drawn));
    PQ_CHECK(w.ctx, pq_evaluate(w.ctx, &f, gt, found.at, found.n));
    assert_true(f.v[PQ_FIG_AP] > 0.95);
    pq_detections_clear(&found);
    pq_coco_free(gt);

    /* eval says the same of them. */
    WORKS("eval", w.yolox, "--data", w.images, "--ann", w.ann, "--threads", "1", "--json");
    list = json();
    assert_true(fabs(number(list, "AP") - f.v[PQ_FIG_AP]) < 1e-9);
    cJSON_Delete(list);

    FAILS(2, "expected a folder", "detect", w.yolox, w.images, "-o", "one.png");
    FAILS(2, "the picture itself", "detect", w.yolox, picture, "-o", w.images);
    FAILS(1, "/proc/none", "detect", w.yolox, picture, "-o", "/proc/none");
}

static pq_buf *written(const char *name)
{
    char path[96];
    pq_buf *b;
    at(path, sizeof path, name);
    PQ_CHECK(w.ctx, pq_file_map(w.ctx, &b, path));
    return b;
}

/* The float part of a file in float16: half the weights' bytes, and TensorRT's rules hold. */
static void exports_float16(void)
{
    WORKS("export", w.yolox, "--precision", "int8", "--ranges", "s.json", "-o", "t16.onnx", "--for",
          "tensorrt", "--float", "fp16", "--audit", "--strict");
    pq_buf *a = written("t.onnx"), *b = written("t16.onnx");
    assert_true(pq_buf_bytes(b) < 3 * pq_buf_bytes(a) / 4);
    pq_buf_unref(a);
    pq_buf_unref(b);
    WORKS("export", w.yolox, "--precision", "fp16", "-o", "a.onnx");
    WORKS("export", w.yolox, "--float", "fp16", "-o", "b.onnx");
    a = written("a.onnx");
    b = written("b.onnx");
    assert_int_equal(pq_buf_bytes(a), pq_buf_bytes(b));
    assert_memory_equal(pq_buf_data(a), pq_buf_data(b), pq_buf_bytes(a));
    pq_buf_unref(a);
    pq_buf_unref(b);
    FAILS(2, "--float 'int4', expected fp32 or fp16", "export", w.yolox, "-o", "x.onnx", "--float",
          "int4");
    FAILS(2, "--float goes with an .onnx file", "export", w.yolox, "-o", "x.pqe", "--float",
          "fp16");
}

static void exports(void **state)
{
    char path[96];
    (void)state;
    WORKS("calibrate", w.yolox, "--calib-data", w.images, "--threads", "1", "-o", "e.json");
    WORKS("export", w.yolox, "--precision", "int8", "--ranges", "e.json", "-o", "e.pqe");
    WORKS("detect", w.yolox, w.images, "--precision", "int8", "--ranges", "e.json", "--threads",
          "1");
    char *direct = w.out;
    w.out = NULL;
    WORKS("detect", "e.pqe", w.images, "--threads", "1");
    assert_string_equal(direct, w.out); /* bit for bit, as far as the text shows it */
    free(direct);
    WORKS("export", w.yolox, "--precision", "int8", "--ranges", "e.json", "-o", "e.onnx", "--for",
          "onnxruntime");
    WORKS("inspect", w.yolox, "--json");
    cJSON *a = json();
    const int n = cJSON_GetArraySize(array(a, "ops"));
    cJSON_Delete(a);
    WORKS("export", w.yolox, "-o", "plain.onnx", "--opset", "17");
    WORKS("inspect", "plain.onnx", "--json");
    a = json();
    assert_int_equal(cJSON_GetArraySize(array(a, "ops")), n);
    cJSON_Delete(a);
    WORKS("export", w.yolox, "--precision", "int8", "--ranges", "e.json", "-o", "e.pth");
    at(path, sizeof path, "e.pth");
    char *text = slurp(path);
    assert_memory_equal(text, "PK", 2);
    free(text);
    FAILS(2, "TensorRT takes plans of scheme s8 only", "export", w.yolox, "--precision", "int8",
          "--ranges", "e.json", "-o", "t.onnx", "--for", "tensorrt", "--scheme", "u8");
    FAILS(2, "e.corrections.json: made for scheme u8, expected s8", "export", w.yolox,
          "--precision", "int8", "--ranges", "e.json", "-o", "t.onnx", "--for", "tensorrt");
    WORKS("calibrate", w.yolox, "--calib-data", w.images, "--scheme", "s8", "--threads", "1", "-o",
          "s.json");

    /* Audits: on the engine, and by TensorRT's rules. */
    WORKS("export", w.yolox, "--precision", "int8", "--ranges", "e.json", "-o", "e.pqe", "--audit",
          "--strict", "--json");
    cJSON *o = json();
    const cJSON *audit = cJSON_GetObjectItemCaseSensitive(o, "audit");
    assert_string_equal(string(audit, "target"), "cpu");
    assert_true(number(audit, "faults") == 0);
    assert_true(cJSON_GetArraySize(array(audit, "operators")) > 8);
    cJSON_Delete(o);
    WORKS("export", w.yolox, "--precision", "int8", "--ranges", "s.json", "-o", "t.onnx", "--for",
          "tensorrt", "--audit", "--strict");
    assert_non_null(strstr(w.out, "audit on tensorrt (rules of 8 to 11): 0 rules broken"));
    exports_float16();
    FAILS(1, "engine 'ref' gives no times per layer", "export", w.yolox, "-o", "e.pqe", "--engine",
          "ref", "--audit");
    FAILS(2, "--strict goes with --audit", "export", w.yolox, "-o", "e.pqe", "--strict");
    FAILS(2, "--audit goes with an .onnx or .pqe file", "export", w.yolox, "-o", "e.pth",
          "--audit");
}

static void reports(void **state)
{
    char path[128], away[128];
    (void)state;
    int status =
        pquant("run", w.yolox, "--data", w.images, "--ann", w.ann, "--calib-data", w.images,
               "--threads", "1", "--runs", "2", "--no-adaround", "-o", "run1", NULL);
    if (status != 0 && status != 3) fail_msg("status %d: %s", status, w.err);
    at(path, sizeof path, "run1/report.html");
    char *html = slurp(path);
    assert_non_null(strstr(html, "pquant run "));
    assert_non_null(strstr(html, "<section id=\"map\""));
    free(html);

    WORKS("report", "run1", "--quick", "-o", "page.html", "--json");
    cJSON *o = json();
    assert_true(number(o, "pquant_report") == 1);
    assert_string_equal(string(array(o, "missing")->child, "why"), "not asked for (--quick)");
    cJSON_Delete(o);
    at(path, sizeof path, "page.json");
    assert_true(pq_file_exists(path));

    /* What was moved away is left out and said, in the page and on the terminal. */
    at(away, sizeof away, "elsewhere.pqe");
    assert_int_equal(rename(w.yolox, away), 0);
    WORKS("report", "run1");
    assert_non_null(strstr(w.out, "left out: the network's map"));
    at(path, sizeof path, "run1/report.html");
    html = slurp(path);
    assert_null(strstr(html, "<section id=\"map\""));
    assert_non_null(strstr(html, "<section id=\"missing\""));
    free(html);
    assert_int_equal(rename(away, w.yolox), 0);

    WORKS("compare", "run1", "run1", "-o", "both.html");
    assert_non_null(strstr(w.out, "precision differs in 0 of"));
    at(path, sizeof path, "both.html");
    assert_true(pq_file_exists(path));
    WORKS("compare", "run1", "run1", "--json");
    o = json();
    assert_true(number(o, "pquant_comparison") == 1);
    cJSON_Delete(o);

    FAILS(2, "no RUN_DIR", "report");
    FAILS(2, "two folders", "compare", "run1");
    FAILS(1, "nowhere: no such folder", "report", "nowhere");
    FAILS(1, "expected a finished run", "report", w.images);
    FAILS(1, "no such folder", "compare", "run1", "nowhere");
    FAILS(1, "/proc/none", "report", "run1", "--quick", "-o", "/proc/none/page.html");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage), cmocka_unit_test(help),    cmocka_unit_test(bad_files),
        cmocka_unit_test(inspects),    cmocka_unit_test(engines), cmocka_unit_test(benches),
        cmocka_unit_test(calibrates),  cmocka_unit_test(detects), cmocka_unit_test(exports),
        cmocka_unit_test(reports),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
