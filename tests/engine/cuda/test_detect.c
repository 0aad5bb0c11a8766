/* Pictures to boxes on the device against the host's way around the same session: inputs, boxes,
 * scores and their order equal to the bit. */
#include "compare.h"

#include <stdio.h>
#include <string.h>

#include <pquant/detect.h>

typedef struct around {
    pq_small s;
    pq_plan *plan;
    pq_session *session;
    pq_head head;
    pq_prep prep;
    int batch;
} around;

static pq_value_id joined(pq_small *s, const char *name, pq_op op, pq_value_id x, float y)
{
    char text[48];
    snprintf(text, sizeof text, "%s.by", name);
    return pq_small_binary(s, name, op, x, pq_small_values(s, text, PQ_F32, PQ_SHAPE(1), &y));
}

/* Numbers [n, anchors, width], an anchor a cell of each stride; those of the image are -1 .. 1. */
static pq_value_id cells(pq_small *s, const char *name, int n_strides, int64_t width)
{
    const pq_shape in = s->g->value[s->x].shape;
    const pq_attr swap = {.perm = {0, 2, 1}}, along = {.axis = 2};
    pq_value_id part[3];
    char text[48];
    for (int i = 0; i < n_strides; i++) {
        const int64_t stride = n_strides == 1 ? 2 : 8 << i;
        const int64_t to[3] = {in.dim[0], width, in.dim[2] / stride * (in.dim[3] / stride)};
        const pq_small_window w = {.out = width,
                                   .in = in.dim[1],
                                   .kernel = stride,
                                   .stride = stride,
                                   .groups = 1,
                                   .bias = true};
        snprintf(text, sizeof text, "%s.conv%d", name, i);
        part[i] = pq_small_conv(s, text, s->x, w);
        snprintf(text, sizeof text, "%s.size%d", name, i);
        const pq_value_id list[2] = {part[i], pq_small_values(s, text, PQ_S64, PQ_SHAPE(3), to)};
        snprintf(text, sizeof text, "%s.list%d", name, i);
        part[i] = pq_small_node(s, text, PQ_OP_RESHAPE, list, 2, NULL);
    }
    snprintf(text, sizeof text, "%s.all", name);
    if (n_strides > 1) part[0] = pq_small_node(s, text, PQ_OP_CONCAT, part, n_strides, &along);
    return pq_small_node(s, name, PQ_OP_TRANSPOSE, &part[0], 1, &swap);
}

/* Few different scores where there are steps, so that many are equal. */
static pq_value_id scores(pq_small *s, pq_value_id x, bool steps)
{
    x = pq_small_unary(s, "scores", PQ_OP_SIGMOID, x);
    if (!steps) return x;
    x = pq_small_unary(s, "steps", PQ_OP_FLOOR, joined(s, "eight", PQ_OP_MUL, x, 8));
    return joined(s, "eighth", PQ_OP_MUL, x, 0.125f);
}

static void begin(around *a, uint64_t seed)
{
    pq_rng r = {seed};
    const bool yolox = seed % 3 == 2;
    const int classes = seed % 5 == 4 ? 1 : 1 + (int)pq_rng_below(&r, 6), side = yolox ? 64 : 72;
    const int channels = seed % 7 == 3 ? 1 : 3;
    pq_value_id out[2];
    a->batch = 1 + (int)pq_rng_below(&r, 3);
    pq_small_begin(&a->s, PQ_SHAPE(a->batch, channels, side, side + 32));
    pq_small *s = &a->s;
    if (yolox) {
        /* Sides of e^x cells, now and then beyond what a float holds. */
        out[0] = joined(s, "wide", PQ_OP_MUL, cells(s, "cells", 3, 5 + classes), seed % 2 ? 40 : 1);
    } else {
        static const float corner[4] = {10, 12, 40, 44};
        out[0] = scores(s, cells(s, "classes", 1, classes), seed % 2);
        out[1] = pq_small_binary(s, "boxes", PQ_OP_ADD,
                                 joined(s, "far", PQ_OP_MUL, cells(s, "corners", 1, 4), 9),
                                 pq_small_values(s, "middle", PQ_F32, PQ_SHAPE(4), corner));
    }
    pq_small_outputs(s, out, yolox ? 1 : 2);
    pq_graph_mark_quantizable(s->g);
    pq_graph_seal(s->g);
    PQ_CHECK(s->ctx, pq_plan_float(s->ctx, &a->plan, s->g, PQ_PREC_FP32));
    PQ_CHECK(s->ctx, cu_session_new(s->ctx, &a->session, s->g, a->plan, &(pq_compile_opts){0},
                                    &(cu_force){.split = 1}));
    const pq_shape *shape = &a->session->output_shape[0];
    a->head = (pq_head){.family = yolox ? PQ_HEAD_YOLOX : PQ_HEAD_DAMO,
                        .conf = seed % 4 ? pq_rng_double(&r) * 0.6 : 0,
                        .iou = 0.2 + 0.7 * pq_rng_double(&r),
                        .max_det = seed % 4 == 1 ? 3 : 5 + (int)pq_rng_below(&r, 400),
                        .n_classes = classes,
                        .anchors = shape->dim[1],
                        .h = side,
                        .w = side + 32,
                        .boxes_at = 1};
    a->prep = (pq_prep){.h = side,
                        .w = side + 32,
                        .fit = (pq_fit)(seed % 3),
                        .pad = 114,
                        .bgr = seed % 2,
                        .channels = channels,
                        .mean = {128, 120, 131},
                        .scale = {1 / 100.0f, 1 / 120.0f, 1 / 90.0f}};
}

static void end(around *a)
{
    pq_session_free(a->session);
    pq_plan_free(a->plan);
    pq_small_end(&a->s);
}

/* Smooth, so that neighbours differ little, and noise on it. */
static void picture(pq_image *img, pq_ctx *ctx, pq_rng *r)
{
    const int w = 1 + (int)pq_rng_below(r, 200), h = 1 + (int)pq_rng_below(r, 200);
    const int a = (int)pq_rng_below(r, 9), b = (int)pq_rng_below(r, 9);
    PQ_CHECK(ctx, pq_image_new(ctx, img, w, h));
    for (int i = 0; i < 3 * w * h; i++)
        img->data[i] = (uint8_t)(a * (i / 3 % w) + b * (i / 3 / w) + (int)pq_rng_below(r, 60));
}

/* What the host makes of the pictures with the same session, and its input. */
static void on_host(around *a, pq_detections *list, pq_tensor *input, const pq_image *img, size_t n,
                    const int64_t *id)
{
    pq_ctx *ctx = a->s.ctx;
    pq_geometry geo[3];
    pq_detector *d;
    const size_t each = (size_t)pq_shape_count(&a->session->input_shape[0]) / (size_t)a->batch;
    PQ_CHECK(ctx, pq_tensor_new(ctx, input, PQ_F32, &a->session->input_shape[0]));
    for (size_t i = 0; i < n; i++)
        PQ_CHECK(ctx, pq_preprocess(ctx, (float *)pq_tensor_data(input) + i * each, &geo[i],
                                    &img[i], &a->prep));
    PQ_CHECK(ctx, pq_detector_new(ctx, &d, a->session, &a->prep, &a->head));
    PQ_CHECK(ctx, pq_detector_input(ctx, d, list, input, geo, n, id));
    pq_detector_free(d);
}

static void assert_same(const pq_detections *x, const pq_detections *y, uint64_t seed)
{
    if (x->n != y->n)
        fail_msg("seed %llu: %zu boxes by the host, %zu by the device", (unsigned long long)seed,
                 x->n, y->n);
    for (size_t i = 0; i < x->n; i++) {
        const pq_detection *p = &x->at[i], *q = &y->at[i];
        if (p->image != q->image || p->cls != q->cls || p->score != q->score || p->x != q->x ||
            p->y != q->y || p->w != q->w || p->h != q->h)
            fail_msg("seed %llu: box %zu: image %lld, class %d, %.9g at %.17g, expected image "
                     "%lld, class %d, %.9g at %.17g",
                     (unsigned long long)seed, i, (long long)q->image, q->cls, q->score, q->x,
                     (long long)p->image, p->cls, p->score, p->x);
    }
}

static void assert_input(const around *a, const pq_tensor *input)
{
    const size_t bytes = (size_t)pq_shape_count(&input->shape) * sizeof(float);
    float *seen;
    PQ_CHECK(a->s.ctx, pq_alloc(a->s.ctx, &seen, bytes, 1));
    assert_int_equal(
        cudaMemcpy(seen, ((const cu_session *)a->session)->input[0], bytes, cudaMemcpyDeviceToHost),
        cudaSuccess);
    assert_memory_equal(seen, pq_tensor_data(input), bytes);
    pq_free(seen);
}

/* Twice in one session, with other pictures, so that memory is used again and grows. */
static void test_pictures(void **state)
{
    const int times = compare_number("PQ_CUDA_PICTURES", 400);
    size_t found = 0, most = 0;
    (void)state;
    for (uint64_t seed = 0; seed < (uint64_t)times; seed++) {
        static const int64_t id[3] = {11, 12, 13};
        around a;
        pq_rng r = {seed + 99};
        pq_detector *d;
        begin(&a, seed);
        PQ_CHECK(a.s.ctx, pq_detector_new(a.s.ctx, &d, a.session, &a.prep, &a.head));
        assert_true(pq_detector_prepares(d));
        for (int round = 0; round < 2; round++) {
            pq_image img[3] = {{0}};
            pq_detections host = {0}, device = {0};
            pq_tensor input = {0};
            const size_t n = 1 + (size_t)pq_rng_below(&r, (uint64_t)a.batch);
            for (size_t i = 0; i < n; i++) picture(&img[i], a.s.ctx, &r);
            on_host(&a, &host, &input, img, n, id);
            PQ_CHECK(a.s.ctx, pq_detector_images(a.s.ctx, d, &device, img, n, id));
            assert_input(&a, &input);
            assert_same(&host, &device, seed);
            found += host.n;
            most = host.n > most ? host.n : most;
            for (size_t i = 0; i < n; i++) pq_image_clear(&img[i]);
            pq_tensor_clear(&input);
            pq_detections_clear(&host);
            pq_detections_clear(&device);
        }
        pq_detector_free(d);
        end(&a);
    }
    print_message("%d networks: %zu boxes, %zu at most, all equal\n", times, found, most);
    assert_true(found > 20 * (size_t)times);
}

/* Bytes that were prepared before, plane by plane, as the meter holds them. */
static void test_planes(void **state)
{
    static const int64_t id[3] = {1, 2, 3};
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        around a;
        pq_rng r = {seed};
        pq_image img[3] = {{0}};
        pq_picture p[3];
        pq_geometry geo[3];
        pq_detections host = {0}, device = {0};
        pq_tensor input = {0};
        pq_detector *d;
        uint8_t *planes;
        begin(&a, seed);
        pq_ctx *ctx = a.s.ctx;
        const size_t n = (size_t)a.batch, h = (size_t)a.prep.h, w = (size_t)a.prep.w,
                     each = (size_t)a.prep.channels * h * w;
        PQ_CHECK(ctx, pq_alloc(ctx, &planes, n, each));
        for (size_t i = 0; i < n; i++) {
            picture(&img[i], ctx, &r);
            PQ_CHECK(ctx, pq_preprocess_u8(ctx, planes + i * each, &geo[i], &img[i], &a.prep));
            p[i] = (pq_picture){.data = planes + i * each,
                                .w = a.prep.w,
                                .h = a.prep.h,
                                .channels = a.prep.channels,
                                .pixel = 1,
                                .row = w,
                                .plane = w * h,
                                .fit_w = a.prep.w,
                                .fit_h = a.prep.h};
        }
        on_host(&a, &host, &input, img, n, id);
        PQ_CHECK(ctx, pq_detector_new(ctx, &d, a.session, &a.prep, &a.head));
        PQ_CHECK(ctx, pq_detector_pictures(ctx, d, &device, p, geo, n, id));
        assert_input(&a, &input);
        assert_same(&host, &device, seed);
        p[0].left = 1;
        PQ_CHECK_FAILS(ctx, pq_detector_pictures(ctx, d, &device, p, geo, n, id), PQ_E_INVALID,
                       "picture 0: ");
        for (size_t i = 0; i < n; i++) pq_image_clear(&img[i]);
        pq_free(planes);
        pq_tensor_clear(&input);
        pq_detections_clear(&host);
        pq_detections_clear(&device);
        pq_detector_free(d);
        end(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pictures),
                                       cmocka_unit_test(test_planes)};
    return compare_main(tests, sizeof tests / sizeof *tests);
}
