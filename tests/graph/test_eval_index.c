/* Operators by their definition in the ONNX specification, on random shapes: comparison and choice,
 * indices, search; and what they make of rows that do not exist. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"

#include "base/ctx.h"
#include "base/rng.h"
#include "graph/eval.h"

enum { ROUNDS = 40 };

static pq_ctx *ctx;
static pq_graph *g;
static pq_rng rng;
static pq_value_id value[5];
static pq_tensor in[5], out[2];
static int n_in;

static int64_t pick(int64_t low, int64_t high)
{
    return low + (int64_t)(pq_rng_double(&rng) * (double)(high - low + 1));
}

static void forget(void)
{
    for (int i = 0; i < 5; i++) pq_tensor_clear(&in[i]);
    for (int i = 0; i < 2; i++) pq_tensor_clear(&out[i]);
    pq_graph_free(g);
    g = NULL;
    n_in = 0;
    PQ_CHECK(ctx, pq_graph_new(ctx, &g));
}

static pq_shape random_shape(int rank)
{
    pq_shape s = {rank, {0}};
    for (int i = 0; i < rank; i++) s.dim[i] = pick(1, 4);
    return s;
}

/* The next input, filled by the test; constant: known before the network runs. */
static pq_tensor *add(pq_dtype dtype, pq_shape shape, bool constant)
{
    pq_tensor *t = &in[n_in];
    PQ_CHECK(ctx, pq_tensor_new(ctx, t, dtype, &shape));
    if (constant)
        PQ_CHECK(ctx, pq_graph_add_const(ctx, &value[n_in], g, NULL, dtype, &shape, t->buf));
    else
        PQ_CHECK(ctx, pq_graph_add_value(ctx, &value[n_in], g, NULL, dtype, &shape));
    n_in++;
    return t;
}

static float *floats(const pq_tensor *t) { return pq_tensor_data(t); }
static int64_t *ints(const pq_tensor *t) { return pq_tensor_data(t); }
static size_t count(const pq_tensor *t) { return (size_t)pq_shape_count(&t->shape); }

/* Few different numbers, so that equal ones occur. */
static pq_tensor *add_floats(pq_shape shape)
{
    pq_tensor *t = add(PQ_F32, shape, false);
    for (size_t i = 0; i < count(t); i++) floats(t)[i] = (float)pick(-6, 6) / 2;
    return t;
}

static pq_tensor *add_ints(pq_shape shape, int64_t low, int64_t high)
{
    pq_tensor *t = add(PQ_S64, shape, false);
    for (size_t i = 0; i < count(t); i++) ints(t)[i] = pick(low, high);
    return t;
}

static pq_status try_eval(pq_op op, const pq_attr *attr)
{
    pq_node_id id;
    const pq_tensor *args[5];
    PQ_CHECK(ctx, pq_graph_add_node(ctx, &id, g, "n", op, NULL, value, n_in,
                                    op == PQ_OP_TOP_K ? 2 : 1, NULL, attr));
    PQ_CHECK(ctx, pq_graph_infer(ctx, g));
    for (int i = 0; i < n_in; i++) args[i] = &in[i];
    return pq_eval_node(ctx, g, &g->node[id], args, out);
}
static void eval(pq_op op, const pq_attr *attr) { PQ_CHECK(ctx, try_eval(op, attr)); }

/* Index of an element under broadcasting to shape y, given its place there. */
static size_t place(const pq_shape *s, const int64_t *at, int rank)
{
    size_t k = 0;
    for (int i = 0; i < s->rank; i++) {
        const int64_t a = at[rank - s->rank + i];
        k = k * (size_t)s->dim[i] + (size_t)(s->dim[i] == 1 ? 0 : a);
    }
    return k;
}

static void step(int64_t *at, const pq_shape *s)
{
    for (int k = s->rank - 1; k >= 0 && ++at[k] == s->dim[k]; k--) at[k] = 0;
}

static pq_shape thinned(pq_shape s)
{
    const int drop = (int)pick(0, s.rank - 1);
    pq_shape t = {s.rank - drop, {0}};
    for (int i = 0; i < t.rank; i++) t.dim[i] = pick(0, 2) ? s.dim[drop + i] : 1;
    return t;
}

static double two(pq_op op, double a, double b)
{
    switch (op) {
    case PQ_OP_GREATER: return a > b;
    case PQ_OP_LESS: return a < b;
    case PQ_OP_GREATER_OR_EQUAL: return a >= b;
    case PQ_OP_LESS_OR_EQUAL: return a <= b;
    case PQ_OP_EQUAL: return a == b;
    case PQ_OP_MIN: return fmin(a, b);
    case PQ_OP_MAX: return fmax(a, b);
    case PQ_OP_PRELU: return a < 0 ? a * b : a;
    default: return a - b * floor(a / b); /* Mod: the sign of the divisor */
    }
}

static void pairs(void **state)
{
    static const pq_op ops[] = {PQ_OP_GREATER,       PQ_OP_LESS,  PQ_OP_GREATER_OR_EQUAL,
                                PQ_OP_LESS_OR_EQUAL, PQ_OP_EQUAL, PQ_OP_MIN,
                                PQ_OP_MAX,           PQ_OP_PRELU, PQ_OP_MOD};
    (void)state;
    for (int r = 0; r < ROUNDS; r++)
        for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
            const pq_shape s = random_shape((int)pick(1, 4));
            int64_t at[PQ_MAX_RANK] = {0};
            forget();
            add_floats(s);
            add_floats(thinned(s));
            for (size_t i = 0; ops[o] == PQ_OP_MOD && i < count(&in[1]); i++)
                if (floats(&in[1])[i] == 0.0f) floats(&in[1])[i] = 1.5f;
            eval(ops[o], NULL);
            for (size_t i = 0; i < count(&out[0]); i++, step(at, &s)) {
                const double a = (double)floats(&in[0])[i];
                const double b = (double)floats(&in[1])[place(&in[1].shape, at, s.rank)];
                const double got = pq_element(out[0].dtype, pq_tensor_data(&out[0]), i);
                if (fabs(got - two(ops[o], a, b)) > 1e-6)
                    fail_msg("%s of %g and %g is %g", pq_op_name(ops[o]), a, b, got);
            }
        }
}

static void where(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const pq_shape s = random_shape((int)pick(1, 4));
        int64_t at[PQ_MAX_RANK] = {0};
        forget();
        pq_tensor *c = add(PQ_BOOL, thinned(s), false);
        for (size_t i = 0; i < count(c); i++) ((uint8_t *)pq_tensor_data(c))[i] = pick(0, 1) == 1;
        add_ints(s, -9, 9);
        add_ints(thinned(s), -9, 9);
        eval(PQ_OP_WHERE, NULL);
        assert_true(pq_shape_equal(&out[0].shape, &s));
        for (size_t i = 0; i < count(&out[0]); i++, step(at, &s)) {
            const bool yes = ((uint8_t *)pq_tensor_data(c))[place(&c->shape, at, s.rank)];
            const pq_tensor *from = &in[yes ? 1 : 2];
            assert_int_equal(ints(&out[0])[i], ints(from)[place(&from->shape, at, s.rank)]);
        }
    }
}

static void tile(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const pq_shape s = random_shape((int)pick(1, 4));
        int64_t at[PQ_MAX_RANK] = {0};
        forget();
        add_floats(s);
        pq_tensor *repeats = add(PQ_S64, PQ_SHAPE(s.rank), true);
        for (int i = 0; i < s.rank; i++) ints(repeats)[i] = pick(1, 3);
        eval(PQ_OP_TILE, NULL);
        for (size_t i = 0; i < count(&out[0]); i++, step(at, &out[0].shape)) {
            size_t k = 0;
            for (int d = 0; d < s.rank; d++) k = k * (size_t)s.dim[d] + (size_t)(at[d] % s.dim[d]);
            assert_true(floats(&out[0])[i] == floats(&in[0])[k]);
        }
    }
}

/* output[i…] = data[batch…, indices[i…]…, rest] */
static void gather_nd(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const pq_shape x = random_shape((int)pick(2, 4));
        const int b = (int)pick(0, 1), k = (int)pick(1, x.rank - b);
        pq_shape q = {b + 2, {0}};
        if (b) q.dim[0] = x.dim[0];
        q.dim[b] = pick(1, 5);
        q.dim[b + 1] = k;
        forget();
        add_floats(x);
        add_ints(q, 0, 0);
        for (size_t i = 0; i < count(&in[1]); i++) {
            const int64_t dim = x.dim[b + (int)(i % (size_t)k)];
            ints(&in[1])[i] = pick(-dim, dim - 1);
        }
        const pq_attr attr = {.batch_dims = b};
        eval(PQ_OP_GATHER_ND, &attr);
        size_t rest = 1;
        for (int i = b + k; i < x.rank; i++) rest *= (size_t)x.dim[i];
        const size_t rows = count(&in[1]) / (size_t)k;
        assert_int_equal(count(&out[0]), rows * rest);
        for (size_t row = 0; row < rows; row++) {
            size_t at = b ? row / (rows / (size_t)x.dim[0]) : 0;
            for (int i = 0; i < k; i++) {
                const int64_t v = ints(&in[1])[row * (size_t)k + (size_t)i], dim = x.dim[b + i];
                at = at * (size_t)dim + (size_t)(v < 0 ? v + dim : v);
            }
            for (size_t i = 0; i < rest; i++)
                assert_true(floats(&out[0])[row * rest + i] == floats(&in[0])[at * rest + i]);
        }
    }
}

static void elements(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const pq_shape x = random_shape((int)pick(1, 3));
        const int axis = (int)pick(0, x.rank - 1);
        int64_t at[PQ_MAX_RANK] = {0};
        pq_shape q = x;
        for (int i = 0; i < q.rank; i++) q.dim[i] = i == axis ? pick(1, 5) : pick(1, x.dim[i]);
        forget();
        add_floats(x);
        add_ints(q, -x.dim[axis], x.dim[axis] - 1);
        const pq_attr attr = {.axis = axis};
        eval(PQ_OP_GATHER_ELEMENTS, &attr);
        for (size_t i = 0; i < count(&out[0]); i++, step(at, &q)) {
            int64_t from[PQ_MAX_RANK];
            memcpy(from, at, sizeof from);
            from[axis] = ints(&in[1])[i] < 0 ? ints(&in[1])[i] + x.dim[axis] : ints(&in[1])[i];
            size_t k = 0;
            for (int d = 0; d < x.rank; d++) k = k * (size_t)x.dim[d] + (size_t)from[d];
            assert_true(floats(&out[0])[i] == floats(&in[0])[k]);
        }
    }
}

static void scatter(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const pq_shape x = PQ_SHAPE(pick(1, 4), pick(1, 4), pick(1, 4));
        const int64_t rows = pick(1, 4);
        float want[64];
        forget();
        add_floats(x);
        add_ints(PQ_SHAPE(rows, 2), 0, 0);
        add_floats(PQ_SHAPE(rows, x.dim[2]));
        memcpy(want, floats(&in[0]), count(&in[0]) * sizeof *want);
        for (int64_t i = 0; i < rows; i++) {
            int64_t *q = ints(&in[1]) + 2 * i;
            q[0] = pick(0, x.dim[0] - 1);
            q[1] = pick(0, 3) ? pick(0, x.dim[1] - 1) : PQ_ABSENT;
            if (q[1] != PQ_ABSENT)
                memcpy(want + (q[0] * x.dim[1] + q[1]) * x.dim[2], floats(&in[2]) + i * x.dim[2],
                       (size_t)x.dim[2] * sizeof *want);
        }
        eval(PQ_OP_SCATTER_ND, NULL);
        assert_memory_equal(floats(&out[0]), want, count(&in[0]) * sizeof *want);
    }
}

/* Each of the k is no better than the one before, none that is left out is better, and of equal
 * ones the first come first. */
static void top_k(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const int64_t n = pick(1, 12), k = pick(1, n), inner = pick(1, 3);
        const bool largest = pick(0, 1) == 1;
        forget();
        add_floats(PQ_SHAPE(2, n, inner));
        ints(add(PQ_S64, PQ_SHAPE(1), true))[0] = k;
        const pq_attr attr = {.axis = -2, .largest = largest};
        eval(PQ_OP_TOP_K, &attr);
        for (int64_t o = 0; o < 2; o++)
            for (int64_t i = 0; i < inner; i++) {
                const float *x = floats(&in[0]) + o * n * inner + i;
                bool used[12] = {false};
                for (int64_t j = 0; j < k; j++) {
                    int64_t best = -1;
                    for (int64_t m = 0; m < n; m++)
                        if (!used[m] && (best < 0 || (largest ? x[m * inner] > x[best * inner]
                                                              : x[m * inner] < x[best * inner])))
                            best = m;
                    used[best] = true;
                    const size_t at = (size_t)((o * k + j) * inner + i);
                    assert_int_equal(ints(&out[1])[at], best);
                    assert_true(floats(&out[0])[at] == x[best * inner]);
                }
            }
    }
}

static void arg_max(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const int64_t n = pick(1, 6);
        const pq_attr attr = {.axis = 1, .keepdims = r % 2, .last = r % 3 == 0};
        forget();
        add_floats(PQ_SHAPE(3, n));
        eval(r % 5 ? PQ_OP_ARG_MAX : PQ_OP_ARG_MIN, &attr);
        assert_int_equal(out[0].shape.rank, r % 2 ? 2 : 1);
        for (int64_t o = 0; o < 3; o++) {
            const float *x = floats(&in[0]) + o * n;
            int64_t best = 0;
            for (int64_t i = 1; i < n; i++) {
                const float a = r % 5 ? x[i] : -x[i], b = r % 5 ? x[best] : -x[best];
                if (a > b || (attr.last && a == b)) best = i;
            }
            assert_int_equal(ints(&out[0])[o], best);
        }
    }
}

static void reductions(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const pq_shape x = PQ_SHAPE(pick(1, 3), pick(1, 4), pick(1, 3));
        const pq_attr attr = {.n_axes = 1, .axes = {1}};
        forget();
        add_floats(x);
        eval(r % 2 ? PQ_OP_REDUCE_MIN : PQ_OP_REDUCE_PROD, &attr);
        for (int64_t o = 0; o < x.dim[0]; o++)
            for (int64_t i = 0; i < x.dim[2]; i++) {
                float want = r % 2 ? INFINITY : 1;
                for (int64_t k = 0; k < x.dim[1]; k++) {
                    const float v = floats(&in[0])[(o * x.dim[1] + k) * x.dim[2] + i];
                    want = r % 2 ? fminf(want, v) : want * v;
                }
                assert_true(floats(&out[0])[o * x.dim[2] + i] == want);
            }
    }
}

static void non_zero(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const pq_shape x = random_shape((int)pick(1, 3));
        int64_t at[PQ_MAX_RANK] = {0};
        size_t found = 0;
        forget();
        add_floats(x);
        eval(PQ_OP_NON_ZERO, NULL);
        const size_t n = count(&in[0]);
        for (size_t i = 0; i < n; i++, step(at, &x)) {
            if (floats(&in[0])[i] == 0.0f) continue;
            for (int k = 0; k < x.rank; k++)
                assert_int_equal(ints(&out[0])[(size_t)k * n + found], at[k]);
            found++;
        }
        for (; found < n; found++) assert_true(ints(&out[0])[found] == PQ_ABSENT);
    }
}

static double overlap(const float *a, const float *b)
{
    const double h = fmin((double)a[2], (double)b[2]) - fmax((double)a[0], (double)b[0]);
    const double w = fmin((double)a[3], (double)b[3]) - fmax((double)a[1], (double)b[1]);
    const double inter = h > 0 && w > 0 ? h * w : 0;
    return inter / ((double)((a[2] - a[0]) * (a[3] - a[1])) +
                    (double)((b[2] - b[0]) * (b[3] - b[1])) - inter);
}

/* Greedy suppression, written down again: the best that is left, unless one that stays overlaps. */
static void suppression(void **state)
{
    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        const int64_t n = pick(1, 12), classes = pick(1, 3), most = pick(1, 5);
        size_t row = 0;
        forget();
        float *box = floats(add(PQ_F32, PQ_SHAPE(2, n, 4), false));
        float *score = floats(add(PQ_F32, PQ_SHAPE(2, classes, n), false));
        for (int64_t i = 0; i < 2 * n; i++)
            for (int k = 0; k < 2; k++) {
                box[4 * i + k] = (float)pick(0, 20);
                box[4 * i + 2 + k] = box[4 * i + k] + (float)pick(1, 20);
            }
        for (int64_t i = 0; i < 2 * classes * n; i++) score[i] = (float)pq_rng_double(&rng);
        ints(add(PQ_S64, PQ_SHAPE(1), true))[0] = most;
        floats(add(PQ_F32, PQ_SHAPE(1), true))[0] = 0.45f;
        floats(add(PQ_F32, PQ_SHAPE(1), true))[0] = 0.2f;
        eval(PQ_OP_NON_MAX_SUPPRESSION, NULL);
        assert_int_equal(out[0].shape.dim[0], 2 * classes * (most < n ? most : n));
        for (int64_t i = 0; i < 2; i++)
            for (int64_t c = 0; c < classes; c++) {
                const float *b = box + 4 * i * n, *s = score + (i * classes + c) * n;
                bool gone[12] = {false};
                for (int64_t kept = 0; kept < most; kept++) {
                    int64_t best = -1;
                    for (int64_t k = 0; k < n; k++)
                        if (!gone[k] && s[k] > 0.2f && (best < 0 || s[k] > s[best])) best = k;
                    if (best < 0) break;
                    const int64_t *got = ints(&out[0]) + 3 * row++;
                    assert_int_equal(got[0], i);
                    assert_int_equal(got[1], c);
                    assert_int_equal(got[2], best);
                    for (int64_t k = 0; k < n; k++)
                        if (overlap(b + 4 * best, b + 4 * k) > (double)0.45f) gone[k] = true;
                    gone[best] = true;
                }
            }
        for (row *= 3; row < count(&out[0]); row++) assert_true(ints(&out[0])[row] == PQ_ABSENT);
    }
}

/* An index that is not there goes through arithmetic and a cast, and gathers rows of NaN. */
static void absent_rows(void **state)
{
    (void)state;
    forget();
    add_floats(PQ_SHAPE(3, 2));
    ints(add_ints(PQ_SHAPE(2), 0, 2))[1] = PQ_ABSENT;
    const pq_attr attr = {.axis = 0};
    eval(PQ_OP_GATHER, &attr);
    assert_true(floats(&out[0])[0] == floats(&in[0])[2 * ints(&in[1])[0]]);
    assert_true(isnan(floats(&out[0])[2]) && isnan(floats(&out[0])[3]));
    forget();
    ints(add_ints(PQ_SHAPE(2), 1, 5))[0] = PQ_ABSENT;
    add_ints(PQ_SHAPE(1), 100, 100);
    eval(PQ_OP_MUL, NULL);
    assert_true(ints(&out[0])[0] == PQ_ABSENT && ints(&out[0])[1] == 100 * ints(&in[0])[1]);
    forget();
    ints(add_ints(PQ_SHAPE(2), 1, 5))[0] = PQ_ABSENT;
    const pq_attr narrow = {.to = PQ_S32};
    eval(PQ_OP_CAST, &narrow);
    assert_true(pq_eval_load(&out[0], 0) == PQ_ABSENT);
    forget();
    ints(add_ints(PQ_SHAPE(2), 1, 5))[0] = PQ_ABSENT;
    const pq_attr real = {.to = PQ_F32};
    eval(PQ_OP_CAST, &real);
    assert_true(isnan(floats(&out[0])[0]));
    forget();
    ints(add_ints(PQ_SHAPE(2), 1, 5))[0] = PQ_ABSENT;
    add_ints(PQ_SHAPE(1), 7, 7);
    eval(PQ_OP_LESS, NULL);
    assert_false(((uint8_t *)pq_tensor_data(&out[0]))[0]);
}

static void wrong_indices(void **state)
{
    const pq_attr attr = {.axis = 0};
    (void)state;
    forget();
    add_floats(PQ_SHAPE(3, 2));
    add_ints(PQ_SHAPE(1), 3, 3);
    PQ_CHECK_FAILS(ctx, try_eval(PQ_OP_GATHER, &attr), PQ_E_FORMAT, "index 3, expected -3 to 2");
    assert_null(out[0].buf);
    forget();
    add_floats(PQ_SHAPE(3, 2));
    add_ints(PQ_SHAPE(1, 2), -4, -4);
    PQ_CHECK_FAILS(ctx, try_eval(PQ_OP_GATHER_ND, NULL), PQ_E_FORMAT, "index -4");
}

static int begin(void **state)
{
    (void)state;
    rng = (pq_rng){7};
    return pq_ctx_new(&ctx) != PQ_OK;
}
static int end(void **state)
{
    (void)state;
    forget();
    pq_graph_free(g);
    pq_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs),         cmocka_unit_test(where),
        cmocka_unit_test(tile),          cmocka_unit_test(gather_nd),
        cmocka_unit_test(elements),      cmocka_unit_test(scatter),
        cmocka_unit_test(top_k),         cmocka_unit_test(arg_max),
        cmocka_unit_test(reductions),    cmocka_unit_test(non_zero),
        cmocka_unit_test(suppression),   cmocka_unit_test(absent_rows),
        cmocka_unit_test(wrong_indices),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
