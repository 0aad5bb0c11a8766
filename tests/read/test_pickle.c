/* The pickle machine on hand-made bytes: what it reads, what it refuses, and that nothing makes it
 * crash. */
#include <string.h>

#include "base/rng.h"
#include "read/pickle.h"
#include "support/check.h"

static pq_ctx *ctx;
static pq_arena *arena;

static int setup(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) != PQ_OK || pq_arena_new(ctx, &arena) != PQ_OK;
}

static int teardown(void **state)
{
    (void)state;
    pq_arena_free(arena);
    pq_ctx_free(ctx);
    return 0;
}

static const pq_py *load(const char *bytes, size_t n)
{
    const pq_py *v;
    PQ_CHECK(ctx, pq_pickle_load(ctx, &v, arena, bytes, n));
    return v;
}
#define LOAD(text) load(text, sizeof text - 1)
#define REFUSED(text, status, message)                                                             \
    do {                                                                                           \
        const pq_py *v_;                                                                           \
        PQ_CHECK_FAILS(ctx, pq_pickle_load(ctx, &v_, arena, text, sizeof text - 1), status,        \
                       message);                                                                   \
        assert_null(v_);                                                                           \
    } while (0)

static void scalars(void **state)
{
    (void)state;
    assert_int_equal(LOAD("N.")->kind, PQ_PY_NONE);
    assert_int_equal(LOAD("\x80\2\x88.")->u.i, 1);
    assert_int_equal(LOAD("I01\n.")->kind, PQ_PY_BOOL);
    assert_int_equal(LOAD("I-5\n.")->u.i, -5);
    assert_int_equal(LOAD("L123L\n.")->u.i, 123);
    assert_int_equal(LOAD("K\xff.")->u.i, 255);
    assert_int_equal(LOAD("M\1\2.")->u.i, 513);
    assert_int_equal(LOAD("J\xfe\xff\xff\xff.")->u.i, -2);
    assert_int_equal(LOAD("\x8a\0.")->u.i, 0);
    assert_int_equal(LOAD("\x8a\3\0\0\x80.")->u.i, -8388608);
    assert_int_equal(LOAD("\x8b\1\0\0\0\x7f.")->u.i, 127);
    assert_true(LOAD("G\x3f\xf8\0\0\0\0\0\0.")->u.f == 1.5);
    assert_true(LOAD("F2.5\n.")->u.f == 2.5);
    assert_string_equal(LOAD("S'ab'\n.")->u.str.s, "ab");
    assert_string_equal(LOAD("Vab\n.")->u.str.s, "ab");
    assert_string_equal(LOAD("U\2ab.")->u.str.s, "ab");
    assert_string_equal(LOAD("X\2\0\0\0ab.")->u.str.s, "ab");
    assert_string_equal(LOAD("\x8c\2ab.")->u.str.s, "ab");
    assert_string_equal(LOAD("\x8d\2\0\0\0\0\0\0\0ab.")->u.str.s, "ab");
    assert_int_equal(LOAD("C\2ab.")->kind, PQ_PY_BYTES);
}

static void containers(void **state)
{
    (void)state;
    const pq_py *v = LOAD("\x80\4\x95\0\0\0\0\0\0\0\0]\x94(K\1K\2e.");
    assert_int_equal(v->kind, PQ_PY_LIST);
    assert_int_equal(v->u.seq.n, 2);
    v = LOAD("(K\1K\2t.");
    assert_int_equal(v->kind, PQ_PY_TUPLE);
    assert_int_equal(LOAD("K\1K\2K\3\x87.")->u.seq.n, 3);
    v = LOAD("}(X\1\0\0\0aK\1X\1\0\0\0bK\2X\1\0\0\0aK\3u.");
    assert_int_equal(pq_py_get(v, "a")->u.i, 3);
    assert_int_equal(pq_py_get(v, "b")->u.i, 2);
    assert_null(pq_py_get(v, "c"));
    v = LOAD("}X\1\0\0\0aK\7s.");
    assert_int_equal(pq_py_get(v, "a")->u.i, 7);
    v = LOAD("(X\1\0\0\0aK\7d.");
    assert_int_equal(pq_py_get(v, "a")->u.i, 7);
    /* an OrderedDict with attributes set on it */
    v = LOAD("ccollections\nOrderedDict\nq\0)R(X\1\0\0\0aK\7u}X\1\0\0\0mNsb.");
    assert_int_equal(pq_py_get(v, "a")->u.i, 7);
    v = LOAD("\x80\4\x8c\x0b"
             "collections\x8c\x0bOrderedDict\x93)\x81.");
    assert_int_equal(v->kind, PQ_PY_DICT);
    /* memo, and a list that holds itself */
    v = LOAD("]q\5h\5a.");
    assert_ptr_equal(v->u.seq.item[0], v);
    assert_int_equal(LOAD("K\1\x94K\2\x94"
                          "0h\0\x86.")
                         ->u.seq.item[1]
                         ->u.i,
                     1);
    assert_int_equal(LOAD("K\1p3\n0g3\n.")->u.i, 1);
    assert_int_equal(LOAD("(K\1K\2"
                          "1K\3.")
                         ->u.i,
                     3);
}

#define STORAGE                                                                                    \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                             \
    "0X\3\0\0\0cpuK\6tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("

static void tensors(void **state)
{
    (void)state;
    const pq_py *v = LOAD(REBUILD STORAGE "K\1K\2K\2\x86K\2K\1\x86\x89}tR.");
    assert_int_equal(v->kind, PQ_PY_TENSOR);
    const pq_py_tensor *t = v->u.tensor;
    assert_int_equal(t->dtype, PQ_F32);
    assert_int_equal(t->offset, 1);
    assert_true(pq_shape_equal(&t->shape, &PQ_SHAPE(2, 2)));
    assert_int_equal(t->stride[0], 2);
    assert_string_equal(t->storage->u.storage.key, "0");
    assert_int_equal(t->storage->u.storage.numel, 6);
    /* a parameter is its tensor */
    v = LOAD("ctorch._utils\n_rebuild_parameter\n(" REBUILD STORAGE "K\0))\x89}tR\x88}tR.");
    assert_int_equal(v->kind, PQ_PY_TENSOR);
    assert_int_equal(v->u.tensor->shape.rank, 0);

    REFUSED(REBUILD STORAGE "K\0K\2\x85)\x89}tR.", PQ_E_FORMAT, "1 dimensions with 0 strides");
    REFUSED(REBUILD STORAGE "K\0J\xff\xff\xff\xff\x85K\1\x85\x89}tR.", PQ_E_FORMAT, "size[0]");
    REFUSED(REBUILD STORAGE "J\xff\xff\xff\xff))\x89}tR.", PQ_E_FORMAT, "tensor is not");
    REFUSED(REBUILD "NK\0))\x89}tR.", PQ_E_FORMAT, "tensor is not");
    REFUSED(REBUILD STORAGE "tR.", PQ_E_FORMAT, "tensor is not");
    REFUSED(REBUILD STORAGE "K\0(KKKKKKKKKKKKKKKKKKt)\x89}tR.", PQ_E_UNSUPPORTED, "9 dimensions");
    REFUSED("NQ.", PQ_E_FORMAT, "persistent id");
    REFUSED("(X\7\0\0\0storageNX\1\0\0\0"
            "0NK\6tQ.",
            PQ_E_FORMAT, "persistent id");
}

static void foreign_globals(void **state)
{
    (void)state;
    REFUSED("cos\nsystem\n(X\2\0\0\0lstR.", PQ_E_UNSUPPORTED,
            "pickle global 'os.system': refused, only tensors and plain containers are read");
    REFUSED("\x80\4\x8c\5posix\x8c\6system\x93\x8c\2ls\x85R.", PQ_E_UNSUPPORTED, "'posix.system'");
    REFUSED("(ios\nsystem\n.", PQ_E_UNSUPPORTED, "'os.system'");
    REFUSED("(cos\nsystem\no.", PQ_E_UNSUPPORTED, "'os.system'");
    REFUSED("cbuiltins\neval\n.", PQ_E_UNSUPPORTED, "'builtins.eval'");
    REFUSED("ctorch\nFloatStorag\n.", PQ_E_UNSUPPORTED, "'torch.FloatStorag'");
    REFUSED("ctorch\nFloatStorageX\n.", PQ_E_UNSUPPORTED, "'torch.FloatStorageX'");
    REFUSED("c\n\n.", PQ_E_UNSUPPORTED, "'.'");
    /* known, but nothing to call */
    REFUSED("ctorch\nFloatStorage\n)R.", PQ_E_UNSUPPORTED, "call of 'torch FloatStorage'");
    REFUSED("ccollections\nOrderedDict\nNR.", PQ_E_FORMAT, "call of a global with None");
    REFUSED("N)R.", PQ_E_FORMAT, "call of None");
    REFUSED("\x82\1.", PQ_E_UNSUPPORTED, "opcode 0x82");
    REFUSED("P0\n.", PQ_E_UNSUPPORTED, "opcode 0x50");
    REFUSED("N}b.", PQ_E_FORMAT, "state set on None");
}

static void malformed(void **state)
{
    (void)state;
    REFUSED("", PQ_E_FORMAT, "truncated");
    REFUSED("N", PQ_E_FORMAT, "pickle byte 1: truncated");
    REFUSED(".", PQ_E_FORMAT, "empty stack");
    REFUSED("(.", PQ_E_FORMAT, "open container");
    REFUSED("\x80\7.", PQ_E_UNSUPPORTED, "protocol 7");
    REFUSED("X\xff\xff\xff\xff"
            "abc.",
            PQ_E_FORMAT, "truncated: 4294967295 bytes wanted, 4 left");
    REFUSED("\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", PQ_E_FORMAT, "truncated");
    REFUSED("\x8a\x09"
            "123456789.",
            PQ_E_UNSUPPORTED, "an integer of 9 bytes");
    REFUSED("cos", PQ_E_FORMAT, "end of line");
    REFUSED("h\0.", PQ_E_FORMAT, "memo index 0 was never stored");
    REFUSED("j\xff\xff\xff\xff.", PQ_E_FORMAT, "memo index 4294967295");
    REFUSED("Nr\xff\xff\xff\x7f.", PQ_E_FORMAT, "memo index 2147483647");
    REFUSED("Np99999999999999999999\n.", PQ_E_FORMAT, "is no index");
    REFUSED("q\0.", PQ_E_FORMAT, "empty stack");
    REFUSED("(q\0.", PQ_E_FORMAT, "empty stack");
    REFUSED("t.", PQ_E_FORMAT, "no mark");
    REFUSED("N(e.", PQ_E_FORMAT, "items for None");
    REFUSED(")a.", PQ_E_FORMAT, "empty stack");
    REFUSED("}(Nu.", PQ_E_FORMAT, "without value");
    REFUSED("}Ns.", PQ_E_FORMAT, "empty stack");
    REFUSED("Ns.", PQ_E_FORMAT, "fewer than 2");
    REFUSED("N(\x86.", PQ_E_FORMAT, "the stack has fewer");
    REFUSED("I12x\n.", PQ_E_FORMAT, "no 64-bit integer");
    REFUSED("I99999999999999999999\n.", PQ_E_FORMAT, "no 64-bit integer");
    REFUSED("S'ab\n.", PQ_E_FORMAT, "without quotes");
    REFUSED("S'a\\n'\n.", PQ_E_UNSUPPORTED, "escapes");
    REFUSED("\x93.", PQ_E_FORMAT, "empty stack");
    REFUSED("NN\x93.", PQ_E_FORMAT, "a global named by");
    REFUSED("\xff.", PQ_E_UNSUPPORTED, "opcode 0xff");
}

/* Depth costs no stack of ours: open marks are limited, nested values are not. */
static void depth(void **state)
{
    enum { N = 200000 };
    static char bytes[2 * N + 2];
    const pq_py *v;
    (void)state;
    memset(bytes, '(', N);
    PQ_CHECK_FAILS(ctx, pq_pickle_load(ctx, &v, arena, bytes, N), PQ_E_FORMAT, "deeper than 10000");
    bytes[0] = ')';
    memset(bytes + 1, '\x85', N);
    bytes[N + 1] = '.';
    PQ_CHECK(ctx, pq_pickle_load(ctx, &v, arena, bytes, N + 2));
    int levels = 0;
    for (; v->u.seq.n; v = v->u.seq.item[0]) levels++;
    assert_int_equal(levels, N);
}

/* A benign pickle with a few bytes changed, cut or repeated, some thousand times. */
static void fuzz(void **state)
{
    static const char seed[] =
        "\x80\2}q\0X\5\0\0\0modelq\1ccollections\nOrderedDict\nq\2)Rq\3(X\1\0\0\0aq\4" REBUILD
            STORAGE
        "K\0K\2K\3\x86q\5K\3K\1\x86\x89h\2)RtRX\1\0\0\0b](K\1M\1\1J\1\0\0\0G\0\0\0\0\0\0\0\0Ne"
        "X\1\0\0\0c}(X\1\0\0\0dK\1K\2\x86K\1K\2K\3\x87U\1xK\1\x8a\1\1uus.";
    pq_rng rng = {1};
    const pq_py *v;
    size_t good = 0;
    (void)state;
    assert_int_equal(load(seed, sizeof seed - 1)->kind, PQ_PY_DICT);
    for (int round = 0; round < 20000; round++) {
        char bytes[2 * sizeof seed];
        size_t n = sizeof seed - 1;
        pq_arena *own;
        PQ_CHECK(ctx, pq_arena_new(ctx, &own));
        memcpy(bytes, seed, n);
        for (uint64_t k = 1 + pq_rng_below(&rng, 4); k > 0; k--) {
            const size_t at = pq_rng_below(&rng, n), len = pq_rng_below(&rng, 16);
            switch (pq_rng_below(&rng, 5)) {
            case 0: bytes[at] = (char)pq_rng_u64(&rng); break;
            case 1: bytes[at] ^= (char)(1 << pq_rng_below(&rng, 8)); break;
            case 2: n = at + 1; break;
            case 3: /* an opcode from elsewhere */
                bytes[at] = seed[pq_rng_below(&rng, sizeof seed - 1)];
                break;
            default:
                if (n + len < sizeof bytes && at + len <= n) {
                    memmove(bytes + at + len, bytes + at, n - at);
                    n += len;
                }
            }
        }
        good += pq_pickle_load(ctx, &v, own, bytes, n) == PQ_OK;
        pq_arena_free(own);
    }
    assert_true(good > 0 && good < 20000);
}

static void out_of_memory(void **state)
{
    static const char bytes[] = "}(X\1\0\0\0a](K\1K\2eX\1\0\0\0bK\1K\2\x86q\0u.";
    (void)state;
    for (long n = 1;; n++) {
        const pq_py *v;
        pq_arena *own;
        PQ_CHECK(ctx, pq_arena_new(ctx, &own));
        pq_mem_fail_after(n);
        const pq_status st = pq_pickle_load(ctx, &v, own, bytes, sizeof bytes - 1);
        pq_mem_fail_after(0);
        pq_arena_free(own);
        if (st == PQ_OK) break;
        assert_int_equal(st, PQ_E_NOMEM);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars),   cmocka_unit_test(containers),
        cmocka_unit_test(tensors),   cmocka_unit_test(foreign_globals),
        cmocka_unit_test(malformed), cmocka_unit_test(depth),
        cmocka_unit_test(fuzz),      cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
