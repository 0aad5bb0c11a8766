/* What goes wrong with a device, made to happen on the emulator: one line that says what and where,
 * and nothing held afterwards. And what measuring finds is found in its file again. */
#include "compare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emulator/emulator.h"

typedef struct net {
    pq_small s;
    pq_plan *plan;
    pq_tensor in;
} net;

/* Outputs: 18 anchors of 4 classes, and their boxes. */
static void begin(net *n)
{
    static const int64_t shape[3] = {1, 18, 4};
    pq_small_begin(&n->s, PQ_SHAPE(1, 3, 6, 6));
    const pq_small_window w = {.out = 8, .in = 3, .kernel = 3, .stride = 2, .pad = 1, .groups = 1};
    const pq_value_id x =
        pq_small_unary(&n->s, "tanh", PQ_OP_TANH, pq_small_conv(&n->s, "first", n->s.x, w));
    const pq_value_id in[2] = {x, pq_small_values(&n->s, "to", PQ_S64, PQ_SHAPE(3), shape)};
    const pq_value_id y[2] = {pq_small_node(&n->s, "scores", PQ_OP_RESHAPE, in, 2, NULL),
                              pq_small_node(&n->s, "boxes", PQ_OP_RESHAPE, in, 2, NULL)};
    pq_small_outputs(&n->s, y, 2);
    pq_graph_mark_quantizable(n->s.g);
    pq_graph_seal(n->s.g);
    PQ_CHECK(n->s.ctx, pq_plan_float(n->s.ctx, &n->plan, n->s.g, PQ_PREC_FP16));
    graphs_input(&n->in, n->s.ctx, n->s.g, 1);
}

static void end(net *n)
{
    pq_tensor_clear(&n->in);
    pq_plan_free(n->plan);
    pq_small_end(&n->s);
}

static pq_status compile_and_run(net *n)
{
    static const cu_force force = {.split = 1};
    static const uint8_t pixels[3 * 6 * 6];
    static const pq_picture picture = {.data = pixels,
                                       .w = 6,
                                       .h = 6,
                                       .channels = 3,
                                       .pixel = 3,
                                       .row = 18,
                                       .plane = 1,
                                       .fit_w = 6,
                                       .fit_h = 6};
    static const pq_pictures in = {.at = &picture, .n = 1, .scale = {1, 1, 1}};
    static const pq_suppression how = {
        .boxes_at = 1, .anchors = 18, .n_classes = 4, .iou = 0.5, .max_det = 4};
    pq_found found[4];
    uint32_t n_found;
    pq_ctx *ctx = n->s.ctx;
    pq_session *s = NULL;
    pq_tensor *out = NULL;
    pq_status st = cu_session_new(ctx, &s, n->s.g, n->plan, &(pq_compile_opts){0}, &force);
    if (st != PQ_OK) {
        assert_null(s);
        return st;
    }
    st = pq_session_outputs(ctx, &out, s);
    if (st == PQ_OK) st = pq_run(ctx, s, &n->in, 1, out, 2);
    if (st == PQ_OK) st = pq_run_pictures(ctx, s, &in, &how, found, &n_found);
    pq_session_outputs_free(out, s);
    pq_session_free(s);
    return st;
}

static void expect_unavailable(const char *text)
{
    pq_engine_info info;
    pq_ctx *ctx;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    assert_int_equal(pq_engine_cuda.probe(ctx, &info), PQ_E_UNAVAILABLE);
    assert_string_equal(pq_ctx_error(ctx), text);
    pq_ctx_free(ctx);
}

static void test_absent(void **state)
{
    const emulated_device as_it_is = emulated;
    (void)state;
    emulated.driver = 0;
    expect_unavailable("no NVIDIA driver");
    emulated.driver = 12080;
    expect_unavailable("the NVIDIA driver gives CUDA 12.8, expected 13.0 or later");
    emulated = as_it_is;
    emulated.devices = 0;
    expect_unavailable("no CUDA device: as the test asked");
    emulated = as_it_is;
    emulated.no_code = true;
    expect_unavailable("emulator has compute capability 9.0: no code for it in this build "
                       "(cudaErrorNoKernelImageForDevice)");
    emulated = as_it_is;
}

/* Each call in turn, until none is left to fail. */
static void test_every_call(void **state)
{
    net n;
    int k = 0;
    pq_status st = PQ_E_ENGINE;
    (void)state;
    begin(&n);
    for (k = 1; st != PQ_OK; k++) {
        assert_true(k < 500);
        emulated.fail_in = k;
        emulated.failure = k % 2 ? cudaErrorMemoryAllocation : cudaErrorLaunchFailure;
        st = compile_and_run(&n);
        if (emulated.fail_in > 0) assert_int_equal(st, PQ_OK); /* fewer calls than k */
        if (st != PQ_OK) {
            const char *text = pq_ctx_error(n.s.ctx);
            assert_null(strchr(text, '\n'));
            assert_true(strstr(text, "cuda") || strstr(text, "CUDA") || strstr(text, "code for"));
        }
        assert_int_equal(emulated.held, 0);
    }
    assert_true(k > 30);
    emulated.fail_in = 0;
    end(&n);
}

/* Fails each call until one's message is the wanted one. */
static void expect_one(net *n, cudaError_t failure, pq_status wanted, const char *text)
{
    pq_status st = PQ_E_ENGINE;
    for (int k = 1; st != PQ_OK; k++) {
        emulated.fail_in = k;
        emulated.failure = failure;
        st = compile_and_run(n);
        if (st != PQ_OK && strstr(pq_ctx_error(n->s.ctx), text)) {
            assert_int_equal(st, wanted);
            emulated.fail_in = 0;
            return;
        }
    }
    fail_msg("no error says '%s'", text);
}

static void test_messages(void **state)
{
    net n;
    (void)state;
    begin(&n);
    expect_one(&n, cudaErrorMemoryAllocation, PQ_E_NOMEM,
               "bytes for feature maps: cudaMalloc: cudaErrorMemoryAllocation (as the test asked)");
    expect_one(&n, cudaErrorMemoryAllocation, PQ_E_NOMEM,
               "576 bytes for candidates: cudaMalloc: cudaErrorMemoryAllocation");
    expect_one(&n, cudaErrorLaunchFailure, PQ_E_ENGINE,
               "suppressing boxes (grid 1 x 1, 512 threads, ");
    expect_one(&n, cudaErrorLaunchFailure, PQ_E_ENGINE,
               "node 'first' ([1, 3, 6, 6] to [1, 8, 3, 3], mma f16, grid 1 x 1 x 1, ");
    assert_int_equal(setenv("PQUANT_CUDA_SYNC", "1", 1), 0);
    expect_one(&n, cudaErrorLaunchFailure, PQ_E_ENGINE, "cudaStreamSynchronize: cudaErrorLaunch");
    expect_one(&n, cudaErrorLaunchFailure, PQ_E_ENGINE, "node 'tanh' ([1, 8, 3, 3]");
    assert_int_equal(unsetenv("PQUANT_CUDA_SYNC"), 0);
    end(&n);
}

static int launches_of_compiling(net *n)
{
    pq_session *s;
    const int before = emulated.launches;
    PQ_CHECK(n->s.ctx, cu_session_new(n->s.ctx, &s, n->s.g, n->plan, &(pq_compile_opts){0}, NULL));
    pq_session_free(s);
    return emulated.launches - before;
}

static void test_tuned_file(void **state)
{
    char path[64], line[512];
    net n;
    (void)state;
    snprintf(path, sizeof path, "/tmp/pquant_tuned.%ld", (long)getpid());
    begin(&n);
    assert_int_equal(setenv("PQUANT_CUDA_TUNED", path, 1), 0);
    assert_true(launches_of_compiling(&n) > 10);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_non_null(strstr(line, "emulator | f16 9 pixels of 6 x 6, 8 channels, "));
    assert_null(fgets(line, sizeof line, f)); /* one layer, one line */
    assert_int_equal(launches_of_compiling(&n), 0);
    /* A line cut short: measured again, and written behind it. */
    rewind(f);
    assert_true(fputs("emulator | f16 9 p", f) >= 0);
    assert_int_equal(ftruncate(fileno(f), 18), 0);
    assert_int_equal(fclose(f), 0);
    assert_true(launches_of_compiling(&n) > 10);
    assert_int_equal(launches_of_compiling(&n), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unsetenv("PQUANT_CUDA_TUNED"), 0);
    assert_true(launches_of_compiling(&n) > 10); /* and without a file by the process */
    assert_int_equal(launches_of_compiling(&n), 0);
    assert_int_equal(emulated.held, 0);
    end(&n);
}

/* The kernels of convolutions in a row, 1 x 1, from 16 channels on. */
static void kernels_of(const void **kernel, const int64_t *channels, size_t n)
{
    static const char *const name[] = {"a", "b"};
    pq_small s;
    pq_plan *plan;
    pq_session *session;
    size_t layers = 0;
    pq_small_begin(&s, PQ_SHAPE(1, channels[0], 9, 9));
    pq_value_id y = s.x;
    for (size_t i = 0; i < n; i++)
        y = pq_small_conv(&s, name[i], y, pq_small_same(channels[i], channels[i + 1], 1, 1));
    pq_small_outputs(&s, &y, 1);
    pq_graph_mark_quantizable(s.g);
    pq_graph_seal(s.g);
    PQ_CHECK(s.ctx, pq_plan_float(s.ctx, &plan, s.g, PQ_PREC_FP16));
    PQ_CHECK(s.ctx, cu_session_new(s.ctx, &session, s.g, plan, &(pq_compile_opts){0}, NULL));
    const cu_session *c = (const cu_session *)session;
    for (size_t i = 0; i < c->n_nodes; i++)
        if (c->node[i].kind >= 0 && layers < n) kernel[layers++] = c->node[i].kernel;
    assert_int_equal(layers, n);
    pq_session_free(session);
    pq_plan_free(plan);
    pq_small_end(&s);
}

/* On the emulator, too, a launch whose code is not that of the one before takes longer: two layers
 * that want different shapes alone want the same in a network. */
static void test_settled(void **state)
{
    static const int64_t channels[3] = {16, 32, 64};
    const void *together[2], *alone[2];
    char path[64];
    (void)state;
    kernels_of(together, channels, 2);
    snprintf(path, sizeof path, "/tmp/pquant_settled.%ld", (long)getpid());
    assert_int_equal(setenv("PQUANT_CUDA_TUNED", path, 1), 0); /* nothing is known again */
    kernels_of(&alone[0], channels, 1);
    kernels_of(&alone[1], channels + 1, 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unsetenv("PQUANT_CUDA_TUNED"), 0);
    assert_true(alone[0] != alone[1]);
    assert_true(together[0] == together[1]);
    assert_int_equal(emulated.held, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_absent), cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_tuned_file),
        cmocka_unit_test(test_settled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
