/**
 * @file shared.h
 * What the host and the kernels share: the parameters of every launch and the index arithmetic.
 *
 * Feature maps are NHWC; a pixel's channels begin every `pitch` elements, so that a map can be a
 * slice of a concatenated one. A kernel computes real values and stores them through its `dest`
 * list: one entry for each place and form in which the program wants them.
 */
#ifndef PQ_ENGINE_CUDA_SHARED_H
#define PQ_ENGINE_CUDA_SHARED_H

#include <pquant/engine.h>

#ifdef __CUDACC__
#define PQ_HD __host__ __device__
#else
#define PQ_HD
#endif

enum {
    PQ_CU_DESTS = 8,   /* places a result goes to, at most */
    PQ_CU_RANK = 6,    /* of the generic kernels */
    PQ_CU_LEVELS = 8,  /* of a detection head */
    PQ_CU_WINDOWS = 4, /* that are pooled at once */
    PQ_CU_CHUNK = 16   /* bytes that travel at once */
};

/** Division of n < 2^31 by a number that the host knows, in three instructions for forty: Granlund
 * and Montgomery 1994, "Division by invariant integers using multiplication". */
typedef struct pq_cu_div {
    unsigned by, times, shift; /* n / by is the upper half of n times `times`, shifted */
} pq_cu_div;

static inline pq_cu_div pq_cu_div_by(int by)
{
    pq_cu_div d = {(unsigned)by, 0, 0};
    unsigned bits = 0; /* by <= 2^bits */
    while (1u << bits < d.by) bits++;
    if (by > 1) {
        d.shift = bits - 1;
        d.times = (unsigned)((((uint64_t)1 << (31 + bits)) + d.by - 1) / d.by);
    }
    return d;
}

static inline PQ_HD int pq_cu_quotient(int n, const pq_cu_div *d)
{
    if (d->by == 1) return n;
    return (int)((unsigned)((uint64_t)(unsigned)n * d->times >> 32) >> d->shift);
}

/** Stored numbers as reals: (q - zp) * scale where scale is not 0, else the float itself. */
typedef struct pq_cu_form {
    int dtype; /* pq_dtype: F32, F16, S8, U8 */
    float scale;
    int zp;
} pq_cu_form;

/** Elements from pixel to pixel of a map are a multiple of it: 16 bytes in every form. */
enum { PQ_CU_PITCH = 16 };

/** One place of a result. The value goes through round16, then pre (quantize and back), then form:
 *  the conversions that stood between the node and this stored form. */
typedef struct pq_cu_dest {
    void *data;      /* pixel 0, channel `first` of the node */
    int pitch;       /* elements from pixel to pixel */
    int up;          /* each pixel is written up x up times (nearest upsampling) */
    int first, last; /* channels of the node that go here */
    bool vector;     /* eight channels at a time are aligned */
    bool spare;      /* so may be the last, where fewer exist: what follows is padding */
    bool round16;
    pq_cu_form pre; /* scale 0: none */
    pq_cu_form form;
    float pre_inv, inv; /* 1 / scale, as ref divides */
} pq_cu_dest;

typedef struct pq_cu_act {
    int act; /* pq_act */
    float alpha, beta;
} pq_cu_act;

/** Output pixels: image, row, column. */
typedef struct pq_cu_pixels {
    int n, h, w;
    pq_cu_div by_h, by_w;
} pq_cu_pixels;

static inline pq_cu_pixels pq_cu_pixels_of(int n, int h, int w)
{
    const pq_cu_pixels px = {n, h, w, pq_cu_div_by(h), pq_cu_div_by(w)};
    return px;
}

/** Convolution (also products of matrices: 1 x 1 over rows). */
typedef struct pq_cu_conv {
    const uint8_t *x; /* slice of the input */
    int x_pitch;      /* bytes from pixel to pixel */
    int h, w, c;      /* of the input; c of one group */
    pq_cu_form in;
    int kh, kw, sh, sw, dh, dw, ph, pw;
    int groups;
    bool transposed;
    pq_cu_pixels out;
    int m, n; /* pixels, output channels */
    /* implicit product: rows of k_row chunks of 16 bytes for each output channel; a tap has
     * `chunks` of them, the last one filled with zeros. Other kernels: [o][tap][c]. */
    const uint8_t *weight;
    int chunks, k_chunks, k_row;
    pq_cu_div by_chunks, by_kw;
    const float *scale; /* integers: input scale times the channel's */
    const float *bias;
    bool exact; /* SiLU and Sigmoid with the bits that ref gives them */
    pq_cu_act act, sum_act;
    const uint8_t *residual; /* NULL: none */
    int residual_pitch;      /* elements */
    bool residual_vector;
    pq_cu_form residual_form;
    int split;         /* parts of the inner dimension, one block of a cluster each */
    int steps;         /* of the inner dimension, a part's; the last may have fewer */
    bool plain;        /* it may be finished in registers: integers and float16 that lie aligned */
    bool mixed;        /* a place is not of the type that is multiplied */
    bool in_registers; /* it is finished there: plain and not split */
    float tie;   /* integers: farther from its level a fast SiLU may have another; 0: no bound */
    int staging; /* bytes in shared memory before the place of results, where a block has several
                    tiles; 0: one tile, whose memory they take */
    int n_dest;
    pq_cu_dest dest[PQ_CU_DESTS];
} pq_cu_conv;

/** Output channels of stem, at most. */
enum { PQ_CU_STEM_CHANNELS = 64 };

/** Focus of a plain float32 image [n, 3, 2h, 2w] and a 3 x 3 convolution of what it gives. */
typedef struct pq_cu_stem {
    pq_cu_conv conv;
    const float *image;
    pq_cu_dest in; /* what the image passes on its way to the form that is multiplied */
} pq_cu_stem;

/** Elementwise on maps of the same pixels, eight channels a thread. */
typedef struct pq_cu_rows {
    const uint8_t *x[2];
    int pitch[2]; /* elements */
    bool vector[2];
    pq_cu_form form[2];
    float factor;      /* of MUL with one operand */
    int up[2];         /* operand is smaller by this factor: nearest upsampling while it is read */
    int op;            /* pq_op */
    float alpha, beta; /* of op */
    bool exact;
    pq_cu_act act;
    pq_cu_pixels out;
    int c;
    int n_dest;
    pq_cu_dest dest[PQ_CU_DESTS];
} pq_cu_rows;

typedef struct pq_cu_pool {
    const uint8_t *x;
    int pitch, h, w, c;
    pq_cu_form form;
    int kh, kw, sh, sw, dh, dw, ph, pw;
    bool vector, average, count_pad;
    int h_padded, w_padded; /* padding at the far sides in */
    pq_cu_pixels out;
    int n_dest;
    pq_cu_dest dest[PQ_CU_DESTS];
} pq_cu_pool;

/** Shared memory of spp: a pixel's eight channels twice as float32; as much as every GPU gives. */
enum { PQ_CU_SPP_BYTES = 64, PQ_CU_SPP_SMEM = 48 * 1024 };

/** Maxima over windows of stride 1 that keep the size: several of one input (SPP), one along the
 *  grid's y. */
typedef struct pq_cu_spp {
    const uint8_t *x;
    int pitch, h, w, c; /* pitch: elements */
    pq_cu_form form;
    bool vector;
    pq_cu_pixels out;
    struct {
        int kh, kw, ph, pw;
        int first_dest, n_dest;
    } window[PQ_CU_WINDOWS];
    pq_cu_dest dest[PQ_CU_DESTS];
} pq_cu_spp;

/** Space to depth of a plain float32 image [n, c, 2h, 2w], or only its transposition to NHWC. */
typedef struct pq_cu_image {
    const float *x;
    int c, h, w; /* of the image */
    bool focus;
    pq_cu_pixels out;
    int n_dest;
    pq_cu_dest dest[PQ_CU_DESTS];
} pq_cu_image;

/** A tensor seen through strides (elements). */
typedef struct pq_cu_view {
    uint8_t *data;
    pq_cu_form form;
    int64_t stride[PQ_CU_RANK];
} pq_cu_view;

/** One thread an element of `dim` (row-major order of the output). */
typedef struct pq_cu_map {
    int op; /* pq_op; IDENTITY copies */
    float alpha, beta;
    bool fmod; /* MOD has the sign of the dividend */
    pq_cu_act act;
    int rank, n_in;
    int64_t dim[PQ_CU_RANK], count;
    pq_cu_view in[2]; /* strides along the output's dimensions, 0 where repeated */
    bool reshape;     /* in[0] is addressed by the same linear index over in_dim instead */
    int in_rank;
    int64_t in_dim[PQ_CU_RANK];
    pq_cu_view out;
} pq_cu_map;

/** Sum, mean, product, extreme or softmax over the dimensions marked `reduced`, in index order. */
typedef struct pq_cu_reduce {
    int op; /* pq_op: REDUCE_*, GLOBAL_AVERAGE_POOL, SOFTMAX, LOG_SOFTMAX */
    int rank;
    int64_t dim[PQ_CU_RANK]; /* of the input */
    bool reduced[PQ_CU_RANK];
    int64_t count;      /* of rows: products of the dimensions that stay */
    pq_cu_view in, out; /* out: strides along the input's dimensions, 0 where reduced */
} pq_cu_reduce;

/** Resize of NCHW logic over views: h and w are dimensions 2 and 3. */
typedef struct pq_cu_resize {
    int64_t n, c, h, w, oh, ow;
    int resize, coord, nearest;
    float scale[2];
    pq_cu_view in, out;
} pq_cu_resize;

typedef struct pq_cu_level {
    const uint8_t *cls, *reg;
    int cls_pitch, reg_pitch, h, w; /* elements; pixels */
    pq_cu_form cls_form, reg_form;
    bool cls_vector;
    float factor; /* of the bins' logits */
    float stride;
    int first; /* anchor */
} pq_cu_level;

typedef struct pq_cu_decode {
    int levels, classes, bins, anchors, n;
    int score_blocks; /* of the grid; the others make boxes */
    pq_cu_level level[PQ_CU_LEVELS];
    float *scores, *boxes;
} pq_cu_decode;

/* ---- around the network ---- */

/** Pictures into a plain float32 input [n, c, h, w]; one along the grid's y. */
typedef struct pq_cu_prepare {
    pq_pictures in; /* what it points to is on the device */
    float *x;
    int c, h, w;
} pq_cu_prepare;

/** Outputs to boxes; collect leaves candidates in any order, suppress orders them. */
typedef struct pq_cu_suppress {
    pq_suppression how;
    const float *scores, *boxes; /* outputs how.scores_at, boxes_at */
    int h, w;                    /* of the input */
    pq_cu_div by_classes;
    uint64_t *key;   /* [n, anchors * classes]: pq_score_key, the index being anchor, class */
    uint32_t *count; /* [n] of them; zero before */
    pq_found *found; /* [n, max_det] */
    uint32_t *n_found;
} pq_cu_suppress;

enum { PQ_CU_SUPPRESS_THREADS = 512, PQ_CU_SUPPRESS_CHUNK = 2048, PQ_CU_SUPPRESS_TILE = 64 };

/** Shared memory of a block of suppress. */
typedef struct pq_cu_suppress_block {
    uint64_t key[PQ_CU_SUPPRESS_CHUNK]; /* of the chunk, in order */
    pq_box box[PQ_CU_SUPPRESS_TILE];
    double area[PQ_CU_SUPPRESS_TILE];
    unsigned long long dropped[PQ_CU_SUPPRESS_TILE]; /* by which of the tile, if those stay */
    unsigned long long kept;
    int cls[PQ_CU_SUPPRESS_TILE];
    unsigned bin[256], taken, first_left;
} pq_cu_suppress_block;

/* ---- index arithmetic ---- */

static inline PQ_HD int pq_cu_ceil(int a, int b) { return (a + b - 1) / b; }

/** Chunk `c` of row `r` in a tile whose rows have `per_row` chunks (4, 8 or 16): exclusive or with
 *  the row keeps the eight rows that ldmatrix reads together in different banks. */
static inline PQ_HD int pq_cu_swizzle(int r, int c, int per_row)
{
    return r * per_row + (c ^ (per_row == 4 ? (r >> 1) & 3 : r & 7));
}

/** Words from row to row of a block's sums: eight more than columns, so that rows lie in different
 *  banks. */
#define PQ_CU_SUMS_LD(bn) ((bn) + 8)
/** Bytes of the tiles, or of the sums that take their place: once for each of the warps that share
 *  a tile (wk; 0: four warps together hold it once). */
#define PQ_CU_CONV_TILES(bm, bn, wk, row, stages)                                                  \
    ((stages) * ((bm) + (bn)) * (row) > ((wk) ? (wk) : 1) * (bm)*PQ_CU_SUMS_LD(bn) * 4             \
         ? (stages) * ((bm) + (bn)) * (row)                                                        \
         : ((wk) ? (wk) : 1) * (bm)*PQ_CU_SUMS_LD(bn) * 4)
/** Shared memory of a block: with scale and bias of its channels. */
#define PQ_CU_CONV_SMEM(bm, bn, wk, row, stages)                                                   \
    (PQ_CU_CONV_TILES(bm, bn, wk, row, stages) + 8 * (bn))
/** Of results finished in registers, e bytes each: rows lie so that eight are in different banks.
 */
#define PQ_CU_STAGING(bm, bn, e) ((bm) * ((bn) * (e) + 16))
/** Threads of a block. */
#define PQ_CU_CONV_THREADS(bm, bn, wm, wn, wk)                                                     \
    ((bm) / (wm) * ((bn) / (wn)) * ((wk) ? (wk) : 1) * 32)
/** Steps [begin, end) of the inner dimension that part `i` takes, where each takes so many. */
static inline PQ_HD void pq_cu_part(int steps, int each, int i, int *begin, int *end)
{
    *begin = i * each < steps ? i * each : steps;
    *end = *begin + each < steps ? *begin + each : steps;
}

/** Position of a 16-byte chunk in the inner dimension: tap (ky, kx) and chunk of its channels. */
typedef struct pq_cu_tap {
    int ky, kx, c;
} pq_cu_tap;

static inline PQ_HD pq_cu_tap pq_cu_tap_at(int q, const pq_cu_div *chunks, const pq_cu_div *kw)
{
    pq_cu_tap t;
    const int tap = pq_cu_quotient(q, chunks);
    t.c = q - tap * (int)chunks->by;
    t.ky = pq_cu_quotient(tap, kw);
    t.kx = tap - t.ky * (int)kw->by;
    return t;
}

static inline PQ_HD void pq_cu_tap_advance(pq_cu_tap *t, int by, int chunks, int kw)
{
    t->c += by;
    while (t->c >= chunks) {
        t->c -= chunks;
        if (++t->kx == kw) {
            t->kx = 0;
            t->ky++;
        }
    }
}

/** Address of element i (row-major over dim) through strides. */
static inline PQ_HD int64_t pq_cu_address(const int64_t *dim, const int64_t *stride, int rank,
                                          int64_t i)
{
    int64_t at = 0;
    for (int d = rank - 1; d >= 0; d--) {
        at += i % dim[d] * stride[d];
        i /= dim[d];
    }
    return at;
}

#endif
