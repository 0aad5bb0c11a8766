/** @file cuda.h  The cuda engine's inner pieces: where values lie, what is launched. */
#ifndef PQ_ENGINE_CUDA_CUDA_H
#define PQ_ENGINE_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "base/mem.h"
#include "engine/cuda/accepts.h"
#include "engine/cuda/kernels.h"
#include "engine/program.h"
#include "engine/weights.h"
#include "plan/names.h"

extern const pq_engine pq_engine_cuda;

enum { CU_MOST_SPLIT = 8 }; /* blocks that a cluster may have everywhere */
enum { CU_MOST_VARIANTS = 64 };
enum { CU_SPARE = 256 }; /* bytes behind every slot that may be read and are never written */

/**
 * Where a slot's bytes are and who writes them. A result goes to several slots at once: the step
 * that computes it (owner) also stores what conversions and upsamplings behind it would have made.
 */
typedef struct cu_slot {
    int owner;       /* step whose kernel stores this slot through its list of places, or -1 */
    pq_slot_id pre;  /* quantized form that the value passes on its way here, or PQ_NONE */
    bool round16;    /* it passes float16 */
    int up;          /* upsampled by this factor */
    pq_slot_id root; /* slot whose bytes these are a slice of; itself otherwise */
    int channel;     /* first channel in root */
    bool needed;     /* somebody reads the bytes */
    bool plain;      /* an input of the graph, NCHW in a buffer of its own */
    uint8_t *device; /* of the root: address */
} cu_slot;

/** A result that also goes into channels of another slot: a second concat it is part of, or a
 * concat that is wanted in another form too. */
typedef struct cu_extra {
    pq_slot_id from, to;
    int channel;
} cu_extra;

typedef struct cu_step {
    bool skip;       /* done by others */
    pq_slot_id stem; /* the result of Focus that it makes for itself, from the image; or PQ_NONE */
    size_t leader;   /* convolutions of one input run as one: the first of them; else itself */
    float factor[PQ_CU_LEVELS];
    int n_dest; /* places so far */
    bool side;  /* on the second branch, as its place-th */
    int place;
    int wait;     /* step of the other branch that ends before this one begins, or -1 */
    int from, to; /* steps of the main branch between which it may run, both included */
} cu_step;

/** Where conv_mma finishes its sums: in shared memory, in the registers where they are, or there by
 * blocks that take several tiles, one after the other. */
typedef enum cu_finish { CU_IN_SHARED, CU_IN_REGISTERS, CU_PERSISTENT } cu_finish;

/** How conv_mma runs a layer: its shape, blocks that share the inner dimension, where it ends. */
typedef struct cu_choice {
    int variant, split;
    cu_finish finish;
} cu_choice;

/** One kernel launch. */
typedef struct cu_node {
    const void *kernel;
    unsigned grid[3], block, smem;
    unsigned cluster; /* blocks along z that share a result; 0: none */
    size_t step;
    bool side; /* on the second branch (cu_step says where there) */
    int wait;  /* node of the other branch that ends before this one begins, or -1 */
    int kind;  /* conv_mma: PQ_CU_KIND_*, else -1 */
    cu_choice how;
    const char *impl;
    size_t weight_at, scale_at, bias_at; /* convolutions: offsets in the blob; SIZE_MAX: none */
    union {
        pq_cu_conv conv;
        pq_cu_stem stem; /* begins with conv */
        pq_cu_rows rows;
        pq_cu_pool pool;
        pq_cu_spp spp;
        pq_cu_image image;
        pq_cu_map map;
        pq_cu_reduce reduce;
        pq_cu_resize resize;
        pq_cu_decode decode;
    } p;
} cu_node;

/** What the device is, as far as launching depends on it. */
typedef struct cu_device {
    int id, major, minor, sms;
    size_t smem;    /* a block may have */
    bool dependent; /* the code that runs has programmatic dependent launch and clusters */
    bool groups;    /* and wgmma, where this was built with it: of 9.0 alone */
    char name[96];
} cu_device;

/** For tests. */
typedef struct cu_force {
    int variant, split; /* the shape of conv_mma that every layer takes, instead of the fastest;
                           variant modulo how many there are, where it does not fit the first */
    bool apart;         /* no two slots share memory, so that nothing hides a stray write */
    cu_finish finish;   /* of what may be finished so */
    int blocks;         /* of persistent launches, along the pixels; 0: by what the device holds */
} cu_force;

/** Memory for pictures and boxes, as large as was needed so far. */
typedef struct cu_around {
    uint8_t *pixels; /* device */
    size_t n_pixels;
    uint8_t *table, *host_table; /* device, page-locked: pq_picture [n], then their taps */
    size_t n_table;
    uint64_t *key;   /* device [batch, anchors * classes] */
    uint32_t *count; /* device [2, batch]: candidates, found */
    size_t n_candidates;
    pq_found *found, *host_found; /* device, page-locked: [batch, max_det] */
    uint32_t *host_count;         /* page-locked [batch] */
    size_t n_found;
} cu_around;

typedef struct cu_session {
    pq_session base;
    cu_device device;
    pq_program *program;
    cu_slot *slot; /* per slot */
    cu_step *step; /* per step */
    cu_extra *extra;
    size_t n_extra, room_extra;
    cu_node *node;
    size_t n_nodes, room_nodes;
    uint8_t *blob; /* constants, host side while compiling */
    size_t blob_bytes, blob_room;
    uint8_t *arena, *constants; /* device */
    float **input, **output;    /* device: plain NCHW; output NULL where a slot serves */
    pq_slot_id *output_slot;    /* per output */
    size_t arena_bytes;
    cudaStream_t stream, second; /* second: only while its graph is made */
    cudaEvent_t begin, end;
    cudaGraphExec_t exec;
    cu_around around;
    double device_ms;                            /* of the last run */
    int resident[PQ_CU_KINDS][CU_MOST_VARIANTS]; /* blocks that fit a multiprocessor, persistent */
    int blocks;                                  /* cu_force's, else 0 */
    bool one_by_one; /* PQUANT_CUDA_SYNC: no graph, every launch waited for, so that an error names
                        its node */
} cu_session;

/** compile, with force NULL or not. */
PQ_MUST_USE pq_status cu_session_new(pq_ctx *ctx, pq_session **out, const pq_graph *g,
                                     const pq_plan *plan, const pq_compile_opts *opts,
                                     const cu_force *force);

/** Fails with the call, CUDA's name for the error and its text. */
#define CU_TRY(ctx, call)                                                                          \
    do {                                                                                           \
        const cudaError_t cu_rc = (call);                                                          \
        if (cu_rc != cudaSuccess) {                                                                \
            st = cu_failed((ctx), #call, cu_rc);                                                   \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)
pq_status cu_failed(pq_ctx *ctx, const char *call, cudaError_t rc);
/** Device memory for `what`. Errors: NOMEM (how much, for what), ENGINE. */
PQ_MUST_USE pq_status cu_alloc(pq_ctx *ctx, void *out, size_t bytes, const char *what);

static inline const pq_slot *cu_slot_of(const cu_session *s, pq_slot_id id)
{
    return &s->program->slot[id];
}
static inline const pq_node *cu_node_of(const cu_session *s, size_t i)
{
    return &s->program->graph->node[s->program->step[i].node];
}
/** What step i reads first, where it is a convolution behind Focus: the result of that. */
static inline pq_slot_id cu_input_of(const cu_session *s, size_t i)
{
    return s->step[i].stem != PQ_NONE ? s->step[i].stem : s->program->step[i].in[0];
}
static inline bool cu_is_weighted(const cu_session *s, size_t i)
{
    return !s->program->step[i].convert && pq_op_is_weighted(cu_node_of(s, i)->op) &&
           cu_node_of(s, i)->quant_index >= 0;
}
/** Channels of a slot: dimension 1 of a feature map, the last dimension of anything else. */
static inline int cu_channels(const pq_slot *s)
{
    return s->shape.rank == 0 ? 1 : (int)s->shape.dim[s->shape.rank == 4 ? 1 : s->shape.rank - 1];
}
static inline pq_cu_pixels cu_pixels(const pq_slot *s)
{
    const int64_t *d = s->shape.dim;
    const int64_t c = cu_channels(s) ? cu_channels(s) : 1;
    if (s->shape.rank == 4) return pq_cu_pixels_of((int)d[0], (int)d[2], (int)d[3]);
    return pq_cu_pixels_of(1, 1, (int)(pq_shape_count(&s->shape) / c));
}
static inline pq_cu_form cu_form(const pq_slot *s)
{
    const bool q = s->form == PQ_FORM_QUANTIZED;
    return (pq_cu_form){(int)s->dtype, q ? s->scale : 0.0f, q ? s->zero_point : 0};
}
/** The slot whose bytes those of `id` are a slice of, itself otherwise, and its first channel
 * there. */
pq_slot_id cu_root_of(const cu_session *s, pq_slot_id id, int *channel);
/** Where pixel 0, channel 0 of a slot lies, and elements from pixel to pixel. */
uint8_t *cu_data(const cu_session *s, pq_slot_id id);
int cu_pitch(const cu_session *s, pq_slot_id id);
/** Eight channels at a time lie aligned. */
bool cu_vector(const cu_session *s, pq_slot_id id);
/** Are the channels up to the next multiple of eight written too, with finite numbers? */
bool cu_pads(const cu_session *s, pq_slot_id id);
/** Nearest by the same whole factor both ways: that factor, else 0. */
int cu_whole_factor(const cu_session *s, size_t step);

/** Where output k lies on the device, plain. */
const float *cu_output(const cu_session *s, size_t k);
/** All launches, once its input is there. */
PQ_MUST_USE pq_status cu_run_network(pq_ctx *ctx, cu_session *s);
/** The engine's `pictures`. */
PQ_MUST_USE pq_status cu_pictures(pq_ctx *ctx, pq_session *session, const pq_pictures *in,
                                  const pq_suppression *how, pq_found *out, uint32_t *n_out);
void cu_around_free(cu_around *a);

/** Which steps run on the second branch, once slots have their owners. */
PQ_MUST_USE pq_status cu_branch(pq_ctx *ctx, cu_session *s);
/** Owners, slices, branches, lifetimes; allocates the arena. */
PQ_MUST_USE pq_status cu_layout(pq_ctx *ctx, cu_session *s, const cu_force *force);
/** Bytes that a slot's values take in its root, without what is allocated behind them. */
size_t cu_slot_bytes(const cu_session *s, pq_slot_id id);
/** The list of places of step i's result (and of those it leads). */
int cu_dests(const cu_session *s, size_t i, int first, pq_cu_dest dest[PQ_CU_DESTS]);
/** What the image passes on its way into stem. */
pq_cu_dest cu_stem_input(const cu_session *s, size_t i);
/** The buffer of a plain input. */
float *cu_staging_of(const cu_session *s, pq_slot_id id);
/** Is step i a maximum over windows of stride 1 that keeps the size, of a map that fits a block? */
bool cu_pool_is_same(const cu_session *s, size_t i);
/** Steps to launches. */
PQ_MUST_USE pq_status cu_build(pq_ctx *ctx, cu_session *s);
PQ_MUST_USE pq_status cu_build_conv(pq_ctx *ctx, cu_session *s, size_t i);
/** May step i run on conv_mma, whatever its input's place? */
bool cu_conv_is_dense(const cu_session *s, size_t i);
PQ_MUST_USE pq_status cu_add_node(pq_ctx *ctx, cu_node **out, cu_session *s, size_t step,
                                  const char *impl, const void *kernel, int64_t threads);
/** Room for n bytes of constants; *at is its offset, aligned to 256. */
PQ_MUST_USE pq_status cu_blob_add(pq_ctx *ctx, cu_session *s, size_t *at, size_t n);

/** What earlier sessions measured: those of the file that PQUANT_CUDA_TUNED names, else those of
 * this process. */
typedef struct cu_tuned {
    const char *path; /* NULL: of this process */
    char *of_file;
    int lock; /* the file, which no other process has open meanwhile; -1: none */
} cu_tuned;
/** Waits for others that measure. Errors: IO; nothing is held then. */
PQ_MUST_USE pq_status cu_tuned_open(pq_ctx *ctx, cu_tuned *t);
void cu_tuned_close(cu_tuned *t);
/** Gives n what was found. false: not measured before on such a GPU, or not among what this build
 *  can run. */
bool cu_tuned_find(const cu_tuned *t, const cu_session *s, cu_node *n);
/** Writes down what n was given. Errors: IO. */
PQ_MUST_USE pq_status cu_tuned_add(pq_ctx *ctx, const cu_tuned *t, const cu_session *s,
                                   const cu_node *n);

/** Sets grid and shared memory of a conv_mma node, finished as asked for where possible. */
void cu_choose(const cu_session *s, cu_node *n, cu_choice c);
/** Do they differ only in where their operands lie? */
bool cu_same_shape(const cu_node *a, const cu_node *b);
/** Can the device run it? */
bool cu_fits(const cu_device *d, const pq_cu_variant *v);
const pq_cu_variant *cu_variants(int kind, int *n);
/** Measures how each conv_mma node runs fastest. */
PQ_MUST_USE pq_status cu_tune(pq_ctx *ctx, cu_session *s, const cu_force *force);

enum { CU_RIVALS = 12 };
/** A layer measured by this session. */
typedef struct cu_fresh {
    size_t node;
    int n;
    cu_choice rival[CU_RIVALS]; /* the fastest alone, and what came near */
} cu_fresh;
/** Tries the rivals of each layer, and of those of the same shape, in the network as a whole. */
PQ_MUST_USE pq_status cu_settle(pq_ctx *ctx, cu_session *s, const cu_fresh *fresh, size_t n);
/** All launches, on two branches; the caller destroys the graph. */
PQ_MUST_USE pq_status cu_capture(pq_ctx *ctx, cudaGraphExec_t *out, cu_session *s);
cudaError_t cu_launch(const cu_session *s, const cu_node *n, cudaStream_t stream);
/** A graph of a node's launch, `times` over, each waiting for the one before, to be run any number
 * of times at no cost to the host in between; the caller destroys it. */
PQ_MUST_USE pq_status cu_repeat(pq_ctx *ctx, cudaGraphExec_t *out, const cu_session *s,
                                const cu_node *n, int times);

#endif
