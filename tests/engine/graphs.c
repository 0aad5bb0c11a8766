/* Random small networks. */
#include "graphs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { MOST = 64 };

typedef struct maker {
    pq_small *s;
    pq_value_id map[MOST]; /* feature maps so far */
    pq_shape shape[MOST];
    int n, n_names;
    char name[16];
} maker;

static uint64_t below(maker *m, uint64_t n) { return pq_rng_below(&m->s->rng, n); }

static const char *fresh(maker *m)
{
    snprintf(m->name, sizeof m->name, "n%d", m->n_names++);
    return m->name;
}

static void push(maker *m, pq_value_id v, pq_shape shape)
{
    if (m->n == MOST) return;
    m->map[m->n] = v;
    m->shape[m->n++] = shape;
}

static void random_act(maker *m, pq_attr *a)
{
    static const pq_act act[] = {PQ_ACT_NONE, PQ_ACT_NONE,       PQ_ACT_RELU,
                                 PQ_ACT_RELU, PQ_ACT_LEAKY_RELU, PQ_ACT_CLIP,
                                 PQ_ACT_SILU, PQ_ACT_HARD_SWISH, PQ_ACT_SIGMOID};
    a->act = act[below(m, sizeof act / sizeof *act)];
    a->alpha = a->act == PQ_ACT_CLIP ? -0.5f : 0.1f;
    a->beta = a->act == PQ_ACT_CLIP ? 6.0f : 0.0f;
}

static int64_t extent(int64_t n, int64_t k, int64_t stride, int64_t dilation, int64_t pad)
{
    return (n + 2 * pad - dilation * (k - 1) - 1) / stride + 1;
}

static pq_value_id weight(maker *m, const char *suffix, pq_shape shape, double reach)
{
    char text[32];
    snprintf(text, sizeof text, "%s.%s", m->name, suffix);
    return pq_small_const(m->s, text, shape, -reach, reach);
}

/* out 0: as many channels as the input, same size (for a residual). */
static void add_conv(maker *m, int from, int64_t out, bool residual)
{
    const pq_shape x = m->shape[from];
    const int64_t c = x.dim[1], k = (int64_t)(2 * below(m, 3) + 1);
    pq_attr a = {0};
    a.window.groups = 1;
    if (below(m, 4) == 0) a.window.groups = out = c;
    if (below(m, 4) == 0 && c % 2 == 0 && out % 2 == 0) a.window.groups = 2;
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = k;
        a.window.stride[i] = residual || x.dim[2] < 6 ? 1 : (int64_t)(1 + below(m, 2));
        a.window.dilation[i] = k == 3 && below(m, 3) == 0 ? 2 : 1;
        a.window.pad[i] = a.window.pad[i + 2] = a.window.dilation[i] * (k - 1) / 2;
    }
    random_act(m, &a);
    fresh(m);
    const double reach = sqrt(3.0 / (double)(c / a.window.groups * k * k));
    const int n_in = below(m, 4) ? 3 : 2;
    const pq_value_id in[3] = {m->map[from],
                               weight(m, "weight", PQ_SHAPE(out, c / a.window.groups, k, k), reach),
                               weight(m, "bias", PQ_SHAPE(out), 0.5)};
    pq_shape y = x;
    y.dim[1] = out;
    for (int i = 0; i < 2; i++)
        y.dim[2 + i] =
            extent(x.dim[2 + i], k, a.window.stride[i], a.window.dilation[i], a.window.pad[i]);
    push(m, pq_small_node(m->s, m->name, PQ_OP_CONV, in, n_in, &a), y);
}

static void add_residual(maker *m, int from)
{
    pq_attr a = {0};
    const int conv = m->n;
    add_conv(m, from, m->shape[from].dim[1], true);
    if (m->n == conv) return;
    random_act(m, &a);
    const bool swap = below(m, 2);
    const pq_value_id in[2] = {m->map[swap ? from : conv], m->map[swap ? conv : from]};
    m->map[conv] = pq_small_node(m->s, fresh(m), PQ_OP_ADD, in, 2, &a);
}

static void add_transposed(maker *m, int from)
{
    const pq_shape x = m->shape[from];
    const int64_t out = (int64_t)(1 + below(m, 9));
    pq_attr a = {.window = {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .groups = 1}};
    fresh(m);
    const pq_value_id in[3] = {m->map[from],
                               weight(m, "weight", PQ_SHAPE(x.dim[1], out, 2, 2), 0.5),
                               weight(m, "bias", PQ_SHAPE(out), 0.5)};
    push(m, pq_small_node(m->s, m->name, PQ_OP_CONV_TRANSPOSE, in, 3, &a),
         PQ_SHAPE(x.dim[0], out, 2 * x.dim[2], 2 * x.dim[3]));
}

static void add_pool(maker *m, int from)
{
    const pq_shape x = m->shape[from];
    const int64_t k = (int64_t)(2 + below(m, 4)), stride = (int64_t)(1 + below(m, 2));
    pq_attr a = {0};
    pq_shape y = x;
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = k;
        a.window.stride[i] = stride;
        a.window.dilation[i] = 1;
        a.window.pad[i] = a.window.pad[i + 2] = k / 2;
        y.dim[2 + i] = extent(x.dim[2 + i], k, stride, 1, k / 2);
    }
    a.window.groups = 1;
    push(m, pq_small_node(m->s, fresh(m), PQ_OP_MAX_POOL, &m->map[from], 1, &a), y);
}

static void add_resize(maker *m, int from)
{
    pq_shape y = m->shape[from];
    if (y.dim[2] > 24) return;
    pq_attr a = {.resize = PQ_RESIZE_NEAREST,
                 .coord = PQ_COORD_ASYMMETRIC,
                 .nearest = PQ_NEAREST_FLOOR,
                 .scale = {2, 2}};
    y.dim[2] *= 2;
    y.dim[3] *= 2;
    push(m, pq_small_node(m->s, fresh(m), PQ_OP_RESIZE, &m->map[from], 1, &a), y);
}

static void add_concat(maker *m, int from)
{
    pq_attr a = {.axis = 1};
    pq_value_id in[4];
    pq_shape y = m->shape[from];
    int n = 0;
    y.dim[1] = 0;
    for (int i = m->n - 1; i >= 0 && n < 3; i--)
        if (m->shape[i].dim[2] == y.dim[2] && m->shape[i].dim[3] == y.dim[3]) {
            in[n++] = m->map[i];
            y.dim[1] += m->shape[i].dim[1];
        }
    if (y.dim[1] < 64) push(m, pq_small_node(m->s, fresh(m), PQ_OP_CONCAT, in, n, &a), y);
}

static void add_unary(maker *m, int from)
{
    static const pq_op op[] = {PQ_OP_RELU, PQ_OP_SILU, PQ_OP_SIGMOID, PQ_OP_HARD_SWISH, PQ_OP_TANH};
    push(m, pq_small_unary(m->s, fresh(m), op[below(m, 5)], m->map[from]), m->shape[from]);
}

static void add_focus(maker *m)
{
    pq_shape y = m->shape[0];
    y.dim[1] *= 4;
    y.dim[2] /= 2;
    y.dim[3] /= 2;
    m->map[0] = pq_small_node(m->s, fresh(m), PQ_OP_FOCUS, &m->map[0], 1, NULL);
    m->shape[0] = y;
}

void graphs_random(pq_small *s, uint64_t seed, int n_nodes)
{
    const uint64_t size = 9 + seed % 16;
    const pq_shape x = PQ_SHAPE((int64_t)(1 + seed % 2), 3, 2 * (int64_t)(size / 2 + 2),
                                2 * (int64_t)(size / 2 + 1));
    pq_small_begin(s, x);
    s->rng.s = seed;
    maker m = {.s = s};
    push(&m, s->x, x);
    if (below(&m, 2)) add_focus(&m);
    for (int i = 0; i < n_nodes; i++) {
        const int recent = m.n < 4 ? m.n : 4, from = m.n - 1 - (int)below(&m, (uint64_t)recent);
        switch (below(&m, 12)) {
        case 0: add_transposed(&m, from); break;
        case 1: add_pool(&m, from); break;
        case 2: add_resize(&m, from); break;
        case 3: add_concat(&m, from); break;
        case 4: add_unary(&m, from); break;
        case 5:
        case 6:
        case 7: add_residual(&m, from); break;
        default: add_conv(&m, from, (int64_t)(1 + below(&m, 20)), false);
        }
    }
    pq_value_id out[MOST];
    size_t n_out = 0;
    for (int i = 0; i < m.n; i++) /* whatever nobody reads is an output */
        if (pq_graph_count_readers(s->g, m.map[i]) == 0) out[n_out++] = m.map[i];
    pq_small_outputs(s, out, n_out);
    pq_graph_mark_quantizable(s->g);
    pq_graph_seal(s->g);
    PQ_CHECK(s->ctx, pq_graph_verify(s->ctx, s->g));
}

void graphs_input(pq_tensor *out, pq_ctx *ctx, const pq_graph *g, uint64_t seed)
{
    pq_rng rng = {seed};
    PQ_CHECK(ctx, pq_tensor_new(ctx, out, PQ_F32, &g->value[g->input[0]].shape));
    float *x = pq_tensor_data(out);
    for (int64_t i = 0; i < pq_shape_count(&out->shape); i++)
        x[i] = (float)(4 * pq_rng_double(&rng) - 2);
}

static pq_status see(pq_ctx *ctx, void *user, const pq_tap_view *v)
{
    pq_ranges *r = user;
    float lo = 0, hi = 0;
    const pq_status st = pq_strdup(ctx, &r->range[r->n].name, v->name);
    if (st != PQ_OK) return st;
    for (int64_t i = 0; i < pq_shape_count(&v->shape); i++) {
        lo = fminf(lo, v->data[i]);
        hi = fmaxf(hi, v->data[i]);
    }
    if (hi == lo) hi = 1;
    pq_range *x = &r->range[r->n++];
    x->min = x->lo = lo;
    x->max = x->hi = hi;
    x->amax = fmaxf(-lo, hi);
    return PQ_OK;
}

void graphs_ranges(pq_ranges **out, pq_ctx *ctx, const pq_graph *g, const pq_tensor *in)
{
    pq_ranges *r;
    pq_plan *plan;
    pq_session *s;
    pq_tensor *y;
    const pq_engine *ref;
    PQ_CHECK(ctx, pq_alloc(ctx, &r, 1, sizeof *r));
    PQ_CHECK(ctx, pq_alloc(ctx, &r->range, g->n_values, sizeof *r->range));
    pq_graph_hash(g, r->graph_hash);
    PQ_CHECK(ctx, pq_engine_find(ctx, &ref, "ref"));
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_compile(ctx, &s, ref, g, plan, &(pq_compile_opts){.tap = see, .tap_user = r}));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &y, s));
    PQ_CHECK(ctx, pq_run(ctx, s, in, 1, y, s->n_outputs));
    pq_session_outputs_free(y, s);
    pq_session_free(s);
    pq_plan_free(plan);
    *out = r;
}

void graphs_plan(pq_plan **out, pq_ctx *ctx, const pq_graph *g, const pq_ranges *r,
                 const pq_engine *engine, double share, pq_scheme scheme, pq_precision base,
                 uint64_t seed)
{
    bool int8[MOST * 2] = {false};
    const char *why;
    pq_rng rng = {seed};
    assert_true(pq_graph_quantizable_count(g) <= MOST * 2);
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->quant_index >= 0 && pq_rng_double(&rng) < share)
            int8[n->quant_index] = engine->accepts(g, n, PQ_PREC_INT8, &why);
    }
    PQ_CHECK(ctx, pq_plan_make(ctx, out, g, r, int8, scheme, base));
}
