/* Every instruction set's kernels against plain loops: integer ones bit for bit (ref's own store is
 * the truth), exponentials within a bound. Lengths and offsets are random; bytes around each result
 * must stay as they were. */
#include "support/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "engine/cpu/kernel/kernels.h"
#include "engine/ref/ref.h"

enum { MOST = 1500, GUARD = 64, ROUNDS = 300 };

static const pq_cpu_kernels *table[3];
static size_t n_tables;
static pq_rng rng = {42};

/* A result of n bytes with guards on both sides, at any alignment. */
static uint8_t room[8 * MOST + 2 * GUARD + 64];
static void *guarded(size_t n)
{
    uint8_t *p = room + GUARD + pq_rng_below(&rng, 64);
    memset(room, 0xa5, sizeof room);
    assert_true(p + n + GUARD <= room + sizeof room);
    return p;
}
static void check_guards(const void *p, size_t n)
{
    for (const uint8_t *q = room; q < room + sizeof room; q++)
        if (q < (const uint8_t *)p || q >= (const uint8_t *)p + n) assert_int_equal(*q, 0xa5);
}

static float uniform(double low, double high)
{
    return (float)(low + (high - low) * pq_rng_double(&rng));
}

static pq_grid random_grid(void)
{
    pq_grid g = {.scale = uniform(0.001, 0.2), .is_signed = pq_rng_below(&rng, 2)};
    g.inverse = 1.0f / g.scale;
    g.zero_point = g.is_signed ? 0 : (int32_t)pq_rng_below(&rng, 256);
    return g;
}
static pq_slot slot_of(pq_grid g)
{
    return (pq_slot){.form = PQ_FORM_QUANTIZED,
                     .dtype = g.is_signed ? PQ_S8 : PQ_U8,
                     .scale = g.scale,
                     .zero_point = g.zero_point};
}
static int integer(pq_grid g, uint8_t q) { return g.is_signed ? (int)(int8_t)q : (int)q; }
static float real(pq_grid g, uint8_t q) { return (float)(integer(g, q) - g.zero_point) * g.scale; }

/* Values on and beside the ties, beyond both ends, and in between. */
static void fill_for(float *x, size_t n, pq_grid g)
{
    for (size_t i = 0; i < n; i++) switch (pq_rng_below(&rng, 4)) {
        case 0: x[i] = ((float)pq_rng_below(&rng, 300) - 150.5f) * g.scale; break;
        case 1: x[i] = uniform(-1e6, 1e6); break;
        default: x[i] = uniform(-160, 160) * g.scale;
        }
}
static void fill_bytes(uint8_t *q, size_t n)
{
    for (size_t i = 0; i < n; i++) q[i] = (uint8_t)pq_rng_u64(&rng);
}

static float x[MOST + 64], z[MOST + 64];
static uint8_t q[MOST + 64], expected[MOST];

static void test_quantize(void **state)
{
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < ROUNDS; round++) {
            const size_t n = pq_rng_below(&rng, round < 100 ? 40 : MOST),
                         at = pq_rng_below(&rng, 8);
            const pq_grid g = random_grid(), to = random_grid();
            const pq_slot s = slot_of(g), d = slot_of(to);
            fill_for(x + at, n, g);
            fill_bytes(q + at, n);
            uint8_t *got = guarded(n);
            table[t]->quantize(got, x + at, n, g);
            for (size_t i = 0; i < n; i++) pq_ref_store(expected, i, &s, x[at + i]);
            assert_memory_equal(got, expected, n);
            check_guards(got, n);
            got = guarded(n);
            table[t]->requantize(got, q + at, n, g, to);
            for (size_t i = 0; i < n; i++) pq_ref_store(expected, i, &d, real(g, q[at + i]));
            assert_memory_equal(got, expected, n);
            check_guards(got, n);
        }
}

static void test_dequantize(void **state)
{
    float want[MOST];
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < ROUNDS; round++) {
            const size_t n = pq_rng_below(&rng, round < 100 ? 40 : MOST),
                         at = pq_rng_below(&rng, 8);
            const pq_grid g = random_grid();
            fill_bytes(q + at, n);
            fill_for(x, n, g);
            float *got = z + at; /* floats are aligned to their size */
            table[t]->dequantize(got, q + at, n, g);
            for (size_t i = 0; i < n; i++) want[i] = real(g, q[at + i]);
            assert_memory_equal(got, want, n * sizeof *want);
            table[t]->add_scaled(got, x, q + at, n, g);
            for (size_t i = 0; i < n; i++)
                want[i] = fmaf((float)(integer(g, q[at + i]) - g.zero_point), g.scale, x[i]);
            assert_memory_equal(got, want, n * sizeof *want);
        }
}

static void test_bf16(void **state)
{
    static const uint32_t edge[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u,
                                    0x3f808000u, 0x3f818000u, 0x7f7fffffu, 0x00000001u};
    uint16_t half[MOST + 8];
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < ROUNDS; round++) {
            const size_t n = pq_rng_below(&rng, MOST);
            for (size_t i = 0; i < n; i++) {
                const uint32_t bits = i < 8 ? edge[i] : (uint32_t)pq_rng_u64(&rng);
                memcpy(&x[i], &bits, 4);
            }
            half[n] = 0xa5a5;
            table[t]->to_bf16(half, x, n);
            for (size_t i = 0; i < n; i++) assert_int_equal(half[i], pq_f32_to_bf16(x[i]));
            assert_int_equal(half[n], 0xa5a5);
            z[n] = 7;
            table[t]->from_bf16(z, half, n);
            for (size_t i = 0; i < n; i++) {
                const float want = pq_bf16_to_f32(half[i]);
                assert_memory_equal(&z[i], &want, 4);
            }
            assert_true(z[n] == 7.0f);
        }
}

static void test_moves(void **state)
{
    static uint16_t a[MOST + 1], b[MOST], focus[4 * MOST + 1];
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < ROUNDS; round++) {
            const size_t n = pq_rng_below(&rng, MOST);
            for (size_t i = 0; i < n; i++) {
                a[i] = pq_f32_to_bf16(x[i] = uniform(-9, 9));
                b[i] = pq_f32_to_bf16(z[i] = uniform(-9, 9));
            }
            a[n] = 0xa5a5;
            table[t]->max_bf16(a, b, n);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(a[i], pq_f32_to_bf16(fmaxf(pq_bf16_to_f32(pq_f32_to_bf16(x[i])),
                                                            pq_bf16_to_f32(b[i]))));
            assert_int_equal(a[n], 0xa5a5);

            const int64_t w = 2 * (int64_t)pq_rng_below(&rng, MOST / 2 + 1);
            focus[2 * w] = 0xa5a5;
            table[t]->focus_row_bf16(focus, x, z, 1, w, 0);
            for (int64_t i = 0; i < w / 2; i++)
                for (int64_t p = 0; p < 4; p++)
                    assert_int_equal(focus[4 * i + p],
                                     pq_f32_to_bf16((p % 2 ? z : x)[2 * i + p / 2]));
            assert_int_equal(focus[2 * w], 0xa5a5);

            const size_t bytes = 1 + pq_rng_below(&rng, 90), rows = pq_rng_below(&rng, 12);
            const size_t pitch = bytes + pq_rng_below(&rng, 50), all = rows * pitch;
            fill_bytes(q, rows * bytes < sizeof q ? rows * bytes : sizeof q);
            uint8_t *to = guarded(all);
            table[t]->copy_rows(to, pitch, q, bytes, rows);
            for (size_t i = 0; i < rows; i++) {
                assert_memory_equal(to + i * pitch, q + i * bytes, bytes);
                for (size_t k = bytes; k < pitch; k++) assert_int_equal(to[i * pitch + k], 0xa5);
            }
            check_guards(to, all);
        }
}

static void test_elementwise(void **state)
{
    float y[MOST + 8];
    uint8_t m[MOST], n8[MOST];
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < ROUNDS; round++) {
            const size_t n = pq_rng_below(&rng, MOST);
            for (size_t i = 0; i < n; i++) x[i] = uniform(-5, 5), z[i] = uniform(-5, 5);
            y[n] = 7;
            table[t]->add(y, x, z, n);
            for (size_t i = 0; i < n; i++) assert_true(y[i] == x[i] + z[i]);
            table[t]->multiply(y, x, z, n);
            for (size_t i = 0; i < n; i++) assert_true(y[i] == x[i] * z[i]);
            table[t]->multiply_scalar(y, x, 0.3f, n);
            for (size_t i = 0; i < n; i++) assert_true(y[i] == x[i] * 0.3f);
            memcpy(y, z, n * sizeof *y);
            table[t]->max_f32(y, x, n);
            for (size_t i = 0; i < n; i++) assert_true(y[i] == fmaxf(x[i], z[i]));
            assert_true(y[n] == 7.0f);
            fill_bytes(m, n);
            fill_bytes(n8, n);
            uint8_t *got = guarded(n);
            memcpy(got, m, n);
            table[t]->max_u8(got, n8, n);
            for (size_t i = 0; i < n; i++) assert_int_equal(got[i], m[i] > n8[i] ? m[i] : n8[i]);
            memcpy(got, m, n);
            table[t]->max_s8((int8_t *)got, (const int8_t *)n8, n);
            for (size_t i = 0; i < n; i++) {
                const int a = (int8_t)m[i], b = (int8_t)n8[i];
                assert_int_equal((int8_t)got[i], a > b ? a : b);
            }
            check_guards(got, n);
        }
}

static double exact_act(pq_act act, double alpha, double beta, double v)
{
    switch (act) {
    case PQ_ACT_RELU: return v > 0 ? v : 0;
    case PQ_ACT_LEAKY_RELU: return v > 0 ? v : alpha * v;
    case PQ_ACT_CLIP: return fmin(fmax(v, alpha), beta);
    case PQ_ACT_SIGMOID: return 1 / (1 + exp(-v));
    case PQ_ACT_SILU: return v / (1 + exp(-v));
    case PQ_ACT_HARD_SIGMOID: return fmin(fmax(alpha * v + beta, 0), 1);
    case PQ_ACT_HARD_SWISH: return v * fmin(fmax(v / 6 + 0.5, 0), 1);
    case PQ_ACT_TANH: return tanh(v);
    default: return v;
    }
}

/* |error| <= 1e-6 |y| + 3e-7, from the polynomial's 4e-7; e^-x is clipped at e^+-87. */
static void test_activate(void **state)
{
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (pq_act act = PQ_ACT_NONE; act <= PQ_ACT_TANH; act++)
            for (int round = 0; round < 40; round++) {
                const size_t n = pq_rng_below(&rng, MOST);
                const float alpha = act == PQ_ACT_CLIP ? -0.5f : 0.2f;
                const float beta = act == PQ_ACT_CLIP ? 6.0f : 0.5f;
                for (size_t i = 0; i < n; i++)
                    x[i] = i % 9 ? uniform(-20, 20) : uniform(-1000, 1000);
                z[n] = 7;
                table[t]->activate(z, x, n, act, alpha, beta);
                for (size_t i = 0; i < n; i++) {
                    const double want = exact_act(act, (double)alpha, (double)beta, (double)x[i]);
                    if (fabs((double)z[i] - want) > 1e-6 * fabs(want) + 3e-7)
                        fail_msg("%s: activation %d of %.9g is %.9g, expected %.9g", table[t]->isa,
                                 (int)act, (double)x[i], (double)z[i], want);
                }
                assert_true(z[n] == 7.0f);
            }
}

static void test_focus(void **state)
{
    enum { C = 3, W = 1100 };
    static float image[2 * C * W], want[2 * C * W], got[2 * C * W + 1];
    static uint8_t want8[2 * C * W];
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < 60; round++) {
            const int64_t w = 2 * (int64_t)(1 + pq_rng_below(&rng, round < 40 ? 20 : W / 2));
            const pq_grid g = random_grid();
            const pq_slot s = slot_of(g);
            fill_for(image, (size_t)(2 * C * w), g);
            const float *top = image, *bottom = image + w; /* planes of two rows */
            for (int64_t i = 0; i < w / 2; i++)
                for (int64_t k = 0; k < C; k++)
                    for (int64_t p = 0; p < 4; p++) {
                        const size_t to = (size_t)(4 * C * i + p * C + k);
                        want[to] = image[k * 2 * w + p % 2 * w + 2 * i + p / 2];
                        pq_ref_store(want8, to, &s, want[to]);
                    }
            const size_t n = (size_t)(2 * C * w);
            got[n] = 7;
            table[t]->focus_row(got, top, bottom, C, w, (size_t)(2 * w));
            assert_memory_equal(got, want, n * sizeof *want);
            assert_true(got[n] == 7.0f);
            uint8_t *q8 = guarded(n);
            table[t]->focus_row_q8(q8, top, bottom, C, w, (size_t)(2 * w), g);
            assert_memory_equal(q8, want8, n);
            check_guards(q8, n);
        }
}

/* Softmax expectations in double; logits from tame to far outside e^x's range. */
static void test_boxes(void **state)
{
    enum { N = 37, BINS = 17 };
    static float reg[N * 4 * BINS], boxes[N * 4 + 1];
    static const double reach[] = {1, 10, 60, 200, 2000};
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < 50; round++) {
            const double r = reach[round % 5], shift = round % 3 ? 0 : -r;
            for (size_t i = 0; i < N * 4 * BINS; i++) reg[i] = uniform(shift - r, shift + r);
            const int64_t width = 9, x0 = round % 9, y0 = 3;
            boxes[N * 4] = 7;
            table[t]->dfl_boxes(boxes, reg, N, BINS, 8, x0, y0, width);
            for (int64_t a = 0; a < N; a++)
                for (int64_t side = 0; side < 4; side++) {
                    const float *l = reg + (a * 4 + side) * BINS;
                    double top = -1e30, sum = 0, dot = 0;
                    for (int i = 0; i < BINS; i++) top = fmax(top, (double)l[i]);
                    for (int i = 0; i < BINS; i++) {
                        const double e = exp((double)l[i] - top);
                        sum += e;
                        dot += e * i;
                    }
                    const int64_t px = side % 2 ? y0 + (x0 + a) / width : (x0 + a) % width;
                    const double want = (double)px * 8 + (side < 2 ? -8 : 8) * dot / sum;
                    if (fabs((double)boxes[a * 4 + side] - want) > 2e-4)
                        fail_msg("%s: side %.9g, expected %.9g", table[t]->isa,
                                 (double)boxes[a * 4 + side], want);
                }
            assert_true(boxes[N * 4] == 7.0f);
        }
}

static void conv_case(const pq_cpu_kernels *k)
{
    static int16_t w[32 * 32 * 25];
    static uint8_t in[32 * 12 * 12];
    static int32_t sum[32 * 16 + 1];
    const int64_t groups = (int64_t)(1 + pq_rng_below(&rng, 3)),
                  kernel = (int64_t)(1 + pq_rng_below(&rng, 5));
    const int64_t c = groups * (int64_t)(1 + pq_rng_below(&rng, 10)),
                  o = groups * (int64_t)(1 + pq_rng_below(&rng, 10));
    const int64_t stride = (int64_t)(1 + pq_rng_below(&rng, 2)), pad = kernel / 2;
    const pq_window win = {.kernel = {kernel, kernel},
                           .stride = {stride, stride},
                           .dilation = {1, 1},
                           .pad = {pad, pad, pad, pad},
                           .groups = groups};
    const int64_t h = 6 + (int64_t)pq_rng_below(&rng, 6), wd = 6 + (int64_t)pq_rng_below(&rng, 6),
                  ow = (wd + 2 * pad - kernel) / stride + 1,
                  oh = (h + 2 * pad - kernel) / stride + 1;
    const pq_conv_q8 v = {c, h, wd, o, oh, ow, groups, &win};
    const pq_grid g = random_grid();
    const int64_t cg = c / groups, oy = (int64_t)pq_rng_below(&rng, (uint64_t)oh);
    for (int64_t i = 0; i < o * kernel * kernel * cg; i++) w[i] = (int16_t)(int8_t)pq_rng_u64(&rng);
    fill_bytes(in, (size_t)(c * h * wd));
    sum[ow * o] = 7;
    k->conv_row(sum, &v, in, g.is_signed, g.zero_point, w, oy);
    for (int64_t ox = 0; ox < ow; ox++)
        for (int64_t ch = 0; ch < o; ch++) {
            int32_t want = 0;
            for (int64_t t = 0; t < kernel * kernel * cg; t++) {
                const int64_t iy = oy * stride + t / cg / kernel - pad,
                              ix = ox * stride + t / cg % kernel - pad;
                if (iy < 0 || iy >= h || ix < 0 || ix >= wd) continue;
                const uint8_t byte = in[(iy * wd + ix) * c + ch / (o / groups) * cg + t % cg];
                want += (integer(g, byte) - g.zero_point) * w[ch * kernel * kernel * cg + t];
            }
            assert_int_equal(sum[ox * o + ch], want);
        }
    assert_int_equal(sum[ow * o], 7);
}

static void test_conv_row(void **state)
{
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (int round = 0; round < 100; round++) conv_case(table[t]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize),    cmocka_unit_test(test_dequantize),
        cmocka_unit_test(test_bf16),        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_elementwise), cmocka_unit_test(test_activate),
        cmocka_unit_test(test_focus),       cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_conv_row)};
    const pq_cpu *c = pq_cpu_get();
    table[n_tables++] = &pq_cpu_kernels_base;
    if (c->avx2 && c->fma) table[n_tables++] = &pq_cpu_kernels_avx2;
    if (c->avx512) table[n_tables++] = &pq_cpu_kernels_avx512;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
