/* The loader: order, batches, errors, stopping early. */
#include "pattern.h"

enum { IMAGES = 11, SIDE = 16, INPUT = 3 * SIDE * SIDE };

static const pq_prep prep = {.h = SIDE, .w = SIDE, .fit = PQ_FIT_LETTERBOX, .pad = 114};

/* Pictures of different sizes, named in order. */
static pq_dataset *pictures(test_env *e)
{
    pq_dataset *d;
    for (int i = 0; i < IMAGES; i++) {
        char name[32];
        pq_image im = slope(e->ctx, 10 + 3 * i, 40 - 2 * i, 20 * i);
        snprintf(name, sizeof name, "%03d.png", i);
        assert_ok(e->ctx, pq_image_save(e->ctx, &im, test_path(e, name)));
        pq_image_clear(&im);
    }
    assert_ok(e->ctx, pq_dataset_from_folder(e->ctx, &d, e->dir, 0));
    return d;
}

static void check_pictures(test_env *e, const pq_batch *b, const pq_dataset *d)
{
    assert_null(b->input);
    assert_null(b->geometry);
    for (size_t i = 0; i < b->n; i++) {
        pq_image im;
        assert_ok(e->ctx, pq_image_load(e->ctx, &im, d->sample[b->first + i].path));
        assert_int_equal(b->image[i].w, im.w);
        assert_int_equal(b->image[i].h, im.h);
        assert_memory_equal(b->image[i].data, im.data, (size_t)im.w * (size_t)im.h * 3);
        pq_image_clear(&im);
    }
}

static void check_batch(test_env *e, const pq_batch *b, const pq_dataset *d, size_t batch)
{
    const float *x = pq_tensor_data(b->input);
    assert_null(b->image);
    assert_int_equal(b->input->shape.dim[0], batch);
    for (size_t i = 0; i < b->n; i++) {
        float expected[INPUT];
        pq_geometry g;
        pq_image im;
        assert_ok(e->ctx, pq_image_load(e->ctx, &im, d->sample[b->first + i].path));
        assert_ok(e->ctx, pq_preprocess(e->ctx, expected, &g, &im, &prep));
        assert_memory_equal(x + i * INPUT, expected, sizeof expected);
        assert_int_equal(b->geometry[i].w, im.w);
        assert_true(b->geometry[i].sx == g.sx);
        pq_image_clear(&im);
    }
    for (size_t i = b->n * INPUT; i < batch * INPUT; i++) assert_true(x[i] == 0);
}

static void every_image_in_order(void **state)
{
    test_env *e = *state;
    pq_dataset *d = pictures(e);
    for (int k = 0; k <= 11; k++)
        for (size_t batch = 1; batch <= 12; batch += batch < 4 ? 1 : 7) {
            const int threads = k / 2;
            const bool prepared = k % 2;
            pq_loader *l;
            pq_batch b;
            size_t seen = 0;
            assert_ok(e->ctx,
                      pq_loader_open(e->ctx, &l, d, prepared ? &prep : NULL, batch, threads));
            do {
                assert_ok(e->ctx, pq_loader_next(e->ctx, &b, l));
                assert_int_equal(b.first < IMAGES ? b.first : IMAGES, seen);
                if (b.n && prepared) check_batch(e, &b, d, batch);
                if (b.n && !prepared) check_pictures(e, &b, d);
                seen += b.n;
            } while (b.n);
            assert_int_equal(seen, IMAGES);
            assert_ok(e->ctx, pq_loader_next(e->ctx, &b, l)); /* still at the end */
            assert_int_equal(b.n, 0);
            pq_loader_close(l);
        }
    pq_dataset_free(d);
}

static void a_bad_image_stops_its_batch(void **state)
{
    test_env *e = *state;
    pq_dataset *d = pictures(e);
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "007.png"), "broken", 6));
    unlink(test_path(e, "008.png"));
    for (int threads = 1; threads <= 4; threads++) {
        pq_loader *l;
        pq_batch b;
        assert_ok(e->ctx, pq_loader_open(e->ctx, &l, d, &prep, 3, threads));
        for (int i = 0; i < 2; i++) {
            assert_ok(e->ctx, pq_loader_next(e->ctx, &b, l));
            assert_int_equal(b.n, 3);
        }
        for (int i = 0; i < 2; i++) /* and stays so */
            assert_fails(e->ctx, pq_loader_next(e->ctx, &b, l), PQ_E_UNSUPPORTED, "007.png");
        pq_loader_close(l);
    }
    pq_dataset_free(d);
}

static void it_closes_at_any_time(void **state)
{
    test_env *e = *state;
    pq_dataset *d = pictures(e);
    for (int i = 0; i < 40; i++) {
        pq_loader *l;
        pq_batch b;
        assert_ok(e->ctx, pq_loader_open(e->ctx, &l, d, &prep, 2, 3));
        for (int k = 0; k < i % 4; k++) assert_ok(e->ctx, pq_loader_next(e->ctx, &b, l));
        pq_loader_close(l);
    }
    pq_loader_close(NULL);
    pq_dataset_free(d);
}

static void opening_can_fail(void **state)
{
    test_env *e = *state;
    pq_dataset *d = pictures(e), none = {0};
    const pq_prep flat = {.h = 0, .w = 4};
    pq_loader *l;
    pq_batch b;
    assert_fails(e->ctx, pq_loader_open(e->ctx, &l, d, &prep, 0, 1), PQ_E_INVALID, "batch 0");
    assert_fails(e->ctx, pq_loader_open(e->ctx, &l, d, &flat, 1, 1), PQ_E_INVALID, "4 x 0");
    assert_null(l);
    pq_status st = PQ_E_NOMEM;
    for (long n = 1; st == PQ_E_NOMEM; n++) {
        pq_mem_fail_after(n); /* the threads that start may run out too */
        st = pq_loader_open(e->ctx, &l, d, &prep, 2, 2);
        if (st == PQ_OK) st = pq_loader_next(e->ctx, &b, l);
        pq_loader_close(l);
        pq_mem_fail_after(0);
    }
    assert_int_equal(st, PQ_OK);
    assert_ok(e->ctx, pq_loader_open(e->ctx, &l, &none, &prep, 2, 2));
    assert_ok(e->ctx, pq_loader_next(e->ctx, &b, l));
    assert_int_equal(b.n, 0);
    pq_loader_close(l);
    pq_dataset_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(every_image_in_order), test_case(a_bad_image_stops_its_batch),
        test_case(it_closes_at_any_time), test_case(opening_can_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
