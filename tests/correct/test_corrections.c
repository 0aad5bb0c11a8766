/* Whole corrections of small detectors: closer to float than without, the same on every engine, on
 * any number of threads and after a kill; plans that keep some operators in float; files. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pquant/pqe.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "correct/journal.h"
#include "correct/judge.h"
#include "correct/parts.h"
#include "engine/engines.h"
#include "export/calib_pth.h"
#include "plan/names.h"
#include "read/pth.h"
#include "support/tiny.h"

enum { N_IMAGES = 6 };

static char folder[] = "/tmp/pquant-correct-XXXXXX";
static pq_ctx *ctx;
static pq_dataset *images;

static char *in_folder(const char *name)
{
    static char path[4][160];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s", folder, name);
    return path[at];
}

static int begin(void **state)
{
    (void)state;
    if (!mkdtemp(folder) || pq_ctx_new(&ctx) != PQ_OK) return -1;
    for (int i = 0; i < N_IMAGES; i++) {
        pq_image img = {0};
        char name[32];
        snprintf(name, sizeof name, "%02d.png", i);
        tiny_picture(ctx, &img, i);
        PQ_CHECK(ctx, pq_image_save(ctx, &img, in_folder(name)));
        pq_image_clear(&img);
    }
    PQ_CHECK(ctx, pq_dataset_from_folder(ctx, &images, folder, 0));
    return 0;
}

static int end(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    pq_dataset_free(images);
    pq_ctx_free(ctx);
    return system(command);
}

typedef struct result {
    pq_corrections *c;
    pq_ranges *r;
} result;

static result correct(const pq_graph *g, const pq_correct_opts *o, int threads)
{
    pq_head head;
    pq_prep prep;
    result x = {0};
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    pq_head_prep(&prep, &head);
    pq_ctx_set_threads(ctx, threads);
    PQ_CHECK(ctx, pq_correct(ctx, &x.c, &x.r, &pq_engine_cpu, g, images, &prep, &head, o));
    return x;
}

static void drop(result *x)
{
    pq_corrections_free(x->c);
    pq_ranges_free(x->r);
}

static pq_plan *plan_of(const pq_graph *g, const result *x, const bool *int8, pq_scheme scheme)
{
    pq_plan *p;
    PQ_CHECK(ctx, pq_plan_make(ctx, &p, g, x->r, int8, scheme, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_correct_plan(ctx, p, x->c, g));
    return p;
}

/* All outputs on one picture, one after the other. */
static float *run(const pq_engine *engine, const pq_graph *g, const pq_plan *p, size_t *n)
{
    pq_head head;
    pq_prep prep;
    pq_image img = {0};
    pq_session *s;
    pq_tensor in, *out;
    float *all;
    size_t at = 0;
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    pq_head_prep(&prep, &head);
    PQ_CHECK(ctx, pq_compile(ctx, &s, engine, g, p, NULL));
    PQ_CHECK(ctx, pq_tensor_new(ctx, &in, PQ_F32, &s->input_shape[0]));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, s));
    tiny_picture(ctx, &img, N_IMAGES + 1);
    PQ_CHECK(ctx, pq_preprocess(ctx, pq_tensor_data(&in), NULL, &img, &prep));
    PQ_CHECK(ctx, pq_run(ctx, s, &in, 1, out, s->n_outputs));
    *n = 0;
    for (size_t k = 0; k < s->n_outputs; k++) *n += (size_t)pq_shape_count(&out[k].shape);
    PQ_CHECK(ctx, pq_alloc(ctx, &all, *n, sizeof *all));
    for (size_t k = 0; k < s->n_outputs; at += (size_t)pq_shape_count(&out[k++].shape))
        memcpy(all + at, pq_tensor_data(&out[k]), pq_buf_bytes(out[k].buf));
    pq_image_clear(&img);
    pq_session_outputs_free(out, s);
    pq_tensor_clear(&in);
    pq_session_free(s);
    return all;
}

static double error_against(const float *want, const pq_engine *e, const pq_graph *g,
                            const pq_plan *p)
{
    size_t n;
    float *x = run(e, g, p, &n);
    const double mse = pq_compare_f32(want, x, n).mse;
    pq_free(x);
    return mse;
}

static bool *every(const pq_graph *g, bool value)
{
    bool *b;
    const size_t n = pq_graph_quantizable_count(g);
    PQ_CHECK(ctx, pq_alloc(ctx, &b, n, 1));
    memset(b, value, n);
    return b;
}

static float *run_float(const pq_graph *g)
{
    pq_plan *p;
    size_t n;
    PQ_CHECK(ctx, pq_plan_float(ctx, &p, g, PQ_PREC_FP32));
    float *x = run(&pq_engine_ref, g, p, &n);
    pq_plan_free(p);
    return x;
}

/* Make some channels of a few tensors reach far and others hardly, as real networks do: by rows of
 * the convolutions that write them, undone where they are read (exact behind ReLU alone). */
static void roughen(pq_graph *g)
{
    static const char *const name[][2] = {{"stem", "down2"}, {"down2", "down3"}};
    for (size_t k = 0; k < 2; k++) {
        const pq_node *a = &g->node[pq_graph_find_node(g, name[k][0])];
        const pq_node *b = &g->node[pq_graph_find_node(g, name[k][1])];
        const pq_shape *sa = &pq_in(g, a, 1)->shape, *sb = &pq_in(g, b, 1)->shape;
        float *wa = pq_buf_data(pq_in(g, a, 1)->data), *ba = pq_buf_data(pq_in(g, a, 2)->data);
        float *wb = pq_buf_data(pq_in(g, b, 1)->data);
        const int64_t row = sa->dim[1] * sa->dim[2] * sa->dim[3], win = sb->dim[2] * sb->dim[3];
        for (int64_t c = 0; c < sa->dim[0]; c++) {
            const float f = c % 8 == 0 ? 24 : c % 3 ? 1 : 0.05f;
            for (int64_t i = 0; i < row; i++) wa[c * row + i] *= f;
            ba[c] *= f;
            for (int64_t o = 0; o < sb->dim[0]; o++)
                for (int64_t i = 0; i < win; i++) wb[(o * sb->dim[1] + c) * win + i] /= f;
        }
    }
    pq_graph_seal(g);
}

/* The runtimes that are here make the same of corrected weights. */
static void agree_elsewhere(const float *want, const pq_graph *g, const pq_plan *p, double error)
{
    static const char *const name[] = {"openvino", "onnxruntime"};
    for (size_t i = 0; i < 2; i++) {
        const pq_engine *e;
        pq_engine_info info;
        PQ_CHECK(ctx, pq_engine_find(ctx, &e, name[i]));
        if (e->probe(ctx, &info) != PQ_OK) continue;
        const double other = error_against(want, e, g, p);
        assert_true(fabs(other - error) < 0.2 * error + 1e-12);
    }
}

static void check_family(tiny_family family, pq_scheme scheme)
{
    pq_graph *g = tiny_detector(ctx, family);
    g->hash[0] = 0;
    roughen(g);
    bool *all = every(g, true);
    float *want = run_float(g);
    const pq_correct_opts none = {
        .no_equalize = true, .no_bias_correct = true, .no_adaround = true, .scheme = scheme};
    const pq_correct_opts equal = {.no_bias_correct = true, .no_adaround = true, .scheme = scheme};
    const pq_correct_opts full = {.scheme = scheme};
    const pq_correct_opts *const step[3] = {&none, &equal, &full};
    double error[3];
    for (int i = 0; i < 3; i++) {
        result x = correct(g, step[i], 2);
        pq_plan *p = plan_of(g, &x, all, scheme);
        error[i] = error_against(want, &pq_engine_ref, g, p);
        const double other = error_against(want, &pq_engine_cpu, g, p);
        assert_true(fabs(other - error[i]) < 0.05 * error[i] + 1e-12);
        if (scheme == PQ_SCHEME_U8) agree_elsewhere(want, g, p, error[i]);
        assert_true(x.c->n_fixes == 0 || i == 2);
        assert_string_equal(x.r->graph_hash, g->hash);
        if (i == 1 && family == TINY_DAMO) assert_true(x.c->n_equal > 0);
        if (i == 1 && family == TINY_YOLOX) assert_true(x.c->n_encodings > 0);
        pq_plan_free(p);
        drop(&x);
    }
    assert_true(error[1] < 0.8 * error[0]);
    assert_true(error[2] < 0.6 * error[0]);
    pq_free(want);
    pq_free(all);
    pq_graph_free(g);
}

static void test_families(void **state)
{
    (void)state;
    for (int scheme = 0; scheme < 2; scheme++) {
        check_family(TINY_DAMO, (pq_scheme)scheme);
        check_family(TINY_YOLOX, (pq_scheme)scheme);
    }
}

/* Any part of the operators in INT8: nearer to float than all of them, and nothing in float at all
 * is float itself. */
static void test_partial(void **state)
{
    (void)state;
    for (int family = 0; family < 2; family++) {
        pq_graph *g = tiny_detector(ctx, (tiny_family)family);
        g->hash[0] = 0;
        roughen(g);
        const size_t n = pq_graph_quantizable_count(g);
        bool *all = every(g, true), *part = every(g, false);
        float *want = run_float(g);
        const pq_correct_opts o = {.scheme = PQ_SCHEME_U8};
        result x = correct(g, &o, 1);
        pq_plan *p = plan_of(g, &x, part, PQ_SCHEME_U8);
        const double nothing = error_against(want, &pq_engine_ref, g, p);
        pq_plan_free(p);
        assert_true(nothing < 1e-9);
        p = plan_of(g, &x, all, PQ_SCHEME_U8);
        const double everything = error_against(want, &pq_engine_ref, g, p);
        pq_plan_free(p);
        for (size_t k = 0; k < n; k++) {
            part[k] = true;
            p = plan_of(g, &x, part, PQ_SCHEME_U8);
            assert_true(error_against(want, &pq_engine_cpu, g, p) < 2 * everything);
            pq_plan_free(p);
            part[k] = k % 2; /* from then on every other one */
        }
        pq_free(want);
        pq_free(all);
        pq_free(part);
        drop(&x);
        pq_graph_free(g);
    }
}

static void same(const result *a, const result *b)
{
    char x[65], y[65];
    pq_corrections_hash(a->c, x);
    pq_corrections_hash(b->c, y);
    assert_string_equal(x, y);
    assert_int_equal(a->r->n, b->r->n);
    for (size_t i = 0; i < a->r->n; i++) {
        assert_true(a->r->range[i].amax == b->r->range[i].amax);
        assert_true(a->r->range[i].lo == b->r->range[i].lo);
        assert_true(a->r->range[i].hi == b->r->range[i].hi);
    }
}

static void test_threads_and_resuming(void **state)
{
    pq_graph *g = tiny_detector(ctx, TINY_YOLOX);
    const char *path = in_folder("journal");
    char kept[160];
    snprintf(kept, sizeof kept, "%s", path);
    const pq_correct_opts plain = {0}, with = {.journal = kept};
    (void)state;
    g->hash[0] = 0;
    roughen(g);
    result one = correct(g, &with, 1), two = correct(g, &plain, 2);
    same(&one, &two);
    /* Killed after a while, in the middle of a record, with another's rest behind it. */
    pq_buf *b;
    PQ_CHECK(ctx, pq_file_map(ctx, &b, kept));
    const size_t n = pq_buf_bytes(b);
    uint8_t *bytes;
    PQ_CHECK(ctx, pq_alloc(ctx, &bytes, n, 1));
    memcpy(bytes, pq_buf_data(b), n);
    pq_buf_unref(b);
    const size_t cut[] = {30, n / 2, n - 1, n};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        PQ_CHECK(ctx, pq_file_write(ctx, kept, bytes, cut[i]));
        result again = correct(g, &with, 2);
        same(&one, &again);
        drop(&again);
        PQ_CHECK(ctx, pq_file_map(ctx, &b, kept));
        assert_int_equal(pq_buf_bytes(b), n);
        assert_memory_equal(pq_buf_data(b), bytes, n);
        pq_buf_unref(b);
    }
    bytes[n / 2] ^= 1; /* damaged: what comes behind is made again */
    PQ_CHECK(ctx, pq_file_write(ctx, kept, bytes, n));
    result again = correct(g, &with, 2);
    same(&one, &again);
    drop(&again);
    pq_free(bytes);
    drop(&one);
    drop(&two);
    pq_graph_free(g);
}

/* Each allocation of making a plan and of a file fails once. */
static void check_no_memory(const pq_graph *g, const result *x, const bool *all, const char *path)
{
    for (long n = 1;; n++) {
        pq_corrections *c = NULL;
        pq_mem_fail_after(n);
        pq_status st = pq_corrections_load(ctx, &c, path);
        pq_mem_fail_after(0);
        if (st == PQ_OK) {
            pq_corrections_free(c);
            break;
        }
        assert_int_equal(st, PQ_E_NOMEM);
        assert_null(c);
    }
    for (long n = 1;; n++) {
        pq_plan *p;
        PQ_CHECK(ctx, pq_plan_make(ctx, &p, g, x->r, all, PQ_SCHEME_U8, PQ_PREC_FP32));
        pq_mem_fail_after(n);
        pq_status st = pq_correct_plan(ctx, p, x->c, g);
        pq_mem_fail_after(0);
        pq_plan_free(p);
        if (st == PQ_OK) break;
        assert_int_equal(st, PQ_E_NOMEM);
    }
}

/* corrections.json with one member changed at a time. */
static void refuse_hostile(const char *path)
{
    static const char lacking[] =
        "[{\"node\":\"n\",\"error_before\":1,\"error_bias\":1,\"error\":1,\"seconds\":0,"
        "\"weight\":\"w\"}]";
    static const char *const change[][3] = {
        {"graph_hash", "\"ab\"", "expected 64 digits"},
        {"scheme", "\"s9\"", "expected 64 digits and s8 or u8"},
        {"equalized", "7", "equalized"},
        {"equalized", "[{\"value\":\"v\",\"bits\":1}]", "bits_before"},
        {"encodings", "[3]", "value"},
        {"encodings", "[{\"value\":\"v\",\"error_before\":1,\"error\":1,\"seconds\":0}]",
         "no tensor 'encoding/v'"},
        {"operators", "[{}]", "node"},
        {"operators", "{}", "operators"},
        {"operators", lacking, "no tensor 'fix/w'"},
        {"weights", "{\"file\":\"../x\",\"sha256\":\"\"}", ""},
        {"checked", "{\"images\":-1,\"dropped\":[]}", "checked: -1 images"},
        {"checked", "[]", "images"},
        {"weights", "null", ""}};
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        char copy[200];
        cJSON *doc;
        pq_corrections *c;
        snprintf(copy, sizeof copy, "%s.changed.json", path);
        PQ_CHECK(ctx, pq_json_load(ctx, &doc, path));
        cJSON_ReplaceItemInObjectCaseSensitive(doc, change[i][0], cJSON_Parse(change[i][1]));
        PQ_CHECK(ctx, pq_json_save(ctx, doc, copy));
        cJSON_Delete(doc);
        PQ_CHECK_FAILS(ctx, pq_corrections_load(ctx, &c, copy), PQ_E_FORMAT, change[i][2]);
        assert_null(c);
    }
}

static void test_files(void **state)
{
    pq_graph *g = tiny_detector(ctx, TINY_YOLOX), *h;
    bool *all = every(g, true);
    char path[160], pqe[160];
    const pq_correct_opts o = {.scheme = PQ_SCHEME_U8};
    size_t n, m;
    (void)state;
    g->hash[0] = 0;
    roughen(g);
    snprintf(path, sizeof path, "%s", in_folder("r.corrections.json"));
    snprintf(pqe, sizeof pqe, "%s", in_folder("x.pqe"));
    result x = correct(g, &o, 2), y = {.r = x.r};
    PQ_CHECK(ctx, pq_corrections_save(ctx, x.c, path));
    PQ_CHECK(ctx, pq_corrections_load(ctx, &y.c, path));
    same(&x, &y);
    pq_correction_summary in_short, of_file;
    pq_corrections_summarize(x.c, &in_short);
    pq_corrections_summarize(y.c, &of_file);
    assert_true(in_short.rounded > 0 && in_short.encoding_gain >= 1);
    assert_int_equal(in_short.encoded, of_file.encoded);
    assert_int_equal(in_short.rounded, of_file.rounded);
    assert_true(in_short.bias_gain >= 1 && in_short.fix_gain > in_short.bias_gain);
    assert_true(fabs(in_short.fix_gain - of_file.fix_gain) < 1e-9);
    assert_true(fabs(in_short.fix_seconds - of_file.fix_seconds) < 1e-6);
    /* The engine file gives bit for bit what the plan gives. */
    pq_plan *p = plan_of(g, &y, all, PQ_SCHEME_U8), *q;
    PQ_CHECK(ctx, pq_pqe_save(ctx, pqe, g, p));
    PQ_CHECK(ctx, pq_pqe_load(ctx, &h, &q, pqe));
    float *a = run(&pq_engine_cpu, g, p, &n), *b = run(&pq_engine_cpu, h, q, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n * sizeof *a);
    pq_free(a);
    pq_free(b);
    pq_plan_free(q);
    pq_graph_free(h);
    /* Another scheme, another graph. */
    p->scheme = PQ_SCHEME_S8;
    PQ_CHECK_FAILS(ctx, pq_correct_plan(ctx, p, y.c, g), PQ_E_INVALID, "scheme u8");
    p->scheme = PQ_SCHEME_U8;
    y.c->graph_hash[0] ^= 1;
    PQ_CHECK_FAILS(ctx, pq_correct_plan(ctx, p, y.c, g), PQ_E_INVALID, "corrections are for graph");
    pq_plan_free(p);
    pq_corrections_free(y.c);
    check_no_memory(g, &x, all, path);
    refuse_hostile(path);
    /* A weights file cut off. */
    char weights[160];
    snprintf(weights, sizeof weights, "%s", in_folder("r.corrections.weights.safetensors"));
    assert_int_equal(truncate(weights, 1000), 0);
    PQ_CHECK_FAILS(ctx, pq_corrections_load(ctx, &y.c, path), PQ_E_FORMAT, "SHA-256");
    assert_null(y.c);
    drop(&x);
    pq_free(all);
    pq_graph_free(g);
}

/* ---- what is accepted ---- */

enum { MANY = 18 };

static pq_dataset *many_images(void)
{
    char path[160];
    pq_dataset *d;
    snprintf(path, sizeof path, "%s", in_folder("many"));
    assert_int_equal(mkdir(path, 0777), 0);
    for (int i = 0; i < MANY; i++) {
        pq_image img = {0};
        char name[200];
        snprintf(name, sizeof name, "%s/%02d.png", path, i);
        tiny_picture(ctx, &img, i);
        PQ_CHECK(ctx, pq_image_save(ctx, &img, name));
        pq_image_clear(&img);
    }
    PQ_CHECK(ctx, pq_dataset_from_folder(ctx, &d, path, 0));
    return d;
}

static double judged(const pq_judge *j, const pq_graph *g, const result *x, const bool *all)
{
    pq_plan *p = plan_of(g, x, all, PQ_SCHEME_U8);
    double error;
    PQ_CHECK(ctx, pq_judge_plan(ctx, &error, j, p));
    pq_plan_free(p);
    return error;
}

/* Enough images to keep some apart: what stays was better there than what it replaces, with a head
 * and without one; nothing in INT8 moves nothing. */
static void test_checked(void **state)
{
    pq_dataset *mine = images;
    (void)state;
    images = many_images();
    for (int family = 0; family < 2; family++) {
        pq_graph *g = tiny_detector(ctx, (tiny_family)family);
        g->hash[0] = 0;
        roughen(g);
        bool *all = every(g, true), *none = every(g, false);
        const pq_correct_opts o = {.scheme = PQ_SCHEME_U8};
        result x = correct(g, &o, 2), two = correct(g, &o, 1);
        const pq_checked *k = &x.c->checked;
        same(&x, &two);
        assert_int_equal(k->n_images, MANY / 4);
        assert_true(k->error[PQ_STAGE_ALL] >= 0);
        double kept = -1, plain = -1;
        for (int i = 0; i < PQ_STAGES; i++) {
            if (k->error[i] < 0) continue;
            if (plain < 0) plain = k->error[i];
            if (!k->dropped[i]) kept = k->error[i];
        }
        assert_true(kept >= 0 && kept <= plain);
        assert_true(!k->dropped[PQ_STAGE_ALL] == (x.c->n_fixes > 0));
        assert_true(!k->dropped[PQ_STAGE_ENCODED] || x.c->n_encodings == 0);

        /* The same again, from what came out. */
        pq_head head;
        pq_prep prep;
        pq_judge j;
        pq_dataset apart = {0};
        PQ_CHECK(ctx, pq_alloc(ctx, &apart.sample, MANY / 4, sizeof *apart.sample));
        apart.n = MANY / 4;
        for (size_t i = 0; i < apart.n; i++) {
            apart.sample[i] = images->sample[4 * i + 3];
            apart.sample[i].id = (int64_t)i;
        }
        PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
        pq_head_prep(&prep, &head);
        PQ_CHECK(ctx, pq_judge_new(ctx, &j, &pq_engine_cpu, g, &apart, &prep, &head));
        assert_true(judged(&j, g, &x, all) == kept);
        assert_true(judged(&j, g, &x, none) == 0);
        pq_judge_clear(&j);
        PQ_CHECK(ctx, pq_judge_new(ctx, &j, &pq_engine_cpu, g, &apart, &prep, NULL));
        assert_true(judged(&j, g, &x, all) > 0 && judged(&j, g, &x, all) < 1);
        assert_true(judged(&j, g, &x, none) < 1e-6);
        pq_judge_clear(&j);
        pq_free(apart.sample);

        pq_corrections_drop_fixes(two.c);
        assert_int_equal(two.c->n_fixes, 0);
        pq_corrections_drop_encodings(two.c);
        pq_corrections_drop_equal(two.c);
        pq_plan *p = plan_of(g, &two, all, PQ_SCHEME_U8);
        assert_int_equal(p->n_weights, 0);
        pq_plan_free(p);
        drop(&x);
        drop(&two);
        pq_free(all);
        pq_free(none);
        pq_graph_free(g);
    }
    pq_dataset_free(images);
    images = mine;
}

/* ---- .pth ---- */

/* A member of the state dict in the place of the constant v. Returns its tensor. */
static pq_plan_weight *from_state(pq_plan *p, size_t at, pq_state *s, const pq_node *n,
                                  const char *member, const char *constant)
{
    char name[160];
    pq_plan_weight *w = &p->weight[at];
    snprintf(name, sizeof name, "%s.%s", n->name, member);
    const pq_state_entry *e = pq_state_find(s, name);
    assert_non_null(e);
    PQ_CHECK(ctx, pq_state_tensor(ctx, &w->data, s, e));
    PQ_CHECK(ctx, pq_strdup(ctx, &w->name, constant));
    return w;
}

/* The weights and scales of a .pth instead of those of the corrections. */
static void take_weights(pq_plan *p, const pq_graph *g, const char *path)
{
    const int n = (int)pq_graph_quantizable_count(g);
    pq_state *s;
    PQ_CHECK(ctx, pq_state_load(ctx, &s, path));
    PQ_CHECK(ctx, pq_alloc(ctx, &p->weight, 2 * (size_t)n, sizeof *p->weight));
    for (int k = 0; k < n; k++) {
        const pq_node *o = &g->node[pq_graph_quantizable(g, k)];
        char name[160];
        pq_tensor amax;
        if (!pq_op_is_weighted(o->op)) continue;
        pq_plan_weight *w = from_state(p, p->n_weights++, s, o, "weight", g->value[o->in[1]].name);
        (void)from_state(p, p->n_weights++, s, o, "bias", g->value[o->in[2]].name);
        snprintf(name, sizeof name, "%s._weight_quantizer._amax", o->name);
        PQ_CHECK(ctx, pq_state_tensor(ctx, &amax, s, pq_state_find(s, name)));
        const pq_shape channels = PQ_SHAPE(w->data.shape.dim[0]);
        PQ_CHECK(ctx, pq_tensor_new(ctx, &w->scale, PQ_F32, &channels));
        for (int64_t c = 0; c < channels.dim[0]; c++)
            ((float *)pq_tensor_data(&w->scale))[c] = ((float *)pq_tensor_data(&amax))[c] / 127;
        pq_tensor_clear(&amax);
    }
    pq_state_free(s);
}

/* What is written to a .pth is what the corrections made: read again, it gives the same outputs,
 * and others than the network has without them. */
static void test_pth(void **state)
{
    (void)state;
    for (int family = 0; family < 2; family++) {
        pq_graph *g = tiny_detector(ctx, (tiny_family)family);
        g->hash[0] = 0;
        roughen(g);
        bool *all = every(g, true);
        const pq_correct_opts o = {.scheme = PQ_SCHEME_U8};
        result x = correct(g, &o, 2), ranges_alone = {.r = x.r};
        pq_plan *p = plan_of(g, &x, all, PQ_SCHEME_U8);
        pq_plan *plain = plan_of(g, &ranges_alone, all, PQ_SCHEME_U8);
        pq_plan *again = plan_of(g, &ranges_alone, all, PQ_SCHEME_U8);
        char path[160];
        size_t n;
        snprintf(path, sizeof path, "%s", in_folder("corrected.pth"));
        PQ_CHECK(ctx, pq_export_calib_pth(ctx, path, g, p));
        take_weights(again, g, path);
        float *want = run(&pq_engine_ref, g, p, &n);
        const double others = error_against(want, &pq_engine_ref, g, plain);
        assert_true(others > 0);
        /* 127 scale / 127 may be off by its last bit, and a rounding may then flip. */
        assert_true(error_against(want, &pq_engine_ref, g, again) < 1e-3 * others);
        pq_free(want);
        pq_plan_free(p);
        pq_plan_free(plain);
        pq_plan_free(again);
        drop(&x);
        pq_free(all);
        pq_graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_partial),
        cmocka_unit_test(test_threads_and_resuming),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_pth),
        cmocka_unit_test(test_checked),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
