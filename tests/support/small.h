/** @file small.h  Small graphs for tests of passes: made line by line, compared by running them. */
#ifndef PQ_TESTS_SUPPORT_SMALL_H
#define PQ_TESTS_SUPPORT_SMALL_H

#include <pquant/graph.h>

#include "base/rng.h"
#include "support/check.h"

typedef struct pq_small {
    pq_ctx *ctx;
    pq_graph *g;
    pq_rng rng;
    pq_value_id x; /* input "x" */
} pq_small;

/** All of these end the test on failure. */
void pq_small_begin(pq_small *s, pq_shape input);
void pq_small_end(pq_small *s);
/** Random constant, low .. high. */
pq_value_id pq_small_const(pq_small *s, const char *name, pq_shape shape, double low, double high);
/** A constant of these values. */
pq_value_id pq_small_values(pq_small *s, const char *name, pq_dtype dtype, pq_shape shape,
                            const void *data);
/** Node with one output called "<name>.output". attr may be NULL. */
pq_value_id pq_small_node(pq_small *s, const char *name, pq_op op, const pq_value_id *in, int n_in,
                          const pq_attr *attr);
pq_value_id pq_small_unary(pq_small *s, const char *name, pq_op op, pq_value_id x);
pq_value_id pq_small_binary(pq_small *s, const char *name, pq_op op, pq_value_id a, pq_value_id b);
typedef struct pq_small_window {
    int64_t out, in, kernel, stride, pad, groups;
    bool bias, transposed;
} pq_small_window;
/** One of stride 1 that keeps the size, with a bias. */
static inline pq_small_window pq_small_same(int64_t in, int64_t out, int64_t kernel, int64_t groups)
{
    return (pq_small_window){.out = out,
                             .in = in,
                             .kernel = kernel,
                             .stride = 1,
                             .pad = kernel / 2,
                             .groups = groups,
                             .bias = true};
}
pq_value_id pq_small_conv(pq_small *s, const char *name, pq_value_id x, pq_small_window w);
pq_value_id pq_small_bn(pq_small *s, const char *name, pq_value_id x, int64_t channels);
/** Declare the outputs and infer shapes. */
void pq_small_outputs(pq_small *s, const pq_value_id *v, size_t n);

/** Keep a copy of the graph before a pass; release with pq_graph_free. */
pq_graph *pq_small_copy(pq_small *s);
/** Largest difference of any output between the two on one random input; shapes must agree. */
double pq_small_difference(pq_small *s, const pq_graph *before);
/** Live nodes of that operator. */
size_t pq_small_count(const pq_small *s, pq_op op);

#endif
