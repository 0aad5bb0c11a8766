/* Plans tied to graphs: which nodes are in the INT8 domain, what they read, what is refused; and
 * weights rounded to s8. */
#include <math.h>
#include <string.h>

#include <pquant/plan.h>

#include "base/mem.h"
#include "support/small.h"

/* x -> a (conv) -> add(a, b) -> c (conv, output); b is a conv of x too; a pool reads the sum, a
 * sigmoid reads the pool. */
static void make(pq_small *s)
{
    const pq_small_window w = {4, 4, 3, 1, 1, 1, true, false};
    pq_small_begin(s, PQ_SHAPE(1, 4, 8, 8));
    const pq_value_id a = pq_small_conv(s, "a", s->x, w), b = pq_small_conv(s, "b", s->x, w);
    const pq_value_id sum = pq_small_binary(s, "sum", PQ_OP_ADD, a, b);
    const pq_value_id c = pq_small_conv(s, "c", sum, w);
    const pq_attr pool = {.window = {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}}};
    const pq_value_id p = pq_small_node(s, "pool", PQ_OP_MAX_POOL, &sum, 1, &pool);
    const pq_value_id out[2] = {c, pq_small_unary(s, "sigmoid", PQ_OP_SIGMOID, p)};
    pq_small_outputs(s, out, 2);
    pq_graph_mark_quantizable(s->g);
}

static void set(pq_plan *p, const char *node, pq_precision precision)
{
    for (size_t i = 0; i < p->n_nodes; i++)
        if (strcmp(p->node[i].name, node) == 0) p->node[i].precision = precision;
}

/* A float plan with room for tensors. */
static pq_plan *plan_of(pq_small *s)
{
    pq_plan *p;
    PQ_CHECK(s->ctx, pq_plan_float(s->ctx, &p, s->g, PQ_PREC_FP32));
    PQ_CHECK(s->ctx, pq_alloc(s->ctx, &p->tensor, 16, sizeof *p->tensor));
    p->scheme = PQ_SCHEME_U8;
    return p;
}

static void list(pq_small *s, pq_plan *p, const char *name)
{
    pq_plan_tensor *t = &p->tensor[p->n_tensors++];
    *t = (pq_plan_tensor){.dtype = PQ_U8, .scale = 0.1f, .zero_point = 3};
    PQ_CHECK(s->ctx, pq_strdup(s->ctx, &t->name, name));
}

static bool in_domain(const pq_binding *b, const char *node)
{
    return b->int8[pq_graph_find_node(b->graph, node)];
}
static bool reads(const pq_binding *b, const char *node, int input)
{
    return pq_reads_quantized(b, pq_graph_find_node(b->graph, node), input);
}

static void test_domain(void **state)
{
    pq_small s;
    pq_binding b;
    (void)state;
    make(&s);
    pq_plan *p = plan_of(&s);
    /* c alone INT8: it reads Q of the sum, the sum itself stays real, because the pool reads it. */
    set(p, "c", PQ_PREC_INT8);
    list(&s, p, "sum.output");
    PQ_CHECK(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g));
    assert_true(in_domain(&b, "c") && !in_domain(&b, "sum") && !in_domain(&b, "pool"));
    assert_true(reads(&b, "c", 0) && !reads(&b, "c", 1) && !reads(&b, "sum", 0));
    assert_false(reads(&b, "pool", 0));
    pq_binding_clear(&b);
    /* The pool INT8 too, but its output goes to a float sigmoid: outside. */
    set(p, "pool", PQ_PREC_INT8);
    list(&s, p, "pool.output");
    PQ_CHECK(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g));
    assert_true(!in_domain(&b, "pool") && !in_domain(&b, "sum") && !in_domain(&b, "sigmoid"));
    pq_binding_clear(&b);
    pq_plan_free(p);
    pq_small_end(&s);
}

/* conv a -> add(a, x) -> conv c: the sum is in the domain and reads x^, and a as its operand stays
 * in the accumulator where it has no scale. */
static void test_sum(void **state)
{
    const pq_small_window w = {4, 4, 3, 1, 1, 1, true, false};
    pq_small s;
    pq_binding b;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 8, 8));
    const pq_value_id a = pq_small_conv(&s, "a", s.x, w);
    const pq_value_id sum = pq_small_binary(&s, "sum", PQ_OP_ADD, a, s.x);
    const pq_value_id c = pq_small_conv(&s, "c", sum, w);
    pq_small_outputs(&s, &c, 1);
    pq_graph_mark_quantizable(s.g);
    pq_plan *p = plan_of(&s);
    set(p, "a", PQ_PREC_INT8);
    set(p, "c", PQ_PREC_INT8);
    list(&s, p, "x");
    list(&s, p, "sum.output");
    PQ_CHECK(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g));
    assert_true(in_domain(&b, "a") && in_domain(&b, "sum") && in_domain(&b, "c"));
    assert_true(!reads(&b, "sum", 0) && reads(&b, "sum", 1));
    assert_false(reads(&b, "sum", 2)); /* no such input */
    pq_binding_clear(&b);
    set(p, "c", PQ_PREC_FP32); /* whoever reads the sum reads it real: out it goes */
    PQ_CHECK(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g));
    assert_true(in_domain(&b, "a") && !in_domain(&b, "sum") && !reads(&b, "sum", 1));
    pq_binding_clear(&b);
    pq_plan_free(p);
    pq_small_end(&s);
}

static void test_refused(void **state)
{
    pq_small s;
    pq_binding b;
    char hash[65];
    (void)state;
    make(&s);
    pq_plan *p = plan_of(&s);
    set(p, "c", PQ_PREC_INT8);
    PQ_CHECK_FAILS(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g), PQ_E_INVALID,
                   "node 'c' is int8 but its input 'sum.output' has no scale");
    list(&s, p, "c.weight");
    PQ_CHECK_FAILS(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g), PQ_E_INVALID,
                   "'c.weight' is not an activation");
    pq_free(p->tensor[--p->n_tensors].name);
    list(&s, p, "nobody");
    PQ_CHECK_FAILS(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g), PQ_E_INVALID, "'nobody'");
    pq_free(p->tensor[--p->n_tensors].name);
    PQ_CHECK(s.ctx, pq_alloc(s.ctx, &p->weight, 1, sizeof *p->weight));
    p->n_weights = 1;
    PQ_CHECK(s.ctx, pq_strdup(s.ctx, &p->weight->name, "c.weight"));
    PQ_CHECK(s.ctx, pq_tensor_new(s.ctx, &p->weight->data, PQ_F32, &PQ_SHAPE(4, 4, 3, 2)));
    PQ_CHECK_FAILS(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g), PQ_E_INVALID, "'c.weight' does not fit");
    pq_tensor_clear(&p->weight->data);
    PQ_CHECK(s.ctx, pq_tensor_new(s.ctx, &p->weight->data, PQ_F32, &PQ_SHAPE(4, 4, 3, 3)));
    PQ_CHECK(s.ctx, pq_tensor_new(s.ctx, &p->weight->scale, PQ_F32, &PQ_SHAPE(3)));
    PQ_CHECK_FAILS(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g), PQ_E_INVALID, "3 scales");
    memset(p->graph_hash, 'e', 64);
    pq_graph_hash(s.g, hash);
    PQ_CHECK_FAILS(s.ctx, pq_plan_bind(s.ctx, &b, p, s.g), PQ_E_INVALID, "eeeeeeeeeeee");
    hash[12] = 0;
    assert_non_null(strstr(pq_ctx_error(s.ctx), hash));
    pq_plan_free(p);
    PQ_CHECK_FAILS(s.ctx, pq_plan_float(s.ctx, &p, s.g, PQ_PREC_INT8), PQ_E_INVALID, "int8");
    assert_null(p);
    pq_small_end(&s);
}

/* q = clamp(rint(w / scale)), scale amax / 127 per output channel; an empty channel has 1. */
static void test_weights(void **state)
{
    static const float w[2][3][2] = {{{1, -2}, {0.5f, 127}, {0, 63.5f}}, {{0, 0}, {0, 0}, {0, 0}}};
    const float given[2] = {0.5f, 2};
    const pq_shape shape = PQ_SHAPE(2, 3, 2);
    pq_ctx *ctx;
    int8_t *q;
    float *scale;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    PQ_CHECK(ctx, pq_plan_quantize_weights(ctx, &q, &scale, &w[0][0][0], &shape, 0, NULL));
    assert_true(scale[0] == 1.0f && scale[1] == 1.0f);
    const int8_t want[12] = {1, -2, 0, 127, 0, 64, 0, 0, 0, 0, 0, 0}; /* halves to even */
    assert_memory_equal(q, want, sizeof want);
    pq_free(q);
    pq_free(scale);
    PQ_CHECK(ctx, pq_plan_quantize_weights(ctx, &q, &scale, &w[0][0][0], &shape, 0, given));
    const int8_t clipped[6] = {2, -4, 1, 127, 0, 127};
    assert_memory_equal(q, clipped, sizeof clipped);
    assert_true(scale[0] == 0.5f && scale[1] == 2.0f);
    pq_free(q);
    pq_free(scale);
    /* Another axis: transposed convolutions have their output channels in the middle. */
    PQ_CHECK(ctx, pq_plan_quantize_weights(ctx, &q, &scale, &w[0][0][0], &shape, 1, NULL));
    assert_true(scale[0] == 2.0f / 127 && scale[1] == 1.0f && scale[2] == 0.5f);
    assert_int_equal(q[1], -127);
    assert_int_equal(q[5], 127);
    pq_free(q);
    pq_free(scale);
    pq_ctx_free(ctx);
}

static void test_names(void **state)
{
    pq_precision p;
    pq_ctx *ctx;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    for (int i = PQ_PREC_FP32; i <= PQ_PREC_INT8; i++) {
        PQ_CHECK(ctx, pq_precision_parse(ctx, &p, pq_precision_name((pq_precision)i)));
        assert_int_equal(p, i);
    }
    PQ_CHECK_FAILS(ctx, pq_precision_parse(ctx, &p, "fp8"), PQ_E_INVALID, "fp32, fp16, bf16");
    pq_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domain), cmocka_unit_test(test_sum), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_weights), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
