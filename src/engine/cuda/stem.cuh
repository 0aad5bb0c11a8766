/**
 * @file stem.cuh
 * Focus and the convolution behind it, 3 x 3 over 12 channels, as one: conv_mma would fetch every
 * chunk of the map nine times, and there is little else to do. A block brings the image under its
 * tile and the border around into shared memory, in the form that the convolution takes, and the
 * tensor cores read each tap where it lies. Sums of float16 and int8, as in conv_mma.
 */
#ifndef PQ_ENGINE_CUDA_STEM_CUH
#define PQ_ENGINE_CUDA_STEM_CUH

#include "engine/cuda/conv_mma.cuh"

/* NI: output channels in eights, an even number. */
template <int KIND, int NI> struct stem_shape {
    enum {
        COLS = 32,
        ROWS = NI > 4 ? 4 : 8, /* one a warp */
        THREADS = 32 * ROWS,
        PIXELS = ROWS * COLS,
        PATCH_COLS = COLS + 2,
        PATCH = (ROWS + 2) * PATCH_COLS,
        CHUNKS = KIND == MMA_F16 ? 2 : 1, /* of a pixel; each lies in a plane of its own */
        PLANE = PATCH * PQ_CU_CHUNK,
        STEPS = (9 * CHUNKS + 1) / 2,               /* of two chunks of the inner dimension */
        WEIGHT_ROW = (2 * STEPS + 1) * PQ_CU_CHUNK, /* odd: eight rows in different banks */
        OPERANDS = CHUNKS * PLANE + 8 * NI * WEIGHT_ROW,
        STAGING = PIXELS * (16 * NI + 16), /* results, two bytes each */
        LD = 8 * NI + 4,
        SUMS = PIXELS * LD * 4,
        LARGER = OPERANDS > STAGING ? OPERANDS : STAGING,
        CHANNELS_AT = LARGER > SUMS ? LARGER : SUMS,
        SMEM = CHANNELS_AT + 2 * 8 * NI * 4
    };
};

/* Where chunk k of the inner dimension lies, from the pixel of the first tap on; behind the last
 * one anything finite, as its weights are zero. */
template <typename S> static __device__ __forceinline__ shared_at stem_chunk(int k)
{
    const int last = 9 * S::CHUNKS - 1, c = k < last ? k : last, tap = c / S::CHUNKS;
    return (shared_at)((tap / 3 * S::PATCH_COLS + tap % 3) * PQ_CU_CHUNK +
                       c % S::CHUNKS * S::PLANE);
}

/* Values of the map in the form that is multiplied, of KIND: integers have ROUNDING. */
template <int KIND>
static __device__ __forceinline__ void stem_values(const pq_cu_dest &d, float (&t)[12])
{
    if (d.round16 && (KIND == MMA_S8 || d.pre.scale != 0)) {
#pragma unroll
        for (int i = 0; i < 12; i++) t[i] = __half2float(__float2half_rn(t[i]));
    }
    if (d.pre.scale != 0) {
        to_levels(d.pre, d.pre_inv, t);
        from_levels(d.pre.scale, t);
    }
    if (KIND == MMA_S8) to_levels(d.form, d.inv, t);
}

/* Twelve values of a pixel of the map, zeros behind them and outside. */
template <int KIND, typename S>
static __device__ __forceinline__ void stem_pixel(const pq_cu_stem &p, const float *image,
                                                  uint8_t *to, int y, int x)
{
    const int h = p.conv.out.h, w = p.conv.out.w;
    uint4 a = make_uint4(0, 0, 0, 0), b = a;
    if ((unsigned)y < (unsigned)h && (unsigned)x < (unsigned)w) {
        float t[12];
#pragma unroll
        for (int k = 0; k < 6; k++) {
            const float2 v =
                *(const float2 *)(image + (k % 3 * 2 * h + 2 * y + k / 3) * 2 * w + 2 * x);
            t[k] = v.x;
            t[6 + k] = v.y;
        }
        stem_values<KIND>(p.in, t);
        if (KIND == MMA_F16) {
            __half2 *const u = (__half2 *)&a, *const v = (__half2 *)&b;
#pragma unroll
            for (int i = 0; i < 4; i++) u[i] = __floats2half2_rn(t[2 * i], t[2 * i + 1]);
            v[0] = __floats2half2_rn(t[8], t[9]);
            v[1] = __floats2half2_rn(t[10], t[11]);
        } else
            a = make_uint4(bytes4(t, 0), bytes4(t + 4, 0), bytes4(t + 8, 0), 0);
    }
    *(uint4 *)to = a;
    if (KIND == MMA_F16) *(uint4 *)(to + S::PLANE) = b;
}

/* Results that stand in shared memory, eight channels at a time, to a place. */
template <int SIZE, int NI, typename S>
static __device__ __forceinline__ void stem_store(const pq_cu_conv &p, const pq_cu_dest &d,
                                                  const uint8_t *smem, int image, int y0, int x0)
{
    typedef typename std::conditional<SIZE == 1, uint2, uint4>::type eight;
    enum { LD = 8 * NI * SIZE + 16 };
    const int up = d.up, pitch = d.pitch * SIZE;
#pragma unroll 1
    for (int e = (int)threadIdx.x; e < S::PIXELS * NI; e += S::THREADS) {
        const int r = e / NI, c = e % NI * 8, y = y0 + r / S::COLS, x = x0 + r % S::COLS;
        if (y >= p.out.h || x >= p.out.w || c >= last_of(d)) continue;
        const eight v = c < d.last ? *(const eight *)(smem + r * LD + c * SIZE) : eight();
        uint8_t *to = (uint8_t *)d.data +
                      (place_of(d, p.out, (image * p.out.h + y) * p.out.w + x) + c) * SIZE;
#pragma unroll 1
        for (int i = 0; i < up; i++, to += (int64_t)(p.out.w - 1) * up * pitch)
#pragma unroll 1
            for (int j = 0; j < up; j++, to += pitch) *(eight *)to = v;
    }
}

template <int KIND, int NI>
__global__ void __launch_bounds__(stem_shape<KIND, NI>::THREADS)
    stem(const __grid_constant__ pq_cu_stem p)
{
    typedef stem_shape<KIND, NI> S;
    typedef typename mma_sum<KIND>::type sum;
    enum { MI = 2 }; /* 16 pixels: a warp has a row of the tile */
    const pq_cu_conv &q = p.conv;
    uint8_t *const smem = shared_memory();
    float *const scale = (float *)(smem + S::CHANNELS_AT), *const bias = scale + 8 * NI;
    const int tid = (int)threadIdx.x, lane = tid % 32, warp = tid / 32;
    const int x0 = (int)blockIdx.x * S::COLS, y0 = (int)blockIdx.y * S::ROWS,
              image = (int)blockIdx.z;
    const shared_at base = shared_address(smem);
    pdl_launch();
    /* Rows behind the last channel are the last again: nobody stores what they give. */
    if (lane < 2 * S::STEPS) {
#pragma unroll
        for (int row = warp; row < 8 * NI; row += S::ROWS)
            copy16(base +
                       (shared_at)(S::CHUNKS * S::PLANE + row * S::WEIGHT_ROW + lane * PQ_CU_CHUNK),
                   q.weight + ((row < q.n ? row : q.n - 1) * q.k_row + lane) * PQ_CU_CHUNK);
    }
    copies_commit();
    for (int i = tid; i < 8 * NI && i < q.n; i += S::THREADS) {
        scale[i] = q.scale[i];
        bias[i] = q.bias[i];
    }
    pdl_wait();
    const float *const from = p.image + (int64_t)image * 3 * (2 * q.out.h) * (2 * q.out.w);
#pragma unroll
    for (int i = 0; i < (S::PATCH + S::THREADS - 1) / S::THREADS; i++) {
        const int at = tid + i * S::THREADS;
        if (at < S::PATCH)
            stem_pixel<KIND, S>(p, from, smem + at * PQ_CU_CHUNK, y0 - 1 + at / S::PATCH_COLS,
                                x0 - 1 + at % S::PATCH_COLS);
    }
    copies_wait<0>();
    __syncthreads();

    sum acc[MI][NI][4];
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++)
#pragma unroll
            for (int k = 0; k < 4; k++) acc[i][j][k] = 0;
    const shared_at at_a = base + (shared_at)((warp * S::PATCH_COLS + lane % 16) * PQ_CU_CHUNK),
                    at_b = base + (shared_at)(S::CHUNKS * S::PLANE +
                                              (lane / 16 * 8 + lane % 8) * S::WEIGHT_ROW +
                                              lane / 8 % 2 * PQ_CU_CHUNK);
#pragma unroll
    for (int s = 0; s < S::STEPS; s++) {
        unsigned a[MI][4], b[NI / 2][4];
        const shared_at chunk = lane < 16 ? stem_chunk<S>(2 * s) : stem_chunk<S>(2 * s + 1);
#pragma unroll
        for (int i = 0; i < MI; i++)
            ldmatrix4(a[i], at_a + chunk + (shared_at)(16 * i * PQ_CU_CHUNK));
#pragma unroll
        for (int j = 0; j < NI / 2; j++)
            ldmatrix4(b[j], at_b + (shared_at)(16 * j * S::WEIGHT_ROW + 2 * s * PQ_CU_CHUNK));
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int j = 0; j < NI; j++) mma(acc[i][j], a[i], &b[j / 2][j % 2 * 2]);
    }
    __syncthreads(); /* the operands' memory, which others still read */

    const int row = warp * S::COLS + lane / 4, col = lane % 4 * 2; /* of this lane's first sums */
    if (q.plain) {
#pragma unroll 1
        for (int k = 0; k < q.n_dest; k++) {
            const pq_cu_dest &d = q.dest[k];
            if (k > 0) __syncthreads();
            sums_anew(acc);
            if (d.form.scale != 0) {
                enum { LD = 8 * NI + 16 };
                finish_as<KIND, 1, LD>(q, d, acc, smem + row * LD + col, scale + col, bias + col);
                __syncthreads();
                stem_store<1, NI, S>(q, d, smem, image, y0, x0);
            } else {
                enum { LD = 16 * NI + 16 };
                finish_as<KIND, 2, LD>(q, d, acc, smem + row * LD + 2 * col, scale + col,
                                       bias + col);
                __syncthreads();
                stem_store<2, NI, S>(q, d, smem, image, y0, x0);
            }
        }
        return;
    }
    sum *const sums = (sum *)smem;
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++) {
            sum *to = sums + (row + 16 * i) * S::LD + col + 8 * j;
            to[0] = acc[i][j][0];
            to[1] = acc[i][j][1];
            to[8 * S::LD] = acc[i][j][2];
            to[8 * S::LD + 1] = acc[i][j][3];
        }
    __syncthreads();
#pragma unroll 1
    for (int e = tid; e < S::PIXELS * NI; e += S::THREADS) {
        const int r = e / NI, c = e % NI * 8, y = y0 + r / S::COLS, x = x0 + r % S::COLS;
        if (y >= q.out.h || x >= q.out.w) continue;
        sum t[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        float by[8], on[8], v[8]; /* scales and biases behind the last channel are anything */
        add8(t, sums + r * S::LD + c);
        read8(by, scale + c);
        read8(on, bias + c);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = real_sum(t[i], by[i], on[i]);
        finish8(q, (image * q.out.h + y) * q.out.w + x, c, q.n - c < 8 ? q.n - c : 8, v);
    }
}

/* For n output channels, at most PQ_CU_STEM_CHANNELS. */
template <int KIND> static inline pq_cu_stem_kernel stem_for(int n)
{
#define STEM(ni)                                                                                   \
    {                                                                                              \
        KERNEL((stem<KIND, ni>)), stem_shape<KIND, ni>::ROWS, stem_shape<KIND, ni>::COLS,          \
            stem_shape<KIND, ni>::THREADS, stem_shape<KIND, ni>::SMEM                              \
    }
    static const pq_cu_stem_kernel kernel[] = {STEM(2), STEM(4), STEM(6), STEM(8)};
#undef STEM
    return kernel[n <= 16 ? 0 : n <= 32 ? 1 : n <= 48 ? 2 : 3];
}

#endif
