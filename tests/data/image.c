/* Reading and writing pictures, sound and damaged. */
#include "pattern.h"

#include <spng.h>
#include <turbojpeg.h>

#include "base/hash.h"
#include "base/rng.h"

static void *slurp(test_env *e, const char *name, size_t *n)
{
    pq_buf *b;
    uint8_t *p;
    assert_ok(e->ctx, pq_file_map(e->ctx, &b, test_path(e, name)));
    *n = pq_buf_bytes(b);
    assert_ok(e->ctx, pq_alloc(e->ctx, &p, *n, 1));
    memcpy(p, pq_buf_data(b), *n);
    pq_buf_unref(b);
    return p;
}

static void png_round_trip(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 37, 23), back;
    assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, "a.PNG")));
    assert_ok(e->ctx, pq_image_load(e->ctx, &back, test_path(e, "a.PNG")));
    assert_int_equal(back.w, 37);
    assert_int_equal(back.h, 23);
    assert_memory_equal(back.data, im.data, 37 * 23 * 3);
    pq_image_clear(&im);
    pq_image_clear(&back);
}

static void jpeg_round_trip(void **state)
{
    test_env *e = *state;
    pq_image im = slope(e->ctx, 67, 45, 20), back;
    assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, "a.jpg")));
    assert_ok(e->ctx, pq_image_load(e->ctx, &back, test_path(e, "a.jpg")));
    assert_int_equal(back.w, 67);
    assert_int_equal(back.h, 45);
    for (int i = 0; i < 67 * 45 * 3; i++)
        if (abs(back.data[i] - im.data[i]) > 6)
            fail_msg("byte %d: %d, written %d", i, back.data[i], im.data[i]);
    pq_image_clear(&im);
    pq_image_clear(&back);
}

static void content_decides_not_the_name(void **state)
{
    test_env *e = *state;
    pq_image im = noise(e->ctx, 8, 8), back;
    assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, "a.png")));
    char from[256];
    snprintf(from, sizeof from, "%s", test_path(e, "a.png"));
    assert_int_equal(rename(from, test_path(e, "b.jpg")), 0);
    assert_ok(e->ctx, pq_image_load(e->ctx, &back, test_path(e, "b.jpg")));
    assert_memory_equal(back.data, im.data, 8 * 8 * 3);
    pq_image_clear(&im);
    pq_image_clear(&back);
}

/* Encode 2 x 1 samples as PNG of a colour type and depth and read them back. */
static void check_png(test_env *e, uint8_t type, uint8_t depth, const void *samples, size_t n,
                      const uint8_t expected[6])
{
    struct spng_ihdr head = {.width = 2, .height = 1, .bit_depth = depth, .color_type = type};
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    int err = 0;
    size_t bytes;
    pq_image im;
    assert_non_null(png);
    spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1);
    spng_set_ihdr(png, &head);
    assert_int_equal(spng_encode_image(png, samples, n, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
    void *file = spng_get_png_buffer(png, &bytes, &err);
    assert_non_null(file);
    assert_ok(e->ctx, pq_image_decode(e->ctx, &im, file, bytes, "made.png"));
    assert_memory_equal(im.data, expected, 6);
    pq_image_clear(&im);
    free(file);
    spng_ctx_free(png);
}

static void png_kinds(void **state)
{
    test_env *e = *state;
    const uint8_t grey[2] = {10, 250}, rgba[8] = {1, 2, 3, 0, 4, 5, 6, 255}, one = 0x40;
    const uint16_t grey16[2] = {0x12ff, 0xff00},
                   rgb16[6] = {0x01ff, 0x0200, 0x037f, 0x0480, 5, 0x06ff};
    check_png(e, SPNG_COLOR_TYPE_GRAYSCALE, 8, grey, 2, (uint8_t[]){10, 10, 10, 250, 250, 250});
    check_png(e, SPNG_COLOR_TYPE_GRAYSCALE, 1, &one, 1, (uint8_t[]){0, 0, 0, 255, 255, 255});
    check_png(e, SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 8, rgba, 8, (uint8_t[]){1, 2, 3, 4, 5, 6});
    check_png(e, SPNG_COLOR_TYPE_GRAYSCALE, 16, grey16, 4,
              (uint8_t[]){0x12, 0x12, 0x12, 0xff, 0xff, 0xff});
    check_png(e, SPNG_COLOR_TYPE_TRUECOLOR, 16, rgb16, 12, (uint8_t[]){1, 2, 3, 4, 0, 6});
}

/* One colour as JPEG in the given pixel format: what comes back as RGB. */
static void check_jpeg(test_env *e, int format, int n_channels, const uint8_t *colour, int sampling,
                       const uint8_t expected[3])
{
    uint8_t px[16 * 16 * 4];
    unsigned char *file = NULL;
    unsigned long bytes = 0;
    pq_image im;
    for (size_t i = 0; i < 256; i++)
        memcpy(px + i * (size_t)n_channels, colour, (size_t)n_channels);
    tjhandle tj = tjInitCompress();
    assert_int_equal(tjCompress2(tj, px, 16, 0, 16, format, &file, &bytes, sampling, 100, 0), 0);
    assert_ok(e->ctx, pq_image_decode(e->ctx, &im, file, bytes, "made.jpg"));
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++)
            if (abs(im.data[3 * i + c] - expected[c]) > 2)
                fail_msg("channel %d: %d, expected %d", c, im.data[3 * i + c], expected[c]);
    pq_image_clear(&im);
    tjFree(file);
    tjDestroy(tj);
}

static void jpeg_kinds(void **state)
{
    test_env *e = *state;
    const uint8_t grey[] = {77}, rgb[] = {200, 30, 90}, no_ink[] = {255, 255, 255, 255};
    const uint8_t black[] = {255, 255, 255, 0}, cmyk[] = {200, 100, 50, 128};
    check_jpeg(e, TJPF_GRAY, 1, grey, TJSAMP_GRAY, (uint8_t[]){77, 77, 77});
    check_jpeg(e, TJPF_RGB, 3, rgb, TJSAMP_420, rgb);
    check_jpeg(e, TJPF_CMYK, 4, no_ink, TJSAMP_444, (uint8_t[]){255, 255, 255});
    check_jpeg(e, TJPF_CMYK, 4, black, TJSAMP_444, (uint8_t[]){0, 0, 0});
    /* k - ((255 - c) * k >> 8) */
    check_jpeg(e, TJPF_CMYK, 4, cmyk, TJSAMP_444, (uint8_t[]){101, 51, 26});
}

static void other_files_are_refused(void **state)
{
    test_env *e = *state;
    pq_image im;
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "a.jpg"), "GIF89a....", 10));
    assert_fails(e->ctx, pq_image_load(e->ctx, &im, test_path(e, "a.jpg")), PQ_E_UNSUPPORTED,
                 "a.jpg: neither JPEG nor PNG");
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "b.jpg"), "", 0));
    assert_fails(e->ctx, pq_image_load(e->ctx, &im, test_path(e, "b.jpg")), PQ_E_FORMAT,
                 "b.jpg: empty file");
    assert_fails(e->ctx, pq_image_load(e->ctx, &im, test_path(e, "c.jpg")), PQ_E_IO, "c.jpg");
    assert_null(im.data);
    im = noise(e->ctx, 2, 2);
    assert_fails(e->ctx, pq_image_save(e->ctx, &im, test_path(e, "a.gif")), PQ_E_INVALID, "'.gif'");
    assert_fails(e->ctx, pq_image_save(e->ctx, &im, test_path(e, "none/a.png")), PQ_E_IO, "a.png");
    pq_image_clear(&im);
}

/* tail: bytes at the end without which nothing of the picture is lost. */
static void check_cuts(test_env *e, const char *name, size_t tail)
{
    size_t n;
    pq_image im = noise(e->ctx, 40, 30);
    assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, name)));
    pq_image_clear(&im);
    uint8_t *file = slurp(e, name, &n), *cut;
    for (size_t keep = 8; keep + tail < n; keep += keep < 700 || keep + 40 > n ? 1 : 37) {
        assert_ok(e->ctx, pq_alloc(e->ctx, &cut, keep, 1)); /* its own block: overreads show */
        memcpy(cut, file, keep);
        assert_fails(e->ctx, pq_image_decode(e->ctx, &im, cut, keep, name), PQ_E_FORMAT, name);
        assert_null(im.data);
        pq_free(cut);
    }
    pq_free(file);
}

static void cut_files_are_refused(void **state)
{
    check_cuts(*state, "cut.png", 4); /* the CRC of the empty last chunk */
    check_cuts(*state, "cut.jpg", 0);
}

static void check_damage(test_env *e, const char *name)
{
    size_t n;
    pq_rng r = {7};
    pq_image im = noise(e->ctx, 24, 24);
    assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, name)));
    pq_image_clear(&im);
    uint8_t *file = slurp(e, name, &n);
    for (int i = 0; i < 2000; i++) {
        const size_t at = 3 + (size_t)pq_rng_below(&r, (i & 1) && n > 700 ? 697 : n - 3);
        const uint8_t old = file[at];
        file[at] = (uint8_t)pq_rng_u64(&r);
        const pq_status st = pq_image_decode(e->ctx, &im, file, n, name);
        if (st != PQ_OK && st != PQ_E_FORMAT && st != PQ_E_UNSUPPORTED)
            fail_msg("byte %zu: %s", at, pq_ctx_error(e->ctx));
        pq_image_clear(&im);
        file[at] = old;
    }
    pq_free(file);
}

static void damage_never_crashes(void **state)
{
    check_damage(*state, "damaged.png");
    check_damage(*state, "damaged.jpg");
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void absurd_sizes_are_refused(void **state)
{
    test_env *e = *state;
    size_t n;
    pq_image im = noise(e->ctx, 4, 4);
    assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, "a.png")));
    assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, "a.jpg")));
    pq_image_clear(&im);
    uint8_t *png = slurp(e, "a.png", &n);
    put32(png + 16, 40000); /* width and height stand first in IHDR */
    put32(png + 20, 40000);
    put32(png + 29, pq_crc32(0, png + 12, 17));
    assert_fails(e->ctx, pq_image_decode(e->ctx, &im, png, n, "big.png"), PQ_E_UNSUPPORTED,
                 "big.png: 40000 x 40000 pixels");
    pq_free(png);
    uint8_t *jpeg = slurp(e, "a.jpg", &n);
    size_t at = 0;
    while (at + 9 < n && !(jpeg[at] == 0xff && jpeg[at + 1] == 0xc0)) at++;
    memset(jpeg + at + 5, 0xfd, 4); /* height and width in the frame header */
    assert_fails(e->ctx, pq_image_decode(e->ctx, &im, jpeg, n, "big.jpg"), PQ_E_UNSUPPORTED,
                 "big.jpg: 65021 x 65021 pixels");
    pq_free(jpeg);
}

static void memory_runs_out(void **state)
{
    test_env *e = *state;
    static const char *const name[] = {"a.png", "a.jpg"};
    for (int i = 0; i < 2; i++) {
        pq_image im = noise(e->ctx, 9, 9);
        pq_status st = PQ_E_NOMEM;
        assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, name[i])));
        pq_image_clear(&im);
        for (long n = 1; st == PQ_E_NOMEM; n++) {
            pq_mem_fail_after(n);
            st = pq_image_load(e->ctx, &im, test_path(e, name[i]));
            pq_mem_fail_after(0);
        }
        assert_int_equal(st, PQ_OK);
        pq_image_clear(&im);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(png_round_trip),
        test_case(jpeg_round_trip),
        test_case(content_decides_not_the_name),
        test_case(png_kinds),
        test_case(jpeg_kinds),
        test_case(other_files_are_refused),
        test_case(cut_files_are_refused),
        test_case(damage_never_crashes),
        test_case(absurd_sizes_are_refused),
        test_case(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
