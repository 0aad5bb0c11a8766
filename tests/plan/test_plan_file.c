/* plan.json and its weights: what is saved is what is loaded, bit for bit; what is wrong is refused
 * with a message, and damaged bytes never crash. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pquant/plan.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "support/check.h"

static pq_ctx *ctx;
static char dir[64], path[96], weights[112];

static int begin(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/pquant-test-XXXXXX");
    if (pq_ctx_new(&ctx) != PQ_OK || !mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/p.json", dir);
    snprintf(weights, sizeof weights, "%s/p.weights.safetensors", dir);
    return 0;
}
static int end(void **state)
{
    (void)state;
    unlink(path);
    unlink(weights);
    rmdir(dir);
    pq_ctx_free(ctx);
    return 0;
}

static char *text(const char *s)
{
    char *copy;
    PQ_CHECK(ctx, pq_strdup(ctx, &copy, s));
    return copy;
}

static void fill(pq_tensor *t, pq_shape shape, uint32_t sign, pq_rng *rng)
{
    PQ_CHECK(ctx, pq_tensor_new(ctx, t, PQ_F32, &shape));
    for (int64_t i = 0; i < pq_shape_count(&shape); i++) {
        uint32_t bits = (uint32_t)pq_rng_u64(rng);
        if ((bits & 0x7f800000u) == 0x7f800000u) bits &= 0xbfffffffu; /* finite */
        bits &= 0x7fffffffu | sign;
        memcpy((float *)pq_tensor_data(t) + i, &bits, 4);
    }
}

static pq_plan *make(bool corrected)
{
    pq_rng rng = {11};
    pq_plan *p;
    PQ_CHECK(ctx, pq_alloc(ctx, &p, 1, sizeof *p));
    memset(p->graph_hash, 'a', 64);
    p->scheme = PQ_SCHEME_U8;
    p->base = PQ_PREC_BF16;
    p->rounds_outputs = true;
    p->n_nodes = 3;
    PQ_CHECK(ctx, pq_alloc(ctx, &p->node, 3, sizeof *p->node));
    for (int i = 0; i < 3; i++)
        p->node[i] = (pq_plan_node){text(i ? i == 1 ? "b \"quoted\" \\ \xc3\xa9" : "c" : "a"),
                                    text("Conv"), i < 2, i ? PQ_PREC_INT8 : PQ_PREC_FP32};
    p->n_tensors = 200;
    PQ_CHECK(ctx, pq_alloc(ctx, &p->tensor, p->n_tensors, sizeof *p->tensor));
    for (size_t i = 0; i < p->n_tensors; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", (int)i);
        p->tensor[i] =
            (pq_plan_tensor){text(name), PQ_U8, (float)exp(40 * pq_rng_double(&rng) - 30),
                             (int32_t)pq_rng_below(&rng, 256)};
    }
    if (!corrected) return p;
    p->n_weights = 3;
    PQ_CHECK(ctx, pq_alloc(ctx, &p->weight, 3, sizeof *p->weight));
    for (int i = 0; i < 3; i++) {
        p->weight[i].name = text(i ? i == 1 ? "w1" : "bias" : "w0");
        fill(&p->weight[i].data, i == 2 ? PQ_SHAPE(5) : PQ_SHAPE(5, 2, 3, 3), 1u << 31, &rng);
        if (i == 1) fill(&p->weight[i].scale, PQ_SHAPE(5), 0, &rng);
    }
    return p;
}

static void assert_tensors_equal(const pq_tensor *a, const pq_tensor *b)
{
    assert_int_equal(a->buf == NULL, b->buf == NULL);
    if (!a->buf) return;
    assert_true(pq_shape_equal(&a->shape, &b->shape));
    assert_memory_equal(pq_tensor_data(a), pq_tensor_data(b),
                        (size_t)pq_shape_count(&a->shape) * sizeof(float));
}

static void assert_plans_equal(const pq_plan *a, const pq_plan *b)
{
    assert_string_equal(a->graph_hash, b->graph_hash);
    assert_int_equal(a->scheme, b->scheme);
    assert_int_equal(a->base, b->base);
    assert_int_equal(a->rounds_outputs, b->rounds_outputs);
    assert_int_equal(a->n_nodes, b->n_nodes);
    for (size_t i = 0; i < a->n_nodes; i++) {
        assert_string_equal(a->node[i].name, b->node[i].name);
        assert_string_equal(a->node[i].type, b->node[i].type);
        assert_int_equal(a->node[i].quantizable, b->node[i].quantizable);
        assert_int_equal(a->node[i].precision, b->node[i].precision);
    }
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        assert_string_equal(a->tensor[i].name, b->tensor[i].name);
        assert_memory_equal(&a->tensor[i].scale, &b->tensor[i].scale, 4);
        assert_int_equal(a->tensor[i].zero_point, b->tensor[i].zero_point);
        assert_int_equal(a->tensor[i].dtype, b->tensor[i].dtype);
    }
    assert_int_equal(a->n_weights, b->n_weights);
    for (size_t i = 0; i < a->n_weights; i++) {
        assert_string_equal(a->weight[i].name, b->weight[i].name);
        assert_tensors_equal(&a->weight[i].data, &b->weight[i].data);
        assert_tensors_equal(&a->weight[i].scale, &b->weight[i].scale);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int corrected = 0; corrected < 2; corrected++) {
        pq_plan *p = make(corrected), *q;
        PQ_CHECK(ctx, pq_plan_save(ctx, p, path));
        assert_int_equal(pq_file_exists(weights), corrected);
        PQ_CHECK(ctx, pq_plan_load(ctx, &q, path));
        assert_plans_equal(p, q);
        pq_plan_free(q);
        pq_plan_free(p);
    }
}

/* A copy of a file with `from` replaced by `to` (same or another length) everywhere. */
static void edit(const char *file, const char *from, const char *to)
{
    pq_buf *b;
    PQ_CHECK(ctx, pq_file_map(ctx, &b, file));
    const char *s = pq_buf_data(b);
    const size_t n = pq_buf_bytes(b), f = strlen(from), t = strlen(to);
    char *out;
    size_t at = 0, edits = 0;
    PQ_CHECK(ctx, pq_alloc(ctx, &out, n * (1 + t), 1));
    for (size_t i = 0; i < n;)
        if (i + f <= n && memcmp(s + i, from, f) == 0) {
            memcpy(out + at, to, t);
            at += t;
            i += f;
            edits++;
        } else
            out[at++] = s[i++];
    assert_true(edits > 0);
    pq_buf_unref(b);
    PQ_CHECK(ctx, pq_file_write(ctx, file, out, at));
    pq_free(out);
}

static void assert_refused(const char *from, const char *to, pq_status status, const char *message)
{
    pq_plan *p = make(true), *q;
    PQ_CHECK(ctx, pq_plan_save(ctx, p, path));
    edit(path, from, to);
    PQ_CHECK_FAILS(ctx, pq_plan_load(ctx, &q, path), status, message);
    assert_null(q);
    pq_plan_free(p);
}

static void test_wrong_members(void **state)
{
    pq_plan *q;
    (void)state;
    PQ_CHECK_FAILS(ctx, pq_plan_load(ctx, &q, "/no/such/plan.json"), PQ_E_IO, "/no/such/plan.json");
    assert_refused("\"graph_hash\"", "\"graph_mash\"", PQ_E_FORMAT, "graph_hash");
    assert_refused("\"u8\"", "\"u9\"", PQ_E_FORMAT, "u9");
    assert_refused("\"u8\"", "\"s8\"", PQ_E_FORMAT, "dtype 'uint8', expected 'int8'");
    assert_refused("\"int8\"", "\"int4\"", PQ_E_INVALID, "int4");
    assert_refused("\"scale\":", "\"scale\": 0, \"was\":", PQ_E_FORMAT, "scale");
    assert_refused("\"zero_point\":", "\"zero_point\": 999, \"was\":", PQ_E_FORMAT, "zero point");
    assert_refused("\"tensors\":", "\"tensors\": {}, \"other\":", PQ_E_FORMAT, "tensors");
    assert_refused("p.weights.safetensors", "../w", PQ_E_FORMAT, "../w");
    assert_refused("p.weights.safetensors", "absent", PQ_E_IO, "absent");
    assert_refused("\"sha256\":", "\"sha256\": \"00\", \"was\":", PQ_E_FORMAT, "SHA-256");
    assert_refused("{", "{{", PQ_E_FORMAT, "not JSON");
}

/* Headers of the weights file that lie about sizes; the plan's hash is made to agree, so that the
 * parser sees them. */
static void test_hostile_weights(void **state)
{
    static const char two[] =
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"v@scale\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}";
    static const char *const header[] = {
        "{",
        "[]",
        "{\"w\":3}",
        "{\"w\":{}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[1e9,1e9,9],\"data_offsets\":[0,16]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[4,20]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-4,12]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[1e300,1e300]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
        "{\"w\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,8]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,4]}}",
        "{\"w@scale\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        two};
    (void)state;
    for (size_t i = 0; i < sizeof header / sizeof *header; i++) {
        uint8_t file[512] = {0};
        const size_t n = strlen(header[i]);
        pq_plan *p = make(true), *q;
        char hex[65], old[65];
        pq_sha256 hash;
        pq_buf *b;
        PQ_CHECK(ctx, pq_plan_save(ctx, p, path));
        PQ_CHECK(ctx, pq_file_map(ctx, &b, weights));
        pq_sha256_init(&hash);
        pq_sha256_add(&hash, pq_buf_data(b), pq_buf_bytes(b));
        pq_sha256_hex(&hash, old);
        pq_buf_unref(b);
        file[0] = (uint8_t)n;
        file[1] = (uint8_t)(n >> 8);
        memcpy(file + 8, header[i], n);
        PQ_CHECK(ctx, pq_file_write(ctx, weights, file, 8 + n + 16));
        pq_sha256_init(&hash);
        pq_sha256_add(&hash, file, 8 + n + 16);
        pq_sha256_hex(&hash, hex);
        edit(path, old, hex);
        const pq_status st = pq_plan_load(ctx, &q, path);
        if (st != PQ_E_FORMAT) fail_msg("%s: %s", header[i], pq_status_name(st));
        assert_null(q);
        pq_plan_free(p);
    }
}

/* Any byte changed, or the end cut off: a plan or a message. */
static void test_damaged(void **state)
{
    pq_rng rng = {5};
    pq_plan *p = make(false), *q;
    pq_buf *b;
    (void)state;
    PQ_CHECK(ctx, pq_plan_save(ctx, p, path));
    PQ_CHECK(ctx, pq_file_map(ctx, &b, path));
    const size_t n = pq_buf_bytes(b);
    uint8_t *copy;
    PQ_CHECK(ctx, pq_alloc(ctx, &copy, n, 1));
    for (int round = 0; round < 300; round++) {
        memcpy(copy, pq_buf_data(b), n);
        for (int k = 0; k < 3; k++) copy[pq_rng_below(&rng, n)] = (uint8_t)pq_rng_u64(&rng);
        PQ_CHECK(ctx, pq_file_write(ctx, path, copy, round % 3 ? n : pq_rng_below(&rng, n)));
        if (pq_plan_load(ctx, &q, path) == PQ_OK) pq_plan_free(q);
    }
    pq_free(copy);
    pq_buf_unref(b);
    pq_plan_free(p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {CASE(test_round_trip), CASE(test_wrong_members),
                                       CASE(test_hostile_weights), CASE(test_damaged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
