/**
 * @file conv_mma.cuh
 * Convolution as an implicit matrix product: rows are output pixels, columns output channels, the
 * inner dimension runs over taps and input channels in chunks of 16 bytes.
 *
 * float16 and int8 run on tensor cores (m16n8k16 and m16n8k32; on sm_75 as two m16n8k8 and four
 * m8n8k16), float32 on the ordinary cores. A tile moves through shared memory with cp.async,
 * several stages ahead. Weights do not depend on the node before: their first stages are on the way
 * before griddepcontrol.wait. On sm_90 a cluster along z splits the inner dimension: each block
 * leaves its sums in its shared memory and finishes its share of the rows, reading the others'
 * through distributed shared memory, always in the same order. Integer sums are exact in any order.
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

/* Sum of channel c as a real number, bias in it. */
static __device__ __forceinline__ float real_sum(const pq_cu_conv &p, float sum, int c)
{
    return sum + p.bias[c];
}
static __device__ __forceinline__ float real_sum(const pq_cu_conv &p, int sum, int c)
{
    return fmaf((float)sum, p.scale[c], p.bias[c]);
}

/* Activation, residual, activation of the sum, and out: ref's order. */
static __device__ __forceinline__ void finish8(const pq_cu_conv &p, int m, int c, int n, float y[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++) y[i] = activate_as(p.act, y[i], p.exact);
    if (p.residual) {
        const int64_t at = (int64_t)m * p.residual_pitch + c;
        const pq_cu_form &f = p.residual_form;
        if (f.scale != 0) { /* one rounding for scale and sum */
            const pq_cu_form levels = {f.dtype, 1.0f, f.zp};
            float r[8];
            load_some(levels, p.residual, at, n, p.residual_vector, r);
#pragma unroll
            for (int i = 0; i < 8; i++) y[i] = fmaf(r[i], f.scale, y[i]);
        } else {
            float r[8];
            load_some(f, p.residual, at, n, p.residual_vector, r);
#pragma unroll
            for (int i = 0; i < 8; i++) y[i] += r[i];
        }
#pragma unroll
        for (int i = 0; i < 8; i++) y[i] = activate_as(p.sum_act, y[i], p.exact);
    }
    store8(p.dest, p.n_dest, p.out, m, c, n, y);
}

/*
 * BM pixels x BN channels a block, WM x WN a warp, ROW bytes of the inner dimension a stage.
 * Shared memory: STAGES x (BM + BN) x ROW bytes, reused for BM x (BN + 4) sums.
 */
template <int KIND, int BM, int BN, int WM, int WN, int ROW, int STAGES>
__global__ void __launch_bounds__((BM / WM) * (BN / WN) * 32)
    conv_mma(const __grid_constant__ pq_cu_conv p)
{
    typedef typename mma_sum<KIND>::type sum;
    enum {
        THREADS = (BM / WM) * (BN / WN) * 32,
        PER_ROW = ROW / PQ_CU_CHUNK,
        STEP = THREADS / PER_ROW, /* rows that all threads together copy at once */
        RA = (BM + STEP - 1) / STEP,
        RB = (BN + STEP - 1) / STEP,
        A_BYTES = BM * ROW,
        STAGE = (BM + BN) * ROW,
        LD = BN + 4,
        MI = WM / 16,
        NI = WN / 8
    };
    uint8_t *const smem = shared_memory();
    const int tid = (int)threadIdx.x, warp = tid / 32, lane = tid % 32;
    const int m0 = (int)blockIdx.x * BM, n0 = (int)blockIdx.y * BN;
    const int copy_chunk = tid % PER_ROW, copy_row = tid / PER_ROW;
    const shared_at base = shared_address(smem);
    int begin, end;
    pdl_launch();
    pq_cu_part(pq_cu_ceil(p.k_chunks, PER_ROW), p.split, (int)blockIdx.z, &begin, &end);

    const uint8_t *from_b[RB];
    bool in_b[RB];
#pragma unroll
    for (int i = 0; i < RB; i++) {
        const int r = copy_row + i * STEP;
        in_b[i] = n0 + r < p.n;
        from_b[i] = p.weight +
                    ((int64_t)(in_b[i] ? n0 + r : 0) * p.k_row + begin * PER_ROW + copy_chunk) * 16;
    }
    auto copy_b = [&](int stage) {
#pragma unroll
        for (int i = 0; i < RB; i++) {
            const int r = copy_row + i * STEP;
            if (BN % STEP == 0 || r < BN)
                copy16(base + (shared_at)(stage * STAGE + A_BYTES +
                                          16 * pq_cu_swizzle(r, copy_chunk, PER_ROW)),
                       from_b[i], in_b[i] ? 16 : 0);
            from_b[i] += ROW;
        }
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++)
        if (begin + s < end) copy_b(s);

    int iy0[RA], ix0[RA];
    const uint8_t *image[RA];
#pragma unroll
    for (int i = 0; i < RA; i++) {
        const int m = m0 + copy_row + i * STEP;
        const int row = m / p.out.w, x = m - row * p.out.w, n = row / p.out.h,
                  y = row - n * p.out.h;
        const bool in = m < p.m && (BM % STEP == 0 || copy_row + i * STEP < BM);
        iy0[i] = in ? y * p.sh - p.ph : -(1 << 28);
        ix0[i] = x * p.sw - p.pw;
        image[i] = p.x + (int64_t)(in ? n : 0) * p.h * p.w * p.x_pitch;
    }
    pq_cu_tap tap = pq_cu_tap_at(begin * PER_ROW + copy_chunk, p.chunks, p.kw);
    const int c_bytes = p.c * (KIND == MMA_S8 ? 1 : KIND == MMA_F16 ? 2 : 4);
    auto copy_a = [&](int stage) {
        const int dy = tap.ky * p.dh, dx = tap.kx * p.dw;
        const int left = c_bytes - tap.c * 16;
        const int bytes = tap.ky < p.kh ? (left < 16 ? left : 16) : 0;
#pragma unroll
        for (int i = 0; i < RA; i++) {
            const int r = copy_row + i * STEP;
            const int iy = iy0[i] + dy, ix = ix0[i] + dx;
            const bool in =
                (unsigned)iy < (unsigned)p.h && (unsigned)ix < (unsigned)p.w && bytes > 0;
            const uint8_t *from =
                in ? image[i] + (int64_t)(iy * p.w + ix) * p.x_pitch + tap.c * 16 : p.x;
            if (BM % STEP == 0 || r < BM)
                copy16(base +
                           (unsigned)(stage * STAGE + 16 * pq_cu_swizzle(r, copy_chunk, PER_ROW)),
                       from, in ? bytes : 0);
        }
        pq_cu_tap_advance(&tap, PER_ROW, p.chunks, p.kw);
    };

    pdl_wait();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (begin + s < end) copy_a(s);
        copies_commit();
    }

    sum acc[MI][NI][4];
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++)
#pragma unroll
            for (int k = 0; k < 4; k++) acc[i][j][k] = 0;
    const int wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN;

    for (int it = begin; it < end; it++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        const int ahead = it - begin + STAGES - 1;
        if (begin + ahead < end) {
            copy_a(ahead % STAGES);
            copy_b(ahead % STAGES);
        }
        copies_commit();
        const shared_at a0 = base + (shared_at)((it - begin) % STAGES * STAGE), b0 = a0 + A_BYTES;
        if constexpr (KIND == MMA_F32) {
            /* A thread's sums: rows wm + lane / 8 + 4 i, columns wn + lane % 8 + 8 j. */
            const float *a = (const float *)(smem + (it - begin) % STAGES * STAGE);
            const float *b = a + A_BYTES / 4;
#pragma unroll
            for (int q = 0; q < PER_ROW; q++) {
                float4 x[WM / 4];
#pragma unroll
                for (int i = 0; i < WM / 4; i++)
                    x[i] =
                        *(const float4 *)(a + 4 * pq_cu_swizzle(wm + lane / 8 + 4 * i, q, PER_ROW));
#pragma unroll
                for (int j = 0; j < WN / 8; j++) {
                    const float4 w =
                        *(const float4 *)(b + 4 * pq_cu_swizzle(wn + lane % 8 + 8 * j, q, PER_ROW));
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
            for (int k = 0; k < ROW / 32; k++) {
                unsigned a[MI][4], b[NI / 2][4];
#pragma unroll
                for (int i = 0; i < MI; i++)
                    ldmatrix4(a[i],
                              a0 + 16u * (shared_at)pq_cu_swizzle(wm + 16 * i + lane % 16,
                                                                  2 * k + lane / 16, PER_ROW));
#pragma unroll
                for (int j = 0; j < NI / 2; j++)
                    ldmatrix4(b[j], b0 + 16u * (shared_at)pq_cu_swizzle(
                                                   wn + 16 * j + lane / 16 * 8 + lane % 8,
                                                   2 * k + lane / 8 % 2, PER_ROW));
#pragma unroll
                for (int i = 0; i < MI; i++)
#pragma unroll
                    for (int j = 0; j < NI; j++) mma(acc[i][j], a[i], &b[j / 2][j % 2 * 2]);
            }
        }
    }

    /* Sums into shared memory, as [BM][LD] words. */
    copies_wait<0>();
    __syncthreads();
    sum *sums = (sum *)smem;
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++) {
            if (KIND == MMA_F32) {
#pragma unroll
                for (int k = 0; k < 4; k++)
                    sums[(wm + lane / 8 + 4 * (4 * i + k)) * LD + wn + lane % 8 + 8 * j] =
                        acc[i][j][k];
            } else {
                sum *to = sums + (wm + 16 * i + lane / 4) * LD + wn + 8 * j + lane % 4 * 2;
                to[0] = acc[i][j][0];
                to[1] = acc[i][j][1];
                to[8 * LD] = acc[i][j][2];
                to[8 * LD + 1] = acc[i][j][3];
            }
        }
    int rank = 0;
#if __CUDA_ARCH__ >= 900
    if (p.split > 1) {
        cluster_wait();
        rank = (int)blockIdx.z;
    } else
#endif
        __syncthreads();

    for (int e = tid + rank * THREADS; e < BM * (BN / 8); e += THREADS * p.split) {
        const int row = e / (BN / 8), col = e % (BN / 8) * 8, m = m0 + row, c = n0 + col;
        if (m >= p.m || c >= p.n) continue;
        sum t[8];
#pragma unroll
        for (int i = 0; i < 8; i++) t[i] = 0;
#if __CUDA_ARCH__ >= 900
        if (p.split > 1) {
            for (int r = 0; r < p.split; r++) {
                const sum *from = cluster_shared(sums, r);
#pragma unroll
                for (int i = 0; i < 8; i++) t[i] += from[row * LD + col + i];
            }
        } else
#endif
        {
#pragma unroll
            for (int i = 0; i < 8; i++) t[i] = sums[row * LD + col + i];
        }
        const int n = p.n - c < 8 ? p.n - c : 8;
        float y[8];
#pragma unroll
        for (int i = 0; i < 8; i++) y[i] = i < n ? real_sum(p, t[i], c + i) : 0.0f;
        finish8(p, m, c, n, y);
    }
#if __CUDA_ARCH__ >= 900
    if (p.split > 1) cluster_wait(); /* nobody leaves while its sums are read */
#endif
}

#endif
