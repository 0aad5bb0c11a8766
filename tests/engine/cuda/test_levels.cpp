/* Rounding to levels without the instructions that convert, against rintf; a value in doubt gets
 * the level of the exact one. */
#include "engine/cuda/device.cuh"

#include <csetjmp>
#include <cstdarg>
#include <cstddef>

extern "C" {
#include <cmocka.h>

#include "base/rng.h"
#include "graph/eval.h"
}

enum { ROUNDS = 40000 };

static pq_rng rng = {12};

static float uniform(float lo, float hi) { return lo + (hi - lo) * (float)pq_rng_double(&rng); }

/* ref's step: rounded, ties to even, zero point, limits. */
static int plain(float y, float inv, const pq_cu_form &f)
{
    const float q = rintf(y * inv) + (float)f.zp;
    const float lo = f.dtype == PQ_S8 ? -128.0f : 0.0f, hi = f.dtype == PQ_S8 ? 127.0f : 255.0f;
    return (int)fmaxf(lo, fminf(hi, q));
}

static pq_cu_form random_form()
{
    const bool s8 = pq_rng_below(&rng, 2);
    const int zp = (int)pq_rng_below(&rng, 256) - (s8 ? 128 : 0);
    return {s8 ? PQ_S8 : PQ_U8, expf(uniform(-8, 3)), pq_rng_below(&rng, 3) ? zp : 0};
}

static int stored(const pq_cu_form &f, unsigned byte)
{
    return f.dtype == PQ_S8 ? (int)(int8_t)byte : (int)byte;
}

/* Inside and far outside of the range, on ties and beside them, and what is no number. */
static float odd_value(const pq_cu_form &f)
{
    const float tie = (float)((int)pq_rng_below(&rng, 600) - 300) + 0.5f;
    switch (pq_rng_below(&rng, 8)) {
    case 0: return tie * f.scale;
    case 1: return nextafterf(tie * f.scale, pq_rng_below(&rng, 2) ? 1e30f : -1e30f);
    case 2: return pq_rng_below(&rng, 2) ? INFINITY : -INFINITY;
    case 3: return uniform(-1e30f, 1e30f);
    case 4: return pq_rng_below(&rng, 2) ? -0.0f : NAN;
    default: return uniform(-300, 300) * f.scale;
    }
}

static void test_rounding(void **)
{
    for (int round = 0; round < ROUNDS; round++) {
        const pq_cu_form f = random_form();
        const float inv = 1.0f / f.scale;
        float y[8], t[8];
        for (int i = 0; i < 8; i++) t[i] = y[i] = odd_value(f);
        to_levels(f, inv, t);
        for (int i = 0; i < 8; i++) {
            const unsigned byte = bytes4(t + i / 4 * 4, f.zp) >> i % 4 * 8 & 255;
            const unsigned pair = bytes2(t[i], t[7 - i]);
            if (f.zp == 0) assert_int_equal(pair & 255, byte);
            if (f.zp == 0) assert_int_equal(stored(f, pair >> 8 & 255), plain(y[7 - i], inv, f));
            assert_int_equal(stored(f, byte), plain(y[i], inv, f));
            assert_true(t[i] - ROUNDING == (float)(plain(y[i], inv, f) - f.zp));
        }
    }
}

/* As ref's, to the last bit. */
static void test_activations(void **)
{
    const pq_act act[] = {PQ_ACT_SILU, PQ_ACT_SIGMOID, PQ_ACT_RELU, PQ_ACT_NONE};
    for (int round = 0; round < ROUNDS; round++) {
        const pq_act a = act[round % 4];
        float x[8], y[8];
        for (int i = 0; i < 8; i++)
            y[i] = x[i] = round % 16 < 4 ? uniform(-200, 200) : uniform(-8, 8);
        if (round % 64 < 4) y[0] = x[0] = NAN;
        activate({a, 0, 0}, true, y);
        for (int i = 0; i < 8; i++) {
            const float want = pq_eval_act(a, 0, 0, x[i]);
            assert_true(std::isnan(x[i]) ? std::isnan(y[i]) : y[i] == want);
        }
    }
}

static void test_reading(void **)
{
    alignas(16) uint8_t data[32]; /* as many as the widest form takes */
    for (int round = 0; round < ROUNDS; round++) {
        const pq_cu_form f = random_form();
        float y[8];
        for (uint8_t &b : data) b = (uint8_t)pq_rng_below(&rng, 256);
        load8(f, data, 0, y);
        for (int i = 0; i < 8; i++)
            assert_true(y[i] == (float)(stored(f, data[i]) - f.zp) * f.scale);
    }
}

/* SiLU by fast functions as far off as they may be, and ref's near ties: the same levels, whatever
 * the grid, up to the finest that may take this way; a residual's levels worth up to 7 of them. */
static void test_silu_levels(void **)
{
    int unlike_fast = 0;
    for (int round = 0; round < 50 * ROUNDS; round++) {
        const float inv = 512 * expf(uniform(-7, 0)), reach = expf(uniform(-2, 4));
        const float worth = round % 2 ? uniform(0, 7) : 0;
        float exact[4], fast[4];
        for (int i = 0; i < 4; i++)
            exact[i] = fast[i] = uniform(-reach, reach) + (round % 4 == 3 ? 128 * worth / inv : 0);
        silu_fast(fast);
        silu_exactly(exact);
        for (int i = 0; i < 4; i++) {
            const float r = uniform(-128, 127);
            fast[i] = fmaf(rintf(r), worth / inv, fast[i]);
            exact[i] = fmaf(rintf(r), worth / inv, exact[i]);
        }
        const float far = as_levels_near(-128, 127, inv, fast);
        as_levels(-128, 127, inv, exact);
        for (int i = 0; i < 4; i++) {
            if (far < 0.5f - 0x1p-12f * (1 + worth))
                assert_int_equal(__float_as_int(fast[i]), __float_as_int(exact[i]));
            unlike_fast += fast[i] != exact[i];
        }
    }
    assert_true(unlike_fast > 10); /* without its guard it would show */
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding), cmocka_unit_test(test_silu_levels),
        cmocka_unit_test(test_activations), cmocka_unit_test(test_reading)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
