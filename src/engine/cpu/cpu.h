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
    float factor[8]; /* GflDecode: per level, see cpu_merge_scales */
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
    float *scratch; /* float results of convolutions whose epilogue runs apart; rows of pooling */
    size_t scratch_bytes;
};

static inline const pq_slot *cpu_slot_of(const cpu_session *s, pq_slot_id id)
{
    return &s->stepped.program->slot[id];
}
static inline void *cpu_data_of(const cpu_session *s, pq_slot_id id) { return s->stepped.ptr[id]; }
static inline const pq_step *cpu_step_of(const cpu_session *s, size_t i)
{
    return &s->stepped.program->step[i];
}
static inline const pq_node *cpu_node_of(const cpu_session *s, size_t i)
{
    return &s->stepped.program->graph->node[cpu_step_of(s, i)->node];
}
static inline size_t cpu_count_of(const pq_slot *s) { return (size_t)pq_shape_count(&s->shape); }
/** Threads worth waking for a step that moves so many bytes. */
static inline int cpu_threads(const cpu_session *s, size_t bytes)
{
    return bytes < 32768 ? 1 : s->n_threads;
}

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

/** memcpy on the session's threads. */
void cpu_copy(const cpu_session *s, void *dst, const void *src, size_t bytes);
/** This thread's `bytes` of scratch; compile reserved cpu_scratch_for. */
void *cpu_scratch_of_thread(const cpu_session *s, size_t bytes);

/* Steps, one function each. */
pq_status cpu_run_focus(pq_ctx *ctx, cpu_session *s, size_t i);
pq_status cpu_run_concat(pq_ctx *ctx, cpu_session *s, size_t i);
pq_status cpu_run_concat_length(pq_ctx *ctx, cpu_session *s, size_t i);
pq_status cpu_run_copy(pq_ctx *ctx, cpu_session *s, size_t i);
pq_status cpu_run_max_pool(pq_ctx *ctx, cpu_session *s, size_t i);
pq_status cpu_run_upsample(pq_ctx *ctx, cpu_session *s, size_t i);
pq_status cpu_run_gfl_decode(pq_ctx *ctx, cpu_session *s, size_t i);
pq_status cpu_run_binary(pq_ctx *ctx, cpu_session *s, size_t i);

/* Steps that do an earlier one's work. */
/** The step that wrote a slot which step `reader` alone reads, once; SIZE_MAX if it is not so. */
size_t cpu_sole_producer(const cpu_session *s, pq_slot_id id, size_t reader);
/** Step i reads in place of its input k what step j reads; j does nothing from now on. */
void cpu_take_over(cpu_session *s, size_t j, size_t i, int k, const char *impl);
void cpu_merge_scales(cpu_session *s, size_t i);

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
