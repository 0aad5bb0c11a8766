/**
 * @file conv_mma.cuh
 * Convolution as an implicit matrix product: rows are output pixels, columns output channels, the
 * inner dimension runs over taps and input channels in chunks of 16 bytes.
 *
 * float16 and int8 run on tensor cores (m16n8k16 and m16n8k32; on sm_75 as two m16n8k8 and four
 * m8n8k16; on sm_90 also wgmma), float32 on the ordinary cores. A tile moves through shared memory
 * with cp.async, several stages ahead. Weights do not depend on the node before: their first stages
 * are on the way before griddepcontrol.wait. On sm_90 a cluster along z splits the inner dimension:
 * each block leaves its sums in its shared memory and finishes its share of the rows, reading the
 * others' through distributed shared memory, always in the same order. Integer sums are exact in
 * any order.
 */
#ifndef PQ_ENGINE_CUDA_CONV_MMA_CUH
#define PQ_ENGINE_CUDA_CONV_MMA_CUH

#include "engine/cuda/device.cuh"

enum mma_kind { MMA_F16, MMA_S8, MMA_F32 };

/* ---- the kernel ---- */

template <int KIND> struct mma_sum {
    typedef float type;
};
template <> struct mma_sum<MMA_S8> {
    typedef int type;
};

static __device__ __forceinline__ void add_bits(float *t, unsigned bits)
{
    *t += __int_as_float((int)bits);
}
static __device__ __forceinline__ void add_bits(int *t, unsigned bits) { *t += (int)bits; }

/* Eight sums that lie together in shared memory, this block's or another's. */
template <typename T> static __device__ __forceinline__ void add8(T t[8], const T *from)
{
    const uint4 a = *(const uint4 *)from, b = *(const uint4 *)(from + 4);
    add_bits(&t[0], a.x), add_bits(&t[1], a.y), add_bits(&t[2], a.z), add_bits(&t[3], a.w);
    add_bits(&t[4], b.x), add_bits(&t[5], b.y), add_bits(&t[6], b.z), add_bits(&t[7], b.w);
}

static __device__ __forceinline__ void read8(float t[8], const float *from)
{
    const float4 a = *(const float4 *)from, b = *(const float4 *)(from + 4);
    t[0] = a.x, t[1] = a.y, t[2] = a.z, t[3] = a.w;
    t[4] = b.x, t[5] = b.y, t[6] = b.z, t[7] = b.w;
}

/* A sum as a real number, bias in it. */
static __device__ __forceinline__ float real_sum(float sum, float, float bias)
{
    return sum + bias;
}
static __device__ __forceinline__ float real_sum(int sum, float scale, float bias)
{
    return fmaf((float)sum, scale, bias);
}

/* What is known of sums ends here: nobody reads them sooner, or what was made of them later. */
template <int MI, int NI, typename T>
static __device__ __forceinline__ void sums_anew(T (&acc)[MI][NI][4])
{
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++)
#pragma unroll
            for (int k = 0; k < 4; k++) anew(acc[i][j][k]);
}

/* The usual activations of a result: integers' as ref computes them, float16's fast. */
template <int KIND> static __device__ __forceinline__ void activate_usual(int act, float (&y)[4])
{
    if (act == PQ_ACT_RELU) {
#pragma unroll
        for (int i = 0; i < 4; i++) y[i] = relu(y[i]);
    } else if (act == PQ_ACT_SILU && KIND == MMA_S8) {
        silu_exactly(y);
    } else if (act == PQ_ACT_SILU) {
        silu_fast(y);
    }
}

/* Two channels of a residual, added. */
template <int KIND>
static __device__ __forceinline__ void add_pair(const pq_cu_form &f, const uint8_t *from, float *y)
{
    if (KIND == MMA_S8) {
        const unsigned q = *(const uint16_t *)from;
        y[0] = fmaf(level(f, q, 0), f.scale, y[0]);
        y[1] = fmaf(level(f, q, 1), f.scale, y[1]);
    } else {
        const float2 r = __half22float2(*(const __half2 *)from);
        y[0] += r.x;
        y[1] += r.y;
    }
}

/* How a place wants results: as levels of `form`, or of `first` before. */
struct place_form {
    pq_cu_form first, form;
    bool twice;
    float least, most, inv, second_inv;
};

static __device__ __forceinline__ place_form form_of(const pq_cu_dest &d, float floor)
{
    place_form f;
    f.form = d.form;
    f.twice = d.pre.scale != 0;
    f.first = f.twice ? d.pre : d.form;
    f.inv = f.twice ? d.pre_inv : d.inv;
    f.second_inv = d.inv;
    f.least = fmaxf(lowest(f.first), floor);
    f.most = lowest(f.first) + 255.0f;
    return f;
}

enum { ANY_ACT = -1 };

/*
 * The results of a thread's sums into shared memory, LD bytes a row, for one place, of SIZE 1
 * (integers) or 2 (float16). What is done is known while compiling, so that the instructions are
 * few and nothing stands between those of different sums: RESIDUAL, ACT before it, SUM_ACT behind,
 * integers TWICE; with ANY_ACT it is read. Integers end in ReLU by their lower limit (SUM_ACT, or
 * ACT without RESIDUAL, is NONE then), and SiLU from sums of integers is the fast one, computed
 * again near ties (p.tie). to, scale, bias: of the first sum.
 */
template <int KIND, int SIZE, bool RESIDUAL, int ACT, int SUM_ACT, bool TWICE, int LD, int MI,
          int NI, typename T>
static __device__ __forceinline__ void finish_sums(const pq_cu_conv &p, const place_form &f,
                                                   const T (&acc)[MI][NI][4], uint8_t *to,
                                                   const float *scale, const float *bias)
{
    const bool guarded = KIND == MMA_S8 && SIZE == 1 && ACT == PQ_ACT_SILU;
    const bool residual = ACT == ANY_ACT ? p.residual != NULL : RESIDUAL;
    const bool twice = ACT == ANY_ACT ? f.twice : TWICE;
#pragma unroll
    for (int j = 0; j < NI; j++) {
        const float2 by = *(const float2 *)(scale + 8 * j), on = *(const float2 *)(bias + 8 * j);
#pragma unroll
        for (int i = 0; i < MI; i++) {
            uint8_t *const at = to + 16 * i * LD + 8 * j * SIZE;
            const float x[4] = {
                real_sum(acc[i][j][0], by.x, on.x), real_sum(acc[i][j][1], by.y, on.y),
                real_sum(acc[i][j][2], by.x, on.x), real_sum(acc[i][j][3], by.y, on.y)};
            float y[4] = {x[0], x[1], x[2], x[3]};
            if (ACT == PQ_ACT_SILU)
                silu_fast(y);
            else
                activate_usual<KIND>(ACT == ANY_ACT ? p.act.act : ACT, y);
            if (residual) {
                add_pair<KIND>(p.residual_form, at, y);
                add_pair<KIND>(p.residual_form, at + 8 * LD, y + 2);
                activate_usual<KIND>(ACT == ANY_ACT ? p.sum_act.act : SUM_ACT, y);
            }
            if (SIZE == 2) {
                *(__half2 *)at = __floats2half2_rn(y[0], y[1]);
                *(__half2 *)(at + 8 * LD) = __floats2half2_rn(y[2], y[3]);
                continue;
            }
            if (KIND != MMA_S8) round_to_half(y);
            const float tie = as_levels_near(f.least, f.most, f.inv, y);
            if (guarded && tie >= p.tie) {
                y[0] = x[0], y[1] = x[1], y[2] = x[2], y[3] = x[3];
                silu_exactly(y);
                if (residual) {
                    add_pair<KIND>(p.residual_form, at, y);
                    add_pair<KIND>(p.residual_form, at + 8 * LD, y + 2);
                }
                as_levels(f.least, f.most, f.inv, y);
            }
            if (twice) {
                from_levels(f.first.scale, y);
                to_levels(f.form, f.second_inv, y);
            }
            *(uint16_t *)at = (uint16_t)bytes2(y[0], y[1]);
            *(uint16_t *)(at + 8 * LD) = (uint16_t)bytes2(y[2], y[3]);
        }
    }
}

/* finish_sums as a layer and a place want it. */
template <int KIND, int SIZE, int LD, int MI, int NI, typename T>
static __device__ __forceinline__ void finish_as(const pq_cu_conv &p, const pq_cu_dest &d,
                                                 const T (&acc)[MI][NI][4], uint8_t *to,
                                                 const float *scale, const float *bias)
{
    const int act = p.act.act, last = p.residual ? p.sum_act.act : act;
    const bool relu_last = last == PQ_ACT_RELU, ends = last == PQ_ACT_NONE || relu_last;
    const place_form f = form_of(d, SIZE == 1 && relu_last ? 0.0f : -INFINITY);
#define FINISH(residual, act, sum_act, twice)                                                      \
    finish_sums<KIND, SIZE, residual, act, sum_act, twice, LD>(p, f, acc, to, scale, bias)
#define FINISH_INTEGERS(residual, act)                                                             \
    do {                                                                                           \
        if (f.twice)                                                                               \
            FINISH(residual, act, PQ_ACT_NONE, true);                                              \
        else                                                                                       \
            FINISH(residual, act, PQ_ACT_NONE, false);                                             \
    } while (0)
    if constexpr (SIZE == 1 && KIND == MMA_S8) {
        if (act == PQ_ACT_SILU && p.tie > 0) {
            if (!p.residual)
                FINISH_INTEGERS(false, PQ_ACT_SILU);
            else
                FINISH_INTEGERS(true, PQ_ACT_SILU);
        } else if (ends && !p.residual)
            FINISH_INTEGERS(false, PQ_ACT_NONE);
        else if (ends && act == PQ_ACT_NONE)
            FINISH_INTEGERS(true, PQ_ACT_NONE);
        else
            FINISH(false, ANY_ACT, ANY_ACT, false);
    } else if constexpr (SIZE == 1) {
        if (act == PQ_ACT_SILU)
            FINISH(false, PQ_ACT_SILU, PQ_ACT_NONE, false);
        else
            FINISH(false, PQ_ACT_NONE, PQ_ACT_NONE, false);
    } else {
        if (!p.residual && act == PQ_ACT_NONE)
            FINISH(false, PQ_ACT_NONE, PQ_ACT_NONE, false);
        else if (!p.residual && act == PQ_ACT_RELU)
            FINISH(false, PQ_ACT_RELU, PQ_ACT_NONE, false);
        else if (!p.residual && act == PQ_ACT_SILU)
            FINISH(false, PQ_ACT_SILU, PQ_ACT_NONE, false);
        else if constexpr (KIND == MMA_F16) {
            if (act == PQ_ACT_NONE && relu_last)
                FINISH(true, PQ_ACT_NONE, PQ_ACT_RELU, false);
            else if (act == PQ_ACT_SILU && last == PQ_ACT_NONE)
                FINISH(true, PQ_ACT_SILU, PQ_ACT_NONE, false);
            else
                FINISH(false, ANY_ACT, ANY_ACT, false);
        }
    }
#undef FINISH
#undef FINISH_INTEGERS
}

/* The residual of a tile to where its results will be, which are of the same type: the one that is
 * multiplied. Eight channels at a time, as store_place takes them. */
template <int KIND, int BM, int BN, int THREADS>
static __device__ __forceinline__ void copy_residual(const pq_cu_conv &p, shared_at place, int m0,
                                                     int n0)
{
    enum {
        SIZE = KIND == MMA_S8 ? 1 : 2,
        LD = BN * SIZE + 16,
        GROUPS = BN / 8,
        ROWS = THREADS / GROUPS
    };
    const int my_row = (int)(threadIdx.x / GROUPS), my_col = (int)(threadIdx.x % GROUPS * 8);
    const int rows = my_row < ROWS && n0 + my_col < p.n ? (p.m - m0 < BM ? p.m - m0 : BM) : 0;
    const uint8_t *from =
        p.residual + ((int64_t)(m0 + my_row) * p.residual_pitch + (n0 + my_col)) * SIZE;
    shared_at to = place + (shared_at)(my_row * LD + my_col * SIZE);
#pragma unroll 1
    for (int r = my_row; r < rows; r += ROWS) {
        if constexpr (SIZE == 1)
            copy8(to, from);
        else
            copy16(to, from);
        from += (int64_t)p.residual_pitch * (ROWS * SIZE);
        to += ROWS * LD;
    }
}

/* One place of store_registers, SIZE bytes an element; `there`: the residual is. */
template <int KIND, int SIZE, int BM, int BN, int THREADS, int MI, int NI, typename T>
static __device__ __forceinline__ void
store_place(const pq_cu_conv &p, const pq_cu_dest &d, const T (&acc)[MI][NI][4], uint8_t *smem,
            const float *scale, const float *bias, int row, int col, int m0, int n0, bool there)
{
    enum {
        LD = BN * SIZE + 16,
        GROUPS = BN / 8,
        ROWS = THREADS / GROUPS /* that all threads together move at once */
    };
    typedef typename std::conditional<SIZE == 1, uint2, uint4>::type eight;
    const unsigned tid = threadIdx.x;
    const int my_row = (int)(tid / GROUPS), my_col = (int)(tid % GROUPS * 8), up = d.up;
    const int last = last_of(d);
    const bool behind = n0 + my_col >= d.last; /* zeros there */
    const int rows = my_row < ROWS && n0 + my_col < last ? (p.m - m0 < BM ? p.m - m0 : BM) : 0;
    uint8_t *const mine = smem + my_row * LD + my_col * SIZE;
    if (SIZE == (KIND == MMA_S8 ? 1 : 2) && p.residual && !there) {
        copy_residual<KIND, BM, BN, THREADS>(p, shared_address(smem), m0, n0);
        copies_commit();
        copies_wait<0>();
        __syncthreads();
    }
    finish_as<KIND, SIZE, LD>(p, d, acc, smem + row * LD + col * SIZE, scale + col, bias + col);
    __syncthreads();
    if (n0 + my_col < d.first || n0 + my_col >= last) return;
    uint8_t *const data = (uint8_t *)d.data + (n0 + my_col - d.first) * SIZE;
    const uint8_t *from = mine;
    const int pitch = d.pitch * SIZE;
    if (up == 1) {
        uint8_t *to = data + (int64_t)(m0 + my_row) * pitch;
#pragma unroll 1
        for (int r = my_row; r < rows; r += ROWS) {
            *(eight *)to = behind ? eight() : *(const eight *)from;
            from += ROWS * LD;
            to += (int64_t)pitch * ROWS;
        }
        return;
    }
#pragma unroll 1
    for (int r = my_row; r < rows; r += ROWS) {
        const eight v = behind ? eight() : *(const eight *)from;
        uint8_t *to = data + place_of(d, p.out, m0 + r) * SIZE;
        from += ROWS * LD;
#pragma unroll 1
        for (int h = 0; h < up; h++, to += (int64_t)(p.out.w - 1) * up * pitch)
#pragma unroll 1
            for (int w = 0; w < up; w++, to += pitch) *(eight *)to = v;
    }
}

/*
 * What lies in the registers finished there (p.in_registers), so that it crosses shared memory as
 * it is stored, eight channels at a time in and out: a third of the instructions of the general
 * way. But they are as many as a thread has sums, and fetching code is what a block that is alone
 * waits for. row, col: in the block, of this lane's first sum. Rows in shared memory lie so that
 * eight of them are in different banks. Where there is a residual, it lies there first: with memory
 * of its own it has come while the sums were made, but for a second place.
 */
template <int KIND, int BM, int BN, int THREADS, int MI, int NI, typename T>
static __device__ __forceinline__ void
store_registers(const pq_cu_conv &p, T (&acc)[MI][NI][4], uint8_t *smem, const float *scale,
                const float *bias, int row, int col, int m0, int n0)
{
    bool there = p.staging != 0;
#pragma unroll 1
    for (int k = 0; k < p.n_dest; k++) {
        const pq_cu_dest &d = p.dest[k];
        if (last_of(d) <= n0 || d.first >= n0 + BN) continue;
        if (k > 0) __syncthreads();
        /* Integers as floats would be kept for all places: twice the registers. */
        sums_anew(acc);
        if (d.form.scale != 0)
            store_place<KIND, 1, BM, BN, THREADS>(p, d, acc, smem, scale, bias, row, col, m0, n0,
                                                  there);
        else
            store_place<KIND, 2, BM, BN, THREADS>(p, d, acc, smem, scale, bias, row, col, m0, n0,
                                                  there);
        there = false;
    }
}

/* Blocks that a multiprocessor is to have registers for: 80 a thread, or 128 where it has more than
 * 32 sums, but for no more blocks than fit its shared memory; where warps share a tile, as many as
 * a thread likes. */
static constexpr int blocks_for(int warp_sums, int wk, int threads, int smem)
{
    return wk > 1 ? 1
           : (warp_sums > 1024 ? 512 : 768) / threads < (227 << 10) / smem
               ? (warp_sums > 1024 ? 512 : 768) / threads
               : (227 << 10) / smem;
}

/*
 * BM pixels x BN channels a block, WM x WN a warp; WK warps share such a tile and take every WK-th
 * 32 bytes of a stage, ROW bytes of the inner dimension. WK 0: four warps multiply together
 * (wgmma), of which each holds 16 rows of the sums. Shared memory: STAGES x (BM + BN) x ROW bytes,
 * reused for the sums of all WK; behind them scales and biases of BN channels. A persistent block
 * (p.staging) takes every gridDim.x-th tile of pixels, and its results cross memory of their own.
 */
template <int KIND, int BM, int BN, int WM, int WN, int WK, int ROW, int STAGES>
__global__ void __launch_bounds__(PQ_CU_CONV_THREADS(BM, BN, WM, WN, WK),
                                  blocks_for(WM *WN, WK, PQ_CU_CONV_THREADS(BM, BN, WM, WN, WK),
                                             PQ_CU_CONV_SMEM(BM, BN, WK, ROW, STAGES)))
    conv_mma(const __grid_constant__ pq_cu_conv p)
{
    typedef typename mma_sum<KIND>::type sum;
    enum {
        THREADS = PQ_CU_CONV_THREADS(BM, BN, WM, WN, WK),
        GROUP = WK == 0,
        PARTS = GROUP ? 1 : WK,
        AHEAD = GROUP ? STAGES - 2 : STAGES - 1, /* stages under way; one is read till the next */
        PER_ROW = ROW / PQ_CU_CHUNK,
        STEP = THREADS / PER_ROW, /* rows that all threads together copy at once */
        RA = (BM + STEP - 1) / STEP,
        RB = (BN + STEP - 1) / STEP,
        A_BYTES = BM * ROW,
        STAGE = (BM + BN) * ROW,
        LD = PQ_CU_SUMS_LD(BN),
        SUMS = BM * LD,
        MI = WM / 16,
        NI = WN / 8,
        SLICES = ROW / 32 / PARTS
    };
    uint8_t *const smem = shared_memory();
    float *const scale = (float *)(smem + PQ_CU_CONV_TILES(BM, BN, WK, ROW, STAGES)), *const bias =
                                                                                          scale +
                                                                                          BN;
    const unsigned tid = threadIdx.x, lane = tid % 32,
                   warp = GROUP ? of_first_lane(tid / 32) : tid / 32;
    const int n0 = (int)blockIdx.y * BN;
    const int copy_chunk = (int)(tid % PER_ROW), copy_row = (int)(tid / PER_ROW);
    shared_at base = shared_address(smem);
    int begin, end;
    pdl_launch();
    pq_cu_part(pq_cu_ceil(p.k_chunks, PER_ROW), p.steps, (int)blockIdx.z, &begin, &end);
    const int steps = end - begin; /* of a tile */
    const int total = steps * pq_cu_ceil(pq_cu_ceil(p.m, BM) - (int)blockIdx.x, (int)gridDim.x);

    static_assert(STEP % 8 == 0, "a thread's rows have one swizzle");
    shared_at copy_to = base + 16u * (shared_at)pq_cu_swizzle(copy_row, copy_chunk, PER_ROW);
    keep(base), keep(copy_to);

    /* Rows behind the last channel are the last again: nobody stores what they give. */
    const uint8_t *from_b = p.weight + ((int64_t)begin * PER_ROW + copy_chunk) * 16;
    unsigned row_b[RB];
    int step_b = 0;
#pragma unroll
    for (int i = 0; i < RB; i++) {
        const int n = n0 + copy_row + i * STEP;
        row_b[i] = (unsigned)(n < p.n ? n : p.n - 1) * (unsigned)p.k_row * 16u;
        keep(row_b[i]);
    }
    auto copy_b = [&](shared_at stage) {
#pragma unroll
        for (int i = 0; i < RB; i++)
            if (BN % STEP == 0 || copy_row + i * STEP < BN)
                copy16(copy_to + stage + (shared_at)(A_BYTES + i * STEP * ROW), from_b + row_b[i]);
        from_b += ROW;
        if (++step_b == steps) {
            from_b -= (int64_t)steps * ROW;
            step_b = 0;
        }
    };
#pragma unroll 1
    for (int s = 0; s < AHEAD; s++)
        if (s < total) copy_b((shared_at)(s * STAGE));
    for (int i = (int)tid; i < BN && n0 + i < p.n; i += THREADS) {
        scale[i] = p.scale[n0 + i];
        bias[i] = p.bias[n0 + i];
    }

    /* Row i of this thread: what tap (0, 0) reads, which may lie outside, in chunks from the
     * input's begin. No byte is read where a tap lies outside. */
    int iy0[RA], ix0[RA], row_a[RA];
    int tile_a = (int)blockIdx.x, step_a = 0;
    pq_cu_tap tap;
    auto copy_a = [&](shared_at stage) {
        const int pitch = p.x_pitch / PQ_CU_CHUNK;
        if (step_a == 0) {
            tap = pq_cu_tap_at(begin * PER_ROW + copy_chunk, &p.by_chunks, &p.by_kw);
#pragma unroll
            for (int i = 0; i < RA; i++) {
                const int r = copy_row + i * STEP, m = tile_a * BM + r;
                const int row = pq_cu_quotient(m, &p.out.by_w),
                          n = pq_cu_quotient(row, &p.out.by_h);
                iy0[i] = (row - n * p.out.h) * p.sh - p.ph;
                ix0[i] = (m - row * p.out.w) * p.sw - p.pw;
                row_a[i] = ((n * p.h + iy0[i]) * p.w + ix0[i]) * pitch;
                if (m >= p.m || (BM % STEP != 0 && r >= BM)) iy0[i] = -(1 << 28);
            }
        }
        const int dy = tap.ky * p.dh, dx = tap.kx * p.dw;
        const int h = tap.ky < p.kh ? p.h : 0;
        const int offset = (dy * p.w + dx) * pitch + tap.c;
#pragma unroll
        for (int i = 0; i < RA; i++) {
            const bool in =
                (unsigned)(iy0[i] + dy) < (unsigned)h && (unsigned)(ix0[i] + dx) < (unsigned)p.w;
            if (BM % STEP == 0 || copy_row + i * STEP < BM)
                copy16_if(copy_to + stage + (shared_at)(i * STEP * ROW),
                          p.x + (int64_t)(row_a[i] + offset) * PQ_CU_CHUNK, in);
        }
        pq_cu_tap_advance(&tap, PER_ROW, p.chunks, p.kw);
        if (++step_a == steps) {
            step_a = 0;
            tile_a += (int)gridDim.x;
        }
    };

    sum acc[MI][NI][4];
    const int tile = (int)warp / PARTS, part = (int)warp % PARTS;
    const int wm = tile % (BM / WM) * WM, wn = tile / (BM / WM) * WN;
    /* Of this lane's first sums, in the tile. */
    const int sum_row = wm + (int)lane / 4, sum_col = wn + (int)lane % 4 * 2;
    shared_at at_a[SLICES],
        at_b[SLICES]; /* of this lane in a stage; 16 rows on, the same swizzle */
#pragma unroll
    for (int q = 0; q < SLICES && !GROUP; q++) {
        const int k = 2 * (q * PARTS + part);
        at_a[q] =
            16u * (shared_at)pq_cu_swizzle(wm + (int)(lane % 16), k + (int)(lane / 16), PER_ROW);
        at_b[q] = A_BYTES + 16u * (shared_at)pq_cu_swizzle(wn + (int)(lane / 16 * 8 + lane % 8),
                                                           k + (int)(lane / 8 % 2), PER_ROW);
        keep(at_a[q]), keep(at_b[q]);
    }

    const group_tile of_a = group_operand<ROW>(base + (unsigned)(wm / 64 * 64 * ROW)),
                     of_b = group_operand<ROW>(base + A_BYTES);

    /* The steps of all tiles of this block in a row, AHEAD of them on the way while one is
     * multiplied: those of the next tile, too, while one is finished. */
    pdl_wait();
    int copied = 0;
#pragma unroll 1
    for (; copied < AHEAD; copied++) {
        if (copied < total) copy_a((shared_at)(copied * STAGE));
        copies_commit();
    }
    shared_at stage = 0, ahead = AHEAD * STAGE;
    int m0 = (int)blockIdx.x * BM;
#pragma unroll 1
    do {
        if constexpr (KIND != MMA_F32 && PARTS == 1) {
            if (p.staging && p.residual) { /* with the copies of this tile's first step */
                if (m0 != (int)blockIdx.x * BM) __syncthreads(); /* the last results are read */
                copy_residual<KIND, BM, BN, THREADS>(p, base + (shared_at)p.staging, m0, n0);
            }
        }
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int j = 0; j < NI; j++)
#pragma unroll
                for (int k = 0; k < 4; k++) acc[i][j][k] = 0;
#pragma unroll 1
        for (int it = 0; it < steps; it++) {
            copies_wait<AHEAD - 1>();
            if (GROUP) group_visible();
            __syncthreads();
            if constexpr (GROUP) {
                group_begin();
#pragma unroll
                for (int q = 0; q < SLICES; q++)
                    group_mma<NI, ROW>(acc[0], of_a, of_b, stage + (unsigned)(32 * q));
                group_commit();
            }
            if (copied < total) {
                copy_a(ahead);
                copy_b(ahead);
            }
            copied++;
            copies_commit();
            if constexpr (GROUP) {
                group_wait<1>(); /* the stage of the step before is free behind the next barrier */
            } else if constexpr (KIND == MMA_F32) {
                /* A thread's sums: rows wm + lane / 8 + 4 i, columns wn + lane % 8 + 8 j. */
                const float *a = (const float *)(smem + stage);
                const float *b = a + A_BYTES / 4;
                const int ra = wm + (int)lane / 8, rb = wn + (int)lane % 8;
#pragma unroll
                for (int q = 0; q < PER_ROW; q++) {
                    float4 x[WM / 4];
#pragma unroll
                    for (int i = 0; i < WM / 4; i++)
                        x[i] = *(const float4 *)(a + 4 * pq_cu_swizzle(ra + 4 * i, q, PER_ROW));
#pragma unroll
                    for (int j = 0; j < WN / 8; j++) {
                        const float4 w =
                            *(const float4 *)(b + 4 * pq_cu_swizzle(rb + 8 * j, q, PER_ROW));
#pragma unroll
                        for (int i = 0; i < WM / 4; i++) {
                            sum &s = acc[i / 4][j][i % 4];
                            s = fmaf(x[i].x, w.x, s);
                            s = fmaf(x[i].y, w.y, s);
                            s = fmaf(x[i].z, w.z, s);
                            s = fmaf(x[i].w, w.w, s);
                        }
                    }
                }
            } else {
#pragma unroll
                for (int q = 0; q < SLICES; q++) {
                    unsigned a[MI][4], b[NI / 2][4];
#pragma unroll
                    for (int i = 0; i < MI; i++)
                        ldmatrix4(a[i], base + stage + at_a[q] + (unsigned)(16 * i * ROW));
#pragma unroll
                    for (int j = 0; j < NI / 2; j++)
                        ldmatrix4(b[j], base + stage + at_b[q] + (unsigned)(16 * j * ROW));
#pragma unroll
                    for (int i = 0; i < MI; i++)
#pragma unroll
                        for (int j = 0; j < NI; j++) mma(acc[i][j], a[i], &b[j / 2][j % 2 * 2]);
                }
            }
            stage = stage == (STAGES - 1) * STAGE ? 0 : stage + STAGE;
            ahead = ahead == (STAGES - 1) * STAGE ? 0 : ahead + STAGE;
        }
        if constexpr (GROUP) {
            group_wait<0>();
            sums_anew(acc);
        }
        if constexpr (KIND != MMA_F32 && PARTS == 1) {
            if (!p.in_registers) break;
            if (p.staging == 0)
                __syncthreads(); /* the tiles' memory, which others still read */
            else if (p.residual && steps <= AHEAD) { /* no later step has waited for it */
                copies_wait<0>();
                __syncthreads();
            }
            store_registers<KIND, BM, BN, THREADS>(p, acc, smem + p.staging, scale, bias, sum_row,
                                                   sum_col, m0, n0);
            m0 += (int)gridDim.x * BM;
        } else
            break;
    } while (m0 < p.m);
    if (p.in_registers) return;

    copies_wait<0>();
    __syncthreads();
    /* Sums into shared memory, as [PARTS][BM][LD] words. */
    sum *sums = (sum *)smem;
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++) {
            if (KIND == MMA_F32) {
#pragma unroll
                for (int k = 0; k < 4; k++)
                    sums[(wm + (int)lane / 8 + 4 * (4 * i + k)) * LD + wn + (int)lane % 8 + 8 * j] =
                        acc[i][j][k];
            } else {
                sum *to = sums + part * SUMS + (sum_row + 16 * i) * LD + sum_col + 8 * j;
                to[0] = acc[i][j][0];
                to[1] = acc[i][j][1];
                to[8 * LD] = acc[i][j][2];
                to[8 * LD + 1] = acc[i][j][3];
            }
        }
    int rank = 0;
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    if (p.split > 1) {
        if (PARTS > 1) { /* what others read is one number an element */
            for (int e = (int)tid; e < BM * BN; e += THREADS) {
                sum *at = sums + e / BN * LD + e % BN;
#pragma unroll
                for (int k = 1; k < PARTS; k++) *at += at[k * SUMS];
            }
        }
        cluster_wait();
        rank = (int)blockIdx.z;
    }
#endif

#pragma unroll 1
    for (int e = (int)tid + rank * THREADS; e < BM * (BN / 8); e += THREADS * p.split) {
        const int row = e / (BN / 8), col = e % (BN / 8) * 8, m = m0 + row, c = n0 + col;
        if (m >= p.m || c >= pq_cu_ceil(p.n, PQ_CU_PITCH) * PQ_CU_PITCH) continue;
        sum t[8];
#pragma unroll
        for (int i = 0; i < 8; i++) t[i] = 0;
#if __CUDA_ARCH__ >= 900
        if (p.split > 1) {
#pragma unroll 1
            for (int r = 0; r < p.split; r++) add8(t, cluster_shared(sums, r) + row * LD + col);
        } else
#endif
        {
#pragma unroll
            for (int k = 0; k < PARTS; k++) add8(t, sums + k * SUMS + row * LD + col);
        }
        float by[8], on[8], y[8]; /* scales and biases behind the last channel are anything */
        read8(by, scale + col);
        read8(on, bias + col);
#pragma unroll
        for (int i = 0; i < 8; i++) y[i] = real_sum(t[i], by[i], on[i]);
        finish8(p, m, c, p.n - c < 8 ? p.n - c : 8, y);
    }
#if __CUDA_ARCH__ >= 900
    if (p.split > 1) cluster_leave();
#endif
}

#endif
