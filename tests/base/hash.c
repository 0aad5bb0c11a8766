/* SHA-256 and CRC-32 against published vectors. */
#include "testing.h"

#include "base/cpu.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/sha256.h"

static void sha(const char *text, size_t times, const char *expected)
{
    pq_sha256 s;
    char hex[65];
    pq_sha256_init(&s);
    for (size_t i = 0; i < times; i++) pq_sha256_add(&s, text, strlen(text));
    pq_sha256_hex(&s, hex);
    assert_string_equal(hex, expected);
}

/* FIPS 180-2, appendix B, and the empty message. */
static void sha256_vectors(void **state)
{
    (void)state;
    sha("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    sha("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* However a message is cut, its hash is the same: all lengths around the block size. */
static void sha256_pieces(void **state)
{
    (void)state;
    uint8_t data[200];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37);
    for (size_t n = 0; n <= sizeof data; n++) {
        char whole[65], pieces[65];
        pq_sha256 s;
        pq_sha256_init(&s);
        pq_sha256_add(&s, data, n);
        pq_sha256_hex(&s, whole);
        pq_sha256_init(&s);
        for (size_t i = 0, step = 1; i < n; i += step, step = step * 3 % 67 + 1) {
            if (step > n - i) step = n - i;
            pq_sha256_add(&s, data + i, step);
        }
        pq_sha256_hex(&s, pieces);
        assert_string_equal(whole, pieces);
    }
}

/* The processor's instructions give what plain C gives, from any state, at any alignment. */
static void sha256_instructions(void **state)
{
    (void)state;
    if (!pq_cpu_get()->sha) skip();
    static uint8_t data[64 * 40 + 16];
    pq_rng r = {7};
    for (int round = 0; round < 2000; round++) {
        uint32_t a[8], b[8];
        const size_t n = (size_t)pq_rng_below(&r, 40), at = (size_t)pq_rng_below(&r, 16);
        for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)pq_rng_u64(&r);
        for (int i = 0; i < 8; i++) a[i] = b[i] = (uint32_t)pq_rng_u64(&r);
        pq_sha256_blocks_c(a, data + at, n);
        pq_sha256_blocks_ni(b, data + at, n);
        assert_memory_equal(a, b, sizeof a);
    }
}

static void crc32_vectors(void **state)
{
    (void)state;
    assert_int_equal(pq_crc32(0, "", 0), 0);
    assert_int_equal(pq_crc32(0, "123456789", 9), 0xcbf43926u);
    assert_int_equal(pq_crc32(pq_crc32(0, "1234", 4), "56789", 5), 0xcbf43926u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_case(sha256_vectors), test_case(sha256_pieces),
                                       test_case(sha256_instructions), test_case(crc32_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
