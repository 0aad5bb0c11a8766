/* What a graph's hash covers, and what its verification refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pquant/graph.h>

static pq_ctx *ctx;

#define OK(x) assert_int_equal((x), PQ_OK)

/* x -> a (Relu) -> b (BatchNormalization with constants). */
static pq_graph *small(void)
{
    pq_graph *g;
    pq_value_id x, in[5];
    pq_node_id id;
    pq_buf *buf;
    const char *const names[] = {"gamma", "beta", "mean", "var"};
    OK(pq_graph_new(ctx, &g));
    OK(pq_graph_add_value(ctx, &x, g, "x", PQ_F32, &PQ_SHAPE(1, 2, 3, 3)));
    OK(pq_graph_set_inputs(ctx, g, &x, 1));
    OK(pq_graph_add_node(ctx, &id, g, "a", PQ_OP_RELU, NULL, &x, 1, 1, "a.out", NULL));
    in[0] = g->node[id].out[0];
    OK(pq_buf_new(ctx, &buf, 2 * sizeof(float)));
    for (int i = 0; i < 4; i++)
        OK(pq_graph_add_const(ctx, &in[i + 1], g, names[i], PQ_F32, &PQ_SHAPE(2), buf));
    pq_buf_unref(buf);
    OK(pq_graph_add_node(ctx, &id, g, "b", PQ_OP_BATCH_NORM, NULL, in, 5, 1, "b.out", NULL));
    OK(pq_graph_set_outputs(ctx, g, g->node[id].out, 1));
    OK(pq_graph_infer(ctx, g));
    OK(pq_graph_verify(ctx, g));
    return g;
}

static void hash_covers_attributes(void **state)
{
    (void)state;
    pq_graph *g = small();
    char before[65], after[65];
    pq_graph_hash(g, before);
    pq_graph_hash(g, after);
    assert_string_equal(before, after);
    pq_attr *a = &g->node[1].attr;
    float *const real[] = {&a->eps, &a->scale[0], &a->scale[1], &a->alpha, &a->beta, &a->pad_value};
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        const float old = *real[i];
        *real[i] = old + 1;
        pq_graph_hash(g, after);
        assert_string_not_equal(before, after);
        *real[i] = old;
    }
    ((float *)pq_buf_data(g->value[pq_graph_find_value(g, "mean")].data))[1] = 1;
    pq_graph_hash(g, after);
    assert_string_not_equal(before, after);
    pq_graph_free(g);
}

static void seal_lasts_until_the_next_edit(void **state)
{
    (void)state;
    pq_graph *g = small();
    char before[65], after[65];
    pq_value_id v;
    pq_graph_hash(g, before);
    pq_graph_seal(g);
    assert_string_equal(g->hash, before);
    OK(pq_graph_add_value(ctx, &v, g, "more", PQ_F32, &PQ_SHAPE(1)));
    pq_graph_hash(g, after);
    assert_string_not_equal(before, after);
    pq_graph_free(g);
}

static void refused(pq_graph *g, const char *words)
{
    assert_int_equal(pq_graph_verify(ctx, g), PQ_E_INTERNAL);
    if (!strstr(pq_ctx_error(ctx), words)) fail_msg("%s", pq_ctx_error(ctx));
}

static void verify_refuses(void **state)
{
    (void)state;
    pq_graph *g = small();
    const char *name = g->node[1].name;
    g->node[1].name = "a";
    refused(g, "two nodes are called 'a'");
    g->node[0].dead = true;
    refused(g, "made after it or by a removed node");
    g->node[0].dead = false;
    g->node[1].name = name;

    pq_value *var = &g->value[pq_graph_find_value(g, "var")];
    name = var->name;
    var->name = "mean";
    refused(g, "two values are called 'mean'");
    var->name = name;
    var->shape.dim[0] = 3;
    refused(g, "value 'var': shape");
    var->shape.dim[0] = -1;
    refused(g, "value 'var': shape");
    var->shape.dim[0] = 2;

    g->node[1].n_in = 4;
    refused(g, "node 'b': 4 inputs and 1 outputs");
    g->node[1].n_in = 5;
    OK(pq_graph_verify(ctx, g));
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
        cmocka_unit_test(hash_covers_attributes),
        cmocka_unit_test(seal_lasts_until_the_next_edit),
        cmocka_unit_test(verify_refuses),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
