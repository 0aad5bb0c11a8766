/* The cuda engine beside ref. */
#include "compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engines.h"

int compare_number(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

void compare_show(const char *what, const tally *t)
{
    print_message("%s: %zu of %zu outputs differ, by at most %.3g of the largest (seed %llu)\n",
                  what, t->unequal, t->elements, t->worst, (unsigned long long)t->seed);
}

static void count(tally *t, const pq_tensor *x, const pq_tensor *y, uint64_t seed)
{
    const float *p = pq_tensor_data(x), *q = pq_tensor_data(y);
    const size_t n = (size_t)pq_shape_count(&x->shape);
    double top = 1e-6, worst = 0;
    for (size_t i = 0; i < n; i++) {
        const bool equal = p[i] == q[i] || (isnan(p[i]) && isnan(q[i]));
        const double d = equal ? 0 : fabs((double)p[i] - (double)q[i]);
        if (isfinite(p[i])) top = fmax(top, fabs((double)p[i]));
        worst = pq_check_worse(worst, d);
        t->unequal += !equal;
    }
    t->elements += n;
    if (worst / top > t->worst) {
        t->worst = worst / top;
        t->seed = seed;
    }
}

/* Nothing was written behind a slot. */
static void check_spare(const cu_session *s, uint8_t mark)
{
    uint8_t spare[CU_SPARE];
    for (size_t i = 0; i < s->program->n_slots; i++) {
        const pq_slot_id id = (pq_slot_id)i;
        if (!s->slot[i].needed || s->slot[i].root != id || s->slot[i].plain ||
            s->program->slot[i].constant || s->slot[i].device < s->arena ||
            s->slot[i].device >= s->arena + s->arena_bytes)
            continue;
        const uint8_t *behind = s->slot[i].device + cu_slot_bytes(s, id);
        assert_int_equal(cudaMemcpy(spare, behind, CU_SPARE, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int k = 0; k < CU_SPARE; k++)
            if (spare[k] != mark)
                fail_msg("byte %d behind slot %zu ('%s') was written", k, i,
                         s->program->graph->value[s->program->slot[i].value].name);
    }
}

void compare_engines(tally *t, pq_ctx *ctx, const pq_graph *g, const pq_plan *plan,
                     const pq_tensor *in, const cu_force *force, uint64_t seed)
{
    enum { MARK = 0xff };
    pq_session *a, *b;
    pq_tensor *x, *y;
    const pq_compile_opts opts = {.threads = 2};
    PQ_CHECK(ctx, pq_compile(ctx, &a, &pq_engine_ref, g, plan, &opts));
    PQ_CHECK(ctx, cu_session_new(ctx, &b, g, plan, &opts, force));
    const cu_session *s = (const cu_session *)b;
    for (size_t i = 0; i < s->n_nodes; i++) {
        t->stems += s->step[s->node[i].step].stem != PQ_NONE;
        t->persistent += s->node[i].kind >= 0 && s->node[i].how.finish == CU_PERSISTENT;
    }
    PQ_CHECK(ctx, pq_session_outputs(ctx, &x, a));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &y, b));
    PQ_CHECK(ctx, pq_run(ctx, a, in, 1, x, a->n_outputs));
    for (size_t k = 0; k < b->n_outputs; k++) /* every element must be written */
        memset(pq_tensor_data(&y[k]), MARK, (size_t)pq_shape_count(&y[k].shape) * sizeof(float));
    if (force && force->apart)
        assert_int_equal(cudaMemset(s->arena, MARK, s->arena_bytes + CU_SPARE), cudaSuccess);
    PQ_CHECK(ctx, pq_run(ctx, b, in, 1, y, b->n_outputs));
    if (force && force->apart) check_spare(s, MARK);
    for (size_t k = 0; k < a->n_outputs; k++) count(t, &x[k], &y[k], seed);
    pq_session_outputs_free(x, a);
    pq_session_outputs_free(y, b);
    pq_session_free(a);
    pq_session_free(b);
}

void compare_planned(tally *t, pq_ctx *ctx, const pq_graph *g, double share, pq_scheme scheme,
                     pq_precision base, const cu_force *force, uint64_t seed)
{
    pq_tensor in;
    pq_ranges *r;
    pq_plan *plan;
    graphs_input(&in, ctx, g, seed);
    graphs_ranges(&r, ctx, g, &in);
    graphs_plan(&plan, ctx, g, r, &pq_engine_cuda, share, scheme, base, seed + 1);
    /* Some of what is left in float16 is named float32, as a search over three precisions may. */
    for (size_t i = seed % 3; i < plan->n_nodes && share > 0 && share < 1; i += 3)
        if (plan->node[i].precision == PQ_PREC_FP16) plan->node[i].precision = PQ_PREC_FP32;
    compare_engines(t, ctx, g, plan, &in, force, seed);
    pq_plan_free(plan);
    pq_ranges_free(r);
    pq_tensor_clear(&in);
}

int compare_main(const struct CMUnitTest *tests, size_t n)
{
    pq_engine_info info;
    pq_ctx *ctx;
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    const bool here = pq_engine_cuda.probe(ctx, &info) == PQ_OK;
    if (!here) printf("skipped: %s\n", pq_ctx_error(ctx));
    pq_ctx_free(ctx);
    return here ? _cmocka_run_group_tests("cuda", tests, n, NULL, NULL) : 77;
}
