/* Graphs of every detector family the whole way: written as ONNX, read, folded, run by ref and cpu
 * in float32 and INT8, recognised and decoded. Where a graph decodes itself, its boxes are those
 * that our decoding makes of the raw maps of the same weights. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/families.h"
#include "support/tiny.h"

#include <pquant/calibrate.h>
#include <pquant/export.h>
#include <pquant/pass.h>
#include <pquant/read.h>

#include "base/file.h"

static pq_ctx *ctx;

/* Built, folded, written, read and folded again. */
static pq_graph *through_onnx(family f)
{
    pq_graph *g = family_graph(f, 3), *back;
    pq_plan *plan;
    pq_buf *bytes;
    PQ_CHECK(ctx, pq_pass_all(ctx, g));
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_export_onnx(ctx, &bytes, g, plan, &(pq_export_opts){0}));
    PQ_CHECK(ctx,
             pq_read_onnx_memory(ctx, &back, pq_buf_data(bytes), pq_buf_bytes(bytes), NULL, NULL));
    PQ_CHECK(ctx, pq_pass_all(ctx, back));
    back->family = "ONNX"; /* not by the word in the file */
    pq_graph_seal(back);
    pq_buf_unref(bytes);
    pq_plan_free(plan);
    pq_graph_free(g);
    return back;
}

static void input(pq_tensor *in, const pq_graph *g, const pq_head *head, pq_geometry *geo)
{
    pq_image img;
    pq_prep prep;
    tiny_picture(ctx, &img, 3);
    pq_head_prep(&prep, head);
    PQ_CHECK(ctx, pq_tensor_new(ctx, in, PQ_F32, &g->value[g->input[0]].shape));
    PQ_CHECK(ctx, pq_preprocess(ctx, pq_tensor_data(in), geo, &img, &prep));
    pq_image_clear(&img);
}

/* Outputs of a plan on an engine; release with pq_session_outputs_free and pq_session_free. */
static pq_tensor *outputs(pq_session **s, const char *name, const pq_graph *g, const pq_plan *plan,
                          const pq_tensor *in)
{
    const pq_engine *engine;
    pq_tensor *out;
    PQ_CHECK(ctx, pq_engine_find(ctx, &engine, name));
    PQ_CHECK(ctx, pq_compile(ctx, s, engine, g, plan, &(pq_compile_opts){.threads = 1}));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, *s));
    PQ_CHECK(ctx, pq_run(ctx, *s, in, 1, out, (*s)->n_outputs));
    return out;
}

static void detections(pq_detections *list, const pq_graph *g, const char *engine,
                       const pq_plan *given, double conf, double iou)
{
    pq_head head;
    pq_tensor in;
    pq_geometry geo;
    pq_session *s;
    pq_plan *plan = NULL;
    const int64_t id = 1;
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    head.conf = conf;
    head.iou = iou;
    input(&in, g, &head, &geo);
    if (!given) PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    pq_tensor *out = outputs(&s, engine, g, given ? given : plan, &in);
    PQ_CHECK(ctx, pq_head_decode(ctx, list, &head, out, s->n_outputs, 1, &geo, &id));
    pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_plan_free(plan);
    pq_tensor_clear(&in);
}

static double farthest(const pq_detection *a, const pq_detection *b)
{
    return fmax(fmax(fabs(a->x - b->x), fabs(a->y - b->y)),
                fmax(fabs(a->w - b->w), fabs(a->h - b->h)));
}

/* Every detection of a has its like in b, and they are as many. */
static void same(const char *what, const pq_detections *a, const pq_detections *b)
{
    assert_true(a->n > 0);
    if (a->n != b->n) fail_msg("%s: %zu and %zu detections", what, a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        bool found = false;
        for (size_t k = 0; k < b->n && !found; k++)
            found = a->at[i].cls == b->at[k].cls && fabs(a->at[i].score - b->at[k].score) < 2e-4 &&
                    farthest(&a->at[i], &b->at[k]) < 0.05;
        if (!found)
            fail_msg("%s: no like of class %d, score %g, %g %g %g %g", what, (int)a->at[i].cls,
                     a->at[i].score, a->at[i].x, a->at[i].y, a->at[i].w, a->at[i].h);
    }
}

static void recognised(void **state)
{
    (void)state;
    for (int f = 0; f < FAMILY_COUNT; f++) {
        pq_head head;
        pq_graph *g = through_onnx((family)f);
        if (pq_head_detect(ctx, &head, g) != PQ_OK)
            fail_msg("%s: %s", family_name((family)f), pq_ctx_error(ctx));
        if (head.family != family_head((family)f))
            fail_msg("%s is taken for %s", family_name((family)f),
                     pq_head_family_name(head.family));
        if (head.family != PQ_HEAD_BOXES) assert_int_equal(head.n_classes, FAMILY_CLASSES);
        pq_graph_free(g);
    }
}

static void engines_agree(void **state)
{
    (void)state;
    for (int f = 0; f < FAMILY_COUNT; f++) {
        pq_graph *g = through_onnx((family)f);
        pq_detections a = {0}, b = {0};
        detections(&a, g, "ref", NULL, 0.2, 0.7);
        detections(&b, g, "cpu", NULL, 0.2, 0.7);
        same(family_name((family)f), &a, &b);
        pq_detections_clear(&a);
        pq_detections_clear(&b);
        pq_graph_free(g);
    }
}

/* The graph's own operators and our decoding of the raw maps. */
static void decoded_as_the_graph_does(void **state)
{
    static const family pair[][2] = {{FAMILY_YOLOV5, FAMILY_YOLOV5_RAW},
                                     {FAMILY_YOLOV8, FAMILY_YOLOV8_RAW},
                                     {FAMILY_SUPPRESSED, FAMILY_YOLOV8_RAW}};
    (void)state;
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        pq_graph *g = through_onnx(pair[i][0]), *raw = through_onnx(pair[i][1]);
        pq_detections a = {0}, b = {0};
        detections(&a, g, "ref", NULL, 0.3, 0.7);
        detections(&b, raw, "ref", NULL, 0.3, 0.7);
        if (pair[i][0] == FAMILY_SUPPRESSED) { /* ten of a class, whatever the total */
            size_t kept = 0, of[FAMILY_CLASSES] = {0};
            for (size_t k = 0; k < b.n; k++)
                if (of[b.at[k].cls]++ < 10) b.at[kept++] = b.at[k];
            b.n = kept;
        }
        same(family_name(pair[i][0]), &a, &b);
        pq_detections_clear(&a);
        pq_detections_clear(&b);
        pq_graph_free(g);
        pq_graph_free(raw);
    }
}

/* The best places of all, one class each: the best of the list without suppression. */
static void rows_as_the_list_has_them(void **state)
{
    (void)state;
    pq_graph *g = through_onnx(FAMILY_ROWS), *list = through_onnx(FAMILY_YOLOV8);
    pq_detections a = {0}, b = {0};
    detections(&a, g, "ref", NULL, 0, 1);
    detections(&b, list, "ref", NULL, 0, 1);
    assert_int_equal(a.n, 20);
    assert_true(fabs(a.at[0].score - b.at[0].score) < 1e-5 && a.at[0].cls == b.at[0].cls);
    assert_true(farthest(&a.at[0], &b.at[0]) < 0.01);
    pq_detections_clear(&a);
    pq_detections_clear(&b);
    pq_graph_free(g);
    pq_graph_free(list);
}

/* ---- decoders by their definition, in double ---- */

static double mean_bin(const float *v, int64_t step, int bins)
{
    double sum = 0, mean = 0;
    for (int k = 0; k < bins; k++) {
        sum += exp((double)v[k * step]);
        mean += exp((double)v[k * step]) * k;
    }
    return mean / sum;
}

static void push(pq_detections *list, int cls, double score, double x1, double y1, double x2,
                 double y2, const pq_geometry *geo)
{
    const pq_detection d = {1,
                            cls,
                            score,
                            (x1 - geo->dx) * geo->sx,
                            (y1 - geo->dy) * geo->sy,
                            (x2 - x1) * geo->sx,
                            (y2 - y1) * geo->sy};
    PQ_CHECK(ctx, pq_detections_push(ctx, list, &d));
}

/* NanoDet-Plus: distances from the corner of a cell; PicoDet: from its middle. */
static void expect_distances(pq_detections *want, family f, const pq_tensor *out,
                             const pq_geometry *geo, double conf)
{
    const int64_t k = FAMILY_CLASSES + 32;
    int64_t first = 0;
    for (int l = 0; l < 4; l++) {
        const int64_t side = 8 >> l;
        const double stride = 8 << l, offset = f == FAMILY_PICODET ? 0.5 : 0;
        for (int64_t i = 0; i < side * side; i++) {
            const float *row = pq_tensor_data(&out[0]);
            row += (first + i) * k;
            const float *cls = row, *reg = row + FAMILY_CLASSES;
            if (f == FAMILY_PICODET) {
                cls = (const float *)pq_tensor_data(&out[l]) + i * FAMILY_CLASSES;
                reg = (const float *)pq_tensor_data(&out[4 + l]) + i * 32;
            }
            const double x = ((double)(i % side) + offset) * stride;
            const double y = ((double)(i / side) + offset) * stride;
            double d[4];
            for (int s = 0; s < 4; s++) d[s] = mean_bin(reg + 8 * s, 1, 8) * stride;
            for (int c = 0; c < FAMILY_CLASSES; c++)
                if (cls[c] > (float)conf)
                    push(want, c, (double)cls[c], x - d[0], y - d[1], x + d[2], y + d[3], geo);
        }
        first += side * side;
    }
}

static void expect_fastest(pq_detections *want, const pq_tensor *out, const pq_geometry *geo,
                           double conf)
{
    static const double anchor[2][6] = {{12.64, 19.39, 37.88, 51.48, 55.71, 138.31},
                                        {126.91, 78.23, 131.57, 214.55, 279.92, 258.87}};
    for (int l = 0; l < 2; l++) {
        const int side = 4 >> l;
        const double stride = 16 << l;
        for (int i = 0; i < side * side; i++) {
            const float *v = (const float *)pq_tensor_data(&out[l]) + i * (15 + FAMILY_CLASSES);
            for (int a = 0; a < 3; a++) {
                const double x = (2 * (double)v[4 * a] - 0.5 + i % side) * stride;
                const double y = (2 * (double)v[4 * a + 1] - 0.5 + (double)(i / side)) * stride;
                const double w = pow(2 * (double)v[4 * a + 2], 2) * anchor[l][2 * a];
                const double h = pow(2 * (double)v[4 * a + 3], 2) * anchor[l][2 * a + 1];
                for (int c = 0; c < FAMILY_CLASSES; c++)
                    if (v[12 + a] * v[15 + c] > (float)conf)
                        push(want, c, (double)(v[12 + a] * v[15 + c]), x - w / 2, y - h / 2,
                             x + w / 2, y + h / 2, geo);
            }
        }
    }
}

static void decoded_by_definition(void **state)
{
    static const family families[] = {FAMILY_NANODET, FAMILY_PICODET, FAMILY_FASTESTV2};
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const family f = families[i];
        pq_graph *g = through_onnx(f);
        pq_head head;
        pq_tensor in;
        pq_geometry geo;
        pq_session *s;
        pq_plan *plan;
        pq_detections got = {0}, want = {0};
        const int64_t id = 1;
        PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
        head.conf = 0.2;
        head.iou = 1;
        head.max_det = 100000;
        input(&in, g, &head, &geo);
        PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
        pq_tensor *out = outputs(&s, "ref", g, plan, &in);
        PQ_CHECK(ctx, pq_head_decode(ctx, &got, &head, out, s->n_outputs, 1, &geo, &id));
        if (f == FAMILY_FASTESTV2)
            expect_fastest(&want, out, &geo, head.conf);
        else
            expect_distances(&want, f, out, &geo, head.conf);
        same(family_name(f), &want, &got);
        pq_session_outputs_free(out, s);
        pq_session_free(s);
        pq_plan_free(plan);
        pq_tensor_clear(&in);
        pq_detections_clear(&got);
        pq_detections_clear(&want);
        pq_graph_free(g);
    }
}

/* ---- INT8 ---- */

/* What cpu makes of an all-INT8 plan is what ref makes of it, to the rounding of a few levels. */
static void int8_runs(void **state)
{
    (void)state;
    for (int f = 0; f < FAMILY_COUNT; f++) {
        pq_graph *g = through_onnx((family)f);
        pq_plan *plan = tiny_int8_plan(ctx, g, PQ_SCHEME_U8, 4);
        pq_head head;
        pq_tensor in;
        pq_geometry geo;
        pq_session *ref, *cpu;
        PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
        input(&in, g, &head, &geo);
        pq_tensor *a = outputs(&ref, "ref", g, plan, &in), *b = outputs(&cpu, "cpu", g, plan, &in);
        for (size_t i = 0; i < ref->n_outputs && head.family != PQ_HEAD_BOXES; i++) {
            const pq_compare c = pq_compare_f32(pq_tensor_data(&a[i]), pq_tensor_data(&b[i]),
                                                (size_t)pq_shape_count(&a[i].shape));
            if (!(c.sqnr_db > 35))
                fail_msg("%s: output %zu: %g dB", family_name((family)f), i, c.sqnr_db);
        }
        pq_session_outputs_free(a, ref);
        pq_session_outputs_free(b, cpu);
        pq_session_free(ref);
        pq_session_free(cpu);
        pq_tensor_clear(&in);
        pq_plan_free(plan);
        pq_graph_free(g);
    }
}

/* ---- classes and grey pictures ---- */

static void classes_are_mapped(void **state)
{
    static const int32_t map[FAMILY_CLASSES] = {5, -1, 2};
    (void)state;
    pq_graph *g = through_onnx(FAMILY_YOLOV8);
    pq_detections all = {0}, mapped = {0};
    pq_head head;
    pq_tensor in;
    pq_geometry geo;
    pq_session *s;
    pq_plan *plan;
    const int64_t id = 1;
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    input(&in, g, &head, &geo);
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    pq_tensor *out = outputs(&s, "ref", g, plan, &in);
    PQ_CHECK(ctx, pq_head_decode(ctx, &all, &head, out, 1, 1, &geo, &id));
    head.class_map = map;
    PQ_CHECK(ctx, pq_head_decode(ctx, &mapped, &head, out, 1, 1, &geo, &id));
    size_t k = 0;
    for (size_t i = 0; i < all.n; i++) {
        if (map[all.at[i].cls] < 0) continue;
        assert_true(k < mapped.n && mapped.at[k].cls == map[all.at[i].cls]);
        assert_true(mapped.at[k++].score == all.at[i].score);
    }
    assert_int_equal(k, mapped.n);
    assert_true(k > 0 && k < all.n);
    pq_detections_clear(&all);
    pq_detections_clear(&mapped);
    pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_plan_free(plan);
    pq_tensor_clear(&in);
    pq_graph_free(g);
}

static void grey_pictures(void **state)
{
    (void)state;
    pq_graph *g = family_graph(FAMILY_YOLOV8, 1);
    PQ_CHECK(ctx, pq_pass_all(ctx, g));
    pq_detections list = {0};
    pq_head head;
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    assert_int_equal(head.prep.channels, 1);
    detections(&list, g, "cpu", NULL, 0.1, 0.7);
    assert_true(list.n > 0);
    pq_plan *plan = tiny_int8_plan(ctx, g, PQ_SCHEME_U8, 2);
    pq_plan_free(plan);
    pq_detections_clear(&list);
    pq_graph_free(g);
}

static int begin(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) != PQ_OK;
}
static int end(void **state)
{
    (void)state;
    pq_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recognised),
        cmocka_unit_test(engines_agree),
        cmocka_unit_test(decoded_as_the_graph_does),
        cmocka_unit_test(rows_as_the_list_has_them),
        cmocka_unit_test(decoded_by_definition),
        cmocka_unit_test(int8_runs),
        cmocka_unit_test(classes_are_mapped),
        cmocka_unit_test(grey_pictures),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
