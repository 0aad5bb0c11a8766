/* DAMO-YOLO from small structures made here, wrong keys, and the shared checkpoints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pquant/pass.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "export/pth.h"
#include "read/arch/damoyolo.h"
#include "support/check.h"
#include "support/run.h"
#include "support/synthetic.h"

static pq_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) != PQ_OK;
}

static int teardown(void **state)
{
    (void)state;
    pq_ctx_free(ctx);
    return 0;
}

/* ---- small networks ---- */

static const pq_damo_net small_net[] = {
    {.kind = PQ_DAMO_RES,
     .focus = true,
     .stem = 8,
     .n_stages = 5,
     .stage = {{8, 4, 1}, {12, 4, 2}, {12, 6, 1}, {16, 6, 2}, {20, 8, 2}},
     .block_kernel = 1,
     .neck = {8, 12, 16},
     .neck_blocks = 2,
     .hidden_ratio = 0.5,
     .head_kernel = 3,
     .classes = 3,
     .reg_max = 4},
    {.kind = PQ_DAMO_CSP,
     .focus = true,
     .stem = 8,
     .n_stages = 4,
     .stage = {{8, 4, 1}, {12, 4, 2}, {12, 6, 1}, {16, 6, 2}},
     .block_kernel = 3,
     .neck = {8, 12, 16},
     .neck_blocks = 1,
     .hidden_ratio = 1,
     .head_kernel = 3,
     .classes = 2,
     .reg_max = 7},
    {.kind = PQ_DAMO_MOB,
     .stem = 8,
     .n_stages = 5,
     .stage = {{8, 16, 1}, {12, 24, 2}, {12, 24, 1}, {12, 16, 2}, {16, 24, 2}},
     .block_kernel = 1,
     .neck = {8, 12, 16},
     .neck_blocks = 1,
     .hidden_ratio = 4,
     .head_kernel = 1,
     .classes = 1,
     .reg_max = 7},
};

static const pq_damo_net net_t = {
    .kind = PQ_DAMO_RES,
    .focus = true,
    .stem = 24,
    .n_stages = 5,
    .stage = {{64, 24, 2}, {96, 64, 2}, {192, 96, 2}, {192, 152, 2}, {384, 192, 1}},
    .block_kernel = 1,
    .neck = {64, 128, 256},
    .neck_blocks = 3,
    .hidden_ratio = 1,
    .head_kernel = 3,
    .classes = 5,
    .reg_max = 16};

typedef struct maker {
    pq_state *s;
    pq_rng rng;
    const char *without; /* key to leave out */
    const char *odd;     /* key to give one row more */
} maker;

static void put(maker *m, const char *name, const char *part, pq_shape shape)
{
    char key[256];
    pq_tensor t;
    snprintf(key, sizeof key, "%s.%s", name, part);
    if (m->without && strcmp(key, m->without) == 0) return;
    if (m->odd && strcmp(key, m->odd) == 0) shape.dim[0]++;
    PQ_CHECK(ctx, pq_tensor_new(ctx, &t, PQ_F32, &shape));
    const bool positive = strcmp(part, "running_var") == 0 || strcmp(part, "scale") == 0;
    for (int64_t i = 0; i < pq_shape_count(&shape); i++)
        ((float *)pq_tensor_data(&t))[i] =
            (float)(pq_rng_double(&m->rng) * 0.8 + (positive ? 0.6 : -0.4));
    PQ_CHECK(ctx, pq_state_add(ctx, m->s, key, &t));
    pq_tensor_clear(&t);
}

static void put_bn(maker *m, const char *name, int64_t c)
{
    put(m, name, "weight", PQ_SHAPE(c));
    put(m, name, "bias", PQ_SHAPE(c));
    put(m, name, "running_mean", PQ_SHAPE(c));
    put(m, name, "running_var", PQ_SHAPE(c));
}

static pq_state *make_state(const pq_damo_net *net, const char *without, const char *odd)
{
    char name[256];
    pq_arena *arena;
    pq_damo_plan plan = {0};
    maker k = {.rng = {5}, .without = without, .odd = odd};
    PQ_CHECK(ctx, pq_arena_new(ctx, &arena));
    PQ_CHECK(ctx, pq_damo_plan_make(ctx, &plan, arena, net));
    PQ_CHECK(ctx, pq_state_new(ctx, &k.s));
    for (size_t i = 0; i < plan.n; i++) {
        const pq_damo_module *m = &plan.m[i];
        if (m->kind == PQ_DAMO_POOL) continue;
        if (m->kind == PQ_DAMO_REP) {
            snprintf(name, sizeof name, "%s.rbr_dense.conv", m->name);
            put(&k, name, "weight", PQ_SHAPE(m->out, m->in, 3, 3));
            snprintf(name, sizeof name, "%s.rbr_dense.bn", m->name);
            put_bn(&k, name, m->out);
            snprintf(name, sizeof name, "%s.rbr_1x1.conv", m->name);
            put(&k, name, "weight", PQ_SHAPE(m->out, m->in, 1, 1));
            snprintf(name, sizeof name, "%s.rbr_1x1.bn", m->name);
            put_bn(&k, name, m->out);
            continue;
        }
        put(&k, m->name, "weight", PQ_SHAPE(m->out, m->in / m->groups, m->kernel, m->kernel));
        if (m->bn)
            put_bn(&k, m->bn, m->out);
        else
            put(&k, m->name, "bias", PQ_SHAPE(m->out));
    }
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "head.scales.%d", i);
        put(&k, name, "scale", (pq_shape){0, {0}});
    }
    put(&k, "optimizer", "momentum", PQ_SHAPE(3));
    pq_state_sort(k.s);
    pq_free(plan.m);
    pq_arena_free(arena);
    return k.s;
}

/* Largest difference of the outputs of two graphs on one input. */
static double difference(const pq_graph *a, const pq_graph *b)
{
    pq_tensor x, ya[2], yb[2];
    double worst = 0;
    const pq_shape *s = &a->value[a->input[0]].shape;
    PQ_CHECK(ctx, pq_tensor_new(ctx, &x, PQ_F32, s));
    for (int64_t i = 0; i < pq_shape_count(s); i++)
        ((float *)pq_tensor_data(&x))[i] = (float)(i * 37 % 251) / 251;
    PQ_CHECK(ctx, pq_test_run(ctx, ya, a, &x));
    PQ_CHECK(ctx, pq_test_run(ctx, yb, b, &x));
    for (int i = 0; i < 2; i++) {
        assert_true(pq_shape_equal(&ya[i].shape, &yb[i].shape));
        const pq_compare c = pq_compare_f32(pq_tensor_data(&ya[i]), pq_tensor_data(&yb[i]),
                                            (size_t)pq_shape_count(&ya[i].shape));
        if (!(c.max_abs <= worst)) worst = c.max_abs;
        pq_tensor_clear(&ya[i]);
        pq_tensor_clear(&yb[i]);
    }
    pq_tensor_clear(&x);
    return worst;
}

/* Weights and biases of the folded operators under their own names, as our calibrated .pth has
 * them. */
static void save_folded(const char *path, const pq_graph *g)
{
    const char *names[512];
    pq_tensor t[512];
    size_t n = 0;
    for (size_t i = 0; i < g->n_values; i++) {
        const pq_value *v = &g->value[i];
        if (!v->data) continue;
        assert_true(n < 512);
        names[n] = v->name;
        t[n++] = (pq_tensor){v->dtype, v->shape, v->data};
    }
    PQ_CHECK(ctx, pq_pth_write(ctx, path, names, t, n));
}

static void structures(void **state)
{
    static const pq_read_opts opts = {.batch = 2, .h = 64, .w = 96};
    char path[] = "/tmp/pquant_test_XXXXXX";
    const int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; i < sizeof small_net / sizeof *small_net; i++) {
        pq_graph *g, *folded, *again;
        pq_state *s = make_state(&small_net[i], NULL, NULL);
        PQ_CHECK(ctx, pq_damoyolo_read(ctx, &g, s, &opts));
        pq_state_free(s);
        assert_string_equal(g->family, "DAMO-YOLO");
        PQ_CHECK(ctx, pq_graph_verify(ctx, g));
        const pq_value *scores = &g->value[g->output[0]], *boxes = &g->value[g->output[1]];
        assert_string_equal(scores->name, "scores");
        assert_string_equal(boxes->name, "boxes");
        const int64_t anchors = 8 * 12 + 4 * 6 + 2 * 3;
        assert_true(pq_shape_equal(&scores->shape, &PQ_SHAPE(2, anchors, small_net[i].classes)));
        assert_true(pq_shape_equal(&boxes->shape, &PQ_SHAPE(2, anchors, 4)));
        PQ_CHECK(ctx, pq_graph_copy(ctx, &folded, g));
        PQ_CHECK(ctx, pq_pass_all(ctx, folded));
        assert_int_equal(pq_graph_quantizable_count(folded), pq_graph_quantizable_count(g));
        assert_true(difference(g, folded) < 1e-3);
        /* a checkpoint saved after folding reads as the same network */
        save_folded(path, folded);
        PQ_CHECK(ctx, pq_read(ctx, &again, path, &opts));
        PQ_CHECK(ctx, pq_pass_all(ctx, again));
        assert_int_equal(again->n_nodes, folded->n_nodes);
        assert_true(difference(folded, again) == 0);
        pq_graph_free(again);
        pq_graph_free(folded);
        pq_graph_free(g);
    }
    unlink(path);
}

/* Every key in turn left out of, or misshapen in, a small network: an error, never a crash. */
static void every_key(void **state)
{
    const pq_read_opts opts = {.h = 64, .w = 64};
    (void)state;
    for (size_t i = 0; i < sizeof small_net / sizeof *small_net; i++) {
        pq_state *whole = make_state(&small_net[i], NULL, NULL);
        for (size_t k = 0; k < 2 * pq_state_count(whole); k++) {
            const char *key = pq_state_at(whole, k / 2)->name;
            pq_graph *g;
            pq_state *s = make_state(&small_net[i], k % 2 ? key : NULL, k % 2 ? NULL : key);
            const pq_status st = pq_damoyolo_read(ctx, &g, s, &opts);
            const bool scalar = pq_state_at(whole, k / 2)->shape.rank == 0; /* has no rows */
            if (strcmp(key, "optimizer.momentum") == 0 || (scalar && k % 2 == 0))
                assert_int_equal(st, PQ_OK);
            else
                assert_int_equal(st, PQ_E_FORMAT);
            pq_graph_free(g);
            pq_state_free(s);
        }
        pq_state_free(whole);
    }
}

/* One block more than T: all of T fits, and yet it is not T. */
static void deeper(void **state)
{
    pq_graph *g;
    pq_damo_net net = net_t;
    const pq_read_opts opts = {.h = 64, .w = 64};
    (void)state;
    pq_state *s = make_state(&net, NULL, NULL);
    PQ_CHECK(ctx, pq_damoyolo_read(ctx, &g, s, &opts));
    assert_string_equal(g->family, "DAMO-YOLO-T");
    assert_int_equal(pq_graph_quantizable_count(g), 80);
    pq_graph_free(g);
    pq_state_free(s);
    net.stage[2].blocks++;
    s = make_state(&net, NULL, NULL);
    PQ_CHECK(ctx, pq_damoyolo_read(ctx, &g, s, &opts));
    assert_string_equal(g->family, "DAMO-YOLO");
    assert_int_equal(pq_graph_quantizable_count(g), 82);
    pq_graph_free(g);
    pq_state_free(s);
}

static void expect_key(pq_state *s, const char *key, const char *message)
{
    pq_graph *g;
    const pq_read_opts opts = {.h = 64, .w = 64};
    PQ_CHECK_FAILS(ctx, pq_damoyolo_read(ctx, &g, s, &opts), PQ_E_FORMAT, key);
    assert_non_null(strstr(pq_ctx_error(ctx), message));
    assert_null(g);
    pq_state_free(s);
}

static void other_files(void **state)
{
    pq_graph *g;
    pq_tensor t;
    pq_state *s;
    (void)state;
    PQ_CHECK(ctx, pq_state_new(ctx, &s));
    PQ_CHECK(ctx, pq_tensor_new(ctx, &t, PQ_F32, &PQ_SHAPE(1)));
    PQ_CHECK(ctx, pq_state_add(ctx, s, "backbone.conv1.weight", &t));
    pq_state_sort(s);
    PQ_CHECK_FAILS(ctx, pq_damoyolo_read(ctx, &g, s, NULL), PQ_E_UNSUPPORTED, "no DAMO-YOLO");
    pq_tensor_clear(&t);
    pq_state_free(s);
    s = make_state(&small_net[0], NULL, NULL);
    const pq_read_opts odd = {.h = 100, .w = 64}, named = {.config = "damoyolo_tinynasL20_T"},
                       unknown = {.config = "damoyolo_tinynasL21_T"};
    PQ_CHECK_FAILS(ctx, pq_damoyolo_read(ctx, &g, s, &odd), PQ_E_INVALID, "multiples of 32");
    PQ_CHECK_FAILS(ctx, pq_damoyolo_read(ctx, &g, s, &named), PQ_E_INVALID,
                   "config 'damoyolo_tinynasL20_T' is DAMO-YOLO-T, the checkpoint is of another");
    PQ_CHECK_FAILS(ctx, pq_damoyolo_read(ctx, &g, s, &unknown), PQ_E_INVALID, "neither a file nor");
    pq_state_free(s);
}

/* ---- shared checkpoints and golden files ---- */

static void wrong_keys(void **state)
{
    static const struct {
        const char *key, *missing, *odd;
    } cases[] = {
        {"backbone.block_list.0.conv.conv.weight", "[24, 12, 3, 3]", "[25, 12, 3, 3]"},
        {"backbone.block_list.2.block_list.0.conv1.conv1.weight", "[64, 64, 1, 1]",
         "[65, 64, 1, 1]"},
        {"backbone.block_list.3.block_list.1.conv1.bn1.running_var", "[96]", "[97]"},
        {"neck.merge_5.convs.1.conv2.rbr_1x1.conv.weight", "[32, 32, 1, 1]", "[33, 32, 1, 1]"},
        {"neck.merge_5.convs.1.conv2.rbr_dense.conv.weight", "[32, 32, 3, 3]", "[33, 32, 3, 3]"},
        {"head.gfl_cls.0.weight", "[5, 64, 3, 3]", "[6, 64, 3, 3]"},
        {"head.gfl_cls.1.bias", "[5]", "[6]"},
        {"head.gfl_reg.2.weight", "[68, 256, 3, 3]", "[69, 256, 3, 3]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "key '%s': missing", cases[i].key);
        expect_key(make_state(&net_t, cases[i].key, NULL), text, cases[i].missing);
        snprintf(text, sizeof text, "key '%s': shape %s, expected %s", cases[i].key, cases[i].odd,
                 cases[i].missing);
        expect_key(make_state(&net_t, NULL, cases[i].key), text, "(DAMO-YOLO-T)");
    }
    expect_key(make_state(&net_t, "head.scales.1.scale", NULL), "head.scales.1.scale", "missing");
}

/* golden/damoyolo_X_ops.json: [{"index", "name", "type", "shape"}] */
static void check_ops(const pq_graph *g, const char *file)
{
    char path[512], text[200], want[200];
    cJSON *ops;
    const cJSON *op, *d;
    if (!pq_test_shared(path, sizeof path, file)) return;
    PQ_CHECK(ctx, pq_json_load(ctx, &ops, path));
    assert_int_equal(pq_graph_quantizable_count(g), cJSON_GetArraySize(ops));
    cJSON_ArrayForEach(op, ops)
    {
        const int index = cJSON_GetObjectItem(op, "index")->valueint;
        const pq_node *n = &g->node[pq_graph_quantizable(g, index)];
        assert_string_equal(n->name, cJSON_GetObjectItem(op, "name")->valuestring);
        assert_string_equal(n->type, cJSON_GetObjectItem(op, "type")->valuestring);
        pq_shape s = {0, {0}};
        cJSON_ArrayForEach(d, cJSON_GetObjectItem(op, "shape")) s.dim[s.rank++] =
            (int64_t)d->valuedouble;
        if (s.rank)
            assert_string_equal(pq_shape_text(&pq_in(g, n, 1)->shape, text, sizeof text),
                                pq_shape_text(&s, want, sizeof want));
    }
    cJSON_Delete(ops);
}

/* Parameters of the folded network and multiply-accumulates at 640: the published 8.5 M / 18.1
 * GFLOPs and 16.3 M / 37.8, which count batch norms. */
static void checkpoint(const char *model, const char *config, const char *ops, double params,
                       double macs)
{
    char path[512];
    pq_graph *g;
    const pq_read_opts opts = {.config = config};
    if (!pq_test_shared(path, sizeof path, model)) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    PQ_CHECK(ctx, pq_read(ctx, &g, path, &opts));
    PQ_CHECK(ctx, pq_pass_all(ctx, g));
    check_ops(g, ops);
    double n = 0, m = 0;
    for (size_t i = 0; i < g->n_values; i++)
        if (g->value[i].data) n += (double)pq_shape_count(&g->value[i].shape);
    for (size_t i = 0; i < g->n_nodes; i++) m += (double)pq_node_macs(g, &g->node[i]);
    assert_true(n > params * 0.99 && n < params * 1.01);
    assert_true(m > macs * 0.99 && m < macs * 1.01);
    assert_true(pq_shape_equal(&g->value[g->output[0]].shape, &PQ_SHAPE(1, 8400, 80)));
    pq_graph_free(g);
    const pq_read_opts other = {.config = "configs/damoyolo_tinynasL35_M.py"};
    PQ_CHECK_FAILS(ctx, pq_read(ctx, &g, path, &other), PQ_E_INVALID, "DAMO-YOLO-M");
    assert_non_null(strstr(pq_ctx_error(ctx), config ? config : "DAMO-YOLO-T"));
}

static void checkpoint_t(void **state)
{
    (void)state;
    checkpoint("models/damoyolo_tinynasL20_T.pth", "damoyolo_tinynasL20_T",
               "golden/damoyolo_T_ops.json", 8.5e6, 9.05e9);
}

static void checkpoint_t_hard(void **state)
{
    (void)state;
    checkpoint("models/damoyolo_tinynasL20_T_hard.pth", NULL, "golden/damoyolo_T_ops.json", 8.5e6,
               9.05e9);
}

static void checkpoint_s(void **state)
{
    (void)state;
    checkpoint("models/damoyolo_tinynasL25_S.pth", "damoyolo_tinynasL25_S",
               "golden/damoyolo_S_ops.json", 16.3e6, 18.9e9);
}

/* M has no checkpoint here; its operators with types and shapes from the synthetic one. */
static void operators_m(void **state)
{
    char path[512];
    pq_graph *g;
    (void)state;
    if (!pq_test_shared(path, sizeof path, "golden/synthetic/M.json")) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    PQ_CHECK(ctx, pq_test_synthetic_read(ctx, &g, "M", 640, 640));
    PQ_CHECK(ctx, pq_pass_all(ctx, g));
    check_ops(g, "golden/damoyolo_M_ops.json");
    pq_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structures),   cmocka_unit_test(every_key),
        cmocka_unit_test(deeper),       cmocka_unit_test(wrong_keys),
        cmocka_unit_test(other_files),  cmocka_unit_test(checkpoint_t),
        cmocka_unit_test(checkpoint_s), cmocka_unit_test(checkpoint_t_hard),
        cmocka_unit_test(operators_m),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
