/* Dtypes, shapes, buffers, conversions, comparison. */
#include "../base/testing.h"

#include <math.h>
#include <pquant/tensor.h>

static float f16(uint32_t h) { return pq_f16_to_f32((uint16_t)h); }
static float bf16(uint32_t h) { return pq_bf16_to_f32((uint16_t)h); }

/* Every half that is a number survives the round trip; every NaN stays one. */
static void halves_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        if (isnan(f16(h)) != ((h & 0x7c00) == 0x7c00 && (h & 0x3ff))) fail_msg("f16 %x", h);
        if (isnan(f16(h)) ? !isnan(f16(pq_f32_to_f16(f16(h)))) : pq_f32_to_f16(f16(h)) != h)
            fail_msg("f16 %x -> %g -> %x", h, (double)f16(h), pq_f32_to_f16(f16(h)));
        if (isnan(bf16(h)) ? !isnan(bf16(pq_f32_to_bf16(bf16(h)))) : pq_f32_to_bf16(bf16(h)) != h)
            fail_msg("bf16 %x -> %g -> %x", h, (double)bf16(h), pq_f32_to_bf16(bf16(h)));
    }
}

/* Between neighbours a < b: the midpoint goes to the even one, its float neighbours to the near
 * one. */
static void check_rounding(float (*widen)(uint32_t), uint16_t (*narrow)(float), uint32_t a)
{
    const float lo = widen(a), hi = widen(a + 1), mid = lo / 2 + hi / 2;
    const uint32_t even = a & 1 ? a + 1 : a;
    if (narrow(mid) != even || narrow(nextafterf(mid, lo)) != a ||
        narrow(nextafterf(mid, hi)) != a + 1 || narrow(-mid) != (even | 0x8000u))
        fail_msg("rounding between %x and its neighbour", a);
}

static uint16_t to_bf16(float f) { return pq_f32_to_bf16(f); }

static void halves_round_to_even(void **state)
{
    (void)state;
    for (uint32_t a = 0; a < 0x7bff; a++) check_rounding(f16, pq_f32_to_f16, a);
    for (uint32_t a = 0x100; a < 0x7f7f; a++) check_rounding(bf16, to_bf16, a);
}

static void halves_overflow_to_infinity(void **state)
{
    (void)state;
    assert_int_equal(pq_f32_to_f16(65504.0f), 0x7bff);
    assert_int_equal(pq_f32_to_f16(nextafterf(65520.0f, 0)), 0x7bff);
    assert_int_equal(pq_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(pq_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(pq_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(pq_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(pq_f32_to_f16(nextafterf(0x1p-25f, 1)), 1);
    assert_int_equal(pq_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(pq_f32_to_bf16(3.4e38f), 0x7f80);
    assert_true(isnan(bf16(pq_f32_to_bf16(NAN))));
    assert_true(isnan(f16(pq_f32_to_f16(NAN))));
}

static void shapes(void **state)
{
    (void)state;
    char text[64], small[8];
    pq_shape s = PQ_SHAPE(1, 3, 640, 640), scalar = {0};
    assert_int_equal(pq_shape_count(&s), 3 * 640 * 640);
    assert_int_equal(pq_shape_count(&scalar), 1);
    assert_string_equal(pq_shape_text(&s, text, sizeof text), "[1, 3, 640, 640]");
    assert_string_equal(pq_shape_text(&scalar, text, sizeof text), "[]");
    pq_shape_text(&s, small, sizeof small);
    assert_true(strlen(small) < sizeof small);
    pq_shape other = PQ_SHAPE(1, 3, 640);
    assert_false(pq_shape_equal(&s, &other));
    s.dim[2] = -1;
    assert_int_equal(pq_shape_count(&s), -1);
    s = PQ_SHAPE(INT64_MAX, 2);
    assert_int_equal(pq_shape_count(&s), -1);
    s = PQ_SHAPE(0, 5);
    assert_int_equal(pq_shape_count(&s), 0);
}

static void tensors(void **state)
{
    test_env *e = *state;
    pq_tensor t = {0};
    pq_shape s = PQ_SHAPE(2, 3), bad = PQ_SHAPE(INT64_MAX, INT64_MAX);
    assert_ok(e->ctx, pq_tensor_new(e->ctx, &t, PQ_S32, &s));
    assert_int_equal(pq_buf_bytes(t.buf), 24);
    for (int i = 0; i < 6; i++) assert_int_equal(((int32_t *)pq_tensor_data(&t))[i], 0);
    pq_tensor_clear(&t);
    pq_tensor_clear(&t);
    assert_null(pq_tensor_data(&t));
    assert_fails(e->ctx, pq_tensor_new(e->ctx, &t, PQ_F32, &bad), PQ_E_INVALID,
                 "no tensor can have");
}

static void count_release(void *user) { ++*(int *)user; }

static void buffers_are_counted(void **state)
{
    test_env *e = *state;
    int released = 0, foreign[4] = {1, 2, 3, 4};
    pq_buf *b;
    assert_ok(e->ctx, pq_buf_wrap(e->ctx, &b, foreign, sizeof foreign, count_release, &released));
    assert_ptr_equal(pq_buf_ref(b), b);
    pq_buf_unref(b);
    assert_int_equal(released, 0);
    pq_buf_unref(b);
    assert_int_equal(released, 1);
    pq_buf_unref(NULL);
    assert_null(pq_buf_ref(NULL));
}

static void elements_of_every_dtype(void **state)
{
    (void)state;
    const float f = -2.5f;
    const double d = 1e-300;
    const int8_t s8 = -7;
    const uint8_t u8 = 200, yes = 3;
    const int16_t s16 = -300;
    const int32_t s32 = -70000;
    const int64_t s64 = 1LL << 40;
    const uint16_t h = 0x3c00, b = 0x3f80;
    assert_true(pq_element(PQ_F32, &f, 0) == -2.5);
    assert_true(pq_element(PQ_F64, &d, 0) == 1e-300);
    assert_true(pq_element(PQ_S8, &s8, 0) == -7);
    assert_true(pq_element(PQ_U8, &u8, 0) == 200);
    assert_true(pq_element(PQ_S16, &s16, 0) == -300);
    assert_true(pq_element(PQ_S32, &s32, 0) == -70000);
    assert_true(pq_element(PQ_S64, &s64, 0) == (double)s64);
    assert_true(pq_element(PQ_F16, &h, 0) == 1);
    assert_true(pq_element(PQ_BF16, &b, 0) == 1);
    assert_true(pq_element(PQ_BOOL, &yes, 0) == 1);
    assert_true(isnan(pq_element(PQ_DTYPE_COUNT, &f, 0)));
    float out[2];
    pq_to_f32(out, PQ_S16, &s16, 1);
    assert_true(out[0] == -300);
    pq_to_f32(out, PQ_F32, &f, 1);
    assert_true(out[0] == -2.5f);
    for (int t = 0; t < PQ_DTYPE_COUNT; t++) {
        assert_true(pq_dtype_size((pq_dtype)t) >= 1);
        assert_string_not_equal(pq_dtype_name((pq_dtype)t), "?");
    }
    assert_string_equal(pq_dtype_name(PQ_DTYPE_COUNT), "?");
}

static void comparing(void **state)
{
    (void)state;
    const float a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 6}, n[4] = {1, NAN, 3, 4};
    pq_compare c = pq_compare_f32(a, b, 4);
    assert_true(c.max_abs == 2 && c.mean_abs == 0.5 && c.mse == 1);
    assert_true(fabs(c.sqnr_db - 10 * log10(30.0 / 4)) < 1e-12);
    assert_true(isinf(pq_compare_f32(a, a, 4).sqnr_db));
    c = pq_compare_f32(a, n, 4); /* a NaN never looks like a match */
    assert_true(isnan(c.max_abs) && isnan(c.mse) && isnan(c.sqnr_db));
    assert_true(pq_compare_f32(a, b, 0).max_abs == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(halves_round_trip),
        test_case(halves_round_to_even),
        test_case(halves_overflow_to_infinity),
        test_case(shapes),
        test_case(tensors),
        test_case(buffers_are_counted),
        test_case(elements_of_every_dtype),
        test_case(comparing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
