/* State dicts through zip files: written and read back, forged, truncated, mutated. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "export/pth.h"
#include "read/pth.h"
#include "read/zip.h"
#include "support/check.h"

static pq_ctx *ctx;
static char folder[] = "/tmp/pquant_test_XXXXXX";
static char path[128];

static int setup(void **state)
{
    (void)state;
    if (pq_ctx_new(&ctx) != PQ_OK || !mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/state.pth", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    rmdir(folder);
    pq_ctx_free(ctx);
    return 0;
}

/* ---- files ---- */

typedef struct member {
    const char *name;
    const void *data;
    size_t bytes;
} member;

static pq_buf *zip_of(const member *m, size_t n, int method)
{
    zip_error_t e;
    zip_error_init(&e);
    zip_source_t *src = zip_source_buffer_create(NULL, 0, 0, &e);
    zip_source_keep(src);
    zip_t *za = zip_open_from_source(src, ZIP_TRUNCATE, &e);
    assert_non_null(za);
    for (size_t i = 0; i < n; i++) {
        zip_source_t *s = zip_source_buffer(za, m[i].data, m[i].bytes, 0);
        const zip_int64_t at = zip_file_add(za, m[i].name, s, 0);
        assert_true(at >= 0);
        assert_int_equal(zip_set_file_compression(za, (zip_uint64_t)at, method, 0), 0);
    }
    assert_int_equal(zip_close(za), 0);
    pq_buf *out;
    zip_stat_t st;
    assert_int_equal(zip_source_stat(src, &st), 0);
    PQ_CHECK(ctx, pq_buf_new(ctx, &out, (size_t)st.size));
    assert_int_equal(zip_source_open(src), 0);
    assert_int_equal(zip_source_read(src, pq_buf_data(out), st.size), (zip_int64_t)st.size);
    zip_source_close(src);
    zip_source_free(src);
    return out;
}

/* {'model': {'w': tensor [2, 3] of storage '0'}} with the given dtype, offset and numel (K bytes).
 */
#define STATE(type, numel, offset, size, stride)                                                   \
    "\x80\2}X\5\0\0\0model}X\1\0\0\0w"                                                             \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\n" type "Storage\nX\1\0\0\0"      \
    "0X\3\0\0\0cpu" numel "tQ" offset size stride "\x89}tRss."
#define ROWS "K\2K\3\x86"
#define DENSE "K\3K\1\x86"

static pq_buf *checkpoint(const char *pkl, size_t n, const void *data, size_t bytes, int method)
{
    const member m[] = {
        {"any/data.pkl", pkl, n}, {"any/data/0", data, bytes}, {"any/version", "3\n", 2}};
    return zip_of(m, 3, method);
}

/* Read the one tensor 'w'. */
static pq_status read_w(pq_tensor *out, pq_buf *file)
{
    pq_state *s;
    memset(out, 0, sizeof *out);
    pq_status st = pq_state_parse(ctx, &s, file);
    if (st != PQ_OK) return st;
    const pq_state_entry *e = pq_state_find(s, "w");
    assert_non_null(e);
    st = pq_state_tensor(ctx, out, s, e);
    pq_state_free(s);
    return st;
}

/* ---- tests ---- */

static void round_trip(void **state)
{
    static const char *const names[] = {"b.weight", "a.bias", "scale", "empty"};
    const pq_shape shapes[] = {PQ_SHAPE(2, 3, 1, 1), PQ_SHAPE(5), {0, {0}}, PQ_SHAPE(0, 3)};
    pq_tensor t[4], back;
    pq_state *s;
    (void)state;
    for (int i = 0; i < 4; i++) {
        PQ_CHECK(ctx, pq_tensor_new(ctx, &t[i], PQ_F32, &shapes[i]));
        for (int64_t k = 0; k < pq_shape_count(&shapes[i]); k++)
            ((float *)pq_tensor_data(&t[i]))[k] = (float)k * 0.37f - (float)i;
    }
    PQ_CHECK(ctx, pq_pth_write(ctx, path, names, t, 4));
    PQ_CHECK(ctx, pq_state_load(ctx, &s, path));
    assert_int_equal(pq_state_count(s), 4);
    assert_string_equal(pq_state_at(s, 0)->name, "a.bias");
    for (int i = 0; i < 4; i++) {
        PQ_CHECK(ctx, pq_state_tensor(ctx, &back, s, pq_state_find(s, names[i])));
        assert_true(pq_shape_equal(&back.shape, &shapes[i]));
        assert_memory_equal(pq_tensor_data(&back), pq_tensor_data(&t[i]),
                            (size_t)pq_shape_count(&shapes[i]) * sizeof(float));
        pq_tensor_clear(&back);
    }
    assert_null(pq_state_find(s, "c"));
    pq_state_free(s);
    t[1].dtype = PQ_S32;
    PQ_CHECK_FAILS(ctx, pq_pth_write(ctx, path, names, t, 4), PQ_E_INVALID, "'a.bias' is int32");
    t[1].dtype = PQ_F32;
    PQ_CHECK_FAILS(ctx, pq_pth_write(ctx, "/nonexistent/x.pth", names, t, 4), PQ_E_IO,
                   "/nonexistent");
    PQ_CHECK_FAILS(ctx, pq_state_load(ctx, &s, "/nonexistent/x.pth"), PQ_E_IO, "/nonexistent");
    for (int i = 0; i < 4; i++) pq_tensor_clear(&t[i]);
}

static void element_types(void **state)
{
    static const float f32[6] = {1, -2, 0.5f, 65504, -1e-3f, 0};
    static const double f64[6] = {1, -2, 0.5, 65504, -1e-3, 0};
    static const int64_t s64[6] = {1, -2, 3, INT64_MAX, 5, 6};
    static const uint8_t u8[6] = {1, 254, 3, 4, 5, 6};
    uint16_t f16[6], bf16[6];
    pq_tensor t;
    (void)state;
    for (int i = 0; i < 6; i++) f16[i] = pq_f32_to_f16(f32[i]), bf16[i] = pq_f32_to_bf16(f32[i]);
    f16[5] = 1; /* the least subnormal */
#define READ(type, array)                                                                          \
    do {                                                                                           \
        pq_buf *b_ = checkpoint(STATE(type, "K\6", "K\0", ROWS, DENSE),                            \
                                sizeof STATE(type, "K\6", "K\0", ROWS, DENSE) - 1, array,          \
                                sizeof array, ZIP_CM_DEFLATE);                                     \
        PQ_CHECK(ctx, read_w(&t, b_));                                                             \
        pq_buf_unref(b_);                                                                          \
        assert_true(pq_shape_equal(&t.shape, &PQ_SHAPE(2, 3)));                                    \
    } while (0)
    READ("Float", f32);
    assert_int_equal(t.dtype, PQ_F32);
    assert_memory_equal(pq_tensor_data(&t), f32, sizeof f32);
    pq_tensor_clear(&t);
    READ("Double", f64);
    assert_memory_equal(pq_tensor_data(&t), f32, sizeof f32);
    pq_tensor_clear(&t);
    READ("Half", f16);
    for (int i = 0; i < 6; i++)
        assert_true(((float *)pq_tensor_data(&t))[i] == pq_f16_to_f32(f16[i]));
    pq_tensor_clear(&t);
    READ("BFloat16", bf16);
    for (int i = 0; i < 6; i++)
        assert_true(((float *)pq_tensor_data(&t))[i] == pq_bf16_to_f32(bf16[i]));
    pq_tensor_clear(&t);
    READ("Long", s64);
    assert_int_equal(t.dtype, PQ_S64);
    assert_memory_equal(pq_tensor_data(&t), s64, sizeof s64);
    pq_tensor_clear(&t);
    READ("Byte", u8);
    assert_int_equal(t.dtype, PQ_S64);
    assert_int_equal(((int64_t *)pq_tensor_data(&t))[1], 254);
    pq_tensor_clear(&t);
#undef READ
}

#define EXPECT(pkl, data, bytes, status, message)                                                  \
    do {                                                                                           \
        pq_tensor t_;                                                                              \
        pq_buf *b_ = checkpoint(pkl, sizeof pkl - 1, data, bytes, ZIP_CM_STORE);                   \
        PQ_CHECK_FAILS(ctx, read_w(&t_, b_), status, message);                                     \
        pq_buf_unref(b_);                                                                          \
    } while (0)

static void views(void **state)
{
    static const float f[8] = {0, 1, 2, 3, 4, 5, 6, 7}, turned[6] = {1, 3, 5, 2, 4, 6};
    static const char pkl[] = STATE("Float", "K\x08", "K\1", ROWS, "K\1K\2\x86");
    pq_tensor t;
    (void)state;
    pq_buf *b = checkpoint(pkl, sizeof pkl - 1, f, sizeof f, ZIP_CM_STORE);
    PQ_CHECK(ctx, read_w(&t, b));
    assert_memory_equal(pq_tensor_data(&t), turned, sizeof turned);
    pq_tensor_clear(&t);
    pq_buf_unref(b);
    EXPECT(STATE("Float", "K\x08", "K\3", ROWS, DENSE), f, sizeof f, PQ_E_FORMAT,
           "tensor 'w': shape [2, 3] at element 3 lies outside its storage of 8 elements");
    EXPECT(STATE("Float", "K\x08", "K\0", ROWS, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\1\x86"),
           f, sizeof f, PQ_E_FORMAT, "lies outside");
    EXPECT(STATE("Float", "K\x08", "K\0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\3\x86", DENSE),
           f, sizeof f, PQ_E_FORMAT, "lies outside");
    EXPECT(STATE("Float", "K\x08", "K\0", "\x8a\5\0\0\0\0\1K\3\x86", "K\0K\0\x86"), f, sizeof f,
           PQ_E_UNSUPPORTED, "expanded tensor");
    EXPECT(STATE("Float", "K\x09", "K\0", ROWS, DENSE), f, sizeof f, PQ_E_FORMAT,
           "storage '0' has 32 bytes, expected 36");
    EXPECT(STATE("Float", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\0", ROWS, DENSE), f,
           sizeof f, PQ_E_FORMAT, "storage '0' of 9223372036854775807 elements");
}

static void not_finite(void **state)
{
    const float f[6] = {0, 1, NAN, 3, 4, 5}, g[6] = {0, 1, 2, 3, 4, -INFINITY};
    const uint16_t h[6] = {0, 0x7c00};
    const double d[6] = {0, 0, 0, 1e300};
    (void)state;
    EXPECT(STATE("Float", "K\6", "K\0", ROWS, DENSE), f, sizeof f, PQ_E_FORMAT,
           "tensor 'w': element 2 is nan");
    EXPECT(STATE("Float", "K\6", "K\0", ROWS, DENSE), g, sizeof g, PQ_E_FORMAT,
           "element 5 is -inf");
    EXPECT(STATE("Half", "K\6", "K\0", ROWS, DENSE), h, sizeof h, PQ_E_FORMAT, "element 1 is inf");
    EXPECT(STATE("Double", "K\6", "K\0", ROWS, DENSE), d, sizeof d, PQ_E_FORMAT,
           "element 3 is 1e+300, too large");
}

static void expect_parse(pq_buf *b, pq_status st, const char *message)
{
    pq_state *s;
    PQ_CHECK_FAILS(ctx, pq_state_parse(ctx, &s, b), st, message);
    assert_null(s);
    pq_buf_unref(b);
}

static pq_buf *bytes_of(const char *p, size_t n)
{
    pq_buf *b;
    PQ_CHECK(ctx, pq_buf_new(ctx, &b, n));
    memcpy(pq_buf_data(b), p, n);
    return b;
}

static void wrong_files(void **state)
{
    const member big[] = {{"a/data.pkl", "}.", 2}, {"a/byteorder", "big", 3}};
    const member none[] = {{"a/b/data.pkl", "}.", 2}};
    const member list[] = {{"data.pkl", "].", 2}};
    const member empty[] = {{"a/data.pkl", "}X\1\0\0\0aK\1s.", 11}};
    const member code[] = {{"a/data.pkl", "cos\nsystem\n.", 12}};
    (void)state;
    expect_parse(zip_of(big, 2, ZIP_CM_STORE), PQ_E_UNSUPPORTED, "byte order 'big'");
    expect_parse(zip_of(none, 1, ZIP_CM_STORE), PQ_E_FORMAT, "without data.pkl");
    expect_parse(zip_of(list, 1, ZIP_CM_STORE), PQ_E_FORMAT, "holds a list");
    expect_parse(zip_of(empty, 1, ZIP_CM_STORE), PQ_E_FORMAT, "no tensors among");
    expect_parse(zip_of(code, 1, ZIP_CM_STORE), PQ_E_UNSUPPORTED, "'os.system'");
    expect_parse(bytes_of("\x80\2\x8a\x0al\xfc\x9c", 7), PQ_E_UNSUPPORTED, "before PyTorch 1.6");
    expect_parse(bytes_of("", 0), PQ_E_FORMAT, "no zip archive");
    expect_parse(bytes_of("PK\3\4", 4), PQ_E_FORMAT, "zip archive of 4 bytes");
}

/* Position of a little-endian signature. */
static uint8_t *find_bytes(pq_buf *b, const char *what, size_t n, int nth)
{
    uint8_t *p = pq_buf_data(b);
    for (size_t i = 0; i + n <= pq_buf_bytes(b); i++)
        if (memcmp(p + i, what, n) == 0 && nth-- == 0) return p + i;
    fail_msg("no such bytes");
    return NULL;
}

/* The second member's size in the central directory becomes 0xfffffff0. */
static void forged_sizes(void **state)
{
    static const char pkl[] = STATE("Float", "K\6", "K\0", ROWS, DENSE);
    static const float f[6] = {0};
    pq_tensor t;
    (void)state;
    for (int method = 0; method < 2; method++)
        for (int field = 20; field <= 24; field += 4) { /* compressed size, size */
            pq_buf *b = checkpoint(pkl, sizeof pkl - 1, f, sizeof f,
                                   method ? ZIP_CM_DEFLATE : ZIP_CM_STORE);
            uint8_t *entry = find_bytes(b, "PK\1\2", 4, 1);
            memcpy(entry + field, "\xf0\xff\xff\xff", 4);
            assert_int_equal(read_w(&t, b), PQ_E_FORMAT);
            pq_buf_unref(b);
        }
    /* a byte of the data: the checksum tells */
    pq_buf *b = checkpoint(pkl, sizeof pkl - 1, f, sizeof f, ZIP_CM_STORE);
    uint8_t *entry = find_bytes(b, "any/data/0", 10, 0);
    entry[10 + 3] ^= 1;
    PQ_CHECK_FAILS(ctx, read_w(&t, b), PQ_E_FORMAT, "any/data/0");
    pq_buf_unref(b);
}

/* Read everything there is. */
static void drain(pq_buf *b)
{
    pq_state *s;
    if (pq_state_parse(ctx, &s, b) != PQ_OK) return;
    for (size_t i = 0; i < pq_state_count(s); i++) {
        pq_tensor t;
        if (pq_state_tensor(ctx, &t, s, pq_state_at(s, i)) == PQ_OK) pq_tensor_clear(&t);
    }
    pq_state_free(s);
}

static void fuzz_archive(void **state)
{
    static const char pkl[] = STATE("Float", "K\6", "K\0", ROWS, DENSE);
    static const float f[6] = {1, 2, 3, 4, 5, 6};
    pq_rng rng = {2};
    (void)state;
    for (int method = 0; method < 2; method++) {
        pq_buf *seed =
            checkpoint(pkl, sizeof pkl - 1, f, sizeof f, method ? ZIP_CM_DEFLATE : ZIP_CM_STORE);
        for (int round = 0; round < 3000; round++) {
            size_t n = pq_buf_bytes(seed);
            if (pq_rng_below(&rng, 8) == 0) n = pq_rng_below(&rng, n);
            pq_buf *b = bytes_of(pq_buf_data(seed), n);
            uint8_t *p = pq_buf_data(b);
            for (uint64_t k = pq_rng_below(&rng, 6); k > 0 && n; k--) {
                const size_t at = pq_rng_below(&rng, n);
                const uint64_t flip =
                    pq_rng_below(&rng, 2) ? 1u << pq_rng_below(&rng, 8) : pq_rng_u64(&rng);
                p[at] = (uint8_t)((p[at] ^ flip) & 0xff);
            }
            drain(b);
            pq_buf_unref(b);
        }
        pq_buf_unref(seed);
    }
}

/* The same with a whole archive around a changed pickle, so that the tensors' numbers are reached.
 */
static void fuzz_numbers(void **state)
{
    static const char pkl[] = STATE("Float", "K\6", "K\0", ROWS, DENSE);
    static const float f[6] = {1, 2, 3, 4, 5, 6};
    pq_rng rng = {3};
    (void)state;
    for (int round = 0; round < 2000; round++) {
        char bytes[sizeof pkl];
        memcpy(bytes, pkl, sizeof pkl);
        for (uint64_t k = 1 + pq_rng_below(&rng, 3); k > 0; k--)
            bytes[30 + pq_rng_below(&rng, sizeof pkl - 31)] = (char)pq_rng_u64(&rng);
        pq_buf *b = checkpoint(bytes, sizeof pkl - 1, f, sizeof f, ZIP_CM_STORE);
        drain(b);
        pq_buf_unref(b);
    }
}

static void names(void **state)
{
    pq_state *s;
    pq_tensor t;
    (void)state;
    PQ_CHECK(ctx, pq_state_new(ctx, &s));
    for (int i = 0; i < 3; i++) {
        static const char *const name[] = {"module.b", "a", "b"};
        PQ_CHECK(ctx, pq_tensor_new(ctx, &t, PQ_F32, &PQ_SHAPE(1 + i)));
        PQ_CHECK(ctx, pq_state_add(ctx, s, name[i], &t));
        pq_tensor_clear(&t);
    }
    pq_state_sort(s);
    assert_int_equal(pq_state_count(s), 2);
    assert_int_equal(pq_state_find(s, "b")->shape.dim[0], 3); /* the last one wins */
    pq_state_free(s);
}

static void out_of_memory(void **state)
{
    static const char *const name[] = {"w"};
    const float f[6] = {1, 2, 3, 4, 5, 6};
    static const char pkl[] = STATE("Half", "K\6", "K\0", ROWS, "K\1K\2\x86");
    pq_buf *b = checkpoint(pkl, sizeof pkl - 1, f, sizeof f, ZIP_CM_STORE);
    pq_tensor t;
    pq_status st = PQ_E_NOMEM;
    (void)state;
    for (long n = 1; st != PQ_OK; n++) {
        assert_true(n < 200);
        pq_mem_fail_after(n);
        st = read_w(&t, b);
        pq_mem_fail_after(0);
        assert_true(st == PQ_OK || st == PQ_E_NOMEM);
    }
    st = PQ_E_NOMEM;
    for (long n = 1; st != PQ_OK; n++) {
        assert_true(n < 200);
        pq_mem_fail_after(n);
        st = pq_pth_write(ctx, path, name, &t, 1);
        pq_mem_fail_after(0);
        assert_true(st == PQ_OK || st == PQ_E_NOMEM);
    }
    pq_tensor_clear(&t);
    pq_buf_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),   cmocka_unit_test(element_types),
        cmocka_unit_test(views),        cmocka_unit_test(not_finite),
        cmocka_unit_test(wrong_files),  cmocka_unit_test(forged_sizes),
        cmocka_unit_test(fuzz_archive), cmocka_unit_test(fuzz_numbers),
        cmocka_unit_test(names),        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
