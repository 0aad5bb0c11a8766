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

#define PQ_ENGINE_ABI 3u

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

/* ---- pictures in, boxes out ---- */

/** Which two pixels (or rows) of a picture make one of the resized: from and from + 1, both held
 * within the picture, with weights in 2048ths. */
typedef struct pq_tap {
    int32_t from;
    int16_t weight[2];
} pq_tap;

/** An 8-bit picture, and where in a network's input its resized copy lies. Borrowed. data.h makes
 * one of a prep (pq_prep_picture). */
typedef struct pq_picture {
    const uint8_t *data;         /* channel c of pixel (x, y) at x * pixel + y * row + c * plane */
    int w, h, channels;          /* 3: red, green, blue, unless it says otherwise; 1: grey */
    size_t pixel, row, plane;    /* bytes */
    int left, top, fit_w, fit_h; /* of the copy; around it is padding */
    pq_tap *across, *down;       /* [fit_w], [fit_h]; NULL: the copy is the picture itself */
    bool reversed;               /* the input's channel c is the picture's 2 - c */
} pq_picture;

/** The first n images of a batch: value = (pixel - mean[c]) * scale[c], c counted in the input's
 *  order; of three channels an input of one makes 0.299 R + 0.587 G + 0.114 B. */
typedef struct pq_pictures {
    const pq_picture *at;
    size_t n;
    uint8_t pad;
    float mean[3], scale[3];
} pq_pictures;

/** Corners, in pixels of the input. */
typedef struct pq_box {
    double x1, y1, x2, y2;
} pq_box;

/** What outputs hold, and which of the boxes in them stay. A: anchors, C: classes. */
typedef struct pq_suppression {
    bool yolox; /* [n, A, 5 + C] in output scores_at (detect.h: PQ_HEAD_YOLOX); false: scores
                   [n, A, C] and corners [n, A, 4] in outputs scores_at and boxes_at */
    int scores_at, boxes_at;
    int64_t anchors;
    int n_classes;
    float conf; /* candidates have score > conf */
    double iou; /* more of it with a better one of the class drops a box */
    int max_det;
} pq_suppression;

typedef struct pq_found {
    pq_box box;
    float score;
    int32_t cls;
} pq_found;

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
    /* Optional: pictures in, boxes out, prepared and suppressed on the device with the results that
     * the host's data and detect stages have, bit for bit. Arguments as pq_run_pictures has them.
     */
    pq_status (*pictures)(pq_ctx *ctx, pq_session *s, const pq_pictures *in,
                          const pq_suppression *how, pq_found *out, uint32_t *n_out);
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
/**
 * Run once from pictures to boxes, for engines that have `pictures`. The session has one input, of
 * at least in->n images.
 * @param out [in->n][how->max_det], n_out [in->n] of them found; best score first, equal scores in
 *  order of anchor, then class. Yours.
 * Errors: INVALID (pictures or outputs do not fit the session), UNSUPPORTED (not by this engine),
 * NOMEM, ENGINE.
 */
PQ_API PQ_MUST_USE pq_status pq_run_pictures(pq_ctx *ctx, pq_session *s, const pq_pictures *in,
                                             const pq_suppression *how, pq_found *out,
                                             uint32_t *n_out);
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
