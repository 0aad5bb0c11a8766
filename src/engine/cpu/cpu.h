/** @file cpu.h  The cpu engine's inner pieces: its session, convolutions on oneDNN, own kernels. */
#ifndef PQ_ENGINE_CPU_H
#define PQ_ENGINE_CPU_H

#include <oneapi/dnnl/dnnl.h>

#include "engine/cpu/kernel/kernels.h"
#include "engine/stepped.h"
#include "engine/weights.h"

/** Memory order of a slot. LAST: [n, h, w, c] for rank 4, [n, l, c] for rank 3. */
typedef enum cpu_layout { CPU_PLAIN, CPU_LAST } cpu_layout;

typedef struct cpu_conv cpu_conv;
typedef struct cpu_session cpu_session;
typedef pq_status (*cpu_step_fn)(pq_ctx *ctx, cpu_session *s, size_t step);

typedef struct cpu_step {
    cpu_step_fn run; /* NULL: nothing to do, the work is done elsewhere */
    const char *impl;
    cpu_conv *conv;
    pq_slot_id from; /* Focus: the float image it reads in place of its input, or PQ_NONE */
} cpu_step;

struct cpu_session {
    pq_stepped stepped;
    const pq_cpu_kernels *k;
    int n_threads;
    float min_score;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    cpu_layout *layout; /* per slot */
    cpu_step *step;
    float *scratch; /* float results of convolutions whose epilogue runs apart */
    size_t scratch_bytes;
};

static inline pq_grid cpu_grid(const pq_slot *s)
{
    return (pq_grid){s->scale, 1.0f / s->scale, s->zero_point, s->dtype == PQ_S8};
}

/** Convolution, transposed convolution or matrix product of step i. Errors: ENGINE, NOMEM. */
PQ_MUST_USE pq_status cpu_conv_new(pq_ctx *ctx, cpu_conv **out, cpu_session *s, size_t i);
pq_status cpu_conv_run(pq_ctx *ctx, cpu_session *s, size_t i);
const char *cpu_conv_impl(const cpu_conv *c);
void cpu_conv_free(cpu_conv *c);
/** Can a residual of this form be added inside the primitive, in place of the result? */
bool cpu_conv_sums_in_place(const cpu_conv *c);

/** Chooses the kernel of a step that is not weighted, and the layout of its outputs. */
void cpu_choose(cpu_session *s, size_t i);
/** [n, c, h, w] floats to [n, h, w, c]. */
void cpu_to_last(cpu_session *s, float *dst, const float *src, const pq_shape *shape);
/** Activation, residual and storing of float sums left in scratch. */
void cpu_finish(cpu_session *s, size_t i, const float *sum, size_t n);

#define CPU_DNNL(ctx, call)                                                                        \
    do {                                                                                           \
        dnnl_status_t dnnl_st_ = (call);                                                           \
        if (dnnl_st_ != dnnl_success) {                                                            \
            st = pq_fail((ctx), dnnl_st_ == dnnl_out_of_memory ? PQ_E_NOMEM : PQ_E_ENGINE,         \
                         "oneDNN: %s gave status %d", #call, (int)dnnl_st_);                       \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

#endif
