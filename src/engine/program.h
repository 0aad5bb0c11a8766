/**
 * @file program.h
 * Lowering, shared by our own engines: graph + plan -> a list of steps over slots.
 *
 * A slot is one stored form of a value: real (float32 or bfloat16), quantized with given
 * parameters, or the float32 reading of its quantized form. Steps are nodes and conversions; sums
 * behind a convolution are fused into it. What is stored and where conversions stand is decided
 * here once, so that `ref`, `cpu` and others run the same arithmetic.
 */
#ifndef PQ_ENGINE_PROGRAM_H
#define PQ_ENGINE_PROGRAM_H

#include <pquant/engine.h>

typedef enum pq_form {
    PQ_FORM_REAL,       /* x as computed: dtype float32 or bfloat16 (or an integer type) */
    PQ_FORM_QUANTIZED,  /* Q(x) */
    PQ_FORM_DEQUANTIZED /* x^ in float32 */
} pq_form;

typedef struct pq_slot {
    pq_value_id value;
    pq_form form;
    pq_dtype dtype;
    pq_shape shape; /* NCHW */
    float scale;    /* QUANTIZED */
    int32_t zero_point;
    bool constant;   /* bytes are those of the graph's constant */
    int first, last; /* steps that write and last read it; inputs: -1; outputs: n_steps */
} pq_slot;

typedef uint32_t pq_slot_id;

typedef struct pq_step {
    bool convert;        /* in[0] -> out[0] */
    pq_node_id node;     /* unless convert */
    pq_node_id add;      /* residual Add fused behind node, or PQ_NONE */
    pq_slot_id residual; /* its other operand, or PQ_NONE */
    pq_precision precision;
    int n_in, n_out;
    pq_slot_id *in; /* weighted nodes: only the data input; PQ_NONE for absent ones */
    pq_slot_id *out;
} pq_step;

typedef struct pq_program {
    pq_graph *graph;         /* a copy, with the plan's corrected weights in place */
    pq_tensor *weight_scale; /* per value of graph: scales the plan gives, or empty */
    pq_slot *slot;
    size_t n_slots, room_slots;
    pq_step *step;
    size_t n_steps, room_steps;
    struct pq_arena *arena;
} pq_program;

/** fuse_sums: let a residual Add ride on its convolution. Errors: as pq_plan_bind. */
PQ_MUST_USE pq_status pq_program_new(pq_ctx *ctx, pq_program **out, const pq_graph *g,
                                     const pq_plan *plan, bool fuse_sums);
void pq_program_free(pq_program *p);
/** Activation of a weighted node or Add, as (kind, alpha, beta). */
static inline pq_act pq_step_act(const pq_program *p, pq_node_id n)
{
    return n == PQ_NONE ? PQ_ACT_NONE : p->graph->node[n].attr.act;
}
/** Fill the common part of a session (names and shapes of inputs and outputs). */
PQ_MUST_USE pq_status pq_session_describe(pq_ctx *ctx, pq_session *s, const pq_engine *engine,
                                          const pq_graph *g);
void pq_session_forget(pq_session *s);

/** Offsets for slots in one arena by lifetime: best fit, largest first. size[i] == 0 is skipped.
 *  Returns total bytes through *total; offsets are multiples of 64. */
PQ_MUST_USE pq_status pq_memory_plan(pq_ctx *ctx, size_t *offset, size_t *total, const size_t *size,
                                     const int *first, const int *last, size_t n);

#endif
