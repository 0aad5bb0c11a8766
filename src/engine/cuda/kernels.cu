/* Everything but the tensor core convolutions: depthwise and odd convolutions, elementwise,
 * pooling, the image, generic strided operators, box decoding. */
#include "engine/cuda/device.cuh"
#include "engine/cuda/kernels.h"

/* Which pixel and which eight channels a thread has; false: none. */
static __device__ __forceinline__ bool own8(int m, int n, int *pixel, int *c)
{
    const int groups = (n + 7) / 8;
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)m * groups) return false;
    *pixel = (int)(i / groups);
    *c = (int)(i % groups) * 8;
    return true;
}

/* Weights [tap][n rounded up to 8]: s8 for integers, float32 else. Channels of x lie aligned. */
__global__ void __launch_bounds__(PQ_CU_THREADS) depthwise(const __grid_constant__ pq_cu_conv p)
{
    int m, c;
    pdl_launch();
    pdl_wait();
    if (!own8(p.m, p.n, &m, &c)) return;
    const int row = pq_cu_quotient(m, &p.out.by_w), x = m - row * p.out.w,
              image = pq_cu_quotient(row, &p.out.by_h), y = row - image * p.out.h,
              wide = (p.n + 7) / 8 * 8;
    const bool integer = p.in.scale != 0;
    const pq_cu_form levels = {p.in.dtype, 1.0f, p.in.zp};
    const int element = p.in.dtype == PQ_F32 ? 4 : p.in.dtype == PQ_F16 ? 2 : 1;
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int ky = 0; ky < p.kh; ky++) {
        const int iy = y * p.sh - p.ph + ky * p.dh;
        if ((unsigned)iy >= (unsigned)p.h) continue;
        for (int kx = 0; kx < p.kw; kx++) {
            const int ix = x * p.sw - p.pw + kx * p.dw, tap = ky * p.kw + kx;
            if ((unsigned)ix >= (unsigned)p.w) continue;
            const int64_t at = ((int64_t)(image * p.h + iy) * p.w + ix) * (p.x_pitch / element) + c;
            float v[8], w[8];
            load8(integer ? levels : p.in, p.x, at, v);
            if (integer) {
                const pq_cu_form s8 = {PQ_S8, 1.0f, 0};
                load8(s8, p.weight, (int64_t)tap * wide + c, w);
            } else {
                const pq_cu_form f32 = {PQ_F32, 0.0f, 0};
                load8(f32, p.weight, (int64_t)tap * wide + c, w);
            }
            /* Integers up to 255 * 127 * taps stay exact in a float below 2^24. */
#pragma unroll
            for (int i = 0; i < 8; i++) sum[i] = fmaf(v[i], w[i], sum[i]);
        }
    }
    const int n = p.n - c < 8 ? p.n - c : 8;
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (i < n)
            sum[i] = integer ? fmaf(sum[i], p.scale[c + i], p.bias[c + i]) : sum[i] + p.bias[c + i];
    finish8(p, m, c, n, sum);
}

/* Input coordinate that output o reads through tap k, or -1. */
static __device__ __forceinline__ int source(bool transposed, int o, int k, int stride,
                                             int dilation, int pad, int n)
{
    if (!transposed) {
        const int i = o * stride + k * dilation - pad;
        return (unsigned)i < (unsigned)n ? i : -1;
    }
    const int t = o + pad - k * dilation;
    return t >= 0 && t % stride == 0 && t / stride < n ? t / stride : -1;
}

/* Weights [o][tap][c]: s8 for integers, float32 else. */
__global__ void __launch_bounds__(PQ_CU_THREADS) direct(const __grid_constant__ pq_cu_conv p)
{
    int m, c;
    pdl_launch();
    pdl_wait();
    if (!own8(p.m, p.n, &m, &c)) return;
    const int row = pq_cu_quotient(m, &p.out.by_w), x = m - row * p.out.w,
              image = pq_cu_quotient(row, &p.out.by_h), y = row - image * p.out.h,
              og = p.n / p.groups;
    const bool integer = p.in.scale != 0;
    const pq_cu_form levels = {p.in.dtype, 1.0f, p.in.zp};
    const int element = p.in.dtype == PQ_F32 ? 4 : p.in.dtype == PQ_F16 ? 2 : 1;
    const int n = p.n - c < 8 ? p.n - c : 8;
    float out[8];
    for (int i = 0; i < n; i++) {
        const int o = c + i, c0 = o / og * p.c;
        float sum = 0;
        int isum = 0;
        for (int ky = 0; ky < p.kh; ky++) {
            const int iy = source(p.transposed, y, ky, p.sh, p.dh, p.ph, p.h);
            if (iy < 0) continue;
            for (int kx = 0; kx < p.kw; kx++) {
                const int ix = source(p.transposed, x, kx, p.sw, p.dw, p.pw, p.w);
                if (ix < 0) continue;
                const int64_t at =
                    ((int64_t)(image * p.h + iy) * p.w + ix) * (p.x_pitch / element) + c0;
                const int64_t wt = ((int64_t)o * p.kh * p.kw + ky * p.kw + kx) * p.c;
                for (int k = 0; k < p.c; k++) {
                    if (integer)
                        isum += (int)load_one(levels, p.x, at + k) *
                                (int)((const int8_t *)p.weight)[wt + k];
                    else
                        sum = fmaf(load_one(p.in, p.x, at + k), ((const float *)p.weight)[wt + k],
                                   sum);
                }
            }
        }
        out[i] = integer ? fmaf((float)isum, p.scale[o], p.bias[o]) : sum + p.bias[o];
    }
    for (int i = n; i < 8; i++) out[i] = 0;
    finish8(p, m, c, n, out);
}

/* ---- elementwise ---- */

/* e^x rounded as glibc's expf rounds it: 2^(k/32) from a table, a cubic in double. glibc 2.28 and
 * later; from Arm's optimized routines, exp2f_data.c. The bits of 2^(i/32) less i << 47. */
static __constant__ const unsigned long long exp_table[32] = {
    0x3ff0000000000000, 0x3fefd9b0d3158574, 0x3fefb5586cf9890f, 0x3fef9301d0125b51,
    0x3fef72b83c7d517b, 0x3fef54873168b9aa, 0x3fef387a6e756238, 0x3fef1e9df51fdee1,
    0x3fef06fe0a31b715, 0x3feef1a7373aa9cb, 0x3feedea64c123422, 0x3feece086061892d,
    0x3feebfdad5362a27, 0x3feeb42b569d4f82, 0x3feeab07dd485429, 0x3feea47eb03a5585,
    0x3feea09e667f3bcd, 0x3fee9f75e8ec5f74, 0x3feea11473eb0187, 0x3feea589994cce13,
    0x3feeace5422aa0db, 0x3feeb737b0cdc5e5, 0x3feec49182a3f090, 0x3feed503b23e255d,
    0x3feee89f995ad3ad, 0x3feeff76f2fb5e47, 0x3fef199bdd85529c, 0x3fef3720dcef9069,
    0x3fef5818dcfba487, 0x3fef7c97337b9b5f, 0x3fefa4afa2a490da, 0x3fefd0765b6e4540};

static __device__ __noinline__ float exp_exact(float x)
{
    if (!(x == x)) return x;
    if (x > 0x1.62e42ep6f) return __int_as_float(0x7f800000);
    if (x < -0x1.9fe368p6f) return 0.0f;
    const double z = 0x1.71547652b82fep+0 * 32 * (double)x;
    const double kd = rint(z), r = z - kd;
    const long long k = (long long)kd;
    const unsigned long long t = exp_table[k & 31] + ((unsigned long long)k << 47);
    const double s = __longlong_as_double((long long)t);
    const double p = fma(0x1.c6af84b912394p-5 / 32 / 32 / 32, r, 0x1.ebfce50fac4f3p-3 / 32 / 32);
    const double r2 = r * r;
    const double y = fma(0x1.62e42ff0c52d6p-1 / 32, r, 1.0);
    return (float)(fma(p, r2, y) * s);
}

static __device__ __noinline__ float unary(int op, float x, float alpha, float beta, bool exact)
{
    switch (op) {
    case PQ_OP_RELU: return activate_as({PQ_ACT_RELU, 0, 0}, x, exact);
    case PQ_OP_LEAKY_RELU: return activate_as({PQ_ACT_LEAKY_RELU, alpha, beta}, x, exact);
    case PQ_OP_SIGMOID: return activate_as({PQ_ACT_SIGMOID, 0, 0}, x, exact);
    case PQ_OP_SILU: return activate_as({PQ_ACT_SILU, 0, 0}, x, exact);
    case PQ_OP_HARD_SIGMOID: return activate_as({PQ_ACT_HARD_SIGMOID, alpha, beta}, x, exact);
    case PQ_OP_HARD_SWISH: return activate_as({PQ_ACT_HARD_SWISH, 0, 0}, x, exact);
    case PQ_OP_TANH: return tanhf(x);
    case PQ_OP_CLIP: return activate_as({PQ_ACT_CLIP, alpha, beta}, x, exact);
    case PQ_OP_EXP: return exp_exact(x);
    case PQ_OP_LOG: return logf(x);
    case PQ_OP_SQRT: return sqrtf(x);
    case PQ_OP_NEG: return -x;
    case PQ_OP_ABS: return fabsf(x);
    case PQ_OP_FLOOR: return floorf(x);
    case PQ_OP_CEIL: return ceilf(x);
    case PQ_OP_ROUND: return rintf(x);
    case PQ_OP_RECIPROCAL: return 1.0f / x;
    case PQ_OP_ERF: return erff(x);
    case PQ_OP_SOFTPLUS: return x > 0 ? x + log1pf(exp_exact(-x)) : log1pf(exp_exact(x));
    case PQ_OP_ELU: return x < 0 ? alpha * expm1f(x) : x;
    case PQ_OP_SIGN: return x > 0 ? 1.0f : x < 0 ? -1.0f : x;
    case PQ_OP_SIN: return sinf(x);
    case PQ_OP_COS: return cosf(x);
    default: return x;
    }
}

static __device__ __noinline__ float binary(int op, bool fmod, float a, float b)
{
    switch (op) {
    case PQ_OP_ADD: return a + b;
    case PQ_OP_SUB: return a - b;
    case PQ_OP_MUL: return a * b;
    case PQ_OP_DIV: return a / b;
    case PQ_OP_POW: return powf(a, b);
    case PQ_OP_MIN: return a < b ? a : b;
    case PQ_OP_MAX: return a > b ? a : b;
    case PQ_OP_PRELU: return a < 0 ? a * b : a;
    default: { /* MOD */
        const float m = fmodf(a, b);
        return fmod || m == 0 || (m < 0) == (b < 0) ? m : m + b;
    }
    }
}

__global__ void __launch_bounds__(PQ_CU_THREADS) rows(const __grid_constant__ pq_cu_rows p)
{
    int m, c;
    pdl_launch();
    pdl_wait();
    if (!own8(p.out.n * p.out.h * p.out.w, p.c, &m, &c)) return;
    const int n = p.c - c < 8 ? p.c - c : 8;
    float v[2][8];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        if (!p.x[k]) continue;
        int from = m;
        if (p.up[k] > 1) {
            const int row = pq_cu_quotient(m, &p.out.by_w), x = m - row * p.out.w;
            from = row / p.up[k] * (p.out.w / p.up[k]) + x / p.up[k];
        }
        load_some(p.form[k], p.x[k], (int64_t)from * p.pitch[k] + c, n, p.vector[k], v[k]);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float y = p.x[1]              ? binary(p.op, false, v[0][i], v[1][i])
                  : p.op == PQ_OP_MUL ? v[0][i] * p.factor
                                      : unary(p.op, v[0][i], p.alpha, p.beta, p.exact);
        v[0][i] = y;
    }
    activate(p.act, p.exact, v[0]);
    store8(p.dest, p.n_dest, p.out, m, c, n, v[0]);
}

__global__ void __launch_bounds__(PQ_CU_THREADS) pool(const __grid_constant__ pq_cu_pool p)
{
    int m, c;
    pdl_launch();
    pdl_wait();
    if (!own8(p.out.n * p.out.h * p.out.w, p.c, &m, &c)) return;
    const int row = pq_cu_quotient(m, &p.out.by_w), x = m - row * p.out.w,
              image = pq_cu_quotient(row, &p.out.by_h), y = row - image * p.out.h;
    float v[8];
    int count = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = p.average ? 0.0f : __int_as_float((int)0xff800000);
    const int n = p.c - c < 8 ? p.c - c : 8;
    for (int ky = 0; ky < p.kh; ky++) {
        const int iy = y * p.sh - p.ph + ky * p.dh;
        for (int kx = 0; kx < p.kw; kx++) {
            const int ix = x * p.sw - p.pw + kx * p.dw;
            const bool in = (unsigned)iy < (unsigned)p.h && (unsigned)ix < (unsigned)p.w;
            /* padding that was asked for counts, what ceil_mode adds beyond it does not */
            count += in || (p.count_pad && iy < p.h_padded && ix < p.w_padded);
            if (!in) continue;
            float t[8];
            load_some(p.form, p.x, ((int64_t)(image * p.h + iy) * p.w + ix) * p.pitch + c, n,
                      p.vector, t);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = p.average ? v[i] + t[i] : t[i] > v[i] ? t[i] : v[i];
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (p.average && count) v[i] = v[i] / (float)count;
    store8(p.dest, p.n_dest, p.out, m, c, n, v);
}

static __device__ __forceinline__ float4 largest(const float4 &a, const float4 &b)
{
    return make_float4(b.x > a.x ? b.x : a.x, b.y > a.y ? b.y : a.y, b.z > a.z ? b.z : a.z,
                       b.w > a.w ? b.w : a.w);
}

/* Along lines, then across them. A block: eight channels of an image. */
__global__ void __launch_bounds__(PQ_CU_SPP_THREADS) spp(const __grid_constant__ pq_cu_spp p)
{
    const int groups = (p.c + 7) / 8, image = (int)blockIdx.x / groups,
              c = (int)blockIdx.x % groups * 8, size = p.h * p.w;
    const int n = p.c - c < 8 ? p.c - c : 8;
    const int kh = p.window[blockIdx.y].kh, kw = p.window[blockIdx.y].kw,
              ph = p.window[blockIdx.y].ph, pw = p.window[blockIdx.y].pw;
    float4 *const map = (float4 *)shared_memory(), *const line = map + 2 * size;
    pdl_launch();
    pdl_wait();
    for (int i = (int)threadIdx.x; i < size; i += PQ_CU_SPP_THREADS) {
        float t[8];
        load_some(p.form, p.x, ((int64_t)image * size + i) * p.pitch + c, n, p.vector, t);
        map[2 * i] = make_float4(t[0], t[1], t[2], t[3]);
        map[2 * i + 1] = make_float4(t[4], t[5], t[6], t[7]);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < 2 * size; i += PQ_CU_SPP_THREADS) {
        const int x = i / 2 % p.w, row = i / 2 - x;
        const int x0 = x - pw > 0 ? x - pw : 0, x1 = x - pw + kw < p.w ? x - pw + kw : p.w;
        float4 v = map[2 * (row + x0) + i % 2];
        for (int k = x0 + 1; k < x1; k++) v = largest(v, map[2 * (row + k) + i % 2]);
        line[i] = v;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < size; i += PQ_CU_SPP_THREADS) {
        const int y = i / p.w, x = i - y * p.w;
        const int y0 = y - ph > 0 ? y - ph : 0, y1 = y - ph + kh < p.h ? y - ph + kh : p.h;
        float4 a = line[2 * (y0 * p.w + x)], b = line[2 * (y0 * p.w + x) + 1];
        for (int k = y0 + 1; k < y1; k++) {
            a = largest(a, line[2 * (k * p.w + x)]);
            b = largest(b, line[2 * (k * p.w + x) + 1]);
        }
        const float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        store8(p.dest + p.window[blockIdx.y].first_dest, p.window[blockIdx.y].n_dest, p.out,
               image * size + i, c, n, v);
    }
}

/* Focus: channels of (y, x), (y + 1, x), (y, x + 1), (y + 1, x + 1), each all of the image's. */
__global__ void __launch_bounds__(PQ_CU_THREADS) image(const __grid_constant__ pq_cu_image p)
{
    const int64_t m = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    pdl_launch();
    pdl_wait();
    if (m >= (int64_t)p.out.n * p.out.h * p.out.w) return;
    const int row = pq_cu_quotient((int)m, &p.out.by_w), x = (int)m - row * p.out.w,
              n = pq_cu_quotient(row, &p.out.by_h), y = row - n * p.out.h,
              total = p.focus ? 4 * p.c : p.c;
    const float *at = p.x + (int64_t)n * p.c * p.h * p.w;
    if (p.focus && p.c == 3 && p.w % 2 == 0) { /* what DAMO-YOLO and YOLOX have */
        float v[16];
#pragma unroll
        for (int k = 0; k < 6; k++) {
            const int plane = k % 3, dy = k / 3;
            const float2 t =
                *(const float2 *)(at + ((int64_t)plane * p.h + 2 * y + dy) * p.w + 2 * x);
            v[3 * dy + plane] = t.x;
            v[6 + 3 * dy + plane] = t.y;
        }
#pragma unroll
        for (int k = 12; k < 16; k++) v[k] = 0;
        store8(p.dest, p.n_dest, p.out, (int)m, 0, 8, v);
        store8(p.dest, p.n_dest, p.out, (int)m, 8, 4, v + 8);
        return;
    }
    for (int c = 0; c < total; c += 8) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int k = c + i, plane = k % p.c, part = k / p.c;
            const int iy = p.focus ? 2 * y + part % 2 : y, ix = p.focus ? 2 * x + part / 2 : x;
            v[i] = k < total ? __ldg(at + ((int64_t)plane * p.h + iy) * p.w + ix) : 0.0f;
        }
        store8(p.dest, p.n_dest, p.out, (int)m, c, total - c < 8 ? total - c : 8, v);
    }
}

/* ---- generic, strided ---- */

static __device__ __forceinline__ int quantize(float y, float inv, const pq_cu_form &f)
{
    const float q = rintf(y * inv) + (float)f.zp;
    const float lo = f.dtype == PQ_S8 ? -128.0f : 0.0f, hi = f.dtype == PQ_S8 ? 127.0f : 255.0f;
    return (int)fmaxf(lo, fminf(hi, q));
}

static __device__ __noinline__ void store_one(const pq_cu_form &f, float inv, uint8_t *data,
                                              int64_t at, float y)
{
    switch (f.dtype) {
    case PQ_S8:
    case PQ_U8: data[at] = (uint8_t)quantize(y, inv, f); break;
    case PQ_F16: ((__half *)data)[at] = __float2half_rn(y); break;
    default: ((float *)data)[at] = y;
    }
}

__global__ void __launch_bounds__(PQ_CU_THREADS) map(const __grid_constant__ pq_cu_map p)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    pdl_launch();
    pdl_wait();
    if (i >= p.count) return;
    const int64_t to = pq_cu_address(p.dim, p.out.stride, p.rank, i);
    const int64_t a = p.reshape ? pq_cu_address(p.in_dim, p.in[0].stride, p.in_rank, i)
                                : pq_cu_address(p.dim, p.in[0].stride, p.rank, i);
    float y = load_one(p.in[0].form, p.in[0].data, a);
    if (p.n_in == 2)
        y = binary(
            p.op, p.fmod, y,
            load_one(p.in[1].form, p.in[1].data, pq_cu_address(p.dim, p.in[1].stride, p.rank, i)));
    else
        y = unary(p.op, y, p.alpha, p.beta, true);
    store_one(p.out.form, 1.0f / p.out.form.scale, p.out.data, to, activate_as(p.act, y, true));
}

/* Position k of a row, its coordinates counted over the reduced dimensions. */
static __device__ int64_t along(const pq_cu_reduce &p, const int64_t *stride, int64_t k,
                                bool reduced)
{
    int64_t at = 0;
    for (int d = p.rank - 1; d >= 0; d--) {
        if (p.reduced[d] != reduced) continue;
        at += k % p.dim[d] * stride[d];
        k /= p.dim[d];
    }
    return at;
}

__global__ void __launch_bounds__(PQ_CU_THREADS) reduce(const __grid_constant__ pq_cu_reduce p)
{
    const int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    pdl_launch();
    pdl_wait();
    if (row >= p.count) return;
    const int64_t from = along(p, p.in.stride, row, false), to = along(p, p.out.stride, row, false);
    const float inv = 1.0f / p.out.form.scale;
    int64_t n = 1;
    for (int d = 0; d < p.rank; d++) n *= p.reduced[d] ? p.dim[d] : 1;
    const bool softmax = p.op == PQ_OP_SOFTMAX || p.op == PQ_OP_LOG_SOFTMAX;
    const bool max = p.op == PQ_OP_REDUCE_MAX || softmax;
    float v = max                         ? __int_as_float((int)0xff800000)
              : p.op == PQ_OP_REDUCE_MIN  ? __int_as_float(0x7f800000)
              : p.op == PQ_OP_REDUCE_PROD ? 1.0f
                                          : 0.0f;
    for (int64_t k = 0; k < n; k++) {
        const float x = load_one(p.in.form, p.in.data, from + along(p, p.in.stride, k, true));
        v = max                         ? (x > v ? x : v)
            : p.op == PQ_OP_REDUCE_MIN  ? (x < v ? x : v)
            : p.op == PQ_OP_REDUCE_PROD ? v * x
                                        : v + x;
    }
    if (p.op == PQ_OP_REDUCE_MEAN || p.op == PQ_OP_GLOBAL_AVERAGE_POOL) v = v / (float)n;
    if (!softmax) {
        store_one(p.out.form, inv, p.out.data, to, v);
        return;
    }
    float sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += exp_exact(load_one(p.in.form, p.in.data, from + along(p, p.in.stride, k, true)) - v);
    for (int64_t k = 0; k < n; k++) {
        const float x = load_one(p.in.form, p.in.data, from + along(p, p.in.stride, k, true));
        store_one(p.out.form, inv, p.out.data, to + along(p, p.out.stride, k, true),
                  p.op == PQ_OP_SOFTMAX ? exp_exact(x - v) / sum : x - v - logf(sum));
    }
}

/* The steps of graph/eval_head.c. */
static __device__ float coordinate(const pq_cu_resize &p, int d, int64_t i, int64_t in, int64_t out)
{
    const float x = (float)i, scale = p.scale[d];
    switch (p.coord) {
    case PQ_COORD_ASYMMETRIC: return x / scale;
    case PQ_COORD_HALF_PIXEL: return (x + 0.5f) / scale - 0.5f;
    case PQ_COORD_PYTORCH_HALF_PIXEL: return out > 1 ? (x + 0.5f) / scale - 0.5f : 0;
    default: return out > 1 ? x * (float)(in - 1) / (float)(out - 1) : 0;
    }
}

static __device__ float nearest(int mode, float x)
{
    switch (mode) {
    case PQ_NEAREST_ROUND_PREFER_FLOOR: return ceilf(x - 0.5f);
    case PQ_NEAREST_ROUND_PREFER_CEIL: return floorf(x + 0.5f);
    case PQ_NEAREST_FLOOR: return floorf(x);
    default: return ceilf(x);
    }
}

static __device__ int64_t clamp_index(float x, int64_t n)
{
    return x <= 0 ? 0 : x >= (float)(n - 1) ? n - 1 : (int64_t)x;
}

__global__ void __launch_bounds__(PQ_CU_THREADS) resize(const __grid_constant__ pq_cu_resize p)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    pdl_launch();
    pdl_wait();
    if (i >= p.n * p.c * p.oh * p.ow) return;
    const int64_t ox = i % p.ow, oy = i / p.ow % p.oh, c = i / p.ow / p.oh % p.c,
                  n = i / p.ow / p.oh / p.c;
    const int64_t *s = p.in.stride, plane = n * s[0] + c * s[1];
    const float y = coordinate(p, 0, oy, p.h, p.oh), x = coordinate(p, 1, ox, p.w, p.ow);
    float v;
    if (p.resize == PQ_RESIZE_NEAREST) {
        const int64_t iy = clamp_index(nearest(p.nearest, y), p.h),
                      ix = clamp_index(nearest(p.nearest, x), p.w);
        v = load_one(p.in.form, p.in.data, plane + iy * s[2] + ix * s[3]);
    } else {
        const float y0 = floorf(y), x0 = floorf(x), ty = y - y0, tx = x - x0;
        const int64_t ya = clamp_index(y0, p.h) * s[2], yb = clamp_index(y0 + 1, p.h) * s[2];
        const int64_t xa = clamp_index(x0, p.w) * s[3], xb = clamp_index(x0 + 1, p.w) * s[3];
        const float top = load_one(p.in.form, p.in.data, plane + ya + xa) * (1 - tx) +
                          load_one(p.in.form, p.in.data, plane + ya + xb) * tx;
        const float bottom = load_one(p.in.form, p.in.data, plane + yb + xa) * (1 - tx) +
                             load_one(p.in.form, p.in.data, plane + yb + xb) * tx;
        v = top * (1 - ty) + bottom * ty;
    }
    store_one(
        p.out.form, 1.0f / p.out.form.scale, p.out.data,
        n * p.out.stride[0] + c * p.out.stride[1] + oy * p.out.stride[2] + ox * p.out.stride[3], v);
}

/* ---- heads ---- */

static __device__ __forceinline__ int level_of(const pq_cu_decode &p, int anchor)
{
    int l = 0;
    while (l + 1 < p.levels && anchor >= p.level[l + 1].first) l++;
    return l;
}

static __device__ __forceinline__ float load_real(const pq_cu_form &f, const uint8_t *data,
                                                  int64_t at)
{
    return f.dtype == PQ_F16 ? __half2float(((const __half *)data)[at]) : load_one(f, data, at);
}

/* Scores of eight classes of an anchor. */
static __device__ void decode_scores(const pq_cu_decode &p, unsigned i)
{
    const unsigned groups = (unsigned)(p.classes + 7) / 8, all = i / groups;
    if (all >= (unsigned)(p.n * p.anchors)) return;
    const int n = (int)(all / (unsigned)p.anchors), anchor = (int)(all % (unsigned)p.anchors),
              c = (int)(i % groups) * 8, left = p.classes - c < 8 ? p.classes - c : 8;
    const pq_cu_level &v = p.level[level_of(p, anchor)];
    const int64_t pixel = (int64_t)n * v.h * v.w + (anchor - v.first);
    float y[8];
    load_some(v.cls_form, v.cls, pixel * v.cls_pitch + c, left, v.cls_vector, y);
#pragma unroll
    for (int k = 0; k < 8; k++) y[k] = sigmoid_fast(y[k]);
    float *to = p.scores + (int64_t)all * p.classes + c;
    if (p.classes % 8 == 0) {
        *(float4 *)to = make_float4(y[0], y[1], y[2], y[3]);
        *(float4 *)(to + 4) = make_float4(y[4], y[5], y[6], y[7]);
    } else {
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (k < left) to[k] = y[k];
    }
}

/* Four lanes a side of an anchor's box. Source: arXiv:2006.04388. */
static __device__ void decode_boxes(const pq_cu_decode &p, unsigned thread)
{
    const unsigned i = thread / 16;
    const int side = (int)thread / 4 % 4, part = (int)thread % 4;
    /* No lane leaves: the shuffles are of the whole warp. */
    const bool in = i < (unsigned)(p.n * p.anchors);
    const unsigned all = in ? i : 0;
    const int n = (int)(all / (unsigned)p.anchors), anchor = (int)(all % (unsigned)p.anchors);
    const pq_cu_level &v = p.level[level_of(p, anchor)];
    const int at = anchor - v.first, y = at / v.w, x = at - y * v.w;
    const int64_t reg = ((int64_t)n * v.h * v.w + at) * v.reg_pitch + side * p.bins;
    float top = __int_as_float((int)0xff800000), sum = 0, mean = 0;
    for (int k = part; k < p.bins; k += 4)
        top = fmaxf(top, load_real(v.reg_form, v.reg, reg + k) * v.factor);
    for (int d = 2; d; d /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
    for (int k = part; k < p.bins; k += 4) {
        const float e = exp_fast(load_real(v.reg_form, v.reg, reg + k) * v.factor - top);
        sum += e;
        mean = fmaf(e, (float)k, mean);
    }
    for (int d = 2; d; d /= 2) {
        sum += __shfl_xor_sync(~0u, sum, d);
        mean += __shfl_xor_sync(~0u, mean, d);
    }
    if (part == 0 && in) {
        const float distance = mean / sum * v.stride;
        const float centre = (float)(side % 2 ? y : x) * v.stride;
        p.boxes[4 * (int64_t)i + side] = side < 2 ? centre - distance : centre + distance;
    }
}

__global__ void __launch_bounds__(PQ_CU_THREADS) decode(const __grid_constant__ pq_cu_decode p)
{
    pdl_launch();
    pdl_wait();
    const int boxes = (int)blockIdx.x - p.score_blocks;
    if (boxes < 0)
        decode_scores(p, blockIdx.x * PQ_CU_THREADS + threadIdx.x);
    else
        decode_boxes(p, (unsigned)boxes * PQ_CU_THREADS + threadIdx.x);
}

extern "C" const pq_cu_kernels *pq_cu_kernels_get(void)
{
    static const pq_cu_kernels all = {
        KERNEL(depthwise), KERNEL(direct), KERNEL(rows),   KERNEL(pool),   KERNEL(spp),
        KERNEL(image),     KERNEL(map),    KERNEL(reduce), KERNEL(resize), KERNEL(decode)};
    return &all;
}
