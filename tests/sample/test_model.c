/* The sample's detector: read, run and quantized; cpu against ref, step by step. Needs nothing but
 * the repository. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */

#include "engine/steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pquant/pquant.h>

#include "base/cpu.h"
#include "engine/engines.h"
#include "scene.h"

static pq_ctx *ctx;

typedef struct model {
    pq_graph *g;
    pq_head head;
    pq_prep prep;
    pq_tensor in;
} model;

static void open_model(model *m, int64_t side)
{
    memset(m, 0, sizeof *m);
    PQ_CHECK(ctx, pq_read(ctx, &m->g, "sample/damoyolo_shapes_Ns.pth",
                          &(pq_read_opts){.h = side, .w = side}));
    PQ_CHECK(ctx, pq_pass_all(ctx, m->g));
    PQ_CHECK(ctx, pq_head_detect(ctx, &m->head, m->g));
    pq_head_prep(&m->prep, &m->head);
    PQ_CHECK(ctx, pq_tensor_new(ctx, &m->in, PQ_F32, &m->g->value[m->g->input[0]].shape));
}

static void close_model(model *m)
{
    pq_tensor_clear(&m->in);
    pq_graph_free(m->g);
}

static void draw(scene *s, pq_image *img, uint64_t index)
{
    static scene_scratch work;
    PQ_CHECK(ctx, pq_image_new(ctx, img, SCENE_SIDE, SCENE_SIDE));
    scene_draw(s, img, &work, 5, index);
}

/* What it is, and that its shapes are the trained ones. */
static void test_read(void **state)
{
    model m;
    (void)state;
    open_model(&m, 0);
    assert_string_equal(m.g->family, "DAMO-YOLO-Ns");
    assert_int_equal(pq_graph_quantizable_count(m.g), 94);
    assert_int_equal(m.head.n_classes, SCENE_CLASSES);
    assert_int_equal(m.head.anchors, 52 * 52 + 26 * 26 + 13 * 13);
    assert_int_equal(m.prep.h, SCENE_SIDE);
    close_model(&m);
}

static bool found(const scene_object *o, const pq_detections *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const pq_detection *d = &list->at[i];
        const double w =
            (d->x + d->w < o->x + o->w ? d->x + d->w : o->x + o->w) - (d->x > o->x ? d->x : o->x);
        const double h =
            (d->y + d->h < o->y + o->h ? d->y + d->h : o->y + o->h) - (d->y > o->y ? d->y : o->y);
        if (d->cls != o->cls || d->score < 0.3 || w <= 0 || h <= 0) continue;
        if (w * h >= 0.7 * (d->w * d->h + o->w * o->h - w * h)) return true;
    }
    return false;
}

/* It finds most objects that are not tiny. */
static void test_finds(void **state)
{
    model m;
    pq_plan *plan;
    pq_session *session;
    pq_tensor *out;
    int n = 0, hits = 0;
    (void)state;
    open_model(&m, 0);
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, m.g, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_compile(ctx, &session, &pq_engine_cpu, m.g, plan, &(pq_compile_opts){0}));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, session));
    for (uint64_t i = 0; i < 8; i++) {
        scene s;
        pq_image img = {0};
        pq_geometry geometry;
        pq_detections list = {0};
        draw(&s, &img, i);
        PQ_CHECK(ctx, pq_preprocess(ctx, pq_tensor_data(&m.in), &geometry, &img, &m.prep));
        PQ_CHECK(ctx, pq_run(ctx, session, &m.in, 1, out, session->n_outputs));
        PQ_CHECK(ctx, pq_head_decode(ctx, &list, &m.head, out, session->n_outputs, 1, &geometry,
                                     &(int64_t){1}));
        for (int k = 0; k < s.n; k++) {
            if (s.object[k].crowd || s.object[k].area < 600) continue;
            n++;
            hits += found(&s.object[k], &list);
        }
        pq_detections_clear(&list);
        pq_image_clear(&img);
    }
    print_message("%d of %d objects found\n", hits, n);
    assert_true(n > 20 && hits * 100 >= n * 80);
    pq_session_outputs_free(out, session);
    pq_session_free(session);
    pq_plan_free(plan);
    close_model(&m);
}

/* Every operator INT8, scales from one scene, both schemes: the bounds of docs/testing.md. */
static void test_int8(void **state)
{
    model m;
    scene s;
    pq_image img = {0};
    pq_ranges *ranges;
    pq_dataset *images;
    char folder[] = "/tmp/pq_sample_XXXXXX", file[64];
    bool all[94];
    (void)state;
    open_model(&m, 160);
    draw(&s, &img, 0);
    PQ_CHECK(ctx, pq_preprocess(ctx, pq_tensor_data(&m.in), NULL, &img, &m.prep));
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/scene.png", folder);
    PQ_CHECK(ctx, pq_image_save(ctx, &img, file));
    PQ_CHECK(ctx, pq_dataset_from_folder(ctx, &images, folder, 1));
    PQ_CHECK(ctx, pq_calibrate(ctx, &ranges, &pq_engine_cpu, m.g, images, &m.prep,
                               &(pq_calibrate_opts){.calibrator = PQ_CALIB_MAX}));
    memset(all, 1, sizeof all);
    for (int scheme = PQ_SCHEME_S8; scheme <= PQ_SCHEME_U8; scheme++) {
        steps_tally t = {0};
        pq_plan *plan;
        PQ_CHECK(ctx, pq_plan_make(ctx, &plan, m.g, ranges, all, (pq_scheme)scheme, PQ_PREC_FP32));
        steps_compare(&t, ctx, m.g, plan, &m.in);
        print_message("%s: %zu of %zu integers differ, worst %d; float32 %.2g; %s\n",
                      scheme == PQ_SCHEME_U8 ? "u8" : "s8", t.unequal, t.elements, t.worst, t.real,
                      t.where);
        assert_true(t.elements > 0 && t.worst <= 1 && t.real <= 1e-4);
        assert_true((double)t.unequal <= 1e-4 * (double)t.elements);
        if (!pq_cpu_get()->avx512_vnni && !pq_cpu_get()->avx_vnni) assert_int_equal(t.unequal, 0);
        pq_plan_free(plan);
    }
    unlink(file);
    rmdir(folder);
    pq_ranges_free(ranges);
    pq_dataset_free(images);
    pq_image_clear(&img);
    close_model(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_finds),
                                       cmocka_unit_test(test_int8)};
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pq_ctx_free(ctx);
    return failed;
}
