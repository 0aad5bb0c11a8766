/* Hostile ONNX bytes: cut off, mutated, nested, inflated. Nothing but an error may come of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pquant/pass.h>

#include "base/mem.h"
#include "base/rng.h"
#include "onnx_build.h"

static pq_ctx *ctx;

/* Some of everything: convolution, shape chain, slices, pool, resize, attributes of all kinds. */
static uint8_t *seed_model(size_t *n)
{
    static const float w[2 * 3 * 3 * 3];
    static const float scales[4] = {1, 1, 2, 2};
    model m;
    model_begin(&m, ctx, 13);
    model_input(&m, "x", PQ_ONNX_F32, DIMS(1, 3, 8, 8));
    model_output(&m, "y");
    model_const(&m, "w", PQ_ONNX_F32, DIMS(2, 3, 3, 3), w);
    model_const(&m, "scales", PQ_ONNX_F32, DIMS(4), scales);
    model_ints(&m, "zero", DIMS(0));
    model_ints(&m, "two", DIMS(2));
    model_ints(&m, "minus", DIMS(-1));
    Onnx__NodeProto *node = model_node(&m, "Conv", "conv", "x,w", "c");
    put_ints(&m, node, "pads", DIMS(1, 1, 1, 1));
    put_text(&m, node, "auto_pad", "NOTSET");
    node = model_node(&m, "MaxPool", "pool", "c", "p");
    put_ints(&m, node, "kernel_shape", DIMS(2, 2));
    put_ints(&m, node, "strides", DIMS(2, 2));
    model_node(&m, "Resize", "resize", "p,,scales", "r");
    model_node(&m, "Slice", "slice", "r,zero,two,two,two", "s");
    node = model_node(&m, "LeakyRelu", "leaky", "s", "l");
    put_float(&m, node, "alpha", 0.1f);
    model_node(&m, "Shape", "shape", "l", "sh");
    model_node(&m, "Gather", "gather", "sh,zero", "n");
    node = model_node(&m, "Concat", "concat", "n,minus", "to");
    put_int(&m, node, "axis", 0);
    model_node(&m, "Reshape", "reshape", "l,to", "y");
    uint8_t *p = model_bytes(&m, n);
    model_end(&m);
    return p;
}

/* Reads and, where that works, runs what would come next. */
static pq_status try_read(const uint8_t *data, size_t n)
{
    pq_graph *g;
    pq_status st = pq_read_onnx_memory(ctx, &g, data, n, NULL, NULL);
    if (st == PQ_OK) {
        assert_int_equal(pq_graph_verify(ctx, g), PQ_OK);
        st = pq_pass_fold_constants(ctx, NULL, g);
        if (st == PQ_OK) st = pq_graph_compact(ctx, g);
        if (st == PQ_OK) st = pq_graph_set_input_size(ctx, g, 1, 16, 16);
    }
    assert_true(st != PQ_E_INTERNAL);
    pq_graph_free(g);
    return st;
}

/* A copy of exactly n bytes, so that a sanitizer sees reads beyond the end. */
static uint8_t *copy_of(const uint8_t *data, size_t n)
{
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    memcpy(p, data, n);
    return p;
}

static void cut_off(void **state)
{
    size_t n;
    uint8_t *whole = seed_model(&n);
    (void)state;
    assert_int_equal(try_read(whole, n), PQ_OK);
    for (size_t k = 0; k < n; k++) {
        uint8_t *part = copy_of(whole, k);
        try_read(part, k);
        free(part);
    }
    pq_free(whole);
}

static void mutated(void **state)
{
    size_t n, refused = 0;
    uint8_t *whole = seed_model(&n);
    pq_rng rng = {20240607};
    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint8_t *p = copy_of(whole, n);
        const uint64_t edits = 1 + pq_rng_below(&rng, 4);
        for (uint64_t i = 0; i < edits; i++) {
            const size_t at = (size_t)pq_rng_below(&rng, n);
            const uint64_t kind = pq_rng_below(&rng, 3);
            if (kind == 0) p[at] = (uint8_t)pq_rng_u64(&rng);
            if (kind == 1) p[at] = (uint8_t)(p[at] ^ 1u << pq_rng_below(&rng, 8));
            if (kind == 2) p[at] = pq_rng_below(&rng, 2) ? 0xff : 0;
        }
        refused += try_read(p, n) != PQ_OK;
        free(p);
    }
    assert_true(refused > 1000);
    pq_free(whole);
}

/* graph -> node -> attribute -> graph -> …: each level is a tag and a length. */
static void nested(void **state)
{
    enum { LEVELS = 100000 };
    static const uint8_t tags[3] = {0x0a, 0x2a, 0x32}; /* node, attribute, g */
    uint8_t *p = malloc(8 * LEVELS + 16);
    (void)state;
    assert_non_null(p);
    size_t at = 8 * LEVELS + 16, n = 0;
    for (int i = LEVELS; i-- > 0;) { /* from the inside out */
        size_t len = n;
        uint8_t head[12];
        int k = 0;
        head[k++] = i == 0 ? 0x3a : tags[(i - 1) % 3];
        do {
            head[k++] = (uint8_t)((len & 0x7f) | (len > 0x7f ? 0x80 : 0));
            len >>= 7;
        } while (len);
        at -= (size_t)k;
        memcpy(p + at, head, (size_t)k);
        n += (size_t)k;
    }
    assert_int_equal(try_read(p + at, n), PQ_E_FORMAT);
    assert_non_null(strstr(pq_ctx_error(ctx), "nested too deeply"));
    free(p);
}

static void wire_format(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } rows[] = {
        {"\x3a\x7f", 2, "length beyond the end"},
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "more than 64 bits"},
        {"\x08\x80", 2, "cut off"},
        {"\x00\x00", 2, "field number"},
        {"\x0b\x0c", 2, "wire type"},
        {"\x3a\x00\x3a\x00", 4, "occurs twice"},
        {"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "length beyond the end"},
        {"\x3d\x00\x00\x00", 4, "length beyond the end"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *p = copy_of((const uint8_t *)rows[i].bytes, rows[i].n);
        assert_int_equal(try_read(p, rows[i].n), PQ_E_FORMAT);
        if (!strstr(pq_ctx_error(ctx), rows[i].message))
            fail_msg("row %zu: '%s'", i, pq_ctx_error(ctx));
        free(p);
    }
}

static void great_sizes(void **state)
{
    static const int64_t dims[][2] = {
        {INT64_MAX, 2}, {INT64_C(1) << 32, INT64_C(1) << 32}, {INT64_C(1) << 40, 3}};
    model m;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        pq_graph *g;
        model_begin(&m, ctx, 13);
        model_input(&m, "x", PQ_ONNX_F32, DIMS(1, 1));
        model_output(&m, "y");
        model_ints(&m, "s", 2, dims[i]);
        model_node(&m, "Expand", "n", "x,s", "y");
        assert_int_equal(model_read(&m, &g, NULL, NULL), PQ_E_FORMAT);
        assert_non_null(strstr(pq_ctx_error(ctx), "node 'n' (Expand): output 0 would have"));
        model_end(&m);
    }
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
        cmocka_unit_test(cut_off),     cmocka_unit_test(mutated),     cmocka_unit_test(nested),
        cmocka_unit_test(wire_format), cmocka_unit_test(great_sizes),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
