/* Every family by formula: the operators' names and order, and the outputs that the original
 * computes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <pquant/pass.h>

#include "read/arch/damoyolo.h"
#include "support/check.h"
#include "support/run.h"
#include "support/synthetic.h"

static pq_ctx *ctx;

#define OK(expr)                                                                                   \
    do {                                                                                           \
        if ((expr) != PQ_OK) fail_msg("%s: %s", #expr, pq_ctx_error(ctx));                         \
    } while (0)

static double member(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key)->valuedouble;
}

static void check_ops(const pq_graph *g, const cJSON *ops)
{
    assert_int_equal(pq_graph_quantizable_count(g), cJSON_GetArraySize(ops));
    for (int i = 0; i < cJSON_GetArraySize(ops); i++) {
        const pq_node_id id = pq_graph_quantizable(g, i);
        assert_true(id != PQ_NONE);
        assert_string_equal(g->node[id].name, cJSON_GetArrayItem(ops, i)->valuestring);
    }
}

/* scores [1, A, C], boxes [1, A, 4] */
static void check_outputs(const cJSON *want, const pq_tensor *out)
{
    const int64_t n = out[0].shape.dim[1], classes = out[0].shape.dim[2];
    const float *scores = pq_tensor_data(&out[0]), *boxes = pq_tensor_data(&out[1]);
    const cJSON *sample, *v;
    double sum = 0, worst_score = 0, worst_box = 0;
    assert_int_equal(n, (int64_t)member(want, "anchors"));
    assert_int_equal(classes, (int64_t)member(want, "classes"));
    cJSON_ArrayForEach(sample, cJSON_GetObjectItemCaseSensitive(want, "sample"))
    {
        const int64_t i = (int64_t)member(sample, "index");
        int k = 0;
        cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(sample, "scores")) worst_score =
            pq_check_worse(worst_score, fabs(v->valuedouble - (double)scores[i * classes + k++]));
        k = 0;
        cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(sample, "box")) worst_box =
            pq_check_worse(worst_box, fabs(v->valuedouble - (double)boxes[i * 4 + k++]));
    }
    for (int64_t i = 0; i < n * classes; i++) sum += (double)scores[i];
    const double d_scores = fabs(sum / member(want, "scores_sum") - 1);
    sum = 0;
    for (int64_t i = 0; i < n * 4; i++) sum += (double)boxes[i];
    const double d_boxes = fabs(sum / member(want, "boxes_sum") - 1);
    print_message("worst score %.2e, box %.2e px; sums %.2e, %.2e\n", worst_score, worst_box,
                  d_scores, d_boxes);
    assert_true(worst_score < 2e-6 && worst_box < 1e-3 && d_scores < 1e-6 && d_boxes < 1e-6);
}

static void check_family(const char *model, bool run)
{
    char path[512], name[64];
    cJSON *golden;
    pq_state *s;
    pq_graph *g;
    pq_tensor x, out[2];
    snprintf(name, sizeof name, "golden/synthetic/%s.json", model);
    if (!pq_test_shared(path, sizeof path, name)) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    OK(pq_test_synthetic_golden(ctx, &golden, model));
    const int64_t side = (int64_t)member(golden, "size");
    const pq_read_opts opts = {.h = side,
                               .w = side,
                               .config =
                                   cJSON_GetObjectItemCaseSensitive(golden, "config")->valuestring};
    OK(pq_test_synthetic_state(ctx, &s, golden, NULL));
    OK(pq_damoyolo_read(ctx, &g, s, &opts));
    pq_state_free(s);
    snprintf(name, sizeof name, "DAMO-YOLO-%s", model);
    assert_string_equal(g->family, name);
    check_ops(g, cJSON_GetObjectItemCaseSensitive(golden, "ops"));
    OK(pq_pass_all(ctx, g));
    check_ops(g, cJSON_GetObjectItemCaseSensitive(golden, "ops"));
    for (size_t i = 0; i < g->n_nodes; i++) {
        assert_int_not_equal(g->node[i].op, PQ_OP_BATCH_NORM);
        if (g->node[i].op == PQ_OP_CONV) assert_int_equal(g->node[i].n_in, 3);
    }
    if (run) {
        OK(pq_test_synthetic_input(ctx, &x, side, side));
        OK(pq_test_run(ctx, out, g, &x));
        check_outputs(cJSON_GetObjectItemCaseSensitive(golden, "outputs"), out);
        pq_tensor_clear(&out[0]);
        pq_tensor_clear(&out[1]);
        pq_tensor_clear(&x);
    }
    pq_graph_free(g);
    cJSON_Delete(golden);
}

static void family_t(void **state) { (void)state, check_family("T", true); }
static void family_s(void **state) { (void)state, check_family("S", true); }
static void family_m(void **state) { (void)state, check_family("M", true); }
static void family_l(void **state) { (void)state, check_family("L", true); }
static void family_ns(void **state) { (void)state, check_family("Ns", true); }
static void family_nm(void **state) { (void)state, check_family("Nm", true); }
static void family_nl(void **state) { (void)state, check_family("Nl", true); }
static void family_n(void **state) { (void)state, check_family("N", true); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(family_t),  cmocka_unit_test(family_s),  cmocka_unit_test(family_m),
        cmocka_unit_test(family_l),  cmocka_unit_test(family_ns), cmocka_unit_test(family_nm),
        cmocka_unit_test(family_nl), cmocka_unit_test(family_n),
    };
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pq_ctx_free(ctx);
    return failed;
}
