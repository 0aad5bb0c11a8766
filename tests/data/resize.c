/* Resizing against OpenCV. */
#include "pattern.h"

#include "base/hash.h"

/* CRC-32 of cv2.resize(noise, (W, H), interpolation=cv2.INTER_LINEAR), OpenCV 5.0.0. */
static const struct {
    int w, h, to_w, to_h;
    uint32_t crc;
} opencv[] = {{640, 480, 640, 640, 0xac68d357u},  {480, 640, 640, 640, 0xf9c40454u},
              {333, 500, 416, 416, 0xcd921f2bu},  {100, 75, 640, 640, 0xfbf1fcc0u},
              {1280, 960, 640, 480, 0x6a1ffe62u}, {640, 427, 416, 277, 0x11c75144u},
              {64, 64, 64, 64, 0x63b5fec0u},      {1, 1, 7, 5, 0xd3f6eaf1u},
              {2, 3, 9, 1, 0x0e9d3b14u},          {5, 7, 1, 1, 0x83cfbb92u},
              {31, 17, 62, 34, 0xa251f39cu},      {1000, 3, 10, 300, 0xdf05d091u},
              {1920, 1080, 640, 640, 0xdc69f2b0u}};

static void equals_opencv(void **state)
{
    test_env *e = *state;
    for (size_t i = 0; i < sizeof opencv / sizeof *opencv; i++) {
        pq_image im = noise(e->ctx, opencv[i].w, opencv[i].h), out;
        assert_ok(e->ctx, pq_image_resize(e->ctx, &out, &im, opencv[i].to_w, opencv[i].to_h));
        assert_int_equal(out.w, opencv[i].to_w);
        assert_int_equal(out.h, opencv[i].to_h);
        const uint32_t crc = pq_crc32(0, out.data, 3 * (size_t)out.w * (size_t)out.h);
        if (crc != opencv[i].crc)
            fail_msg("%d x %d to %d x %d: CRC %08x", opencv[i].w, opencv[i].h, out.w, out.h, crc);
        pq_image_clear(&im);
        pq_image_clear(&out);
    }
}

static void one_colour_stays(void **state)
{
    test_env *e = *state;
    pq_image im, out;
    assert_ok(e->ctx, pq_image_new(e->ctx, &im, 13, 9));
    memset(im.data, 255, 13 * 9 * 3);
    for (int n = 1; n < 60; n += 7) {
        assert_ok(e->ctx, pq_image_resize(e->ctx, &out, &im, n, 61 - n));
        for (int i = 0; i < n * (61 - n) * 3; i++) assert_int_equal(out.data[i], 255);
        pq_image_clear(&out);
    }
    pq_image_clear(&im);
}

static void absurd_sizes_are_refused(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 4, 4), out;
    assert_fails(e->ctx, pq_image_resize(e->ctx, &out, &im, 0, 4), PQ_E_INVALID, "0 x 4");
    assert_fails(e->ctx, pq_image_resize(e->ctx, &out, &im, -3, 4), PQ_E_INVALID, "-3 x 4");
    assert_fails(e->ctx, pq_image_resize(e->ctx, &out, &im, 1 << 20, 1 << 20), PQ_E_INVALID,
                 "no image can have");
    pq_image_clear(&im);
}

static void memory_runs_out(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 8, 8), out;
    pq_status st = PQ_E_NOMEM;
    for (long n = 1; st == PQ_E_NOMEM; n++) {
        pq_mem_fail_after(n);
        st = pq_image_resize(e->ctx, &out, &im, 5, 5);
        pq_mem_fail_after(0);
        if (st != PQ_OK) assert_null(out.data);
    }
    assert_int_equal(st, PQ_OK);
    pq_image_clear(&out);
    pq_image_clear(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_case(equals_opencv), test_case(one_colour_stays),
                                       test_case(absurd_sizes_are_refused),
                                       test_case(memory_runs_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
