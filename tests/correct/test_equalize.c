/* Cross-layer equalisation: the same outputs bit for bit, flatter tensors, and hands off whatever
 * lets no factor pass. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "correct/equalize.h"
#include "engine/engines.h"
#include "support/run.h"
#include "support/small.h"

static pq_value_id conv(pq_small *s, const char *name, pq_value_id x, int64_t in, int64_t out,
                        int64_t kernel, int64_t groups, pq_act act)
{
    const pq_value_id y = pq_small_conv(s, name, x, pq_small_same(in, out, kernel, groups));
    pq_node *n = &s->g->node[s->g->value[y].producer];
    n->attr.act = act;
    if (act == PQ_ACT_LEAKY_RELU) n->attr.alpha = 0.1f;
    return y;
}

/* Rows of a producer far apart in magnitude, as training sometimes leaves them. */
static void spread(pq_small *s, pq_value_id y)
{
    const pq_node *n = &s->g->node[s->g->value[y].producer];
    const pq_value *w = pq_in(s->g, n, 1), *b = pq_in(s->g, n, 2);
    const size_t row = (size_t)(pq_shape_count(&w->shape) / w->shape.dim[0]);
    for (int64_t o = 0; o < w->shape.dim[0]; o++) {
        const float f = exp2f((float)(pq_rng_below(&s->rng, 12)) - 6) * 1.37f;
        for (size_t k = 0; k < row; k++) ((float *)pq_buf_data(w->data))[(size_t)o * row + k] *= f;
        ((float *)pq_buf_data(b->data))[o] *= f;
    }
}

/* Every operator that lets a factor pass, and a residual sum. */
static pq_value_id network(pq_small *s, pq_act act)
{
    pq_attr pool = {.window = {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}}};
    for (int i = 0; i < 4; i++) pool.window.pad[i] = 1;
    const pq_attr twice = {.resize = PQ_RESIZE_NEAREST,
                           .coord = PQ_COORD_ASYMMETRIC,
                           .nearest = PQ_NEAREST_FLOOR,
                           .scale = {2, 2}};
    const pq_attr along = {.axis = 1};
    pq_value_id a = conv(s, "a", s->x, 3, 16, 3, 1, act);
    spread(s, a);
    pq_value_id d = conv(s, "d", a, 16, 16, 3, 16, act); /* depthwise */
    spread(s, d);
    pq_value_id r = conv(s, "r", d, 16, 16, 1, 1, PQ_ACT_NONE);
    spread(s, r);
    pq_value_id sum =
        pq_small_node(s, "sum", PQ_OP_ADD, (pq_value_id[]){a, r}, 2,
                      &(pq_attr){.act = act == PQ_ACT_LEAKY_RELU ? PQ_ACT_NONE : act});
    pq_value_id p = pq_small_node(s, "pool", PQ_OP_MAX_POOL, &sum, 1, &pool);
    pq_value_id g = conv(s, "g", sum, 16, 24, 1, 4, act); /* grouped */
    spread(s, g);
    pq_value_id c = pq_small_node(s, "cat", PQ_OP_CONCAT, (pq_value_id[]){p, g}, 2, &along);
    pq_value_id u = pq_small_node(s, "up", PQ_OP_RESIZE, &c, 1, &twice);
    return conv(s, "out", u, 40, 5, 3, 1, PQ_ACT_NONE);
}

/* reach of every value of rank 4 from one run on the plain evaluator's outputs. */
static float **reach_of(pq_small *s, pq_tensor *in)
{
    pq_graph *g = pq_small_copy(s);
    pq_value_id v[64];
    size_t n = 0;
    float **reach;
    PQ_CHECK(s->ctx, pq_alloc(s->ctx, &reach, g->n_values, sizeof *reach));
    for (pq_value_id i = 0; i < g->n_values; i++)
        if (!g->value[i].data && g->value[i].producer != PQ_NONE) v[n++] = i;
    PQ_CHECK(s->ctx, pq_graph_set_outputs(s->ctx, g, v, n));
    pq_tensor out[64] = {{0}};
    PQ_CHECK(s->ctx, pq_test_run(s->ctx, out, g, in));
    for (size_t i = 0; i < n; i++) {
        const size_t c = (size_t)out[i].shape.dim[1];
        const size_t area = (size_t)pq_shape_count(&out[i].shape) / c;
        const float *x = pq_tensor_data(&out[i]);
        PQ_CHECK(s->ctx, pq_alloc(s->ctx, &reach[v[i]], c, sizeof **reach));
        for (size_t k = 0; k < c * area; k++)
            reach[v[i]][k / area] = fmaxf(reach[v[i]][k / area], fabsf(x[k]));
        pq_tensor_clear(&out[i]);
    }
    pq_graph_free(g);
    return reach;
}

static pq_tensor input(pq_small *s, const pq_shape *shape)
{
    pq_tensor t;
    PQ_CHECK(s->ctx, pq_tensor_new(s->ctx, &t, PQ_F32, shape));
    for (int64_t i = 0; i < pq_shape_count(shape); i++)
        ((float *)pq_tensor_data(&t))[i] = (float)(2 * pq_rng_double(&s->rng) - 1);
    return t;
}

/* Mean over channels that carry anything of log2(largest reach / reach): 0 where all reach alike.
 */
static double unevenness(const float *reach, size_t n)
{
    float most = 0;
    double sum = 0;
    for (size_t c = 0; c < n; c++) most = fmaxf(most, reach[c]);
    size_t used = 0;
    for (size_t c = 0; c < n; c++) {
        if (!(reach[c] > 0)) continue;
        sum += log2((double)(most / reach[c]));
        used++;
    }
    return used ? sum / (double)used : 0;
}

static void check_exact(pq_act act, uint64_t seed)
{
    pq_small s;
    const pq_shape shape = PQ_SHAPE(1, 3, 9, 11);
    pq_small_begin(&s, shape);
    s.rng.s = seed;
    const pq_value_id y = network(&s, act);
    pq_small_outputs(&s, &y, 1);
    pq_graph_mark_quantizable(s.g);
    pq_tensor in = input(&s, &shape), before = {0}, after = {0};
    float **reach = reach_of(&s, &in);
    const pq_value_id a = pq_graph_find_value(s.g, "a.output");
    const pq_value_id d = pq_graph_find_value(s.g, "d.output");
    const double uneven = unevenness(reach[a], 16) + unevenness(reach[d], 16);
    bool *changed;
    pq_equalized *flat;
    PQ_CHECK(s.ctx, pq_test_run(s.ctx, &before, s.g, &in));
    PQ_CHECK(s.ctx, pq_alloc(s.ctx, &changed, s.g->n_values, 1));
    PQ_CHECK(s.ctx, pq_alloc(s.ctx, &flat, s.g->n_values, sizeof *flat));
    PQ_CHECK(s.ctx, pq_equalize(s.ctx, s.g, reach, changed, flat));
    PQ_CHECK(s.ctx, pq_test_run(s.ctx, &after, s.g, &in));
    assert_memory_equal(pq_tensor_data(&before), pq_tensor_data(&after), pq_buf_bytes(after.buf));
    assert_true(changed[pq_graph_find_value(s.g, "d.weight")]);
    pq_reach_free(reach, s.g->n_values);
    reach = reach_of(&s, &in);
    const double flatter = unevenness(reach[a], 16) + unevenness(reach[d], 16);
    assert_true(flatter < 0.75 * uneven);
    assert_true(fabs(flat[a].bits_before + flat[d].bits_before - uneven) < 1e-4);
    assert_true(fabs(flat[a].bits + flat[d].bits - flatter) < 1e-4);
    pq_reach_free(reach, s.g->n_values);
    pq_free(changed);
    pq_free(flat);
    pq_tensor_clear(&in);
    pq_tensor_clear(&before);
    pq_tensor_clear(&after);
    pq_small_end(&s);
}

static void test_exact(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        check_exact(PQ_ACT_RELU, seed);
        check_exact(PQ_ACT_LEAKY_RELU, seed);
        check_exact(PQ_ACT_NONE, seed);
    }
}

/* SiLU lets no factor pass: not one weight may change. Nor where two convolutions share one. */
static void test_pinned(void **state)
{
    pq_small s;
    const pq_shape shape = PQ_SHAPE(1, 3, 9, 11);
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        pq_small_begin(&s, shape);
        pq_value_id a = conv(&s, "a", s.x, 3, 8, 3, 1, shared ? PQ_ACT_RELU : PQ_ACT_SILU);
        spread(&s, a);
        pq_value_id b = conv(&s, "b", a, 8, 8, 1, 1, shared ? PQ_ACT_RELU : PQ_ACT_SILU);
        spread(&s, b);
        pq_value_id c = conv(&s, "c", b, 8, 8, 1, 1, PQ_ACT_NONE);
        if (shared) /* c reads with b's weights */
            s.g->node[s.g->value[c].producer].in[1] = s.g->node[s.g->value[b].producer].in[1];
        pq_small_outputs(&s, &c, 1);
        pq_graph_mark_quantizable(s.g);
        pq_tensor in = input(&s, &shape);
        float **reach = reach_of(&s, &in);
        bool *changed;
        pq_equalized *flat;
        PQ_CHECK(s.ctx, pq_alloc(s.ctx, &changed, s.g->n_values, 1));
        PQ_CHECK(s.ctx, pq_alloc(s.ctx, &flat, s.g->n_values, sizeof *flat));
        PQ_CHECK(s.ctx, pq_equalize(s.ctx, s.g, reach, changed, flat));
        for (pq_value_id v = 0; v < s.g->n_values; v++)
            assert_false(changed[v] || flat[v].bits != flat[v].bits_before);
        pq_reach_free(reach, s.g->n_values);
        pq_free(changed);
        pq_free(flat);
        pq_tensor_clear(&in);
        pq_small_end(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
