/**
 * @file emulator.hpp
 * CUDA's words in plain C++, so that the kernels themselves run on a CPU and are tested where there
 * is no GPU: indices, barriers, shuffles, copies, matrices. It stands in for CUDA's headers and for
 * the inline assembly of engine/cuda/primitives.cuh; all else is the very source that nvcc
 * compiles.
 *
 * The threads of a block, or of all blocks of a cluster, are fibers that take turns; one that waits
 * at a barrier gives way to the next. An asynchronous copy is made when it is waited for and not
 * before, shared memory is garbage before a block begins and after it has ended, and every second
 * block runs its last thread first, so that a missing wait shows. What it cannot show: the code of
 * older architectures, races between launches, bank conflicts, anything about time.
 */
#ifndef PQ_EMULATOR_HPP
#define PQ_EMULATOR_HPP

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "cuda_runtime_api.h"

#define __global__ static
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __grid_constant__
#define __launch_bounds__(...)
#define __CUDA_ARCH__ 900
#define __restrict__

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* ---- threads ---- */

struct emulated_thread {
    dim3 thread, block, block_dim, grid_dim;
    uint8_t *shared;
};
/** The running thread. */
const emulated_thread &emulated_self();
#define threadIdx (emulated_self().thread)
#define blockIdx (emulated_self().block)
#define blockDim (emulated_self().block_dim)
#define gridDim (emulated_self().grid_dim)

void emulated_block_wait(); /* __syncthreads; ends the process where some never arrive */
void emulated_cluster_wait();
/** Leaves n bytes for the other threads of the warp; returns all 32 places, `stride` apart. */
const uint8_t *emulated_exchange(const void *mine, size_t n, size_t *stride);
void emulated_copy(uint8_t *to, const uint8_t *from, int bytes, int of);
void emulated_commit();
void emulated_copies_wait(int left);
/** Of wgmma: done now or, in every second block, when it is waited for. */
void emulated_product(std::function<void()> f);
void emulated_products_commit();
void emulated_products_wait(int left);
uint8_t *emulated_shared_of(int rank);

static inline void __syncthreads() { emulated_block_wait(); }

template <typename T> T exchanged(T mine, int lane)
{
    size_t stride;
    const uint8_t *all = emulated_exchange(&mine, sizeof mine, &stride);
    T v;
    memcpy(&v, all + (size_t)lane * stride, sizeof v);
    return v;
}

static inline int lane_of() { return (int)(threadIdx.x % 32); }
static inline float __shfl_xor_sync(unsigned, float v, int mask)
{
    return exchanged(v, lane_of() ^ mask);
}

/* ---- numbers ---- */

static inline float __int_as_float(int i)
{
    float f;
    memcpy(&f, &i, sizeof f);
    return f;
}
static inline double __longlong_as_double(long long i)
{
    double d;
    memcpy(&d, &i, sizeof d);
    return d;
}
static inline int __float_as_int(float f)
{
    int i;
    memcpy(&i, &f, sizeof i);
    return i;
}
/* Bytes of a (0 to 3) and b (4 to 7), chosen by the digits of `which`. */
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned which)
{
    const uint64_t all = (uint64_t)b << 32 | a;
    unsigned v = 0;
    for (unsigned i = 0; i < 4; i++)
        v |= (unsigned)(all >> 8 * (which >> 4 * i & 7) & 255) << 8 * i;
    return v;
}
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
/* Fibers give way at barriers alone. */
static inline unsigned atomicAdd(unsigned *p, unsigned x)
{
    const unsigned old = *p;
    *p += x;
    return old;
}
static inline unsigned long long atomicOr(unsigned long long *p, unsigned long long x)
{
    const unsigned long long old = *p;
    *p |= x;
    return old;
}
static inline float __ldg(const float *p) { return *p; }

extern "C" float pq_f16_to_f32(uint16_t h);
extern "C" uint16_t pq_f32_to_f16(float f);
struct __half {
    uint16_t bits;
};
struct __half2 {
    __half x, y;
};
static inline float __half2float(__half h) { return pq_f16_to_f32(h.bits); }
static inline __half __float2half_rn(float f) { return {pq_f32_to_f16(f)}; }
static inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
static inline __half2 __floats2half2_rn(float x, float y)
{
    return {__float2half_rn(x), __float2half_rn(y)};
}

/* ---- engine/cuda/primitives.cuh ---- */

/* A kernel's address for the tables: a function that unpacks the one argument, and its size. */
struct emulated_entry {
    void (*call)(const void *);
    size_t bytes;
};
template <auto K> struct emulated_kernel;
template <typename P, void (*K)(P)> struct emulated_kernel<K> {
    static void call(const void *p) { K(*(const typename std::remove_const<P>::type *)p); }
    static constexpr emulated_entry entry = {call, sizeof(P)};
};
#define KERNEL(k) ((const void *)&emulated_kernel<k>::entry)

/* As far off as CUDA's manual allows: 2 + |1.173 x| units in the last place, either way. */
static inline float exp_fast(float x)
{
    const float off = (2 + fabsf(1.173f * x)) * 0x1p-23f;
    return expf(x) * (x * 1024 - floorf(x * 1024) < 0.5f ? 1 - off : 1 + off);
}
/* One unit, either way. */
static inline float reciprocal_fast(float x)
{
    return 1 / x * (x * 1024 - floorf(x * 1024) < 0.5f ? 1 + 0x1p-23f : 1 - 0x1p-23f);
}
static inline float reciprocal(float x) { return 1 / x; }
static inline float relu(float x) { return x <= 0 ? 0 : x; }
static inline unsigned of_first_lane(unsigned x) { return x; }
static inline void pdl_wait() {}
static inline void pdl_launch() {}
static inline void cluster_wait() { emulated_cluster_wait(); }
static inline void cluster_leave() { emulated_cluster_wait(); }
template <typename T> static inline const T *cluster_shared(T *p, int rank)
{
    return (const T *)(emulated_shared_of(rank) + ((uint8_t *)p - emulated_self().shared));
}
static inline uint8_t *shared_memory() { return emulated_self().shared; }

typedef uint64_t shared_at;
static inline shared_at shared_address(const void *p) { return (shared_at)(uintptr_t)p; }
static inline void copy16_if(shared_at to, const uint8_t *from, bool in)
{
    emulated_copy((uint8_t *)(uintptr_t)to, from, in ? 16 : 0, 16);
}
static inline void copy16(shared_at to, const uint8_t *from) { copy16_if(to, from, true); }
static inline void copy8(shared_at to, const uint8_t *from)
{
    emulated_copy((uint8_t *)(uintptr_t)to, from, 8, 8);
}
template <typename T> static inline void keep(T &) {}
static inline void copies_commit() { emulated_commit(); }
template <int LEFT> static inline void copies_wait() { emulated_copies_wait(LEFT); }

/* Lane 8 i + r gives the address of row r of matrix i; each lane gets elements 2 (lane % 4) and the
 * next of row lane / 4 of each. PTX ISA, ldmatrix. */
static inline void ldmatrix4(unsigned r[4], shared_at address)
{
    size_t stride;
    const int lane = lane_of();
    const uint8_t *all = emulated_exchange(&address, sizeof address, &stride);
    for (int i = 0; i < 4; i++) {
        shared_at row;
        memcpy(&row, all + (size_t)(8 * i + lane / 4) * stride, sizeof row);
        memcpy(&r[i], (const uint8_t *)(uintptr_t)row + 4 * (lane % 4), 4);
    }
}

/* PTX ISA, fragments of mma.m16n8k16 with .f16: row and column by lane / 4, inner pairs by
 * lane % 4. */
struct emulated_f16 {
    float a[8], b[4];
};
static inline void mma(float c[4], const unsigned a[4], const unsigned b[2])
{
    emulated_f16 mine;
    size_t stride;
    const int lane = lane_of();
    for (int i = 0; i < 8; i++) mine.a[i] = pq_f16_to_f32((uint16_t)(a[i / 2] >> 16 * (i % 2)));
    for (int i = 0; i < 4; i++) mine.b[i] = pq_f16_to_f32((uint16_t)(b[i / 2] >> 16 * (i % 2)));
    const uint8_t *all = emulated_exchange(&mine, sizeof mine, &stride);
    for (int q = 0; q < 4; q++) {
        const int high = q / 2, n = lane % 4 * 2 + q % 2;
        float sum = 0;
        for (int t = 0; t < 4; t++) {
            const emulated_f16 *x =
                (const emulated_f16 *)(const void *)(all + (size_t)(lane / 4 * 4 + t) * stride);
            const emulated_f16 *y =
                (const emulated_f16 *)(const void *)(all + (size_t)(n * 4 + t) * stride);
            for (int h = 0; h < 2; h++)
                for (int e = 0; e < 2; e++) sum += x->a[2 * (2 * h + high) + e] * y->b[2 * h + e];
        }
        c[q] += sum;
    }
}

/* The same of mma.m16n8k32 with .s8: inner fours by lane % 4. */
struct emulated_s8 {
    int8_t a[16], b[8];
};
static inline void mma(int c[4], const unsigned a[4], const unsigned b[2])
{
    emulated_s8 mine;
    size_t stride;
    const int lane = lane_of();
    memcpy(mine.a, a, 16);
    memcpy(mine.b, b, 8);
    const uint8_t *all = emulated_exchange(&mine, sizeof mine, &stride);
    for (int q = 0; q < 4; q++) {
        const int high = q / 2, n = lane % 4 * 2 + q % 2;
        int sum = 0;
        for (int t = 0; t < 4; t++) {
            const emulated_s8 *x =
                (const emulated_s8 *)(const void *)(all + (size_t)(lane / 4 * 4 + t) * stride);
            const emulated_s8 *y =
                (const emulated_s8 *)(const void *)(all + (size_t)(n * 4 + t) * stride);
            for (int h = 0; h < 2; h++)
                for (int e = 0; e < 4; e++) sum += x->a[4 * (2 * h + high) + e] * y->b[4 * h + e];
        }
        c[q] += sum;
    }
}

/* PTX ISA, wgmma: rows 16 w + lane / 4 and 8 further for warp w of four, columns lane % 4 * 2, + 1,
 * + 8 and so on. The swizzle is one of address bits: those of the row, 7 and up, into 4 and up. */
static inline void group_visible() {}
static inline void group_begin() {}
static inline void group_commit() { emulated_products_commit(); }
template <int LEFT> static inline void group_wait() { emulated_products_wait(LEFT); }
template <typename T> static inline void anew(T &) {}
template <int ROW> static inline const uint8_t *group_chunk(shared_at tile, int row, int chunk)
{
    const shared_at at = tile + (shared_at)(row * ROW + chunk * 16);
    return (const uint8_t *)(uintptr_t)(at ^ (at >> 7 & (ROW == 128 ? 7 : 3)) << 4);
}
static inline float emulated_element(float, const uint8_t *chunk, int i)
{
    uint16_t bits;
    memcpy(&bits, chunk + 2 * i, 2);
    return pq_f16_to_f32(bits);
}
static inline int emulated_element(int, const uint8_t *chunk, int i) { return (int8_t)chunk[i]; }
typedef shared_at group_tile;
template <int ROW> static inline group_tile group_operand(shared_at at) { return at; }
template <int NI, int ROW, typename T>
static inline void group_mma(T c[NI][4], group_tile first, group_tile second, shared_at bytes)
{
    const shared_at a = first + bytes, b = second + bytes;
    const int lane = lane_of(), row = (int)(threadIdx.x / 32 % 4) * 16 + lane / 4;
    emulated_product([c, a, b, row, lane] {
        const int each = std::is_same<T, float>::value ? 8 : 16; /* elements of a chunk */
        for (int q = 0; q < 4 * NI; q++)
            for (int chunk = 0; chunk < 2; chunk++) {
                const uint8_t *x = group_chunk<ROW>(a, row + q % 4 / 2 * 8, chunk),
                              *y = group_chunk<ROW>(b, q / 4 * 8 + lane % 4 * 2 + q % 2, chunk);
                for (int i = 0; i < each; i++)
                    c[q / 4][q % 4] += emulated_element(T(), x, i) * emulated_element(T(), y, i);
            }
    });
}

#endif
