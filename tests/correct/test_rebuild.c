/* The linear algebra against plain loops, and reconstruction of single operators: never worse than
 * the nearest integers, much better where inputs are correlated, the same on any number of
 * threads. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "calibrate/layout.h"
#include "correct/encode.h"
#include "correct/grid.h"
#include "correct/linear.h"
#include "correct/rebuild.h"
#include "graph/eval.h"
#include "support/run.h"
#include "support/small.h"

static pq_ctx *ctx;

static int begin(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) == PQ_OK ? 0 : -1;
}
static int end(void **state)
{
    (void)state;
    pq_ctx_free(ctx);
    return 0;
}

static float *random_floats(pq_rng *rng, size_t n)
{
    float *x;
    PQ_CHECK(ctx, pq_alloc(ctx, &x, n, sizeof *x));
    for (size_t i = 0; i < n; i++) x[i] = (float)(2 * pq_rng_double(rng) - 1);
    return x;
}

static void test_moments(void **state)
{
    static const size_t size[][3] = {
        {1, 1, 1}, {4, 3, 7}, {9, 5, 1025}, {33, 2, 3000}, {70, 9, 65}};
    pq_rng rng = {3};
    (void)state;
    for (size_t t = 0; t < sizeof size / sizeof *size; t++) {
        const size_t k = size[t][0], o = size[t][1], m = size[t][2];
        float *x = random_floats(&rng, k * m), *y = random_floats(&rng, o * m);
        double *h, *c, *again;
        PQ_CHECK(ctx, pq_alloc(ctx, &h, k * k, sizeof *h));
        PQ_CHECK(ctx, pq_alloc(ctx, &again, k * k, sizeof *h));
        PQ_CHECK(ctx, pq_alloc(ctx, &c, o * k, sizeof *c));
        PQ_CHECK(ctx, pq_linear_gram(ctx, h, x, k, m, m, 1));
        PQ_CHECK(ctx, pq_linear_gram(ctx, again, x, k, m, m, 3));
        assert_memory_equal(h, again, k * k * sizeof *h);
        PQ_CHECK(ctx, pq_linear_cross(ctx, c, y, o, x, k, m, m, 2));
        for (size_t i = 0; i < k; i++) {
            for (size_t j = 0; j < k; j++) {
                double s = 0;
                for (size_t n = 0; n < m; n++) s += (double)x[i * m + n] * (double)x[j * m + n];
                assert_true(fabs(s / (double)m - h[i * k + j]) < 1e-5);
            }
            for (size_t j = 0; j < o; j++) {
                double s = 0;
                for (size_t n = 0; n < m; n++) s += (double)y[j * m + n] * (double)x[i * m + n];
                assert_true(fabs(s / (double)m - c[j * k + i]) < 1e-5);
            }
        }
        pq_free(x);
        pq_free(y);
        pq_free(h);
        pq_free(again);
        pq_free(c);
    }
}

static void test_solve(void **state)
{
    pq_rng rng = {5};
    (void)state;
    for (size_t k = 1; k < 300; k = 2 * k + 1) {
        float *r = random_floats(&rng, k * 2 * k), *want = random_floats(&rng, k);
        double *a, *l, *b;
        PQ_CHECK(ctx, pq_alloc(ctx, &a, k * k, sizeof *a));
        PQ_CHECK(ctx, pq_alloc(ctx, &l, k * k, sizeof *l));
        PQ_CHECK(ctx, pq_alloc(ctx, &b, k, sizeof *b));
        PQ_CHECK(ctx, pq_linear_gram(ctx, a, r, k, 2 * k, 2 * k, 1));
        for (size_t i = 0; i < k; i++) a[i * k + i] += 0.1;
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < k; j++) b[i] += a[i * k + j] * (double)want[j];
        memcpy(l, a, k * k * sizeof *l);
        PQ_CHECK(ctx, pq_linear_factor(ctx, l, k, 1));
        PQ_CHECK(ctx, pq_linear_factor(ctx, a, k, 4));
        assert_memory_equal(l, a, k * k * sizeof *l);
        pq_linear_solve(b, l, k);
        for (size_t i = 0; i < k; i++) assert_true(fabs(b[i] - (double)want[i]) < 1e-8);
        pq_free(r);
        pq_free(want);
        pq_free(a);
        pq_free(l);
        pq_free(b);
    }
}

/* ---- reconstruction ---- */

enum { IMAGES = 8, SIDE = 12 };

typedef struct problem {
    pq_small s;
    const pq_node *n;
    float *x, *z;
    pq_spots spots;
    pq_spot *box[IMAGES];
    size_t n_boxes[IMAGES];
    pq_plan_tensor grid;
} problem;

/* A convolution and smooth, correlated, positive inputs; its exact outputs. */
static void make(problem *p, int64_t in, int64_t out, int64_t kernel, int64_t groups, float noise)
{
    const pq_shape shape = PQ_SHAPE(1, in, SIDE, SIDE);
    const size_t count = (size_t)(in * SIDE * SIDE);
    memset(p, 0, sizeof *p);
    pq_small_begin(&p->s, shape);
    const pq_value_id y = pq_small_conv(&p->s, "c", p->s.x, pq_small_same(in, out, kernel, groups));
    pq_small_outputs(&p->s, &y, 1);
    pq_graph_mark_quantizable(p->s.g);
    p->n = &p->s.g->node[p->s.g->value[y].producer];
    const size_t made = (size_t)(out * SIDE * SIDE);
    PQ_CHECK(ctx, pq_alloc(ctx, &p->x, IMAGES * count, sizeof *p->x));
    PQ_CHECK(ctx, pq_alloc(ctx, &p->z, IMAGES * made, sizeof *p->z));
    for (size_t i = 0; i < IMAGES; i++) {
        float level = 0;
        for (size_t k = 0; k < count; k++) {
            if (k % 5 == 0) level = (float)pq_rng_double(&p->s.rng);
            p->x[i * count + k] = level + noise * (float)pq_rng_double(&p->s.rng);
        }
        pq_tensor t, result = {0};
        PQ_CHECK(ctx, pq_tensor_new(ctx, &t, PQ_F32, &shape));
        memcpy(pq_tensor_data(&t), p->x + i * count, count * sizeof(float));
        PQ_CHECK(ctx, pq_test_run(ctx, &result, p->s.g, &t));
        memcpy(p->z + i * made, pq_tensor_data(&result), made * sizeof(float));
        pq_tensor_clear(&t);
        pq_tensor_clear(&result);
    }
    p->spots = (pq_spots){IMAGES, p->box, p->n_boxes};
    p->grid = pq_range_grid(PQ_SCHEME_U8, 1.3, 0, 1.3);
}

static void drop(problem *p)
{
    pq_free(p->x);
    pq_free(p->z);
    pq_small_end(&p->s);
}

static pq_fix solve(const problem *p, int threads, bool round, bool bias)
{
    const pq_rebuild_opts o = {.x = p->x,
                               .t = &p->grid,
                               .z = p->z,
                               .w = pq_buf_data(pq_in(p->s.g, p->n, 1)->data),
                               .bias = pq_buf_data(pq_in(p->s.g, p->n, 2)->data),
                               .n_images = IMAGES,
                               .spots = &p->spots,
                               .seed = 7,
                               .round = round,
                               .correct_bias = bias};
    pq_fix f = {0};
    pq_ctx_set_threads(ctx, threads);
    PQ_CHECK(ctx, pq_rebuild(ctx, &f, p->s.g, p->n, &o));
    return f;
}

static void clear(pq_fix *f)
{
    pq_tensor_clear(&f->weight.data);
    pq_tensor_clear(&f->weight.scale);
    pq_tensor_clear(&f->bias.data);
}

static void test_rebuild(void **state)
{
    static const int64_t size[][4] = {
        {24, 6, 1, 1}, {5, 4, 3, 1}, {8, 8, 3, 8}, {8, 12, 3, 4}, {1, 1, 5, 1}};
    (void)state;
    for (size_t t = 0; t < sizeof size / sizeof *size; t++) {
        problem p;
        make(&p, size[t][0], size[t][1], size[t][2], size[t][3], 0.3f);
        pq_fix one = solve(&p, 1, true, true), many = solve(&p, 3, true, true);
        pq_fix bias = solve(&p, 2, false, true), weight = solve(&p, 2, true, false);
        assert_memory_equal(pq_tensor_data(&one.weight.data), pq_tensor_data(&many.weight.data),
                            pq_buf_bytes(one.weight.data.buf));
        assert_memory_equal(pq_tensor_data(&one.bias.data), pq_tensor_data(&many.bias.data),
                            pq_buf_bytes(one.bias.data.buf));
        assert_true(one.error == many.error);
        assert_true(one.error <= one.error_before && bias.error <= bias.error_before);
        assert_true(one.error <= bias.error && weight.error <= 1.5 * one.error_before);
        assert_null(bias.weight.data.buf);
        assert_null(weight.bias.data.buf);
        assert_true(one.error < 0.7 * one.error_before);
        /* Whole steps of the given scale. */
        const float *w = pq_tensor_data(&one.weight.data), *s = pq_tensor_data(&one.weight.scale);
        const int64_t count = pq_shape_count(&one.weight.data.shape);
        const int64_t row = count / one.weight.data.shape.dim[0];
        for (int64_t i = 0; i < count; i++) {
            const float q = w[i] / s[i / row];
            assert_true(fabsf(q - rintf(q)) < 1e-4f && fabsf(q) <= 127.001f);
        }
        clear(&one);
        clear(&many);
        clear(&bias);
        clear(&weight);
        drop(&p);
    }
}

/* A range that cuts inputs off shifts the outputs' means; the bias takes that up. */
static void test_bias(void **state)
{
    problem p;
    (void)state;
    make(&p, 6, 5, 1, 1, 0.0f);
    p.grid = pq_range_grid(PQ_SCHEME_U8, 0.5, 0, 0.5);
    pq_fix f = solve(&p, 1, false, true);
    assert_true(f.error < 0.9 * f.error_before);
    clear(&f);
    drop(&p);
}

/* ---- re-encoding ---- */

/* Channel 0 reaches a hundred, channel 1 stays below half and is read with large weights: in its
 * plain form it drowns in the step of the tensor. */
static void test_encode(void **state)
{
    const pq_shape shape = PQ_SHAPE(1, 2, SIDE, SIDE);
    const size_t area = SIDE * SIDE;
    pq_small s;
    bool found;
    pq_encoding e = {0};
    pq_encoded_range range;
    (void)state;
    pq_small_begin(&s, shape);
    const pq_small_window one = {
        .out = 2, .in = 2, .kernel = 1, .stride = 1, .groups = 1, .bias = true};
    pq_small_window deep = one;
    deep.kernel = 3;
    deep.pad = 1;
    deep.groups = 2;
    deep.in = 2;
    const pq_value_id a = pq_small_conv(&s, "a", s.x, one), b = pq_small_conv(&s, "b", a, deep);
    s.g->node[s.g->value[a].producer].attr.act = PQ_ACT_SILU;
    pq_small_outputs(&s, &b, 1);
    pq_graph_mark_quantizable(s.g);
    float *w = pq_buf_data(s.g->value[pq_graph_find_value(s.g, "b.weight")].data);
    for (int k = 0; k < 9; k++) {
        w[k] = 0.02f;
        w[9 + k] = k == 4 ? 8 : -1;
    }
    float *z;
    PQ_CHECK(ctx, pq_alloc(ctx, &z, IMAGES * 2 * area, sizeof *z));
    for (size_t i = 0; i < IMAGES; i++)
        for (size_t k = 0; k < area; k++) {
            z[(2 * i) * area + k] = (float)(160 * pq_rng_double(&s.rng) - 60);
            z[(2 * i + 1) * area + k] = -0.4f * (float)pq_rng_double(&s.rng);
        }
    const pq_range plain = {.min = -0.3f, .max = 100, .amax = 100, .lo = -0.3f, .hi = 100};
    assert_true(pq_encode_applies(s.g, a));
    assert_false(pq_encode_applies(s.g, b));
    pq_ctx_set_threads(ctx, 2);
    for (int scheme = 0; scheme < 2; scheme++) {
        PQ_CHECK(ctx, pq_encode_find(ctx, &found, &e, &range, s.g, a, z, IMAGES, (pq_scheme)scheme,
                                     1, &plain));
        assert_true(found);
        assert_true(e.error < 0.1 * e.error_before);
        assert_true(fabsf(e.gain[1]) > 2);
        assert_true(range.lo <= 0 && range.hi > 1 && range.hi <= 100);
        /* The way back gives the channel again, far better than the plain grid does. */
        const pq_steps steps = pq_steps_of(
            &(pq_plan_tensor){.dtype = PQ_U8, .scale = range.hi / 250, .zero_point = 3});
        double worst = 0;
        for (size_t k = 0; k < area; k++) {
            const float x = z[area + k], u = e.gain[1] * x + e.shift[1];
            const float coded = pq_steps_round(pq_eval_act(PQ_ACT_SILU, 0, 0, u), steps);
            const float y = e.back[1] * coded + e.level[1];
            worst = fmax(worst, fabs((double)(y - pq_eval_act(PQ_ACT_SILU, 0, 0, x))));
        }
        assert_true(worst < 0.05); /* of -0.16 .. 0; a step of the plain grid is 0.39 */
        pq_free(e.gain);
        pq_free(e.shift);
        pq_free(e.back);
        pq_free(e.level);
        e = (pq_encoding){0};
    }
    pq_free(z);
    pq_small_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments), cmocka_unit_test(test_solve),
        cmocka_unit_test(test_rebuild), cmocka_unit_test(test_bias),
        cmocka_unit_test(test_encode),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
