/* Heads: recognised by shape, decoded by hand-made outputs. */
#include "../base/testing.h"

#include <math.h>
#include <pquant/detect.h>

/* A graph with an input of h x w and the given outputs, enough to be looked at. */
static pq_graph *graph(test_env *e, const char *family, int64_t h, int64_t w, const pq_shape *out,
                       size_t n)
{
    pq_graph *g;
    pq_value_id id[4];
    const pq_shape in = PQ_SHAPE(1, 3, h, w);
    assert_ok(e->ctx, pq_graph_new(e->ctx, &g));
    assert_ok(e->ctx, pq_graph_add_value(e->ctx, id, g, "images", PQ_F32, &in));
    assert_ok(e->ctx, pq_graph_set_inputs(e->ctx, g, id, 1));
    for (size_t i = 0; i < n; i++)
        assert_ok(e->ctx, pq_graph_add_value(e->ctx, &id[i], g, NULL, PQ_F32, &out[i]));
    assert_ok(e->ctx, pq_graph_set_outputs(e->ctx, g, id, n));
    g->family = family;
    return g;
}

static void check_head(test_env *e, const char *family, const pq_shape *out, size_t n, int side,
                       const pq_head *expected)
{
    pq_head h;
    pq_graph *g = graph(e, family, side, side, out, n);
    assert_ok(e->ctx, pq_head_detect(e->ctx, &h, g));
    assert_int_equal(h.family, expected->family);
    assert_true(h.conf == expected->conf && h.iou == expected->iou);
    assert_int_equal(h.max_det, expected->max_det);
    assert_int_equal(h.n_classes, expected->n_classes);
    assert_int_equal(h.anchors, out[0].dim[1]);
    assert_int_equal(h.scores_at, expected->scores_at);
    assert_int_equal(h.boxes_at, expected->boxes_at);
    assert_int_equal(h.h, side);
    pq_graph_free(g);
}

static void heads_are_recognised(void **state)
{
    test_env *e = *state;
    const pq_shape damo[] = {PQ_SHAPE(1, 8400, 80), PQ_SHAPE(1, 8400, 4)};
    const pq_shape turned[] = {PQ_SHAPE(1, 8400, 4), PQ_SHAPE(1, 8400, 2)};
    const pq_shape four[] = {PQ_SHAPE(1, 8400, 4), PQ_SHAPE(1, 8400, 4)};
    const pq_shape yolox[] = {PQ_SHAPE(1, 3549, 85)};
    const pq_head t = {.family = PQ_HEAD_DAMO,
                       .conf = 0.05,
                       .iou = 0.7,
                       .max_det = 500,
                       .n_classes = 80,
                       .boxes_at = 1};
    const pq_head nano = {.family = PQ_HEAD_DAMO,
                          .conf = 0.03,
                          .iou = 0.65,
                          .max_det = 500,
                          .n_classes = 80,
                          .boxes_at = 1};
    const pq_head two = {.family = PQ_HEAD_DAMO,
                         .conf = 0.05,
                         .iou = 0.7,
                         .max_det = 500,
                         .n_classes = 2,
                         .scores_at = 1};
    const pq_head quad = {.family = PQ_HEAD_DAMO,
                          .conf = 0.05,
                          .iou = 0.7,
                          .max_det = 500,
                          .n_classes = 4,
                          .boxes_at = 1};
    const pq_shape tiny[] = {PQ_SHAPE(1, 84, 2000)}; /* strides 16 and 32 alone: YOLOv3-tiny */
    pq_head h;
    pq_graph *g = graph(e, "ONNX", 640, 640, tiny, 1);
    assert_ok(e->ctx, pq_head_detect(e->ctx, &h, g));
    assert_int_equal(h.family, PQ_HEAD_YOLOV8);
    assert_true(h.n_classes == 80 && h.anchors == 2000);
    pq_graph_free(g);
    const pq_head x = {
        .family = PQ_HEAD_YOLOX, .conf = 0.01, .iou = 0.65, .max_det = 300, .n_classes = 80};
    check_head(e, "DAMO-YOLO-T", damo, 2, 640, &t);
    check_head(e, "DAMO-YOLO-Ns", damo, 2, 640, &nano);
    check_head(e, "ONNX", turned, 2, 640, &two);
    check_head(e, "ONNX", four, 2, 640, &quad);
    check_head(e, "YOLOX", yolox, 1, 416, &x);
    check_head(e, NULL, yolox, 1, 416, &x);
}

static void check_refused(test_env *e, const char *family, const pq_shape *out, size_t n,
                          const char *text)
{
    pq_head h;
    pq_graph *g = graph(e, family, 640, 640, out, n);
    assert_fails(e->ctx, pq_head_detect(e->ctx, &h, g), PQ_E_UNSUPPORTED, text);
    pq_graph_free(g);
}

static void other_heads_are_refused(void **state)
{
    test_env *e = *state;
    const pq_shape odd[] = {PQ_SHAPE(1, 84, 8399)};
    const pq_shape uneven[] = {PQ_SHAPE(1, 8400, 80), PQ_SHAPE(1, 2100, 4)};
    const pq_shape no_boxes[] = {PQ_SHAPE(1, 8400, 80), PQ_SHAPE(1, 8400, 5)};
    const pq_shape yolox[] = {PQ_SHAPE(1, 8400, 85)};
    check_refused(e, "ONNX", odd, 1, "outputs [1, 84, 8399] is not known, expected");
    check_refused(e, "ONNX", uneven, 2, "outputs [1, 8400, 80] [1, 2100, 4] is not known");
    check_refused(e, "ONNX", no_boxes, 2, "[1, 8400, 5]");
    /* RetinaNet's boxes are offsets from nine priors a place, not boxes. */
    const pq_shape priors[] = {PQ_SHAPE(1, 76725, 91), PQ_SHAPE(1, 76725, 4)};
    check_refused(e, "ONNX", priors, 2, "[1, 76725, 4] is not known");
    check_refused(e, "NanoDet", yolox, 1, "head of NanoDet");
    check_refused(e, "ONNX", yolox, 0, "outputs none");
}

static void preprocessing_of_the_families(void **state)
{
    (void)state;
    pq_prep p;
    pq_head_prep(&p, &(pq_head){.family = PQ_HEAD_DAMO, .h = 640, .w = 320});
    assert_true(p.fit == PQ_FIT_RESIZE && !p.bgr && p.h == 640 && p.w == 320);
    pq_head_prep(&p, &(pq_head){.family = PQ_HEAD_YOLOX, .h = 416, .w = 416});
    assert_true(p.fit == PQ_FIT_LETTERBOX && p.bgr && p.pad == 114);
}

static float *tensor(test_env *e, pq_tensor *t, int64_t n, int64_t a, int64_t c)
{
    const pq_shape s = PQ_SHAPE(n, a, c);
    assert_ok(e->ctx, pq_tensor_new(e->ctx, t, PQ_F32, &s));
    return pq_tensor_data(t);
}

static void damo_outputs(void **state)
{
    test_env *e = *state;
    const pq_head h = {.family = PQ_HEAD_DAMO,
                       .conf = 0.5,
                       .iou = 0.7,
                       .max_det = 10,
                       .n_classes = 2,
                       .anchors = 3,
                       .h = 100,
                       .w = 100,
                       .scores_at = 1};
    const pq_geometry geo[2] = {{.w = 200, .h = 300, .sx = 2, .sy = 3},
                                {.w = 100, .h = 100, .sx = 1, .sy = 1}};
    const int64_t id[2] = {70, 71};
    pq_tensor out[2];
    pq_detections d = {0};
    float *boxes = tensor(e, &out[0], 2, 3, 4), *scores = tensor(e, &out[1], 2, 3, 2);
    memcpy(boxes, (float[]){10, 20, 30, 40, -5, 0, 5, 1, 0, 0, INFINITY, 1}, 12 * sizeof(float));
    memcpy(scores, (float[]){0.6f, 0.9f, 0.5f, 0.7f, 1, 1}, 6 * sizeof(float));
    boxes[12] = 1;
    boxes[14] = boxes[15] = 2;
    scores[6] = 0.8f;
    assert_ok(e->ctx, pq_head_decode(e->ctx, &d, &h, out, 2, 2, geo, id));
    assert_int_equal(d.n, 4);
    /* image 70: class 1 of anchor 0, class 1 of anchor 1, class 0 of anchor 0; exactly 0.5 is not
     * enough, and a box without end is dropped */
    assert_true(d.at[0].image == 70 && d.at[0].cls == 1 && d.at[0].score == (double)0.9f);
    assert_true(d.at[0].x == 20 && d.at[0].y == 60 && d.at[0].w == 40 && d.at[0].h == 60);
    assert_true(d.at[1].cls == 1 && d.at[1].score == (double)0.7f && d.at[1].x == -10);
    assert_true(d.at[2].cls == 0 && d.at[2].score == (double)0.6f);
    assert_true(d.at[3].image == 71 && d.at[3].x == 1 && d.at[3].w == 1 && d.at[3].h == 2);
    pq_detections_clear(&d);
    pq_tensor_clear(&out[0]);
    pq_tensor_clear(&out[1]);
}

static void yolox_outputs(void **state)
{
    test_env *e = *state;
    enum { CELLS = 4 * 8 + 2 * 4 + 1 * 2 }; /* 32 x 64 input */
    const pq_head h = {.family = PQ_HEAD_YOLOX,
                       .conf = 0.125,
                       .iou = 0.65,
                       .max_det = 300,
                       .n_classes = 3,
                       .anchors = CELLS,
                       .h = 32,
                       .w = 64};
    const pq_geometry geo = {.w = 0, .h = 0, .sx = 0.5, .sy = 0.5};
    const int64_t id = 1;
    pq_tensor out;
    pq_detections d = {0};
    float *o = tensor(e, &out, 1, CELLS, 8);
    float *a = o + (1 * 8 + 3) * 8;         /* stride 8: row 1, column 3 */
    float *b = o + (4 * 8 + 1 * 4 + 2) * 8; /* stride 16: row 1, column 2 */
    float *c = o + (4 * 8 + 2 * 4 + 1) * 8; /* stride 32: row 0, column 1 */
    memcpy(a, (float[]){0.5f, 0.25f, 0, 0, 0.5f, 0, 0.5f, 0}, 8 * sizeof *a);
    memcpy(b, (float[]){0, 0, logf(2), logf(4), 1, 0.9f, 0, 0}, 8 * sizeof *b);
    memcpy(c, (float[]){0, 0, 0, 0, 0.25f, 0.5f, 0, 0}, 8 * sizeof *c); /* 0.125 is not above */
    assert_ok(e->ctx, pq_head_decode(e->ctx, &d, &h, &out, 1, 1, &geo, &id));
    assert_int_equal(d.n, 2);
    assert_true(d.at[0].cls == 0 && d.at[0].score == (double)0.9f);
    assert_true(fabs(d.at[0].x - (32 - 16) * 0.5) < 1e-5 && fabs(d.at[0].y + 8) < 1e-5);
    assert_true(fabs(d.at[0].w - 16) < 1e-5 && fabs(d.at[0].h - 32) < 1e-5);
    assert_true(d.at[1].cls == 1 && d.at[1].score == 0.25);
    assert_true(d.at[1].x == (28 - 4) * 0.5 && d.at[1].y == (10 - 4) * 0.5 && d.at[1].w == 4);
    pq_detections_clear(&d);
    pq_tensor_clear(&out);
}

static void outputs_that_do_not_fit_are_refused(void **state)
{
    test_env *e = *state;
    pq_head h = {.family = PQ_HEAD_DAMO,
                 .conf = 0.5,
                 .iou = 0.7,
                 .max_det = 10,
                 .n_classes = 2,
                 .anchors = 3,
                 .h = 100,
                 .w = 100,
                 .scores_at = 1};
    const pq_geometry geo[2] = {{.w = 1, .h = 1, .sx = 1, .sy = 1},
                                {.w = 1, .h = 1, .sx = 1, .sy = 1}};
    const int64_t id[2] = {0, 1};
    pq_tensor out[2];
    pq_detections d = {0};
    tensor(e, &out[0], 1, 3, 4);
    tensor(e, &out[1], 1, 3, 2);
    assert_fails(e->ctx, pq_head_decode(e->ctx, &d, &h, out, 1, 1, geo, id), PQ_E_INVALID,
                 "expected 2 outputs");
    assert_fails(e->ctx, pq_head_decode(e->ctx, &d, &h, out, 2, 2, geo, id), PQ_E_INVALID,
                 "[1, 3, 2], expected float32 [2, 3, 2]");
    h.anchors = 4;
    assert_fails(e->ctx, pq_head_decode(e->ctx, &d, &h, out, 2, 1, geo, id), PQ_E_INVALID,
                 "expected float32 [1, 4, 2]");
    h.family = PQ_HEAD_YOLOX;
    assert_fails(e->ctx, pq_head_decode(e->ctx, &d, &h, out, 1, 1, geo, id), PQ_E_INVALID,
                 "head of 4 anchors");
    pq_tensor_clear(&out[0]);
    pq_tensor_clear(&out[1]);
}

static void memory_runs_out(void **state)
{
    test_env *e = *state;
    const pq_head h = {.family = PQ_HEAD_DAMO,
                       .conf = 0.5,
                       .iou = 0.7,
                       .max_det = 10,
                       .n_classes = 2,
                       .anchors = 3,
                       .h = 100,
                       .w = 100,
                       .scores_at = 1};
    const pq_geometry geo = {.w = 1, .h = 1, .sx = 1, .sy = 1};
    const int64_t id = 0;
    pq_tensor out[2];
    pq_status st = PQ_E_NOMEM;
    tensor(e, &out[0], 1, 3, 4)[2] = 1;
    tensor(e, &out[1], 1, 3, 2)[0] = 1;
    for (long n = 1; st == PQ_E_NOMEM; n++) {
        pq_detections d = {0};
        pq_mem_fail_after(n);
        st = pq_head_decode(e->ctx, &d, &h, out, 2, 1, &geo, &id);
        pq_mem_fail_after(0);
        pq_detections_clear(&d);
    }
    assert_int_equal(st, PQ_OK);
    pq_tensor_clear(&out[0]);
    pq_tensor_clear(&out[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(heads_are_recognised),
        test_case(other_heads_are_refused),
        test_case(preprocessing_of_the_families),
        test_case(damo_outputs),
        test_case(yolox_outputs),
        test_case(outputs_that_do_not_fit_are_refused),
        test_case(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
