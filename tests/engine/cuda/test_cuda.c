/* The cuda engine against ref: random small networks in every precision, and every shape of the
 * tensor core convolution on random layers. Plans that are all INT8 must agree bit for bit
 * (networks with Tanh excepted: its libm is not ours); floats within a stated part of the largest
 * value. PQ_CUDA_GRAPHS: how many networks (default 40), PQ_CUDA_LAYERS: how many random layers
 * each shape runs on (default 8), PQ_CUDA_SIDE: their size (default 30), PQ_CUDA_UNTUNED: 1 leaves
 * out measuring which shape is fastest, where time means nothing. */
#include "compare.h"

#include <stdio.h>

#include <pquant/pass.h>

enum { NODES = 14 };

static int n_graphs(void) { return compare_number("PQ_CUDA_GRAPHS", 40); }

static bool has_tanh(const pq_graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->node[i].op == PQ_OP_TANH) return true;
    return false;
}

static void on_graph(tally *t, uint64_t seed, double share, pq_scheme scheme, pq_precision base,
                     bool exact)
{
    pq_small s;
    graphs_random(&s, seed, NODES);
    /* Every second network takes the shapes that measuring finds fastest. */
    const cu_force force = {(int)seed, 1 + (int)(seed % 3), seed % 4 != 0, (cu_finish)(seed % 3),
                            1 + (int)(seed % 2)};
    const bool tuned = !compare_number("PQ_CUDA_UNTUNED", 0) && seed % 2;
    if (!exact || !has_tanh(s.g))
        compare_planned(t, s.ctx, s.g, share, scheme, base, tuned ? NULL : &force, seed);
    pq_small_end(&s);
}

static void test_fp32(void **state)
{
    tally t = {0};
    (void)state;
    for (int i = 1; i <= n_graphs(); i++)
        on_graph(&t, (uint64_t)i, 0, PQ_SCHEME_S8, PQ_PREC_FP32, false);
    compare_show("fp32", &t);
    assert_true(t.worst <= 1e-4);
}

static void test_fp16(void **state)
{
    tally t = {0};
    (void)state;
    for (int i = 1; i <= n_graphs(); i++)
        on_graph(&t, (uint64_t)i, 0, PQ_SCHEME_S8, PQ_PREC_FP16, false);
    compare_show("fp16", &t);
    assert_true(t.worst <= 0x1p-7);
}

static void test_int8(void **state)
{
    tally t = {0};
    (void)state;
    for (int i = 1; i <= 2 * n_graphs(); i++)
        on_graph(&t, (uint64_t)i, 1, i % 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8, PQ_PREC_FP32, true);
    compare_show("int8", &t);
    assert_int_equal(t.unequal, 0);
}

/* Where float layers stand in front of INT8 ones, a last bit may tip a rounding: a level of one
 * tensor, no more than a few hundredths of an output's range. */
static void test_mixed(void **state)
{
    tally t = {0};
    (void)state;
    for (int i = 1; i <= 2 * n_graphs(); i++)
        on_graph(&t, (uint64_t)i, 0.6, i % 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8,
                 i % 4 < 2 ? PQ_PREC_FP16 : PQ_PREC_FP32, false);
    compare_show("mixed", &t);
    assert_true(t.worst <= 0.05);
}

/* ---- every shape of conv_mma ---- */

/* Two convolutions and a sum with the second's input, of random odd sizes. */
static void layers_graph(pq_small *s, uint64_t seed)
{
    const uint64_t side = (uint64_t)compare_number("PQ_CUDA_SIDE", 30);
    pq_rng rng = {seed * 77 + 5};
    const int64_t c = (int64_t)(1 + pq_rng_below(&rng, 5 * side)),
                  any = (int64_t)(1 + pq_rng_below(&rng, 7 * side)),
                  o = seed % 2 ? any : (any + 7) / 8 * 8;
    const int64_t h = (int64_t)(5 + pq_rng_below(&rng, side)),
                  w = (int64_t)(5 + pq_rng_below(&rng, side));
    const int64_t k = (int64_t)(1 + 2 * pq_rng_below(&rng, 3)),
                  stride = (int64_t)(1 + pq_rng_below(&rng, 2));
    pq_small_begin(s, PQ_SHAPE((int64_t)(1 + seed % 2), c, h, w));
    s->rng.s = seed;
    const pq_small_window first = {
        .out = o, .in = c, .kernel = k, .stride = stride, .pad = k / 2, .groups = 1, .bias = true};
    const pq_small_window second = {
        .out = o, .in = o, .kernel = 3, .stride = 1, .pad = 1, .groups = 1, .bias = seed % 3 > 0};
    const pq_value_id a = pq_small_unary(s, "relu", PQ_OP_RELU, pq_small_conv(s, "a", s->x, first));
    const pq_value_id b = pq_small_conv(s, "b", a, second);
    const pq_value_id y = pq_small_binary(s, "sum", PQ_OP_ADD, a, b);
    /* c and d read what b reads: the three may run as one, but b has a sum behind it */
    const pq_value_id out[3] = {pq_small_unary(s, "silu", PQ_OP_SILU, y),
                                pq_small_conv(s, "c", a, second), pq_small_conv(s, "d", a, second)};
    pq_small_outputs(s, out, 3);
    pq_graph_mark_quantizable(s->g);
    pq_graph_seal(s->g);
}

/* One layer in every shape, half of the splits each. */
static void every_shape(tally *t, int kind, pq_precision base, uint64_t seed)
{
    static const int splits[] = {1, 2, 3, 8};
    const bool int8 = kind == PQ_CU_KIND_S8;
    pq_small s;
    pq_tensor in;
    pq_ranges *r;
    pq_plan *plan;
    int n;
    cu_variants(kind, &n);
    layers_graph(&s, seed);
    graphs_input(&in, s.ctx, s.g, seed);
    graphs_ranges(&r, s.ctx, s.g, &in);
    graphs_plan(&plan, s.ctx, s.g, r, &pq_engine_cuda, int8, PQ_SCHEME_S8, base, seed);
    for (int v = 0; v < n; v++)
        for (int k = (int)(seed % 2); k < 4; k += 2) {
            const cu_force force = {v, splits[(k + v + (int)(seed / 2)) % 4], k < 2,
                                    (cu_finish)((seed + (uint64_t)v) % 3), 1};
            compare_engines(t, s.ctx, s.g, plan, &in, &force, seed * 1000 + (uint64_t)(v * 10 + k));
        }
    pq_plan_free(plan);
    pq_ranges_free(r);
    pq_tensor_clear(&in);
    pq_small_end(&s);
}

static void test_shapes(void **state)
{
    static const struct {
        const char *name;
        int kind;
        pq_precision base;
        double bound;
    } of[] = {{"float32 layers", PQ_CU_KIND_F32, PQ_PREC_FP32, 1e-4},
              {"float16 layers", PQ_CU_KIND_F16, PQ_PREC_FP16, 0x1p-8},
              {"int8 layers", PQ_CU_KIND_S8, PQ_PREC_FP32, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        tally t = {0};
        for (int seed = 1; seed <= compare_number("PQ_CUDA_LAYERS", 8); seed++)
            every_shape(&t, of[i].kind, of[i].base, (uint64_t)seed);
        compare_show(of[i].name, &t);
        assert_true(t.worst <= of[i].bound);
    }
}

/* The outputs, and the passes that a user's model goes through. */
static void give_out(pq_small *s, const pq_value_id *v, size_t n)
{
    pq_small_outputs(s, v, n);
    PQ_CHECK(s->ctx, pq_pass_all(s->ctx, s->g));
    pq_graph_mark_quantizable(s->g);
    pq_graph_seal(s->g);
}

/* Blocks that take several tiles, the last of them fewer than others: a sum, and a result in two
 * concats. */
static void test_persistent(void **state)
{
    (void)state;
    for (int kind = PQ_CU_KIND_F16; kind <= PQ_CU_KIND_S8; kind++) {
        const bool int8 = kind == PQ_CU_KIND_S8;
        tally t = {0};
        int n;
        const pq_cu_variant *v = cu_variants(kind, &n);
        for (int i = 0; i < n; i++) {
            if (v[i].wk > 1) continue;
            const cu_force force = {i, 1, i % 2, CU_PERSISTENT, 1 + i % 2};
            pq_small s;
            pq_small_begin(&s, PQ_SHAPE(1 + i % 2, 16, 29, 37));
            s.rng.s = (uint64_t)(i + 1);
            const pq_value_id a = pq_small_unary(
                &s, "relu", PQ_OP_RELU, pq_small_conv(&s, "a", s.x, pq_small_same(16, 40, 3, 1)));
            const pq_value_id b = pq_small_conv(&s, "b", a, pq_small_same(40, 40, 1, 1));
            const pq_value_id sum =
                pq_small_unary(&s, "silu", PQ_OP_SILU, pq_small_binary(&s, "sum", PQ_OP_ADD, b, a));
            const pq_value_id parts[2] = {sum, a};
            const pq_attr channels = {.axis = 1};
            const pq_value_id both = pq_small_node(&s, "both", PQ_OP_CONCAT, parts, 2, &channels);
            const pq_value_id out[2] = {pq_small_conv(&s, "c", both, pq_small_same(80, 8, 1, 1)),
                                        pq_small_conv(&s, "d", sum, pq_small_same(40, 8, 1, 1))};
            give_out(&s, out, 2);
            compare_planned(&t, s.ctx, s.g, int8, PQ_SCHEME_S8, int8 ? PQ_PREC_FP32 : PQ_PREC_FP16,
                            &force, (uint64_t)(i + 1));
            pq_small_end(&s);
        }
        compare_show(int8 ? "persistent int8" : "persistent float16", &t);
        assert_true(t.persistent > (size_t)n / 4); /* others share tiles, or are for sm_90 */
        assert_true(int8 ? t.unequal == 0 : t.worst <= 0x1p-7);
    }
}

/* 1 x 1, 16 channels, weights small enough that a SiLU behind it has fine levels, all of which the
 * fast functions may miss. */
static pq_value_id fine_conv(pq_small *s, const char *name, pq_value_id x)
{
    char weight[16], bias[16];
    const pq_attr a = {
        .window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const pq_value_id in[3] = {x, pq_small_const(s, weight, PQ_SHAPE(16, 16, 1, 1), -0.08, 0.08),
                               pq_small_const(s, bias, PQ_SHAPE(16), -0.3, 0.3)};
    return pq_small_node(s, name, PQ_OP_CONV, in, 3, &a);
}

/* INT8 behind SiLU, which has to have ref's bits: enough values that some lie near a tie. A level
 * that differs shows in what the last convolution makes of it. */
static void test_ties(void **state)
{
    static const int variant[] = {3, 15, 21, 27, 30, 34, 38, 41};
    tally t = {0};
    (void)state;
    for (uint64_t seed = 1; seed <= sizeof variant / sizeof *variant; seed++) {
        const cu_force force = {.variant = variant[seed - 1],
                                .split = 1,
                                .finish = seed % 2 ? CU_IN_REGISTERS : CU_PERSISTENT,
                                .blocks = 3};
        pq_small s;
        const pq_small_window w = pq_small_same(16, 16, 1, 1);
        pq_small_begin(&s, PQ_SHAPE(1, 16, 48, 97));
        s.rng.s = seed;
        const pq_value_id a = pq_small_unary(&s, "first", PQ_OP_SILU, fine_conv(&s, "a", s.x));
        const pq_value_id b =
            pq_small_unary(&s, "second", PQ_OP_SILU, pq_small_conv(&s, "b", a, w));
        const pq_value_id sum = pq_small_binary(&s, "sum", PQ_OP_ADD, b, a);
        const pq_value_id d =
            pq_small_unary(&s, "third", PQ_OP_SILU, fine_conv(&s, "d", a)); /* only the sum's */
        const pq_value_id rest = pq_small_binary(&s, "rest", PQ_OP_ADD, d, a);
        const pq_value_id parts[3] = {sum, b, rest}; /* on one grid, behind their own */
        const pq_attr channels = {.axis = 1};
        const pq_value_id both = pq_small_node(&s, "both", PQ_OP_CONCAT, parts, 3, &channels);
        const pq_value_id y = pq_small_conv(&s, "c", both, pq_small_same(48, 16, 1, 1));
        give_out(&s, &y, 1);
        compare_planned(&t, s.ctx, s.g, 1, PQ_SCHEME_S8, PQ_PREC_FP32, &force, seed);
        pq_small_end(&s);
    }
    compare_show("ties", &t);
    assert_int_equal(t.unequal, 0);
}

/* Results wanted in float16 and as levels, finished in registers: what reads them has one precision
 * or the other, by chance. */
static void test_between(void **state)
{
    static const pq_op op[] = {PQ_OP_RELU, PQ_OP_SILU, PQ_OP_IDENTITY};
    tally t = {0};
    int n;
    const pq_cu_variant *v = cu_variants(PQ_CU_KIND_S8, &n);
    (void)state;
    for (int i = 0; i < 2 * n; i++) {
        const cu_force force = {i / 2, 1, i % 2, CU_IN_REGISTERS, 1};
        if (v[i / 2].wk > 1) continue;
        pq_small s;
        pq_small_begin(&s, PQ_SHAPE(1, 16, 13, 11));
        s.rng.s = (uint64_t)(i + 1);
        const pq_value_id a = pq_small_unary(
            &s, "act", op[i % 3], pq_small_conv(&s, "a", s.x, pq_small_same(16, 40, 3, 1)));
        const pq_value_id out[2] = {pq_small_conv(&s, "b", a, pq_small_same(40, 16, 1, 1)),
                                    pq_small_conv(&s, "c", a, pq_small_same(40, 16, 3, 1))};
        give_out(&s, out, 2);
        compare_planned(&t, s.ctx, s.g, 0.5, PQ_SCHEME_S8, PQ_PREC_FP16, &force, (uint64_t)(i + 1));
        pq_small_end(&s);
    }
    compare_show("between precisions", &t);
    assert_true(t.worst <= 0.01); /* a float16 result near a tie may have the level beside */
}

/* Focus of the image and the convolution behind it as one: tiles that the image ends in, channels
 * that are no multiple of eight, several places, an activation that is called. */
static void test_stem(void **state)
{
    static const pq_op op[] = {PQ_OP_RELU, PQ_OP_SILU, PQ_OP_IDENTITY, PQ_OP_HARD_SWISH};
    static const int64_t channels[] = {8, 24, 32, 20, 48, 64, 16, 5, 40};
    static const struct {
        const char *name;
        double share, bound;
    } of[] = {{"stem float16", 0, 0x1p-8}, {"stem mixed", 0.5, 0.05}, {"stem int8", 1, 0}};
    static const cu_force force = {.split = 1, .apart = true};
    (void)state;
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        tally t = {0};
        for (int i = 0; i < 18; i++) {
            pq_small s;
            pq_rng rng = {(uint64_t)(7 * i + 3)};
            const int64_t h = (int64_t)(1 + pq_rng_below(&rng, 11)),
                          w = (int64_t)(1 + pq_rng_below(&rng, 70)), o = channels[i % 9];
            pq_small_begin(&s, PQ_SHAPE(1 + i % 2, 3, 2 * h, 2 * w));
            s.rng.s = (uint64_t)(i + 1);
            const pq_value_id map = pq_small_node(&s, "focus", PQ_OP_FOCUS, &s.x, 1, NULL);
            const pq_value_id a = pq_small_unary(
                &s, "act", op[i % 4], pq_small_conv(&s, "a", map, pq_small_same(12, o, 3, 1)));
            const pq_value_id out[2] = {pq_small_conv(&s, "b", a, pq_small_same(o, 16, 1, 1)),
                                        pq_small_conv(&s, "c", a, pq_small_same(o, 8, 3, 1))};
            give_out(&s, out, 2);
            compare_planned(&t, s.ctx, s.g, of[k].share, PQ_SCHEME_S8,
                            of[k].share < 1 ? PQ_PREC_FP16 : PQ_PREC_FP32, &force,
                            (uint64_t)(i + 1));
            pq_small_end(&s);
        }
        compare_show(of[k].name, &t);
        assert_true(t.stems >= (of[k].share == 0.5 ? 4 : 18));
        assert_true(t.worst <= of[k].bound);
    }
}

/* What a user gets: no shape forced. */
static void test_tuned(void **state)
{
    tally t = {0};
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 5, 6, 7));
    const pq_small_window w = {.out = 9, .in = 5, .kernel = 3, .stride = 2, .pad = 1, .groups = 1};
    const pq_value_id y = pq_small_conv(&s, "a", s.x, w);
    pq_small_outputs(&s, &y, 1);
    pq_graph_mark_quantizable(s.g);
    pq_graph_seal(s.g);
    compare_planned(&t, s.ctx, s.g, 1, PQ_SCHEME_S8, PQ_PREC_FP32, NULL, 3);
    assert_int_equal(t.unequal, 0);
    compare_planned(&t, s.ctx, s.g, 0, PQ_SCHEME_S8, PQ_PREC_FP16, NULL, 3);
    assert_true(t.worst <= 0x1p-8);
    pq_small_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),       cmocka_unit_test(test_fp16),
        cmocka_unit_test(test_int8),       cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_shapes),     cmocka_unit_test(test_ties),
        cmocka_unit_test(test_persistent), cmocka_unit_test(test_between),
        cmocka_unit_test(test_stem),       cmocka_unit_test(test_tuned)};
    return compare_main(tests, sizeof tests / sizeof *tests);
}
