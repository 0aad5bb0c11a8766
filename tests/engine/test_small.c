/* The cpu engine against ref on random small networks: float32, bfloat16 and INT8 mixed at random,
 * both schemes. Where PQ_CPU_MASK takes VNNI away every integer kernel is ours, and those equal ref
 * bit for bit; oneDNN's may differ by one level in one element of 10^4. */
#include "graphs.h"
#include "steps.h"

#include <stdlib.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "engine/engines.h"

enum { GRAPHS = 40, NODES = 14 };

static void compare_plans(steps_tally *t, uint64_t seed, double share, pq_scheme scheme,
                          pq_precision base, bool round_outputs)
{
    pq_small s;
    pq_tensor in;
    pq_ranges *r;
    pq_plan *plan;
    graphs_random(&s, seed, NODES);
    graphs_input(&in, s.ctx, s.g, seed);
    graphs_ranges(&r, s.ctx, s.g, &in);
    graphs_plan(&plan, s.ctx, s.g, r, &pq_engine_cpu, share, scheme, base, seed + 1);
    if (round_outputs) PQ_CHECK(s.ctx, pq_plan_round_outputs(s.ctx, plan, s.g, r));
    steps_compare(t, s.ctx, s.g, plan, &in);
    pq_plan_free(plan);
    pq_ranges_free(r);
    pq_tensor_clear(&in);
    pq_small_end(&s);
}

static void compare(steps_tally *t, uint64_t seed, double share, pq_scheme scheme,
                    pq_precision base)
{
    compare_plans(t, seed, share, scheme, base, false);
}

static void check(const steps_tally *t)
{
    print_message("%zu of %zu integers differ, worst %d; float32 %.2g, bfloat16 %.2g; %s\n",
                  t->unequal, t->elements, t->worst, t->real, t->bfloat, t->where);
    assert_true(t->real <= 1e-4);
    assert_true(t->bfloat <= 0x1p-7); /* one unit in the last place */
    if (pq_cpu_get()->avx512_vnni || pq_cpu_get()->avx_vnni) {
        assert_true(t->worst <= 1);
        assert_true((double)t->unequal <= 1e-4 * (double)t->elements);
    } else
        assert_int_equal(t->unequal, 0);
}

static void test_fp32(void **state)
{
    steps_tally t = {0};
    (void)state;
    for (uint64_t seed = 1; seed <= GRAPHS; seed++)
        compare(&t, seed, 0, PQ_SCHEME_U8, PQ_PREC_FP32);
    check(&t);
}

static void test_bf16(void **state)
{
    steps_tally t = {0};
    (void)state;
    if (!pq_cpu_get()->avx512_bf16) {
        print_message("skipped: no BF16 instructions\n");
        skip();
    }
    for (uint64_t seed = 1; seed <= GRAPHS; seed++)
        compare(&t, seed, 0, PQ_SCHEME_U8, PQ_PREC_BF16);
    check(&t);
}

static void test_int8(void **state)
{
    steps_tally t = {0};
    (void)state;
    for (uint64_t seed = 1; seed <= GRAPHS; seed++)
        compare(&t, seed, 1, seed % 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8, PQ_PREC_FP32);
    check(&t);
}

static void test_mixed(void **state)
{
    const pq_precision base = pq_cpu_get()->avx512_bf16 ? PQ_PREC_BF16 : PQ_PREC_FP32;
    steps_tally t = {0};
    (void)state;
    for (uint64_t seed = 1; seed <= 2 * GRAPHS; seed++)
        compare(&t, seed, 0.6, seed % 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8,
                seed % 4 < 2 ? base : PQ_PREC_FP32);
    check(&t);
}

/* The results of INT8 operators are read rounded by all, float operators too. */
static void test_rounded(void **state)
{
    const pq_precision base = pq_cpu_get()->avx512_bf16 ? PQ_PREC_BF16 : PQ_PREC_FP32;
    steps_tally t = {0};
    (void)state;
    for (uint64_t seed = 1; seed <= GRAPHS; seed++)
        compare_plans(&t, seed, seed % 4 ? 0.6 : 1, seed % 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8,
                      seed % 3 ? PQ_PREC_FP32 : base, true);
    check(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fp32), cmocka_unit_test(test_bf16),
                                       cmocka_unit_test(test_int8), cmocka_unit_test(test_mixed),
                                       cmocka_unit_test(test_rounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
