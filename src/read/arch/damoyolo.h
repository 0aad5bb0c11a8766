/** @file damoyolo.h  DAMO-YOLO from a bare state dict: TinyNAS backbone, GiraffeNeckV2, ZeroHead.
 *
 *  The structure is recognised from keys and shapes. Facts: the modules of damo/base_models,
 * configs/ and nas_backbones/ of tinyvision/DAMO-YOLO. */
#ifndef PQ_READ_ARCH_DAMOYOLO_H
#define PQ_READ_ARCH_DAMOYOLO_H

#include "base/mem.h"
#include "read/pth.h"

/**
 * The network in its training form: RepConv as parallel convolutions with batch norms and a sum,
 * activations as nodes, so that the passes do the fusing. Nodes have the original's module names;
 * the 3x3 branch of a RepConv is already called `….rbr_reparam`, which the fused convolution keeps.
 * quant_index is the original's order of registration. Input "images" [n, 3, h, w], outputs
 * "scores" [n, anchors, classes] and "boxes" [n, anchors, 4] (x1 y1 x2 y2, pixels). Shapes are
 * inferred. Memory: *out is yours.  Errors: UNSUPPORTED (no DAMO-YOLO); FORMAT (a key missing or
 * misshapen, with both shapes); INVALID (config disagrees, input size no multiple of 32); NOMEM.
 */
PQ_MUST_USE pq_status pq_damoyolo_read(pq_ctx *ctx, pq_graph **out, pq_state *s,
                                       const pq_read_opts *opts);

/* ---- shared by damoyolo.c and damoyolo_net.c ---- */

typedef enum pq_damo_kind {
    PQ_DAMO_RES, /* TinyNAS_res */
    PQ_DAMO_CSP, /* TinyNAS_csp */
    PQ_DAMO_MOB  /* TinyNAS_mob */
} pq_damo_kind;

/** The numbers that make a network. Channels unless said otherwise. */
typedef struct pq_damo_net {
    const char *family, *config, *structure; /* names; the last two NULL for a net of the user's */
    pq_damo_kind kind;
    bool focus; /* stem: Focus, else a stride-2 convolution */
    int64_t stem;
    int n_stages; /* behind the stem: 5, csp 4 */
    struct {
        int64_t out, btn; /* btn: inside its blocks */
        int64_t blocks;   /* count */
    } stage[5];
    int64_t block_kernel; /* first kernel of a ResConvBlock: 1 (k1kx) or 3 (kxkx) */
    int64_t neck[3];      /* out: strides 8, 16, 32 */
    int64_t neck_blocks;  /* round(3 * depth) */
    double hidden_ratio;
    int64_t head_kernel, classes, reg_max;
} pq_damo_net;

typedef enum pq_damo_module_kind { PQ_DAMO_CONV, PQ_DAMO_REP, PQ_DAMO_POOL } pq_damo_module_kind;

/** One quantizable operator. */
typedef struct pq_damo_module {
    pq_damo_module_kind kind;
    const char *name; /* of the convolution or pool; REP: of the RepConv */
    const char *bn;   /* of the batch norm behind it, NULL: none (or REP: in the branches) */
    int64_t out, in, kernel, stride, groups;
} pq_damo_module;

/** The operators of a net in the original's order of registration. */
typedef struct pq_damo_plan {
    pq_damo_module *m;
    size_t n, room;
} pq_damo_plan;

/** Fill plan (zeroed; strings in the arena; release m with pq_free). Errors: NOMEM. */
PQ_MUST_USE pq_status pq_damo_plan_make(pq_ctx *ctx, pq_damo_plan *plan, pq_arena *arena,
                                        const pq_damo_net *net);
/** Which net the state dict is: a known one if its convolutions fit best, else the structure that
 * the shapes tell. config: NULL or what the user says it is. Errors: UNSUPPORTED, INVALID, NOMEM.
 */
PQ_MUST_USE pq_status pq_damo_recognise(pq_ctx *ctx, pq_damo_net *out, const pq_state *s,
                                        const char *config);

/** Channels inside a neck block of `mid` channels; MobileV3Block rounds up to a multiple of 8. */
static inline int64_t pq_damo_hidden(const pq_damo_net *net, int64_t mid)
{
    const int64_t c = (int64_t)((double)mid * net->hidden_ratio);
    return net->kind == PQ_DAMO_MOB ? (c + 7) / 8 * 8 : c;
}
/** Stages whose outputs have strides 8, 16 and 32. */
static inline int pq_damo_tap(const pq_damo_net *net, int level)
{
    static const int tap[2][3] = {{1, 3, 4}, {1, 2, 3}};
    return tap[net->kind == PQ_DAMO_CSP][level];
}
/** Of a stage's first block (csp: of its downsampler). */
static inline int64_t pq_damo_stride(const pq_damo_net *net, int stage)
{
    return net->kind != PQ_DAMO_CSP && stage == 3 ? 1 : 2;
}
/** res and mob: position of block b in its stage's list; the SPP stands second in the last stage.
 */
static inline int64_t pq_damo_block_at(const pq_damo_net *net, int stage, int64_t b)
{
    return stage == net->n_stages - 1 && b > 0 ? b + 1 : b;
}

#endif
