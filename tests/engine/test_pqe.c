/* .pqe files: what is compiled of one equals bit for bit what was saved, and no damage passes. */
#include "graphs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/engines.h"
#include "engine/pqe_internal.h"
#include "support/tiny.h"

typedef struct place {
    char path[64];
    pq_ctx *ctx;
} place;

static int set_up(void **state)
{
    static place p;
    strcpy(p.path, "/tmp/pquant-pqe-XXXXXX");
    const int fd = mkstemp(p.path);
    if (fd < 0 || pq_ctx_new(&p.ctx) != PQ_OK) return 1;
    close(fd);
    *state = &p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    unlink(p->path);
    pq_ctx_free(p->ctx);
    return 0;
}

/* ---- equal results ---- */

static void compare_runs(pq_ctx *ctx, const pq_engine *engine, const pq_graph *a,
                         const pq_plan *plan_a, const pq_graph *b, const pq_plan *plan_b,
                         const pq_tensor *in)
{
    pq_session *s[2];
    pq_tensor *out[2];
    PQ_CHECK(ctx, pq_compile(ctx, &s[0], engine, a, plan_a, NULL));
    PQ_CHECK(ctx, pq_compile(ctx, &s[1], engine, b, plan_b, NULL));
    for (int i = 0; i < 2; i++) {
        PQ_CHECK(ctx, pq_session_outputs(ctx, &out[i], s[i]));
        PQ_CHECK(ctx, pq_run(ctx, s[i], in, 1, out[i], s[i]->n_outputs));
    }
    for (size_t k = 0; k < s[0]->n_outputs; k++)
        assert_memory_equal(pq_tensor_data(&out[0][k]), pq_tensor_data(&out[1][k]),
                            pq_buf_bytes(out[0][k].buf));
    for (int i = 0; i < 2; i++) {
        pq_session_outputs_free(out[i], s[i]);
        pq_session_free(s[i]);
    }
}

static void round_trip(place *p, const pq_graph *g, const pq_plan *plan, const pq_tensor *in)
{
    pq_graph *g2;
    pq_plan *plan2;
    PQ_CHECK(p->ctx, pq_pqe_save(p->ctx, p->path, g, plan));
    PQ_CHECK(p->ctx, pq_pqe_load(p->ctx, &g2, &plan2, p->path));
    assert_string_equal(g2->hash, plan2->graph_hash);
    assert_int_equal(pq_graph_quantizable_count(g), pq_graph_quantizable_count(g2));
    compare_runs(p->ctx, &pq_engine_ref, g, plan, g2, plan2, in);
    compare_runs(p->ctx, &pq_engine_cpu, g, plan, g2, plan2, in);
    pq_plan_free(plan2);
    pq_graph_free(g2);
}

static void random_networks(void **state)
{
    place *p = *state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        pq_small s;
        pq_tensor in;
        pq_ranges *ranges;
        pq_plan *plan;
        const pq_scheme scheme = seed % 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8;
        const double share = seed % 3 == 0 ? 0.5 : 1;
        graphs_random(&s, seed, 14);
        graphs_input(&in, s.ctx, s.g, seed);
        graphs_ranges(&ranges, s.ctx, s.g, &in);
        graphs_plan(&plan, s.ctx, s.g, ranges, &pq_engine_cpu, share, scheme, PQ_PREC_FP32, seed);
        round_trip(p, s.g, plan, &in);
        pq_plan_free(plan);
        pq_ranges_free(ranges);
        pq_tensor_clear(&in);
        pq_small_end(&s);
    }
}

static void detectors(void **state)
{
    place *p = *state;
    for (int i = 0; i < 4; i++) {
        pq_graph *g = tiny_detector(p->ctx, i % 2 ? TINY_DAMO : TINY_YOLOX);
        pq_plan *plan = tiny_int8_plan(p->ctx, g, i < 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8, 3);
        pq_tensor in;
        graphs_input(&in, p->ctx, g, 5);
        float *x = pq_tensor_data(&in);
        for (int64_t k = 0; k < pq_shape_count(&in.shape); k++) x[k] = 60 * (x[k] + 2);
        round_trip(p, g, plan, &in);
        pq_tensor_clear(&in);
        pq_plan_free(plan);
        pq_graph_free(g);
    }
}

/* Corrected weights, with and without scales of their own. */
static void corrected_weights(void **state)
{
    place *p = *state;
    pq_graph *g = tiny_detector(p->ctx, TINY_YOLOX);
    pq_plan *plan = tiny_int8_plan(p->ctx, g, PQ_SCHEME_U8, 2);
    static const char *const name[] = {"down2.weight", "down3.weight", "down3.bias"};
    pq_tensor in;
    PQ_CHECK(p->ctx, pq_alloc(p->ctx, &plan->weight, 3, sizeof *plan->weight));
    for (size_t i = 0; i < 3; i++) {
        pq_plan_weight *w = &plan->weight[plan->n_weights++];
        const pq_value *v = &g->value[pq_graph_find_value(g, name[i])];
        PQ_CHECK(p->ctx, pq_strdup(p->ctx, &w->name, name[i]));
        PQ_CHECK(p->ctx, pq_tensor_new(p->ctx, &w->data, PQ_F32, &v->shape));
        const float *from = pq_buf_data(v->data);
        float *to = pq_tensor_data(&w->data);
        for (int64_t k = 0; k < pq_shape_count(&v->shape); k++) to[k] = 1.07f * from[k] + 0.01f;
        if (i != 0) continue;
        PQ_CHECK(p->ctx, pq_tensor_new(p->ctx, &w->scale, PQ_F32, &PQ_SHAPE(v->shape.dim[0])));
        float *scale = pq_tensor_data(&w->scale);
        for (int64_t k = 0; k < v->shape.dim[0]; k++) scale[k] = 0.002f + 0.0001f * (float)k;
    }
    graphs_input(&in, p->ctx, g, 6);
    round_trip(p, g, plan, &in);
    pq_tensor_clear(&in);
    pq_plan_free(plan);
    pq_graph_free(g);
}

/* A float plan changes nothing: the graph comes back with its hash. INT8 weights take a quarter. */
static void what_is_stored(void **state)
{
    place *p = *state;
    pq_graph *g = tiny_detector(p->ctx, TINY_DAMO), *g2;
    pq_plan *fp32, *plan2, *int8 = tiny_int8_plan(p->ctx, g, PQ_SCHEME_S8, 2);
    pq_buf *big, *small;
    PQ_CHECK(p->ctx, pq_plan_float(p->ctx, &fp32, g, PQ_PREC_FP32));
    PQ_CHECK(p->ctx, pq_pqe_save(p->ctx, p->path, g, fp32));
    PQ_CHECK(p->ctx, pq_pqe_load(p->ctx, &g2, &plan2, p->path));
    assert_string_equal(g->hash, g2->hash);
    assert_string_equal(g->family, g2->family);
    assert_int_equal(plan2->n_weights, 0);
    PQ_CHECK(p->ctx, pq_file_map(p->ctx, &big, p->path));
    pq_graph_free(g2);
    pq_plan_free(plan2);
    unlink(p->path);
    PQ_CHECK(p->ctx, pq_pqe_save(p->ctx, p->path, g, int8));
    PQ_CHECK(p->ctx, pq_file_map(p->ctx, &small, p->path));
    int64_t weights = 0;
    for (size_t i = 0; i < g->n_values; i++)
        if (g->value[i].data) weights += pq_shape_count(&g->value[i].shape);
    assert_true(pq_buf_bytes(big) - pq_buf_bytes(small) > (size_t)weights * 2);
    pq_buf_unref(big);
    pq_buf_unref(small);
    pq_plan_free(fp32);
    pq_plan_free(int8);
    pq_graph_free(g);
}

/* Every member of pq_attr goes through JSON and back, odd numbers too. */
static void all_attributes(void **state)
{
    place *p = *state;
    pq_attr a, b;
    memset(&a, 0, sizeof a);
    int64_t *const wide[] = {
        a.window.kernel, a.window.stride, a.window.dilation, a.window.pad, a.window.out_pad,
        a.axes,          a.perm,          a.begin,           a.step,       a.strides};
    const int n[] = {2, 2, 2, 4, 2, 8, 8, 8, 8, 8};
    for (int i = 0; i < 10; i++)
        for (int k = 0; k < n[i]; k++) wide[i][k] = k % 2 ? INT64_MIN + i : INT64_MAX - i;
    a.window.groups = 7, a.axis = -3;
    a.window.ceil_mode = a.window.count_include_pad = a.trans_a = a.trans_b = a.keepdims = true;
    a.act = PQ_ACT_HARD_SWISH, a.n_axes = 8, a.to = PQ_BF16, a.resize = PQ_RESIZE_LINEAR;
    a.coord = PQ_COORD_ALIGN_CORNERS, a.nearest = PQ_NEAREST_CEIL, a.levels = 8, a.reg_max = 16;
    a.alpha = -0.0f, a.beta = INFINITY, a.eps = 1e-3f, a.pad_value = -INFINITY;
    a.scale[0] = 0.1f, a.scale[1] = 1e-42f;
    cJSON *o = pqe_attr_json(&a);
    char *text = cJSON_PrintUnformatted(o);
    cJSON *again = cJSON_Parse(text);
    PQ_CHECK(p->ctx, pqe_attr_parse(p->ctx, &b, again, "x"));
    assert_memory_equal(&a, &b, sizeof a);
    cJSON_Delete(o);
    cJSON_Delete(again);
    cJSON_free(text);
    b = (pq_attr){.alpha = NAN};
    o = pqe_attr_json(&b);
    PQ_CHECK(p->ctx, pqe_attr_parse(p->ctx, &a, o, "x"));
    assert_true(isnan(a.alpha));
    cJSON_Delete(o);
}

/* ---- damage ---- */

typedef struct bytes {
    uint8_t *p;
    size_t n;
} bytes;

static bytes saved(place *p)
{
    pq_graph *g = tiny_detector(p->ctx, TINY_YOLOX);
    pq_plan *plan = tiny_int8_plan(p->ctx, g, PQ_SCHEME_U8, 2);
    pq_buf *file;
    bytes b;
    PQ_CHECK(p->ctx, pq_pqe_save(p->ctx, p->path, g, plan));
    PQ_CHECK(p->ctx, pq_file_map(p->ctx, &file, p->path));
    b.n = pq_buf_bytes(file);
    b.p = malloc(b.n);
    assert_non_null(b.p);
    memcpy(b.p, pq_buf_data(file), b.n);
    pq_buf_unref(file);
    pq_plan_free(plan);
    pq_graph_free(g);
    return b;
}

static pq_status load(place *p, const uint8_t *data, size_t n, pq_graph **g, pq_plan **plan)
{
    unlink(p->path);
    PQ_CHECK(p->ctx, pq_file_write(p->ctx, p->path, data, n));
    return pq_pqe_load(p->ctx, g, plan, p->path);
}

static void truncated_or_damaged(void **state)
{
    place *p = *state;
    bytes b = saved(p);
    pq_graph *g;
    pq_plan *plan;
    for (size_t n = 0; n < b.n; n += n < 300 ? 1 : b.n / 50) {
        assert_int_equal(load(p, b.p, n, &g, &plan), PQ_E_FORMAT);
        assert_null(g);
        assert_null(plan);
    }
    for (size_t at = 0; at < b.n; at += at < 300 ? 1 : b.n / 50) {
        if (at >= PQE_AT_HASH + 64 && at < PQE_PREAMBLE) continue; /* room to spare */
        b.p[at] ^= 0x10;
        assert_int_equal(load(p, b.p, b.n, &g, &plan), PQ_E_FORMAT);
        b.p[at] ^= 0x10;
    }
    free(b.p);
}

static void reseal(bytes *b)
{
    pq_sha256 sha;
    char hex[65];
    pq_sha256_init(&sha);
    pq_sha256_add(&sha, b->p + PQE_PREAMBLE, b->n - PQE_PREAMBLE);
    pq_sha256_hex(&sha, hex);
    memcpy(b->p + PQE_AT_HASH, hex, 64);
}

/* Loads, and where that succeeds compiles and runs: nothing may crash. */
static pq_status use(place *p, const bytes *b)
{
    pq_graph *g;
    pq_plan *plan;
    pq_session *s = NULL;
    pq_tensor *out = NULL, in = {0};
    pq_status st = load(p, b->p, b->n, &g, &plan);
    if (st == PQ_OK && pq_shape_count(&g->value[g->input[0]].shape) < 100000) {
        st = pq_compile(p->ctx, &s, &pq_engine_ref, g, plan, NULL);
        if (st == PQ_OK) st = pq_tensor_new(p->ctx, &in, PQ_F32, &s->input_shape[0]);
        if (st == PQ_OK) st = pq_session_outputs(p->ctx, &out, s);
        if (st == PQ_OK) st = pq_run(p->ctx, s, &in, 1, out, s->n_outputs);
        if (s) pq_session_outputs_free(out, s);
        pq_session_free(s);
        pq_tensor_clear(&in);
    }
    pq_plan_free(plan);
    pq_graph_free(g);
    if (st != PQ_OK) assert_true(pq_ctx_error(p->ctx)[0] && !strchr(pq_ctx_error(p->ctx), '\n'));
    return st;
}

/* Digits and letters of the header changed under a hash that is right. */
static void hostile_headers(void **state)
{
    place *p = *state;
    bytes b = saved(p);
    pq_rng rng = {3};
    const char *more = getenv("PQ_FUZZ_ROUNDS");
    const int rounds = more ? atoi(more) : 400;
    size_t n_header = 0;
    for (int i = 0; i < 8; i++) n_header |= (size_t)b.p[PQE_AT_HEADER + i] << 8 * i;
    int refused = 0;
    for (int r = 0; r < rounds; r++) {
        size_t at[3];
        uint8_t old[3];
        const int n = 1 + (int)pq_rng_below(&rng, 3);
        for (int k = 0; k < n; k++) {
            do at[k] = PQE_PREAMBLE + (size_t)pq_rng_below(&rng, n_header);
            while (b.p[at[k]] < '0' || b.p[at[k]] > '9');
            old[k] = b.p[at[k]];
            static const char digits[] = "0123456789-9e";
            b.p[at[k]] = (uint8_t)digits[pq_rng_below(&rng, sizeof digits - 1)];
        }
        reseal(&b);
        refused += use(p, &b) != PQ_OK;
        for (int k = n; k-- > 0;) b.p[at[k]] = old[k];
    }
    assert_true(refused > rounds / 4);
    reseal(&b);
    assert_int_equal(use(p, &b), PQ_OK);
    free(b.p);
}

/* One member of the header replaced by something wrong. */
static void wrong_members(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } c[] = {
        {"\"op\":\"Focus\"", "\"op\":\"Fokus\"", "no operator 'Fokus'"},
        {"\"dtype\":\"float32\"", "\"dtype\":\"float33\"", "no type 'float33'"},
        {"\"quant_index\":1,", "\"quant_index\":2,", "cannot be quantizable operator 2"},
        {"\"scheme\":\"u8\"", "\"scheme\":\"s8\"", "expected 0 to 0"},
        {"\"axis\":0", "\"axis\":9", "expected 0 to 3"},
        {"\"name\":\"down2\"", "\"name\":\"down3\"", "two nodes are called 'down3'"},
        {"\"base\":\"fp32\"", "\"base\":\"fp33\"", "precision 'fp33'"},
        {"\"act\":5", "\"act\":9", "expected 0 to 8"},
        {"\"inputs\":[0]", "\"inputs\":[1]", "is not made before it"},
        {"\"shape\":[1,3,64,64]", "\"shape\":[1,3,63,64]", ""},
    };
    place *p = *state;
    bytes b = saved(p);
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        const size_t n = strlen(c[i].from);
        uint8_t *at = NULL;
        for (size_t k = PQE_PREAMBLE; !at && k + n < b.n; k++)
            if (memcmp(b.p + k, c[i].from, n) == 0) at = b.p + k;
        if (!at) fail_msg("the header has no %s", c[i].from);
        memcpy(at, c[i].to, n);
        reseal(&b);
        PQ_CHECK_FAILS(p->ctx, use(p, &b), PQ_E_FORMAT, c[i].message);
        memcpy(at, c[i].from, n);
    }
    free(b.p);
}

static void places_that_cannot_be(void **state)
{
    place *p = *state;
    pq_graph *g = tiny_detector(p->ctx, TINY_YOLOX), *g2;
    pq_plan *plan;
    PQ_CHECK(p->ctx, pq_plan_float(p->ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK_FAILS(p->ctx, pq_pqe_save(p->ctx, "/no/such/folder/x.pqe", g, plan), PQ_E_IO,
                   "/no/such/folder/x.pqe");
    pq_plan_free(plan);
    PQ_CHECK_FAILS(p->ctx, pq_pqe_load(p->ctx, &g2, &plan, "/no/such/file.pqe"), PQ_E_IO,
                   "/no/such/file.pqe");
    pq_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(random_networks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(detectors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(corrected_weights, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_stored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_attributes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(truncated_or_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hostile_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_members, set_up, tear_down),
        cmocka_unit_test_setup_teardown(places_that_cannot_be, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
