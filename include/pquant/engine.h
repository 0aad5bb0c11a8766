/**
 * @file engine.h
 * Engines compile a graph under a plan into a session and run it.
 *
 * probe (what can you do) · accepts (can you run this node at this precision, and if not, why) ·
 * compile · run · destroy; the members behind them are optional (NULL).
 */
#ifndef PQUANT_ENGINE_H
#define PQUANT_ENGINE_H

#include <pquant/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PQ_ENGINE_ABI 2u

typedef struct pq_engine pq_engine;
typedef struct pq_session pq_session;

typedef struct pq_engine_info {
    char version[128]; /* of the library behind it */
    char library[512]; /* that was opened at run time; "": built in */
    char device[128];
    unsigned precisions; /* bit 1 << pq_precision for each that runs natively */
    pq_scheme scheme;    /* default scheme of its plans */
    pq_precision base;   /* of its plans: what it runs best where it is not INT8 */
    bool mixes;          /* FP32 and its half precision may stand side by side in a plan */
    bool taps;           /* compile options tap and keep are honoured */
    bool rounds_outputs; /* its INT8 kernels give quantized results only: plans for it are best made
                            with pq_plan.rounds_outputs */
} pq_engine_info;

/** A value seen in the middle of a run. Valid during the call only. */
typedef struct pq_tap_view {
    const char *name;
    const float *data;  /* real values */
    pq_shape shape;     /* NCHW */
    bool channels_last; /* data is in NHWC order */
} pq_tap_view;
/** Called on the running thread after the value was made; non-OK stops the run. */
typedef pq_status (*pq_tap_fn)(pq_ctx *ctx, void *user, const pq_tap_view *view);

/** Zero means default. */
typedef struct pq_compile_opts {
    int threads;   /* 0: pq_ctx_threads */
    pq_tap_fn tap; /* every float value of the graph is shown to it; fusion of sums is off */
    void *tap_user;
    bool outline;    /* for common_prefix alone: no weights, no memory, cannot run */
    float min_score; /* > 0: boxes of anchors none of whose scores exceeds it may be left zero */
} pq_compile_opts;

/** What a step of an engine is called that no node asked for. */
#define PQ_LAYER_CONVERT "Convert" /* from one precision to another */
#define PQ_LAYER_REORDER "Reorder" /* from one layout to another */

/** What ran for a node, for `bench --layers` and audits. */
typedef struct pq_layer {
    char node[128]; /* of the graph; for conversions the value's or the engine's own name */
    char op[32];
    char impl[64];
    char precision[16]; /* that it computes in: "int8", "fp32", …; conversions: "fp32>int8" */
    int64_t macs; /* > 0: the arithmetic of a weighted node; -1: of one that the engine renamed */
    double ms;    /* of the last timed run */
} pq_layer;

struct pq_engine {
    uint32_t abi; /* PQ_ENGINE_ABI; first field for ever, checked before any other is read */
    const char *name;
    pq_status (*probe)(pq_ctx *ctx, pq_engine_info *out);
    /** false with a reason in *why (static text) where node n cannot run at that precision. */
    bool (*accepts)(const pq_graph *g, const pq_node *n, pq_precision p, const char **why);
    pq_status (*compile)(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts);
    pq_status (*run)(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in, pq_tensor *out,
                     size_t n_out);
    void (*destroy)(pq_session *s);

    /* Optional: per-layer times. Runs once with every step timed and fills out[0 .. *n-1]
     * (room for *n on entry; on return *n is how many there are). */
    pq_status (*layers)(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in, pq_layer *out,
                        size_t *n);
    /* Optional: the weighted steps alone, back to back, on whatever lies in memory: what the
     * network would cost if everything between its convolutions were free. Nothing is computed that
     * means anything. */
    pq_status (*weighted_only)(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in);
    /* Optional: going on from the middle, for sweeps. Steps are 0 .. n; a state is what lives
     * between two. */
    /** How far `s` repeats `base` exactly and can go on from a state of `base`. */
    size_t (*common_prefix)(const pq_session *base, const pq_session *s);
    size_t (*state_bytes)(const pq_session *s, size_t step);
    /** Runs steps [from, to) of s. from > 0: goes on from `state`, taken from session `owner` at
     *  step `from`. to before the end: writes the state there to new_state; else fills out. */
    pq_status (*run_part)(pq_ctx *ctx, pq_session *s, size_t from, size_t to,
                          const pq_session *owner, const void *state, void *new_state,
                          const pq_tensor *in, size_t n_in, pq_tensor *out, size_t n_out);
    /* Optional: milliseconds that the device was at work in the session's last run, copies to and
     * from it not counted. */
    double (*device_ms)(const pq_session *s);
    /* Optional: memory from which copies to the device are fast, for inputs and outputs; other
     * memory does as well. *out is the caller's (pq_buf_unref). Errors: NOMEM, ENGINE. */
    pq_status (*memory)(pq_ctx *ctx, pq_buf **out, size_t bytes);
};

/** First member of every engine's session. */
struct pq_session {
    const pq_engine *engine;
    size_t n_inputs, n_outputs;
    pq_shape *input_shape, *output_shape; /* as the graph's */
    char **input_name, **output_name;
    size_t n_steps; /* 0 where run_part is absent */
    size_t arena_bytes, weight_bytes;
};

/** Engines by name: built-in ones and those opened at run time. NULL terminated list. */
PQ_API const pq_engine *const *pq_engines(void);
/** Errors: INVALID (no such engine; the names that exist). */
PQ_API PQ_MUST_USE pq_status pq_engine_find(pq_ctx *ctx, const pq_engine **out, const char *name);

/**
 * Compile. The session keeps no pointer to graph or plan. Threads: a session runs on one thread at
 * a time. Memory: yours, pq_session_free. Errors: as pq_plan_bind; UNSUPPORTED (node, precision,
 * why).
 */
PQ_API PQ_MUST_USE pq_status pq_compile(pq_ctx *ctx, pq_session **out, const pq_engine *engine,
                                        const pq_graph *g, const pq_plan *plan,
                                        const pq_compile_opts *opts);
/**
 * Run once. in and out are float32 tensors of the session's shapes, in the graph's order; yours.
 * Errors: INVALID (count or shape), ENGINE.
 */
PQ_API PQ_MUST_USE pq_status pq_run(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in,
                                    pq_tensor *out, size_t n_out);
PQ_API void pq_session_free(pq_session *s);
/** A float32 tensor in memory that suits the engine; its numbers are anything. Memory: release with
 *  pq_tensor_clear. Errors: NOMEM, INVALID (bad shape), those of the engine's memory. */
PQ_API PQ_MUST_USE pq_status pq_engine_tensor(pq_ctx *ctx, pq_tensor *out, const pq_engine *engine,
                                              const pq_shape *shape);
/** Output tensors of the right shapes; clear each with pq_tensor_clear. */
PQ_API PQ_MUST_USE pq_status pq_session_outputs(pq_ctx *ctx, pq_tensor **out, pq_session *s);
PQ_API void pq_session_outputs_free(pq_tensor *out, const pq_session *s);

#ifdef __cplusplus
}
#endif
#endif
