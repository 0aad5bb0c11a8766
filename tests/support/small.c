/* Small graphs for tests of passes. */
#include "support/small.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/run.h"

#define TRY(expr) PQ_CHECK(s->ctx, expr)

void pq_small_begin(pq_small *s, pq_shape input)
{
    *s = (pq_small){.rng = {7}};
    assert_int_equal(pq_ctx_new(&s->ctx), PQ_OK);
    TRY(pq_graph_new(s->ctx, &s->g));
    TRY(pq_graph_add_value(s->ctx, &s->x, s->g, "x", PQ_F32, &input));
    TRY(pq_graph_set_inputs(s->ctx, s->g, &s->x, 1));
}

void pq_small_end(pq_small *s)
{
    pq_graph_free(s->g);
    pq_ctx_free(s->ctx);
}

static void fill(pq_small *s, pq_tensor *t, double low, double high)
{
    float *p = pq_tensor_data(t);
    for (int64_t i = 0; i < pq_shape_count(&t->shape); i++)
        p[i] = (float)(low + (high - low) * pq_rng_double(&s->rng));
}

pq_value_id pq_small_const(pq_small *s, const char *name, pq_shape shape, double low, double high)
{
    pq_tensor t;
    pq_value_id id;
    TRY(pq_tensor_new(s->ctx, &t, PQ_F32, &shape));
    fill(s, &t, low, high);
    TRY(pq_graph_add_const(s->ctx, &id, s->g, name, PQ_F32, &shape, t.buf));
    pq_tensor_clear(&t);
    return id;
}

pq_value_id pq_small_values(pq_small *s, const char *name, pq_dtype dtype, pq_shape shape,
                            const void *data)
{
    pq_tensor t;
    pq_value_id id;
    TRY(pq_tensor_new(s->ctx, &t, dtype, &shape));
    memcpy(pq_tensor_data(&t), data, (size_t)pq_shape_count(&shape) * pq_dtype_size(dtype));
    TRY(pq_graph_add_const(s->ctx, &id, s->g, name, dtype, &shape, t.buf));
    pq_tensor_clear(&t);
    return id;
}

pq_value_id pq_small_node(pq_small *s, const char *name, pq_op op, const pq_value_id *in, int n_in,
                          const pq_attr *attr)
{
    char out[128];
    pq_node_id id;
    snprintf(out, sizeof out, "%s.output", name);
    TRY(pq_graph_add_node(s->ctx, &id, s->g, name, op, NULL, in, n_in, 1, out, attr));
    return s->g->node[id].out[0];
}

pq_value_id pq_small_unary(pq_small *s, const char *name, pq_op op, pq_value_id x)
{
    return pq_small_node(s, name, op, &x, 1, NULL);
}

pq_value_id pq_small_binary(pq_small *s, const char *name, pq_op op, pq_value_id a, pq_value_id b)
{
    const pq_value_id in[2] = {a, b};
    return pq_small_node(s, name, op, in, 2, NULL);
}

pq_value_id pq_small_conv(pq_small *s, const char *name, pq_value_id x, pq_small_window w)
{
    char text[128];
    pq_attr a = {0};
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = w.kernel;
        a.window.stride[i] = w.stride;
        a.window.dilation[i] = 1;
        a.window.pad[i] = a.window.pad[i + 2] = w.pad;
    }
    a.window.groups = w.groups;
    pq_value_id in[3] = {x};
    snprintf(text, sizeof text, "%s.weight", name);
    in[1] = pq_small_const(s, text,
                           w.transposed ? PQ_SHAPE(w.in, w.out / w.groups, w.kernel, w.kernel)
                                        : PQ_SHAPE(w.out, w.in / w.groups, w.kernel, w.kernel),
                           -1, 1);
    snprintf(text, sizeof text, "%s.bias", name);
    if (w.bias) in[2] = pq_small_const(s, text, PQ_SHAPE(w.out), -1, 1);
    return pq_small_node(s, name, w.transposed ? PQ_OP_CONV_TRANSPOSE : PQ_OP_CONV, in,
                         w.bias ? 3 : 2, &a);
}

pq_value_id pq_small_bn(pq_small *s, const char *name, pq_value_id x, int64_t channels)
{
    static const char *const part[] = {"gamma", "beta", "mean", "var"};
    char text[128];
    pq_value_id in[5] = {x};
    for (int i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "%s.%s", name, part[i]);
        in[1 + i] = pq_small_const(s, text, PQ_SHAPE(channels), i == 3 ? 0.3 : -1, 1.5);
    }
    return pq_small_node(s, name, PQ_OP_BATCH_NORM, in, 5, &(pq_attr){.eps = 1e-3f});
}

void pq_small_outputs(pq_small *s, const pq_value_id *v, size_t n)
{
    TRY(pq_graph_set_outputs(s->ctx, s->g, v, n));
    TRY(pq_graph_infer(s->ctx, s->g));
}

pq_graph *pq_small_copy(pq_small *s)
{
    pq_graph *copy;
    TRY(pq_graph_copy(s->ctx, &copy, s->g));
    return copy;
}

double pq_small_difference(pq_small *s, const pq_graph *before)
{
    pq_tensor x, a[8] = {0}, b[8] = {0};
    double worst = 0;
    TRY(pq_graph_verify(s->ctx, s->g));
    TRY(pq_tensor_new(s->ctx, &x, PQ_F32, &before->value[before->input[0]].shape));
    fill(s, &x, -2, 2);
    TRY(pq_test_run(s->ctx, a, before, &x));
    TRY(pq_test_run(s->ctx, b, s->g, &x));
    assert_int_equal(before->n_outputs, s->g->n_outputs);
    for (size_t i = 0; i < before->n_outputs; i++) {
        assert_string_equal(before->value[before->output[i]].name,
                            s->g->value[s->g->output[i]].name);
        assert_true(pq_shape_equal(&a[i].shape, &b[i].shape));
        const pq_compare c = pq_compare_f32(pq_tensor_data(&a[i]), pq_tensor_data(&b[i]),
                                            (size_t)pq_shape_count(&a[i].shape));
        worst = pq_check_worse(worst, c.max_abs);
        pq_tensor_clear(&a[i]);
        pq_tensor_clear(&b[i]);
    }
    pq_tensor_clear(&x);
    return worst;
}

size_t pq_small_count(const pq_small *s, pq_op op)
{
    size_t n = 0;
    for (size_t i = 0; i < s->g->n_nodes; i++) n += !s->g->node[i].dead && s->g->node[i].op == op;
    return n;
}
