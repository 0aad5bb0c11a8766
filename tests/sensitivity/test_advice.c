/* Trouble planted in ranges, weights and places, one at a time: it is named, and nothing else. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <pquant/advice.h>

#include "base/mem.h"
#include "support/small.h"

/* x -> stem -> a, b -> Concat -> c -> dw (depthwise) -> head -> Sigmoid -> output */
enum { STEM, A, B, C, DW, HEAD, N_OPS, N_RANGES = 8 };

typedef struct world {
    pq_small s;
    pq_range range[N_RANGES];
    pq_ranges ranges;
} world;

static pq_range *range(world *w, const char *name)
{
    for (size_t i = 0; i < w->ranges.n; i++)
        if (strcmp(w->range[i].name, name) == 0) return &w->range[i];
    fail_msg("no range '%s'", name);
    return NULL;
}

static void begin(world *w)
{
    static const char *const names[N_RANGES] = {"x",         "stem.output", "a.output",
                                                "b.output",  "cat.output",  "c.output",
                                                "dw.output", "head.output"};
    static char own[N_RANGES][16];
    memset(w, 0, sizeof *w);
    pq_small_begin(&w->s, PQ_SHAPE(1, 4, 8, 8));
    pq_small *s = &w->s;
    const pq_small_window point = {4, 4, 1, 1, 0, 1, .bias = true};
    pq_small_window wide = point, deep = {4, 4, 3, 1, 1, 4, .bias = true};
    wide.in = 8;
    const pq_value_id stem = pq_small_conv(s, "stem", s->x, point),
                      both[2] = {pq_small_conv(s, "a", stem, point),
                                 pq_small_conv(s, "b", stem, point)};
    const pq_attr axis = {.axis = 1};
    const pq_value_id cat = pq_small_node(s, "cat", PQ_OP_CONCAT, both, 2, &axis);
    const pq_value_id c = pq_small_conv(s, "c", cat, wide);
    const pq_value_id dw = pq_small_conv(s, "dw", c, deep);
    const pq_value_id head = pq_small_conv(s, "head", dw, point);
    const pq_value_id y = pq_small_unary(s, "sigmoid", PQ_OP_SIGMOID, head);
    pq_small_outputs(s, &y, 1);
    pq_graph_mark_quantizable(s->g);
    pq_graph_seal(s->g);
    assert_int_equal(pq_graph_quantizable_count(s->g), N_OPS);
    for (int i = 0; i < N_RANGES; i++) {
        snprintf(own[i], sizeof own[i], "%s", names[i]);
        w->range[i] = (pq_range){.name = own[i],
                                 .min = -1,
                                 .max = 2,
                                 .amax = 2,
                                 .lo = -1,
                                 .hi = 2,
                                 .method = PQ_CALIB_MAX,
                                 .rms = 0.3f,
                                 .kurtosis = 7,
                                 .outlier = 2};
    }
    w->ranges = (pq_ranges){.range = w->range, .n = N_RANGES};
}

static pq_advice advise(world *w, const pq_corrections *c, pq_scheme scheme, int index)
{
    pq_advice a;
    PQ_CHECK(w->s.ctx, pq_advise(w->s.ctx, &a, w->s.g, &w->ranges, c, scheme, index));
    assert_int_equal(a.index, index);
    assert_null(strchr(a.text, '\n'));
    assert_true(strlen(a.text) > 10);
    return a;
}

/* Besides its place, operator `index` has just this reason (COUNT: none) in both schemes, and no
 * other operator has it. */
static void only(world *w, int index, pq_reason reason)
{
    static const pq_reason place[N_OPS] = {
        [STEM] = PQ_REASON_PICTURE, [A] = PQ_REASON_COUNT,      [B] = PQ_REASON_COUNT,
        [C] = PQ_REASON_COUNT,      [DW] = PQ_REASON_DEPTHWISE, [HEAD] = PQ_REASON_HEAD};
    for (int scheme = 0; scheme < 2; scheme++)
        for (int k = 0; k < N_OPS; k++) {
            const pq_advice a = advise(w, NULL, (pq_scheme)scheme, k);
            const bool planted = k == index && reason != PQ_REASON_COUNT,
                       placed = place[k] != PQ_REASON_COUNT;
            assert_int_equal(a.n_reasons, (size_t)planted + (size_t)placed);
            if (planted) assert_int_equal(a.reason[0], reason);
            if (placed) assert_int_equal(a.reason[a.n_reasons - 1], place[k]);
        }
}

static void places(void **state)
{
    world w;
    (void)state;
    begin(&w);
    only(&w, -1, PQ_REASON_COUNT);
    assert_non_null(strstr(advise(&w, NULL, PQ_SCHEME_U8, HEAD).text, "boxes are decoded"));
    assert_non_null(strstr(advise(&w, NULL, PQ_SCHEME_U8, A).text, "no reason seen"));
    pq_small_end(&w.s);
}

static void planted_in_ranges(void **state)
{
    world w;
    (void)state;
    begin(&w);
    range(&w, "c.output")->outlier = 57;
    only(&w, DW, PQ_REASON_OUTLIER_CHANNEL);
    assert_non_null(strstr(advise(&w, NULL, PQ_SCHEME_U8, DW).text, "reaches 57 times as far"));
    range(&w, "c.output")->outlier = 2;
    range(&w, "dw.output")->kurtosis = 300;
    only(&w, HEAD, PQ_REASON_LONG_TAIL);
    range(&w, "dw.output")->kurtosis = 7;
    range(&w, "cat.output")->rms = 0.02f;
    only(&w, C, PQ_REASON_COARSE_GRID);
    range(&w, "cat.output")->rms = 0.3f;
    range(&w, "cat.output")->min = -20;
    range(&w, "cat.output")->max = 19;
    only(&w, C, PQ_REASON_CLIPPED);
    range(&w, "cat.output")->min = -1;
    range(&w, "cat.output")->max = 2;
    pq_range *b = range(&w, "b.output");
    b->amax /= 40;
    b->lo /= 40;
    b->hi /= 40;
    b->min /= 40;
    b->max /= 40;
    only(&w, C, PQ_REASON_CONCAT_MISMATCH);
    assert_non_null(strstr(advise(&w, NULL, PQ_SCHEME_S8, C).text, "differ 40 times"));
    pq_small_end(&w.s);
}

static void planted_in_weights(void **state)
{
    world w;
    (void)state;
    begin(&w);
    const pq_value_id id = pq_graph_find_value(w.s.g, "c.weight");
    float *x = pq_buf_data(w.s.g->value[id].data); /* [4, 8] */
    for (int i = 0; i < 32; i++) x[i] = i % 8 ? 0.1f : 30;
    only(&w, C, PQ_REASON_COUNT); /* a large weight is most of the power: little is lost of that */
    for (int i = 0; i < 32; i++) x[i] = i == 0 ? 1 : 0.0039f;
    for (int i = 8; i < 32; i++) x[i] = 0; /* the rest of channel 0 vanishes, as do the others */
    only(&w, C, PQ_REASON_COUNT);
    pq_small_end(&w.s);
}

/* 8 inputs cannot show it: a row of many small weights and one large. */
static void weights_that_vanish(void **state)
{
    enum { WIDE = 4096 };
    pq_small s;
    pq_ranges none = {0};
    pq_advice a;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, WIDE, 1, 1));
    const pq_value_id y =
        pq_small_conv(&s, "wide", s.x, (pq_small_window){1, WIDE, 1, 1, 0, 1, .bias = true});
    pq_small_outputs(&s, &y, 1);
    pq_graph_mark_quantizable(s.g);
    float *x = pq_buf_data(s.g->value[pq_graph_find_value(s.g, "wide.weight")].data);
    for (int i = 0; i < WIDE; i++) x[i] = i ? 0.003f : 1;
    PQ_CHECK(s.ctx, pq_advise(s.ctx, &a, s.g, &none, NULL, PQ_SCHEME_S8, 0));
    /* all but one round to nothing: 4095 * 0.003^2 of 1 + that */
    assert_true(fabs(a.weight_noise - 4095 * 9e-6 / (1 + 4095 * 9e-6)) < 1e-5);
    assert_int_equal(a.reason[0], PQ_REASON_WEIGHT_SPREAD);
    assert_false(a.has_range);
    pq_small_end(&s);
}

/* The worst first. */
static void order_of_reasons(void **state)
{
    world w;
    (void)state;
    begin(&w);
    pq_range *r = range(&w, "dw.output");
    r->kurtosis = 120;
    r->outlier = 50;
    r->rms = 0.01f;
    pq_advice a = advise(&w, NULL, PQ_SCHEME_S8, HEAD);
    assert_int_equal(a.n_reasons, 4);
    assert_int_equal(a.reason[0], PQ_REASON_COARSE_GRID);     /* 4 / 0.635 = 6.3 */
    assert_int_equal(a.reason[1], PQ_REASON_OUTLIER_CHANNEL); /* 5 */
    assert_int_equal(a.reason[2], PQ_REASON_LONG_TAIL);       /* 2 */
    assert_int_equal(a.reason[3], PQ_REASON_HEAD);
    r->kurtosis = 0;
    r->outlier = 0;
    r->rms = 0; /* older files say nothing: no reason */
    assert_int_equal(advise(&w, NULL, PQ_SCHEME_S8, HEAD).n_reasons, 1);
    pq_small_end(&w.s);
}

static void what_was_tried(void **state)
{
    world w;
    char equal_name[] = "c.weight", value[] = "cat.output", node[] = "c";
    pq_plan_weight equal = {.name = equal_name};
    pq_encoding encoding = {.value = value};
    pq_fix fix = {.node = node, .error_before = 0.04, .error = 0.01};
    const pq_corrections c = {.equal = &equal,
                              .n_equal = 1,
                              .encoding = &encoding,
                              .n_encodings = 1,
                              .fix = &fix,
                              .n_fixes = 1};
    const pq_shape shape = PQ_SHAPE(4, 8, 1, 1);
    (void)state;
    begin(&w);
    PQ_CHECK(w.s.ctx, pq_tensor_new(w.s.ctx, &equal.data, PQ_F32, &shape));
    range(&w, "cat.output")->max = 100; /* of before the re-encoding: not clipped */
    pq_advice a = advise(&w, &c, PQ_SCHEME_U8, C);
    assert_true(a.equalized && a.encoded && a.rebuilt && a.has_range);
    assert_true(a.error_before == 0.04 && a.error == 0.01 && a.calibrator == PQ_CALIB_MAX);
    assert_int_equal(a.n_reasons, 0);
    assert_true(a.weight_noise == 0); /* the equalised weights, all 0 here */
    assert_non_null(
        strstr(a.text, "equalisation, re-encoding, reconstruction (error 0.04 to 0.01"));
    a = advise(&w, &c, PQ_SCHEME_U8, A);
    assert_false(a.equalized || a.encoded || a.rebuilt);
    assert_null(strstr(a.text, "Next"));
    assert_non_null(strstr(advise(&w, NULL, PQ_SCHEME_U8, A).text, "Next: calibrate with"));
    range(&w, "stem.output")->outlier = 30;
    assert_non_null(strstr(advise(&w, &c, PQ_SCHEME_U8, A).text, "a calibrator that clips: mse"));
    pq_tensor_clear(&equal.data);
    pq_small_end(&w.s);
}

/* However long: cut, not overrun. */
static void every_reason_at_once(void **state)
{
    world w;
    (void)state;
    begin(&w);
    pq_range *r = range(&w, "c.output");
    *r = (pq_range){.name = r->name,
                    .min = -1e30f,
                    .max = 3e38f,
                    .amax = 1e-30f,
                    .lo = -1e-30f,
                    .hi = 1e-30f,
                    .rms = 1e-38f,
                    .kurtosis = 3e38f,
                    .outlier = 3e38f,
                    .method = PQ_CALIB_PERCENTILE};
    const pq_advice a = advise(&w, NULL, PQ_SCHEME_U8, DW);
    assert_int_equal(a.n_reasons, 5);
    assert_true(strlen(a.text) < PQ_ADVICE_TEXT);
    pq_small_end(&w.s);
}

static void bad_index(void **state)
{
    world w;
    pq_advice a;
    (void)state;
    begin(&w);
    for (int k = -1; k <= N_OPS; k += N_OPS + 1)
        PQ_CHECK_FAILS(w.s.ctx, pq_advise(w.s.ctx, &a, w.s.g, &w.ranges, NULL, PQ_SCHEME_U8, k),
                       PQ_E_INVALID, "the model has 6");
    for (int r = 0; r < PQ_REASON_COUNT; r++) assert_non_null(pq_reason_name((pq_reason)r));
    assert_null(pq_reason_name(PQ_REASON_COUNT));
    pq_small_end(&w.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(places),
                                       cmocka_unit_test(planted_in_ranges),
                                       cmocka_unit_test(planted_in_weights),
                                       cmocka_unit_test(weights_that_vanish),
                                       cmocka_unit_test(order_of_reasons),
                                       cmocka_unit_test(what_was_tried),
                                       cmocka_unit_test(every_reason_at_once),
                                       cmocka_unit_test(bad_index)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
