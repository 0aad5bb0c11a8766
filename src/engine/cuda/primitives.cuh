/**
 * @file primitives.cuh
 * The instructions that C++ has no words for: dependent launch, clusters, asynchronous copies,
 * matrices in shared memory, approximate functions, tensor cores. tests/engine/cuda/emulator has
 * the same in plain C++, so that every kernel also runs on a CPU, one thread of a block after the
 * other.
 */
#ifndef PQ_ENGINE_CUDA_PRIMITIVES_CUH
#define PQ_ENGINE_CUDA_PRIMITIVES_CUH

#ifdef PQ_CU_EMULATOR
#include "emulator.hpp"
#else

#include <cooperative_groups.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "engine/cuda/shared.h"

/* A kernel's address for the host's tables. */
#define KERNEL(k) ((const void *)(k))

/* ---- dependent launch: a no-op before sm_90 ---- */

static __device__ __forceinline__ void pdl_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ __forceinline__ void pdl_launch()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* ---- clusters: sm_90 and later ---- */

#if __CUDA_ARCH__ >= 900
static __device__ __forceinline__ void cluster_wait() { cooperative_groups::this_cluster().sync(); }

/* Nobody leaves while its shared memory is read. What was read has been used: nothing is ordered
 * here, and the stores under way are not waited for. */
static __device__ __forceinline__ void cluster_leave()
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\n\tbarrier.cluster.wait.aligned;" ::
                     : "memory");
}

/* The same place in the shared memory of block `rank` of the cluster. */
template <typename T> static __device__ __forceinline__ const T *cluster_shared(T *p, int rank)
{
    return cooperative_groups::this_cluster().map_shared_rank(p, (unsigned)rank);
}
#endif

/* ---- moving ---- */

/* All that the launch gave. */
static __device__ __forceinline__ uint8_t *shared_memory()
{
    extern __shared__ __align__(1024) uint8_t launch_smem[];
    return launch_smem;
}

typedef unsigned shared_at; /* address in shared memory */

/* What a loop needs each time, kept in a register: a shuffle from the lane itself is what the
 * assembler does not do again. Of what is worked out from the thread's index it otherwise prefers
 * to repeat the steps, and they were half of the loop. All lanes of the warp. */
static __device__ __forceinline__ void keep(unsigned &x)
{
    x = __shfl_sync(~0u, x, (int)threadIdx.x & 31);
}
static __device__ __forceinline__ void keep(int &x)
{
    x = __shfl_sync(~0u, x, (int)threadIdx.x & 31);
}

/* Of the warp's first lane: what all lanes have, in a way that the compiler sees. */
static __device__ __forceinline__ unsigned of_first_lane(unsigned x)
{
    return __shfl_sync(~0u, x, 0);
}

static __device__ __forceinline__ shared_at shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* 16 bytes that all exist. */
static __device__ __forceinline__ void copy16(shared_at to, const uint8_t *from)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#else
    const uint4 v = *(const uint4 *)from;
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
#endif
}

/* 16 bytes, or zeros and nothing read. */
static __device__ __forceinline__ void copy16_if(shared_at to, const uint8_t *from, bool in)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("{\n\t.reg .pred skip;\n\tsetp.eq.s32 skip, %2, 0;\n\t"
                 "cp.async.cg.shared.global [%0], [%1], 16, skip;\n\t}" ::"r"(to),
                 "l"(from), "r"((int)in)
                 : "memory");
#else
    const uint4 v = in ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
#endif
}

/* 8 bytes. */
static __device__ __forceinline__ void copy8(shared_at to, const uint8_t *from)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
#else
    const uint2 v = *(const uint2 *)from;
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(to), "r"(v.x), "r"(v.y) : "memory");
#endif
}

static __device__ __forceinline__ void copies_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int LEFT> static __device__ __forceinline__ void copies_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

static __device__ __forceinline__ void ldmatrix4(unsigned r[4], shared_at address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* ---- functions of a few instructions ---- */

static __device__ __forceinline__ float exp_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 0x1.715476p+0f));
    return y;
}

static __device__ __forceinline__ float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / x to the nearest, of x from 1 to 2^126: one step of Newton's from what is off by one unit. */
static __device__ __forceinline__ float reciprocal(float x)
{
    const float y = reciprocal_fast(x);
    return fmaf(fmaf(-x, y, 1.0f), y, y);
}

/* max(x, 0), of NaN NaN. */
static __device__ __forceinline__ float relu(float x)
{
#if __CUDA_ARCH__ >= 800
    float y;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
    return y;
#else
    return x <= 0 ? 0 : x;
#endif
}

/* To the compiler x is another number from here on. */
static __device__ __forceinline__ void anew(float &x) { asm volatile("" : "+f"(x)::"memory"); }
static __device__ __forceinline__ void anew(int &x) { asm volatile("" : "+r"(x)::"memory"); }

/* ---- multiplying: 16 x 8 sums, 32 bytes of the inner dimension ---- */

static __device__ __forceinline__ void mma(float c[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int i = 0; i < 2; i++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                     "{%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
}

static __device__ __forceinline__ void mma(int c[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int i = 0; i < 2; i++) /* a: rows 0-7 and 8-15 of the first 16 bytes, then of the others */
#pragma unroll
        for (int j = 0; j < 2; j++)
            asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, "
                         "{%0, %1};"
                         : "+r"(c[2 * j]), "+r"(c[2 * j + 1])
                         : "r"(a[2 * i + j]), "r"(b[i]));
#endif
}

/* ---- multiplying by four warps at once: 64 x 8 NI sums, 32 bytes of the inner dimension, both
 * operands read from shared memory by the tensor cores themselves. sm_90 alone ---- */

/* What this thread's copies brought becomes visible to the tensor cores behind the next barrier. */
static __device__ __forceinline__ void group_visible()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* A tile of rows of ROW bytes, 64 or 128, swizzled as pq_cu_swizzle does, from a multiple of eight
 * rows on. PTX ISA, matrix descriptor of wgmma: address in 16 bytes, stride of eight rows, kind of
 * swizzle. */
struct group_tile {
    unsigned low, high;
};

template <int ROW> static __device__ __forceinline__ group_tile group_operand(shared_at at)
{
    const unsigned rows = (unsigned)(8 * ROW >> 4), swizzle = ROW == 128 ? 1 : 2;
    return {1u << 16 | (at & 0x3ffff) >> 4, rows | swizzle << 30};
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define SUMS4(as, c, i) as(c[i][0]), as(c[i][1]), as(c[i][2]), as(c[i][3])
#define SUMS16(as, c, i)                                                                           \
    SUMS4(as, c, i), SUMS4(as, c, i + 1), SUMS4(as, c, i + 2), SUMS4(as, c, i + 3)
#define NAMES0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define NAMES1 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES2 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define NAMES3 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NAMES01 NAMES0 "," NAMES1
#define NAMES012 NAMES01 "," NAMES2
#define NAMES0123 NAMES012 "," NAMES3
#define GROUP_MMA(n, kind, names, a, b, more)                                                      \
    "wgmma.mma_async.sync.aligned.m64n" n kind " {" names "}, %" a ", %" b ", 1" more ";"
/* Sums c of NI columns of eight, held as `as` says, of operands x and y. */
#define GROUP_PRODUCT(kind, as, more)                                                              \
    if constexpr (NI == 4)                                                                         \
        asm volatile(GROUP_MMA("32", kind, NAMES0, "16", "17", more)                               \
                     : SUMS16(as, c, 0)                                                            \
                     : "l"(x), "l"(y));                                                            \
    else if constexpr (NI == 8)                                                                    \
        asm volatile(GROUP_MMA("64", kind, NAMES01, "32", "33", more)                              \
                     : SUMS16(as, c, 0), SUMS16(as, c, 4)                                          \
                     : "l"(x), "l"(y));                                                            \
    else if constexpr (NI == 12)                                                                   \
        asm volatile(GROUP_MMA("96", kind, NAMES012, "48", "49", more)                             \
                     : SUMS16(as, c, 0), SUMS16(as, c, 4), SUMS16(as, c, 8)                        \
                     : "l"(x), "l"(y));                                                            \
    else                                                                                           \
        asm volatile(GROUP_MMA("128", kind, NAMES0123, "64", "65", more)                           \
                     : SUMS16(as, c, 0), SUMS16(as, c, 4), SUMS16(as, c, 8), SUMS16(as, c, 12)     \
                     : "l"(x), "l"(y))
#define F16_SUM(x) "+f"(x)
#define S8_SUM(x) "+r"(x)

#endif

/* The tiles `bytes` behind a and b. */
template <int NI, int ROW, typename T>
static __device__ __forceinline__ void group_mma(T c[NI][4], group_tile a, group_tile b,
                                                 shared_at bytes)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    static_assert(NI == 4 || NI == 8 || NI == 12 || NI == 16, "channels of the variants");
    static_assert(ROW == 64 || ROW == 128, "kinds of swizzle that the tiles have");
    const uint64_t x = (uint64_t)a.high << 32 | (a.low + (bytes >> 4)),
                   y = (uint64_t)b.high << 32 | (b.low + (bytes >> 4));
    if constexpr (std::is_same<T, float>::value) {
        GROUP_PRODUCT("k16.f32.f16.f16", F16_SUM, ", 1, 1, 0, 0");
    } else {
        GROUP_PRODUCT("k32.s32.s8.s8", S8_SUM, "");
    }
#endif
}

/* Before the first product of several. */
static __device__ __forceinline__ void group_begin()
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

static __device__ __forceinline__ void group_commit()
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/* All but the last LEFT commits have read their operands and hold their sums. */
template <int LEFT> static __device__ __forceinline__ void group_wait()
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
#endif
}

#endif
#endif
