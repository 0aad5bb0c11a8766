/* Going on from the middle: from the state at every step the outputs are those of a whole run, bit
 * for bit; the common prefix of two plans is a place where that works across sessions; and a whole
 * run of cpu agrees with ref's. */
#include "graphs.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "engine/engines.h"

typedef struct setup {
    pq_small s;
    pq_tensor in;
    pq_ranges *ranges;
} setup;

static void begin(setup *u, uint64_t seed)
{
    graphs_random(&u->s, seed, 14);
    graphs_input(&u->in, u->s.ctx, u->s.g, seed);
    graphs_ranges(&u->ranges, u->s.ctx, u->s.g, &u->in);
}

static void end(setup *u)
{
    pq_ranges_free(u->ranges);
    pq_tensor_clear(&u->in);
    pq_small_end(&u->s);
}

static pq_session *session(setup *u, const pq_engine *e, double share, uint64_t seed)
{
    pq_plan *plan;
    pq_session *s;
    graphs_plan(&plan, u->s.ctx, u->s.g, u->ranges, e, share, PQ_SCHEME_U8, PQ_PREC_FP32, seed);
    PQ_CHECK(u->s.ctx, pq_compile(u->s.ctx, &s, e, u->s.g, plan, &(pq_compile_opts){.threads = 2}));
    pq_plan_free(plan);
    return s;
}

static pq_tensor *whole(setup *u, pq_session *s)
{
    pq_tensor *out;
    PQ_CHECK(u->s.ctx, pq_session_outputs(u->s.ctx, &out, s));
    PQ_CHECK(u->s.ctx, pq_run(u->s.ctx, s, &u->in, 1, out, s->n_outputs));
    return out;
}

static void assert_same(const pq_session *s, const pq_tensor *a, const pq_tensor *b)
{
    for (size_t i = 0; i < s->n_outputs; i++)
        assert_memory_equal(pq_tensor_data(&a[i]), pq_tensor_data(&b[i]), pq_buf_bytes(a[i].buf));
}

/* Runs s from step `at` of `owner`'s run and compares with `want`. */
static void resume(setup *u, pq_session *owner, pq_session *s, size_t at, const pq_tensor *want)
{
    pq_ctx *ctx = u->s.ctx;
    const pq_engine *e = s->engine;
    void *state;
    pq_tensor *out;
    PQ_CHECK(ctx, pq_alloc(ctx, &state, e->state_bytes(owner, at), 1));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, s));
    PQ_CHECK(ctx, e->run_part(ctx, owner, 0, at, NULL, NULL, state, &u->in, 1, NULL, 0));
    PQ_CHECK(ctx,
             e->run_part(ctx, s, at, s->n_steps, owner, state, NULL, &u->in, 1, out, s->n_outputs));
    assert_same(s, out, want);
    pq_session_outputs_free(out, s);
    pq_free(state);
}

static void every_step(const pq_engine *e)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        setup u;
        begin(&u, seed);
        pq_session *s = session(&u, e, seed % 3 ? 0.7 : 0, seed);
        pq_tensor *want = whole(&u, s);
        assert_int_equal(e->common_prefix(s, s), s->n_steps);
        for (size_t at = 1; at < s->n_steps; at++) resume(&u, s, s, at, want);
        pq_session_outputs_free(want, s);
        pq_session_free(s);
        end(&u);
    }
}

static void two_plans(const pq_engine *e)
{
    size_t shared = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        setup u;
        begin(&u, seed);
        pq_session *a = session(&u, e, seed % 2 ? 0 : 1, seed), *b = session(&u, e, 0.5, seed + 9);
        const size_t n = e->common_prefix(a, b);
        assert_true(n <= a->n_steps && n <= b->n_steps);
        shared += n;
        if (n > 0 && n < b->n_steps) {
            pq_tensor *want = whole(&u, b);
            resume(&u, a, b, n, want);
            pq_session_outputs_free(want, b);
        }
        pq_session_free(a);
        pq_session_free(b);
        end(&u);
    }
    assert_true(shared > 0);
}

static void test_every_step_ref(void **state)
{
    (void)state;
    every_step(&pq_engine_ref);
}
static void test_every_step_cpu(void **state)
{
    (void)state;
    every_step(&pq_engine_cpu);
}
static void test_two_plans_ref(void **state)
{
    (void)state;
    two_plans(&pq_engine_ref);
}
static void test_two_plans_cpu(void **state)
{
    (void)state;
    two_plans(&pq_engine_cpu);
}

/* Memory reuse, aliases and layouts of the whole: float32 within 1e-4 of the largest output; INT8
 * at 30 dB or better, since one level of difference early on may move many later. */
static void test_whole(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        setup u;
        begin(&u, seed);
        const double share = (double)(seed % 3) / 2;
        pq_session *a = session(&u, &pq_engine_ref, share, seed),
                   *b = session(&u, &pq_engine_cpu, share, seed);
        pq_tensor *x = whole(&u, a), *y = whole(&u, b);
        for (size_t i = 0; i < a->n_outputs; i++) {
            const float *p = pq_tensor_data(&x[i]);
            const size_t n = (size_t)pq_shape_count(&x[i].shape);
            const pq_compare c = pq_compare_f32(p, pq_tensor_data(&y[i]), n);
            double top = 1e-6;
            for (size_t k = 0; k < n; k++) top = fmax(top, fabs((double)p[k]));
            if (share > 0 ? !(c.sqnr_db > 30) : !(c.max_abs <= 1e-4 * top))
                fail_msg("seed %d, output '%s': %.3g of %.3g, %.1f dB", (int)seed,
                         a->output_name[i], c.max_abs, top, c.sqnr_db);
        }
        pq_session_outputs_free(x, a);
        pq_session_outputs_free(y, b);
        pq_session_free(a);
        pq_session_free(b);
        end(&u);
    }
}

static void test_wrong_calls(void **state)
{
    setup u;
    (void)state;
    begin(&u, 5);
    pq_ctx *ctx = u.s.ctx;
    pq_session *s = session(&u, &pq_engine_cpu, 0, 1), *none;
    pq_tensor *out, bad;
    const pq_engine *e;
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, s));
    PQ_CHECK_FAILS(ctx, pq_run(ctx, s, &u.in, 0, out, s->n_outputs), PQ_E_INVALID, "0 inputs");
    PQ_CHECK_FAILS(ctx, pq_run(ctx, s, &u.in, 1, out, s->n_outputs + 1), PQ_E_INVALID, "outputs");
    PQ_CHECK(ctx, pq_tensor_new(ctx, &bad, PQ_F32, &PQ_SHAPE(1, 2, 3)));
    PQ_CHECK_FAILS(ctx, pq_run(ctx, s, &bad, 1, out, s->n_outputs), PQ_E_INVALID, "[1, 2, 3]");
    PQ_CHECK_FAILS(ctx, pq_engine_find(ctx, &e, "gpu"), PQ_E_INVALID, "cpu, ref");
    pq_plan *plan;
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, u.s.g, PQ_PREC_FP16));
    PQ_CHECK_FAILS(ctx, pq_compile(ctx, &none, &pq_engine_cpu, u.s.g, plan, NULL), PQ_E_UNSUPPORTED,
                   "fp16");
    assert_null(none);
    pq_plan_free(plan);
    pq_tensor_clear(&bad);
    pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_session_free(NULL);
    end(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step_ref), cmocka_unit_test(test_every_step_cpu),
        cmocka_unit_test(test_two_plans_ref),  cmocka_unit_test(test_two_plans_cpu),
        cmocka_unit_test(test_whole),          cmocka_unit_test(test_wrong_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
