/* Models with inputs and the outputs that ONNX Runtime gives (make_onnx_cases.py). Include cmocka.h
 * first. */
#ifndef TEST_ONNX_CASES_H
#define TEST_ONNX_CASES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <pquant/tensor.h>

struct case_tensor {
    struct {
        pq_dtype dtype;
        pq_shape shape;
    } type;
    const void *data;
};
struct onnx_case {
    const char *name;
    const uint8_t *model;
    size_t bytes;
    int n_in;
    struct case_tensor in[3];
    int n_out;
    struct case_tensor out[3];
};
#include "onnx_cases.inc"

static inline bool near(double a, double b, double bound)
{
    return a == b || fabs(a - b) <= bound * (0.5 + fabs(b));
}

static inline void check_outputs(const struct onnx_case *c, const pq_tensor *out, double bound)
{
    for (int i = 0; i < c->n_out; i++) {
        char got[160], want[160];
        pq_shape_text(&out[i].shape, got, sizeof got);
        pq_shape_text(&c->out[i].type.shape, want, sizeof want);
        if (strcmp(got, want) != 0) fail_msg("%s: shape %s, expected %s", c->name, got, want);
        assert_int_equal(out[i].dtype, c->out[i].type.dtype);
        const size_t n = (size_t)pq_shape_count(&out[i].shape);
        for (size_t k = 0; k < n; k++) {
            const double a = pq_element(out[i].dtype, pq_tensor_data(&out[i]), k);
            const double b = pq_element(out[i].dtype, c->out[i].data, k);
            if (!near(a, b, bound))
                fail_msg("%s: output %d[%zu] is %.9g, expected %.9g", c->name, i, k, a, b);
        }
    }
}

#endif
